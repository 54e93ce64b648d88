"""Average, sum and max pooling: linear rules, winners, ties, empty and negative windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lrpref.conformance.generator.case import Case, Convention, case
from lrpref.conformance.generator.cases.draw import Draw
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import FIRST, FLAT, SPLIT, ZERO, Node, pooling

TITLE = "Average, sum and max pooling"


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    return [*_linear(), *_averages(), *_winners(), *_as_sums(), *_odd_windows()]


def _linear() -> Iterator[Case]:
    """Under every rule: average pooling on signed inputs, sum pooling on overlapping windows."""
    for name, rule in RULES.items():
        draw = Draw("pools")
        x, R = [draw.signed(2, 4, 4)], [draw.signed(2, 2, 2)]
        comment = "Windows of 2 x 2 side by side, activations of both signs."
        yield case(f"avgpool2d/{name}/plain", comment, [pooling("avg", rule)], x, R, flags="D15")
        x, R = [draw.positive(1, 3, 4)], [draw.signed(1, 2, 3)]
        comment = "Overlapping windows of 2 x 2, activations > 0."
        node = pooling("sum", rule, stride=1)
        yield case(f"sumpool2d/{name}/overlapping", comment, [node], x, R, tags="tiny")
        node = pooling("avg", rule, stride=1)
        yield case(f"avgpool2d/{name}/overlapping", comment, [node], x, R, flags="D15")


def _averages() -> Iterator[Case]:
    """What a padded window is divided by."""
    draw = Draw("divisors")
    x, R = [draw.signed(1, 3, 3)], [draw.positive(1, 2, 2)]
    geometries: dict[str, dict[str, Any]] = {
        "padding-counted": {"padding": 1, "count_include_pad": True},
        "padding-not-counted": {"padding": 1, "count_include_pad": False},
        "divisor": {"padding": 1, "divisor": 8},
        "ceil-mode": {"ceil_mode": True},
        "ceil-mode-not-counted": {"ceil_mode": True, "padding": [1, 0, 0, 0], "count_include_pad": False},
    }
    for name, geometry in geometries.items():
        for rule in ("zero", "w2"):
            node = pooling("avg", RULES[rule], **geometry)
            comment = (
                f"Average over 2 x 2, {name.replace('-', ' ')}: windows at the border hold fewer pixels."
            )
            yield case(
                f"avgpool2d/{rule}/{name}",
                comment,
                [node],
                x,
                R,
                flags="D15",
                tags="tiny" if rule == "zero" else "",
            )
    node = pooling("avg", ZERO, [1, 3], stride=[1, 2])
    x, R = [[[[1, -2, 4, 0.5, 3]]]], [[[[1, 2]]]]
    comment = "Thirds are no binary fractions: the weights themselves are rounded."
    yield case("avgpool2d/zero/thirds", comment, [node], x, R, flags="D15", tags="tiny")


def _winners() -> Iterator[Case]:
    """Winner-take-all: who wins, and who wins among equals."""
    pictures = {
        "distinct": [[1, 2, 5, 3], [4, 0, -1, 2]],
        "tie": [[2, 2, 1, 3], [1, 2, 3, 3]],
        "zeros": [[0, 0, 1, 0], [0, 0, 0, 0]],
        "negative": [[-1, -2, -3, -3], [-4, -1, -5, -3]],
    }
    for what, picture in pictures.items():
        for name, rule, other, users in (
            ("first", FIRST, SPLIT, ["lrp_toolbox"]),
            ("split", SPLIT, FIRST, ["zennit", "captum", "innvestigate"]),
        ):
            ties = what != "distinct"
            answer = "split" if name == "first" else "first"
            if what == "zeros" and "captum" in users:  # there its R is lost
                users = [user for user in users if user != "captum"]
            conventions = {answer: Convention(users, "D14", _chained("max", other))} if ties else {}
            yield case(
                f"maxpool2d/winner-take-all-{name}/{what}",
                f"Two windows, {what}; ties: {name}.",
                [pooling("max", rule)],
                [[picture]],
                [[[[1, 2]]]],
                flags="D14",
                tags="tiny",
                conventions=conventions,
            )
    for name, rule in (("first", FIRST), ("split", SPLIT)):
        picture = [[1, 3, 3], [2, 3, 0], [1, 1, 1]]
        node = pooling("max", rule, stride=1)
        comment = "Overlapping windows: one pixel wins several of them."
        yield case(
            f"maxpool2d/winner-take-all-{name}/overlapping",
            comment,
            [node],
            [[picture]],
            [[[[1, 2], [4, 8]]]],
            flags="D14",
            tags="tiny",
        )
    below = "All pixels are negative, and the padding is no pixel: it never wins."
    zeros = "The padding is no pixel: its zeros are no ties of the picture's."
    for what, comment, rule, picture in (
        ("first/padding", below, FIRST, [[-1, -2, -3], [-4, -5, -6], [-7, -8, -2]]),
        ("first/padding-zeros", zeros, FIRST, [[0, 0, -1], [0, -2, 0], [-1, 0, 0]]),
        ("split/padding-zeros", zeros, SPLIT, [[0, 0, -1], [0, -2, 0], [-1, 0, 0]]),
        ("first/padding-after-relu", zeros, FIRST, [[3, 0, 0], [0, 0, 0], [0, 0, 0]]),
    ):
        yield case(
            f"maxpool2d/winner-take-all-{what}",
            comment,
            [pooling("max", rule, 3, stride=2, padding=1)],
            [[picture]],
            [[[[1, 2], [4, 8]]]],
            flags="" if what == "first/padding" else "D14",
            tags="tiny",
        )
    node = pooling("max", FIRST, ceil_mode=True)
    comment = "Ceil mode: the last windows reach beyond the image."
    yield case(
        "maxpool2d/winner-take-all-first/ceil-mode",
        comment,
        [node],
        [[[[1, 2, 3], [3, 1, 2], [0, 1, -1]]]],
        [[[[1, 2], [4, 8]]]],
        tags="tiny",
    )


def _chained(kind: str, rule: Node) -> list[Node]:
    return [pooling(kind, rule) | {"inputs": ["input"]}]


def _as_sums() -> Iterator[Case]:
    """Max pooling under a linear rule is that rule on sum pooling, for activations >= 0."""
    for name, rule in RULES.items():
        draw = Draw("as sums")
        x, R = [draw.positive(1, 2, 4)], [[[[1, 2]]]]
        comment = "Max pooling seen as sum pooling: the sum is shared out, the maximum goes forward."
        yield case(f"maxpool2d/{name}/as-sum", comment, [pooling("max", rule)], x, R)
    node = pooling("max", ZERO, 3, stride=2, padding=1)
    x = [[[[1, 0, 2], [0, 0, 0.5], [3, 1, 0]]]]
    comment = "Overlapping padded windows, activations >= 0."
    yield case("maxpool2d/zero/as-sum-padded", comment, [node], x, [[[[1, 2], [4, 8]]]])


def _odd_windows() -> Iterator[Case]:
    """Sums of 0: nothing can be in proportion to them."""
    zeros = [[[[0, 0, 1, -1], [0, 0, -2, 2]]]]
    R = [[[[1, 2]]]]
    for kind in ("avg", "sum"):
        comment = "A window of zeros and one that cancels: 0/0, R is dropped."
        yield case(f"{kind}pool2d/zero/zero-sums", comment, [pooling(kind, ZERO)], zeros, R, tags="tiny")
        comment = "Flat does not look at the activations."
        yield case(f"{kind}pool2d/flat/zero-sums", comment, [pooling(kind, FLAT)], zeros, R, tags="tiny")
    comment = "Max pooling as sum pooling over zeros: 0/0, R is dropped."
    x = [[[[0, 0, 1, 0], [0, 0, 2, 1]]]]
    yield case("maxpool2d/zero/as-sum-of-zeros", comment, [pooling("max", ZERO)], x, R, tags="tiny")
