"""How far float32 is from the float64 reference, and whether its books close.

    python -m bench.accuracy [--backend cpu] [--network vgg16] [--seeds 5]

A float32 run and the float64 reference may choose different winners in a max pooling whose two largest pixels
agree to seven digits. A whole share of relevance then goes elsewhere, whoever computes it. So the reference
runs twice: once with the winners of the float32 run, which leaves the rounding of the kernels, and once
freely, which tells what a user sees. Under a uniform eps, ReLUs at z near 0 do the same: there each layer is
compared by itself.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bench import networks
from bench.run import ROOT, machine
from lrpref import heads, relprop
from lrpref.engine import activate, propagate
from lrpref.kernels.operations import Array, Operation
from lrpref.kernels.reference import Reference
from lrpref.ledger import Ledger
from lrpref.network import INPUT, Network
from lrpref.plan import Plan, prepare
from lrpref.rules import Epsilon, Rule, relative

WANTED = {"guided": 5e-5, "free": 1e-2, "layer": 5e-5, "node_residual": 2e-6, "residual": 2e-6}
"""The largest errors that are wanted of `Agreement`'s figures."""

EPS, EPS_STD = Epsilon(1e-6), Epsilon(relative(0.25))
"""The rules under which layers are compared one at a time."""

SAYS = {
    "guided": "max error / max R, same winners",
    "free": "L1 error / sum R, own winners",
    "flipped": "flipped winners",
    "layer": "eps 0.25 std, worst layer alone: max error / max R",
    "small_eps": "eps 1e-6, worst layer alone: L1 error / sum R",
    "node_residual": "residual / sum R, worst node",
    "residual": "residual / sum R, network",
}
"""What the figures are, in the table."""


@dataclass(frozen=True)
class Agreement:
    """
    One float32 run beside the reference.

    Parameters
    ----------
    seed : int
        Of weights, biases and input.
    guided : float
        Largest error of the input's relevance over its largest magnitude; the reference has the winners of
        the float32 run, and its own values.
    free : float
        Sum of errors over the sum of magnitudes; the reference has its own winners.
    flipped : int
        How many windows of max pooling have another winner.
    layer : float
        Under eps = 0.25 std, one layer at a time on the activations and relevances of the reference: the
        worst layer's largest error over its largest relevance.
    small_eps : float
        The same under eps = 1e-6, but the sum of errors over the sum of magnitudes: where |z| is no larger
        than its own rounding, R / z is any number, and the largest error says nothing.
    node_residual : float
        Of the float32 run's books: the worst node's residual over the sum of the relevances that arrive.
    worst_node : str
        That node.
    residual : float
        The network's residual over the sum of the input's relevances, in magnitude.
    """

    seed: int
    guided: float
    free: float
    flipped: int
    layer: float
    small_eps: float
    node_residual: float
    worst_node: str
    residual: float


class Recorder:
    """
    A backend that remembers who won.

    Parameters
    ----------
    kernels : object
        The backend.
    """

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels
        self.winners: list[Array] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def max_pool2d_winners(self, a: Array, op: Operation, ties: str) -> Array:
        """
        Ask the backend, and remember what it says.

        Parameters
        ----------
        a : ndarray, shape (N, C, H, W)
            Lower activations.
        op : Operation
            The pooling.
        ties : {"first", "split"}
            Who wins a tie.

        Returns
        -------
        ndarray, shape (T, N, C, Ho, Wo)
            1 for a winner, 0 elsewhere.
        """
        found: Array = self._kernels.max_pool2d_winners(a, op, ties)
        self.winners.append(self._kernels.download(found))
        return found


class Guided(Reference):
    """
    The reference with another run's winners; how many its own would differ in is in `flipped`.

    Parameters
    ----------
    winners : list of ndarray
        Of each max pooling, from the top down.
    """

    def __init__(self, winners: list[Array]) -> None:
        self._winners = iter(winners)
        self.flipped = 0

    def max_pool2d_winners(self, a: Array, op: Operation, ties: str) -> Array:
        own, given = super().max_pool2d_winners(a, op, ties), next(self._winners).astype(a.dtype)
        self.flipped += int((own != given).any(axis=0).sum())
        return given


@dataclass(frozen=True)
class Result:
    """
    What a run leaves behind.

    Parameters
    ----------
    activations, relevances : mapping of str to ndarray
        By node, and of the input.
    ledger : Ledger
        The books.
    """

    activations: dict[str, Array]
    relevances: dict[str, Array]
    ledger: Ledger


def explain(plan: Plan, x: Array, kernels: Any) -> Result:
    """
    Explain on a backend of one's own.

    Parameters
    ----------
    plan : Plan
        Network, rules, dtype.
    x : ndarray, shape (N, C, H, W)
        The inputs.
    kernels : object
        The backend.

    Returns
    -------
    Result
        Activations, relevances and books, on the host.
    """
    prepared = prepare(plan.canonical, plan.rules, kernels, plan.arithmetic)
    activations = activate(plan.canonical, prepared, kernels.upload(plan.arithmetic.array(x)))
    R, _ = heads.start(kernels.download(activations[plan.canonical.top]), "max")
    relevances, ledger = propagate(plan.canonical, prepared, activations, kernels.upload(R), kernels=kernels)
    home = [{name: kernels.download(v) for name, v in found.items()} for found in (activations, relevances)]
    return Result(home[0], home[1], ledger)


def layer_errors(network: Network, x: Array, backend: str, rule: Rule) -> dict[str, tuple[float, float]]:
    """
    Compare layer by layer, each on the activations and relevances of the reference, rounded to float32.

    Parameters
    ----------
    network : Network
        In canonical form.
    x : ndarray, shape (N, C, H, W)
        The inputs.
    backend : str
        Who computes in float32.
    rule : Rule
        The rule of all layers with weights.

    Returns
    -------
    dict of str to (float, float)
        By layer with weights: largest error over the largest relevance of its inputs, and the sum of errors
        over the sum of magnitudes.
    """
    others = Plan(network, "epsilon-plus").rules  # poolings and sums, as in all composites here
    weighted = [node for node in network.nodes if node.layer.role in ("convolution", "dense")]
    rules = {node.name: others[node.name] for node in network.nodes if node.layer.is_linear}
    plan = Plan(network, rules=rules | {node.name: rule for node in weighted})
    truth = explain(plan, x, plan.kernels)
    errors = {}
    for node in weighted:
        given = truth.activations[node.inputs[0]], truth.relevances[node.name]
        a, R = (v.astype(np.float32) for v in given)
        wide = relprop(plan.arithmetic.cast(node.layer), rule, a.astype(np.float64), R.astype(np.float64))
        narrow = relprop(node.layer, rule, a, R, backend=backend)
        errors[node.name] = difference(narrow.relevance, wide.relevance)
    return errors


def difference(actual: Array, expected: Array) -> tuple[float, float]:
    """
    Compare two relevances.

    Parameters
    ----------
    actual, expected : ndarray
        Of one shape.

    Returns
    -------
    max, l1 : float
        max |error| / max |R|, and sum |error| / sum |R|.
    """
    apart, size = abs(actual - expected), abs(expected)
    return float(apart.max() / size.max()), float(apart.sum() / size.sum())


def residuals(result: Result) -> tuple[dict[str, float], float]:
    """
    Look at the books of a run.

    Parameters
    ----------
    result : Result
        The run.

    Returns
    -------
    nodes : dict of str to float
        By node: residual over the sum of |R| that arrives; the worst sample counts.
    network : float
        The network's residual over the sum of the input's |R|; the worst sample counts.
    """

    def share(residual: Array, R: Array) -> float:
        return float((abs(residual) / abs(R.astype(np.float64)).reshape(len(R), -1).sum(axis=1)).max())

    nodes = {row.node: share(row.residual, result.relevances[row.node]) for row in result.ledger}
    return nodes, share(result.ledger.residual, result.relevances[INPUT])


def agreement(name: str, backend: str, composite: str, seed: int) -> Agreement:
    """
    Compare one float32 run with the reference.

    Parameters
    ----------
    name : str
        One of `networks.NETWORKS`.
    backend : str
        Who computes in float32.
    composite : str
        The rules.
    seed : int
        Of weights, biases and input.

    Returns
    -------
    Agreement
        The figures.
    """
    network = networks.random(name, seed)
    x = networks.inputs(network, 1, seed)
    plan = Plan(network, composite, backend=backend, dtype="float32")
    recorder = Recorder(plan.kernels)
    float32 = explain(plan, x, recorder)
    truth = Plan(plan.canonical, composite)  # the same numbers: folded weights are rounded to float32 once
    reference = Guided(recorder.winners)
    guided = explain(truth, x, reference).relevances[INPUT]
    free = explain(truth, x, truth.kernels).relevances[INPUT]
    R = float32.relevances[INPUT]
    layer, small = (layer_errors(plan.canonical, x, backend, rule) for rule in (EPS_STD, EPS))
    nodes, residual = residuals(float32)
    worst_node = max(nodes, key=nodes.__getitem__)
    return Agreement(
        seed=seed,
        guided=difference(R, guided)[0],
        free=difference(R, free)[1],
        flipped=reference.flipped,
        layer=max(most for most, _ in layer.values()),
        small_eps=max(l1 for _, l1 in small.values()),
        node_residual=nodes[worst_node],
        worst_node=worst_node,
        residual=residual,
    )


def worst(found: list[Agreement]) -> dict[str, dict[str, Any]]:
    """
    Give the worst of each figure, and whether it is as wanted.

    Parameters
    ----------
    found : list of Agreement
        One for each seed.

    Returns
    -------
    dict of str to dict
        `worst`, `wanted`, `reached`; the last two None where nothing is wanted.
    """
    verdicts: dict[str, dict[str, Any]] = {}
    for name in SAYS:
        value, wanted = max(getattr(one, name) for one in found), WANTED.get(name)
        reached = None if wanted is None else value <= wanted
        verdicts[name] = {"worst": value, "wanted": wanted, "reached": reached}
    return verdicts


def table(found: list[Agreement]) -> Table:
    """
    Lay the figures out.

    Parameters
    ----------
    found : list of Agreement
        One for each seed.

    Returns
    -------
    rich.table.Table
        A column for each seed.
    """
    made = Table("", *(f"seed {one.seed}" for one in found), "wanted", "")
    for name, verdict in worst(found).items():
        values = [getattr(one, name) for one in found]
        cells = [str(value) if isinstance(value, int) else f"{value:.1e}" for value in values]
        judged = ("", "")
        if verdict["wanted"] is not None:
            judged = (f"{verdict['wanted']:.0e}", "reached" if verdict["reached"] else "MISSED")
        made.add_row(SAYS[name], *cells, *judged)
    return made


def main(
    backend: Annotated[str, typer.Option(help="Who computes in float32.")] = "cpu",
    network: Annotated[str, typer.Option(help="One of networks.NETWORKS.")] = "vgg16",
    composite: Annotated[str, typer.Option(help="The rules.")] = "epsilon-gamma-box",
    seeds: Annotated[int, typer.Option(min=1, help="How many networks.")] = 5,
    to: Annotated[Path, typer.Option("--out", help="Folder of accuracy.json.")] = ROOT / "bench" / "results",
) -> None:
    """Compare float32 with the float64 reference; print a table and write accuracy.json."""
    out = Console(highlight=False)
    found = []
    with out.status("") as status:
        for seed in range(seeds):
            status.update(f"{network}, {composite}, {backend}: seed {seed}")
            found.append(agreement(network, backend, composite, seed))
    out.print(f"{networks.TITLES[network]}, {composite}, `{backend}` in float32 beside `numpy` in float64")
    out.print(table(found))
    to.mkdir(parents=True, exist_ok=True)
    results = {"network": network, "composite": composite, "backend": backend, "machine": machine(),
               "figures": worst(found), "seeds": [asdict(one) for one in found]}  # fmt: skip
    (to / "accuracy.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
