"""Batch norms: folded into the layer before or behind, or alone, a diagonal linear layer."""

from __future__ import annotations

from collections.abc import Iterator

from lrpref.conformance.generator.case import Case, Convention, case, chain
from lrpref.conformance.generator.cases.draw import Draw
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import PASS, W_SQUARE, ZERO, convolution, dense, norm, plain, pooling

TITLE = "Batch norms, folded and alone"

SCALE, SHIFT = [1.5, -0.5], [-0.25, 1]


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    return [*_folded_backward(), *_folded_forward(), *_alone()]


def _folded_backward() -> Iterator[Case]:
    weight, x, R = [[1, -2, 0.5], [-1, 1, 2]], [[1, 0.5, 2]], [[2, 1]]
    for name, rule in RULES.items():
        nodes = [dense(weight, [0.5, -0.5], rule), norm(SCALE, SHIFT)]
        separate = chain([dense(weight, [0.5, -0.5], rule), norm(SCALE, SHIFT, PASS)])
        comment = "The norm is folded into the dense layer before it; one of its factors is negative."
        others = {"passed": Convention([], "D16", separate)}  # autoLRP splits the bias off besides
        yield case(f"batchnorm/{name}/after-dense", comment, nodes, x, R, flags="D16", conventions=others)
    for name in ("zero", "gamma", "z-box"):
        draw = Draw("norm after convolution")
        conv = convolution(draw.signed(2, 1, 2, 2), None, RULES[name], padding=1)
        comment = "The norm is folded into a padded convolution without bias, whose bias it becomes."
        nodes = [conv, norm([0.5, 2], [-0.25, 0.5])]
        x, R = [draw.signed(1, 2, 2)], [draw.signed(2, 3, 3)]
        yield case(f"batchnorm/{name}/after-convolution", comment, nodes, x, R, flags="D16")


def _folded_forward() -> Iterator[Case]:
    for name in ("zero", "z-plus", "alpha2-beta1"):
        nodes = [norm([0.5, -2], [1, 0.25]), dense([[1, 2], [-1, 0.5]], [0.25, -1], RULES[name])]
        comment = (
            "The norm stands before the dense layer and is folded into it: w scale_j, b + sum_j w shift_j."
        )
        yield case(f"batchnorm/{name}/before-dense", comment, nodes, [[1.5, -1]], [[2, 1]], flags="D16")
    draw = Draw("norm before convolution")
    nodes = [norm([0.5, 2], [0.25, -0.5]), convolution(draw.signed(2, 2, 2, 2), [0.5, -0.25], ZERO)]
    comment = "The norm stands before an unpadded convolution."
    x, R = [draw.signed(2, 3, 3)], [draw.signed(2, 2, 2)]
    yield case("batchnorm/zero/before-convolution", comment, nodes, x, R, flags="D16")


def _alone() -> Iterator[Case]:
    """No linear layer beside it: a diagonal layer under its rule, or relevance passes."""
    x, R = [[[[1, -2]], [[0.5, 3]]]], [[[[1, 2]], [[4, 8]]]]
    for name, rule in RULES.items():
        comment = "A norm on its own is the linear layer z = scale a + shift, under its rule."
        others = {"passed": Convention(["autolrp"], "D16", chain([norm(SCALE, SHIFT, PASS)]))}
        yield case(
            f"batchnorm/{name}/alone",
            comment,
            [norm(SCALE, SHIFT, rule)],
            x,
            R,
            flags="D16",
            conventions=others,
        )
    comment = "Relevance passes through the norm unchanged."
    yield case("batchnorm/pass/alone", comment, [norm(SCALE, SHIFT, PASS)], x, R, flags="D16")
    comment = "Factor 0: the contribution is 0 and the shift takes all; under w^2 it is 0/0."
    yield case("batchnorm/zero/factor-0", comment, [norm([0, 1], [2, -1], ZERO)], x, R, flags="D16")
    yield case("batchnorm/w2/factor-0", comment, [norm([0, 1], [2, -1], W_SQUARE)], x, R, flags="D16")
    nodes = [
        plain("relu"),
        norm(SCALE, SHIFT, ZERO),
        pooling("max", RULES["zero"], [1, 2]) | {"kind": "sumpool2d"},
    ]
    comment = "Between a ReLU and a sum pooling: no layer takes it, so it has a rule of its own."
    yield case("batchnorm/zero/between", comment, nodes, x, [[[[1]], [[2]]]], flags="D16")
