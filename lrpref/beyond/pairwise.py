"""Pairwise matching: which pairs of features make two inputs alike (Section 10.4).

The similarity y(x, x') = sum_m phi_m(x) phi'_m(x') is a layer of product neurons on top of two networks. Its
relevance belongs to pairs: R_ij to feature i of x together with feature j of x'. For one layer of products
(Montavon et al. 2019, Section 10.4)

    R_ij = sum_k  x_i x'_j w_ik v_jk / (sum_ij x_i x'_j w_ik v_jk)  R_k ,

which falls into two factors: what share of neuron k is handed to i, times what share is handed to j. So there
are two ways, and they give the same:

- `match`, factored (BiLRP: Eberle et al. 2022): one ordinary LRP per feature m and side, from R = phi_m down,
  and R_ij = sum_m R_i^m R_j'^m. Pairs take no memory before they are wanted, and may be of patches: then each
  R^m is pooled before the next is made.
- `second_order`, in full: a table of all pairs of neurons goes down, layer by layer and on both sides.

A pair of which one half ended in an account of the ledger, or both, is booked; nothing else is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lrpref import exact
from lrpref.checks import whole
from lrpref.engine import activate, relprop
from lrpref.errors import BadInput, BadNetwork
from lrpref.exact import Arithmetic
from lrpref.explanation import explain
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import equal, zeros
from lrpref.layers import Flatten
from lrpref.ledger import ACCOUNTS
from lrpref.network import INPUT, Network, Node
from lrpref.plan import Plan

BOOKED = (*ACCOUNTS, "residual")
"""Where half a pair can end, other than at an input."""

BATCH = 64
"""Features that are explained at once."""

LARGEST = 2000
"""Neurons of a layer up to which `second_order` makes a table of all pairs."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """
    Relevance of all pairs, and the books.

    Parameters
    ----------
    table : ndarray, shape (I + B, J + B)
        Relevance of each pair; the last B rows and columns are the accounts of `BOOKED`. Its sum is the
        similarity.
    """

    table: Array

    @property
    def relevance(self) -> Array:
        """R_ij of two inputs' features, shape (I, J); features in row-major order."""
        return self.table[: -len(BOOKED), : -len(BOOKED)]

    @property
    def books(self) -> Array:
        """The table with the inputs summed up, shape (1 + B, 1 + B): first the inputs, then `BOOKED`."""
        return _summed(_summed(self.table).T).T

    @property
    def similarity(self) -> Any:
        """y: the sum of R_ij and of all that is booked."""
        return self.table.sum()


@dataclass(frozen=True, eq=False)
class Side:
    """
    One of the two: relevance of its input for each feature, and the books.

    Parameters
    ----------
    features : ndarray, shape (M,)
        phi(x), without the features that are 0 on either side: their products are 0.
    relevance : ndarray, shape (M, ...) or (M, Ho, Wo)
        R^m for each feature m, of the input or of its patches: its sum is phi_m, less what is booked.
    booked : ndarray, shape (M, B)
        What the accounts of `BOOKED` took.
    """

    features: Array
    relevance: Array
    booked: Array

    @property
    def factor(self) -> Array:
        """Relevance of the inputs, or of their patches, and of the accounts, shape (M, I + B)."""
        return np.concatenate([self.relevance.reshape(len(self.features), -1), self.booked], axis=1)


@dataclass(frozen=True, eq=False)
class Match:
    """
    The similarity of two inputs, in factors.

    Parameters
    ----------
    left, right : Side
        x and x'.
    """

    left: Side
    right: Side

    @property
    def similarity(self) -> Any:
        """y = sum over m of phi_m(x) phi'_m(x')."""
        return (self.left.features * self.right.features).sum()

    @property
    def books(self) -> Array:
        """As in `Pairs`; sums to the similarity."""
        return _summed(self.left.factor).T @ _summed(self.right.factor)

    def pairs(self) -> Pairs:
        """
        Multiply the factors out.

        Returns
        -------
        Pairs
            A number for each pair of the inputs' features, or of patches: for small inputs.
        """
        return Pairs(self.left.factor.T @ self.right.factor)

    def table(self) -> Array:
        """
        Multiply the factors out, without the books.

        Returns
        -------
        ndarray, shape (..., ...)
            R_ij with the inputs' own axes, those of x first: for pairs of patches (Ho, Wo, Ho', Wo').
        """
        return np.tensordot(self.left.relevance, self.right.relevance, axes=(0, 0))


def features(network: Network, name: str) -> Network:
    """
    Cut a network off: its output is that of one of its nodes, as a vector.

    Parameters
    ----------
    network : Network
        Any network.
    name : str
        The node.

    Returns
    -------
    Network
        phi, from the same input to (M,).

    Raises
    ------
    BadInput
        If there is no such node.
    """
    top = network.node(name)
    nodes = network.nodes[: network.nodes.index(top) + 1]
    if len(network.shapes[top.name]) > 1:
        nodes = (*nodes, Node(f"{top.name}.features", Flatten(), (top.name,)))
    return replace(network, nodes=nodes, classes=())


def match(
    left: Network,
    right: Network,
    x: Any,
    other: Any,
    composite: Any = "chapter",
    *,
    patch: int | None = None,
    watch: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Match:
    """
    Explain how alike two inputs are, by one LRP pass per feature and side.

    With `patch` each pass is pooled before the next: 1000 features of a picture of 3 x 224 x 224 take 1.5 MB
    a side at patches of 16 pixels, instead of 1.2 GB.

    Parameters
    ----------
    left, right : Network
        phi and phi', to as many features: `features` makes them; often one and the same.
    x, other : array_like, shape (1, ...)
        The inputs x and x'.
    composite : str, path-like or Composite
        Which rule at which layer, in both.
    patch : int, optional
        Height and width in pixels: relevance is summed over channels and over square patches, the last ones
        cut off at the border. Every pixel of every channel by itself, unless given.
    watch : callable, optional
        Called with how many passes have been made since its last call, and how many there are in all.
    **options
        `backend` and `dtype` of `explain`.

    Returns
    -------
    Match
        Sum of R_ij and of what is booked = similarity.

    Raises
    ------
    BadInput
        If an input does not fit, the numbers of features differ, or a patch is larger than an image.
    LrprefError
        What `explain` raises.
    """
    branches = _branches((left, right), (x, other), composite, options)
    if patch is not None:
        for branch in branches:
            branch.check_patch(patch)
    shared = np.flatnonzero(~np.logical_or(*(equal(branch.phi, 0) for branch in branches)))
    if not len(shared):
        raise BadInput("the inputs share no features: their similarity is 0, and nothing can be explained")
    return Match(*(branch.side(shared, patch, watch) for branch in branches))


def second_order(
    left: Network, right: Network, x: Any, other: Any, composite: Any = "chapter", **options: Any
) -> Pairs:
    """
    Explain how alike two inputs are, by propagating pairs.

    From the pair of neurons (k, l), one in each network, to the pair (i, j) goes

        R_ij = sum_kl  (a_i w_ik) (a'_j v_jl) / (z_k z'_l)  R_kl

    in the terms of LRP-0; under any rule the shares of its own, with the product of the two stabilized
    denominators.

    Parameters
    ----------
    left, right : Network
        phi and phi', to as many features: layers that follow one another.
    x, other : array_like, shape (1, ...)
        The inputs x and x'.
    composite : str, path-like or Composite
        Which rule at which layer, in both.
    **options
        `backend` and `dtype` of `explain`.

    Returns
    -------
    Pairs
        Sum of R_ij and of what is booked = similarity.

    Raises
    ------
    BadInput
        If an input does not fit, or the numbers of features differ.
    BadNetwork
        If a network branches, or is too large for tables of all pairs.
    LrprefError
        What `explain` raises.
    """
    branches = _branches((left, right), (x, other), composite, options)
    one, two = branches
    with one.plan.precision():
        count = len(one.phi)
        table = zeros((count + len(BOOKED), count + len(BOOKED)), one.phi)
        np.fill_diagonal(table[:count, :count], one.phi * two.phi)
        for shares, shares_other in itertools.zip_longest(one.shares(), two.shares()):
            table = table if shares is None else shares.T @ table
            table = table if shares_other is None else table @ shares_other
    return Pairs(table)


class _Branch:
    """One side: a plan, and what its network computes for one input."""

    def __init__(self, plan: Plan, x: Any) -> None:
        self.plan, self.x = plan, plan.network.check_input(x)
        if len(self.x) != 1:
            raise BadInput(f"input is {self.x.shape}: one sample for each side is wanted")
        there = plan.kernels.upload(plan.arithmetic.array(self.x))
        with plan.precision():
            values = activate(plan.canonical, plan.prepared, there)
        self.values = {name: plan.kernels.download(value) for name, value in values.items()}

    @property
    def phi(self) -> Array:
        return self.values[self.plan.canonical.top][0]

    def check_patch(self, patch: int) -> None:
        """Say whether the input has such patches, before any work."""
        shape = self.x.shape[1:]
        if len(shape) != 3:
            raise BadInput(f"the input is {shape}: only images (C, H, W) have patches")
        whole("patch", patch, 1, min(shape[1:]))

    def side(self, shared: Array, patch: int | None, watch: Callable[[int, int], None] | None) -> Side:
        """One LRP pass for each feature, many at once."""
        parts = []
        for some in np.split(shared, range(BATCH, len(shared), BATCH)):
            parts.append(self._part(some, patch))
            if watch is not None:
                watch(len(some), 2 * len(shared))
        relevance, booked = (np.concatenate(those) for those in zip(*parts, strict=True))
        return Side(self.phi[shared], relevance, booked)

    def _part(self, some: Array, patch: int | None) -> tuple[Array, Array]:
        R = zeros((len(some), len(self.phi)), self.phi)
        R[np.arange(len(some)), some] = self.phi[some]
        e = explain(self.plan, np.repeat(self.x, len(some), axis=0), R)
        booked = [*(e.ledger.account(name) for name in ACCOUNTS), e.ledger.residual]
        R = e.relevance if patch is None else _pooled(e.relevance, patch)
        return R, np.stack(booked, axis=1)

    def shares(self) -> Iterator[Array]:
        """How each layer shares out a unit of each neuron's relevance, from the top down."""
        before = [INPUT, *(node.name for node in self.plan.canonical.nodes)]
        for node, name in zip(reversed(self.plan.canonical.nodes), reversed(before[:-1]), strict=True):
            a = self.values[name]
            neurons = self.values[node.name].size
            if node.inputs != (name,):
                raise BadNetwork(f"node '{node.name}' reads {node.inputs}: only layers in a row have tables")
            if max(neurons, a.size) > LARGEST:
                raise BadNetwork(f"node '{node.name}' has a table of {neurons} x {a.size}: use `match`")
            units = self.plan.arithmetic.array(np.eye(neurons)).reshape(-1, *self.values[node.name].shape[1:])
            done = relprop(
                node.layer, self.plan.rules[node.name], np.repeat(a, neurons, axis=0), units,
                backend=self.plan.backend,
            )  # fmt: skip
            booked = np.stack([getattr(done.ledger, account) for account in BOOKED], axis=1)
            handed = np.concatenate([done.relevance.reshape(neurons, -1), booked], axis=1)
            yield _kept(handed, self.plan.arithmetic)


def _branches(
    networks: Sequence[Network], inputs: Sequence[Any], composite: Any, options: Mapping[str, Any]
) -> tuple[_Branch, _Branch]:
    plans = [Plan(network, composite, **options) for network in networks]
    shapes = [plan.canonical.shapes[plan.canonical.top] for plan in plans]
    if len(shapes[0]) != 1 or shapes[0] != shapes[1]:
        raise BadInput(f"features are {shapes[0]} and {shapes[1]}: two vectors (M,) of one size are wanted")
    left, right = map(_Branch, plans, inputs)
    return left, right


def _pooled(relevance: Array, patch: int) -> Array:
    """Sum over the channels and over patches: shape (M, Ho, Wo)."""
    rows, columns = (np.arange(0, size, patch) for size in relevance.shape[2:])
    return np.add.reduceat(np.add.reduceat(relevance.sum(axis=1), rows, axis=1), columns, axis=2)


def _kept(shares: Array, arithmetic: Arithmetic) -> Array:
    """Add rows by which what is in an account stays there."""
    stays = np.eye(len(BOOKED), shares.shape[1], shares.shape[1] - len(BOOKED))
    return np.concatenate([shares, arithmetic.array(stays)])


def _summed(table: Array) -> Array:
    """Sum rows over the inputs, but not over the accounts: shape (..., 1 + B)."""
    inputs, booked = np.split(table, [table.shape[1] - len(BOOKED)], axis=1)
    return np.concatenate([inputs.sum(axis=1, keepdims=True), booked], axis=1)


def draw_pairs(
    pictures: Sequence[Array], table: Array, patch: int, *, strongest: int = 20, title: str = ""
) -> Any:
    """
    Draw two pictures, and lines between the patches that match.

    Parameters
    ----------
    pictures : pair of ndarray, shape (H, W) or (H, W, 3)
        Numbers from 0 to 1.
    table : ndarray, shape (Ho, Wo, Ho', Wo')
        What `Match.table` gives of a match of patches.
    patch : int
        Their size.
    strongest : int
        How many pairs are drawn, those of largest magnitude: red for the similarity, blue against it.
    title : str
        What stands above.

    Returns
    -------
    matplotlib.figure.Figure
        The wider a line, the larger the magnitude.

    Raises
    ------
    BadInput
        If there are not two pictures, or the table is not of their patches.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import ConnectionPatch

    if len(pictures) != 2:
        raise BadInput(f"pictures are {len(pictures)}: two are wanted, x and x'")
    wanted = tuple(-(-size // patch) for picture in pictures for size in picture.shape[:2])
    if table.shape != wanted:
        raise BadInput(f"table is {table.shape}, wants {wanted}: the patches of both pictures")
    figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=110)
    both = figure.subplots(1, 2)
    for axes, picture in zip(both, pictures, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
    R, sizes = exact.as_float(table), [picture.shape[:2] for picture in pictures]
    largest = abs(R).max() or 1.0
    order = abs(R).argsort(axis=None)[::-1][:strongest]
    for number in reversed(order):  # the strongest last, on top
        place = np.unravel_index(number, R.shape)
        width, colour = 3 * abs(R[place]) / largest, "#b2182b" if R[place] > 0 else "#2166ac"
        (ya, xa), (yb, xb) = (
            [_middle(int(cell), patch, length) for cell, length in zip(cells, size, strict=True)]
            for cells, size in zip((place[:2], place[2:]), sizes, strict=True)
        )
        line = ConnectionPatch(
            (xa, ya), (xb, yb), "data", "data", axesA=both[0], axesB=both[1],
            color=colour, alpha=0.6, linewidth=0.3 + width,
        )  # fmt: skip
        figure.add_artist(line)
    figure.suptitle(title, fontsize=10)
    return figure


def _middle(cell: int, patch: int, length: int) -> float:
    """The middle of a patch, in pixels; the last one may be cut off."""
    return (cell * patch + min((cell + 1) * patch, length) - 1) / 2
