"""Every malformed file is refused: in one line that speaks of its defect, at once, and without any deed.

The files are made by `tests/malformed`, and read in processes that have little memory and are watched.
"""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("the watch over the readers needs Linux's limits and /proc", allow_module_level=True)

from malformed import guard
from malformed.corpus import Case, job
from malformed.everything import CORPORA
from malformed.seeds import SEEDS, Seed

CASES = [(format, case) for format, cases in CORPORA.items() for case in cases]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """From a format to what became of its files, by their names; they are read when first asked for."""

    @cache
    def of(format: str) -> dict[str, guard.Outcome]:
        folder = tmp_path_factory.mktemp("malformed")
        cases = CORPORA[format]
        jobs = [case.write(folder / str(number)) for number, case in enumerate(cases)]
        return dict(zip((case.name for case in cases), guard.watched(jobs), strict=True))

    return of


@pytest.mark.parametrize(
    ("format", "case"), CASES, ids=[f"{format}: {case.kind}: {case.name}" for format, case in CASES]
)
def test_refused(format: str, case: Case, outcomes):
    outcome = outcomes(format)[case.name]
    assert outcome.faults() == []
    assert outcome.error != "none", "it was read"
    assert re.search(case.words, outcome.line), outcome.line


def test_the_corpus_is_large():
    kinds = {case.kind for _, case in CASES}
    assert len(kinds) >= 25
    assert len(CASES) >= 40


def lengths(whole: int) -> list[int]:
    """Where to cut: all over the file, and at each of the last bytes, where directories and outputs are."""
    return sorted({*np.linspace(0, whole - 1, 150).astype(int).tolist(), *range(max(0, whole - 60), whole)})


@pytest.mark.parametrize("seed", SEEDS, ids=[seed.name for seed in SEEDS])
def test_whole_it_is_read_and_cut_anywhere_refused(seed: Seed, tmp_path: Path):
    whole = seed.make()
    jobs = [seed.write(tmp_path / "whole")]
    for length in lengths(len(whole)):
        path = tmp_path / str(length) / seed.name
        path.parent.mkdir()
        path.write_bytes(whole[:length])
        jobs.append(job(path, seed.architecture, command=False))
    read, *cut = guard.watched(jobs)
    assert (read.error, read.faults()) == ("none", [])
    for length, outcome in zip(lengths(len(whole)), cut, strict=True):
        assert outcome.error != "none", f"its first {length} bytes are read as a network"
        assert outcome.faults() == [], length


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("zip checkpoints", "command-2.pt"),
        ("neutral files", "cycle.safetensors"),
        ("exported programs", "command.pt2"),
        ("ONNX models", "above.onnx"),
        ("ONNX models", "long_operator.onnx"),
        ("ONNX models", "infinite-norm.onnx"),
    ],
)
def test_the_command_line_says_one_line(format: str, name: str, tmp_path: Path):
    case = next(case for case in CORPORA[format] if case.name == name)
    written = case.write(tmp_path / "case")
    arguments = ["convert", written.path, str(tmp_path / "converted.safetensors")]
    arguments += ["--architecture", written.architecture] if written.architecture else []
    done = subprocess.run(
        [sys.executable, "-m", "lrpref", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("lrpref: ")
    assert line.isprintable()
    assert {path.name for path in tmp_path.iterdir()} <= {"case", "case-secret"}


# The guard itself.

BUSY = "all(iter(lambda end=time.process_time() + 2.2: time.process_time() < end, False))"

DEEDS = {
    "os.system('true')": "os.system",
    "open(path.parent.parent / 'outside').read()": "open",
    "open(path.parent / 'inside', 'w').write('x')": "open",
    "eval('1 + 1')": "compile",
    "__import__('pickle').loads(b'cbuiltins\\nlen\\n.')": "pickle.find_class",
    "path.unlink()": "os.remove",
    "__import__('socket').socket()": "socket",
    "__import__('warnings').warn('beside the line')": "warning",
    "bytearray(600_000_000)": "MemoryError",
    BUSY: "took",
    "[].pop()": "ended in IndexError",
    "os._exit(3)": "the end of the process",
    "os.kill(os.getpid(), 11)": "the end of the process",
}
"""What a reader may not do, and the word for it among the faults."""


def among_others(deed: str, folder: Path, monkeypatch) -> list[guard.Outcome]:
    """Read a valid file, one at which the reader does something else than to read, and a valid one."""
    source = Path(guard.__file__).read_text(encoding="utf-8")
    reading = "    return weights_import.load(path, architecture)\n"
    assert source.count(reading) == 1
    acting = f"    if path.name == 'victim':\n        {deed}\n{reading}"
    source = source.replace("Path(__file__).parents[1]", repr(str(Path(guard.__file__).parents[1])))
    script = folder / "guard.py"
    script.write_text(source.replace(reading, acting), encoding="utf-8")
    monkeypatch.setattr(guard, "__file__", str(script))
    (folder / "outside").write_text("x", encoding="utf-8")
    victim = folder / "job" / "victim"
    victim.parent.mkdir()
    victim.write_text("x", encoding="utf-8")
    jobs = [
        SEEDS[0].write(folder / "first"),
        job(victim, "", command=False),
        SEEDS[-1].write(folder / "last"),
    ]
    return guard.watched(jobs)


@pytest.mark.parametrize(("deed", "word"), DEEDS.items(), ids=DEEDS)
def test_the_guard_sees(deed: str, word: str, tmp_path: Path, monkeypatch):
    first, outcome, last = among_others(deed, tmp_path, monkeypatch)
    assert any(word in fault for fault in outcome.faults()), outcome
    assert (first.error, last.error) == ("none", "none"), "one file's harm must stop no other"


def test_seeds_are_small():
    """Else to cut and to change them would test the numbers of weights, not the formats."""
    assert max(len(seed.make()) for seed in SEEDS) < 16_000
