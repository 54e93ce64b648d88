"""Where formulas end: zero denominators, one-sided neurons, zero rows, denormals, a large dynamic range.

Zero denominators are sums of small dyadic numbers, so that every library meets exactly 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lrpref.conformance.generator.case import Case, Convention, case, chain
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import (
    Node,
    alpha_beta,
    convolution,
    dense,
    epsilon,
    gamma,
    generalized,
    rule,
    z_box,
)

TITLE = "Zero denominators, one-sided neurons, zero rows, denormals, large dynamic range"


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    return [
        *_zero_denominators(),
        *_one_sided(),
        *_zero_rows(),
        *_stabilizers(),
        *_relative(),
        *_alpha_beta_bias(),
        *_magnitudes(),
    ]


def _dense(id: str, comment: str, w: Any, b: Any, chosen: Node, x: Any, R: Any, **options: Any) -> Case:
    return case(f"edges/{id}", comment, [dense(w, b, chosen)], x, R, **options)


def _zero_denominators() -> Iterator[Case]:
    for name in ("zero", "gamma", "generalized-gamma"):
        # under gamma the contributions are those of w + gamma w+, so that another weight makes their sum 0
        w = [[1, -1.25, 1]] if name == "gamma" else [[1, -1, 2]]
        x = [[1, 1, 0]]
        comment = "Contributions cancel to exactly 0: nothing can be in proportion to it, R is dropped."
        yield _dense(f"zero-denominator/{name}", comment, w, None, RULES[name], x, [[1]], tags="tiny")
    comment = "The bias cancels the contributions: z = 1 - 1 = 0."
    yield _dense(
        "zero-denominator/bias", comment, [[1, 0]], [-1], RULES["zero"], [[1, 1]], [[1]], tags="tiny"
    )
    comment = "The same neuron without its bias has z = 1."
    ignoring = RULES["zero"] | {"bias": "ignore"}
    yield _dense(
        "zero-denominator/ignored-bias", comment, [[1, 0]], [-1], ignoring, [[1, 1]], [[1]], flags="D3"
    )
    for name in ("z-plus", "alpha2-beta1", "z-box", "w2"):
        weights = {"z-plus": [[-1, -2]], "alpha2-beta1": [[0, 0]], "z-box": [[1, -1]], "w2": [[0, 0]]}
        x = [[-2, 2]] if name == "z-box" else [[1, 1]]
        comment = {
            "z-plus": "No positive contribution at all: the denominator is 0.",
            "alpha2-beta1": "No contribution of any sign: both denominators are 0, 2 R and -R are dropped.",
            "z-box": "Pixels at the bounds from which contributions are counted: all are 0.",
            "w2": "All weights are 0.",
        }[name]
        yield _dense(
            f"zero-denominator/{name}", comment, weights[name], None, RULES[name], x, [[1]], tags="tiny"
        )
    comment = "No relevance arrives at a neuron with z = 0: 0/0 is 0 here, and nothing is dropped."
    yield _dense(
        "zero-denominator/no-relevance",
        comment,
        [[1, -1], [1, 1]],
        None,
        RULES["zero"],
        [[1, 1]],
        [[0, 1]],
        tags="tiny",
    )
    comment = "Two of three neurons have z = 0: only the middle one hands out relevance."
    w = [[1, -1], [1, 1], [-2, 2]]
    yield _dense("zero-denominator/some", comment, w, None, RULES["zero"], [[1, 1]], [[1, 2, 4]], tags="tiny")
    comment = "One tap of the window cancels the other: 0 in the middle, other sums beside it."
    node = convolution([[[[1, -1]]]], None, RULES["zero"])
    yield case(
        "edges/zero-denominator/convolution",
        comment,
        [node],
        [[[[1, 2, 2, 0.5]]]],
        [[[[1, 2, 4]]]],
        tags="tiny",
    )


def _one_sided() -> Iterator[Case]:
    """All contributions of one sign: alpha-beta then conserves alpha R or -beta R."""
    for what, w in (("positive", [[1, 3]]), ("negative", [[-1, -3]])):
        for name, chosen in (
            ("alpha2-beta1", alpha_beta(2.0, 1.0)),
            ("alpha1-beta0", alpha_beta(1.0, 0.0)),
            ("alpha1.5-beta0.5", alpha_beta(1.5, 0.5)),
            ("stabilized", alpha_beta(2.0, 1.0, stabilizer=("signed", 0.5))),
        ):
            comment = f"All contributions are {what}: the other part has nothing to be shared out among."
            yield _dense(f"one-sided/{name}/{what}", comment, w, None, chosen, [[1, 1]], [[1]], flags="D9")


def _zero_rows() -> Iterator[Case]:
    for name, chosen in RULES.items():
        comment = (
            "Two samples, the first all zeros; a bias keeps the denominator away from 0 where it has a part."
        )
        yield _dense(
            f"zero-row/{name}",
            comment,
            [[1, -2], [0, 0]],
            [0.5, -1],
            chosen,
            [[0, 0], [1, 0.25]],
            [[1, 2], [1, 2]],
        )


def _stabilizers() -> Iterator[Case]:
    """Which sign eps has, at z = 0 above all."""
    for sign, w in (("positive", [[2, -1]]), ("negative", [[1, -2]]), ("zero", [[1, -1]])):
        for kind in ("signed", "unsigned"):
            comment = f"z is {sign}, eps = 1/4 is {kind}; sign(0) = +1."
            answer = {}
            if sign == "negative":
                other = "unsigned" if kind == "signed" else "signed"
                users = (
                    ["lxt", "tutorial"]
                    if kind == "signed"
                    else ["captum", "autolrp", "innvestigate"]  # zennit has both
                )
                answer = {other: Convention(users, "D1", chain([dense(w, None, epsilon(0.25, other))]))}
            yield _dense(
                f"stabilizer/{kind}/z-{sign}",
                comment,
                w,
                None,
                epsilon(0.25, kind),
                [[1, 1]],
                [[1]],
                flags="D1",
                tags="tiny",
                conventions=answer,
            )
    comment = "Unsigned eps that cancels a negative z exactly: 0 in the denominator."
    yield _dense(
        "stabilizer/unsigned/z-is-minus-eps",
        comment,
        [[1, -1.25]],
        None,
        epsilon(0.25, "unsigned"),
        [[1, 1]],
        [[1]],
        flags="D1",
    )
    comment = "eps = 1e-6 is no float32, and each format rounds it for itself; z is of its size."
    yield _dense(
        "stabilizer/signed/small-z",
        comment,
        [[2.0**-20, -(2.0**-21)]],
        None,
        epsilon(1e-6),
        [[1, 1]],
        [[1]],
        flags="D1",
    )
    for name, chosen in RULES.items():
        if name == "epsilon":
            continue
        stabilized = chosen | {"stabilizer": {"kind": "signed", "value": 0.25}}
        comment = "Every neuron's denominator is 0 in one share at least; with eps nothing is dropped there."
        yield _dense(
            f"stabilizer/{name}/zero-denominator",
            comment,
            [[1, -1], [0, 0]],
            None,
            stabilized,
            [[1, 1]],
            [[1, 2]],
            flags="D1",
        )


def _relative() -> Iterator[Case]:
    """eps as a factor of the root mean square of z, over the units of one sample, never over the batch."""
    # z = (1, 7) and (2, 14): root mean squares 5 and 10
    w, x = [[1, 0], [3, 4]], [[1, 1], [2, 2]]
    for name, chosen in (
        ("epsilon", epsilon(0.25, "relative")),
        ("zero", rule("zero", stabilizer=("relative", 0.25))),
        ("generalized-gamma", generalized(1.0, stabilizer=("relative", 0.5))),
        ("gamma", gamma(1.0, stabilizer=("relative", 0.5))),
        ("z-plus", rule("z-plus", stabilizer=("relative", 0.5))),
    ):
        comment = (
            "z = (1, 7) has the root mean square 5, the second sample 10: never one number for the batch."
        )
        yield _dense(f"relative/{name}/per-sample", comment, w, None, chosen, x, [[1, 2], [1, 2]], flags="D1")
    comment = "z = (-1, 7): eps is subtracted where z < 0."
    yield _dense(
        "relative/epsilon/signs",
        comment,
        [[-1, 0], [3, 4]],
        None,
        epsilon(0.25, "relative"),
        [[1, 1]],
        [[1, 2]],
        flags="D1",
        tags="tiny",
    )
    comment = "The share's own z counts, bias included: (3, -21) under the bias, root mean square 15."
    yield _dense(
        "relative/epsilon/bias",
        comment,
        [[1, 1], [-10, -10]],
        [1, -1],
        epsilon(1.0, "relative"),
        [[1, 1]],
        [[1, 2]],
        flags="D1 D3",
        tags="tiny",
    )
    comment = "The share's z is that of b+ and of the positive contributions: (2, 14), root mean square 10."
    yield _dense(
        "relative/z-plus/bias",
        comment,
        [[1, -1], [6, 6]],
        [1, 2],
        rule("z-plus", stabilizer=("relative", 0.5)),
        [[1, 1]],
        [[1, 2]],
        flags="D1",
        tags="tiny",
    )
    comment = "A sample whose z are all 0 has the root mean square 0, and the denominator is 0."
    yield _dense(
        "relative/epsilon/all-zero",
        comment,
        w,
        None,
        epsilon(0.25, "relative"),
        [[0, 0], [1, 1]],
        [[1, 2], [1, 2]],
        flags="D1",
    )
    node = convolution([[[[1]]], [[[7]]]], None, epsilon(0.5, "relative"))
    comment = "Over an image the mean runs over channels and pixels: z = (1, 1) and (7, 7)."
    yield case(
        "edges/relative/epsilon/image", comment, [node], [[[[1, 1]]]], [[[[1, 2]], [[4, 8]]]], flags="D1"
    )


def _alpha_beta_bias() -> Iterator[Case]:
    """The bias in the two parts of alpha-beta, and inputs of both signs."""
    w, x = [[2, -1, 1], [-1, 0.5, 2]], [[1, 2, -1]]
    for what, b in (("positive", [1, 0.5]), ("negative", [-1, -0.5]), ("both", [1, -0.5])):
        for name, chosen in (
            ("alpha2-beta1", alpha_beta(2.0, 1.0)),
            ("alpha1-beta0", alpha_beta(1.0, 0.0)),
            ("alpha1.5-beta0.5", alpha_beta(1.5, 0.5)),
        ):
            raw = {"absorb": chosen | {"name": "alpha-beta with b"}, "ignore": chosen | {"bias": "ignore"}}
            answers = {
                "raw": Convention(["innvestigate"], "D7", chain([dense(w, b, raw["absorb"])])),
                "no-bias": Convention([], "D7", chain([dense(w, b, raw["ignore"])])),
            }
            comment = f"Bias {what}: b+ joins the positive contributions, b- the negative ones."
            yield _dense(
                f"alpha-beta-bias/{name}/{what}",
                comment,
                w,
                b,
                chosen,
                x,
                [[1, 2]],
                flags="D7",
                conventions=answers,
            )


def _magnitudes() -> Iterator[Case]:
    """Denormals, very large and very small numbers side by side, and cancellation that costs digits."""
    tiny, small, large = 2.0**-149, 2.0**-66, 2.0**66
    comment = "Activations and relevances are denormals of float32: the bounds are absolute there."
    x, R = [[3 * tiny, 5 * tiny, -tiny]], [[6 * tiny, -4 * tiny]]
    for name in ("zero", "z-plus", "flat"):
        yield _dense(f"denormal/{name}", comment, [[1, 1, 0.5], [2, -1, 2]], None, RULES[name], x, R)
    comment = (
        "Weights are denormals, relevance is not: R / z would overflow float32 but for activations of 2^66."
    )
    yield _dense(
        "denormal/weights", comment, [[3 * tiny, tiny]], None, RULES["zero"], [[large, large]], [[0.5]]
    )
    for name in ("zero", "epsilon", "gamma", "generalized-gamma", "alpha2-beta1", "z-plus", "w2"):
        comment = "Contributions from 2^-40 to 2^40, weights and activations from 2^-66 to 2^66."
        w = [[small, large, 1], [2.0**20, -(2.0**-20), 2.0**-40]]
        x = [[large, small, 2.0**40]]
        if name == "w2":
            w = [[2.0**-20, 2.0**20, 1], [2.0**10, -(2.0**-20), 2.0**-20]]
        yield _dense(f"dynamic-range/{name}", comment, w, [1, -1], RULES[name], x, [[1, 2]])
    comment = "Relevances from 2^-66 to 2^66 meet in one input."
    yield _dense(
        "dynamic-range/relevance",
        comment,
        [[1, 2], [3, 1], [1, -1]],
        None,
        RULES["zero"],
        [[1, 2]],
        [[small, large, 1]],
    )
    comment = "z^B on pixels a thousand times the distance to their bounds."
    yield _dense(
        "dynamic-range/z-box", comment, [[1, -1]], None, z_box(1000.0, 1001.0), [[1000.5, 1000.25]], [[1]]
    )
    comment = "1 + 2^-20 - 1: twenty bits of z cancel, and the bound says so."
    yield _dense("cancellation/zero", comment, [[1, 2.0**-20, -1]], None, RULES["zero"], [[1, 1, 1]], [[1]])
    comment = "The same in numbers that are no short binary fractions: float32 keeps few digits."
    third, w = 11184811 / 2**25, [[11184811 / 2**24, 1, -1]]  # float32's 1/3 and 2/3
    yield _dense(
        "cancellation/rounded", comment, w, [2.0**-12], RULES["zero"], [[third, 0.75, 0.97265625]], [[1]]
    )
