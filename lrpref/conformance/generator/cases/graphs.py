"""Sums, concatenations, flattening, explicit padding, activations, and values that are read twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lrpref.conformance.generator.case import Case, Convention, case, chain
from lrpref.conformance.generator.cases.draw import Draw, defined
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import (
    FLAT,
    W_SQUARE,
    ZERO,
    add,
    concat,
    convolution,
    dense,
    epsilon,
    pad,
    plain,
    pooling,
    rule,
)

TITLE = "Sums, concatenations, reshaping, explicit padding and activations"


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    return [*_sums(), *_concatenations(), *_passing(), *_padding()]


def _sums() -> Iterator[Case]:
    left = dense([[1, 0], [0, 2]], [0.5, 0], ZERO, "left", ["input"])
    right = dense([[0, -1], [1, 1]], None, ZERO, "right", ["input"])
    summands = {
        "plain": ZERO,
        "signed-stabilizer": rule("zero", stabilizer=("signed", 0.25)),
        "unsigned-stabilizer": rule("zero", stabilizer=("unsigned", 0.25)),
        "epsilon": epsilon(0.5),
    }
    for name, chosen in summands.items():
        nodes = [left, right, add(["left", "right"], chosen)]
        comment = f"Two branches that read the same input, {name.replace('-', ' ')}; one sum is negative."
        yield case(f"add/{name}/two-branches", comment, nodes, [[1, 4]], [[2, 1]], flags="D17")
    comment = "The input itself is a summand, as in a residual block: its two relevances add up."
    nodes = [right, add(["input", "right"])]
    yield case("add/residual/identity", comment, nodes, [[1, 4]], [[2, 1]], flags="D17")
    comment = "1 + (-1): nothing can be in proportion to a sum of 0, R is dropped."
    nodes = [dense([[-1, 0], [0, 1]], None, ZERO, "branch"), add(["input", "branch"])]
    yield case("add/residual/cancelling", comment, nodes, [[1, 2]], [[3, 1]], flags="D17")
    comment = "The same sum with eps: z = 0 counts as positive, and the branches receive R/eps and -R/eps."
    nodes = [nodes[0], add(["input", "branch"], rule("zero", stabilizer=("signed", 0.5)))]
    yield case("add/residual/cancelling-with-eps", comment, nodes, [[1, 2]], [[3, 1]], flags="D1 D17")
    comment = "A value added to itself: both summands are the same node."
    yield case("add/residual/doubled", comment, [add(["input", "input"])], [[1, -2]], [[3, 1]], flags="D17")
    third = dense([[2, 1], [1, -1]], None, ZERO, "third", ["input"])
    comment = "Three branches: each in proportion to its own value."
    nodes = [left, right, third, add(["left", "right", "third"])]
    yield case("add/plain/three-branches", comment, nodes, [[1, 4]], [[2, 1]], flags="D17")
    draw = Draw("sum of images")
    nodes = [
        convolution(draw.signed(2, 2, 1, 1), None, ZERO, "point"),
        add(["input", "point"]),
    ]
    comment = "Images are added pixel by pixel."
    x, R = [draw.signed(2, 2, 2)], [draw.signed(2, 2, 2)]
    yield case("add/plain/images", comment, nodes, x, R, flags="D17")


def _concatenations() -> Iterator[Case]:
    left = dense([[1, 2]], [1], ZERO, "left", ["input"])
    right = dense([[-1, 1], [3, 1]], None, RULES["z-plus"], "right", ["input"])
    comment = "The relevance of a concatenation is cut where its inputs were joined."
    nodes = [left, right, concat(["left", "right"])]
    yield case("concat/vectors/two", comment, nodes, [[1, 2]], [[1, 2, 4]])
    nodes = [left, right, concat(["right", "left", "right"])]
    comment = "A branch that is joined twice receives both parts."
    yield case("concat/vectors/repeated", comment, nodes, [[1, 2]], [[1, 2, 4, 8, 16]])
    yield from (defined("concatenation", partial(_joined, axis)) for axis in range(3))


def _joined(axis: int, draw: Draw) -> Case:
    name = ("channels", "rows", "columns")[axis]
    nodes = [convolution(draw.signed(2, 2, 1, 1), None, ZERO, "point"), concat(["input", "point"], axis)]
    shape = [2, 2, 2]
    shape[axis] *= 2
    comment = f"Images joined along their {name}."
    return case(f"concat/images/{name}", comment, nodes, [draw.signed(2, 2, 2)], [draw.signed(*shape)])


def _passing() -> Iterator[Case]:
    weight, bias = [[1, -2], [-1, 1], [2, 1]], [0.5, 0, -1]
    top = dense([[1, 2, -1], [0.5, -1, 1]], [0.25, -0.5], ZERO, "top")
    for kind in ("relu", "identity"):
        nodes = [dense(weight, bias, ZERO, "first"), plain(kind), top]
        comment = f"Relevance passes a {kind} unchanged; some of its inputs are negative."
        yield case(f"activation/{kind}/between", comment, nodes, [[1, 2]], [[1, 2]], flags="D19")
    comment = "R passes a ReLU even where its output is 0: nothing else is said about it."
    yield case("activation/relu/alone", comment, [plain("relu")], [[1, -2, 0]], [[1, 2, 4]], flags="D19")
    comment = "An image becomes a vector in row-major order, channels first."
    draw = Draw("flatten")
    x = [draw.signed(2, 2, 2)]
    yield case("flatten/plain/alone", comment, [plain("flatten")], x, [[1, 2, 3, 4, 5, 6, 7, 8]])
    nodes = [plain("flatten"), dense(draw.signed(2, 8), draw.signed(2), RULES["z-plus"])]
    yield case("flatten/plain/before-dense", comment, nodes, x, [[1, 2]])


def _padding() -> Iterator[Case]:
    """Cells of an explicit padding layer are inputs like any others, and what they receive is booked."""
    yield from (
        defined("explicit padding", partial(_padded, name)) for name in ("zero", "flat", "w2", "z-box")
    )
    conv = convolution([[[[1, 2, -1]]]], [0.5], ZERO)
    comment = "Cells that hold 1 contribute under LRP-0 too."
    nodes = [pad([0, 0, 1, 1], 1.0), conv]
    yield case("pad/zero/ones", comment, nodes, [[[[2, 3]]]], [[[[1, 2]]]], flags="D12")
    nodes = [pad([1, 0, 0, 2]), pooling("sum", FLAT, stride=1)]
    comment = "Uneven padding before a sum pooling under flat."
    yield case(
        "pad/flat/uneven", comment, nodes, [[[[2, 3], [1, 4]]]], [[[[1, 2, 3], [4, 5, 6]]]], flags="D12"
    )
    nodes = [pad([0, 1, 0, 0]), convolution([[[[1], [2]]]], None, W_SQUARE), plain("flatten")]
    comment = "One row below; of the lowest window four fifths go to the padding."
    yield case("pad/w2/below", comment, nodes, [[[[1, 2]]]], [[5, 10]], flags="D12")


def _padded(name: str, draw: Draw) -> Case:
    w, b, chosen, leaks = draw.signed(1, 1, 2, 2), draw.signed(1), RULES[name], name != "zero"
    merged = Convention([], "D12", chain([convolution(w, b, chosen, padding=1)]))
    comment = "Zeros around the image by a layer of its own; " + (
        "its cells receive relevance, booked under padding." if leaks else "LRP-0 hands them nothing."
    )
    return case(
        f"pad/{name}/explicit",
        comment,
        [pad(1), convolution(w, b, chosen)],
        [draw.signed(1, 2, 2)],
        [draw.signed(1, 3, 3)],
        flags="D12 D13" if name == "z-box" else "D12",
        conventions={"merged into the convolution": merged} if leaks else {},
    )
