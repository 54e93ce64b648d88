"""The conformance run: verdicts, causes, what a library can do to the run, the files and the page.

The libraries here are a few lines each, written for the test: their faults are known, so the verdict is, too.
"""

import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import lrpref
from lrpref import dialects
from lrpref.cli import app
from lrpref.conformance import matrix, page, runner, suite, verdicts
from lrpref.conformance.adapters.process import Outcome
from lrpref.conformance.zeros import divides_by_zero
from lrpref.errors import BadRecord

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import write_conformance  # noqa: E402  a tool is no package

LIBRARY = '''
"""LRP-0 and LRP-eps on one dense layer, by the book but for what stands below."""
import os, sys, time
import numpy as np

NAME, INSTALL = "toy", "write it"
MARK = {mark!r}

def version():
    return "1"

def explain(case):
    with open(MARK, "a") as file:
        file.write(case["id"] + "\\n")
    node = case["nodes"][0]
    if len(case["nodes"]) > 1 or node["kind"] != "dense" or node["rule"]["name"] not in ("zero", "epsilon"):
        raise NotImplementedError("the toy knows LRP-0 on a dense layer")
    if node["rule"]["bias"] != "absorb" or node["rule"]["stabilizer"]["kind"] == "relative":
        raise NotImplementedError("the toy knows no options")
    a, w, R = case["input"], node["weight"], case["relevance"]
    b = 0 if node["bias"] is None else node["bias"]
    kind, eps = node["rule"]["stabilizer"]["kind"], node["rule"]["stabilizer"]["value"]
    z = a @ w.T + b
    {deed}
    z = z + eps * (1 if kind == "unsigned" else np.where(z < 0, -1, 1))
    s = np.divide(R, z, out=np.zeros_like(z), where=z != 0)
    return a * (s @ w)
'''


@pytest.fixture
def toy(tmp_path):
    """Writes a library that does something of its own before it divides."""

    def write(deed="pass"):
        path = tmp_path / "toy.py"
        path.write_text(LIBRARY.format(deed=deed, mark=str(tmp_path / "mark")), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def vectors():
    return suite.load([suite.SHIPPED / "dense.json"])


@pytest.fixture(scope="module")
def edges():
    return suite.load([suite.SHIPPED / "edges.json"])


@pytest.fixture
def few(tmp_path):
    """A file of the vectors that the toy can explain, among them one with z = -2 and eps = 1 (D1)."""
    chosen, flags = [], {}
    for name in ("dense", "dialects"):
        whole = json.loads((suite.SHIPPED / f"{name}.json").read_text(encoding="utf-8"))
        flags |= whole["flags"]
        chosen += [raw for raw in whole["vectors"] if raw["result"] != "undefined" and takes(raw["nodes"])]
    path = tmp_path / "few.json"
    path.write_text(json.dumps({**whole, "flags": flags, "vectors": chosen}), encoding="utf-8")
    return path


def takes(nodes):
    if len(nodes) > 1 or nodes[0]["kind"] != "dense" or nodes[0]["rule"]["bias"] != "absorb":
        return False
    return nodes[0]["rule"]["name"] in ("zero", "epsilon")


def command(*arguments):
    return CliRunner().invoke(app, ["conformance", *map(str, arguments)])


def by_id(folder):
    return {finding.id: finding for finding in runner.load(folder / "results.json").findings}


# Verdicts.


def outcome(vector, R, status="ok", message=""):
    return Outcome(vector.id, status, R, message)


def named(vectors, name):
    return next(vector for vector in vectors if vector.id == name)


def test_the_exact_result_agrees_and_a_slip_does_not(vectors):
    vector = named(vectors, "dense/zero/signed-input")
    node = vector.raw["nodes"][0]
    w, b = suite.numbers(node["weight"]), suite.numbers(node["bias"])
    by_hand = vector.x * ((vector.R / (vector.x @ w.T + b)) @ w)
    found = verdicts.judge(vector, outcome(vector, by_hand), dialects.CHAPTER)
    assert (found.verdict, found.regression, found.why) == ("chapter", False, "")
    slip = verdicts.judge(vector, outcome(vector, by_hand * (1 + 1e-13)), dialects.CHAPTER)
    assert slip.verdict == "dialect"  # the chapter's formula, but less accurate than float64 has to be
    assert (slip.dimensions, slip.why) == ((), verdicts.CLOSE_ONLY)
    wrong = verdicts.judge(vector, outcome(vector, by_hand * 1.01), dialects.CHAPTER)
    assert (wrong.verdict, wrong.regression) == ("differs", True)


def test_error_is_in_bounds(vectors):
    vector = named(vectors, "dense/zero/signed-input")
    bound = vector.bound("float64")
    assert verdicts.in_bounds(vector, vector.expected) == 0
    assert verdicts.in_bounds(vector, vector.expected + 3 * bound) == pytest.approx(3, rel=0.2)


def test_a_cause_is_named(vectors):
    """w^2 with b^2 in the denominator, as zennit has it: D11."""
    vector = named(vectors, "dense/w2/positive-bias")
    node = vector.raw["nodes"][0]
    w, b = suite.numbers(node["weight"]), suite.numbers(node["bias"])
    R = (vector.R / ((w**2).sum(axis=1) + b**2)) @ w**2
    zennit = verdicts.judge(vector, outcome(vector, R), dialects.get("zennit"))
    assert (zennit.verdict, zennit.dimensions, zennit.regression) == ("dialect", ("D11",), False)
    assert "b^2" in zennit.why
    other = verdicts.judge(vector, outcome(vector, R), dialects.CHAPTER)
    assert (other.verdict, other.dimensions, other.regression) == ("convention", ("D11",), True)


def test_better_than_its_dialect_is_unexpected_too(vectors):
    vector = named(vectors, "dense/w2/positive-bias")
    found = verdicts.judge(vector, outcome(vector, vector.expected), dialects.get("zennit"))
    assert (found.verdict, found.regression) == ("chapter", True)
    assert "zennit" in found.why


def test_an_unknown_mistake_is_nobodys(vectors):
    vector = named(vectors, "dense/w2/positive-bias")
    found = verdicts.judge(vector, outcome(vector, vector.expected + 1), dialects.get("zennit"))
    assert (found.verdict, found.dimensions, found.regression) == ("differs", (), True)


def test_what_a_dialect_does_not_model_is_said():
    norms = suite.load([suite.SHIPPED / "norms.json"])
    vector = named(norms, "batchnorm/z-plus/before-dense")
    found = verdicts.judge(vector, outcome(vector, vector.expected + 1), dialects.get("innvestigate"))
    assert (found.verdict, found.regression) == ("differs", False)
    assert found.why.startswith("in the dialect of iNNvestigate")
    assert found.why.endswith("not modelled here")


def test_common_slips_are_named(vectors):
    """Not a definition that anybody has, but a mistake that many have made: it differs, and says why."""
    vector = named(vectors, "dense/epsilon/positive-bias")
    node = vector.raw["nodes"][0]
    w, b = suite.numbers(node["weight"]), suite.numbers(node["bias"])
    z, eps = vector.x @ w.T, node["rule"]["stabilizer"]["value"]
    for denominator, dimension, said in (
        (z + eps * np.where(z < 0, -1, 1), ("D3",), "left out"),
        (z + b + 1e-6 * np.where(z + b < 0, -1, 1), ("D2",), "1e-06, whatever is asked for"),
    ):
        R = vector.x * ((vector.R / denominator) @ w)
        found = verdicts.judge(vector, outcome(vector, R), dialects.CHAPTER)
        assert (found.verdict, found.dimensions, found.regression) == ("differs", dimension, True)
        assert said in found.why
    for R, said in ((-vector.expected, "opposite sign"), (0 * vector.expected, "0 everywhere")):
        found = verdicts.judge(vector, outcome(vector, R), dialects.CHAPTER)
        assert (found.verdict, found.dimensions) == ("differs", ())
        assert said in found.why


def test_a_small_eps_is_not_taken_for_rounding(vectors):
    """1e-9 of the largest R would pass for the chapter's formula; 1e-12 does not, and eps = 1e-9 is found."""
    vector = named(vectors, "dense/z-plus/no-bias")
    w = suite.numbers(vector.raw["nodes"][0]["weight"]).clip(0)
    R = vector.x * ((vector.R / (vector.x @ w.T + 1e-9)) @ w)
    found = verdicts.judge(vector, outcome(vector, R), dialects.CHAPTER)
    assert (found.verdict, found.dimensions, found.regression) == ("convention", ("D2",), True)


def test_a_wrong_number_beside_a_large_one_is_no_rounding(edges):
    """No bias in z, where only a number of 1e-13 of the largest shows that: D6, not the chapter's formula."""
    vector = named(edges, "edges/dynamic-range/z-plus")
    w = suite.numbers(vector.raw["nodes"][0]["weight"])
    products = np.clip(vector.x[:, None, :] * w, 0, None)
    R = np.einsum("nk,nkj->nj", vector.R / products.sum(axis=2), products)
    assert (np.abs(R - vector.expected) <= 1e-12 * vector.expected.max()).all()
    found = verdicts.judge(vector, outcome(vector, R), dialects.CHAPTER)
    assert (found.verdict, found.dimensions, found.regression) == ("convention", ("D6",), True)


def test_nan_is_never_right(vectors):
    vector = named(vectors, "dense/zero/signed-input")
    found = verdicts.judge(vector, outcome(vector, vector.expected * np.nan), dialects.CHAPTER)
    assert (found.verdict, found.error, found.regression) == ("differs", np.inf, True)


def test_causes_are_grouped():
    two = "D2 Size of eps: so. D11 w2 and the bias: not so."
    found = [
        verdicts.Finding("a", "dense", "w2", (), "dialect", 9.0, ("D2", "D11"), two),
        verdicts.Finding("b", "dense", "w2", (), "dialect", 9.0, ("D11",), "D11 w2 and the bias: not so."),
        verdicts.Finding("c", "dense", "w2", (), "not-finite", None, (), "2 of 3 values are NaN or infinite"),
        verdicts.Finding("d", "dense", "w2", (), "chapter", 0.1, why="better than its dialect"),
    ]
    named = {cause: [finding.id for finding in some] for cause, some in matrix.causes(found).items()}
    assert list(named.items()) == [
        ("D2 Size of eps: so.", ["a"]),
        ("D11 w2 and the bias: not so.", ["b", "a"]),  # what shows it alone comes first
        ("NaN or infinite", ["c"]),
    ]


def test_where_nothing_is_right_there_is_no_verdict(vectors):
    vector = named(vectors, "dense/w2/positive-bias")
    undefined = replace(vector, raw={**vector.raw, "result": "undefined"})
    for said in (outcome(vector, vector.expected + 1), outcome(vector, None, "crash", "gone")):
        found = verdicts.judge(undefined, said, dialects.CHAPTER)
        assert (found.verdict, found.regression) == ("undefined", False)


@pytest.mark.parametrize("status", ["error", "crash", "timeout", "wrong-shape", "not-finite"])
def test_a_failure_is_unexpected_where_the_dialect_has_an_answer(vectors, status):
    vector = named(vectors, "dense/zero/signed-input")
    found = verdicts.judge(vector, outcome(vector, None, status, "why"), dialects.CHAPTER)
    assert (found.verdict, found.why, found.regression) == (status, "why", True)
    assert verdicts.judge(vector, outcome(vector, None, "unsupported"), dialects.CHAPTER).regression is False


def test_an_eps_of_1e9_is_a_cause(vectors):
    """Captum's z-plus adds 1e-9 to its denominators: less than a result's 1e-9, more than rounding."""
    vector = named(vectors, "dense/z-plus/no-bias")
    w = suite.numbers(vector.raw["nodes"][0]["weight"]).clip(0)
    assert (vector.x >= 0).all()
    R = vector.x * ((vector.R / (vector.x @ w.T + 1e-9)) @ w)
    found = verdicts.judge(vector, outcome(vector, R), dialects.get("captum"))
    assert (found.verdict, found.dimensions) == ("dialect", ("D2",))


def test_nan_is_no_surprise_where_a_denominator_is_zero(edges):
    """alpha-beta on a neuron without negative contributions: one of the two sums is empty."""
    said = (None, "not-finite", "2 of 2 values are NaN or infinite")
    for name, zero in (("one-sided/alpha2-beta1/positive", True), ("one-sided/stabilized/positive", False)):
        vector = named(edges, f"edges/{name}")
        assert (suite.numbers(vector.node("dense")["shares"][1]["z"]) == 0).all()
        assert divides_by_zero(vector, dialects.CHAPTER) == zero
        assert verdicts.judge(vector, outcome(vector, *said), dialects.CHAPTER).regression is not zero


def test_only_what_an_agreement_needs_is_its_cause():
    zennit = dialects.get("zennit")
    asked = []

    def agrees(tried):
        asked.append(tried)
        return tried.settings["D11"] == "bias-squared"

    assert [d.id for d in verdicts.needed(zennit, agrees)] == ["D11"]
    assert len(asked) == len(zennit.differs())


def test_every_verdict_has_one_column():
    counted = [verdict for some in matrix.COLUMNS.values() for verdict in some]
    assert sorted(counted) == sorted(verdicts.VERDICTS)


def test_cells_count():
    found = [
        verdicts.Finding("a", "dense", "zero", ("D1",), "chapter", 0.5),
        verdicts.Finding("b", "dense", "zero", ("D1",), "dialect", 1e9, ("D3",)),
        verdicts.Finding("c", "dense", "w2", (), "unsupported"),
    ]
    cells = matrix.matrix(found)
    assert list(cells) == [("zero", "D1"), ("zero", "D3"), ("w2", matrix.PLAIN)]
    first = cells["zero", "D1"]
    assert (first.count("chapter"), first.judged, first.worst, first.mood) == (1, 2, 1e9, "mild")
    assert (cells["w2", matrix.PLAIN].judged, cells["w2", matrix.PLAIN].mood) == (0, "quiet")
    assert matrix.summary(cells, matrix.Cell(tuple(found)))[-1][:5] == ["all", "", "3", "1", "1"]


# Runs.


def test_a_library_by_the_book(toy, few, tmp_path):
    folder = tmp_path / "out"
    done = command("run", "--library", toy(), "--vectors", few, "--out", folder)
    assert done.exit_code == 0, done.output
    found = by_id(folder)
    assert {finding.verdict for finding in found.values()} == {"chapter"}
    assert "toy 1" in done.output
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(found)


def test_its_dialect_is_the_yardstick(toy, few, tmp_path):
    """A library that adds eps whatever the sign: D1; wrong by the chapter, right as LXT."""
    library = toy('kind = "unsigned"')
    done = command("run", "--library", library, "--vectors", few, "--out", tmp_path / "a")
    assert done.exit_code == 1
    found = by_id(tmp_path / "a")
    otherwise = [finding for finding in found.values() if finding.verdict != "chapter"]
    assert {finding.dimensions for finding in otherwise} == {("D1",)}
    assert "not as its dialect 'chapter' says" in done.output
    assert f"{len(otherwise)} (" in done.output
    assert "D1 Stabilizer: eps is added whatever the sign of z" in done.output
    command("run", "--library", library, "--vectors", few, "--out", tmp_path / "b", "--dialect", "lxt")
    known = by_id(tmp_path / "b")
    assert {known[finding.id].verdict for finding in otherwise} == {"dialect"}


DEEDS = {
    "crash": ("os.abort()", "SIGABRT"),
    "timeout": ("time.sleep(60)", "no answer"),
    "not-finite": ("z = z * float('nan')", "NaN"),
    "wrong-shape": ("return R", "shape"),
    "error": ("raise ValueError('no idea')", "ValueError: no idea"),
}


@pytest.mark.parametrize("verdict", DEEDS)
def test_what_befalls_a_library_is_a_verdict(toy, few, tmp_path, verdict):
    deed, said = DEEDS[verdict]
    library = toy(f"if case['id'].endswith('negative-bias') and 'zero' in case['id']: {deed}")
    folder = tmp_path / "out"
    done = command("run", "--library", library, "--vectors", few, "--out", folder, "--timeout", "2")
    found = by_id(folder)
    struck = found.pop("dense/zero/negative-bias")
    assert struck.verdict == verdict
    assert said in struck.why
    assert {finding.verdict for finding in found.values()} == {"chapter"}  # nothing else is lost
    assert done.exit_code == 1
    assert "dense/zero/negative-bias" in done.output


def test_what_it_prints_is_no_output_of_ours(toy, few, tmp_path):
    done = command("run", "--library", toy("print('NOISE')"), "--vectors", few, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "NOISE" not in done.output


def test_a_rerun_resumes(toy, few, tmp_path):
    folder, library = tmp_path / "out", toy()
    command("run", "--library", library, "--vectors", few, "--out", folder)
    asked = (tmp_path / "mark").read_text(encoding="utf-8").splitlines()
    path = folder / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:9], encoding="utf-8")  # broken off in the middle of a line
    done = command("run", "--library", library, "--vectors", few, "--out", folder)
    assert done.exit_code == 0
    again = (tmp_path / "mark").read_text(encoding="utf-8").splitlines()[len(asked) :]
    assert again == asked[2:]  # two answers were there


def test_a_library_is_named_after_its_file_or_itself():
    assert [runner.name_of(x) for x in ("zennit-0.5.1", "a/b/mine.py")] == ["zennit-0.5.1", "mine"]


def test_ourselves(vectors, tmp_path):
    report = runner.run("lrpref", vectors, tmp_path, backend="loops")
    judged = [finding for finding in report.findings if finding.verdict != "undefined"]
    assert {finding.verdict for finding in judged} == {"chapter"}
    assert report.about["backend"] == "loops"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--library", "keras"), "unknown library 'keras'"),
        (("--library", "lrpref", "--vectors", "nowhere.json"), "nowhere.json"),
        (("--library", "lrpref", "--dialect", "latin"), "unknown dialect 'latin'"),
        (("--library", "lrpref", "--backend", "abacus"), "abacus"),
        (("--library", "nowhere.py"), "nowhere.py: there is no such file"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command("run", *arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_library_that_is_not_there(tmp_path):
    path = tmp_path / "gone.py"
    path.write_text("NAME = 'gone'\nINSTALL = 'pip install gone'\nimport gone_for_good\n", encoding="utf-8")
    done = command("run", "--library", path, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "not installed (gone_for_good is missing): pip install gone" in done.output
    assert not (tmp_path / "out").exists()


def test_list_names_libraries_and_vectors(vectors, monkeypatch):
    monkeypatch.setattr("lrpref.conformance.adapters.process.libraries", lambda: ())
    done = command("list", "--vectors", suite.SHIPPED / "dense.json")
    assert done.exit_code == 0
    assert f"{len(vectors)} vectors: dense {len(vectors)}" in done.output


# The page and the record.


class Balanced(HTMLParser):
    """Fails where tags do not match; collects anchors and links."""

    def __init__(self, text):
        super().__init__()
        self.open, self.anchors, self.links, self.seen = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.seen.append(tag)
        self.anchors += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"][1:]] if attributes.get("href", "").startswith("#") else []
        assert attributes.get("src", "data:").startswith("data:")  # nothing is fetched
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_cell_opens_its_vectors(vectors, tmp_path):
    report = runner.run("lrpref", vectors, tmp_path)
    text = page.page(report, vectors)
    read = Balanced(text)
    assert sorted(read.anchors) == sorted(vector.id for vector in vectors)
    assert set(read.links) == set(read.anchors)
    assert "script" not in read.seen
    shown = named(vectors, "dense/zero/signed-input").raw["expected"]
    accounts = [account["exact"][0] for account in shown["nodes"]["dense"]["ledger"].values()]
    assert all(f"<td>{exact}</td>" in text for exact in (*shown["R"]["exact"], *accounts))


def test_a_page_escapes_what_a_library_says(vectors):
    vector = vectors[0]
    said = Outcome(vector.id, "error", None, "<script>alert(1)</script>")
    found = verdicts.judge(vector, said, dialects.CHAPTER)
    about = {"library": "<b>", "version": "1"}
    report = runner.Report("toy", about, "", "chapter", {"count": 1}, (found,), {vector.id: said})
    read = Balanced(page.page(report, [vector]))
    assert "script" not in read.seen
    assert "b" not in read.seen


def test_results_are_read_as_they_were_written(vectors, tmp_path):
    report = runner.run("lrpref", vectors[:5], tmp_path)
    read = runner.load(tmp_path / "results.json")
    assert read == replace(report, outcomes={})
    assert read.vectors == {"count": 5, "sha256": runner.digest(vectors[:5])}


@pytest.mark.parametrize("text", ["", "[]", '{"format": "lrpref-conformance/9"}', '{"format": 1}', "{}"])
def test_other_files_are_no_results(tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadRecord, match=r"x\.json"):
        runner.load(tmp_path / "x.json")


def test_the_documentation_is_of_the_records():
    reports = write_conformance.read()
    assert reports
    written = write_conformance.text(reports, write_conformance.read_networks())
    assert write_conformance.PAGE.read_text(encoding="utf-8") == written


def test_the_documentation_judges_only_what_was_run():
    text = write_conformance.PAGE.read_text(encoding="utf-8")
    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    names = {report.name for report in write_conformance.read()}
    others = {"What was run", "By dimension", "Whole networks", "To reproduce"}
    assert set(sections) == names | others


def test_records_are_of_one_set_of_vectors():
    digests = {report.vectors["sha256"] for report in write_conformance.read()}
    assert digests == {runner.digest(suite.load())}


def test_lrpref_is_right_about_lrpref():
    (report,) = [r for r in write_conformance.read() if r.library == runner.OURSELVES]
    assert report.about["version"] == lrpref.__version__
    assert {f.verdict for f in report.findings} <= {"chapter", "undefined"}
