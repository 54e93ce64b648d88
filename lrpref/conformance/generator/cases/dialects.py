"""One neuron for each dimension in which libraries differ, small enough to check by hand.

Each vector's `conventions` hold the other answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from lrpref.conformance.generator.case import Case, Convention, case, chain
from lrpref.conformance.generator.conventions import scaled_by_bias_split
from lrpref.conformance.generator.geometry import Array
from lrpref.conformance.generator.parts import (
    FIRST,
    FLAT,
    PASS,
    SPLIT,
    W_SQUARE,
    Z_PLUS,
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
    pad,
    plain,
    pooling,
    z_box,
)

TITLE = "One small case for each dimension in which libraries differ"

ONE = [[1]]


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    return [
        _stabilizer(),
        _size(),
        _bias(),
        _gamma_bias(),
        *_gamma_formula(),
        *_z_plus(),
        *_alpha_beta(),
        *_one_sided(),
        _w_square(),
        *_borders(),
        _z_box(),
        *_max_pooling(),
        _average(),
        *_norm(),
        *_sum(),
        _start(),
        _twice(),
    ]


def _neuron(
    id: str, comment: str, w: Any, b: Any, chosen: Node, x: Any, flag: str, **others: Convention
) -> Case:
    """One neuron, R = 1; the other answers bear the names of `lrpref.dialects`, with - for _."""
    answers = {name.replace("_", "-"): other for name, other in others.items()}
    return case(
        f"dialects/{id}",
        comment,
        [dense([w], b, chosen)],
        [x],
        ONE,
        flags=flag,
        conventions=answers,
    )


def _instead(flag: str, w: Any, b: Any, chosen: Node, *users: str, R: Fraction | None = None) -> Convention:
    """The same neuron under another rule, or from another relevance."""
    start = None if R is None else Array((1, 1), [R])
    return Convention(users, flag, chain([dense([w], b, chosen)]), start)


def _split(flag: str, w: Any, b: Any, chosen: Node, x: Any) -> Convention:
    """The bias's part taken off first, then the rule without bias."""
    z = sum(Fraction(p) * Fraction(v) for p, v in zip(x, w, strict=True))
    return _instead(flag, w, b, chosen | {"bias": "ignore"}, "autolrp", R=scaled_by_bias_split(1, z, b[0]))


def _named(name: str, chosen: Node) -> Node:
    """The rule as another library understands its name."""
    return chosen | {"name": name}


def _stabilizer() -> Case:
    w, x = [1, -3], [1, 1]
    comment = "z = -2, eps = 1: signed -2 / (-2 - 1) = 2/3 in all, unsigned -2 / (-2 + 1) = 2."
    return _neuron(
        "D1/epsilon",
        comment,
        w,
        None,
        epsilon(1.0),
        x,
        "D1",
        unsigned=_instead("D1", w, None, epsilon(1.0, "unsigned"), "lxt", "tutorial"),
    )


def _size() -> Case:
    w, x, asked = [1, 1], [1, 1], Z_PLUS | {"stabilizer": {"kind": "signed", "value": 0.5}}
    comment = "z = 2, eps = 1/2: (2/5, 2/5); with 1e-9 whatever is asked for nearly (1/2, 1/2)."
    fixed = _instead("D2", w, None, Z_PLUS | {"stabilizer": {"kind": "signed", "value": 1e-9}}, "captum")
    return _neuron("D2/z-plus", comment, w, None, asked, x, "D2", **{"1e-9": fixed})


def _bias() -> Case:
    w, b, x = [3, 1], [-3], [1, 2]
    comment = "z = 3 + 2 - 3 = 2: (3/2, 1); split by |z0| / (|z0| + |b|): 5/8 of (3/5, 2/5)."
    return _neuron("D3/zero", comment, w, b, ZERO, x, "D3", split=_split("D3", w, b, ZERO, x))


def _gamma_bias() -> Case:
    w, b, x = [3, -1], [2], [1, 2]
    comment = "Contributions 3 + 3, -2, bias 2 + 2: z = 8, and (3/4, -1/4). With b as it is z = 6."
    return _neuron(
        "D4/gamma",
        comment,
        w,
        b,
        gamma(1.0),
        x,
        "D4",
        untouched=_instead("D4", w, b, _named("gamma with b", gamma(1.0)), "captum"),
        split=_split("D4", w, b, gamma(1.0), x),
    )


def _gamma_formula() -> list[Case]:
    w, x = [1, 1], [-1, 2]
    simple, general = gamma(1.0), generalized(1.0)
    return [
        _neuron(
            "D5/gamma",
            "The chapter's formula on a negative input: (-2, 4) / 2.",
            w,
            None,
            simple,
            x,
            "D5",
            generalized=_instead("D5", w, None, general, "zennit", "julia"),
        ),
        _neuron(
            "D5/generalized-gamma",
            "Favours contributions of z's sign: (-1, 4) / 3.",
            w,
            None,
            general,
            x,
            "D5",
            simple=_instead("D5", w, None, simple, "captum", "tutorial"),
        ),
        _neuron(
            "D5/generalized-gamma-negative",
            "z = -2 < 0: the negative contribution is favoured.",
            [1, -3],
            None,
            general,
            [1, 1],
            "D5",
            simple=_instead("D5", [1, -3], None, simple, "captum", "tutorial"),
        ),
    ]


def _z_plus() -> Iterator[Case]:
    for sign, w, b, x in (
        ("positive-bias", [3, 1], [0.5], [1, -2]),
        ("negative-bias", [3, 1], [-0.5], [1, -2]),
        ("amplified", [3, 1], [-3.875], [1, 1]),
    ):
        raw, ab = _named("w+ with b", Z_PLUS), _named("alpha-beta with b", Z_PLUS)
        comment = "Only 3 is positive of what the inputs contribute, and of the bias only what is positive."
        if sign == "amplified":
            comment = "Contributions 3 and 1, bias -3.875: b- has no part; b as it is would hand out 32 R."
        yield _neuron(
            f"D6/z-plus-{sign}",
            comment,
            w,
            b,
            Z_PLUS,
            x,
            "D6",
            raw_bias_unclamped=_instead("D6", w, b, raw, "captum"),
            no_bias=_instead("D6", w, b, Z_PLUS | {"bias": "ignore"}, "innvestigate"),
            raw=_instead("D7", w, b, ab, "innvestigate"),
            split=_split("D6", w, b, Z_PLUS, x),
        )


def _alpha_beta() -> list[Case]:
    w, b, x = [1, -1], [-1], [1, 1]
    chosen = alpha_beta(2.0, 1.0)
    raw = _named("alpha-beta with b", chosen) | {"stabilizer": {"kind": "signed", "value": 1e-7}}
    comment = "2 (1 / 1) and -1 (-1 / (-1 - 1)); with b in both, alpha's denominator is 1 - 1 = 0, plus eps."
    other = alpha_beta(1.5, 0.5)
    return [
        _neuron(
            "D7/alpha2-beta1",
            comment,
            w,
            b,
            chosen,
            x,
            "D7",
            raw=_instead("D7", w, b, raw, "innvestigate"),
            split=_split("D7", w, b, chosen, x),
        ),
        _neuron(
            "D8/alpha1.5-beta0.5",
            "alpha - beta = 1; where it is alpha + beta = 1, this is called 1.5 and -0.5.",
            [3, -1],
            None,
            other,
            [1, 1],
            "D8",
        ),
    ]


def _one_sided() -> list[Case]:
    chosen = alpha_beta(2.0, 1.0)
    return [
        _neuron(
            "D9/all-positive",
            "All contributions are positive: alpha R = 2.",
            [1, 3],
            None,
            chosen,
            [1, 1],
            "D9",
        ),
        _neuron("D9/all-negative", "All are negative: -beta R = -1.", [-1, -3], None, chosen, [1, 1], "D9"),
    ]


def _w_square() -> Case:
    w, b, x = [1, 2], [3], [1, 1]
    comment = "(1, 4) / 5; with b^2 in the denominator (1, 4) / 14."
    other = _instead("D11", w, b, _named("w2 with b^2", W_SQUARE), "zennit")
    return _neuron("D11/w2", comment, w, b, W_SQUARE, x, "D11", bias_squared=other)


def _borders() -> Iterator[Case]:
    """One window of three taps over a row of two pixels: the third tap lies outside."""
    w, x = [[[[1, 1, 1]]]], [[[[1, 2]]]]
    for name, chosen in (("flat", FLAT), ("w2", W_SQUARE), ("z-box", z_box(-1.0, 3.0))):
        implicit = chain([convolution(w, None, chosen, padding=[0, 0, 1, 0])])
        explicit = chain([pad([0, 0, 1, 0]), convolution(w, None, chosen)])
        flags = "D12 D13" if name == "z-box" else "D12"
        comment = "Implicit padding is no input: R goes to the two pixels in the image."
        yield case(f"dialects/D12/{name}-implicit", comment, implicit, x, [[[[1]]]], flags=flags)
        comment = "An explicit padding layer is one: what lands on its cell is booked under padding."
        yield case(f"dialects/D12/{name}-explicit", comment, explicit, x, [[[[1]]]], flags=flags)


def _z_box() -> Case:
    w, b, x, chosen = [2, -1], [1], [0.5, -0.25], z_box(-1.0, 1.0)
    comment = "x - l = 3/2 at weight 2, h - x = 5/4 at weight -1: (3, 5/4) / (17/4). The bias cancels."
    return _neuron("D13/z-box", comment, w, b, chosen, x, "D13", split=_split("D13", w, b, chosen, x))


def _max_pooling() -> Iterator[Case]:
    for what, picture in (("tie", [[2, 2]]), ("zeros", [[0, 0]])):
        window = [1, 2]
        answers = {"split": Convention(["lrp_toolbox"], "D14", chain([pooling("max", SPLIT, window)]))}
        proportional = chain([pooling("sum", ZERO, window)])
        if what == "zeros":  # R z / (z + eps sign(z)) is 0 there, and so is any share in proportion to z
            answers["first-epsilon"] = Convention(["captum"], "D14", proportional)
        else:
            answers["average"] = Convention(["tutorial"], "D14", proportional)
        comment = f"A window of two pixels, {what}: the first takes all."
        yield case(
            f"dialects/D14/{what}",
            comment,
            [pooling("max", FIRST, window)],
            [[picture]],
            [[[[1]]]],
            flags="D14",
            conventions=answers,
        )


def _average() -> Case:
    window = [1, 2]
    answers = {
        "gradient": Convention(["autolrp"], "D15", chain([pooling("avg", FLAT, window)])),
        "magnitude": Convention([], "D15", chain([pooling("avg", _named("magnitude", ZERO), window)])),
    }
    comment = "The average of -1 and 3: in proportion (-1/2, 3/2), in equal parts (1/2, 1/2)."
    return case(
        "dialects/D15/average",
        comment,
        [pooling("avg", ZERO, window)],
        [[[[-1, 3]]]],
        [[[[1]]]],
        flags="D15",
        conventions=answers,
    )


def _norm() -> Iterator[Case]:
    """z = 1 + 1 + 1/2, then 3/2 z - 5/4; folded the weights are 3/2 and the bias -1/2."""
    w, b, x = [[1, 1]], [0.5], [[1, 1]]
    scale, shift = [1.5], [-1.25]
    layers = {
        "zero": (ZERO, ZERO),
        "gamma": (gamma(1.0), _named("gamma with b", gamma(1.0))),
        "z-plus": (Z_PLUS, _named("w+ with b", Z_PLUS)),
    }
    for name, (chosen, captums) in layers.items():
        answers = {
            "passed": Convention(["autolrp"], "D16", chain([dense(w, b, chosen), norm(scale, shift, PASS)])),
            "own-layer": Convention(
                ["captum"], "D16", chain([dense(w, b, captums), norm(scale, shift, ZERO)])
            ),
        }
        nodes = [dense(w, b, chosen), norm(scale, shift)]
        comment = "Folded: weights 3/2, bias -1/2; the norm's shift is bias like any other."
        yield case(f"dialects/D16/{name}", comment, nodes, x, ONE, flags="D16", conventions=answers)


def _branches(top: Node) -> list[Node]:
    left, right = (
        dense([[1, 0]], None, ZERO, "left", ["input"]),
        dense([[0, 1]], None, ZERO, "right", ["input"]),
    )
    return chain([left, right, top])


def _sum() -> list[Case]:
    summands = ["left", "right"]
    one_each = Array.of([[1, 1]])
    answers = {
        "magnitude": Convention(["autolrp"], "D17", _branches(add(summands, _named("magnitude", ZERO)))),
        "duplicated": Convention([], "D17", _branches(concat(summands)), one_each),
    }
    comment = (
        "1 + (-3) = -2: in proportion (-1/2, 3/2); by magnitude the sign of the evidence against is lost."
    )
    return [
        case(
            "dialects/D17/sum",
            comment,
            _branches(add(summands)),
            [[1, -3]],
            ONE,
            flags="D17",
            conventions=answers,
        )
    ]


def _start() -> Case:
    """What arrives at the output is a choice; the vectors always say it."""
    nodes = [dense([[1, 0], [0, 1]], None, ZERO)]
    answers = {
        "one": Convention(["autolrp", "julia"], "D18", R=Array.of([[1, 0]])),
        "output": Convention(["zennit"], "D18", R=Array.of([[5, 3]])),
    }
    comment = "f = (5, 3): the first class's score is explained, 5 in all."
    return case(
        "dialects/D18/start",
        comment,
        nodes,
        [[5, 3]],
        [[5, 0]],
        flags="D18",
        conventions=answers,
    )


def _twice() -> Case:
    """z = 2 x + 1 twice: 3, 7, 15; R = 12/15."""
    first, second = (dense([[2]], [1], ZERO, name) | {"module": "shared"} for name in ("first", "second"))
    # The last call's activation 7 in both uses: each hands on 14/15. Of a first layer that hands on as much:
    like_last = dense([[Fraction(98, 45)]], [Fraction(7, 15)], ZERO, "first")
    other = Convention(["zennit"], "D22", chain([like_last, plain("relu"), second]))
    comment = "3 -> 7 -> 15: (6/7) (14/15) = 4/5; with the last use's input in both uses, (14/15)^2."
    return case(
        "dialects/D22/twice",
        comment,
        [first, plain("relu"), second],
        [[3]],
        ONE,
        flags="D22",
        conventions={"last-call": other},
    )
