"""From the results of a run to a table, a chart, and JSON.

Everything is computed from `results.json`; `python -m bench.report FOLDER` draws table and chart anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.networks import TITLES
from bench.sides import GPU, PEERS

Results = dict[str, Any]
Case = dict[str, Any]

SAME = 1e-6
"""Two float64 results further apart than this, in units of max |R|, are not the same computation. Rounding
stays far below, unless a denominator is nearly 0; another rule or another bias is far above."""

FLIPPED = 1e-3
"""float32 results that are the same computation differ by less than this, unless a winner flipped."""

NAMES = {
    "numpy": "lrpref `numpy`",
    "cpu": "lrpref `cpu`",
    "cupy": "lrpref `cupy`",
    "zennit": "zennit",
    "captum": "Captum",
    "zennit-cuda": "zennit, GPU",
    "zennit-cuda-tf32": "zennit, GPU, TF32",
}
"""What the sides are called."""

COLOURS = {"numpy": "#b8b8b8", "cpu": "#1f6f9f", "cupy": "#4f8f3a"}

NOTE = f"""\
¹ More than {FLIPPED:g} of max R apart in float32, but the same in float64 (below). Rounding lets another
pixel win a max pooling, or another sign a ReLU, and a whole share of relevance goes elsewhere: that is the
method, not the kernel, and meets every float32 run. The L1 difference says how much of the relevance
moved."""

LEGEND = """\
Seconds: from an array of inputs to its relevance, for lrpref to the closed ledger; median of
all calls (least to most). Every call has a new input; every turn is a process of its own, which explains
once before it is measured. GiB: the largest resident size while it explains, weights and libraries
included. Of SGEMM: flops of lrpref's plan (`bench/flops.py`, the same number for all sides) per second, as
a share of the machine's rate. Differs, in float32: max abs(difference) / max abs(R), and L1, sum
abs(difference) / sum abs(R)."""

CHECKED = f"""\
lrpref `numpy` beside the peers in float64, on one input. Up to {SAME:g} of max R counts as
the same; beyond it no ratio is given."""

IDLE = 0.3
"""A load up to which a machine counts as idle."""


class Figures(NamedTuple):
    """
    What the turns of one side come to.

    Parameters
    ----------
    seconds, least, most : float
        Median, minimum and maximum of all measured calls.
    peak : float
        Largest peak memory, in GiB.
    rate : float
        Share of the machine's rate: the explanation's flops per second of the median, over SGEMM's.
    """

    seconds: float
    least: float
    most: float
    peak: float
    rate: float


def figures(case: Case, side: str) -> Figures | None:
    """
    Sum up the turns of one side.

    Parameters
    ----------
    case : dict
        One case of the results.
    side : str
        Whose.

    Returns
    -------
    Figures or None
        The figures; None if the side has no turns, or failed in one.
    """
    turns = [turn for turn in case["turns"] if turn["side"] == side]
    seconds = [s for turn in turns for s in turn["seconds"]]
    if not seconds or side in case["failures"]:
        return None
    middle = median(seconds)
    rate = case["batch"] * case["flops"] / middle / median(case["rates"])
    return Figures(middle, min(seconds), max(seconds), max(t["peak"] for t in turns) / 2**30, rate)


def sides_of(case: Case) -> list[str]:
    """
    List who took part in a case, or should have.

    Parameters
    ----------
    case : dict
        One case of the results.

    Returns
    -------
    list of str
        lrpref's backends first.
    """
    found = dict.fromkeys([*(turn["side"] for turn in case["turns"]), *case["failures"]])
    return sorted(found, key=lambda side: (side in GPU, side in PEERS))


class Ratio(NamedTuple):
    """
    One of lrpref's backends beside one peer.

    Parameters
    ----------
    case : dict
        Network, composite and batch.
    side, peer : str
        Who.
    times : float or None
        The peer's median over the side's; None where the two did not compute the same.
    max, l1 : float
        Difference of the relevances, as shares of max |R| and of sum |R|.
    """

    case: Case
    side: str
    peer: str
    times: float | None
    max: float
    l1: float


def same(results: Results, case: Case, peer: str) -> bool:
    """
    Tell whether a peer computes what lrpref computes.

    Parameters
    ----------
    results : dict
        The results.
    case : dict
        One of their cases.
    peer : str
        The peer.

    Returns
    -------
    bool
        What the comparison in float64 says; False where there is none.
    """
    wanted = (case["network"], case["composite"], peer.split("-")[0])
    return any(
        (check["network"], check["composite"], check["peer"]) == wanted and check.get("max", 1) <= SAME
        for check in results["checks"]
    )


def ratios(results: Results, case: Case) -> Iterator[Ratio]:
    """
    Compare every backend with every peer that ran on the same kind of processor.

    Parameters
    ----------
    results : dict
        The results.
    case : dict
        One of their cases.

    Yields
    ------
    Ratio
        One for each pair.
    """
    for found in case["differences"]:
        ours, theirs = figures(case, found["side"]), figures(case, found["peer"])
        if ours and theirs:
            agree = same(results, case, found["peer"])
            times = theirs.seconds / ours.seconds if agree else None
            yield Ratio(case, found["side"], found["peer"], times, found["max"], found["l1"])


def table(results: Results) -> str:
    """
    Write the tables.

    Parameters
    ----------
    results : dict
        The results.

    Returns
    -------
    str
        Markdown.
    """
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rates = [rate / 1e9 for case in results["cases"] for rate in case["rates"]]
    lines = [
        "# Benchmark",
        "",
        f"{machine['processor']}, {machine['threads']} threads on each side, {machine['memory']:.0f} GiB, "
        f"{machine['system']}; {results['date']}. {versions}.",
        "",
        f"SGEMM, 2048 x 2048: {median(rates):.0f} GFLOP/s ({min(rates):.0f} to {max(rates):.0f}).",
        "",
    ]
    if results["load"] > IDLE:
        lines += [f"**The machine was not idle: load {results['load']:.1f} at the start.**", ""]
    lines += [LEGEND]
    for network in dict.fromkeys(case["network"] for case in results["cases"]):
        lines += ["", f"## {TITLES.get(network, network)}", "", *_rows(results, network)]
    lines += ["", "## The same computation", "", *_checks(results)]
    return "\n".join(lines) + "\n"


def _rows(results: Results, network: str) -> Iterator[str]:
    yield "| composite | batch | | seconds | GiB | of SGEMM | times as fast | differs: max, L1 |"
    yield "|---|---|---|---|---|---|---|---|"
    flipped = False
    for case in results["cases"]:
        if case["network"] != network:
            continue
        compared = list(ratios(results, case))
        for side in sides_of(case):
            head = f"| {case['composite']} | {case['batch']} | {NAMES[side]} |"
            found = figures(case, side)
            if found is None:
                yield f"{head} {case['failures'].get(side, 'no result')} | | | | |"
                continue
            mine = [ratio for ratio in compared if ratio.side == side]
            flipped = flipped or any(r.times and r.max >= FLIPPED for r in mine)
            yield (
                f"{head} {_seconds(found.seconds)} ({_seconds(found.least)} to {_seconds(found.most)}) "
                f"| {found.peak:.2f} | {'' if side in GPU else f'{found.rate:.0%}'} "
                f"| {'<br>'.join(map(_times, mine))} | {'<br>'.join(map(_difference, mine))} |"
            )
    if flipped:
        yield ""
        yield NOTE


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def _times(ratio: Ratio) -> str:
    peer = NAMES[ratio.peer]
    return f"not the same as {peer}" if ratio.times is None else f"{ratio.times:.2f} x {peer}"


def _difference(ratio: Ratio) -> str:
    mark = "¹" if ratio.times and ratio.max >= FLIPPED else ""
    return f"{ratio.max:.0e}, {ratio.l1:.0e}{mark}"


def _checks(results: Results) -> Iterator[str]:
    yield CHECKED
    yield ""
    yield "| network | composite | peer | max | L1 |"
    yield "|---|---|---|---|---|"
    for check in results["checks"]:
        network = TITLES.get(check["network"], check["network"])
        head = f"| {network} | {check['composite']} | {NAMES[check['peer']]} |"
        if "failure" in check:
            yield f"{head} {check['failure']} | |"
        else:
            verdict = "" if check["max"] <= SAME else " **not the same**"
            yield f"{head} {check['max']:.0e}{verdict} | {check['l1']:.0e} |"


def chart(results: Results, path: Path) -> None:
    """
    Draw how many times as fast as its peers lrpref is: one panel for each peer, one bar for each backend.

    Parameters
    ----------
    results : dict
        The results.
    path : Path
        The PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    found = [r for case in results["cases"] for r in ratios(results, case) if r.times is not None]
    panels = [(peer, bars) for peer in PEERS if (bars := [r for r in found if r.peer == peer])] or [
        ("zennit", [])
    ]
    inches = [0.2 + 0.18 * len(bars) + 0.12 * len(_groups(bars)) for _, bars in panels]
    size = (8, sum(inches) + 0.7 * len(panels) + 0.6)
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=size, squeeze=False, height_ratios=inches, layout="constrained"
    )
    for axis, (peer, bars) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, peer, bars)
    drawn = [side for side in COLOURS if any(bar.side == side for bar in found)]
    patches = [Patch(color=COLOURS[side], label=NAMES[side].replace("`", "")) for side in drawn]
    figure.legend(handles=patches, loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    machine = results["machine"]
    words = f"{machine['processor']}, {machine['threads']} threads, {results['date'][:10]}; longer is faster"
    figure.supxlabel(words, fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _groups(bars: list[Ratio]) -> dict[str, list[Ratio]]:
    """One group for each case, under the words that stand beside it."""
    groups: dict[str, list[Ratio]] = {}
    for bar in bars:
        case = bar.case
        words = f"{TITLES.get(case['network'], case['network'])}, {case['composite']}, batch {case['batch']}"
        groups.setdefault(words, []).append(bar)
    return groups


def _panel(axis: Any, peer: str, bars: list[Ratio]) -> None:
    groups = _groups(bars)
    y, middles = 0.0, []
    for group in groups.values():
        middles.append(y + (len(group) - 1) / 2)
        for bar in group:
            times = bar.times or 0.0
            axis.barh(y, times, 0.9, color=COLOURS[bar.side])
            axis.text(times, y, f" {times:.1f} " if times < 10 else f" {times:.0f} ", va="center", fontsize=8,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0})  # fmt: skip
            y += 1
        y += 0.6
    axis.axvline(1, color="black", linewidth=1, zorder=1)
    axis.set_yticks(middles, list(groups), fontsize=8)
    axis.set_ylim(y - 0.4, -0.8)
    axis.set_xlim(0, 1.12 * max([1.0, *(bar.times or 0.0 for bar in bars)]))
    axis.set_title(f"How many times as fast as {NAMES[peer]} (= 1)", fontsize=10, loc="left")
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def write(results: Results, folder: Path) -> None:
    """
    Write results.json, table.md and chart.png.

    Parameters
    ----------
    results : dict
        The results.
    folder : Path
        Where; it is made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(results), encoding="utf-8")
    chart(results, folder / "chart.png")


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1], "results.json").read_text(encoding="utf-8")), Path(sys.argv[1]))
