"""From a network and an input to relevances and their books."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lrpref import dialects, exact, heads, record
from lrpref.engine import activate, propagate
from lrpref.errors import BadInput, NoMemory
from lrpref.kernels.operations import Array
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import Activation, BatchNorm
from lrpref.ledger import Ledger, Row
from lrpref.network import INPUT, Network
from lrpref.plan import Plan
from lrpref.rules import Rule

if TYPE_CHECKING:
    from lrpref.certificate import Certificate


@dataclass(frozen=True, repr=False)
class Explanation:
    """
    Relevances of one batch, and their books.

    Parameters
    ----------
    network : Network
        The network that was given.
    canonical : Network
        Its canonical form, whose nodes the books name.
    x : ndarray of float64, shape (N, ...)
        The input.
    scores : ndarray, shape (N, K)
        The output before a softmax.
    target : ndarray of int, shape (N,), or None
        The explained classes; None where relevances of the output were given.
    relevances : mapping of str to ndarray
        Relevance of every node's output and of the input, in units of the explained quantity. Of a dense
        layer on top under the head `log-odds`: of the ratios to each other class.
    ledger : Ledger
        The books.
    rules : mapping of str to Rule
        The rule of every node.
    composite : str
        Name of the composite.
    backend, dtype : str
        How it was computed.
    device : str
        Where.
    head : str
        What of the class is explained: one of `heads.HEADS`.
    warnings : list of str
        What a reader should know.
    dialect : Dialect
        Whose definitions of the rules.
    """

    network: Network
    canonical: Network
    x: Array
    scores: Array
    target: Array | None
    relevances: Mapping[str, Array]
    ledger: Ledger
    rules: Mapping[str, Rule]
    composite: str
    backend: str
    dtype: str
    device: str
    head: str = "score"
    warnings: list[str] = field(default_factory=list)
    dialect: dialects.Dialect = dialects.CHAPTER

    def __repr__(self) -> str:
        what = "relevances" if self.target is None else [self.network.label(int(t)) for t in self.target[:3]]
        return f"<Explanation of {what} for {len(self.x)} inputs: {self.way}, {self.dtype}>"

    @property
    def way(self) -> str:
        """The composite's name, and the dialect's where it is not the chapter's."""
        other = self.dialect != dialects.CHAPTER
        return f"{self.composite} in the dialect of {self.dialect.name}" if other else self.composite

    @property
    def relevance(self) -> Array:
        """Relevance of the input, like x; its sum is f(x) less all accounts."""
        return self.relevances[INPUT]

    def at(self, name: str) -> Array:
        """
        Give the relevance of a node's output.

        Parameters
        ----------
        name : str
            The node; a batch norm that was folded backward stands for the layer it went into.

        Returns
        -------
        ndarray, like the node's output
            Relevance, in units of the explained quantity.

        Raises
        ------
        BadInput
            If there is no such node, or nothing arrives at it.
        """
        name = self.canonical.merged.get(name, name)
        if name not in self.relevances:
            self.canonical.node(name)  # of a name that does not exist it names the nearest
            raise BadInput(f"no relevance at '{name}': there are {', '.join(self.relevances)}")
        return self.relevances[name]

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        certificate: Certificate | None = None,
    ) -> None:
        """
        Write the record: relevance.npz, audit.json, heatmap.png, ledger.png; with a certificate digits.png.

        Parameters
        ----------
        folder : path-like
            A new folder, an empty one, or (with `overwrite`) an earlier record.
        overwrite : bool
            Whether an earlier record may be replaced.
        certificate : Certificate, optional
            How many digits are right (`lrpref.certificate.certify`).

        Raises
        ------
        BadRecord
            If the folder cannot be written, or holds anything else.
        """
        record.write(self, Path(folder), overwrite=overwrite, certificate=certificate)


def explain(
    network: Network | Plan,
    x: Any,
    target: heads.Target = "max",
    composite: Any = None,
    *,
    rules: Mapping[str, Rule] | None = None,
    backend: str | None = None,
    dtype: str | None = None,
    head: str | None = None,
    dialect: str | dialects.Dialect | None = None,
    watch: Callable[[str], None] | None = None,
) -> Explanation:
    """
    Explain a network's output by the relevance of its input.

    Parameters
    ----------
    network : Network or Plan
        The network; its batch norms are folded first. Or a plan, which has done that, and has the composite,
        the backend, the dtype and the head.
    x : array_like, shape (N, ...)
        Preprocessed inputs (`network.preprocess`).
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        The class whose score is explained, or relevances of the output.
    composite : str, path-like or Composite
        Which rule at which layer: a name, a TOML file, or a composite of one's own; `chapter` by default.
    rules : mapping of str to Rule, optional
        Rules node by node, instead of a composite.
    backend : {"auto", "numpy", "loops", "cpu", "cupy", "numba-cuda"}
        Who computes; `numpy` by default.
    dtype : {"float32", "float64", "longdouble", "exact", "ball"}
        In which arithmetic, `float64` by default; the last three on backend `numpy` only.
    head : {"score", "log-odds"}
        What is explained of the class: its score before a softmax, or log(P / (1 - P)) of its probability
        (Section 10.3.1).
    dialect : str or Dialect, optional
        Whose definitions of the rules: a library's, by name (`lrpref.dialects.NAMES`), instead of the
        chapter's. The result is then that library's.
    watch : callable, optional
        Called with each node's name when its relevance has been propagated; once for each part of a batch
        that is larger than memory.

    Returns
    -------
    Explanation
        `.relevance` like x; `.ledger`: f(x) = sum of relevance + all accounts.

    Raises
    ------
    BadNetwork
        If the network is none.
    BadInput
        If the input or the target does not fit.
    BadRule
        If the composite is unknown, or a rule does not fit its layer.
    BadBackend
        If the backend or dtype is unknown, or cannot run this network.
    """
    options = {"composite": composite, "rules": rules, "backend": backend, "dtype": dtype, "head": head,
               "dialect": dialect}  # fmt: skip
    chosen = {name: value for name, value in options.items() if value is not None}
    if isinstance(network, Plan):
        if chosen:
            raise BadInput(f"a plan has its {', '.join(chosen)} already: give them to Plan(...)")
        return _explain(network, x, target, watch)
    if isinstance(network, Network):
        x = network.check_input(x)  # before the work of a plan
    return _explain(Plan(network, **chosen), x, target, watch)


def _explain(plan: Plan, x: Any, target: heads.Target, watch: Callable[[str], None] | None) -> Explanation:
    network, canonical = plan.network, plan.canonical
    x = np.array(network.check_input(x))  # its own: the caller may write into theirs
    target = heads.read(target, (len(x), *canonical.shapes[canonical.top]))
    if plan.head != "score" and not isinstance(target, str) and target.ndim > 1:
        raise BadInput(f"head '{plan.head}' explains a class: its index is wanted, or 'max', not relevances")
    # what overflows is caught where it does harm, with the node's name
    with np.errstate(over="ignore", invalid="ignore"), plan.precision():
        parts = list(_parts(plan, x, target, watch))
        ledger = parts[0].ledger if len(parts) == 1 else Ledger.joined([part.ledger for part in parts])
    relevances = parts[0].relevances
    if len(parts) > 1:
        relevances = {
            name: np.concatenate([part.relevances[name] for part in parts]) for name in parts[0].relevances
        }
    scores = np.concatenate([part.scores for part in parts])
    chosen = [part.classes for part in parts if part.classes is not None]
    classes = np.concatenate(chosen) if chosen else None
    notes = _warnings(plan, classes, ledger, x)
    if len(parts) > 1:
        notes.append(f"the batch was split into {len(parts)} parts: only the input's relevance was kept")
    return Explanation(
        network, canonical, x, scores, classes, relevances, ledger,
        plan.rules, plan.composite, plan.backend, plan.dtype, plan.kernels.device_name(), plan.head, notes,
        plan.dialect,
    )  # fmt: skip


class _Part(NamedTuple):
    """What is found for the samples that fit into memory together."""

    scores: Array
    classes: Array | None
    relevances: Mapping[str, Array]
    ledger: Ledger


SHARE = 0.7
"""How much of the free memory a part of a batch may take."""


def _parts(plan: Plan, x: Array, target: Array | str, watch: Callable[[str], None] | None) -> Iterator[_Part]:
    """Explain a batch, in parts if it does not fit: the first is one sample, and says what one takes."""
    free = plan.kernels.free_memory()
    kept = (INPUT, plan.canonical.top)
    start, limit = 0, len(x)
    size = limit if limit * plan.bytes_per_sample <= SHARE * free else 1
    while start < len(x):
        some = slice(start, start + size)
        try:
            part = _explain_part(plan, x[some], target if isinstance(target, str) else target[some], watch)
        except (MemoryError, NoMemory) as error:
            if size == 1:
                raise NoMemory(str(error) or "not enough memory for one sample at this dtype") from None
            limit = size = size // 2
            continue
        if size == len(x):
            yield part
            return
        start += size
        used = (free - plan.kernels.free_memory()) / size  # with the part's arrays still there
        found = part._replace(relevances={name: part.relevances[name] for name in kept})
        del part
        size = max(1, min(limit, len(x) - start, int(SHARE * free / max(plan.bytes_per_sample, used))))
        yield found


def _explain_part(plan: Plan, x: Array, target: Array | str, watch: Callable[[str], None] | None) -> _Part:
    canonical, kernels = plan.canonical, plan.kernels
    activations = activate(canonical, plan.prepared, kernels.upload(plan.arithmetic.array(x)))
    scores = kernels.download(activations[canonical.top])
    if not plan.arithmetic.objects and not np.isfinite(scores).all():
        raise BadInput(
            f"the network's output is not finite in dtype '{plan.dtype}': are the inputs preprocessed?"
        )
    R, s, classes, above = _start(plan, scores, target)
    relevances, ledger = propagate(
        canonical, plan.prepared, activations, kernels.upload(R),
        kernels=kernels, watch=watch, s=None if s is None else kernels.upload(s),
    )  # fmt: skip
    return _Part(scores, classes, Downloads(relevances, kernels.download), ledger.below(above))


def _start(
    plan: Plan, scores: Array, target: Array | str
) -> tuple[Array, Array | None, Array | None, list[Row]]:
    """Give R at the top, s where the head has divided already, the classes, and the books of the head."""
    if plan.head == "score":
        R, classes = plan.dialect.start(scores, target)
        return R, None, classes, []
    odds = heads.log_odds(scores, target)
    top = plan.canonical.top
    odds.row.hand(top if plan.merges_ratios else "log-ratios", odds.row.to_inputs)
    if plan.merges_ratios:
        return odds.R, odds.s, odds.classes, [odds.row]
    R = odds.s * scores  # LRP-0 in a layer of its own, with weights 1 and -1
    ratios = Row("log-ratios", "Dense", "zero", odds.row.to_inputs)
    ratios.book("to_inputs", REFERENCE.per_sample(R))
    ratios.hand(top, ratios.to_inputs)
    return R, None, odds.classes, [odds.row, ratios.close()]


class Downloads(Mapping[str, Array]):
    """
    Arrays by name that stay where the backend computes until somebody reads them.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The arrays.
    download : callable
        Brings one to the host.
    """

    def __init__(self, arrays: Mapping[str, Array], download: Callable[[Array], Array]) -> None:
        self._arrays, self._download = arrays, download
        self._home: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._home:
            self._home[name] = self._download(self._arrays[name])
        return self._home[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _warnings(plan: Plan, classes: Array | None, ledger: Ledger, x: Array) -> list[str]:
    network, canonical, rules = plan.network, plan.canonical, plan.rules
    notes = []
    if canonical.top not in (network.top, canonical.merged.get(network.top)):
        what = "the score before it is" if plan.head == "score" else f"the {plan.head} are"
        notes.append(f"the final softmax '{network.top}' is dropped: {what} explained")
    reached = {row.node for row in ledger if (row.arriving != 0).any()}  # the gates of an LSTM are not
    activations = [n for n in network.nodes if isinstance(n.layer, Activation) and n.name in reached]
    singular = [n.name for n in activations if n.layer.singular()]  # type: ignore[attr-defined]
    if singular:
        notes.append(f"g(0) is not 0 at {', '.join(singular)}: LRP-0 is singular where z is near 0")
    unfolded = [n.name for n in canonical.nodes if isinstance(n.layer, BatchNorm)]
    if unfolded and plan.dialect.folds:  # other dialects leave them in their place
        notes.append(f"batch norms that no linear layer could take: {', '.join(unfolded)}")
    outside = [n.name for n in canonical.nodes if n.inputs == (INPUT,) and not rules[n.name].admits(x)]
    if outside:
        notes.append(f"inputs of {', '.join(outside)} lie outside the rule's bounds: are they preprocessed?")
    if classes is not None and (exact.as_float(ledger.explained) < 0).any():
        what = "pixels" if x.ndim == 4 else "inputs"
        notes.append(f"an explained {plan.head} is negative: blue {what} push it down, red ones up")
    return notes
