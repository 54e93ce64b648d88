"""The four steps, written once for every rule, layer and backend.

    z_k  =  sum over terms of  forward(p, w)  +  b                          step 1
    s_k  =  R_k / (z_k + stabilizer(z_k)),   0 where the denominator is 0   step 2
    c    =  transpose(s, w)   for each term                                 step 3
    R_j  =  coefficient * sum over terms of  p * c                          step 4

This is Eq. (10.2) of Montavon et al. 2019 with a list of terms in the place of a_j rho(w_jk).
`kernels.quotient` is steps 1 and 2, `kernels.redistribute` steps 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from lrpref.errors import BadInput, BadRule, LrprefError
from lrpref.exact import arithmetic_of
from lrpref.kernels import backend as get_backend
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import equal, holds_anything, ones_like, per_sample, zeros_like
from lrpref.layers import Layer, Linear
from lrpref.ledger import Ledger, Row
from lrpref.network import INPUT, Network
from lrpref.rules import Rule, Share, Stabilizer, parse


@dataclass(frozen=True)
class Step:
    """
    Relevance of the inputs of one layer, and its books.

    Parameters
    ----------
    parts : list of ndarray
        Relevance of each input, like the inputs.
    ledger : Row
        The books.
    """

    parts: list[Array]
    ledger: Row

    @property
    def relevance(self) -> Array:
        """Relevance of the (first) input."""
        return self.parts[0]


def relprop(layer: Layer, rule: Rule | str, a: Any, R: Any, *, backend: str = "numpy") -> Step:
    """
    Propagate relevance through one layer with one rule: the four steps of Montavon et al. 2019, Eq. (10.2).

    Parameters
    ----------
    layer : Layer
        Any layer of `lrpref.layers`, its arrays in the arithmetic of `a`.
    rule : Rule or str
        Any rule of `lrpref.rules`, or its name; layers that are not linear let relevance pass.
    a : array_like, shape (N, ...), or list of ndarray
        Lower activations; for sums and concatenations a list of one array per branch. Whole numbers are
        taken for float64.
    R : array_like, shape (N, ...)
        Relevance of the layer's output, in any unit; the result has the same.
    backend : str
        `numpy` or `loops`.

    Returns
    -------
    Step
        `.relevance`, like `a`, and `.ledger`: sum R = sum of what the books hold.

    Raises
    ------
    BadInput
        If R has not the shape of the layer's output, a number is not finite, or the layer takes another
        number of inputs.
    BadRule
        If the rule is unknown or does not fit the layer, or a denominator overflows.
    """
    several = isinstance(a, list | tuple) and all(isinstance(x, np.ndarray) for x in a)
    inputs = [_numbers(x) for x in (a if several else [a])]
    kernels = get_backend(backend)
    rule = parse(rule) if isinstance(rule, str) else rule
    if not isinstance(layer, Layer) or not isinstance(rule, Rule):
        raise BadRule(f"relprop takes a layer and a rule, such as 'gamma(0.25)'; got {rule!r:.60}")
    if len(inputs) != (layer.inputs or max(2, len(inputs))):
        raise BadInput(f"{layer.kind} takes {layer.inputs or '2 or more'} inputs; got {len(inputs)}")
    for x in (*inputs, _numbers(R)):
        if x.dtype.kind not in "fO" or (x.dtype.kind == "f" and not np.isfinite(x).all()):
            raise BadInput("a and R are to be finite real numbers")
    arithmetic = arithmetic_of(inputs[0])
    layer = arithmetic.cast(layer)
    shape = (len(inputs[0]), *layer.output_shape(*(x.shape[1:] for x in inputs)))
    R = arithmetic.array(_numbers(R))
    if R.shape != shape:
        raise BadInput(f"R is {R.shape}, wants the layer's output {shape}")
    return step(kernels, layer.kind, layer, rule, inputs, layer.forward(kernels, *inputs), R)


def _numbers(x: Any) -> Array:
    """Take whole numbers for float64."""
    x = np.asarray(x)
    return x.astype(np.float64) if x.dtype.kind in "biu" else x


def step(
    kernels: ModuleType, name: str, layer: Layer, rule: Rule, inputs: Sequence[Array], z: Array, R: Array
) -> Step:
    """
    Propagate relevance through one node.

    Parameters
    ----------
    kernels : module
        The backend.
    name : str
        The node's name, for the books.
    layer : Layer
        The node's layer.
    rule : Rule
        The node's rule.
    inputs : sequence of ndarray
        Lower activations.
    z : ndarray
        The layer's output in the forward pass.
    R : ndarray, like z
        Relevance that arrives.

    Returns
    -------
    Step
        Relevance of the inputs, and the books.
    """
    row = Row(name, layer.kind, str(rule), arriving=per_sample(R))
    if rule.passes or not layer.is_linear:
        row.rule = "pass"
        parts, padding = layer.passed(inputs, R)
        for part in parts:
            row.book("to_inputs", per_sample(part))
        if padding is not None:
            row.book("padding", padding)
        return Step(parts, row.close())
    linear = layer.linear(kernels, inputs, z, rule)
    lower = _run_shares(kernels, linear, arithmetic_of(R).cast(rule), R, row)
    return Step(layer.parts(lower), row.close())


def _run_shares(kernels: ModuleType, linear: Linear, rule: Rule, R: Array, row: Row) -> Array:
    """Run the four steps over the shares of a rule, and add up."""
    a, w, b = linear.a, linear.w, linear.b
    z = kernels.preactivation(linear.operation, [(a, w)], b) if linear.z is None else linear.z
    shares = rule.shares(a, w, b, z)
    lower = zeros_like(a)
    for share in shares:
        arriving = R if share.gate is None else np.where(share.gate, R, zeros_like(R))
        # before a ReLU nothing arrives where z <= 0, and after one a- is 0: such passes add exactly 0
        terms = [term for term in share.terms if holds_anything(term[0])] or share.terms[:1]
        if holds_anything(arriving):
            lower = lower + _four_steps(kernels, linear, rule, replace(share, terms=terms), arriving, row)
        elif rule.stabilizer.kind == "relative":
            row.eps.append(None)
    gates = [share.gate for share in shares if share.gate is not None]
    if len(gates) == len(shares):
        row.book("dropped", per_sample(np.where(np.logical_or.reduce(gates), zeros_like(R), R)))
    return lower


def _four_steps(kernels: ModuleType, linear: Linear, rule: Rule, share: Share, R: Array, row: Row) -> Array:
    """Run the four steps on one share, and book its accounts."""
    op, q = linear.operation, share.coefficient
    if rule.bias == "ignore" and share.b is not None:
        share = replace(share, b=None, z=None)
    eps, z = _stabilizer(kernels, linear, share, rule.stabilizer)
    if rule.stabilizer.kind == "relative":
        row.eps.append(eps)
    signed = rule.stabilizer.kind != "unsigned"
    s, sums = kernels.quotient(op, share.terms, share.b, R, eps, signed, z)  # steps 1 and 2
    lower, to_inputs = kernels.redistribute(op, share.terms, s, q)  # steps 3 and 4
    if rule.bias == "redistribute" and share.b is not None:
        extra, extra_sum, unconnected = _redistribute_bias(kernels, linear, share, s)
        lower, to_inputs, sums = lower + extra, to_inputs + extra_sum, sums._replace(bias=unconnected)
    row.book("to_inputs", to_inputs)
    row.book("bias", q * sums.bias)
    row.book("stabilizer", q * sums.stabilizer)
    row.book("dropped", q * sums.dropped)
    return lower


def _stabilizer(
    kernels: ModuleType, linear: Linear, share: Share, stabilizer: Stabilizer
) -> tuple[Array, Array | None]:
    """Give eps per sample, shape (N,), and the share's z where it had to be computed for that."""
    z = share.z
    arithmetic = arithmetic_of(linear.a)
    if stabilizer.kind != "relative":
        return arithmetic.array(np.full(len(linear.a), stabilizer.value)), z
    if z is None:
        z = kernels.preactivation(linear.operation, share.terms, share.b)
    wide = z if arithmetic.objects or z.dtype == np.longdouble else z.astype(np.float64)
    units = wide.reshape(len(z), -1)  # squares of large float32 would overflow
    mean_square = (units * units).sum(axis=1) / units.shape[1]
    return arithmetic.array(stabilizer.value * arithmetic.root(mean_square)), z


def _redistribute_bias(
    kernels: ModuleType, linear: Linear, share: Share, s: Array
) -> tuple[Array, Array, Array]:
    """R_j += sum_k q s_k b_k / n_k, with n_k the connected in-image taps; where n_k = 0 the bias keeps it."""
    ones = [(ones_like(linear.a), ones_like(linear.w))]
    taps = kernels.preactivation(linear.operation, ones, None)
    alone, owed = equal(taps, 0), s * share.b
    shared = np.where(alone, zeros_like(s), owed / np.where(alone, ones_like(taps), taps))
    extra, extra_sum = kernels.redistribute(linear.operation, ones, shared, share.coefficient)
    return extra, extra_sum, per_sample(np.where(alone, owed, zeros_like(s)))


def propagate(
    network: Network,
    rules: Mapping[str, Rule],
    activations: Mapping[str, Array],
    R: Array,
    *,
    top: str,
    kernels: ModuleType,
    watch: Callable[[str], None] | None = None,
) -> tuple[dict[str, Array], Ledger]:
    """
    Propagate relevance from a node to the network's input.

    Where a node feeds several others, their relevances add up.

    Parameters
    ----------
    network : Network
        The network, its arrays in the arithmetic of the activations.
    rules : mapping of str to Rule
        A rule for each node; `Pass` where the layer is not linear.
    activations : mapping of str to ndarray
        Output of every node, and of the input, in the forward pass.
    R : ndarray
        Relevance of the output of `top`.
    top : str
        The node to start from.
    kernels : module
        The backend.
    watch : callable, optional
        Called with each node's name when it is done.

    Returns
    -------
    relevance : dict of str to ndarray
        Relevance of the output of every node below `top`, and of the input.
    ledger : Ledger
        The books: f(x) = inputs + all accounts of all nodes.

    Raises
    ------
    LrprefError
        If a rule does not fit; the message names the node.
    """
    relevance: dict[str, Array] = {top: R}
    rows = []
    for node in reversed(network.nodes):
        if node.name not in relevance:
            continue
        inputs = [activations[name] for name in node.inputs]
        try:
            done = step(
                kernels,
                node.name,
                node.layer,
                rules[node.name],
                inputs,
                activations[node.name],
                relevance[node.name],
            )
        except LrprefError as error:
            raise type(error)(f"node '{node.name}': {error}") from None
        rows.append(done.ledger)
        if watch is not None:
            watch(node.name)
        for name, part in zip(node.inputs, done.parts, strict=True):
            done.ledger.handed[name] = done.ledger.handed.get(name, 0) + per_sample(part)
            relevance[name] = relevance[name] + part if name in relevance else part
    relevance.setdefault(INPUT, zeros_like(activations[INPUT]))
    return relevance, Ledger(rows, per_sample(R), per_sample(relevance[INPUT]))
