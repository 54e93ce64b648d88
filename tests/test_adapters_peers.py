"""Other libraries on single neurons: what is known of them shows again (`make peers`).

The expected numbers are fractions from the formulas beside them, or from the definition in which a library is
known to differ; none was copied from a run of ours.
"""

import functools
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lrpref
from lrpref import data, layers, rules
from lrpref.conformance import adapters, suite
from lrpref.conformance.adapters import process, worker
from lrpref.conformance.crosscheck import crosscheck
from lrpref.errors import BadBackend, BadNetwork, BadRule
from lrpref.network import chain

pytestmark = pytest.mark.peers

LIBRARIES = ("zennit", "zennit-0.5.1", "captum", "autolrp", "lxt")
ROUNDING = 1e-8
"""Captum adds 1e-9 to every denominator, and some vectors here ask for an eps of 1e-12."""


def rule(name, value=0.0, **parameters):
    return {"name": name, "stabilizer": {"kind": "signed", "value": value}, "bias": "absorb", **parameters}


def node(kind, given, *inputs, name=None, **parameters):
    for key, part in parameters.items():
        parameters[key] = worker.text(part) if isinstance(part, np.ndarray) else part
    return {"name": name or kind, "kind": kind, "inputs": inputs or ["input"], "rule": given, **parameters}


def dense(w, b, given, *inputs, **options):
    bias = None if b is None else np.array([b])
    return node("dense", given, *inputs, weight=np.array([w], float), bias=bias, **options)


def pool(kind, given):
    return node(kind, given, kernel=[1, 2], stride=[1, 2], padding=[0, 0, 0, 0], ceil_mode=False)


def vector(name, x, *nodes):
    x = np.array(x, float)
    R = worker.text(np.ones((1,) * x.ndim))
    return SimpleNamespace(id=name, raw={"id": name, "nodes": nodes, "input": worker.text(x), "relevance": R})


NORM = node("batchnorm", None, "dense", scale=np.array([3.0]), shift=np.array([-5.0]))
ZENNIT = ("zennit", "zennit-0.5.1")
LACKING = None

CASES = [
    # z = -2, eps = 1: -2 / (-2 - 1); unsigned: -2 / (-2 + 1)
    (vector("D1", [[1]], dense([-2], None, rule("epsilon", 1.0, eps=1.0))), [2 / 3], {"lxt": [2]}),
    # z = 3 + 2 - 3; autoLRP: R |z0| / (|z0| + |b|) = 5/8, of (3/5, 2/5)
    (vector("D3", [[1, 2]], dense([3, 1], -3, rule("zero"))), [3 / 2, 1], {"autolrp": [3 / 8, 1 / 4]}),
    # (6, -2) / (6 - 2 + 4); b = 2 untouched: / (6 - 2 + 2); autoLRP: 1/3 of (6, -2) / 4
    (
        vector("D4", [[1, 1]], dense([3, -2], 2, rule("gamma", gamma=1.0))),
        [3 / 4, -1 / 4],
        {"captum": [1, -1 / 3], "autolrp": [1 / 2, -1 / 6], "lxt": LACKING},
    ),
    # simple: (-2, 4) / 2; generalized: (-1, 4) / 3
    (
        vector("D5", [[-1, 2]], dense([1, 1], 0, rule("gamma", 1e-12, gamma=1.0))),
        [-1, 2],
        {**dict.fromkeys(ZENNIT, (-1 / 3, 4 / 3)), "lxt": LACKING},
    ),
    # (3, 0) / (3 + 1/2); raw bias, unclamped: (3, -2) / 1.5; autoLRP: 1 / (1 + 1/2) of (1, 0)
    (
        vector("D6 b > 0", [[1, -2]], dense([3, 1], 0.5, rule("z-plus"))),
        [6 / 7, 0],
        {"captum": [2, -4 / 3], "autolrp": [2 / 3, 0], "lxt": LACKING},
    ),
    (
        vector("D6 b < 0", [[1, -2]], dense([3, 1], -0.5, rule("z-plus"))),
        [1, 0],
        {"captum": [6, -4], "autolrp": [2 / 3, 0], "lxt": LACKING},
    ),
    # 2 (1, 0) / 1 - (0, -1) / (-1 - 1); autoLRP: |z0| = 0
    (
        vector("D7", [[1, 1]], dense([1, -1], -1, rule("alpha-beta", alpha=2.0, beta=1.0))),
        [2, -1 / 2],
        {"captum": LACKING, "autolrp": [0, 0], "lxt": LACKING},
    ),
    # one-sided: alpha R, or -beta R
    (
        vector("D9 +", [[1, 1]], dense([1, 3], None, rule("alpha-beta", 1e-12, alpha=2.0, beta=1.0))),
        [1 / 2, 3 / 2],
        {"captum": LACKING, "lxt": LACKING},
    ),
    (
        vector("D9 -", [[1, 1]], dense([-1, -3], None, rule("alpha-beta", 1e-12, alpha=2.0, beta=1.0))),
        [-1 / 4, -3 / 4],
        {"captum": LACKING, "lxt": LACKING},
    ),
    # (1, 4) / 5; with b^2: / 14
    (
        vector("D11", [[1, 1]], dense([1, 2], 3, rule("w2"))),
        [1 / 5, 4 / 5],
        {**dict.fromkeys(ZENNIT, (1 / 14, 4 / 14)), **dict.fromkeys(("captum", "autolrp", "lxt"), LACKING)},
    ),
    # (1 + 2, 1/4 + 1) / (17/4); autoLRP: z0 = 5/4, so 5/9 of it
    (
        vector("D13", [[0.5, -0.25]], dense([2, -1], 1, rule("z-box", low=-1.0, high=1.0))),
        [12 / 17, 5 / 17],
        {"captum": LACKING, "autolrp": [12 / 17 * 5 / 9, 5 / 17 * 5 / 9], "lxt": LACKING},
    ),
    (vector("D14 tie", [[[[1, 1]]]], pool("maxpool2d", rule("winner-take-all", ties="first"))), [1, 0], {}),
    (
        vector("D14 zeros", [[[[0, 0]]]], pool("maxpool2d", rule("winner-take-all", ties="first"))),
        [1, 0],
        {"captum": [0, 0]},
    ),
    # (-1, 3) / 2
    (
        vector("D15", [[[[-1, 3]]]], pool("avgpool2d", rule("zero"))),
        [-1 / 2, 3 / 2],
        {"autolrp": [1 / 2, 1 / 2]},
    ),
    # folded: w = (3, 3), b = -2, z = 10; passed: 2 / 5 each
    (
        vector("D16", [[2, 2]], dense([1, 1], 1, rule("zero")), NORM),
        [3 / 5, 3 / 5],
        {"captum": LACKING, "autolrp": [2 / 5, 2 / 5], "lxt": LACKING},
    ),
    # (1, -3) / -2; by magnitude: (1, 3) / 4
    (
        vector(
            "D17",
            [[1, 1]],
            dense([1, 0], None, rule("zero"), name="a"),
            dense([0, -3], None, rule("zero"), name="b"),
            node("add", rule("zero"), "a", "b"),
        ),
        [-1 / 2, 3 / 2],
        {"autolrp": [1 / 4, 3 / 4]},
    ),
    # L(L(x)), L(x) = x + 1, x = 8: 8/9 of 9/10; zennit keeps the last use's 9/10 for both
    (
        vector(
            "D22",
            [[8]],
            dense([1], 1.0, rule("zero"), name="first", module="shared"),
            dense([1], 1.0, rule("zero"), "first", name="second", module="shared"),
        ),
        [4 / 5],
        {**dict.fromkeys(ZENNIT, (81 / 100,)), "captum": LACKING},
    ),
]


@pytest.fixture(scope="module", params=LIBRARIES)
def answers(request, tmp_path_factory):
    results = tmp_path_factory.mktemp("results") / "results.jsonl"
    found = process.explain_all(request.param, [case for case, _, _ in CASES], results=results)
    return request.param, {outcome.id: outcome for outcome in found}


@pytest.mark.parametrize(("case", "chapter", "known"), CASES, ids=[case.id for case, _, _ in CASES])
def test_what_is_known_of_a_library(case, chapter, known, answers):
    library, found = answers
    wanted, outcome = known.get(library, chapter), found[case.id]
    if wanted is LACKING:
        assert outcome.status == "unsupported"
        assert outcome.message
    else:
        assert outcome.status == "ok", outcome.message
        np.testing.assert_allclose(outcome.R.ravel(), wanted, rtol=ROUNDING, atol=ROUNDING)


def test_versions():
    assert {name: process.describe(name)["version"] for name in LIBRARIES} == {
        "zennit": "1.0.0",
        "zennit-0.5.1": "0.5.1",
        "captum": "0.9.0",
        "autolrp": "0.2.0",
        "lxt": "2.1",
    }


def test_another_version_is_not_taken_for_the_one_asked_for(monkeypatch):
    monkeypatch.setenv("LRPREF_PEERS", "")
    monkeypatch.setattr(process.sys, "prefix", "/nowhere")
    with pytest.raises(BadBackend, match=r"zennit-0\.5\.1 is not installed, 1\.0\.0 is"):
        process.describe("zennit-0.5.1")


FAMILIES = sorted(path.stem for path in Path(suite.__file__).parent.glob("vectors/*.json"))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "schema"])
def test_the_module_is_the_vectors_network(family):
    """Every node's output is the exact z; where a batch norm is folded, the last one's."""
    torch = adapters.require("torch")
    from lrpref.conformance.adapters.libraries.torch_case import Case, tensor

    compared = 0
    for v in suite.load():
        if v.family != family:
            continue
        case = worker.decoded({key: part for key, part in v.raw.items() if key != "expected"})
        try:
            values = Case(case).outputs(tensor(case["input"]))
        except NotImplementedError:
            continue  # PyTorch's poolings pad both sides alike
        folded = [n for n in case["nodes"] if n["kind"] == "batchnorm" and n["rule"] is None]
        names = [list(v.raw["expected"]["nodes"])[-1]] if folded else list(v.raw["expected"]["nodes"])
        for name in names:
            z = v.raw["expected"]["nodes"][name]["z"]
            got = values[case["nodes"][-1]["name"] if folded else name]
            bound = np.reshape(z["float64"], z["shape"])
            assert isinstance(got, torch.Tensor)
            assert (abs(got.numpy() - worker.array(z)) <= bound).all(), (v.id, name)
            compared += 1
    assert compared > 5


# Captum on whole networks


@pytest.fixture
def network():
    rng = np.random.default_rng(0)
    made = [
        ("block.conv", layers.Conv2d(rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3), padding=1)),
        ("block.relu", layers.ReLU()),
        ("pool", layers.AvgPool2d(2)),
        ("flat", layers.Flatten()),
        ("fc", layers.Dense(rng.normal(size=(4, 12)), rng.normal(size=4))),
    ]
    return chain(made, (2, 4, 4)), rng.normal(size=(2, 2, 4, 4))


def test_captum_tells_the_relevance_of_nodes(network):
    net, x = network
    chosen = {name: rules.Epsilon(1e-3) for name in ("block.conv", "pool", "fc")}
    theirs = adapters.run(net, x, "max", chosen, peer="captum")
    ours = lrpref.explain(net, x, "max", rules=chosen)
    assert set(theirs.relevance) == {"input", *chosen}
    for name, R in theirs.relevance.items():
        np.testing.assert_allclose(R, ours.at(name), rtol=0, atol=1e-12 * abs(ours.at(name)).max())


def test_captum_by_itself_has_eps(network):
    net, x = network
    eps = {name: rules.Epsilon(1e-9) for name in ("block.conv", "pool", "fc")}
    runs = [adapters.run(net, x, 1, composite, peer="captum") for composite in ("default", eps, {})]
    for made in runs[1:]:
        np.testing.assert_array_equal(made.relevance["input"], runs[0].relevance["input"])


def test_what_captum_lacks(network):
    net, x = network
    with pytest.raises(BadRule, match="Captum has no composite 'epsilon-plus'"):
        adapters.run(net, x, composite="epsilon-plus", peer="captum")
    with pytest.raises(BadRule, match=r"node 'fc': Captum has no generalized gamma rule"):
        adapters.run(net, x, composite={"fc": rules.GeneralizedGamma(0.25)}, peer="captum")
    squashed = chain([("fc", layers.Dense(np.eye(2))), ("squash", layers.Sigmoid())], (2,))
    with pytest.raises(BadNetwork, match=r"Captum: Module of type .*Sigmoid"):
        adapters.run(squashed, np.ones((1, 2)), composite="default", peer="captum")


# Reproducers

REPRODUCERS = sorted((Path(adapters.__file__).parent.parent / "reproducers").glob("*.py"))


def header(path):
    lines = path.read_text(encoding="utf-8").split('"""')[1].splitlines()
    return lines[0], dict(line.split(": ", 1) for line in lines[2:])


# PyTorch's build may not fit torchvision's, which zennit imports: ours is imported first, without operators.
RUN_ALL = """
import contextlib, io, json, runpy, sys
with contextlib.suppress(ImportError):
    from lrpref.conformance import adapters
    adapters.require("torchvision")
said = {}
for path in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(path, run_name="__main__")
    said[path] = out.getvalue().strip()
print(json.dumps(said))
"""


@functools.cache
def printed(library, version=None):
    """What a library's reproducers print, in a process of its own; or a version's that lives elsewhere."""
    paths = [str(path) for path in REPRODUCERS if header(path)[1]["library"] == library]
    interpreter, variables = process.environment(version or library)
    command = [interpreter, "-W", "ignore", "-c", RUN_ALL, *paths]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("path", REPRODUCERS, ids=lambda path: path.stem)
def test_a_reproducer_prints_what_its_head_says(path):
    what, head = header(path)
    assert what.endswith(".")
    assert set(head) == {"library", "dimension", "expected", "observed"}
    assert "lrpref" not in path.read_text(encoding="utf-8")
    if head["library"] != "innvestigate":  # in an environment of its own, which CI lacks: make peers-tf
        assert printed(head["library"])[str(path)] == head["observed"]


def test_what_is_shown_of_zennit_holds_of_its_earlier_version():
    """The page refers from zennit 0.5.1 to the scripts of 1.0.0, wherever it has none of its own."""
    assert process.describe("zennit-0.5.1")["version"] == "0.5.1"
    assert printed("zennit", "zennit-0.5.1") == printed("zennit")


def test_the_verdicts_have_their_reproducers():
    reproduced = {(head["library"], head["dimension"]) for _, head in map(header, REPRODUCERS)}
    assert reproduced >= {
        ("lxt", "D1"),
        ("lxt", "D14"),
        *(("zennit", dimension) for dimension in ("D5", "D11", "D15", "D16", "D17", "D18", "D19", "D22")),
        ("zennit-0.5.1", "D16"),
        *(("captum", d) for d in ("D2", "D4", "D5", "D6", "D14", "D15", "D16", "D17", "D19", "D22")),
        *(("autolrp", d) for d in ("D3", "D4", "D6", "D7", "D12", "D13", "D15", "D16", "D17", "D18")),
        ("innvestigate", "D6"),
        ("innvestigate", "D7"),
        ("innvestigate", "D16"),
    }


def test_zennit_is_given_no_rule_for_max_pooling():
    """The chapter's composite asks for one; in zennit the gradient selects: D14 is all that differs."""
    net = data.embedded()
    found = crosscheck("zennit", net, net.preprocess(data.image(9)), composite="chapter")
    assert found.agrees
    assert found.dimensions == ("D14",)
