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
from typing import Any

import numpy as np

from lrpref.errors import BadInput, BadRule, LrprefError
from lrpref.exact import Arithmetic, arithmetic_of
from lrpref.kernels import backend as get_backend
from lrpref.kernels.operations import A, Array, Part, lower
from lrpref.kernels.signs import equal, greater, ones_like, zeros_like
from lrpref.layers import Layer, LinearLayer, Shape
from lrpref.ledger import Ledger, Row
from lrpref.network import INPUT, Network, Node
from lrpref.rules import RULES, Rule, Share, parse


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
    sums : list of ndarray, shape (N,)
        The sum of each part, per sample.
    """

    parts: list[Array]
    ledger: Row
    sums: list[Array]

    @property
    def relevance(self) -> Array:
        """Relevance of the (first) input."""
        return self.parts[0]


@dataclass(frozen=True)
class Known:
    """
    What is known of a node before any input is there; then shares and terms that are 0 are left out.

    Parameters
    ----------
    nonnegative : bool
        Its lower activations are >= 0, so that a- is 0.
    closed : bool
        R_k is 0 wherever z_k <= 0: a ReLU follows, and above it nothing is handed to an activation of 0.
    """

    nonnegative: bool = False
    closed: bool = False


class Prepared:
    """
    One layer and its rule, ready for a backend: the weights that the shares need, laid out once.

    Parameters
    ----------
    kernels : object
        The backend.
    layer : Layer
        The layer, in the arithmetic.
    rule : Rule
        The rule.
    shapes : sequence of tuple of int
        Shape of one sample of each input.
    arithmetic : Arithmetic
        In which numbers.
    room : callable, optional
        Asked before weights are kept for the next call: takes bytes, says whether there is room.

    Raises
    ------
    BadRule
        If the rule does not fit the layer.
    """

    def __init__(
        self,
        kernels: Any,
        layer: Layer,
        rule: Rule,
        shapes: Sequence[Shape],
        arithmetic: Arithmetic,
        room: Callable[[int], bool] | None = None,
    ) -> None:
        self.kernels, self.layer, self.rule = kernels, layer, rule
        self.known = Known()
        self._arithmetic, self._room = arithmetic, room
        self._shares: tuple[list[Share | None], set[int]] | None = None
        if not isinstance(layer, LinearLayer):
            return
        one = arithmetic.array(np.zeros(1))
        a = layer.join([np.broadcast_to(one.reshape((1,) * (len(s) + 1)), (1, *s)) for s in shapes])
        self._part = lower(a.shape[1:])
        self._rule = arithmetic.cast(rule)
        self._linear = layer.map(a) if rule.passes else layer.linear(a, rule)
        self._map = layer.map(a) if self._linear.w is None else self._linear
        self._w = kernels.prepare(self._map.operation, self._map.w)
        self._b = kernels.upload(self._map.b)

    def forward(self, inputs: Sequence[Array]) -> Array:
        """
        Compute the layer's output.

        Parameters
        ----------
        inputs : sequence of ndarray, shape (N, ...)
            Lower activations, where the backend computes.

        Returns
        -------
        ndarray, shape (N, ...)
            The output; for a linear layer z.
        """
        if not isinstance(self.layer, LinearLayer) or not self._map.own:
            return self.layer.forward(self.kernels, *inputs)
        a = self.layer.join(inputs)
        return self.kernels.preactivation(self._map.operation, a, [(A, self._w)], self._b)

    def gradient(self, inputs: Sequence[Array], g: Array) -> list[Array]:
        """
        Apply the layer's transposed Jacobian.

        Parameters
        ----------
        inputs : sequence of ndarray, shape (N, ...)
            Lower activations, where the backend computes.
        g : ndarray, like the output
            Gradient with respect to the output.

        Returns
        -------
        list of ndarray
            Gradient with respect to each input.
        """
        if not isinstance(self.layer, LinearLayer) or not self._map.own:
            return self.layer.gradient(self.kernels, inputs, g)
        return self.layer.parts(self.kernels.transpose(self._map.operation, g, self._w))

    def step(
        self,
        name: str,
        inputs: Sequence[Array],
        z: Array,
        R: Array,
        arriving: Array | None = None,
        s: Array | None = None,
    ) -> Step:
        """
        Propagate relevance through the layer.

        Parameters
        ----------
        name : str
            The node's name, for the books.
        inputs : sequence of ndarray, shape (N, ...)
            Lower activations.
        z : ndarray
            The layer's output in the forward pass.
        R : ndarray, like z
            Relevance that arrives.
        arriving : ndarray, shape (N,), optional
            Its sum, where it was taken already.
        s : ndarray, like z, optional
            R / z of LRP-0, where a head has taken steps 1 and 2 already.

        Returns
        -------
        Step
            Relevance of the inputs, and the books, not yet closed.
        """
        kernels, layer, rule = self.kernels, self.layer, self.rule
        row = Row(name, layer.kind, str(rule), kernels.per_sample(R) if arriving is None else arriving)
        if rule.passes or not isinstance(layer, LinearLayer):
            row.rule = layer.way
            parts, booked = layer.handed(kernels, inputs, R)
            sums = [row.arriving if part is R else kernels.per_sample(part) for part in parts]
            for amount in sums:
                row.book("to_inputs", amount)
            for account, amounts in booked.items():
                row.book(account, kernels.per_sample(amounts))
            return Step(parts, row, sums)
        a = layer.join(inputs)
        if layer.wants_nonnegative(rule) and not self.known.nonnegative:
            self._check_nonnegative(kernels.download(a))
        handed = self._run_shares(a, z, R, row) if s is None else self._redistribute(a, s, row)
        parts = layer.parts(handed)
        return Step(parts, row, [kernels.per_sample(part) for part in parts])

    def spares(self, spared: bool) -> bool:
        """
        Tell whether an activation of 0 is handed nothing.

        Parameters
        ----------
        spared : bool
            Whether nothing arrives at an output of 0.

        Returns
        -------
        bool
            False where it is not known.
        """
        layer, rule = self.layer, self.rule
        if not isinstance(layer, LinearLayer):  # to an input of 0 passes what arrives at an output of 0
            return spared and (layer.moves or layer.rectifies)
        if rule.passes or rule.bias == "redistribute":
            return False
        w, b = self._linear.w, self._linear.b
        winners = w is None
        if w is None or type(rule) in RULES.values():  # their terms are the same whatever the weights
            w = self._arithmetic.array(np.zeros((1,) * (5 if w is None else w.ndim)))
        terms = [term for share in self._rule.shares(self._part, w, b) for term in share.terms]
        if winners and all(x is w for _, x in terms):  # a winner of 0 gets what arrives at a maximum of 0
            return spared
        return all(_name(p) in ("a", "a+", "a-") for p, _ in terms)

    def _check_nonnegative(self, a: Array) -> None:
        if greater(zeros_like(a), a).any():
            raise BadRule(
                f"rule '{self.rule}' takes max pooling as sum pooling, which needs activations >= 0; "
                f"got {min(a.flat)}: use winner-take-all"
            )

    # The shares of the rule, with weights as the backend wants them.

    def _ready_shares(self, a: Array) -> tuple[list[Share | None], set[int]]:
        """Give the rule's shares, kept if there was room; and their gates, if some R_k may find none open."""
        if self._shares is not None:
            return self._shares
        linear, size = self._linear, 0
        op, w = linear.operation, linear.w
        if w is None:  # the winners of max pooling
            w = ready = self.kernels.max_pool2d_winners(a, op, self.rule.selects)
        else:
            ready = self._w
        shares: list[Share | None] = []
        gates = set[int]()
        for share in self._rule.shares(self._part, w, linear.b):
            gates.add(share.gate)
            simple = self._simplified(share)
            if simple is not None:
                terms = []
                for p, x in simple.terms:
                    if x is not w:
                        x = self.kernels.prepare(op, x)
                        size += x.nbytes
                    terms.append((p, ready if x is w else x))
                own = simple.b is linear.b
                b = simple.b if simple.b is None else self._b if own else self.kernels.upload(simple.b)
                simple = replace(simple, terms=terms, b=b)
            shares.append(simple)
        if 0 in gates or (self.known.closed and 1 in gates):  # nothing arrives where no gate is open
            gates = set()
        if linear.w is not None and (self._room is None or self._room(size)):
            self._shares = shares, gates
        return shares, gates

    def _simplified(self, share: Share) -> Share | None:
        """Leave out what is known to be 0; None if nothing of the share is left."""
        never_negative = self.known.nonnegative and self.layer.nonnegative([True])  # z is a sum of a >= 0
        if share.gate < 0 and (self.known.closed or never_negative):
            return None
        if self.known.closed:
            share = replace(share, gate=0)
        terms = [(self._placed(p), w) for p, w in share.terms]
        if self.known.nonnegative:
            left = [(A if name == "a+" else p, w) for p, w in terms if (name := _name(p)) != "a-"]
            terms = left or terms  # the bias may want its share
        return replace(share, terms=terms)

    def _placed(self, p: Part | Array) -> Part | Array:
        """Bring numbers to where the backend computes; parts of a are there already."""
        if isinstance(p, Part):
            return p
        return self.kernels.upload(np.ascontiguousarray(self._arithmetic.array(p)))

    # The four steps over them.

    def _run_shares(self, a: Array, z: Array, R: Array, row: Row) -> Array:
        """Run the four steps over the shares of the rule, and add up."""
        kernels, linear = self.kernels, self._linear
        shares, gates = self._ready_shares(a)
        own: Array | None = z if linear.own else None
        if own is None and (gates or any(share.gate for share in shares if share is not None)):
            own = kernels.preactivation(linear.operation, a, [(A, self._w)], self._b)
        handed: Array | None = None
        for share in shares:
            if share is not None:
                part = self._four_steps(share, a, own, R, row)
                handed = part if handed is None else handed + part
            elif self.rule.stabilizer.kind == "relative":
                row.eps.append(None)
        if gates and own is not None:
            for gate in gates:
                R = np.where(greater(gate * own, 0), zeros_like(R), R)  # what arrives where no gate is open
            row.book("dropped", kernels.per_sample(R))
        return zeros_like(a) if handed is None else handed

    def _four_steps(self, share: Share, a: Array, own: Array | None, R: Array, row: Row) -> Array:
        """Run the four steps on one share, and book its accounts."""
        kernels, op, q, rule = self.kernels, self._linear.operation, share.coefficient, self._rule
        if rule.bias == "ignore":
            share = replace(share, b=None)
        z = own if self._is_forward_pass(share) else None
        gate = (own, share.gate) if share.gate and own is not None else None
        eps = np.full(len(a), rule.stabilizer.value)
        if rule.stabilizer.kind == "relative":
            z = kernels.preactivation(op, a, share.terms, share.b) if z is None else z
            root = self._arithmetic.root(kernels.download(kernels.mean_square(z)))
            eps = rule.stabilizer.value * root
            row.eps.append(self._arithmetic.array(eps))
        eps = kernels.upload(self._arithmetic.array(eps))
        signed = rule.stabilizer.kind != "unsigned"
        s, sums = kernels.quotient(op, a, share.terms, share.b, R, eps, signed, z, gate)  # steps 1 and 2
        part, to_inputs = kernels.redistribute(op, a, share.terms, s, q)  # steps 3 and 4
        if rule.bias == "redistribute" and share.b is not None:
            extra, extra_sum, unconnected = self._redistribute_bias(share, a, s)
            part, to_inputs, sums = part + extra, to_inputs + extra_sum, sums._replace(bias=unconnected)
        row.book("to_inputs", to_inputs)
        row.book("bias", q * sums.bias)
        row.book("stabilizer", q * sums.stabilizer)
        row.book("dropped", q * sums.dropped)
        return part

    def _redistribute(self, a: Array, s: Array, row: Row) -> Array:
        """Run steps 3 and 4 of LRP-0 on a given s."""
        part, to_inputs = self.kernels.redistribute(self._map.operation, a, [(A, self._w)], s)
        row.book("to_inputs", to_inputs)
        row.book("bias", self.kernels.per_sample(s * self._b))
        return part

    def _is_forward_pass(self, share: Share) -> bool:
        """Whether the share's z is the one of the forward pass: LRP-0 and eps reuse it."""
        (p, w), *more = share.terms
        return not more and _name(p) == "a" and w is self._w and share.b is self._b

    def _redistribute_bias(self, share: Share, a: Array, s: Array) -> tuple[Array, Array, Array]:
        """R_j += sum_k q s_k b_k / n_k, n_k the connected in-image taps; where n_k = 0 the bias keeps it."""
        kernels, op = self.kernels, self._linear.operation
        w = self._linear.w if self._linear.w is not None else share.terms[0][1]
        ones = [(ones_like(self._part), kernels.prepare(op, ones_like(w)))]
        taps = kernels.preactivation(op, a, ones, None)
        alone, owed = equal(taps, 0), s * share.b
        shared = np.where(alone, zeros_like(s), owed / np.where(alone, ones_like(taps), taps))
        extra, extra_sum = kernels.redistribute(op, a, ones, shared, share.coefficient)
        return extra, extra_sum, kernels.per_sample(np.where(alone, owed, zeros_like(s)))


def _name(p: Part | Array) -> str:
    return p.name if isinstance(p, Part) else ""


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
        A name that `lrpref.kernels.backend` knows.

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
        raise BadRule(
            "relprop takes a layer and a rule, such as 'gamma(0.25)'; "
            f"got {(rule if isinstance(layer, Layer) else layer)!r:.60}"
        )
    if len(inputs) != (layer.inputs or max(2, len(inputs))):
        raise BadInput(f"{layer.kind} takes {layer.inputs or '2 or more'} inputs; got {len(inputs)}")
    for x in (value for value in vars(layer).values() if isinstance(value, np.ndarray)):
        if x.dtype.kind not in "biufO" or (x.dtype.kind == "f" and not np.isfinite(x).all()):
            raise BadInput(f"{layer.kind}'s arrays are to be finite real numbers; got {x.dtype}")
    if any(x.ndim < 2 or 0 in x.shape or len(x) != len(inputs[0]) for x in inputs):
        got = ", ".join(str(x.shape) for x in inputs)
        raise BadInput(
            f"a is {got}: wanted is (N, ...), with as many samples in each, and at least one number"
        )
    if len({x.dtype for x in inputs}) > 1:
        raise BadInput(f"inputs of one dtype are wanted; got {', '.join(str(x.dtype) for x in inputs)}")
    for x in (*inputs, _numbers(R)):
        if x.dtype.kind not in "fO" or (x.dtype.kind == "f" and not np.isfinite(x).all()):
            raise BadInput("a and R are to be finite real numbers")
    arithmetic = arithmetic_of(inputs[0])
    layer = arithmetic.cast(layer)
    shapes = [x.shape[1:] for x in inputs]
    shape = (len(inputs[0]), *layer.output_shape(*shapes))
    R = arithmetic.array(_numbers(R))
    if R.shape != shape:
        raise BadInput(f"R is {R.shape}, wants the layer's output {shape}")
    ready = Prepared(kernels, layer, rule, shapes, arithmetic)
    there = [kernels.upload(x) for x in inputs]
    done = ready.step(layer.kind, there, ready.forward(there), kernels.upload(R))
    home = [[kernels.download(x) for x in those] for those in (done.parts, done.sums)]
    return Step(home[0], done.ledger.close(kernels.download), home[1])


def _numbers(x: Any) -> Array:
    """Take whole numbers for float64."""
    x = np.asarray(x)
    return x.astype(np.float64) if x.dtype.kind in "biu" else x


def activate(network: Network, prepared: Mapping[str, Prepared], x: Array) -> dict[str, Array]:
    """
    Run the forward pass and keep every node's output.

    Parameters
    ----------
    network : Network
        The network.
    prepared : mapping of str to Prepared
        Its nodes.
    x : ndarray, shape (N, ...)
        Inputs, where the backend computes.

    Returns
    -------
    dict of str to ndarray
        Outputs by node, and the input.

    Raises
    ------
    LrprefError
        If a layer cannot take what it gets; the message names the node.
    """

    def forward(node: Node, inputs: list[Array]) -> Array:
        return prepared[node.name].forward(inputs)

    return network.walk(x, forward)


def propagate(
    network: Network,
    prepared: Mapping[str, Prepared],
    activations: Mapping[str, Array],
    R: Array,
    *,
    kernels: Any,
    watch: Callable[[str], None] | None = None,
    s: Array | None = None,
) -> tuple[dict[str, Array], Ledger]:
    """
    Propagate relevance from the network's output to its input.

    Where a node feeds several others, their relevances add up.

    Parameters
    ----------
    network : Network
        The network.
    prepared : mapping of str to Prepared
        Its nodes, with their rules.
    activations : mapping of str to ndarray
        Output of every node, and of the input, in the forward pass.
    R : ndarray
        Relevance of the output.
    kernels : object
        The backend.
    watch : callable, optional
        Called with each node's name when it is done.
    s : ndarray, like the output, optional
        R / z of the output, where a head gives it.

    Returns
    -------
    relevance : dict of str to ndarray
        Relevance of the output of every node below the top, and of the input, where the backend computes.
    ledger : Ledger
        The books: f(x) = inputs + all accounts of all nodes.

    Raises
    ------
    LrprefError
        If a rule does not fit; the message names the node.
    """
    relevance: dict[str, Array] = {network.top: R}
    sums: dict[str, Array | None] = {}
    rows = []
    for node in reversed(network.nodes):
        if node.name not in relevance:
            continue
        inputs = [activations[name] for name in node.inputs]
        try:
            done = prepared[node.name].step(
                node.name, inputs, activations[node.name], relevance[node.name], sums.get(node.name),
                s if node.name == network.top else None,
            )  # fmt: skip
        except LrprefError as error:
            raise type(error)(f"node '{node.name}': {error}") from None
        rows.append(done.ledger)
        if watch is not None:
            watch(node.name)
        for name, part, amount in zip(node.inputs, done.parts, done.sums, strict=True):
            done.ledger.hand(name, amount)
            sums[name] = None if name in relevance else amount  # of what has been added up, another is taken
            relevance[name] = relevance[name] + part if name in relevance else part
    for row in rows:  # now that all is computed: a backend may have to bring the numbers home
        row.close(kernels.download)
    explained, reached = (kernels.download(kernels.per_sample(x)) for x in (R, relevance[INPUT]))
    return relevance, Ledger(rows, explained, reached)
