"""Reads files in a process of its own: it has little memory, and is watched for what no reader may do.

The process is this file run as a script: jobs come in as lines of JSON, outcomes go out as such. A file that
kills it, or keeps it for ever, shows: its outcome is missing.
"""

import contextlib
import faulthandler
import io
import json
import os
import resource
import subprocess
import sys
import time
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from malformed.corpus import Job

MEMORY = 500_000_000
"""Bytes of address space that reading a file may take beside what the process has when it starts."""

SECONDS = 2
"""Of computing, for one file."""

LONGEST = 8_100
"""Characters that `lrpref convert` may write; it cuts what is longer, and a hundred faults fit."""

PATIENCE = 60
"""Seconds after which a file that is still being read is given up, and the process with it."""

FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "subprocess.", "pty.",
    "socket.", "urllib.", "http.", "ftplib.", "webbrowser.",
    "exec", "compile", "code.__new__", "marshal.", "pickle.find_class", "ctypes.", "import",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "shutil.", "tempfile.",
)  # fmt: skip
"""Audit events (their names' beginnings) that a reader may not cause: code, network, changes of files."""

READY = "ready"
"""The first line of the process: the watch is on."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Outcome:
    """What became of a file.

    Parameters
    ----------
    error : str
        The error's class, and `"none"` if the file was read.
    line : str
        What it says.
    expected : bool
        Whether it is a `LrprefError`.
    seconds : float
        Of computing, that it took.
    forbidden : list of str
        What the reader did that it may not; a warning, which would stand beside the one line, is among it.
    changed : bool
        Whether its folder is another one afterwards.
    code, printed : int, str
        What `lrpref convert` ended with, and what it wrote to stderr.
    converted : bool
        Whether something is at its destination.
    """

    error: str = "none"
    line: str = ""
    expected: bool = False
    seconds: float = 0
    forbidden: list[str] = field(default_factory=list)
    changed: bool = False
    code: int = 2
    printed: str = "lrpref: not tried"
    converted: bool = False

    def faults(self) -> list[str]:
        """Say what is wrong, whatever the file; a refusal is right, and so is a network."""
        line, printed = self.line, self.printed.removesuffix("\n")
        found = {
            f"ended in {self.error}: {line[:500]}": self.error != "none" and not self.expected,
            f"an error of {len(line.splitlines())} lines": len(line.splitlines()) > 1,
            f"took {self.seconds:.1f} s": self.seconds > SECONDS,
            "took more memory than there is": "fit into memory" in line,
            f"did what it may not: {self.forbidden[:3]}": bool(self.forbidden),
            "changed its folder": self.changed,
        }
        if self.error != "none":
            found |= {
                f"convert ended with {self.code}": self.code != 2,
                f"convert wrote {printed[:500]!r}": not printed.startswith("lrpref: "),
                f"convert wrote no line: {printed[:500]!r}": not printed.isprintable(),
                f"convert wrote {len(printed)} characters": len(printed) > LONGEST,
                "convert left something behind": self.converted,
            }
        return [fault for fault, is_so in found.items() if is_so]


def watched(jobs: Sequence[Job]) -> list[Outcome]:
    """Read files in a process of their own, and in another one after a file that kills it."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(jobs):
        outcomes += _until_death(jobs[len(outcomes) :])
    return outcomes


def _until_death(jobs: Sequence[Job]) -> list[Outcome]:
    asked = "".join(json.dumps(asdict(one)) + "\n" for one in jobs)
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each has a stack
    done = subprocess.run(
        [sys.executable, __file__], input=asked, capture_output=True, text=True, check=False,
        env={**os.environ, **threads},
    )  # fmt: skip
    ready, *told = done.stdout.splitlines() or [""]
    assert ready == READY, f"the guard did not come up: {done.stderr}"
    outcomes = [Outcome(**json.loads(line)) for line in told]
    lost = Outcome(error="the end of the process", line=f"code {done.returncode}: {done.stderr[-1000:]!r}")
    return [*outcomes, lost][: len(jobs)]


class Guard:
    """The watch over this process; there is one in a process, and it stays.

    Parameters
    ----------
    reader : callable, optional
        What is done with a file, from its path and its architecture; `load` where not given.
    """

    def __init__(self, reader: Callable[[Path, str | None], Any] | None = None) -> None:
        self._reader = reader or load
        self._folder = ""
        self._seen: list[str] = []
        warm_up(self._reader)
        sys.addaudithook(self._hook)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._folder:
            return
        if event.startswith(FORBIDDEN) and not _of_annotations(event):
            self._refuse(f"{event} {arguments!r:.200}")
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, flags = os.path.realpath(os.fsdecode(arguments[0])), arguments[2] or 0
            if flags & _WRITES or not path.startswith(self._folder + os.sep):
                self._refuse(f"open {path} with {flags}")

    def _refuse(self, what: str) -> None:
        self._seen.append(what)
        raise AssertionError(f"a reader may not do that: {what}")

    @contextlib.contextmanager
    def _watching(self, folder: Path) -> Iterator[None]:
        self._folder = os.path.realpath(folder)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                self._folder = ""
                self._seen += [f"warning: {warning.message}" for warning in warned]

    def read(self, job: Job) -> Outcome:
        """Read one file."""
        path = Path(job.path)
        self._seen, outcome, before = [], Outcome(), _listing(path.parent)
        start = time.process_time()
        try:
            with self._watching(path.parent):
                self._reader(path, job.architecture)
        except BaseException as error:
            outcome.error, outcome.line = type(error).__name__, str(error)
            outcome.expected = _is_ours(error)
        outcome.seconds = time.process_time() - start
        if job.command and outcome.error != "none":
            self._convert(job, outcome)
        outcome.forbidden, outcome.changed = self._seen, _listing(path.parent) != before
        return outcome

    def _convert(self, job: Job, outcome: Outcome) -> None:
        destination = Path(job.path).with_name("converted.safetensors")
        with self._watching(destination.parent):
            outcome.code, outcome.printed = convert(Path(job.path), destination, job.architecture)
        outcome.converted = destination.exists()


def load(path: Path, architecture: str | None) -> Any:
    """Read a file of any format."""
    from lrpref import weights_import

    return weights_import.load(path, architecture)


def convert(path: Path, destination: Path, architecture: str | None) -> tuple[int, str]:
    """Run `lrpref convert`, and give its exit code and what it wrote to stderr.

    The command's function is called, without typer, which compiles annotations each time it runs.
    """
    import typer

    from lrpref.cli import convert

    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.redirect_stdout(io.StringIO()):
        try:
            convert(str(path), destination, architecture)
        except typer.Exit as ended:
            return ended.exit_code, stderr.getvalue()
        except BaseException as error:
            return -1, f"{type(error).__name__}: {error}"
    return 0, stderr.getvalue()


def warm_up(reader: Callable[[Path, str | None], Any]) -> None:
    """Read a valid file of each format: all modules that reading needs are imported then."""
    import tempfile

    from malformed import seeds

    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds.SEEDS:
            valid = seed.write(Path(folder) / seed.name)
            reader(Path(valid.path), valid.architecture)
            broken = Path(valid.path).with_name("broken" + Path(valid.path).suffix)
            broken.write_bytes(b"x")
            convert(broken, broken.with_name("converted.safetensors"), valid.architecture)


def _of_annotations(event: str) -> bool:
    """Tell whether it is typing that evaluates the annotations of our own dataclasses (`lrpref.tables`)."""
    return event in ("compile", "exec") and sys._getframe(2).f_code.co_filename == typing.__file__


def _is_ours(error: BaseException) -> bool:
    from lrpref.errors import LrprefError

    return isinstance(error, LrprefError)


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    found = sorted(folder.rglob("*"))
    return [(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in found]


def main() -> None:
    """Read the jobs that come in."""
    guard = Guard()
    print(READY, flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(guard.read(Job(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
