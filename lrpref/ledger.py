"""The accounts: where the relevance that arrived at a node went.

Per node and per sample

    arriving = to_inputs + bias + stabilizer + dropped + padding + pooling + state + residual

Every account is a sum of its own; none is computed as a difference. The residual alone is what is
left: rounding in floating point, exactly 0 in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from lrpref.errors import BadRule
from lrpref.exact import as_float
from lrpref.kernels.operations import Array

ACCOUNTS = ("bias", "stabilizer", "dropped", "padding", "pooling", "state")


@dataclass
class Row:
    """
    The books of one node.

    Parameters
    ----------
    node, layer, rule : str
        Whose books they are.
    arriving : ndarray, shape (N,)
        Sum of the relevance of the node's output; its unit is that of the explained quantity.
    to_inputs : ndarray, shape (N,)
        Sum of the relevance handed to the node's inputs.
    bias, stabilizer, dropped, padding, pooling, state : ndarray, shape (N,)
        What the accounts took.
    handed : dict of str to ndarray, shape (N,)
        What each input received, by node; their sum is `to_inputs`.
    eps : list of ndarray, shape (N,), or None
        What a relative stabilizer came to, in the unit of z, one per share; None where a share received
        nothing.
    """

    node: str
    layer: str
    rule: str
    arriving: Array
    to_inputs: Array = field(default_factory=lambda: np.zeros(0))
    bias: Array = field(default_factory=lambda: np.zeros(0))
    stabilizer: Array = field(default_factory=lambda: np.zeros(0))
    dropped: Array = field(default_factory=lambda: np.zeros(0))
    padding: Array = field(default_factory=lambda: np.zeros(0))
    pooling: Array = field(default_factory=lambda: np.zeros(0))
    state: Array = field(default_factory=lambda: np.zeros(0))
    handed: dict[str, Array] = field(default_factory=dict)
    eps: list[Array | None] = field(default_factory=list)
    residual: Array = field(default_factory=lambda: np.zeros(0), init=False)

    def __post_init__(self) -> None:
        for name in ("to_inputs", *ACCOUNTS):
            if not len(getattr(self, name)):
                setattr(self, name, self.arriving * 0)

    def book(self, account: str, amount: Any) -> None:
        """
        Add to an account.

        Parameters
        ----------
        account : str
            `to_inputs` or one of `ACCOUNTS`.
        amount : ndarray, shape (N,)
            Relevance.
        """
        setattr(self, account, getattr(self, account) + amount)

    def hand(self, name: str, amount: Any) -> None:
        """
        Note what an input received.

        Parameters
        ----------
        name : str
            The node whose output it is.
        amount : ndarray, shape (N,)
            Relevance.
        """
        self.handed[name] = self.handed.get(name, 0) + amount

    def close(self, download: Callable[[Array], Array] = np.asarray) -> Self:
        """
        Close the books: the residual is what arrived and is on no account.

        Parameters
        ----------
        download : callable
            Brings an account home from where it was computed.

        Returns
        -------
        Row
            This row. Its residual, shape (N,), is rounding, or exactly 0.

        Raises
        ------
        BadRule
            If an amount is not finite: a quotient overflowed.
        """
        for name in ("arriving", "to_inputs", *ACCOUNTS):
            setattr(self, name, download(getattr(self, name)))
        self.handed = {name: download(amount) for name, amount in self.handed.items()}
        self.residual = self.arriving - self.to_inputs
        for account in ACCOUNTS:
            self.residual = self.residual - getattr(self, account)
        if self.residual.dtype != object and not np.isfinite(self.residual).all():
            raise BadRule(
                f"node '{self.node}': relevance overflows under rule '{self.rule}': "
                "use a stabilizer or float64"
            )
        return self

    @classmethod
    def joined(cls, rows: Sequence[Row]) -> Row:
        """
        Join the books of one node for the parts of a batch.

        Parameters
        ----------
        rows : sequence of Row
            Closed books.

        Returns
        -------
        Row
            The books of all samples.
        """
        first = rows[0]
        names = ("arriving", "to_inputs", *ACCOUNTS)
        accounts = {name: np.concatenate([getattr(row, name) for row in rows]) for name in names}
        handed = {name: np.concatenate([row.handed[name] for row in rows]) for name in first.handed}
        eps = [
            None if some[0] is None else np.concatenate(some)
            for some in zip(*(row.eps for row in rows), strict=True)
        ]
        return cls(first.node, first.layer, first.rule, **accounts, handed=handed, eps=eps).close()


@dataclass
class Ledger:
    """
    The books of a network: one row per node, from the top down.

    Parameters
    ----------
    rows : list of Row
        In the order in which relevance visited the nodes.
    explained : ndarray, shape (N,)
        The explained quantity f(x).
    inputs : ndarray, shape (N,)
        What reached the network's input.
    """

    rows: list[Row]
    explained: Array
    inputs: Array

    def __post_init__(self) -> None:
        # at once, while balls have their working precision
        self.totals = {
            name: sum((getattr(row, name) for row in self.rows), self.explained * 0)
            for name in (*ACCOUNTS, "residual")
        }
        left = self.explained - self.inputs
        for name in ACCOUNTS:
            left = left - self.totals[name]
        self._residual = left

    @classmethod
    def joined(cls, parts: Sequence[Ledger]) -> Ledger:
        """
        Join the books of the parts of a batch.

        Parameters
        ----------
        parts : sequence of Ledger
            Of the same network and rules.

        Returns
        -------
        Ledger
            The books of all samples.
        """
        rows = [Row.joined(rows) for rows in zip(*(part.rows for part in parts), strict=True)]
        explained, inputs = ([getattr(p, name) for p in parts] for name in ("explained", "inputs"))
        return cls(rows, np.concatenate(explained), np.concatenate(inputs))

    def below(self, rows: Sequence[Row]) -> Ledger:
        """
        Put the books of a head above those of the network.

        Parameters
        ----------
        rows : sequence of Row
            Closed, from the top down; what arrives at the first is f(x).

        Returns
        -------
        Ledger
            The books of both.
        """
        return Ledger([*rows, *self.rows], rows[0].arriving, self.inputs) if rows else self

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, node: str) -> Row:
        for row in self.rows:
            if row.node == node:
                return row
        raise KeyError(node)

    def account(self, name: str) -> Array:
        """
        Sum an account over all nodes.

        Parameters
        ----------
        name : str
            One of `ACCOUNTS`, or `residual`.

        Returns
        -------
        ndarray, shape (N,)
            The sum.
        """
        return self.totals[name]

    @property
    def residual(self) -> Array:
        """f(x) less the inputs and all accounts of all nodes: rounding, or exactly 0. Shape (N,)."""
        return self._residual

    def shares(self, sample: int = 0) -> dict[str, dict[str, float]]:
        """
        Say what each node's accounts took, in percent of f(x).

        Parameters
        ----------
        sample : int
            Which sample of the batch.

        Returns
        -------
        dict of str to dict of str to float
            By node and account. Where f(x) = 0, in units of the explained quantity instead.
        """
        unit = float(as_float(self.explained)[sample]) / 100 or 1.0
        return {
            row.node: {a: float(as_float(getattr(row, a))[sample]) / unit for a in ACCOUNTS}
            for row in self.rows
        }
