"""CUDA C++ sources, without headers: which files make a translation unit, and what each may use.

`source(name)` gives the text of a unit; `UNITS` lists every unit with every set of options that a
launcher compiles it with; `BUDGETS` what its kernels may use, written down after measuring.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import NamedTuple

SINGLE, DOUBLE = ("-DREAL=float",), ("-DREAL=double",)

_STEPS = ("common.cuh", "convolution_steps.cu")
_STAGES = ("common.cuh", "ptx.cuh", "convolution_steps.cu", "convolution_stages.cu")
_SHARE = ("common.cuh", "share.cuh")

FILES: dict[str, tuple[str, ...]] = {
    "convolution_naive": (*_STEPS, "convolution_naive.cu"),
    "convolution_tiled": (*_STEPS, "convolution_tiled.cu"),
    "convolution_blocked": (*_STAGES, "convolution_blocked.cu"),
    "convolution_tf32x3": (*_STAGES, "convolution_tf32x3.cu"),
    "convolution_thin": (*_STEPS, "convolution_thin.cu"),
    "convolution_finish": (*_STEPS, "convolution_finish.cu"),
    "dense": (*_STEPS, "dense.cu"),
    "pooling": (*_SHARE, "pooling.cu"),
    "elementwise": (*_SHARE, "elementwise.cu"),
    "steps": (*_SHARE, "steps.cu"),
}
"""The files of each unit, in their order."""

UNITS: dict[str, tuple[tuple[str, ...], ...]] = {
    "convolution_naive": (SINGLE, DOUBLE),
    "convolution_tiled": (SINGLE, DOUBLE),
    "convolution_blocked": (SINGLE,),
    "convolution_tf32x3": (SINGLE,),
    "convolution_thin": (SINGLE, DOUBLE),
    "convolution_finish": (SINGLE, DOUBLE),
    "dense": (SINGLE, DOUBLE),
    "pooling": (SINGLE, DOUBLE),
    "elementwise": (SINGLE, DOUBLE),
    "steps": (SINGLE, DOUBLE),
}
"""Every set of options that a launcher compiles a unit with."""

CAPABILITIES: dict[str, int] = {"convolution_tf32x3": 80}
"""The least compute capability of a unit, times 10; 75 where none is named."""


class Budget(NamedTuple):
    """
    What a kernel may use of a multiprocessor.

    Parameters
    ----------
    registers : int
        Registers of a thread.
    shared : int
        Bytes of shared memory of a block.
    """

    registers: int
    shared: int


BUDGETS: dict[str, Budget] = {
    "naive_z": Budget(64, 0),
    "naive_quotient": Budget(64, 0),
    "naive_redistribute": Budget(64, 0),
    "tiled_z": Budget(64, 6144),
    "tiled_quotient": Budget(64, 8192),
    "tiled_redistribute": Budget(64, 8192),
    "blocked_z_128": Budget(128, 24576),
    "blocked_quotient_128": Budget(128, 24576),
    "blocked_redistribute_128": Budget(128, 24576),
    "blocked_z_64": Budget(128, 16384),
    "blocked_quotient_64": Budget(128, 16384),
    "blocked_redistribute_64": Budget(128, 16384),
    "tf32x3_z_128": Budget(128, 43008),
    "tf32x3_quotient_128": Budget(128, 43008),
    "tf32x3_redistribute_128": Budget(128, 43008),
    "tf32x3_z_64": Budget(168, 30720),
    "tf32x3_quotient_64": Budget(168, 30720),
    "tf32x3_redistribute_64": Budget(168, 30720),
    "thin_z": Budget(96, 0),
    "thin_quotient": Budget(128, 1024),
    "thin_redistribute": Budget(96, 1024),
    "finish_z": Budget(64, 0),
    "finish_quotient": Budget(64, 1024),
    "finish_redistribute": Budget(64, 1024),
    "sum_partials": Budget(64, 2048),
    "dense_z": Budget(96, 0),
    "dense_quotient": Budget(96, 0),
    "dense_transpose": Budget(128, 8192),
    "dense_redistribute": Budget(128, 8192),
    "sum_pool2d_preactivation": Budget(48, 0),
    "sum_pool2d_quotient": Budget(64, 64),
    "sum_pool2d_redistribute": Budget(64, 64),
    "select2d_preactivation": Budget(48, 0),
    "select2d_quotient": Budget(64, 64),
    "select2d_redistribute": Budget(64, 64),
    "region_sum2d_preactivation": Budget(48, 0),
    "region_sum2d_quotient": Budget(64, 64),
    "region_sum2d_redistribute": Budget(64, 64),
    "scale_preactivation": Budget(48, 0),
    "scale_quotient": Budget(64, 64),
    "scale_redistribute": Budget(64, 64),
    "total_preactivation": Budget(48, 0),
    "total_quotient": Budget(64, 64),
    "total_redistribute": Budget(64, 64),
    "max_pool2d": Budget(48, 0),
    "max_pool2d_winners": Budget(48, 0),
    "activation": Budget(48, 0),
    "divide": Budget(64, 64),
    "multiply": Budget(48, 64),
    "per_sample": Budget(48, 64),
    "sum_of_squares": Budget(48, 64),
    "add_blocks": Budget(48, 64),
}
"""What each kernel may use, whatever the options of its unit; no kernel may spill registers."""


@cache
def source(name: str) -> str:
    """
    Give the text of a translation unit.

    Parameters
    ----------
    name : str
        A key of `UNITS`.

    Returns
    -------
    str
        Its files one after another; `#line` tells a compiler's messages where it is.
    """
    folder = resources.files(__name__)
    return "\n".join(
        f'#line 1 "{file}"\n{folder.joinpath(file).read_text(encoding="utf-8")}'
        for file in FILES.get(name, (f"{name}.cu",))
    )
