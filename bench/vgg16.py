"""VGG-16, one picture, composite epsilon-gamma-box, float32: lrpref on backend numpy beside zennit.

    python bench/vgg16.py [repetitions]

The weights are torchvision's random ones, seed 0. The two take turns, and every turn is a process of its
own: so the peak memory, weights and libraries included, is its own too. A process explains twice, and
the second time is counted. Both use all cores. Seconds mean something only beside each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import lrpref
from lrpref import weights_import
from lrpref.conformance import adapters
from lrpref.kernels.operations import Array
from lrpref.preprocessing import Preprocessing

WEIGHTS = "vgg16.pth"


def preprocessing() -> Preprocessing:
    """VGG-16's."""
    known = weights_import.architectures.get("vgg16").preprocessing
    assert known is not None
    return known


def picture() -> Array:
    """Noise, black to white."""
    return preprocessing().normalise(np.random.default_rng(0).integers(0, 256, (224, 224, 3)))


def ours() -> Callable[[], Array]:
    """lrpref, which needs no PyTorch for this."""
    network = weights_import.load(WEIGHTS, "vgg16")
    return lambda: lrpref.explain(network, picture(), "max", "epsilon-gamma-box", dtype="float32").relevance


def zennits() -> Callable[[], Array]:
    """zennit as its manual has it, on torchvision's module; the score is explained, as with lrpref."""
    torch, torchvision, zennit = map(adapters.require, ("torch", "torchvision", "zennit"))
    network = torchvision.models.vgg16(weights=None, init_weights=False).eval()
    network.load_state_dict(torch.load(WEIGHTS))
    x = torch.tensor(picture(), dtype=torch.float32)
    low, high = (torch.tensor(bound, dtype=torch.float32)[None] for bound in preprocessing().box())

    def score(output: Any) -> Any:
        return torch.nn.functional.one_hot(output.argmax(1), 1000) * output

    attributor = zennit.attribution.Gradient(network, zennit.composites.EpsilonGammaBox(low, high), score)
    return lambda: attributor(x.clone().requires_grad_())[1].detach().numpy()


SIDES = {"lrpref": ours, "zennit": zennits}


def make_weights() -> None:
    """Draw torchvision's random weights."""
    torch, torchvision = map(adapters.require, ("torch", "torchvision"))
    torch.manual_seed(0)
    torch.save(torchvision.models.vgg16(weights=None).state_dict(), WEIGHTS)


def turn(side: str) -> None:
    """Explain, in this process."""
    explain = SIDES[side]()
    explain()
    start = time.perf_counter()
    relevance = explain()
    print(json.dumps([time.perf_counter() - start, adapters.peak_memory()]))
    np.save(side, relevance)


def in_process(argument: str, folder: str) -> str:
    """Run this file in a process of its own, which says something."""
    # Linux hands this process's own peak down to it: so PyTorch and the weights must stay out of here
    command = [sys.executable, str(Path(__file__).resolve()), argument]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True).stdout


def main(repetitions: int) -> None:
    """Let them take turns."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, {repetitions} turns each")
    found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    with TemporaryDirectory() as folder:
        in_process("weights", folder)
        for _ in range(repetitions):
            for side, turns in found.items():
                turns.append(json.loads(in_process(side, folder)))
        relevance, theirs = (np.load(Path(folder, f"{side}.npy")) for side in SIDES)
    medians = []
    for side, turns in found.items():
        seconds, peaks = zip(*turns, strict=True)
        medians.append(median(seconds))
        spread = f"{medians[-1]:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
        print(f"{side}: {spread}, peak memory {max(peaks) / 2**30:.2f} GiB")
    print(f"lrpref takes {medians[0] / medians[1]:.2f} times as long as zennit")
    print(f"input relevance: differs by {abs(relevance - theirs).max() / abs(theirs).max():.1e} of max |R|")


if __name__ == "__main__":
    argument = sys.argv[1] if sys.argv[1:] else "5"
    if argument == "weights":
        make_weights()
    elif argument in SIDES:
        turn(argument)
    else:
        main(int(argument))
