"""Run a Python script that launches kernels under a sanitizer.

ThreadSanitizer finds data races between the threads of a block. AddressSanitizer, with the
undefined-behaviour sanitizer, finds reads and writes out of bounds, misaligned accesses and signed overflow.
Both must be in a process from its start, so a test hands a script to `run_sanitized`, which starts Python
with the sanitizer preloaded:

    outcome = run_sanitized("thread", ["tests/some_script.py", "convolution"])
    assert outcome.finished and not outcome.reports, outcome.text

The script needs nothing special: an `EmulatedDevice` that it makes compiles with the sanitizer of its process
(the environment variable ``LRPREF_EMULATOR_SANITIZE``), and ``import emulator`` works in it. It may do many
things and call `case` before each, so that a report can be told from another case's:

    from emulator import EmulatedDevice
    from emulator.sanitize import case

    for name in sys.argv[1:]:
        case(name)
        ...

ThreadSanitizer reports and goes on; AddressSanitizer ends the process at its first report, so a script in
which it must find something has one case. Use small shapes: kernels take 5 to 20 times their time. A script
tells a wrong value by an exception; ``finished`` is then False.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.compiler import requirement

LIBRARIES = {"thread": ["libtsan.so"], "address": ["libasan.so", "libubsan.so"]}
SETTINGS = {
    # Python and NumPy are not compiled for it, so only what the kernels do is looked at.
    "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 report_signal_unsafe=0 history_size=7 exitcode=66",
    "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    "UBSAN_OPTIONS": "print_stacktrace=0",
}
REPORT = re.compile(
    r"^(?:WARNING: ThreadSanitizer: .*|.*ERROR: AddressSanitizer: .*|\S+: runtime error: .*)$", re.MULTILINE
)
MARK = "== case "
# Runs a script as Python would, and says when it has come to its end.
START = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
os.write(2, b"\\n== end\\n")
"""


@dataclass(frozen=True)
class Outcome:
    """What a sanitized script did.

    Attributes
    ----------
    status : int
        The exit status: 0, or 66 after a data race, or what the script or AddressSanitizer ended with.
    finished : bool
        Whether the script came to its end, reports or not.
    text : str
        All that it printed.
    """

    status: int
    finished: bool
    text: str

    @property
    def reports(self) -> list[str]:
        """The first line of each of the sanitizer's reports."""
        return REPORT.findall(self.text)

    def by_case(self) -> dict[str, list[str]]:
        """Return the reports of each `case`, in the order of the cases."""
        parts = re.split(f"^{re.escape(MARK)}(.*)$", self.text, flags=re.MULTILINE)
        return {name: REPORT.findall(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def case(name: str) -> None:
    """Mark where a case begins, in a script that runs under a sanitizer."""
    os.write(2, f"\n{MARK}{name}\n".encode())


def run_sanitized(kind: str, script: Sequence[str | Path], timeout: float = 300) -> Outcome:
    """Run a Python script with a sanitizer.

    Parameters
    ----------
    kind : {"thread", "address"}
        Which sanitizer.
    script : sequence of str
        The script's path and its arguments.
    timeout : float
        Seconds after which it is ended.

    Returns
    -------
    Outcome
        What it reported.

    Raises
    ------
    RuntimeError
        When g++ or its sanitizer's library is missing, or the sanitizer does not start on this machine.
    """
    if missing := requirement():
        raise RuntimeError(missing)
    libraries = [_library(name) for name in LIBRARIES[kind]]
    tests = str(Path(__file__).parents[1])
    environment = {
        **os.environ,
        **SETTINGS,
        "LD_PRELOAD": " ".join(libraries),
        "LRPREF_EMULATOR_SANITIZE": kind,
        "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "OPENBLAS_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", START, *map(str, script)]
    for prefix in ([], ["setarch", "-R"]):
        done = subprocess.run(
            [*prefix, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        # On some kernels ThreadSanitizer needs addresses that are not random.
        if "unexpected memory mapping" not in done.stdout:
            return Outcome(done.returncode, "\n== end\n" in done.stdout, done.stdout)
    raise RuntimeError(f"the {kind} sanitizer does not start on this machine:\n{done.stdout}")


def _library(name: str) -> str:
    """The path of a sanitizer's library, which comes with g++."""
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not os.path.isabs(path):
        how = "apt-get install libgcc-12-dev (of g++'s version), or dnf install libasan libtsan libubsan"
        raise RuntimeError(f"g++ has no {name}: {how}")
    return path
