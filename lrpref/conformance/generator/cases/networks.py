"""Networks of two to five layers, under the chapter's composites and under uniform rules."""

from __future__ import annotations

from collections.abc import Iterator

from lrpref.conformance.generator.case import Case, case
from lrpref.conformance.generator.cases.draw import Draw
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import (
    FIRST,
    ZERO,
    Node,
    add,
    alpha_beta,
    concat,
    convolution,
    dense,
    epsilon,
    gamma,
    generalized,
    norm,
    plain,
    pooling,
    rule,
    z_box,
)

TITLE = "Small networks of two to five layers"

BOX = z_box(-2.0, 2.0)


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    return [
        *_two_layers(),
        *_deeper(),
        *_images(),
        *_residual_blocks(),
        *_used_twice(),
        _inception(),
        _batch(),
    ]


def _two_layers() -> Iterator[Case]:
    for name, chosen in RULES.items():
        draw = Draw("two layers")
        lower = dense(draw.signed(4, 3), draw.signed(4), chosen, "lower")
        upper = dense(draw.signed(2, 4), draw.signed(2), chosen if name != "z-box" else ZERO, "upper")
        comment = "Dense, ReLU, dense: what reaches a neuron that is off stays within the rule's formula."
        nodes = [lower, plain("relu"), upper]
        yield case(f"network/{name}/two-layers", comment, nodes, [draw.signed(3)], [[1, 0]])


def _deeper() -> Iterator[Case]:
    """Three to five layers; the composites go from z^B over gamma and epsilon to LRP-0."""
    composites: dict[str, list[Node]] = {
        "chapter": [BOX, gamma(0.25), epsilon(0.25), ZERO, ZERO],
        "epsilon-plus": [RULES["z-plus"], RULES["z-plus"], epsilon(1e-6), epsilon(1e-6), epsilon(1e-6)],
        "generalized": [RULES["flat"], generalized(0.25), generalized(0.5), epsilon(1e-6), ZERO],
        "alpha-beta": [RULES["w2"], alpha_beta(2.0, 1.0), alpha_beta(1.5, 0.5), alpha_beta(2.0, 1.0), ZERO],
        "stabilized": [rule("z-plus", stabilizer=("signed", 1e-6))] * 2
        + [gamma(0.25, stabilizer=("signed", 1e-6))] * 3,
    }
    for name, chosen in composites.items():
        for depth in (3, 4, 5):
            draw = Draw(f"deep {depth}")
            sizes = [4, 4, 3, 3, 2][:depth]
            sizes[-1] = 2
            nodes: list[Node] = []
            below = 3
            for i, (size, own) in enumerate(zip(sizes, chosen[:depth], strict=True)):
                nodes += [plain("relu", f"relu{i}")] if i else []
                nodes.append(dense(draw.signed(size, below), draw.signed(size), own, f"dense{i}"))
                below = size
            comment = f"{depth} dense layers with ReLUs between, composite {name}."
            yield case(f"network/{name}/{depth}-layers", comment, nodes, [draw.positive(3)], [[0, 1]])


def _images() -> Iterator[Case]:
    """Convolution, norm, ReLU, pooling, dense, as in a classifier of pictures."""
    for pool, pooled in (("max", FIRST), ("max", gamma(0.25)), ("avg", ZERO), ("sum", epsilon(0.25))):
        draw = Draw("classifier 13")
        nodes = [
            convolution(draw.signed(3, 2, 2, 2), draw.signed(3), BOX, "conv1", padding=[0, 1, 0, 1]),
            norm([1, 0.5, 2], [0.25, -0.25, 0.5], name="norm1"),
            plain("relu", "relu1"),
            pooling(pool, pooled),
            convolution(draw.signed(2, 3, 2, 2), draw.signed(2), gamma(0.25), "conv2"),
            plain("relu", "relu2"),
            plain("flatten"),
            dense(draw.signed(2, 2), draw.signed(2), ZERO, "score"),
        ]
        name = f"{pool}-{pooled['name']}"
        comment = "Convolution, batch norm, ReLU, pooling, convolution, ReLU, dense; z^B, gamma and LRP-0."
        x = [draw.signed(2, 4, 4)]
        yield case(f"network/image-classifier/{name}", comment, nodes, x, [[1, 0]], flags="D16")
    draw = Draw("global pooling")
    nodes = [
        convolution(draw.signed(2, 1, 2, 2), draw.signed(2), BOX, "conv", stride=2),
        plain("relu"),
        pooling("avg", epsilon(0.25), 2),
        plain("flatten"),
        dense(draw.signed(2, 2), None, ZERO, "score"),
    ]
    comment = "Global average pooling before the scores."
    yield case("network/image-classifier/global-average", comment, nodes, [draw.positive(1, 4, 4)], [[1, 0]])
    draw = Draw("depthwise separable 34")
    nodes = [
        convolution(draw.signed(2, 1, 2, 2), draw.signed(2), RULES["z-plus"], "depthwise", groups=2),
        norm([0.5, 2], [0.5, 0.25], name="norm1"),
        plain("relu", "relu1"),
        convolution(draw.signed(3, 2, 1, 1), None, RULES["z-plus"], "pointwise"),
        norm([1, 2, 0.5], [0.25, -0.25, 0.5], name="norm2"),
        plain("relu", "relu2"),
    ]
    comment = "Depthwise and pointwise convolution, each with a batch norm."
    x, R = [draw.positive(2, 3, 3)], [draw.positive(3, 2, 2)]
    yield case("network/separable/z-plus", comment, nodes, x, R, flags="D16")


def _residual_blocks() -> Iterator[Case]:
    """A residual block with norms; the sum hands each branch its part, and the input receives both."""
    for name in ("zero", "epsilon", "generalized-gamma", "z-plus"):
        draw = Draw("block")
        chosen = RULES[name]
        stabilizer = ("signed", 0.25) if name == "epsilon" else ("signed", 0.0)
        nodes = [
            convolution(draw.signed(2, 2, 1, 2), None, chosen, "conv1", padding=[0, 0, 0, 1]),
            norm([0.5, 2], [0.5, -0.25], name="norm1"),
            plain("relu", "relu1"),
            convolution(draw.signed(2, 2, 1, 1), None, chosen, "conv2"),
            norm([1, 0.5], [-0.25, 0.25], name="norm2"),
            add(["input", "norm2"], rule("zero", stabilizer=stabilizer)),
            plain("relu", "relu2"),
            plain("flatten"),
            dense(draw.signed(2, 4), draw.signed(2), ZERO, "score"),
        ]
        comment = "Convolution, norm, ReLU, convolution, norm, plus the input itself; then ReLU and scores."
        x = [draw.positive(2, 1, 2)]
        yield case(f"network/residual-block/{name}", comment, nodes, x, [[1, 0]], flags="D16 D17")


def _used_twice() -> Iterator[Case]:
    """One module, two nodes: each use has its own activations."""
    for name in ("zero", "epsilon", "z-plus"):
        weight, bias = [[1, -0.5], [0.5, 2]], [0.25, -0.5]
        first = dense(weight, bias, RULES[name], "first") | {"module": "shared"}
        second = dense(weight, bias, RULES[name], "second") | {"module": "shared"}
        comment = "The same dense module twice in a row, a ReLU between: two uses, two sets of activations."
        nodes = [first, plain("relu"), second]
        yield case(f"network/shared-module/{name}", comment, nodes, [[2, 1]], [[1, 2]], flags="D22")


def _inception() -> Case:
    draw = Draw("inception")
    nodes = [
        convolution(draw.signed(1, 2, 1, 1), draw.signed(1), RULES["z-plus"], "narrow", ["input"]),
        convolution(draw.signed(2, 2, 3, 3), draw.signed(2), RULES["z-plus"], "wide", ["input"], padding=1),
        pooling("max", FIRST, 3, "pool", ["input"], stride=1, padding=1),
        concat(["narrow", "wide", "pool"]),
        plain("relu"),
        convolution(draw.signed(1, 5, 2, 2), draw.signed(1), epsilon(0.25), "top"),
    ]
    comment = "Three branches over one input, joined; the input receives the sum of what they hand it."
    return case("network/branches/joined", comment, nodes, [draw.positive(2, 2, 3)], [draw.positive(1, 1, 2)])


def _batch() -> Case:
    draw = Draw("batch")
    nodes = [
        dense(draw.signed(3, 3), draw.signed(3), RULES["generalized-gamma"], "lower"),
        norm([1, 2, -1], [0.5, 0, 1]),
        plain("relu"),
        dense(draw.signed(2, 3), draw.signed(2), rule("gamma", gamma=0.25, bias="redistribute"), "upper"),
    ]
    x = [[0, 0, 0], *(draw.signed(3) for _ in range(3))]
    R = [[1, 0], [0, 1], [-1, 2], [0, 0]]
    comment = "Four samples: the zero input, an output of each sign, and one without any relevance."
    return case("network/batch/four-samples", comment, nodes, x, R)
