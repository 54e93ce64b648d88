"""A peer's faults are outcomes: nothing of what it did before or does after is lost.

The peers here are adapters of a few lines that misbehave on the vector of that name.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lrpref.conformance.adapters import process, worker
from lrpref.errors import BadBackend, BadRecord

FAKE = '''
import json, os, sys, time
import numpy as np

NAME = "fake"
INSTALL = "pip install fake"

def version():
    return "1.2"

def explain(case):
    return globals()[case["id"].partition("-")[0]](case)

def good(case):
    return case["input"] * 2

def prints(case):
    print("{\\"id\\": \\"prints\\", \\"status\\": \\"ok\\"}")
    os.write(1, b"and past Python's buffer\\n")
    return good(case)

def hangs(case):
    time.sleep(600)

def aborts(case):
    os.abort()

def ends(case):
    print("a last word", file=sys.stderr, flush=True)
    os._exit(0)

def exits(case):
    sys.exit("asked to leave")

def shape(case):
    return np.zeros(7)

def nan(case):
    return case["input"] * np.array([np.nan, np.inf])

def half(case):
    with open(sys.argv[3], "a") as results:
        results.write('{"id": "half", "stat')
    os._exit(0)

def garbage(case):
    with open(sys.argv[3], "a") as results:
        results.write("no JSON\\n")
    time.sleep(600)

def lacks(case):
    raise NotImplementedError("no such rule here")

def raises(case):
    raise ValueError("x" * 10_000)

def strings(case):
    return ["no", "numbers"]

def imaginary(case):
    return case["input"] * 1j

def nothing(case):
    return {"relevance": case["input"]}

def surrogate(case):
    raise ValueError("\\udce4\\nsecond line")

def forges(case):
    line = {"id": case["id"], "status": "ok"}
    letters = {"R": {"shape": [1], "hex": ["zz"]}}
    forged = {"nothing": {}, "letters": letters, "praise": {"status": "splendid"}}
    with open(sys.argv[3], "a") as results:
        results.write(json.dumps(line | forged[case["id"].partition("-")[2]]) + "\\n")
    time.sleep(600)

def tells(case):
    assert not {"expected", "conventions", "result"} & set(case)
    assert case["nodes"][0]["weight"].tolist() == [[1.0, 2.0]]
    return {"R": good(case), "nodes": {"dense": [[0.5]]}, "settings": "its own eps"}

def nested(case):
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", __file__])
    time.sleep(600)
'''


def vector(name, x=(1.0, -0.1)):
    return SimpleNamespace(
        id=name,
        raw={
            "id": name,
            "nodes": [{"name": "dense", "weight": worker.text([[1.0, 2.0]])}],
            "input": worker.text([x]),
            "expected": "a secret",
            "conventions": {},
            "result": "valid",
        },
    )


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "fake" / "fake.py"
    path.parent.mkdir()
    path.write_text(FAKE)
    return path


def outcomes(path, names, results, **options):
    found = process.explain_all(str(path), map(vector, names), results=results, **options)
    return {outcome.id: outcome for outcome in found}


STATUS = {
    "good": "ok",
    "prints": "ok",
    "aborts": "crash",
    "shape": "wrong-shape",
    "ends": "crash",
    "nan": "not-finite",
    "hangs": "timeout",
    "half": "crash",
    "garbage": "crash",
    "lacks": "unsupported",
    "exits": "error",
    "raises": "error",
    "strings": "error",
    "imaginary": "error",
    "nothing": "error",
    "surrogate": "error",
    "forges-nothing": "crash",
    "forges-letters": "crash",
    "forges-praise": "crash",
    "tells": "ok",
    "good-again": "ok",
}


def test_every_fault_is_an_outcome(fake, tmp_path, capfd):
    results = tmp_path / "results.jsonl"
    seen = []
    found = outcomes(fake, STATUS, results, timeout=2.0, watch=seen.append)
    assert {name: outcome.status for name, outcome in found.items()} == STATUS
    assert seen == list(STATUS)
    assert all((found[name].R == [[2.0, -0.2]]).all() for name in ("good", "prints", "tells", "good-again"))
    assert found["aborts"].message.startswith("ended by SIGABRT")
    assert found["ends"].message == "ended before it answered, with exit code 0: a last word"
    assert found["hangs"].message == "no answer after 2 s"
    assert found["hangs"].seconds >= 2
    assert found["lacks"].message == "no such rule here"
    assert found["exits"].message == "SystemExit: asked to leave"
    assert len(found["raises"].message) == worker.LONGEST
    assert found["shape"].message == "relevance of shape (7,) for an input of shape (1, 2)"
    assert found["nan"].message == "2 of 2 values are NaN or infinite"
    np.testing.assert_array_equal(found["nan"].R, [[np.nan, -np.inf]])
    assert found["imaginary"].message == "TypeError: complex numbers are no relevance"
    assert found["nothing"].message == "TypeError: a dict without R is no answer"
    assert found["surrogate"].message == r"ValueError: \udce4 second line"  # one line that any file can hold
    assert found["forges-nothing"].message == "wrote a line that is no result"
    assert found["tells"].nodes["dense"].tolist() == [[0.5]]
    assert found["tells"].settings == "its own eps"
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_rerun_resumes(fake, tmp_path):
    results, seen = tmp_path / "results.jsonl", []
    first = outcomes(fake, ["good", "aborts"], results)
    whole = results.read_bytes()
    results.write_bytes(whole + b'{"id": "tells", "status": "o')  # the run was ended while it wrote
    second = outcomes(fake, ["good", "aborts", "tells"], results, watch=seen.append)
    assert seen == ["tells"]
    assert second["tells"].status == "ok"
    assert (second["good"].R == first["good"].R).all()
    assert second["aborts"].message == first["aborts"].message
    assert results.read_bytes().startswith(whole)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["id"] for line in lines if "id" in line] == ["good", "aborts", "tells"]


def test_a_line_that_cannot_be_read_is_run_again(fake, tmp_path):
    """An earlier run's file may have been edited: its other answers still count."""
    results, seen = tmp_path / "results.jsonl", []
    outcomes(fake, ["good", "tells"], results)
    head, good, tells = results.read_text().splitlines()
    results.write_text("\n".join([head, json.dumps({**json.loads(good), "R": 3}), tells, ""]))
    found = outcomes(fake, ["good", "tells"], results, watch=seen.append)
    assert seen == ["good"]
    assert found["good"].R.tolist() == [[2.0, -0.2]]


def test_two_runs_do_not_write_one_file(fake, tmp_path):
    results = tmp_path / "results.jsonl"
    first = process.explain_all(str(fake), map(vector, ["good", "tells"]), results=results)
    assert next(first).status == "ok"
    with pytest.raises(BadRecord, match="another run is writing it"):
        outcomes(fake, ["good"], results)
    assert next(first).status == "ok"
    first.close()
    assert outcomes(fake, ["good"], results)["good"].status == "ok"


def test_a_pipe_is_not_waited_for(fake, tmp_path):
    os.mkfifo(tmp_path / "results.jsonl")
    with pytest.raises(BadRecord, match="is not a file"):
        outcomes(fake, ["good"], tmp_path / "results.jsonl")


def test_a_folder_beside_an_adapter_is_no_part_of_it(fake, tmp_path):
    (fake.parent / "folder.py").mkdir()
    assert outcomes(fake, ["good"], tmp_path / "results.jsonl")["good"].status == "ok"


def test_a_worker_ends_with_its_run(fake, tmp_path):
    """However a run ends, a library that hangs does not stay behind."""
    (tmp_path / "cases").write_text(json.dumps({"cases": [vector("hangs").raw]}))
    (tmp_path / "results").touch()
    files = [str(fake), str(tmp_path / "cases"), str(tmp_path / "results")]
    start = f"import subprocess; subprocess.Popen({[sys.executable, worker.__file__, *files]!r},"
    start += " start_new_session=True); import time; time.sleep(600)"
    run = subprocess.Popen([sys.executable, "-c", start])
    while not (tmp_path / "results").read_text():
        time.sleep(0.02)
    run.kill()
    run.wait()
    end = time.monotonic() + 20 * worker.LOOK
    while _running(fake) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _running(fake)


def test_what_has_changed_is_run_again(fake, tmp_path):
    results, seen = tmp_path / "results.jsonl", []
    outcomes(fake, ["good"], results, watch=seen.append)
    changed = process.explain_all(
        str(fake), [vector("good", (3.0, 4.0))], results=results, watch=seen.append
    )
    assert [outcome.R.tolist() for outcome in changed] == [[[6.0, 8.0]]]
    fake.write_text(FAKE.replace("* 2", "* 3"))
    assert outcomes(fake, ["good"], results, watch=seen.append)["good"].R.tolist() == [[3.0, -0.1 * 3]]
    fake.write_text(FAKE.replace("1.2", "1.3"))
    outcomes(fake, ["good"], results, watch=seen.append)
    assert seen == ["good"] * 4


def test_a_run_that_is_broken_off_leaves_its_results_and_no_process(fake, tmp_path):
    results = tmp_path / "results.jsonl"
    found = process.explain_all(str(fake), map(vector, ["good", "nested"]), results=results, timeout=1.0)
    assert next(found).status == "ok"
    assert [json.loads(line).get("id") for line in results.read_text().splitlines()] == [None, "good"]
    assert next(found).status == "timeout"  # and with it goes what it has started
    found.close()
    time.sleep(0.1)
    assert not _running(fake)


def _running(adapter):
    """Whether any process was started with this adapter."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(adapter) in path.read_bytes().split(b"\0"):
                return True
    return False


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nowhere", r"is not installed \(nowhere is missing\): pip install fake"),
        ("1 / 0", "does not start: ZeroDivisionError: division by zero"),
        ("os._exit(3)", "does not start: ended before it answered, with exit code 3"),
        ("os.abort()", "does not start: ended by SIGABRT"),
        ("del NAME, explain", "does not start: AttributeError: the adapter has no NAME, explain"),
        ("def version(): return {}", r"does not start: ValueError: the adapter's version\(\) tells no"),
    ],
)
def test_a_library_that_cannot_be_run(code, message, fake, tmp_path):
    fake.write_text(f"{FAKE}\n{code}\n")
    with pytest.raises(BadBackend, match=message):
        outcomes(fake, ["good"], tmp_path / "results.jsonl")
    assert not (tmp_path / "results.jsonl").exists()


def test_a_library_that_hangs_at_import(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "START", 1.0)
    fake.write_text("import time\ntime.sleep(600)\n")
    with pytest.raises(BadBackend, match="does not start: not imported after 1 s"):
        outcomes(fake, ["good"], tmp_path / "results.jsonl")
    assert not _running(fake)


def test_unknown_libraries(tmp_path):
    with pytest.raises(BadBackend, match=r"unknown library 'zenit': there are zennit, .*adapter's file"):
        process.get("zenit")
    with pytest.raises(BadBackend, match="there is no such file"):
        process.get(str(tmp_path / "none.py"))


@pytest.mark.parametrize("text", ["no JSON\n", '{"id": "good"}\n[1]\n', '{"library": "fake"}\n3\n'])
def test_a_file_that_is_no_results_file_stays_as_it_is(text, fake, tmp_path):
    results = tmp_path / "results.jsonl"
    results.write_text(text)
    with pytest.raises(BadRecord, match="is not a results file"):
        outcomes(fake, ["good"], results)
    assert results.read_text() == text


def test_results_that_cannot_be_written(fake, tmp_path):
    with pytest.raises(BadRecord, match="cannot be read and written"):
        outcomes(fake, ["good"], fake / "results.jsonl")


def test_the_worker_needs_no_lrpref(fake, tmp_path):
    """As in an environment of another NumPy: it is run as a file, without our package."""
    cases = [vector("tells").raw | {"expected": 0}, vector("prints").raw]
    (tmp_path / "cases").write_text(json.dumps({"cases": cases}))
    files = [str(fake), str(tmp_path / "cases"), str(tmp_path / "results")]
    block = tmp_path / "blocked" / "lrpref"
    block.mkdir(parents=True)
    (block / "__init__.py").write_text("raise RuntimeError('lrpref was imported')")
    environment = {**os.environ, "PYTHONPATH": str(block.parent)}
    command = [sys.executable, worker.__file__, *files]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE)
    assert done.stdout == b""  # whatever the library prints
    lines = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    assert (lines[0]["library"], lines[0]["version"]) == ("fake", "1.2")
    assert lines[1]["status"] == "error"  # it was shown an answer, and says so
    assert "AssertionError" in lines[1]["message"]


def test_arrays_survive_the_way(tmp_path):
    numbers = np.array([[0.1, -0.0, 5e-324], [np.inf, np.nan, 1e308]])
    read = worker.array(json.loads(json.dumps(worker.text(numbers))))
    np.testing.assert_array_equal(read, numbers)
    np.testing.assert_array_equal(np.signbit(read), np.signbit(numbers))
    assert worker.array(worker.text(np.zeros((2, 0)))).shape == (2, 0)


def test_where_a_library_lives(tmp_path, monkeypatch):
    monkeypatch.setenv("LRPREF_PEERS", str(tmp_path))
    assert process.environment("zennit-0.5.1")[0] == sys.executable
    (tmp_path / "zennit-0.5.1").mkdir()
    interpreter, variables = process.environment("zennit-0.5.1")
    assert interpreter == sys.executable
    assert variables["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path / "zennit-0.5.1")
    own = tmp_path / "innvestigate" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable)
    interpreter, variables = process.environment("innvestigate")
    assert interpreter == str(own)
    assert "PYTHONPATH" not in variables
