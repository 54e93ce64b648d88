"""The rules of Appendix 10.A of Montavon et al. 2019, neuron by neuron.

Each rule says which products p_j w_jk an upper neuron k adds up (`Share`); `relprop` then does, for every k,

    z_k = sum over j and terms of p_j w_jk + b_k
    s_k = R_k / (z_k + stabilizer),    0 where that denominator is 0
    R_j = sum over k and terms of coefficient p_j w_jk s_k

and keeps the books. It runs on fractions and on bounded numbers alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrpref.conformance.generator.geometry import Neuron
from lrpref.conformance.generator.numbers import Number, Numbers

ACCOUNTS = ("bias", "stabilizer", "dropped", "padding")

Terms = Callable[[int, Number], list[tuple[Number, Number]]]


@dataclass
class Share:
    """
    One way in which a neuron shares out its relevance; most rules have one, alpha-beta has two.

    Parameters
    ----------
    terms : callable
        From j and w_jk the pairs (p, w) whose products enter the sum.
    bias : callable or None
        From b_k what enters the sum; None: no bias does.
    coefficient : Number or None
        What the shared relevance is multiplied with; None is 1.
    gate : int
        Only neurons whose own z_k has this sign take part; 0: all do.
    """

    terms: Terms
    bias: Callable[[Number], Number] | None
    coefficient: Number | None = None
    gate: int = 0


@dataclass
class Step:
    """
    What one layer did with the relevance of one sample.

    Parameters
    ----------
    R : list of Number
        Relevance of the lower neurons.
    shares : list of dict
        z, s and, for each term, c_j = sum_k w_jk s_k.
    books : dict
        Where the arriving relevance went.
    undefined : bool
        Whether a denominator is 0, so that the formula itself has no value.
    """

    R: list[Number]
    shares: list[dict[str, Any]]
    books: dict[str, Number]
    undefined: bool = False


def _as_it_is(x: Number) -> Number:
    return x


# The rules. (x)+ = max(0, x) is n.positive(x); (x)- = min(0, x) = -(-x)+.


def negative(n: Numbers, x: Number) -> Number:
    """
    Take the negative part.

    Parameters
    ----------
    n : Numbers
        The arithmetic.
    x : Number
        A number.

    Returns
    -------
    Number
        (x)- = min(0, x).
    """
    return -n.positive(-x)


def _zero(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(a[j], w)]

    return [Share(terms, _as_it_is)]


def _gamma(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    gamma = n.number(rule["gamma"])

    def favoured(x: Number) -> Number:
        return x + gamma * n.positive(x)

    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(a[j], favoured(w))]

    return [Share(terms, favoured)]


def _generalized_gamma(
    n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int
) -> list[Share]:
    gamma = n.number(rule["gamma"])

    def more_positive(x: Number) -> Number:
        return x + gamma * n.positive(x)

    def more_negative(x: Number) -> Number:
        return x + gamma * negative(n, x)

    def where_positive(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(n.positive(a[j]), more_positive(w)), (negative(n, a[j]), more_negative(w))]

    def where_negative(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(n.positive(a[j]), more_negative(w)), (negative(n, a[j]), more_positive(w))]

    return [Share(where_positive, more_positive, gate=1), Share(where_negative, more_negative, gate=-1)]


def _alpha_beta(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    def below(x: Number) -> Number:
        return negative(n, x)

    def excitation(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(n.positive(a[j]), n.positive(w)), (below(a[j]), below(w))]

    def inhibition(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(n.positive(a[j]), below(w)), (below(a[j]), n.positive(w))]

    alpha, beta = rule.get("alpha", 1), rule.get("beta", 0)
    shares = [Share(excitation, n.positive, n.number(alpha)), Share(inhibition, below, n.number(-beta))]
    return [share for share, part in zip(shares, (alpha, beta), strict=True) if part]


def _flat(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    one = n.number(1)

    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(one, one)]

    return [Share(terms, None)]


def _w_square(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    one = n.number(1)

    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(one, w * w)]

    return [Share(terms, None)]


def _z_box(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    low, high = (_per_neuron(n, rule[side], len(a), channels) for side in ("low", "high"))

    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(a[j], w), (low[j], -n.positive(w)), (high[j], -negative(n, w))]

    return [Share(terms, None)]


def _per_neuron(n: Numbers, bound: Any, count: int, channels: int) -> list[Number]:
    """Give each lower neuron its bound: one for all, or one for each channel."""
    bounds = bound if isinstance(bound, list) else [bound] * channels
    return [n.number(bounds[j * channels // count]) for j in range(count)]


def _winner_take_all(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    one = n.number(1)

    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(one, w)]

    return [Share(terms, None)]


RULES: dict[str, Callable[..., list[Share]]] = {
    "zero": _zero,
    "epsilon": _zero,
    "gamma": _gamma,
    "generalized-gamma": _generalized_gamma,
    "alpha-beta": _alpha_beta,
    "z-plus": _alpha_beta,
    "flat": _flat,
    "w2": _w_square,
    "z-box": _z_box,
    "winner-take-all": _winner_take_all,
}


def winners(n: Numbers, neuron: Neuron, a: Sequence[Number], ties: str) -> Neuron:
    """
    Reduce a window of max pooling to the neurons that hold its maximum.

    Parameters
    ----------
    n : Numbers
        The arithmetic.
    neuron : Neuron
        The window.
    a : sequence of Number
        Lower activations.
    ties : {"first", "split"}
        Whether of equal maxima the first in row-major order wins, or all do.

    Returns
    -------
    Neuron
        The winners, each with weight 1.
    """
    best: list[int] = []
    for j, _ in neuron.taps:
        order = n.sign(a[j] + -a[best[0]]) if best else 1
        if order > 0:
            best = [j]
        elif order == 0 and ties == "split":
            best.append(j)
    return Neuron([(j, n.number(1)) for j in best], None)


def relprop(
    n: Numbers,
    rule: Mapping[str, Any],
    neurons: Sequence[Neuron],
    a: Sequence[Number],
    R: Sequence[Number],
    channels: int,
    rules: Mapping[str, Callable[..., list[Share]]] = RULES,
) -> Step:
    """
    Propagate the relevance of one sample through one layer.

    Parameters
    ----------
    n : Numbers
        The arithmetic.
    rule : mapping
        The rule, as the vector files have it.
    neurons : sequence of Neuron
        The upper neurons.
    a : sequence of Number
        Activations of the lower neurons.
    R : sequence of Number
        Relevance of the upper neurons.
    channels : int
        Into how many channels of equal size the lower neurons fall.
    rules : mapping
        The rules by name; other libraries' conventions have a table of their own.

    Returns
    -------
    Step
        Relevance of the lower neurons, and the books.
    """
    handed: list[list[Number]] = [[] for _ in a]
    booked: dict[str, list[Number]] = {account: [] for account in ACCOUNTS}
    shares = rules[rule["name"]](n, rule, a, channels)
    signs = [0] * len(neurons)
    if all(share.gate for share in shares):
        signs = [n.sign(own(n, neuron, a)) for neuron in neurons]
        booked["dropped"] += [R_k for R_k, sign in zip(R, signs, strict=True) if sign == 0]
    undefined, results = any(share.gate for share in shares) and 0 in signs, []
    for share in shares:
        entering = [R_k if share.gate in (0, sign) else None for R_k, sign in zip(R, signs, strict=True)]
        result, met_zero = _share_out(n, rule, share, neurons, entering, handed, booked)
        results.append(result)
        undefined |= met_zero
    books = {"arriving": n.total(R), "to_inputs": n.total(x for parts in handed for x in parts)}
    books |= {account: n.total(amounts) for account, amounts in booked.items()}
    return Step([n.total(parts) for parts in handed], results, books, undefined)


def own(n: Numbers, neuron: Neuron, a: Sequence[Number]) -> Number:
    """
    Give a neuron's own z_k: nothing modified, the bias in it.

    Parameters
    ----------
    n : Numbers
        The arithmetic.
    neuron : Neuron
        The neuron.
    a : sequence of Number
        Lower activations.

    Returns
    -------
    Number
        z_k, whose sign gates look at.
    """
    products = [a[j] * w for j, w in neuron.taps]
    return n.total(products if neuron.b is None else [*products, neuron.b])


def _share_out(
    n: Numbers,
    rule: Mapping[str, Any],
    share: Share,
    neurons: Sequence[Neuron],
    R: Sequence[Number | None],
    handed: list[list[Number]],
    booked: dict[str, list[Number]],
) -> tuple[dict[str, Any], bool]:
    """
    Run one share, of neurons that are let in: those whose R_k is not None.

    What each lower neuron is handed goes into `handed`, the rest into `booked`. Gives z, s and c, and whether
    a denominator was 0.
    """
    one, nothing = n.number(1), n.number(0)
    q = one if share.coefficient is None else share.coefficient
    seen = [[(j, share.terms(j, w)) for j, w in neuron.taps] for neuron in neurons]
    biases = [_bias(n, rule, share, neuron.b) for neuron in neurons]
    z = []
    for reach, b in zip(seen, biases, strict=True):
        z.append(n.total([*(p * w for _, terms in reach for p, w in terms), b]))
    eps = _eps(n, rule["stabilizer"], z)
    s, met_zero = [], False
    c: list[list[list[Number]]] = [[[] for _ in handed] for _ in share.terms(0, one)]
    for reach, b, z_k, R_k in zip(seen, biases, z, R, strict=True):
        stabilizer = _with_sign(n, rule["stabilizer"], eps, z_k)
        denominator, s_k = z_k + stabilizer, nothing
        if R_k is not None and n.vanishes(denominator):
            met_zero = True
            booked["dropped"].append(q * R_k)
        elif R_k is not None and not n.vanishes(R_k):
            s_k = n.quotient(R_k, denominator)
        s.append(s_k)
        for j, terms in reach:
            for t, (p, w) in enumerate(terms):
                c[t][j].append(w * s_k)
                handed[j].append(q * n.product(p, w, s_k))
        booked["stabilizer"].append(n.product(q, s_k, stabilizer))
        if rule["bias"] == "redistribute" and reach:
            part = n.quotient(n.product(q, s_k, b), n.number(len(reach)))
            for j, _ in reach:
                handed[j].append(part)
        else:
            booked["bias"].append(n.product(q, s_k, b))
    return {"z": z, "s": s, "c": [[n.total(parts) for parts in term] for term in c]}, met_zero


def _bias(n: Numbers, rule: Mapping[str, Any], share: Share, b: Number | None) -> Number:
    if b is None or share.bias is None or rule["bias"] == "ignore":
        return n.number(0)
    return share.bias(b)


def _eps(n: Numbers, stabilizer: Mapping[str, Any], z: Sequence[Number]) -> Number:
    """Give what is added to denominators; `relative` is a factor of the root mean square of z."""
    value = n.number(stabilizer["value"])
    if stabilizer["kind"] != "relative":
        return value
    squares = n.total(z_k * z_k for z_k in z)
    if n.vanishes(squares):
        return squares
    return value * n.root(n.quotient(squares, n.number(len(z))))


def _with_sign(n: Numbers, stabilizer: Mapping[str, Any], eps: Number, z_k: Number) -> Number:
    """Give eps the sign of z_k, sign(0) = +1; the unsigned one is the chapter's literal + eps."""
    if n.vanishes(eps) or stabilizer["kind"] == "unsigned" or n.sign(z_k) >= 0:
        return eps
    return -eps
