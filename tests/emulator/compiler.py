"""From a CUDA C++ source to functions that run on this machine's CPU: g++, and a cache of what it made."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).parent / "cuda_emul.h"

SANITIZERS: dict[str | None, list[str]] = {
    None: [],
    # Shared arrays stand in a section of their own, where AddressSanitizer looks only when told to.
    "address": [
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
        "-fsanitize-sections=emul_shared",
        "-g",
    ],
    "thread": ["-fsanitize=thread", "-g"],
}
# -ffp-contract=fast: nvcc merges a product and a sum into one fma, so g++ does.
FLAGS = ["-std=c++20", "-O2", "-mavx2", "-mfma", "-ffp-contract=fast", "-shared", "-fPIC", "-w"]

# NVRTC's options that change nothing here, or are what the emulator does anyway.
IGNORED = re.compile(r"--?(std=|ptxas-options|ftz=true|fmad=true|device-as-default|default-device|lineinfo)")


class KernelFault(Exception):
    """A launch went wrong: a divergent barrier, a deadlock, a wild pointer, a write out of bounds, ..."""


class BadLaunch(TypeError):
    """What a kernel was given does not fit what it takes."""


@functools.cache
def requirement() -> str:
    """Return what this machine lacks to emulate kernels, in one line; "" where nothing is missing."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"the CUDA emulator needs Linux on x86-64; this is {platform.system()} on {platform.machine()}"
    try:
        found = subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        found = ""
    if not found or int(found.split(".")[0]) < 11:
        have = f"found version {found.strip()}" if found else "found none"
        return f"the CUDA emulator needs g++ 11 or later, {have}: apt-get install g++, or dnf install gcc-c++"
    cpu = Path("/proc/cpuinfo")
    if cpu.exists() and not {"avx2", "fma"} <= set(cpu.read_text().split()):
        return "the CUDA emulator needs a CPU with AVX2 and FMA"
    return ""


def cache_folder() -> Path:
    """Return this user's folder of compiled sources; nobody else can write to it."""
    folder = Path(tempfile.gettempdir()) / f"lrpref-emulator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise PermissionError(f"{folder} is, or may be written by, somebody else: remove it")
    return folder


def host_options(options: Sequence[str]) -> list[str]:
    """Return the options of NVRTC that mean something to g++."""
    kept = [o for o in options if not IGNORED.match(o)]
    for option in kept:
        if not option.startswith(("-D", "-U")):
            raise ValueError(f"the emulator cannot stand in for the option {option}")
    return kept


def run_compiler(arguments: list[str]) -> str:
    """Run g++ and return what it prints; a sanitizer preloaded into this process is not for g++."""
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise ValueError(f"g++ cannot compile this kernel source:\n{done.stderr}")
    return done.stdout


def kernel_names(flags: list[str], file: Path) -> list[str]:
    """Return the kernels of a source after its preprocessing: macros may make or hide some."""
    # The header is left out and its empty macros with it, so that the word __global__ survives.
    text = run_compiler([*flags, "-E", "-P", "-D__launch_bounds__(...)=", str(file)])
    template, kernel = r"(template\s*<[^;{}]*>\s*)?", r"(?:extern\s+\"C\"\s+)?__global__\s+void\s+(\w+)\s*\("
    kernels = re.findall(template + kernel, text)
    return list(dict.fromkeys(name for template, name in kernels if not template))


def as_host_source(code: str) -> str:
    """Wrap a kernel source for g++."""
    # Dynamic shared memory is a pointer to the emulator's buffer.
    code = re.sub(
        r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;",
        r"\1* const \2 = reinterpret_cast<\1*>(emul::dynamic_shared);",
        code,
    )
    # In an unnamed namespace every function is this file's own. Else g++ would refuse to place the shared
    # arrays of templates in a section, since another file might have the same ones.
    return f'namespace {{\n#line 1 "kernel.cu"\n{code}\n}}\n'


def build(code: str, options: Sequence[str], sanitize: str | None, arch: int) -> tuple[Path, list[str]]:
    """Compile a source, or find it in the cache; return the library and its kernels' names."""
    if missing := requirement():
        raise RuntimeError(missing)
    options = host_options(options)
    body = as_host_source(code)
    flags = [*FLAGS, f"-DEMUL_CUDA_ARCH={arch}", *SANITIZERS[sanitize], *options]
    compiler = shutil.which("g++") or ""
    identity = [body, HEADER.read_text(), compiler, str(os.stat(compiler).st_mtime_ns), *flags]
    key = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:24]
    library, names = cache_folder() / f"{key}.so", cache_folder() / f"{key}.names"
    if not library.exists():
        # Each process compiles in a folder of its own and renames at the end: two may do it at once.
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            file, made, listed = (Path(folder) / n for n in ("kernel.cpp", "kernel.so", "names"))
            file.write_text(f"#define __CUDA_ARCH__ {arch}\n#define HOST_EMUL 1\n" + body)
            kernels = kernel_names(["-std=c++20", *options], file)
            exports = "".join(f"EMUL_EXPORT({name})\n" for name in kernels)
            file.write_text(f'#include "{HEADER}"\n{body}{exports}')
            run_compiler([*flags, "-o", str(made), str(file)])
            listed.write_text("\n".join(kernels))
            listed.replace(names)
            made.replace(library)
    return library, names.read_text().split()


class Launch(ctypes.Structure):
    """A launch as the header's struct of the same name has it."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_ulonglong),
        ("schedule", ctypes.c_int),
        ("shuffle_blocks", ctypes.c_int),
        ("flush_to_zero", ctypes.c_int),
        ("seed", ctypes.c_uint),
    )


class Parameter(ctypes.Structure):
    """One parameter of a kernel; ``code`` is NumPy's, of the scalar or of what a pointer points to."""

    _fields_ = (("bytes", ctypes.c_int), ("pointer", ctypes.c_int), ("code", ctypes.c_char_p))


class Function:
    """One kernel of a `Module`; call it with grid, block and arguments."""

    def __init__(self, library: ctypes.PyDLL, name: str) -> None:
        self.name = name
        self._launch = getattr(library, "emul_launch_" + name)
        self._launch.restype = ctypes.c_char_p
        describe = getattr(library, "emul_parameter_" + name)
        self.parameters = [Parameter() for _ in range(describe(1 << 30, None))]
        for i, parameter in enumerate(self.parameters):
            describe(i, ctypes.byref(parameter))

    def _value(self, i: int, given: Any) -> np.ndarray:
        """The bytes of one argument, checked against the kernel's parameter."""
        wanted: Any = self.parameters[i]
        code = wanted.code.decode()
        where = f"{self.name}, argument {i}"
        if isinstance(given, np.ndarray) and not (given.ndim == 0 and given.dtype.names):
            if not wanted.pointer:
                raise BadLaunch(f"{where}: an array was given where the kernel takes a value")
            if not given.flags.c_contiguous:
                raise BadLaunch(f"{where}: the array must be C-contiguous")
            if code and given.dtype.str[1:] != code:
                raise BadLaunch(f"{where}: the kernel takes a pointer to {code}, the array is {given.dtype}")
            return np.array([given.ctypes.data], np.uint64)
        if given is None:
            given = np.uint64(0)
        if not isinstance(given, np.generic | np.ndarray):
            kind = type(given).__name__
            raise BadLaunch(f"{where}: pass a NumPy scalar (np.int32, np.float32), not {kind}")
        value = np.asarray(given).reshape(1)
        if wanted.pointer:
            code = "u8"  # an address
        if value.nbytes != wanted.bytes or (code and value.dtype.str[1:] != code):
            takes = code or f"a struct of {wanted.bytes} bytes"
            got = f"{value.dtype} of {value.nbytes} bytes"
            raise BadLaunch(f"{where}: the kernel takes {takes}, given is {got}")
        return value

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
        *,
        schedule: int = 0,
        seed: int = 1,
        shuffle_blocks: bool = False,
        flush_to_zero: bool = True,
    ) -> None:
        """Run the kernel to its end.

        Raises
        ------
        BadLaunch
            When number, type or layout of the arguments is not what the kernel takes.
        KernelFault
            When the kernel did something wrong.
        """
        wanted = len(self.parameters)
        if len(arguments) != wanted:
            raise BadLaunch(f"{self.name} takes {wanted} arguments, {len(arguments)} were given")
        values = [self._value(i, a) for i, a in enumerate(arguments)]
        pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
        sizes = [(ctypes.c_uint * 3)(*size, *[1] * (3 - len(size))) for size in (grid, block)]
        launch = Launch(*sizes, shared, schedule, shuffle_blocks, flush_to_zero, seed)
        problem = self._launch(ctypes.byref(launch), pointers)
        if problem is not None:
            raise KernelFault(f"{self.name}: {problem.decode()}")


class Module:
    """A compiled CUDA C++ source.

    Parameters
    ----------
    code : str
        The source, without any ``#include``.
    options : sequence of str
        As for NVRTC; only ``-D`` and ``-U`` change anything.
    sanitize : {None, "address", "thread"}
        With which sanitizer to compile; the process must have been started with it (`run_sanitized`).
    arch : int
        What ``__CUDA_ARCH__`` is.

    Attributes
    ----------
    names : list of str
        The kernels in the source.
    """

    def __init__(self, code: str, options: Sequence[str] = (), sanitize: str | None = None, arch: int = 900):
        path, self.names = build(code, options, sanitize, arch)
        # PyDLL keeps Python's lock during a launch: a library runs one launch at a time.
        self._library = ctypes.PyDLL(str(path))

    def function(self, name: str) -> Function:
        """Return the kernel of this name; KeyError where there is none."""
        if name not in self.names:
            raise KeyError(f"no kernel {name} in this source; it has {', '.join(self.names)}")
        return Function(self._library, name)
