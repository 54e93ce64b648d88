"""The test vectors: computed independently, met by our own arithmetic, and damaged files refused."""

import ast
import contextlib
import copy
import importlib.util
import json
import math
import random
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import lrpref
from lrpref import exact
from lrpref.conformance import suite, vector_file
from lrpref.conformance.generator import cases, formulas, geometry, network
from lrpref.conformance.generator.case import case
from lrpref.conformance.generator.files import text, vector
from lrpref.conformance.generator.numbers import FLOAT32, FLOAT64, Exact, NoBound, Rounded
from lrpref.conformance.generator.parts import FIRST as WINNER
from lrpref.conformance.generator.parts import ZERO, dense, epsilon, pooling
from lrpref.engine import activate
from lrpref.errors import BadRule, BadVector
from lrpref.ledger import ACCOUNTS
from lrpref.plan import Plan
from lrpref.rules import AlphaBeta
from lrpref.trace import trace_layer

ROOT = Path(__file__).parent.parent
VECTORS = suite.load()
NAMED = {v.id: v for v in VECTORS}

spec = importlib.util.spec_from_file_location("make_vectors", ROOT / "tools" / "make_vectors.py")
make_vectors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_vectors)


# Our own arithmetic meets them.


def _fraction(x):
    """Take a number of exact arithmetic, whichever library it is of."""
    return Fraction(int(x.p), int(x.q)) if hasattr(x, "q") else Fraction(x)


def _equal(result, got):
    """Exactly equal: to the fraction where it is short, else to the float after one correct rounding."""
    got = [_fraction(v) for v in np.ravel(got)]
    short = suite.fractions(result).ravel()
    return [float(v) for v in got] == suite.numbers(result).ravel().tolist() and all(
        v == f for v, f in zip(got, short, strict=True) if f is not None
    )


def _misses(v):
    """Name what exact arithmetic does not meet: relevances, outputs and accounts of every node."""
    plan = Plan(v.network, rules=v.rules, dtype="exact")
    e = lrpref.explain(plan, v.x, v.R)
    z = activate(plan.canonical, plan.prepared, plan.kernels.upload(plan.arithmetic.array(v.x)))
    missed = [] if _equal(v.raw["expected"]["R"], e.relevance) else ["R of the input"]
    for name, node in v.raw["expected"]["nodes"].items():
        got = {"z": plan.kernels.download(z[name]), "R": e.at(name)}
        missed += [f"{what} of {name}" for what in got if not _equal(node[what], got[what])]
        row = e.ledger[name]
        booked = [account for account in ("arriving", "to_inputs", *ACCOUNTS) if account in node["ledger"]]
        assert len(booked) == len(vector_file.ACCOUNTS)
        missed += [f"{a} of {name}" for a in booked if not _equal(node["ledger"][a], getattr(row, a))]
    return missed


@pytest.mark.parametrize("v", VECTORS, ids=str)
def test_exact_arithmetic_gives_the_vector(v):
    """Floating point stays within the bounds: test_self_check.py."""
    assert _misses(v) == []


@pytest.mark.parametrize("v", VECTORS, ids=str)
def test_balls_enclose_the_fractions(v):
    """Rigorously, and tightly: a 256th of float64's rounding of the largest."""
    e = lrpref.explain(v.network, v.x, v.R, rules=v.rules, dtype="ball")
    with exact.precision("ball", 4000):  # the quotient of the fraction itself is a ball, narrower by far
        for ball, true in zip(e.relevance.ravel(), v.fractions.ravel(), strict=True):
            if true is not None:
                number = exact.get("ball").number
                assert ball.contains(number(true.numerator) / number(true.denominator))
                assert ball.rad() <= 2.0**-60 * abs(v.expected).max()


def test_shares_are_those_of_the_trace():
    """z, s and every term's c of every share, exactly, as `lrpref trace` lists them."""
    seen = 0
    for v in VECTORS:
        e = lrpref.explain(v.network, v.x, v.R, rules=v.rules, dtype="exact")
        for name, node in v.raw["expected"]["nodes"].items():
            for i in range(len(v.x) if node["shares"] else 0):
                traced = trace_layer(e, name, sample=i)
                z, s = ([suite.numbers(share[what])[i].ravel() for share in node["shares"]] for what in "zs")
                places = {upper.neuron: upper.shares for upper in traced.neurons}
                shape = e.network.shapes[name]
                for k, neuron in enumerate(np.ndindex(*shape)):
                    for share, (z_k, _, s_k) in enumerate(places.get(neuron, [])):
                        assert (z[share][k], s[share][k]) == (float(_fraction(z_k)), float(_fraction(s_k))), v
                terms = [suite.numbers(c)[i] for share in node["shares"] for c in share["c"]]
                of_terms = traced.c if places else []  # where nothing arrives there is nothing to trace
                for wanted, (_, _, c) in zip(terms, of_terms, strict=bool(places)):
                    assert wanted.ravel().tolist() == [float(_fraction(c_j)) for c_j in c], v
                seen += len(places)
    assert seen > 2000


# The suite holds what it promises.


def test_relevance_reaches_the_input_of_every_network():
    for v in VECTORS:
        assert v.family != "networks" or (v.expected != 0).mean() >= 0.5, v


def test_there_are_enough_vectors_and_their_bounds_are_tight():
    assert len(VECTORS) >= 250
    tight = [v for v in VECTORS if v.bound("float64").max() <= 1e-12 * abs(v.expected).max()]
    assert len(tight) >= 0.9 * len(VECTORS)


def test_every_rule_meets_every_kind_of_layer():
    met = {}
    for v in VECTORS:
        for node in v.raw["nodes"]:
            if node["rule"] is not None:
                met.setdefault(node["kind"], set()).add(node["rule"]["name"])
    linear = set(vector_file.RULES) - {"pass", "winner-take-all"}
    for kind in ("dense", "conv2d", "conv1d", "avgpool2d", "sumpool2d", "maxpool2d", "batchnorm"):
        assert met[kind] >= linear, kind
    assert {node["kind"] for v in VECTORS for node in v.raw["nodes"]} == set(vector_file.KINDS)
    assert {v.raw["result"] for v in VECTORS} == set(vector_file.RESULTS)


def test_tiny_vectors_are_single_layers_that_hold_every_rule():
    tiny = [v for v in VECTORS if "tiny" in v.tags]
    assert all(len(v.raw["nodes"]) == 1 for v in tiny)
    kinds = {v.raw["nodes"][0]["kind"] for v in tiny}
    assert kinds == {"dense", "conv2d", "avgpool2d", "sumpool2d", "maxpool2d"}
    names = {v.raw["nodes"][0]["rule"]["name"] for v in tiny}
    assert names == set(vector_file.RULES) - {"pass"}
    assert 50 <= len(tiny) <= 90


# By hand: the case of every dimension, as the disagreements were found.
BY_HAND = {
    "D2/z-plus": ("2/5", "2/5"),
    "D3/zero": ("3/2", "1"),
    "D4/gamma": ("3/4", "-1/4"),
    "D5/gamma": ("-1", "2"),
    "D5/generalized-gamma": ("-1/3", "4/3"),
    "D6/z-plus-positive-bias": ("6/7", "0"),
    "D6/z-plus-negative-bias": ("1", "0"),
    "D7/alpha2-beta1": ("2", "-1/2"),
    "D11/w2": ("1/5", "4/5"),
    "D12/flat-implicit": ("1/2", "1/2"),
    "D12/flat-explicit": ("1/3", "1/3"),
    "D13/z-box": ("12/17", "5/17"),
    "D14/tie": ("1", "0"),
    "D14/zeros": ("1", "0"),
    "D15/average": ("-1/2", "3/2"),
    "D16/zero": ("3/5", "3/5"),
    "D16/gamma": ("6/11", "6/11"),
    "D16/z-plus": ("1/2", "1/2"),
    "D17/sum": ("-1/2", "3/2"),
    "D18/start": ("5", "0"),
    "D22/twice": ("4/5",),
}
OTHERS_BY_HAND = {
    ("D3/zero", "split"): ("3/8", "1/4"),
    ("D4/gamma", "untouched"): ("1", "-1/3"),
    ("D4/gamma", "split"): ("1/2", "-1/6"),
    ("D6/z-plus-positive-bias", "raw-bias-unclamped"): ("2", "-4/3"),
    ("D6/z-plus-negative-bias", "raw-bias-unclamped"): ("6", "-4"),
    ("D6/z-plus-negative-bias", "split"): ("2/3", "0"),
    ("D6/z-plus-negative-bias", "raw"): ("6/5", "0"),
    ("D7/alpha2-beta1", "split"): ("0", "0"),
    ("D11/w2", "bias-squared"): ("1/14", "2/7"),
    ("D15/average", "gradient"): ("1/2", "1/2"),
    ("D15/average", "magnitude"): ("1/4", "3/4"),
    ("D16/zero", "passed"): ("2/5", "2/5"),
    ("D16/gamma", "own-layer"): ("2/3", "2/3"),
    ("D16/z-plus", "own-layer"): ("3/5", "3/5"),
    ("D17/sum", "magnitude"): ("1/4", "3/4"),
    ("D22/twice", "last-call"): ("196/225",),  # .871
}


@pytest.mark.parametrize("name", BY_HAND)
def test_dimensions_by_hand(name):
    assert NAMED[f"dialects/{name}"].raw["expected"]["R"]["exact"] == list(BY_HAND[name])


@pytest.mark.parametrize(("name", "answer"), OTHERS_BY_HAND)
def test_other_answers_by_hand(name, answer):
    given = NAMED[f"dialects/{name}"].raw["conventions"][answer]["R"]["exact"]
    assert given == list(OTHERS_BY_HAND[name, answer])


def test_who_is_said_to_give_an_answer_gives_it():
    """The conventions of the vectors and the settings of the dialects are two lists of the same facts."""
    asked = 0
    for v in VECTORS:
        for name, other in v.raw.get("conventions", {}).items():
            answer = v.conventions[name]
            assert (answer != v.expected).any(), f"{v}: {name} is the chapter's answer"
            for library in other["used_by"] if other["flag"] != "D18" else ():  # a vector says where R starts
                given = dict(v.rules)
                if (library, name) == ("innvestigate", "raw"):  # its z-plus is another rule
                    alpha_beta = {"z-plus": AlphaBeta(1, 0)}
                    given = {node: alpha_beta.get(rule.name, rule) for node, rule in given.items()}
                if library in ("captum", "autolrp", "innvestigate") and "unsigned" in v.id:
                    with pytest.raises(BadRule, match="has no unsigned stabilizer"):  # eps has a sign there
                        lrpref.explain(v.network, v.x, v.R, rules=given, dialect=library)
                    continue
                e = lrpref.explain(v.network, v.x, v.R, rules=given, dialect=library)
                # 1e-7 is the largest eps that a library adds unasked
                assert abs(e.relevance - answer).max() <= 1e-6 * max(1, abs(answer).max()), (v, name, library)
                asked += 1
    assert asked > 30


def test_sums_by_hand():
    """Where a dimension is about the sum: of the stabilizer, of one-sided neurons, of an amplifying bias."""
    totals = {"D1/epsilon": "2/3", "D9/all-positive": "2", "D9/all-negative": "-1"}
    for name, total in totals.items():
        assert NAMED[f"dialects/{name}"].fractions.sum() == Fraction(total)
    ledger = NAMED["dialects/D9/all-positive"].node("dense")["ledger"]
    assert (ledger["to_inputs"]["exact"], ledger["dropped"]["exact"]) == (["2"], ["-1"])
    assert NAMED["dialects/D18/start"].conventions["output"].sum() == 8
    raw = NAMED["dialects/D7/alpha2-beta1"].conventions["raw"].ravel()
    assert raw == pytest.approx([2e7, -0.5], rel=1e-6)  # 2/1e-7 and -1 (-1)/(-2 - 1e-7)


def test_a_convolution_by_hand():
    """Two taps (1, -1) over 1 2 2 1/2: z = -1, 0, 3/2; the middle R is dropped, s = -1 and 8/3 beside it."""
    v = NAMED["edges/zero-denominator/convolution"]
    share = v.node("conv")["shares"][0]
    assert share["s"]["exact"] == ["-1", "0", "8/3"]
    assert share["c"][0]["exact"] == ["-1", "1", "8/3", "-8/3"]
    assert v.raw["expected"]["R"]["exact"] == ["-1", "2", "16/3", "-4/3"]
    assert v.node("conv")["ledger"]["dropped"]["exact"] == ["2"]


# Faults in the generator turn something red.


def _generated(v):
    """Compute the vector anew, from the file that holds it."""
    given = copy.deepcopy(v.raw)
    for node in given["nodes"]:
        for field, value in node.items():
            if isinstance(value, dict) and "hex" in value:
                node[field] = _array(value)
    exact = network.propagate(Exact(), given["nodes"], _array(given["input"]), _array(given["relevance"]))
    return [str(x) for x in exact["R"].numbers]


def _array(given):
    return geometry.Array(tuple(given["shape"]), [Fraction(float.fromhex(x)) for x in given["hex"]])


def _positive(n, x):
    return n.positive(x)


def _last(n, neuron, a, ties):
    return formulas.Neuron([neuron.taps[-1]], None)


def _no_bias(n, rule, share, b):
    return n.number(0)


def _never_negative(n, stabilizer, eps, z_k):
    return eps


def _over_the_batch(n, stabilizer, z):
    return n.number(stabilizer["value"])


FAULTS = [
    (formulas, "negative", _positive, "dense/alpha2-beta1/positive-bias"),
    (formulas, "_bias", _no_bias, "dense/zero/positive-bias"),
    (formulas, "_with_sign", _never_negative, "edges/stabilizer/signed/z-negative"),
    (formulas, "_eps", _over_the_batch, "edges/relative/epsilon/per-sample"),
    (network, "winners", _last, "maxpool2d/winner-take-all-first/distinct"),
]


@pytest.mark.parametrize(("module", "name", "faulty", "id"), FAULTS, ids=[fault[1] for fault in FAULTS])
def test_a_faulty_generator_gives_other_numbers(module, name, faulty, id, monkeypatch):
    stored = NAMED[id].raw["expected"]["R"]["exact"]
    assert _generated(NAMED[id]) == stored
    monkeypatch.setattr(module, name, faulty)
    assert _generated(NAMED[id]) != stored


def test_a_vector_that_is_off_is_noticed():
    v = copy.deepcopy(NAMED["network/chapter/5-layers"])
    middle = v.raw["expected"]["nodes"]["dense2"]["R"]
    values = suite.numbers(middle).ravel()
    middle["hex"][abs(values).argmax()] = (values[abs(values).argmax()] * (1 + 2**-40)).hex()
    assert _misses(v) == ["R of dense2"]


def test_the_generator_imports_nothing_of_what_it_tests():
    allowed = ("lrpref.conformance.generator", "lrpref.errors")
    for path in (ROOT / "lrpref" / "conformance" / "generator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.startswith(allowed) or name.partition(".")[0] in sys.stdlib_module_names, path


# The files.


def _set(*where_and_value):
    *where, last, value = where_and_value

    def change(document):
        for key in where:
            document = document[key]
        document[last] = value

    return change


def _drop(*where):
    *where, last = where

    def change(document):
        for key in where:
            document = document[key]
        del document[last]

    return change


def test_files_are_generated_byte_for_byte(tmp_path):
    make_vectors.write(tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (suite.SHIPPED / path.name).read_bytes(), path.name
    shipped = {path.name for path in suite.SHIPPED.iterdir() if path.is_file()}
    assert shipped == {path.name for path in tmp_path.iterdir()} | {"schema.json", "README.md", "reader.py"}
    assert sum(path.stat().st_size for path in suite.SHIPPED.glob("*.json")) < 3e6


def test_the_archive_is_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_vectors.pack(suite.SHIPPED, tmp_path / name / "lrpref-vectors-1.zip")
    one, two = ((tmp_path / name / "lrpref-vectors-1.zip").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.fixture(scope="module")
def schema():
    schema = json.loads((suite.SHIPPED / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("family", [module.__name__.rpartition(".")[2] for module in cases.FAMILIES])
def test_files_follow_the_schema(family, schema):
    schema.validate(json.loads((suite.SHIPPED / f"{family}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [
        _set("format", "lrpref-vectors/2"), _drop("title"), _set("vectors", []), _set("flags", {"D1": 5}),
        *(_drop("vectors", 0, field) for field in ("id", "comment", "nodes", "input", "expected", "result")),
        _set("vectors", 0, "result", "perhaps"), _set("vectors", 0, "input", "shape", [0, 3]),
        _set("vectors", 0, "input", "hex", 0, "nan"), _set("vectors", 0, "input", "hex", 0, "1.5"),
        _set("vectors", 0, "expected", "R", "exact", 0, "3/0"),
        _set("vectors", 0, "expected", "R", "float64", 0, -1.0),
        _drop("vectors", 0, "expected", "R", "float32"),
        _drop("vectors", 0, "expected", "nodes", "dense", "ledger", "bias"),
        _set("vectors", 0, "nodes", 0, "kind", "conv3d"), _set("vectors", 0, "nodes", 0, "rule", None),
        _drop("vectors", 0, "nodes", 0, "weight"), _set("vectors", 0, "nodes", 0, "rule", "name", "lrp"),
        _set("vectors", 0, "nodes", 0, "rule", "name", "gamma"), _set("vectors", 0, "nodes", 0, "module", 5),
        _set("vectors", 0, "nodes", 0, "rule", "stabilizer", "value", -1),
    ],
)  # fmt: skip
def test_the_schema_refuses_mistakes(schema, change):
    document = json.loads((suite.SHIPPED / "dense.json").read_text(encoding="utf-8"))
    document["vectors"] = document["vectors"][:1]
    assert schema.is_valid(document)
    change(document)
    assert not schema.is_valid(document)


def test_the_schema_knows_the_same_names(schema):
    definitions = schema.schema["$defs"]
    for names, where, key in ((vector_file.KINDS, "node", "kind"), (vector_file.RULES, "rule", "name")):
        wanted = {name: set(fields) for name, fields in names.items()}
        ways = [(way["properties"][key]["enum"], set(way["required"])) for way in definitions[where]["oneOf"]]
        assert {name: fields for listed, fields in ways for name in listed} == wanted


def test_the_reader_needs_nothing_of_ours():
    source = (suite.SHIPPED / "reader.py").read_text(encoding="utf-8")
    imports = [line.split()[1] for line in source.splitlines() if line.startswith(("import", "from"))]
    assert set(imports) <= sys.stdlib_module_names
    done = subprocess.run(
        [sys.executable, "-I", suite.SHIPPED / "reader.py"], capture_output=True, text=True, check=True
    )
    met = sum(v.family == "dense" and v.raw["nodes"][0]["rule"] == ZERO for v in VECTORS)
    assert met >= 4
    assert done.stdout == f"{met} vectors of LRP-0 are met\n"


# Bad input: one line that says the file, the vector and the field.


@pytest.fixture
def damaged(tmp_path):
    document = json.loads((suite.SHIPPED / "dense.json").read_text(encoding="utf-8"))
    document["vectors"] = document["vectors"][:2]
    path = tmp_path / "mine.json"

    def write(change):
        change(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return write


FIRST, NODE = ("vectors", 0), ("vectors", 0, "nodes", 0)
EXPECTED = (*FIRST, "expected", "R")
LAYER = (*FIRST, "expected", "nodes", "dense")
NOUGHTS = {"exact": ["0"] * 3, "float64": [0.0] * 3, "float32": [0.0] * 3}
THREE = {"shape": [1, 3], "hex": ["0x0p+0"] * 3, **NOUGHTS}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("format", "lrpref-vectors/2"), "format: is 'lrpref-vectors/2'; this version reads"),
        (_drop("format"), "field 'format' is missing"),
        (_drop(*FIRST, "id"), "field 'id' is missing"),
        (_drop(*FIRST, "relevance"), "vector 'dense/zero/no-bias': field 'relevance' is missing"),
        (_drop(*NODE, "weight"), "nodes.0: field 'weight' is missing"),
        (_drop(*NODE, "rule", "bias"), "nodes.0.rule: field 'bias' is missing"),
        (_set(*FIRST, "input", "hex", 0, "nan"), "input.hex.0: is nan, wants a finite number"),
        (_set(*FIRST, "input", "hex", 0, "-inf"), "input.hex.0: is -inf, wants a finite number"),
        (_set(*FIRST, "input", "hex", 0, "0x1p+9999"), "hex.0: is '0x1p+9999', wants a hexadecimal float"),
        (_set(*FIRST, "input", "hex", 0, "0x1.0000001p+0"), "is no float32"),
        (_set(*EXPECTED, "float64", 0, math.nan), "NaN"),
        (_set(*EXPECTED, "float64", 0, -1.0), "expected.R.float64.0: is -1.0, wants a finite number >= 0"),
        (_set(*EXPECTED, "exact", 0, "a third"), "expected.R.exact.0: is 'a third', wants a fraction"),
        (_set(*FIRST, "input", "shape", [1, 2]), "input: shape [1, 2] wants 2 numbers; hex holds 3"),
        (_set(*FIRST, "relevance", "shape", [2, 1]), "relevance.shape: is [2, 1], wants [1, 2]"),
        (_set(*NODE, "kind", "conv3d"), "nodes.0.kind: unknown 'conv3d': there are dense, conv2d"),
        (_set(*NODE, "rule", "name", "lrp"), "nodes.0.rule.name: unknown 'lrp': there are zero, epsilon"),
        (_set(*NODE, "rule", None), "nodes.0.rule: is null"),
        (_set(*NODE, "rule", "stabilizer", "value", -1), "value.0: is -1, wants a finite number >= 0"),
        (_set(*NODE, "inputs", ["above"]), "nodes.0.inputs: 'above' is no node before it: there are input"),
        (_set(*NODE, "bias", {"shape": [1], "hex": ["0x0p+0"]}), "nodes: Dense: bias is (1,), wants (2,)"),
        (_set(*FIRST, "flags", ["D99"]), "flags: unknown flag 'D99': the file explains none"),
        (_set(*FIRST, "result", "perhaps"), "result: unknown 'perhaps': there are valid, undefined"),
        (_set("vectors", 1, "id", "dense/zero/no-bias"), "'dense/zero/no-bias': id: there is one already"),
        (_set(*FIRST, "expected", "nodes", {"other": {}}), "expected.nodes.other: field 'z' is missing"),
        (_set(*FIRST, "expected", "nodes", {}), "expected.nodes: 'dense' is missing"),
        (_drop("title"), "field 'title' is missing"),
        (_set("flags", {"D1": 5}), "flags.D1: is 5, wants text"),
        (_set("vectors", []), "vectors: is empty, wants at least one vector"),
        (_set(*FIRST, "id", ""), "vectors.0.id: is empty"),
        (_set(*FIRST, "tags", ["tiny", 5]), "tags.1: is 5, wants text"),
        (_set(*FIRST, "result", "convention"), "result: is 'convention' with 0 conventions"),
        (_set(*FIRST, "input", "hex", 0, "1.5"), "hex.0: is '1.5', wants a hexadecimal float"),
        (_set(*EXPECTED, "exact", 0, "3/0"), "expected.R.exact.0: is '3/0', wants a fraction"),
        (_set(*EXPECTED, "exact", 0, "5"), "expected.R.exact.0: is 5, and hex there is"),
        (_set(*EXPECTED, "float64", 0, 10**400), "expected.R.float64.0: is 1000"),
        (_set(*NODE, "rule", "stabilizer", "value", 10**400), "rule.stabilizer.value.0: is 1000"),
        (_set(*NODE, "module", 5), "nodes.0.module: is 5, wants text"),
        (_set(*NODE, "rule", {**WINNER}), "nodes: node 'dense': rule 'winner-take-all' is for max pooling"),
        (_set(*NODE, "rule", {**epsilon(0.5), "eps": 1}), "rule.eps: is 1, which the stabilizer repeats"),
        (_set(*LAYER, "shares", 0, "z", {**THREE}), "nodes.dense.shares.0.z.shape: is [1, 3], wants [1, 2]"),
        (_set(*LAYER, "ledger", "bias", {**THREE}), "nodes.dense.ledger.bias.shape: is [1, 3], wants [1]"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_line(damaged, change, said):
    path = damaged(change)
    with pytest.raises(BadVector) as caught:
        suite.load([path])
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def _one(tmp_path, id, change):
    """A file of one vector, damaged."""
    raw = copy.deepcopy(NAMED[id].raw)
    change(raw)
    flags = dict.fromkeys(raw["flags"] + [other["flag"] for other in raw.get("conventions", {}).values()], "")
    document = {"format": vector_file.FORMAT, "title": "", "flags": flags, "vectors": [raw]}
    (tmp_path / "mine.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path / "mine.json"


@pytest.mark.parametrize(
    ("id", "change", "said"),
    [
        ("conv1d/zero/padding", _set("nodes", 0, "padding", [0, 0, 1, 1]), "padding: is [0, 0, 1, 1], wants"),
        ("conv2d/flat/row", _set("nodes", 0, "dilation", [1.5, 1]), "dilation: is [1.5, 1], wants 2 whole"),
        ("dialects/D14/tie", _set("nodes", 0, "kernel", ["a", "b"]), 'kernel: is ["a", "b"], wants 2 whole'),
        ("dialects/D14/tie", _set("nodes", 0, "padding", [0, 1]), "padding: is [0, 1], wants 4 whole"),
        ("pad/zero/ones", _set("nodes", 0, "value", math.inf), "holds Infinity, which is no number in JSON"),
        (
            "dialects/D22/twice",
            _set("nodes", 2, "weight", "hex", 0, "0x1p+3"),
            "node 'second': the module 'shared' has other numbers where it was used before",
        ),
        ("dialects/D11/w2", _set("conventions", "bias-squared", "used_by", [5]), "used_by.0: is 5, wants"),
    ],
)
def test_damaged_layers_are_refused_in_one_line(tmp_path, id, change, said):
    assert [v.id for v in suite.load(_one(tmp_path, id, _set("comment", "sound")))] == [id]
    with pytest.raises(BadVector) as caught:
        suite.load(_one(tmp_path, id, change))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_too_large_for_a_float(tmp_path):
    path = _one(tmp_path, "pad/zero/ones", _set("nodes", 0, "value", 8.5))
    path.write_text(path.read_text(encoding="utf-8").replace('"value": 8.5', '"value": 1e999'), "utf-8")
    with pytest.raises(BadVector, match=r"value\.0: is inf, wants a finite number"):
        suite.load(path)


def test_files_that_are_none(tmp_path):
    for content, said in (("{", "cannot be read as JSON"), ("[]", "is no table"), ("{}", "'format'")):
        (tmp_path / "mine.json").write_text(content, encoding="utf-8")
        with pytest.raises(BadVector, match=said):
            suite.load([tmp_path / "mine.json"])
    with pytest.raises(BadVector, match="there is no such file"):
        suite.load([tmp_path / "yours.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadVector, match="holds no vector files"):
        suite.load([tmp_path / "empty"])


def test_whatever_is_damaged_is_refused_or_harmless(tmp_path):
    """Every field in turn replaced by something else: a vector is read, or refused in our own words."""
    source = json.loads((suite.SHIPPED / "graphs.json").read_text(encoding="utf-8"))
    chosen = ("pad/z-box/explicit", "concat/images/rows", "add/residual/identity")
    source["vectors"] = [NAMED[id].raw for id in chosen]
    path, rng = tmp_path / "damaged.json", random.Random(1)
    places = list(_places(source))
    for place in rng.sample(places, 300):
        document = copy.deepcopy(source)
        _set(*place, rng.choice([None, -1, 10**30, "x", [], {}, [[]], True, 0.5, {"hex": []}]))(document)
        path.write_text(json.dumps(document), encoding="utf-8")
        with contextlib.suppress(BadVector):
            suite.load([path])


def _places(value, where=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in items:
        yield (*where, key)
        yield from _places(entry, (*where, key))


# The running error analysis.


@pytest.mark.parametrize("format", [FLOAT64, FLOAT32], ids=lambda f: f.name)
def test_bounds_hold_in_every_order(format):
    """Sums, products and quotients of random numbers, added in random orders, stay within their bounds."""
    rng, dtype, n = random.Random(2), np.dtype(format.name).type, Rounded(format)
    for _ in range(200):
        floats = [dtype(rng.uniform(-1, 1) * 2.0 ** rng.randint(-30, 30)) for _ in range(6)]
        exact = [n.number(Fraction(float(x))) for x in floats]
        product = n.total(x * y for x, y in pairwise(exact))
        got = [x * y for x, y in pairwise(floats)]
        rng.shuffle(got)
        total = dtype(0)
        for x in got:
            total = dtype(total + x)
        assert abs(Fraction(float(total)) - product.value) <= Fraction(product.error)
        quotient = n.quotient(exact[0], exact[1])
        assert abs(Fraction(float(floats[0] / floats[1])) - quotient.value) <= Fraction(quotient.error)


def test_underflow_is_in_the_bounds():
    n = Rounded(FLOAT32)
    tiny = np.float32(2.0**-149)
    product = n.number(Fraction(float(tiny))) * n.number(Fraction(1, 2))
    with np.errstate(under="ignore"):
        got = tiny * np.float32(0.5)  # 2^-150 is no float32: 0
    assert got == 0
    assert abs(product.value) <= Fraction(product.error) <= Fraction(2.0**-148)


def test_small_dyadic_numbers_have_no_error():
    n = Rounded(FLOAT32)
    numbers = [n.number(Fraction(x)) for x in (1.25, -0.5, -0.75)]
    assert n.vanishes(n.total(numbers))
    assert n.number(Fraction(1, 3)).error > 0
    assert n.total([n.number(Fraction(2**24)), n.number(Fraction(1))]).error > 0  # 2^24 + 1 is no float32


THIRD = float(np.float32(1 / 3))


@pytest.mark.parametrize(
    ("what", "nodes", "x", "R"),
    [
        # 1/3 * 1/3 is rounded, and whether it then cancels with itself is a matter of order
        ("is not known to be other than 0", [dense([[THIRD, -THIRD]], None, ZERO)], [[THIRD, THIRD]], [[1]]),
        ("the sign of", [dense([[THIRD, -THIRD]], None, epsilon(1.0))], [[THIRD, THIRD]], [[1]]),
        ("the square root of 5/2", [dense([[1], [2]], None, epsilon(1.0, "relative"))], [[1]], [[1, 1]]),
        ("overflows float32", [dense([[2.0**100]], None, ZERO)], [[2.0**100]], [[1]]),
        (
            "the sign of",  # which of two equal averages over three is the larger
            [pooling("avg", ZERO, [1, 3]), pooling("max", WINNER, [1, 2], "top")],
            [[[[1, 0, 0, 0, 1, 0]]]],
            [[[[1]]]],
        ),
    ],
)
def test_what_rounding_could_decide_is_no_vector(what, nodes, x, R):
    with pytest.raises(NoBound, match=what):
        vector(case("refused", "", nodes, x, R))


def test_text_refuses_what_is_not_finite():
    with pytest.raises(lrpref.errors.LrprefError, match="not finite"):
        text({"a": [math.inf]})
