"""The lesson: one neuron, or one layer, of an explanation, with every number of the four steps.

The numbers are computed anew, by plain sums over the connections that `lrpref.connections` enumerates, from
what the forward pass and the layers above left at the neuron: its lower activations and R_k. So a trace is a
check of the engine, too: it holds what the engine hands out in the same place, and says whether they agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrpref import exact
from lrpref.checks import is_whole, whole
from lrpref.connections import Connections, Index, connections
from lrpref.engine import activate
from lrpref.errors import BadInput
from lrpref.explanation import Explanation
from lrpref.kernels import BACKENDS
from lrpref.kernels.operations import Array, Part, lower, taken
from lrpref.kernels.signs import equal, greater, zeros_like
from lrpref.layers import Linear, LinearLayer, SoftMin
from lrpref.ledger import ACCOUNTS, Row
from lrpref.plan import Plan
from lrpref.rules import Rule, Share
from lrpref.spot import Lower, look

LIMIT = 20_000_000
"""About so many connections a layer may have that is traced neuron by neuron: it takes a minute."""

class Term(NamedTuple):
    """
    One term (p, w) of a share, at the connections of one neuron.

    Parameters
    ----------
    name : str
        What p is: `a`, `a+`, `a-`, `1`, or `p` for numbers of the rule's own.
    p, w : ndarray, shape (M,)
        What enters the sum in the place of a_j and of w_jk.
    c : ndarray, shape (M,)
        w s_k: step 3, as far as this neuron has a part in it.
    own : bool
        Whether w is the layer's own weights, not modified.
    """

    name: str
    p: Array
    w: Array
    c: Array
    own: bool


class ShareTrace(NamedTuple):
    """
    The four steps of one share of the rule, at one neuron with M connections.

    Parameters
    ----------
    terms : list of Term
        What enters the sums.
    coefficient : number
        q.
    gate : int
        The sign that the layer's own z_k must have; 0: any.
    R : number
        What the share receives: R_k, or 0 where its gate is shut.
    b : number
        Bias, 0 where there is none.
    z_jk : ndarray, shape (M,)
        Step 1, summand by summand: sum over terms of p w.
    z : number
        Step 1: z_k.
    eps : number
        What the stabilizer adds, with its sign.
    s : number
        Step 2: R / (z + eps), 0 where that denominator is 0.
    relevance : ndarray, shape (M,)
        Step 4: q times the sum over terms of p c, and the bias's part where the rule redistributes it.
    from_bias : number
        That part, the same for each connection.
    accounts : dict of str to number
        What bias and stabilizer took, and what was dropped.
    """

    terms: list[Term]
    coefficient: Any
    gate: int
    R: Any
    b: Any
    z_jk: Array
    z: Any
    eps: Any
    s: Any
    relevance: Array
    from_bias: Any
    accounts: dict[str, Any]


class Check(NamedTuple):
    """
    The comparison of a trace with the engine.

    Parameters
    ----------
    agrees : bool
        Whether all numbers agree: rationals are equal, balls overlap, floats differ by rounding.
    difference : float
        The largest difference; of balls, with their radii.
    bound : float
        What rounding can make of it; 0 for rationals and balls.
    """

    agrees: bool
    difference: float
    bound: float


@dataclass(frozen=True)
class Lesson:
    """
    What the traces of a neuron and of a layer have in common.

    Parameters
    ----------
    node, layer, rule : str
        Where, and what applies there: `pass` or another way where the layer takes no rule.
    dtype : str
        The arithmetic of the trace.
    engine : str
        The arithmetic in which the explanation was computed.
    operation : str
        The linear map that the rule sees, a function of a backend's table; empty where there is no rule.
    applied : Rule
        The rule itself.
    R : number
        The relevance that arrives: R_k, or its sum over the layer.
    lower : list of (str, tuple of int)
        Lower neurons j: the node read, and where j stands in one sample of its output. M of them.
    a : ndarray, shape (M,)
        Their activations a_j.
    relevance : ndarray, shape (M,)
        Step 4: what they receive.
    accounts : dict of str to number
        What the accounts took.
    residual : number
        R less all of that: rounding, or exactly 0.
    check : Check
        Whether the engine hands out the same.
    """

    node: str
    layer: str
    rule: str
    dtype: str
    engine: str
    operation: str
    applied: Rule
    R: Any
    lower: list[Lower]
    a: Array
    relevance: Array
    accounts: dict[str, Any]
    residual: Any
    check: Check


@dataclass(frozen=True)
class Trace(Lesson):
    """
    The four steps at one neuron k of a layer, number by number.

    Parameters
    ----------
    node, layer, rule, dtype, engine, operation : str
        See `Lesson`.
    applied : Rule
        See there.
    R : number
        See there.
    lower : list of (str, tuple of int)
        Those that are connected to k.
    a, relevance : ndarray, shape (M,)
        See there.
    accounts : dict of str to number
        See there.
    residual : number
        See there.
    check : Check
        See there.
    neuron : tuple of int
        Where k stands in one sample of the output.
    z : number
        The layer's own z_k; without a rule, the layer's output there.
    w : ndarray, shape (M,)
        The weights w_jk; of a soft minimum p_j, by which it shares relevance; empty for other layers without
        a rule.
    shares : list of ShareTrace
        The four steps, once for each share of the rule.
    totals : ndarray, shape (M,)
        R_j: what j receives from all its readers.
    """

    neuron: Index
    z: Any
    w: Array
    shares: list[ShareTrace]
    totals: Array


class Upper(NamedTuple):
    """
    Steps 1 and 2 at one neuron of a traced layer.

    Parameters
    ----------
    neuron : tuple of int
        Where it stands.
    R : number
        R_k.
    shares : list of (z, eps, s)
        One for each share of the rule.
    """

    neuron: Index
    R: Any
    shares: list[tuple[Any, Any, Any]]


@dataclass(frozen=True)
class LayerTrace(Lesson):
    """
    The four steps of one layer: those of its neurons, added up.

    Parameters
    ----------
    node, layer, rule, dtype, engine, operation : str
        See `Lesson`.
    applied : Rule
        See there.
    R : number
        See there.
    lower : list of (str, tuple of int)
        All of them.
    a, relevance : ndarray, shape (M,)
        See there.
    accounts : dict of str to number
        See there.
    residual : number
        See there.
    check : Check
        See there.
    neurons : list of Upper
        Steps 1 and 2 of every neuron at which something arrives.
    c : list of (int, str, ndarray of shape (M,))
        Step 3 for each term of each share: which share, what p is, and c_j = sum_k w_jk s_k.
    """

    neurons: list[Upper]
    c: list[tuple[int, str, Array]]


def trace(
    explanation: Explanation,
    node: str,
    neuron: int | Sequence[int] | str = "max",
    *,
    sample: int = 0,
    dtype: str | None = None,
) -> Trace:
    """
    Take one neuron of an explained network through the four steps, number by number.

    Parameters
    ----------
    explanation : Explanation
        What `lrpref.explain` gave.
    node : str
        The layer. Under the head `log-odds` its own two are there, too: `log-odds`, and `log-ratios` where no
        dense layer on top is merged with them.
    neuron : int, sequence of int, or "max"
        Which neuron k: a flat index, or (channel, row, column); `max` is where R_k is farthest from 0.
    sample : int
        Which input of the batch.
    dtype : str, optional
        The arithmetic of the trace, if not the explanation's: `exact` takes the floats that arrive at the
        neuron for the numbers they are, and goes on without rounding.

    Returns
    -------
    Trace
        The numbers, and whether the engine hands out the same.

    Raises
    ------
    BadInput
        If there is no such node, neuron or sample, or nothing arrives at the node.
    """
    plan = _plan(explanation)
    with plan.precision():
        place = _Place(plan, explanation, node, sample, dtype)
        return place.trace(place.find(neuron))


def trace_layer(
    explanation: Explanation, node: str, *, sample: int = 0, dtype: str | None = None
) -> LayerTrace:
    """
    Take one layer of an explained network through the four steps, neuron by neuron.

    Parameters
    ----------
    explanation : Explanation
        What `lrpref.explain` gave.
    node : str
        The layer.
    sample : int
        Which input of the batch.
    dtype : str, optional
        The arithmetic of the trace, if not the explanation's; see `trace`.

    Returns
    -------
    LayerTrace
        The numbers, and whether the engine hands out the same.

    Raises
    ------
    BadInput
        If there is no such node or sample, nothing arrives at the node, or it has too many connections.
    """
    plan = _plan(explanation)
    with plan.precision():
        return _Place(plan, explanation, node, sample, dtype).trace_layer()


def _plan(e: Explanation) -> Plan:
    """Give the plan that the explanation was computed by."""
    backend = e.backend if e.backend in BACKENDS else "numpy"  # a table of one's own has no name to go by
    return Plan(
        e.network, rules=e.rules, backend=backend, dtype=e.dtype, head=e.head, dialect=e.dialect
    )


class _Place:
    """One layer of an explained network, and what enters its four steps for one sample."""

    def __init__(
        self, plan: Plan, explanation: Explanation, node: str, sample: int, dtype: str | None
    ) -> None:
        e, kernels, canonical = explanation, plan.kernels, plan.canonical
        sample = whole("sample", sample, 0, len(e.x) - 1)
        self.kernels, self.engine = kernels, plan.arithmetic
        self.arithmetic = exact.get(dtype or e.dtype)
        self.same = self.arithmetic.name == self.engine.name
        with np.errstate(over="ignore", invalid="ignore"):
            x = kernels.upload(self.engine.array(e.x[sample : sample + 1]))
            values = activate(canonical, plan.prepared, x)
        spot = look(plan, e, values, node, sample)
        self.name, self.kind, self.prepared, self.inputs, self.z, self.R, self.names, totals = spot
        self.layer, self.rule = self.prepared.layer, self.prepared.rule
        # all that is read, one after the other, as one vector
        home = [kernels.download(x) for x in self.inputs]
        self.a = self._take(np.concatenate([x.ravel() for x in home]))
        self.totals = self._take(totals)
        self.own_z = self._take(kernels.download(self.z))[0]
        self.p = self.a[:0]  # the weights of a soft minimum
        if isinstance(self.layer, SoftMin):
            self.p = self._take(self.layer.weights(home[0])[0])
        self.linear: Linear | None = None
        if isinstance(self.layer, LinearLayer) and not self.rule.passes:
            self.joined = self._take(self.layer.join(home))
            self.linear = self.arithmetic.cast(self.layer).linear(self.joined, self.rule)
            self.cast_rule = self.arithmetic.cast(self.rule)

    def _take(self, x: Array) -> Array:
        """Take numbers of the engine over into the arithmetic of the trace."""
        return x if self.same else self.arithmetic.array(x)

    def find(self, neuron: int | Sequence[int] | str) -> Index:
        """Read which neuron is meant."""
        shape = self.R.shape[1:]
        size = math.prod(shape)
        if isinstance(neuron, str) and neuron == "max":
            neuron = int(abs(exact.as_float(self.R)).argmax())
        try:
            several: Any = (neuron,) if is_whole(neuron) else neuron
            given = tuple(int(i) for i in several)
        except (TypeError, ValueError):
            given = ()
        if len(given) == 1 and 0 <= given[0] < size:
            return tuple(int(i) for i in np.unravel_index(given[0], shape))
        if len(given) != len(shape) or any(not 0 <= i < n for i, n in zip(given, shape, strict=True)):
            raise BadInput(
                f"neuron {neuron!r:.60} is not one of node '{self.name}', whose output is {shape}: wanted is "
                f"a flat index, 0 to {size - 1}, or one index for each axis, or 'max'"
            )
        return given

    # The two lessons.

    def trace(self, k: Index) -> Trace:
        """Trace one neuron."""
        arriving = zeros_like(self.R)
        arriving[0, *k] += self.R[0, *k]
        R, handed = self._take(self.R)[0, *k], zeros_like(self.a)
        engine, row = self._step(arriving)
        shares: list[ShareTrace] = []
        if self.linear is None:
            handed, z, accounts = engine, self.own_z[k], self._booked(row)
            places = np.flatnonzero(~equal(engine, 0))
            w = self.p[places] if len(self.p) else self.p
        else:
            found, z, shares, accounts = self._four_steps(k, R, row)
            places, w = found.places(self.joined.shape[1:]), found.w
            handed[places] += _added([share.relevance for share in shares], w)
        check = self._compare(handed, accounts, engine, row, self._rounding(shares))
        return Trace(
            **self._common(R, handed[places], accounts), check=check, lower=[self.names[j] for j in places],
            a=self.a[places], totals=self.totals[places], neuron=k, z=z, w=w, shares=shares,
        )  # fmt: skip

    def trace_layer(self) -> LayerTrace:
        """Trace all neurons, and add up."""
        arriving, handed = self._take(self.R)[0], zeros_like(self.a)
        R = _sum(arriving.ravel(), arriving.flat[0] * 0)
        engine, row = self._step(self.R)
        neurons, bound = list[Upper](), 0.0
        c: dict[tuple[int, int], tuple[int, str, Array]] = {}
        accounts = dict.fromkeys(ACCOUNTS, R * 0)
        self._check_size()
        for k in map(tuple, np.argwhere(~(arriving == 0)).tolist()):  # an exact 0 hands on nothing
            if self.linear is None:
                neurons.append(Upper(k, arriving[k], []))
                continue
            found, _, shares, took = self._four_steps(k, arriving[k], row)
            neurons.append(Upper(k, arriving[k], [(share.z, share.eps, share.s) for share in shares]))
            places = found.places(self.joined.shape[1:])
            for i, share in enumerate(shares):
                handed[places] += share.relevance
                for t, term in enumerate(share.terms):
                    c.setdefault((i, t), (i, term.name, zeros_like(self.a)))[2][places] += term.c
            accounts = {name: accounts[name] + took[name] for name in ACCOUNTS}
            bound += self._rounding(shares)
        if self.linear is None:
            handed, accounts = engine, self._booked(row)
        return LayerTrace(
            **self._common(R, handed, accounts), lower=self.names, a=self.a, neurons=neurons,
            check=self._compare(handed, accounts, engine, row, bound), c=[c[key] for key in sorted(c)],
        )  # fmt: skip

    def _common(self, R: Any, handed: Array, accounts: dict[str, Any]) -> dict[str, Any]:
        way = str(self.rule) if self.linear is not None else self.layer.way
        operation = "" if self.linear is None else self.linear.operation.name
        return {
            "node": self.name, "layer": self.kind, "rule": way, "applied": self.rule,
            "operation": operation, "dtype": self.arithmetic.name, "engine": self.engine.name,
            "R": R, "relevance": handed, "accounts": accounts,
            "residual": R - _sum(handed, R * 0) - sum(accounts.values(), R * 0),
        }  # fmt: skip

    def _check_size(self) -> None:
        """Refuse a layer that would take many minutes."""
        if self.linear is None:
            return
        shape = self.R.shape[1:]
        middle = connections(
            self.linear.operation, self.joined[0], self.linear.w, tuple(n // 2 for n in shape)
        )
        about = math.prod(shape) * len(middle.lower)
        if about > LIMIT:
            raise BadInput(
                f"node '{self.name}' has about {about:,} connections, more than {LIMIT:,}: trace one neuron"
            )

    # The four steps at one neuron, by plain sums over its connections.

    def _four_steps(
        self, k: Index, R: Any, row: Row
    ) -> tuple[Connections, Any, list[ShareTrace], dict[str, Any]]:
        """Give the connections, the layer's own z_k, the shares, and what their accounts took."""
        linear, rule = self.linear, self.cast_rule
        assert linear is not None
        found = connections(linear.operation, self.joined[0], linear.w, k, rule.selects)
        b = np.broadcast_to(linear.b, self.R.shape)[0, *k]
        z = _sum(found.take(self.joined[0]) * found.w, R * 0) + b
        own = self.own_z[k] if linear.own else z  # gates look at the layer's own z
        said = rule.shares(lower(self.joined.shape[1:]), found.w, _one(b))
        shares = [
            self._share(share, found, R if not share.gate or _greater(share.gate * own, 0) else R * 0, eps)
            for share, eps in zip(said, self._eps(row, R, len(said)), strict=True)
        ]
        took = [share.accounts for share in shares]
        if not any(not share.gate or _greater(share.gate * own, 0) for share in said):
            took.append({"dropped": R})
        accounts = {name: sum((some.get(name, R * 0) for some in took), R * 0) for name in ACCOUNTS}
        return found, z, shares, accounts

    def _eps(self, row: Row, R: Any, count: int) -> list[Any]:
        """Give each share's eps; a relative one looks at all neurons, and is taken from the books."""
        value = self.cast_rule.stabilizer.value
        if self.cast_rule.stabilizer.kind != "relative":
            return [self.arithmetic.array([value])[0]] * count
        return [R * 0 if eps is None else self._take(eps)[0] for eps in row.eps]

    def _share(self, share: Share, found: Connections, R: Any, eps: Any) -> ShareTrace:
        q, nothing, rule = share.coefficient, R * 0, self.cast_rule
        absent = share.b is None or rule.bias == "ignore"
        b = nothing if absent else np.broadcast_to(share.b, (1,))[0]  # type: ignore[arg-type]
        parts = [(_name(p), self._part(p, found), w) for p, w in share.terms]
        z_jk = _added([p * w for _, p, w in parts], found.w)
        z = _sum(z_jk, nothing) + b  # step 1
        if rule.stabilizer.kind != "unsigned" and _greater(nothing, z):
            eps = -eps
        zero = bool(equal(_one(z + eps), 0)[0])
        s = nothing if zero else R / (z + eps)  # step 2
        terms = [Term(name, p, w, w * s, w is found.w) for name, p, w in parts]  # step 3
        handed = q * _added([term.p * term.c for term in terms], found.w)  # step 4
        bias, each = q * s * b, nothing
        if rule.bias == "redistribute" and found.lower:
            bias, each = nothing, bias / len(found.lower)
        accounts = {"bias": bias, "stabilizer": q * s * eps, "dropped": q * R if zero else nothing}
        return ShareTrace(terms, q, share.gate, R, b, z_jk, z, eps, s, handed + each, each, accounts)

    def _part(self, p: Part | Array, found: Connections) -> Array:
        """Take a term's p at the connections."""
        values = p if isinstance(p, Part) else self.arithmetic.array(p)
        return found.take(taken(values, self.joined)[0])

    # The engine's own, and the comparison.

    def _step(self, R: Array) -> tuple[Array, Row]:
        """Give what the engine hands out, as one vector like `a`, and its books."""
        done = self.prepared.step(self.name, self.inputs, self.z, self.kernels.upload(R))
        home = [self.kernels.download(part).ravel() for part in done.parts]
        return self._take(np.concatenate(home)), done.ledger.close(self.kernels.download)

    def _booked(self, row: Row) -> dict[str, Any]:
        return {name: self._take(getattr(row, name))[0] for name in ACCOUNTS}

    def _rounding(self, shares: list[ShareTrace]) -> float:
        """
        Bound what rounding can do to one number: a sum of M summands errs by M u times their magnitudes' sum.

        So does z, and with it s, in proportion to that sum over |z + eps|.
        """
        if self.engine.objects:
            return 0.0
        unit, bound = float(np.finfo(self.engine.dtype).eps), 0.0
        for share in shares:
            terms = [exact.as_float(abs(term.p * term.w)).sum() for term in share.terms]
            b, s, q, denominator = (
                abs(float(exact.as_float(_one(x))[0]))
                for x in (share.b, share.s, share.coefficient, share.z + share.eps)
            )
            size = sum(terms) + b
            if denominator:
                bound += 2 * (len(share.z_jk) + 10) * unit * (1 + size / denominator) * q * s * size
        return bound

    def _compare(
        self, handed: Array, accounts: dict[str, Any], engine: Array, row: Row, bound: float
    ) -> Check:
        """Compare what every lower neuron and every account got."""
        booked = self._booked(row)
        off = [handed - engine, *(_one(accounts[name] - booked[name]) for name in ACCOUNTS)]
        difference = np.concatenate(off)
        largest = abs(exact.as_float(difference)).max()
        if self.engine.name == "ball":
            largest += exact.radius(difference).max()
            return Check(all(ball.contains(0) for ball in difference), float(largest), 0.0)
        return Check(bool(largest <= bound), float(largest), bound)


def _name(p: Part | Array) -> str:
    return p.name if isinstance(p, Part) else "p"


def _one(x: Any) -> Array:
    """One number as an array, for the functions that compare."""
    return np.array([x])


def _greater(x: Any, y: Any) -> bool:
    return bool(greater(_one(x), y)[0])


def _sum(x: Array, nothing: Any) -> Any:
    return x.sum() if len(x) else nothing


def _added(several: Sequence[Any], like: Any) -> Any:
    return sum(several[1:], several[0]) if several else like * 0
