"""One-dimensional convolutions: the same rules over rows."""

from __future__ import annotations

from functools import partial

from lrpref.conformance.generator.case import Case, case
from lrpref.conformance.generator.cases.draw import Draw, defined
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import convolution, plain, z_box

TITLE = "One-dimensional convolutions under every rule"


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    padded = [defined("row", partial(_padded, name)) for name in RULES]
    depthwise = [defined("long row", partial(_depthwise, name)) for name in ("zero", "z-plus", "flat")]
    return [*padded, *depthwise, _per_channel_bounds(), _network()]


def _padded(name: str, draw: Draw) -> Case:
    node = convolution(draw.signed(2, 2, 3), draw.signed(2), RULES[name], padding=1)
    x, R = [draw.signed(2, 4)], [draw.signed(2, 4)]
    return case(f"conv1d/{name}/padding", "A row of 4, padded on both sides.", [node], x, R)


def _depthwise(name: str, draw: Draw) -> Case:
    node = convolution(
        draw.signed(4, 1, 2), draw.signed(4), RULES[name], stride=2, dilation=2, padding=[0, 1], groups=2
    )
    x, R = [draw.signed(2, 6)], [draw.signed(4, 3)]
    comment = "Stride 2, dilation 2, depthwise, padded on the right alone."
    return case(f"conv1d/{name}/stride-dilation-depthwise", comment, [node], x, R, flags="D21")


def _per_channel_bounds() -> Case:
    draw = Draw("bounds of rows")
    node = convolution(draw.signed(2, 2, 2), draw.signed(2), z_box([-2.0, 0.0], [2.0, 3.0]), padding=1)
    comment = "One low and one high for each channel, some values at their bounds."
    x = [[[-2, 1.5, 2], [0, 3, 0.5]]]
    return case("conv1d/z-box/bounds-per-channel", comment, [node], x, [draw.positive(2, 4)], flags="D13")


def _network() -> Case:
    draw = Draw("two rows")
    first = convolution(draw.signed(2, 1, 2), draw.signed(2), RULES["z-box"], name="first")
    second = convolution(draw.signed(1, 2, 2), draw.signed(1), RULES["gamma"], name="second")
    x, R = [draw.signed(1, 5), draw.signed(1, 5)], [draw.positive(1, 3), draw.positive(1, 3)]
    comment = "Two convolutions, a ReLU between, two samples."
    return case("conv1d/network/two-layers", comment, [first, plain("relu"), second], x, R)
