"""Every rule in exact arithmetic: the books close with ==, and the numbers are the chapter's.

The expectations come from `definition`, which follows the formulas of Montavon et al. 2019, Appendix
10.A, neuron by neuron, on a dense matrix of each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from strategies import EVERY_ID, EVERY_RULE_AND_LAYER, LAYERS, lower, variants

from lrpref import exact, relprop, rules
from lrpref.engine import Prepared, propagate
from lrpref.errors import Undecided
from lrpref.fold import fold
from lrpref.kernels.operations import Array, Part
from lrpref.kernels.reference import REFERENCE
from lrpref.kernels.signs import negative, positive
from lrpref.layers import (
    Add,
    AvgPool2d,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    Identity,
    Layer,
    LeakyReLU,
    MaxPool2d,
    Pad,
    ReLU,
    ReLU6,
    SumPool2d,
)
from lrpref.network import INPUT, Network, Node, chain
from lrpref.plan import prepare
from lrpref.rules import AlphaBeta, Epsilon, Flat, Gamma, GeneralizedGamma, Rule, WSquare, ZBox, Zero, ZPlus

ARITHMETICS = {"fractions": exact.FRACTIONS, "fmpq": exact.get("exact")}
F = exact.FRACTIONS


def q(*values: Any) -> Array:
    """Fractions in an array."""
    return F.array(np.array(values, dtype=object))


def rounded_root(value: Fraction) -> Fraction:
    """The square root, rounded to float64 once: sixty decimal digits stand for all of them."""
    with localcontext(prec=60):
        return Fraction(float((Decimal(value.numerator) / value.denominator).sqrt()))


# The slow definition.


@dataclass
class Map:
    """A layer as a dense matrix: w (K, J), b (K,), and which inputs each neuron is connected to."""

    w: Array
    b: Array
    connected: Array

    @classmethod
    def of(cls, layer: Layer, a: list[Array]) -> Map:
        """Column by column: the layer's response to unit vectors."""
        w, b = columns(layer, a)
        weights = {
            name: np.ones_like(getattr(layer, name)) for name in ("weight", "scale") if name in vars(layer)
        }
        responses, _ = columns(F.cast(replace(layer, **weights)), a)
        return cls(w, b, responses != 0)


def columns(layer: Layer, a: list[Array]) -> tuple[Array, Array]:
    """The matrix and the offset of a layer that is linear in all its inputs together."""
    zero = [np.zeros_like(x[:1]) + Fraction(0) for x in a]
    b = layer.forward(REFERENCE, *zero).ravel()
    found = []
    for m, x in enumerate(zero):
        for j in range(x.size):
            unit = x.copy()
            unit.flat[j] += 1
            found.append(layer.forward(REFERENCE, *zero[:m], unit, *zero[m + 1 :]).ravel() - b)
    return np.stack(found, axis=1), b


def winners(layer: MaxPool2d, a: Array, ties: str) -> Array:
    """The matrix (K, J) of the taps that hold each window's maximum: the first, or all of them."""
    (kh, kw), stride, padding = layer.kernel, layer.stride, layer.padding
    _, c, h, w = a.shape
    found = []
    for channel in range(c):
        for y in range(-padding, h + padding - kh + 1, stride):
            for x in range(-padding, w + padding - kw + 1, stride):
                rows, cells = range(max(y, 0), min(y + kh, h)), range(max(x, 0), min(x + kw, w))
                window = [(channel, v, u) for v in rows for u in cells]
                most = max(a[0][cell] for cell in window)
                holders = [cell for cell in window if a[0][cell] == most]
                row = np.full(a.shape[1:], Fraction(0))
                for cell in holders if ties == "split" else holders[:1]:
                    row[cell] += 1
                found.append(row.ravel())
    return np.stack(found)


Pass = tuple[Any, list[Any], Any, Callable[[Any], bool]]
"""q, the numerators n_j, the bias's numerator n_0, and for which z_k it applies."""


def always(z: Any) -> bool:
    return True


def passes(rule: Rule, a: Array, w: Array, b: Any, connected: Array) -> list[Pass]:
    """What the formula of each rule divides, for one neuron: a (J,), w (J,), b."""
    c = [x * y for x, y in zip(a, w, strict=True)]
    match rule:
        case Zero():
            return [(1, c, b, always)]
        case GeneralizedGamma(gamma=g):
            return [
                (1, [v + g * max(0, v) for v in c], b + g * max(0, b), lambda z: z > 0),
                (1, [v + g * min(0, v) for v in c], b + g * min(0, b), lambda z: z < 0),
            ]
        case Gamma(gamma=g):
            n = [x * (y + g * max(0, y)) for x, y in zip(a, w, strict=True)]
            return [(1, n, b + g * max(0, b), always)]
        case AlphaBeta(alpha=alpha, beta=beta):
            return [
                (alpha, [max(0, v) for v in c], max(0, b), always),
                (-beta, [min(0, v) for v in c], min(0, b), always),
            ]
        case Flat():
            return [(1, [Fraction(int(v)) for v in connected], 0, always)]
        case WSquare():
            return [(1, [v * v for v in w], 0, always)]
        case ZBox(low=low, high=high):
            n = [x * y - low.item() * max(0, y) - high.item() * min(0, y) for x, y in zip(a, w, strict=True)]
            return [(1, n, 0, always)]
        case _:  # winner-take-all: w holds the winners
            return [(1, list(w), 0, always)]


def stabilizers(rule: Rule, D: Sequence[Any]) -> list[Any]:
    """What is added to each denominator of a pass, by the stabilizer's own definition."""
    eps = rule.stabilizer.value
    if rule.stabilizer.kind == "unsigned":
        return [eps] * len(D)
    if rule.stabilizer.kind == "relative":  # the root is rounded to float64, as `exact` says
        eps *= rounded_root(Fraction(sum(d * d for d in D), len(D)))
    return [eps if d >= 0 else -eps for d in D]


def definition(rule: Rule, m: Map, a: Array, R: Array) -> tuple[Array, dict[str, Any]]:
    """Relevance (J,) of one sample, and the accounts."""
    lower = np.full(len(a), Fraction(0))
    books = {"bias": Fraction(0), "stabilizer": Fraction(0), "dropped": Fraction(0)}
    z = [sum(x * y for x, y in zip(a, w, strict=True)) + b for w, b in zip(m.w, m.b, strict=True)]
    of_neurons = [passes(rule, a, *row) for row in zip(m.w, m.b, m.connected, strict=True)]
    received = [False] * len(z)
    for share in range(len(of_neurons[0])):
        numbers = [neuron[share] for neuron in of_neurons]
        n_0 = [0 if rule.bias == "ignore" else bias for _, _, bias, _ in numbers]
        D = [sum(n) + bias for (_, n, _, _), bias in zip(numbers, n_0, strict=True)]
        for k, added in enumerate(stabilizers(rule, D)):
            coefficient, n, _, applies = numbers[k]
            if not applies(z[k]):
                continue
            received[k] = True
            if D[k] + added == 0:
                books["dropped"] += coefficient * R[k]
                continue
            s = coefficient * R[k] / (D[k] + added)
            books["stabilizer"] += s * added
            taps = [j for j in range(len(a)) if m.connected[k][j]]
            if rule.bias == "redistribute" and taps:
                for j in taps:
                    lower[j] += s * n_0[k] / len(taps)
            else:
                books["bias"] += s * n_0[k]
            for j in range(len(a)):
                lower[j] += s * n[j]
    books["dropped"] += sum(r for r, got in zip(R, received, strict=True) if not got)
    return lower, books


def linear_view(layer: Layer) -> Layer:
    """Max pooling under a linear rule is the sum pooling of the same geometry."""
    return SumPool2d(layer.kernel, layer.stride, layer.padding) if isinstance(layer, MaxPool2d) else layer


def rational(x: Array) -> Array:
    """Fractions of any exact numbers."""
    values = [v if isinstance(v, Fraction) else Fraction(int(v.p), int(v.q)) for v in x.flat]
    return np.array(values, dtype=object).reshape(x.shape)


@pytest.mark.parametrize("arithmetic", ARITHMETICS.values(), ids=ARITHMETICS)
@pytest.mark.parametrize(("name", "rule"), EVERY_RULE_AND_LAYER, ids=EVERY_ID)
def test_rule_is_its_definition_and_the_books_close(
    name: str, rule: Rule, arithmetic: exact.Arithmetic
) -> None:
    layer = F.cast(LAYERS[name][0])
    a = [F.array(x) for x in lower(name, 6)]
    rng = np.random.default_rng(7)
    z = layer.forward(REFERENCE, *a)
    R = q(*(Fraction(int(n), int(d)) for n, d in rng.integers(1, 9, (z.size, 2)))).reshape(z.shape) - 1
    numbers = [arithmetic.array(x) for x in a]
    joined = [np.concatenate([x[n].ravel() for x in a]) for n in range(len(R))]
    for n, sample in enumerate(joined):
        one = [x[n : n + 1] for x in a]
        if rule.selects:
            w = winners(layer, one[0], rule.selects)
            m = Map(w, np.full(len(w), Fraction(0)), w != 0)
        else:
            m = Map.of(linear_view(layer), one)
        for variant in variants(rule):
            done = relprop(LAYERS[name][0], variant, numbers, arithmetic.array(R))
            row = done.ledger
            wanted, books = definition(F.cast(variant), m, sample, R[n].ravel())
            got = np.concatenate([rational(part[n]).ravel() for part in done.parts])
            assert (got == wanted).all(), variant
            assert rational(row.to_inputs)[n] == wanted.sum(), variant
            for account, amount in books.items():
                assert rational(getattr(row, account))[n] == amount, (variant, account)
            assert row.residual[n] == 0, variant


def test_the_tables_hold_what_matters() -> None:
    """The cases above are not vacuous: denominators of 0, neurons of one sign, windows in the padding."""
    dropped = {
        (name, type(rule).__name__)
        for name, rule in EVERY_RULE_AND_LAYER
        for a in [[F.array(x) for x in lower(name, 6)]]
        for R in [F.array(np.ones(exact_layer(name).forward(REFERENCE, *a).shape))]
        if (relprop(LAYERS[name][0], rule, a, R).ledger.dropped != 0).any()
    }
    assert {("dense", "GeneralizedGamma"), ("batch norm 2d", "AlphaBeta"), ("convolution", "AlphaBeta"),
            ("windows in the padding", "Flat"), ("windows in the padding", "WSquare"),
            ("sum of two", "Zero"), ("sum pooling", "Zero"), ("max pooling", "Gamma")} <= dropped  # fmt: skip


# Rules against one another, and against other ways to write them.


def exact_layer(name: str) -> Layer:
    return F.cast(LAYERS[name][0])


WEIGHTED = ("dense", "convolution", "transposed convolution", "windows in the padding", "batch norm 1d")


def active(name: str, seed: int = 17) -> tuple[Layer, Array, Array, Map]:
    """A layer, one sample a >= 0, R_k > 0 where z_k > 0 and 0 elsewhere, and the layer's matrix."""
    layer, a = exact_layer(name), F.array(np.abs(lower(name, seed, samples=1)[0]))
    z = layer.forward(REFERENCE, a)
    R = np.where(z > 0, z + 1, z * 0)
    assert (R > 0).any()
    return layer, a, R, Map.of(layer, [a])


@pytest.mark.parametrize("name", WEIGHTED)
def test_z_plus_is_a_w_plus_over_its_sum_and_b_plus(name: str) -> None:
    layer, a, R, m = active(name)
    flat, wanted = a.ravel(), np.full(a.size, Fraction(0))
    for w, b, r in zip(m.w, m.b, R.ravel(), strict=True):
        below = sum(x * max(0, y) for x, y in zip(flat, w, strict=True)) + max(0, b)
        wanted += [x * max(0, y) * r / below if below else Fraction(0) for x, y in zip(flat, w, strict=True)]
    assert (relprop(layer, ZPlus(), a, R).relevance.ravel() == wanted).all()


@pytest.mark.parametrize("rule", [Flat(), WSquare()], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_flat_and_w2_conserve_all_but_what_is_dropped(name: str, rule: Rule) -> None:
    layer, a = exact_layer(name), [F.array(x) for x in lower(name, 8)]
    R = np.full(layer.forward(REFERENCE, *a).shape, Fraction(3, 7))
    done = relprop(layer, rule, a, R)
    row = done.ledger
    assert (sum(part.reshape(2, -1).sum(axis=1) for part in done.parts) == row.arriving - row.dropped).all()
    m = Map.of(linear_view(layer), [x[:1] for x in a])
    silent = ~(m.connected if isinstance(rule, Flat) else m.w != 0).any(axis=1)  # windows in the padding
    assert row.dropped[0] == R[0].ravel()[silent].sum()


@pytest.mark.parametrize("stabilizer", [rules.NOTHING, rules.signed(0.25)], ids=str)
@pytest.mark.parametrize(("sign", "received"), [(1, 2), (-1, -1)], ids=["all positive", "all negative"])
def test_alpha_beta_on_a_one_sided_neuron(sign: int, received: int, stabilizer: rules.Stabilizer) -> None:
    # the sign that is there gets alpha R (or -beta R), the bias included; the other part is dropped, or
    # booked under the stabilizer where there is one. D9 of the dialects.
    layer, R = Dense(q([1, 3]) * sign, q(2) * sign), q([5])
    row = relprop(layer, AlphaBeta(2, 1, stabilizer=stabilizer), q([1, 1]), R).ledger
    eps = Fraction(stabilizer.value)
    assert row.to_inputs + row.bias == received * R[0] * 6 / (6 + eps)
    other = (1 - received) * R[0]
    assert row.dropped == (0 if eps else other)
    assert row.stabilizer == (other + received * R[0] * eps / (6 + eps) if eps else 0)
    assert row.residual == 0


@pytest.mark.parametrize("rule", [Gamma, GeneralizedGamma])
@pytest.mark.parametrize("name", WEIGHTED)
def test_gamma_tends_to_z_plus_at_the_rate_of_one_over_gamma(name: str, rule: type[Gamma]) -> None:
    # With n and D the numerator and denominator of LRP-0, n+ and D+ those of z-plus, for one j and k
    #   gamma ((n + gamma n+)/(D + gamma D+) - n+/D+) = (n D+ - n+ D)/D+^2 / (1 + D/(gamma D+)),
    # and 0 < D <= D+: so gamma times the difference is its limit up to the limit / gamma.
    layer, a, R, m = active(name)
    flat = a.ravel()
    limit, bound = (np.full(a.size, Fraction(0)) for _ in range(2))
    for w, b, r in zip(m.w, m.b, R.ravel(), strict=True):
        if r:
            n, n_plus = flat * w, flat * np.maximum(w, 0)
            D, D_plus = n.sum() + b, n_plus.sum() + max(0, b)
            part = r * (n * D_plus - n_plus * D) / D_plus**2
            limit, bound = limit + part, bound + abs(part)
    assert (limit != 0).any()
    z_plus = relprop(layer, ZPlus(), a, R).relevance.ravel()
    for exponent in range(2, 7):
        gamma = 10**exponent
        scaled = gamma * (relprop(layer, rule(gamma), a, R).relevance.ravel() - z_plus)
        assert (abs(scaled - limit) <= bound / gamma).all()


@pytest.mark.parametrize("name", WEIGHTED)
def test_generalized_gamma_is_gamma_where_the_chapter_uses_it(name: str) -> None:
    layer, a, R, _ = active(name)
    for rule in variants(Gamma(0.25)):
        if rule.stabilizer.kind == "relative":
            continue  # its RMS is over all neurons of the layer, those with R_k = 0 included
        one = relprop(layer, rule, a, R)
        general = GeneralizedGamma(0.25, stabilizer=rule.stabilizer, bias=rule.bias)
        other = relprop(layer, general, a, R)
        assert (one.relevance == other.relevance).all()
        assert one.ledger.bias == other.ledger.bias


def test_generalized_gamma_differs_from_gamma_elsewhere() -> None:
    layer, R = Dense(q([1, -2])), q([1])
    for a in (q([-1, 2]), q([1, 1])):  # a negative input; z < 0
        one, other = (relprop(layer, rule(1), a, R).relevance for rule in (Gamma, GeneralizedGamma))
        assert (one != other).any()


# The cases on which libraries disagree: the exact values, published in docs and dialects.md.


def dense(w: Sequence[Any], b: Any = 0) -> Dense:
    return Dense(q(w), q(b))


def image(*values: Any) -> Array:
    return q(*values).reshape(1, 1, 1, -1)


DIALECTS: dict[str, tuple[Layer, Rule, Any, list[str]]] = {
    "D1 negative z": (dense([-2]), Epsilon(1), q([1]), ["2/3"]),
    "D3 bias in the denominator": (dense([3, 1], -3), Zero(), q([1, 2]), ["3/2", "1"]),
    "D4 gamma on the bias": (dense([3, -2], 2), Gamma(1), q([1, 1]), ["3/4", "-1/4"]),
    "D5 simple gamma": (dense([1, 1]), Gamma(1), q([-1, 2]), ["-1", "2"]),
    "D5 generalized gamma": (dense([1, 1]), GeneralizedGamma(1), q([-1, 2]), ["-1/3", "4/3"]),
    "D6 b > 0": (dense([3, 1], 0.5), AlphaBeta(1, 0), q([1, -2]), ["6/7", "0"]),
    "D6 b < 0": (dense([3, 1], -0.5), AlphaBeta(1, 0), q([1, -2]), ["1", "0"]),
    "D7 b- in beta": (dense([1, -1], -1), AlphaBeta(2, 1), q([1, 1]), ["2", "-1/2"]),
    "D9 all positive": (dense([1, 1]), AlphaBeta(2, 1), q([1, 3]), ["1/2", "3/2"]),
    "D9 all negative": (dense([1, 1]), AlphaBeta(2, 1), q([-1, -3]), ["-1/4", "-3/4"]),
    "D11 w2 without bias": (dense([1, 2], 3), WSquare(), q([1, 1]), ["1/5", "4/5"]),
    # x, w, l, h such that all published values follow, the other library's 5/9 = z/(z + b) too
    "D13 z-box": (dense([2, -1], 1), ZBox(-1, 1), q(["1/2", "-1/4"]), ["12/17", "5/17"]),
    "D14 tie": (MaxPool2d((1, 2)), rules.WinnerTakeAll(), image(1, 1), ["1", "0"]),
    "D14 window of zeros": (MaxPool2d((1, 2)), rules.WinnerTakeAll(), image(0, 0), ["1", "0"]),
    "D15 average pooling": (AvgPool2d((1, 2)), Zero(), image(-1, 3), ["-1/2", "3/2"]),
    "D17 residual sum": (Add(), Zero(), [q([1]), q([-3])], ["-1/2", "3/2"]),
}  # fmt: skip


@pytest.mark.parametrize(("layer", "rule", "a", "wanted"), DIALECTS.values(), ids=DIALECTS)
def test_dialects(layer: Layer, rule: Rule, a: Any, wanted: list[str]) -> None:
    shape = layer.forward(REFERENCE, *(a if isinstance(a, list) else [a])).shape
    done = relprop(layer, rule, a, np.full(shape, Fraction(1)))
    assert [v for part in done.parts for v in part.ravel()] == [Fraction(v) for v in wanted]
    assert done.ledger.residual == 0


def explain(
    network: Network, x: Array, R: Array | None = None, rule: Rule | None = None, **changed: Rule
) -> Any:
    """Relevance of all nodes and the ledger, under LRP-0 and winner-take-all unless said otherwise."""
    chosen = {
        node.name: (rules.WinnerTakeAll() if isinstance(node.layer, MaxPool2d) else rule or Zero())
        if node.layer.is_linear
        else rules.Pass()
        for node in network.nodes
    } | changed
    network = network.astype(exact.arithmetic_of(x))
    values = network.activations(x, REFERENCE)
    R = values[network.top] if R is None else R
    ready = prepare(network, chosen, REFERENCE, exact.arithmetic_of(x))
    return propagate(network, ready, values, R, kernels=REFERENCE)


def test_dialect_d12_flat_at_the_border() -> None:
    # a window of one padding cell and two pixels: the implicit padding is not in the image, the layer Pad is
    x, ones = image(1, 1), np.full((1, 1, 1, 3), Fraction(1))
    inside = chain([("conv", Conv2d(ones, padding=(0, 0, 1, 0)))], (1, 1, 2))
    ahead = chain([("pad", Pad((0, 0, 1, 0))), ("conv", Conv2d(ones))], (1, 1, 2))
    for network, wanted in ((inside, 1), (ahead, Fraction(2, 3))):
        relevance, ledger = explain(network, x, np.full((1, 1, 1, 1), Fraction(1)), Flat())
        assert relevance[INPUT].sum() == wanted
        assert ledger.account("padding") == 1 - wanted
        assert ledger.residual == 0


def test_dialect_d16_batch_norm_under_lrp_0_is_as_folded() -> None:
    # contributions 2 and 2, bias 1; norm 3 z - 5. By hand folded: 6 and 6, bias -2.
    network = chain([("dense", dense([1, 1], 1)), ("norm", BatchNorm(q(3), q(-5)))], (2,))
    x, R = q([2, 2]), q([1])
    for version in (chain([("dense", dense([3, 3], -2))], (2,)), network, fold(network)):
        relevance, _ = explain(version, x, R)
        assert relevance[INPUT].tolist() == [[Fraction(3, 5)] * 2]
    passed, _ = explain(network, x, R, norm=rules.Pass())
    assert passed[INPUT].tolist() == [[Fraction(2, 5)] * 2]  # what the others give


def test_dialect_d22_a_layer_used_twice() -> None:
    # 2 (2 x + 1) + 1 at x = 3: 14/15 times 6/7 (the wrong .871 is 14/15 twice)
    shared = dense([2], 1)
    relevance, _ = explain(chain([("first", shared), ("second", shared)], (1,)), q([3]), q([1]))
    assert relevance[INPUT] == Fraction(4, 5)
    assert round(float(Fraction(14, 15) ** 2), 3) == 0.871


# LRP-0 on a network is gradient times input: the gradient is a product of explicit Jacobian matrices.


def jacobian(layer: Layer, inputs: list[Array], at_zero: int) -> Array:
    """The layer's matrix of derivatives at this input, by its definition; `at_zero` is ReLU's at 0."""
    x = inputs[0].ravel()
    match layer:
        case ReLU6():
            return np.diag([Fraction(int(0 < v < 6)) for v in x])
        case ReLU():
            return np.diag([Fraction(at_zero if v == 0 else int(v > 0)) for v in x])
        case LeakyReLU():
            return np.diag([Fraction(1) if v > 0 else F.number(layer.slope) for v in x])
        case MaxPool2d():
            return winners(layer, inputs[0], "first")
        case _:
            return columns(layer, inputs)[0]


def gradient(network: Network, x: Array, target: int, at_zero: int = 0) -> Array:
    """d score / d x for one sample, the product of the Jacobians from the input up."""
    network = network.astype(F)
    values = network.activations(x, REFERENCE)
    of = {INPUT: np.diag([Fraction(1)] * x.size)}
    for node in network.nodes:
        J = jacobian(node.layer, [values[name] for name in node.inputs], at_zero)
        of[node.name] = J @ np.concatenate([of[name] for name in node.inputs])
    return of[network.top][target].reshape(x.shape)


def weights(seed: int, *shape: int) -> Array:
    """Multiples of 1/8 that are not 0."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 9, shape) * rng.choice([-1, 1], shape) / 8


def plain_network() -> Network:
    return chain(
        [
            ("conv", Conv2d(weights(1, 4, 2, 3, 2), weights(2, 4), (1, 2), (1, 1, 0, 1))),
            ("relu", ReLU()),
            ("max", MaxPool2d((2, 2), 1, 1)),
            ("depthwise", Conv2d(weights(3, 4, 1, 2, 2), weights(4, 4), dilation=2, groups=4)),
            ("leaky", LeakyReLU(0.25)),
            ("average", AvgPool2d((2, 2), 2, ceil_mode=True)),
            ("flatten", Flatten()),
            ("dropout", Dropout()),
            ("dense", Dense(weights(5, 5, 8), weights(6, 5))),
            ("relu2", ReLU()),
            ("score", Dense(weights(7, 3, 5), weights(8, 3))),
        ],
        (2, 4, 4),
    )


def branched_network() -> Network:
    """A residual sum, a concatenation, an explicit padding, and a node and an input that fan out."""
    return Network(
        (
            Node("conv1", Conv2d(weights(11, 3, 1, 2, 2), weights(12, 3)), (INPUT,)),
            Node("relu1", ReLU(), ("conv1",)),
            Node("conv2", Conv2d(weights(13, 3, 3, 3, 3), weights(14, 3), padding=1), ("relu1",)),
            Node("norm", BatchNorm(weights(15, 3), weights(16, 3)), ("conv2",)),
            Node("sum", Add(), ("norm", "relu1")),
            Node("relu2", ReLU(), ("sum",)),
            Node("pad", Pad((0, 1, 1, 0)), (INPUT,)),
            Node("side", Conv2d(weights(17, 2, 1, 3, 3), weights(18, 2)), ("pad",)),
            Node("cut", SumPool2d((2, 2), 1, (1, 0, 0, 1)), ("side",)),
            Node("concat", Concat(), ("relu2", "cut", "relu1")),
            Node("identity", Identity(), ("concat",)),
            Node("global", AvgPool2d((2, 3), 1), ("identity",)),
            Node("flatten", Flatten(), ("global",)),
            Node("score", Dense(weights(19, 2, 16), weights(20, 2)), ("flatten",)),
        ),
        (1, 4, 4),
    )


def decoding_network() -> Network:
    """To a smaller image and back to a larger one, as segmentation networks do."""
    return chain(
        [
            ("down", Conv2d(weights(21, 4, 2, 2, 2), weights(22, 4), 2)),
            ("relu1", ReLU()),
            ("up", ConvTranspose2d(weights(23, 4, 1, 3, 2), weights(24, 2), (2, 3), (1, 0), (1, 2), 1, 2)),
            ("relu2", ReLU()),
            ("again", ConvTranspose2d(weights(25, 2, 1, 2, 2), None, 1, (1, 0, 0, 1), 1, 2)),
            ("flatten", Flatten()),
            ("score", Dense(weights(26, 2, 54), weights(27, 2))),
        ],
        (2, 4, 4),
    )


NETWORKS = {"plain": plain_network, "branched": branched_network, "decoding": decoding_network}


def pixels(network: Network, seed: int) -> Array:
    return np.random.default_rng(seed).integers(-40, 41, (1, *network.input_shape)) / 8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_lrp_0_on_a_network_is_gradient_times_input(make: Callable[[], Network], seed: int) -> None:
    network = make()
    x = F.array(pixels(network, seed))
    score = network.astype(F).activations(x, REFERENCE)[network.top]
    target = seed % score.size
    chosen = np.array([Fraction(int(k == target)) for k in range(score.size)])
    assert score[0, target] != 0
    wanted = gradient(network, x, target)
    relevance, ledger = explain(network, x, score * chosen)
    assert (relevance[INPUT] == wanted * x).all()
    assert (rational(network.gradient(x, target, dtype="exact")) == wanted).all()
    assert all(row.residual == 0 for row in ledger)
    assert ledger.residual == 0
    assert ledger.account("bias") == score[0, target] - (wanted * x).sum()  # the rest is the biases'


def branches(*branch: Layer, input_shape: tuple[int, ...] = (2,)) -> Network:
    """A sum of layers that all read the input."""
    names = tuple(f"branch{i}" for i in range(len(branch)))
    nodes = [Node(name, layer, (INPUT,)) for name, layer in zip(names, branch, strict=True)]
    return Network((*nodes, Node("score", Add(), names)), input_shape)


def layered(*layers: Layer, input_shape: tuple[int, ...] = (2,)) -> Network:
    return chain([(f"layer{i}", layer) for i, layer in enumerate(layers)], input_shape)


ZERO_AND_ONE = Dense(q([1, -1], [1, 0]))  # z = (0, 1) at x = (1, 1)
BOTH = dense([1, 1])
POOLED = layered(MaxPool2d((1, 2), 2, 0), Flatten(), input_shape=(1, 1, 2))

COUNTEREXAMPLES: dict[str, tuple[Network, Array, dict[str, Any]]] = {
    "a zero branch of a sum": (branches(dense([1, -1]), BOTH), q([1, 1]), {}),
    "z exactly 0": (layered(ZERO_AND_ONE, BOTH), q([1, 1]), {}),
    "score 0": (layered(dense([1, -1])), q([1, 1]), {}),
    "ReLU6 saturated": (layered(dense([8]), ReLU6(), dense([1]), input_shape=(1,)), q([1]), {}),
    "gradient 1 at ReLU's 0": (layered(ZERO_AND_ONE, ReLU(), BOTH), q([1, 1]), {"at_zero": 1}),
    "a stabilizer": (layered(BOTH), q([1, 2]), {"rule": Epsilon(0.5)}),
    "bias ignored": (layered(dense([1, 1], 1)), q([1, 2]), {"rule": Zero(bias="ignore")}),
    "bias redistributed": (layered(dense([1, 1], 1)), q([1, 2]), {"rule": Zero(bias="redistribute")}),
    "ties split": (POOLED, image(1, 1), {"layer0": rules.WinnerTakeAll("split")}),
    "max pooling as a sum": (POOLED, image(1, 2), {"layer0": Zero()}),
}


@pytest.mark.parametrize(("network", "x", "change"), COUNTEREXAMPLES.values(), ids=COUNTEREXAMPLES)
def test_each_condition_of_gradient_times_input_is_needed(
    network: Network, x: Array, change: dict[str, Any]
) -> None:
    at_zero = change.get("at_zero", 0)
    relevance, ledger = explain(network, x, **{k: v for k, v in change.items() if k != "at_zero"})
    assert (relevance[INPUT] != gradient(network, x, 0, at_zero) * x).any()
    assert ledger.residual == 0, "the books close all the same"
    if change:  # the change alone makes the difference
        relevance, _ = explain(network, x)
        assert (relevance[INPUT] == gradient(network, x, 0) * x).all()
    else:  # so does the input: elsewhere the two agree
        x = x * Fraction(1, 2) * np.arange(1, 2 * x.size, 2)
        relevance, _ = explain(network, x)
        assert (relevance[INPUT] == gradient(network, x, 0) * x).all()


# Balls enclose what is exact.


def ends(x: Array) -> tuple[Array, Array]:
    """The ends of each ball, exactly, as fractions."""
    parts = []
    for part in ("mid", "rad"):
        pairs = [getattr(v, part)().man_exp() for v in x.flat]
        values = [Fraction(int(m)) * Fraction(2) ** int(e) for m, e in pairs]
        parts.append(np.array(values, dtype=object).reshape(x.shape))
    return parts[0] - parts[1], parts[0] + parts[1]


def encloses(ball: Array, value: Array) -> bool:
    low, high = ends(ball)
    return bool(((low <= value) & (value <= high)).all())


@pytest.mark.parametrize(("name", "rule"), EVERY_RULE_AND_LAYER, ids=EVERY_ID)
def test_balls_enclose_the_exact_relevance(name: str, rule: Rule) -> None:
    ball, a = exact.get("ball"), lower(name, 9)
    z = exact_layer(name).forward(REFERENCE, *(F.array(x) for x in a))
    R = np.random.default_rng(10).integers(-8, 9, z.shape) / 8
    for variant in variants(rule):
        if variant.stabilizer.kind == "relative":
            continue  # its root leaves the rationals: there is no exact value to enclose
        if variant.stabilizer.value:  # 0.3 meets no z: with weights 1/3, whether z + eps is 0 is undecidable
            other = replace(variant.stabilizer, value=0.3)
            options = {"eps": other} if isinstance(variant, Epsilon) else {}
            variant = variant.with_options(stabilizer=other, **options)
        wanted, got = (
            relprop(LAYERS[name][0], variant, [kind.array(x) for x in a], kind.array(R)) for kind in (F, ball)
        )
        assert all(encloses(y, x) for x, y in zip(wanted.parts, got.parts, strict=True)), variant
        for account in ("to_inputs", "bias", "stabilizer", "dropped"):
            assert encloses(getattr(got.ledger, account), getattr(wanted.ledger, account)), (variant, account)
        assert encloses(got.ledger.residual, np.full(2, Fraction(0)))


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_balls_enclose_the_exact_relevance_of_a_network(make: Callable[[], Network]) -> None:
    x = pixels(make(), 1)
    results = []
    with exact.precision("ball", 200):
        for kind in (F, exact.get("ball")):
            relevance, ledger = explain(make().astype(kind), kind.array(x))
            results.append((relevance[INPUT], ledger))
        (wanted, _), (got, ledger) = results
        assert encloses(got, wanted)
        assert encloses(ledger.residual, np.full(1, Fraction(0)))
        low, high = ends(got)
        # 200 bits, of which the chain of 11 nodes loses less than 8 each
        assert (high - low).max() <= Fraction(1, 2**100)


def test_an_undecided_sign_is_an_error_that_says_where() -> None:
    flint = pytest.importorskip("flint")
    straddling = np.array([[flint.arb(1), flint.arb(0, 1)]], dtype=object)  # 1, and 0 +- 1
    layer, R = Dense(np.array([[0.5, 1.0]])), exact.get("ball").array([[1.0]])
    with pytest.raises(Undecided, match=r"a sign or a maximum is undecided at index \(0, 1\) \(1 such\)"):
        relprop(layer, ZPlus(), straddling, R)
    for part in (positive, negative):
        with pytest.raises(Undecided, match=r"undecided at index \(0, 1\)"):
            part(straddling)
    with pytest.raises(Undecided, match=r"undecided at index \(0, 0\)"):
        relprop(layer, Zero(), straddling, R)  # z = 1/2 +- 1
    network = chain([("first", layer)], (2,)).astype(exact.get("ball"))
    with pytest.raises(Undecided, match="node 'first': a sign"):
        explain(network, straddling, R)


# The books can fail to close.


@dataclass(frozen=True)
class OneThousandthMore(Zero):
    """LRP-0 that hands on 1.001 R."""

    def shares(self, a: Part, w: Array, b: Array) -> list[rules.Share]:
        return [replace(share, coefficient=F.number(1.001)) for share in super().shares(a, w, b)]


class Faulty:
    """The reference with one function replaced."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(REFERENCE, name)


def scaled(*arguments: Any) -> tuple[Array, Array]:
    R, to_inputs = REFERENCE.redistribute(*arguments)
    return R * F.number(1.001), to_inputs * F.number(1.001)


def scaled_secretly(*arguments: Any) -> tuple[Array, Array]:
    R, to_inputs = REFERENCE.redistribute(*arguments)
    return R * F.number(1.001), to_inputs


def test_a_rule_that_does_not_conserve_leaves_a_residual() -> None:
    layer, a, R, _ = active("dense")
    assert relprop(layer, Zero(), a, R).ledger.residual == 0
    assert relprop(layer, OneThousandthMore(), a, R).ledger.residual == R.sum() * (1 - F.number(1.001))


def test_a_kernel_that_does_not_conserve_leaves_a_residual() -> None:
    layer, a, R, _ = active("dense")
    z = layer.forward(REFERENCE, a)
    ready = Prepared(Faulty(redistribute=scaled), layer, Zero(), [a.shape[1:]], F)
    row = ready.step("node", [a], z, R).ledger.close(REFERENCE.download)
    assert row.residual == row.to_inputs * (1 / F.number(1.001) - 1) != 0


@pytest.mark.parametrize("at", [0, 1])
def test_a_kernel_that_misreports_leaves_a_residual_in_the_network(at: int) -> None:
    network, x = layered(BOTH, dense([3])), q([1, 2])
    values = network.activations(x, REFERENCE)
    called = iter(range(2))

    def once(*arguments: Any) -> tuple[Array, Array]:
        return (scaled_secretly if next(called) == at else REFERENCE.redistribute)(*arguments)

    faulty = Faulty(redistribute=once)
    ready = prepare(network, {"layer0": Zero(), "layer1": Zero()}, faulty, F)
    _, ledger = propagate(network, ready, values, values[network.top], kernels=faulty)
    assert all(row.residual == 0 for row in ledger), "each row believes what the kernel reported"
    assert ledger.residual == 9 * (1 - F.number(1.001))
