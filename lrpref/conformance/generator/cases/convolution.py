"""Convolutions: every rule over every geometry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lrpref.conformance.generator.case import Case, case
from lrpref.conformance.generator.cases.draw import Draw, defined
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import FLAT, W_SQUARE, ZERO, convolution, z_box

TITLE = "Two-dimensional convolutions: stride, padding, dilation, groups, under every rule"

# name: (channels, height, width), weight shape, output size, window
GEOMETRIES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 4, 4), (2, 2, 3, 3), (2, 2, 2), {}),
    "stride-and-padding": ((2, 4, 4), (2, 2, 3, 3), (2, 2, 2), {"stride": 2, "padding": 1}),
    "dilation": ((1, 5, 5), (2, 1, 2, 2), (2, 3, 3), {"dilation": 2}),
    "depthwise": ((2, 3, 4), (4, 1, 2, 2), (4, 2, 3), {"groups": 2}),
    "groups": ((4, 3, 3), (2, 2, 2, 2), (2, 2, 2), {"groups": 2}),
}
MORE: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "rectangular": ((2, 3, 5), (2, 2, 2, 3), (2, 2, 2), {"stride": [1, 2]}),
    "uneven-padding": ((1, 3, 3), (2, 1, 2, 3), (2, 3, 3), {"padding": [1, 0, 0, 2]}),
    "pointwise": ((3, 2, 2), (2, 3, 1, 1), (2, 2, 2), {}),
    "odd-size-left-over": ((1, 5, 4), (1, 1, 2, 2), (1, 2, 1), {"stride": [2, 3]}),
    "stride-dilation-padding-groups": (
        (2, 5, 5),
        (2, 1, 2, 3),
        (2, 3, 2),
        {"stride": 2, "dilation": [2, 1], "padding": [1, 1, 0, 1], "groups": 2},
    ),
}


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    every = [_one(rule, geometry) for rule in RULES for geometry in GEOMETRIES]
    more = [_one(rule, geometry) for geometry in MORE for rule in ("zero", "alpha2-beta1", "z-box")]
    return [*every, *more, *_treatments(), *_bias_in_padding(), *_borders(), _per_channel_bounds(), _batch()]


def _one(rule: str, geometry: str) -> Case:
    shape, weight, out, window = (GEOMETRIES | MORE)[geometry]

    def make(draw: Draw) -> Case:
        node = convolution(draw.signed(*weight), draw.signed(weight[0]), RULES[rule], **window)
        return case(
            f"conv2d/{rule}/{geometry}",
            f"{geometry.replace('-', ' ').capitalize()}; inputs and biases of both signs.",
            [node],
            [draw.signed(*shape)],
            [draw.signed(*out)],
            flags="D21",
            tags="tiny" if geometry == "dilation" else "",
        )

    return defined(geometry, make)


def _treatments() -> Iterator[Case]:
    """At borders the bias is shared out among fewer taps, and RMS is taken over all units."""
    shape, weight, out, window = GEOMETRIES["stride-and-padding"]
    draw = Draw("treatments")
    w, b, x, R = draw.signed(*weight), draw.signed(weight[0]), [draw.positive(*shape)], [draw.positive(*out)]
    for rule in ("zero", "gamma", "alpha2-beta1"):
        for bias in ("ignore", "redistribute"):
            node = convolution(w, b, RULES[rule] | {"bias": bias}, **window)
            comment = f"Bias: {bias}; a corner has fewer taps in the image than the middle."
            yield case(f"conv2d/{rule}/{bias}-bias", comment, [node], x, R, flags="D3 D21")


def _bias_in_padding() -> Iterator[Case]:
    """A window without any tap in the image has a bias, but no input to hand the bias's part to."""
    draw = Draw("bias in padding")
    w, b, x, R = [draw.signed(1, 2, 2)], [0.5], [draw.positive(1, 2, 2)], [draw.positive(1, 2, 2)]
    for name in ("zero", "gamma"):
        node = convolution(w, b, RULES[name] | {"bias": "redistribute"}, stride=2, padding=[2, 1, 2, 1])
        id = f"conv2d/{name}/redistribute-bias-in-padding"
        comment = "Bias: redistribute; where nothing is in a window's reach, the bias keeps its part."
        yield case(id, comment, [node], x, R, flags="D3", tags="tiny")


def _borders() -> Iterator[Case]:
    """Zero padding is no input: flat, w^2 and z^B count taps in the image; a window without any drops R."""
    draw = Draw("borders")
    w, x = [draw.signed(1, 2, 2)], [draw.signed(1, 2, 2)]
    for name in ("flat", "w2", "z-box", "zero"):
        node = convolution(w, None, RULES[name], stride=2, padding=[2, 1, 2, 1])
        comment = "Some windows lie wholly in the padding: nothing is in their reach, and R is dropped."
        yield case(
            f"conv2d/{name}/windows-in-padding",
            comment,
            [node],
            x,
            [draw.positive(1, 2, 2)],
            flags="D12" if name != "zero" else "",
            tags="tiny",
        )
    zeros = [[[[0, 0], [0, 1]]]]
    node = convolution(zeros, None, W_SQUARE, padding=[0, 1, 0, 1])
    comment = (
        "The only weight lies in the padding where the window reaches beyond the image: 0/0, R is dropped."
    )
    yield case(
        "conv2d/w2/weights-in-padding",
        comment,
        [node],
        x,
        [draw.positive(1, 2, 2)],
        flags="D12",
        tags="tiny",
    )
    node = convolution([[[[1, 1, 1]]]], [1], FLAT, padding=[0, 0, 1, 1])
    comment = "Flat: windows at the border have 2 taps in the image, the one in the middle 3."
    yield case("conv2d/flat/row", comment, [node], [[[[1, 2, 3]]]], [[[[1, 1, 1]]]], flags="D12", tags="tiny")


def _per_channel_bounds() -> Case:
    draw = Draw("bounds")
    node = convolution(
        draw.signed(2, 3, 2, 2), draw.signed(2), z_box([-2.0, -1.0, 0.0], [2.0, 1.0, 3.0]), padding=1
    )
    x = [[[[-2, 1.5], [0.5, 2]], [[-1, 0.25], [1, 0.5]], [[0, 3], [1.5, 2]]]]
    comment = "One low and one high for each channel, some pixels at their bounds; the padding has none."
    return case("conv2d/z-box/bounds-per-channel", comment, [node], x, [draw.signed(2, 3, 3)], flags="D13")


def _batch() -> Case:
    draw = Draw("two images")
    node = convolution(draw.signed(2, 1, 2, 2), draw.signed(2), ZERO)
    x = [draw.signed(1, 3, 3), draw.positive(1, 3, 3)]
    R = [draw.signed(2, 2, 2), draw.positive(2, 2, 2)]
    return case("conv2d/zero/batch", "Two samples, each with its own activations.", [node], x, R)
