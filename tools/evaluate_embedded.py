"""Evaluate explanations of the embedded network by pixel flipping.

    python tools/evaluate_embedded.py [--images 500] [--jobs 2] [--draw] [FOLDER]

Every composite, the comparison methods and random orders, on the embedded pictures; then gamma and epsilon
are varied. Writes evaluation.json and images/flipping.png into FOLDER (docs), and prints the page's tables.
--draw computes nothing: it draws and prints from the numbers that are there.
"""

from __future__ import annotations

import argparse
import json
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import lrpref
from lrpref import baselines, data
from lrpref.composites import COMPOSITES
from lrpref.evaluation import PERTURBATIONS, Effect, estimate, negative_share, pixel_flipping, sensitivity
from lrpref.heatmap import png

PATCH, STEPS, RANDOM = 4, 24, 3
"""Patches of 4 x 4 pixels, of which the first 24 of 49 are perturbed; 3 random orders per picture."""

FAST = {"backend": "cpu", "dtype": "float32"}
FLIPPING = {"patch": PATCH, "steps": STEPS, **FAST}
SETTINGS = {
    "patch": PATCH, "steps": STEPS, "random_orders": RANDOM, "dtype": "float32",
    "composites_dtype": "float64", "sensitivity_dtype": "float32", "sensitivity_perturbation": "mean",
    "integrated_gradients_steps": 300, "smooth_grad_samples": 50, "seed": 0,
}  # fmt: skip

OTHERS: dict[str, Any] = {
    "integrated gradients": (baselines.integrated_gradients, {"steps": 300}),
    "SmoothGrad x input": (baselines.smooth_grad, {"samples": 50, "times_input": True}),
    "occlusion": (baselines.occlusion, {"patch": PATCH}),
    "gradient x input": (baselines.gradient_times_input, {}),
}
CURVES = {
    "gamma": ("gamma", (0, 0.03, 0.1, 0.25, 0.5, 1, 3, 10)),
    "epsilon": ("eps", ("0.01std", "0.03std", "0.1std", "0.25std", "0.5std", "1std", "3std", "10std")),
}
"""Composite: its parameter, and the values."""

UNITS = {"gamma": "gamma", "epsilon": "eps, in units of each layer's rms of z"}
"""What the values are of, for the picture."""

Done = dict[str, Any]


def pictures(count: int) -> Any:
    """Preprocess embedded pictures, evenly spread."""
    pixels, _ = data.images()
    some = np.linspace(0, len(pixels) - 1, count).round().astype(int)
    return data.embedded().preprocessing.normalise(pixels[some][..., None])


def evaluate(method: str, count: int) -> Done:
    """Flip pixels under every perturbation, in the order of one method."""
    network, x = data.embedded(), pictures(count)
    if method.startswith("random"):
        return _flip(network, x, None, int(method.split()[1]))
    if method in OTHERS:
        function, options = OTHERS[method]
        R = function(network, x, **options, **FAST)
    else:
        R = lrpref.explain(network, x, composite=method, backend="cpu").relevance
    return {**_flip(network, x, R, 0), "negative share": negative_share(R)}


def _flip(network: Any, x: Any, R: Any, seed: int) -> Done:
    found = {
        name: pixel_flipping(network, x, R, perturbation=name, seed=seed, **FLIPPING)
        for name in PERTURBATIONS
    }
    return {"aopc": {name: flipped.aopc for name, flipped in found.items()},
            "curve": {name: flipped.drops.mean(axis=0) for name, flipped in found.items()}}  # fmt: skip


def vary(composite: str, value: Any, count: int) -> Effect:
    """Evaluate one value of a composite's parameter, patches being replaced by their picture's mean."""
    network, x = data.embedded(), pictures(count)
    options = {**FLIPPING, "perturbation": "mean"}
    (effect,) = sensitivity(network, x, composite, CURVES[composite][0], [value], **options)
    return effect


def run(count: int, jobs: int) -> Done:
    """Evaluate everything."""
    methods = [*OTHERS, *COMPOSITES, *(f"random {seed}" for seed in range(RANDOM))]
    points = [(composite, value) for composite, (_, values) in CURVES.items() for value in values]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {method: pool.submit(evaluate, method, count) for method in methods}
        varied = [pool.submit(vary, composite, value, count) for composite, value in points]
        done = {}
        for method, future in futures.items():
            done[method] = future.result()
            print(method, flush=True)
        effects = [future.result() for future in varied]
    chance = {
        what: {name: np.mean([done[f"random {seed}"][what][name] for seed in range(RANDOM)], axis=0)
               for name in PERTURBATIONS} for what in ("aopc", "curve")
    }  # fmt: skip
    table = {method: _row(done[method], chance) for method in (*COMPOSITES, *OTHERS)}
    return {
        "command": "python tools/evaluate_embedded.py", "images": count, "settings": SETTINGS,
        "methods": table,
        "random": {"aopc": {name: estimate(v) for name, v in chance["aopc"].items()},
                   "curve": {name: _rounded(v) for name, v in chance["curve"].items()}},
        "sensitivity": [
            {"composite": composite, "parameter": CURVES[composite][0], "value": value,
             "aopc": estimate(effect.aopc - chance["aopc"]["mean"]),
             "negative share": estimate(effect.negative)}
            for (composite, value), effect in zip(points, effects, strict=True)
        ],
    }  # fmt: skip


def _row(found: Done, chance: Done) -> Done:
    """Give a method's AOPC less the random orders', picture by picture."""
    aopc = {name: estimate(values - chance["aopc"][name]) for name, values in found["aopc"].items()}
    return {"aopc": aopc, "negative share": estimate(found["negative share"]),
            "curve": {name: _rounded(values) for name, values in found["curve"].items()}}  # fmt: skip


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def table(results: Done) -> str:
    """Write the table of the methods, the best under `mean` first."""
    names = ("order by", *PERTURBATIONS, "negative share")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    rows = sorted(results["methods"].items(), key=lambda item: -item[1]["aopc"]["mean"][0])
    for method, row in rows:
        cells = [_cell(row["aopc"][name]) for name in PERTURBATIONS]
        lines.append(f"| {method} | {' | '.join(cells)} | {row['negative share'][0]:.0%} |")
    cells = [_cell(results["random"]["aopc"][name]) for name in PERTURBATIONS]
    lines.append(f"| *random order, its own AOPC* | {' | '.join(cells)} | |")
    return "\n".join(lines)


def curves(results: Done) -> str:
    """Write the table of the parameters."""
    lines = ["| composite | value | AOPC less random's | negative share |", "|---|---|---|---|"]
    for point in results["sensitivity"]:
        name = f"`{point['composite']}` | {point['parameter']} = {point['value']}"
        lines.append(f"| {name} | {_cell(point['aopc'])} | {_cell(point['negative share'])} |")
    return "\n".join(lines)


def text(results: Done) -> str:
    """Write the numbers as JSON, each innermost list on one line."""
    lists = re.compile(r"\[\s+([^][{}]*?)\s+\]")
    return lists.sub(_on_one_line, json.dumps(results, indent=1)) + "\n"


def _on_one_line(found: re.Match[str]) -> str:
    return f"[{' '.join(found[1].split())}]"


def _cell(found: Any) -> str:
    return f"{found[0]:.2f} ± {found[1]:.2f}"


def draw(results: Done) -> Figure:
    """Draw what the scores lose with each patch, and what the parameters do."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained", dpi=110)
    left, *others = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    left.plot(results["random"]["curve"]["mean"], color="black", linestyle=":", label="random order")
    for method in ("chapter", "gamma", "epsilon", "lrp-0", "integrated gradients", "occlusion"):
        left.plot(results["methods"][method]["curve"]["mean"], label=method)
    left.set(xlabel="patches of 4 x 4 replaced by the mean", ylabel="f(x0) - f(xk), mean over pictures")
    left.legend(fontsize=7)
    for axes, composite in zip(others, CURVES, strict=True):
        points = [point for point in results["sensitivity"] if point["composite"] == composite]
        at = np.arange(len(points))
        axes.errorbar(at, *zip(*(p["aopc"] for p in points), strict=True), color="#2166ac", capsize=2)
        axes.set_xticks(at, [str(p["value"]).removesuffix("std") for p in points], fontsize=7)
        axes.set_xlabel(UNITS[composite], fontsize=8)
        axes.set_title(f"composite {composite}", fontsize=9)
        axes.set_ylabel("AOPC less random's", color="#2166ac")
        twin = axes.twinx()
        twin.plot(at, [p["negative share"][0] for p in points], color="#b2182b")
        twin.set_ylabel("negative share", color="#b2182b")
        twin.set_ylim(0, 0.55)
    return figure


def main() -> None:
    """Compute, unless told not to; then draw and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent.parent / "docs")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--draw", action="store_true", help="compute nothing")
    options = parser.parse_args()
    file = options.folder / "evaluation.json"
    if not options.draw:
        file.write_text(text(run(options.images, options.jobs)), encoding="utf-8")
    results = json.loads(file.read_text(encoding="utf-8"))
    (options.folder / "images").mkdir(exist_ok=True)
    (options.folder / "images" / "flipping.png").write_bytes(png(draw(results)))
    print(table(results), curves(results), sep="\n\n")


if __name__ == "__main__":
    main()
