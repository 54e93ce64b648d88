"""One turn, in a process of its own: get ready, explain once unmeasured, then measure.

    python -m bench.turn '{"side": "cpu", "network": "vgg16", ...}'

The last line of its output is JSON. `Job` says what may be asked.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench import flops, networks, sides
from lrpref.conformance import adapters

SIZE = 2048
"""Rows and columns of the matrices whose product gives the machine's rate."""


@dataclass(frozen=True)
class Job:
    """
    What is to be done in one turn.

    Parameters
    ----------
    side : str
        One of `sides.BACKENDS` or `sides.PEERS`; or `sgemm` or `flops`, which measure and count.
    network, composite : str
        What is explained, and how.
    batch : int
        How many inputs at once.
    dtype : {"float32", "float64"}
        In which arithmetic.
    seeds : tuple of int
        One batch of inputs each; the first is explained unmeasured.
    threads : int
        How many each library may use.
    save : str
        Where the relevance of the last batch goes; empty: nowhere.
    """

    side: str
    network: str = ""
    composite: str = ""
    batch: int = 1
    dtype: str = "float32"
    seeds: tuple[int, ...] = (0, 1)
    threads: int = 1
    save: str = ""

    def text(self) -> str:
        """
        Write the job down.

        Returns
        -------
        str
            JSON.
        """
        return json.dumps(asdict(self))


def reset_peak() -> None:
    """Let the process's peak memory start anew, where Linux is."""
    gc.collect()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # then making the network counts too


def peak_memory() -> int:
    """
    Give the largest resident size since `reset_peak`.

    Returns
    -------
    int
        In bytes.
    """
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return adapters.peak_memory()


def device_memory(side: str) -> int:
    """
    Give how much of the GPU's memory a library took, at most.

    Parameters
    ----------
    side : str
        One of `sides.GPU`.

    Returns
    -------
    int
        In bytes.
    """
    if side == "cupy":
        return int(adapters.require("cupy").get_default_memory_pool().total_bytes())
    return int(adapters.require("torch").cuda.max_memory_reserved())


def explain(job: Job) -> dict[str, Any]:
    """
    Let one side explain.

    Parameters
    ----------
    job : Job
        What.

    Returns
    -------
    dict
        `seconds`, one for each batch but the first; `peak` in bytes.
    """
    if job.side in sides.PEERS:
        adapters.require("torch").set_num_threads(job.threads)
    network = networks.random(job.network)
    batches = [networks.inputs(network, job.batch, seed).astype(job.dtype) for seed in job.seeds]
    run = sides.make(job.side, network, job.composite, job.dtype)
    del network
    reset_peak()
    seconds: list[float] = []
    for x in batches:
        getattr(run, "prepare", lambda x: None)(x)
        start = time.perf_counter()
        relevance = run(x)
        seconds.append(time.perf_counter() - start)
    peak = device_memory(job.side) if job.side in sides.GPU else peak_memory()
    if job.save:
        np.save(job.save, relevance)
    return {"seconds": seconds[1:], "peak": peak}


def sgemm(size: int = SIZE, times: int = 5) -> dict[str, Any]:
    """
    Measure the machine's rate: a product of two matrices in float32.

    Parameters
    ----------
    size : int
        Rows and columns.
    times : int
        How often; the best counts.

    Returns
    -------
    dict
        `rate`, in flops per second.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in "ab")
    c, seconds = a @ b, []
    for _ in range(times):
        start = time.perf_counter()
        np.matmul(a, b, out=c)
        seconds.append(time.perf_counter() - start)
    return {"rate": 2 * size**3 / min(seconds)}


def main(text: str) -> None:
    """
    Do a job, and print what came of it.

    Parameters
    ----------
    text : str
        A job, as JSON.
    """
    job = Job(**json.loads(text))
    if job.side == "sgemm":
        result = sgemm()
    elif job.side == "flops":
        result = {"flops": flops.count(networks.random(job.network), sides.COMPOSITES[job.composite])}
    else:
        result = explain(job)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
