"""lrpref beside zennit and Captum: the same network, the same inputs, the same machine, taking turns.

    python -m bench.run [--network vgg16] [--composite epsilon-plus] [--batch 1] [--quick] ...

Every turn is a process of its own: so the peak memory, weights and libraries included, is its own too, and
no side's idle threads disturb another. All may use as many threads. Before a ratio is given, lrpref and the
peer must agree in float64. A side that lacks something or fails is a line in the table, never the end of
the run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import networks, report, sides
from bench.turn import Job
from lrpref.kernels.device import available
from lrpref.kernels.operations import Array

ROOT = Path(__file__).resolve().parent.parent

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""How many threads every side may use."""

CALLS = {1: 3}
"""Measured calls of one turn, by batch; 1 where nothing is said."""

PACKAGES = ("lrpref", "numpy", "scipy", "numba", "torch", "zennit", "captum", "cupy-cuda12x", "cupy-cuda13x")

out = Console(highlight=False)


class Failed(Exception):
    """A turn that brought no result; the text says why, in one line."""


def turn(job: Job) -> dict[str, Any]:
    """
    Run a turn in a process of its own.

    Parameters
    ----------
    job : Job
        What is to be done.

    Returns
    -------
    dict
        What `bench.turn` printed.

    Raises
    ------
    Failed
        If it failed.
    """
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB_MAXIMUM")
    threads = {f"{name}_NUM_THREADS": str(THREADS) for name in names}
    command = [sys.executable, "-m", "bench.turn", job.text()]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, check=False
    )
    if done.returncode < 0:
        raise Failed(f"ended by signal {-done.returncode}: out of memory?")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no word"]
        raise Failed(lines[-1].removeprefix("lrpref.errors.")[:200].replace("|", "/"))
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def difference(actual: Array, expected: Array) -> dict[str, float]:
    """
    Compare two relevances.

    Parameters
    ----------
    actual, expected : ndarray
        Of one shape.

    Returns
    -------
    dict
        `max`, max |difference| / max |R|; `l1`, sum |difference| / sum |R|.
    """
    apart, size = abs(actual - expected), abs(expected)
    return {"max": float(apart.max() / size.max()), "l1": float(apart.sum() / size.sum())}


def compare(
    network: str, composite: str, batch: int, turns: int, who: list[str], tick: Callable[[str], None]
) -> report.Case:
    """
    Let the sides take turns on one case.

    Parameters
    ----------
    network, composite : str
        What is explained, and how.
    batch : int
        How many inputs at once.
    turns : int
        Of each side.
    who : list of str
        The sides.
    tick : callable
        Told of every turn before it starts.

    Returns
    -------
    dict
        The case: `flops`, `rates`, `turns`, `failures`, `differences`.
    """
    title = f"{networks.TITLES[network]}, {composite}, batch {batch}"
    flops = turn(Job("flops", network, composite))["flops"]
    failures = {side: why for side in who if (why := sides.lacks(side, network, composite))}
    found: list[dict[str, Any]] = []
    rates = []
    calls = CALLS.get(batch, 1)
    with TemporaryDirectory() as folder:
        saved = {side: str(Path(folder, f"{side}.npy")) for side in who}
        for number in range(turns):
            rates.append(turn(Job("sgemm", threads=THREADS))["rate"])
            seeds = tuple(range(number * (calls + 1), (number + 1) * (calls + 1)))
            for side in who:
                tick(f"{title}: {side}")
                if side in failures:
                    continue
                save = saved[side] if number == 0 else ""
                job = Job(side, network, composite, batch, "float32", seeds, THREADS, save)
                try:
                    found.append({"side": side, "turn": number, **turn(job)})
                except Failed as error:
                    failures[side] = str(error)
        R = {side: np.load(path) for side, path in saved.items() if side not in failures}
    differences = [
        {"side": side, "peer": peer, **difference(R[side], R[peer])}
        for side, peer in product(R, R)
        if side not in sides.PEERS and peer in sides.PEERS and (side in sides.GPU) == (peer in sides.GPU)
    ]
    return {"network": network, "composite": composite, "batch": batch, "flops": flops, "rates": rates,
            "turns": found, "failures": failures, "differences": differences}  # fmt: skip


def check(network: str, composite: str, peers: list[str]) -> list[dict[str, Any]]:
    """
    Compare lrpref's reference with the peers in float64: is it the same computation?

    Parameters
    ----------
    network, composite : str
        What is explained, and how.
    peers : list of str
        With whom.

    Returns
    -------
    list of dict
        One for each peer that has the rules: `max` and `l1`, or `failure`.
    """
    with TemporaryDirectory() as folder:

        def relevance(side: str) -> Array:
            path = str(Path(folder, f"{side}.npy"))
            turn(Job(side, network, composite, 1, "float64", (0,), THREADS, path))
            return np.load(path)

        ours = relevance("numpy")
        checks: list[dict[str, Any]] = []
        for peer in peers:
            if sides.lacks(peer, network, composite):
                continue
            found: dict[str, Any] = {"network": network, "composite": composite, "peer": peer}
            try:
                found |= difference(ours, relevance(peer))
            except Failed as error:
                found["failure"] = str(error)
            checks.append(found)
    return checks


def machine() -> dict[str, Any]:
    """
    Describe the machine.

    Returns
    -------
    dict
        `processor`, `threads`, `memory` in GiB, `system`.
    """
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = models[0] if models else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return {"processor": processor, "threads": THREADS, "memory": memory, "system": system}


def versions() -> dict[str, str]:
    """
    List what is installed.

    Returns
    -------
    dict of str to str
        Versions by package, of those in `PACKAGES` that there are.
    """
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def default_sides(table: tuple[str, ...]) -> list[str]:
    """
    Leave out what needs a GPU where none answers.

    Parameters
    ----------
    table : tuple of str
        Backends or peers.

    Returns
    -------
    list of str
        Those that can run here.
    """
    return [side for side in table if side not in sides.GPU or not available()]


def _checked(what: str, given: list[str] | None, known: Any, default: list[str]) -> list[str]:
    for name in given or []:
        if name not in known:
            raise typer.BadParameter(f"there is no {what} {name!r}: there are {', '.join(known)}")
    return list(dict.fromkeys(given or default))


def main(
    network: Annotated[
        list[str] | None, typer.Option(help="vgg16, resnet50, squeezenet; repeat for more.")
    ] = None,
    composite: Annotated[
        list[str] | None, typer.Option(help="One of sides.COMPOSITES; repeat for more.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Inputs at once; repeat for more.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="numpy, cpu, cupy; repeat for more.")] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="zennit, captum, zennit-cuda, zennit-cuda-tf32.")
    ] = None,
    turns: Annotated[int | None, typer.Option(min=1, help="Of each side; 3 where not given.")] = None,
    quick: Annotated[bool, typer.Option(help="Two composites on SqueezeNet, batch 1, one turn.")] = False,
    accuracy: Annotated[bool, typer.Option(help="The agreement figures too (bench.accuracy).")] = False,
    to: Annotated[Path, typer.Option("--out", help="Folder of the results.")] = ROOT / "bench" / "results",
) -> None:
    """Compare, and write table.md, results.json and chart.png."""
    nets = _checked(
        "network",
        network,
        networks.NETWORKS,
        ["squeezenet"] if quick else ["vgg16", "resnet50", "squeezenet"],
    )
    rules = _checked(
        "composite",
        composite,
        sides.COMPOSITES,
        ["epsilon-gamma-box", "epsilon"] if quick else list(sides.COMPOSITES),
    )
    ours = _checked("backend", backend, sides.BACKENDS, default_sides(sides.BACKENDS))
    theirs = _checked("peer", peer, sides.PEERS, default_sides(sides.PEERS))
    batches = list(dict.fromkeys(batch or ([1] if quick else [1, 16])))
    turns = turns or (1 if quick else 3)
    results: report.Results = {
        "machine": machine(), "versions": versions(), "date": time.strftime("%Y-%m-%d %H:%M"),
        "load": os.getloadavg()[0], "turns": turns, "checks": [], "cases": [],
    }  # fmt: skip
    cases = list(product(nets, rules))
    total = len(cases) * (1 + len(batches) * turns * len([*ours, *theirs]))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=out) as progress:
        task = progress.add_task("", total=total)

        def tick(words: str) -> None:
            progress.update(task, description=words, advance=1)

        for name, chosen in cases:
            tick(f"{networks.TITLES[name]}, {chosen}: the same in float64?")
            results["checks"] += check(name, chosen, list(dict.fromkeys(p.split("-")[0] for p in theirs)))
            for size in batches:
                results["cases"].append(compare(name, chosen, size, turns, [*ours, *theirs], tick))
                report.write(results, to)  # what is there stays, whatever happens next
    print((to / "table.md").read_text(encoding="utf-8"))
    if accuracy:
        subprocess.run([sys.executable, "-m", "bench.accuracy", "--out", str(to)], cwd=ROOT, check=True)


if __name__ == "__main__":
    typer.run(main)
