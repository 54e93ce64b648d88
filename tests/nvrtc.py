"""Compile CUDA sources for real GPUs on a machine without one: NVRTC, from its wheel, by ctypes.

``python tests/nvrtc.py [UNIT ...]`` prints what each kernel of ``kernels/cuda`` uses, for writing its budget.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from emulator.compiler import cache_folder

WHEEL = "nvidia-cuda-nvrtc"
INSTALL = f"{sys.executable} -m pip install {WHEEL}"

# What CuPy adds to the options of every source, so that its kernels are compiled here as on a user's GPU.
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
ARCHITECTURES = (75, 80, 86, 89, 90)


class CompileError(Exception):
    """NVRTC rejects a source; the message is its log."""


class Usage(NamedTuple):
    """What one kernel uses: registers of a thread, bytes of its slow memory, bytes shared in a block.

    ``spilled`` is for registers that ran out; ``local`` is all of a thread's slow memory, which also holds
    arrays that are indexed by what only a run can tell.
    """

    registers: int
    spilled: int
    local: int
    shared: int


@functools.cache
def requirement() -> str:
    """Return what is missing, in one line; "" where NVRTC is installed."""
    return "" if _library_path() else f"NVRTC is not installed: {INSTALL}"


def _library_path() -> Path | None:
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.[0-9]*"), reverse=True):
            return path
    return None


@functools.cache
def _library() -> ctypes.CDLL:
    path = _library_path()
    if path is None:
        raise RuntimeError(requirement())
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _check(result: int) -> None:
    if result:
        raise CompileError(_library().nvrtcGetErrorString(result).decode())


def version() -> tuple[int, int]:
    """Return NVRTC's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def _text(program: ctypes.c_void_p, what: str) -> bytes:
    """One of the program's results: its log, its cubin."""
    size = ctypes.c_size_t()
    _check(getattr(_library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_library(), f"nvrtcGet{what}")(program, buffer))
    return buffer.raw[: size.value]


def compile(source: str, name: str, arch: int, options: Sequence[str] = ()) -> tuple[bytes, dict[str, Usage]]:
    """Compile a source as CuPy would.

    Parameters
    ----------
    source : str
        CUDA C++, without any ``#include``.
    name : str
        What messages call it.
    arch : int
        75 for sm_75.
    options : sequence of str
        More options, before CuPy's own.

    Returns
    -------
    cubin : bytes
        The binary.
    usage : dict of str to Usage
        What each kernel uses.

    Raises
    ------
    CompileError
        With NVRTC's log.
    RuntimeError
        When NVRTC is not installed.
    """
    words = [*options, *CUPY_OPTIONS, f"-arch=sm_{arch}", "--ptxas-options=-v"]
    key = hashlib.sha256("\0".join([source, name, str(version()), *words]).encode()).hexdigest()[:24]
    kept = cache_folder() / f"{key}.cubin"  # the binary, and after it in JSON what it uses
    if kept.exists():
        cubin, _, usage = kept.read_bytes().rpartition(b"\n")
        return cubin, {kernel: Usage(*numbers) for kernel, numbers in json.loads(usage).items()}
    cubin, log = _compile(source, name, words)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
        file.write(cubin + b"\n" + json.dumps(_usage(log)).encode())
    Path(file.name).replace(kept)  # at once: two processes may do it
    return cubin, _usage(log)


def _compile(source: str, name: str, words: list[str]) -> tuple[bytes, str]:
    """Compile, without the cache: the binary and the log."""
    program = ctypes.c_void_p()
    create = _library().nvrtcCreateProgram
    _check(create(ctypes.byref(program), source.encode(), name.encode(), 0, None, None))
    try:
        array = (ctypes.c_char_p * len(words))(*(w.encode() for w in words))
        result = _library().nvrtcCompileProgram(program, len(words), array)
        log = _text(program, "ProgramLog").rstrip(b"\0").decode()
        if result:
            raise CompileError(f"{name} with {' '.join(words)}:\n{log}")
        return _text(program, "CUBIN"), log
    finally:
        _library().nvrtcDestroyProgram(ctypes.byref(program))


def _usage(log: str) -> dict[str, Usage]:
    """Read ptxas' report: a paragraph per kernel, which begins with its name."""
    found = {}
    for paragraph in log.split("Compiling entry function '")[1:]:
        numbers = {
            what: sum(map(int, re.findall(pattern, paragraph)))
            for what, pattern in {
                "registers": r"Used (\d+) registers",
                "spilled": r"(\d+) bytes spill (?:stores|loads)",
                "local": r"(\d+) bytes stack frame",
                "shared": r"(\d+) bytes smem",
            }.items()
        }
        found[paragraph.split("'")[0]] = Usage(**numbers)
    return found


if __name__ == "__main__":
    from lrpref.kernels import cuda

    worst: dict[str, tuple[int, int]] = {}
    for unit in sys.argv[1:] or cuda.UNITS:
        for flags in cuda.UNITS[unit]:
            for sm in ARCHITECTURES:
                if sm < cuda.CAPABILITIES.get(unit, 0):
                    continue
                for kernel, u in compile(cuda.source(unit), unit, sm, flags)[1].items():
                    print(f"{kernel:32} sm_{sm} {' '.join(flags):16} {u}", flush=True)
                    most = worst.get(kernel, (0, 0))
                    worst[kernel] = max(most[0], u.registers), max(most[1], u.shared)
    for kernel, (registers, shared) in worst.items():
        print(f'    "{kernel}": Budget({registers}, {shared}),')
