"""The lesson: its numbers by hand, against the kernels and the engine, and as people read them."""

from __future__ import annotations

import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import lrpref
from lrpref import cli, connections, data, exact, layers, lesson, report, rules
from lrpref.errors import BadInput, BadRecord
from lrpref.kernels.reference import REFERENCE
from lrpref.network import INPUT, Network, Node, chain
from lrpref.trace import trace, trace_layer

ROOT = Path(__file__).parent.parent


# The connections.


@pytest.mark.parametrize("name", strategies.MAPS)
@settings(max_examples=30)
@given(st.data())
def test_connections_are_the_map(name, data):
    """Their sums are the kernel's z, `==`, and their weights a column of its transpose."""
    case = data.draw(strategies.cases(name))
    w = REFERENCE.max_pool2d_winners(case.a, case.op, "first") if name == "select2d" else case.w
    z = REFERENCE.forward(case.op, case.a, w)
    for k in np.ndindex(z.shape[1:]):
        given_w = None if name == "select2d" else case.w
        found = connections.connections(case.op, case.a[0], given_w, k)
        assert len(set(found.lower)) == len(found.lower)
        assert (found.take(case.a[0]) * found.w).sum() == z[0, *k]
        one = np.zeros(z.shape)
        one[0, *k] = 1
        column = np.zeros(case.a.shape[1:])
        for j, weight in zip(found.lower, found.w, strict=True):
            column[j] = weight
        np.testing.assert_array_equal(column, REFERENCE.transpose(case.op, one, w)[0])


def test_taps_in_the_padding_are_no_connections():
    layer = layers.Conv2d(np.ones((1, 1, 3, 3)), padding=1)
    op = layer.map(np.zeros((1, 1, 4, 5))).operation
    seen = connections.connections(op, np.zeros((1, 4, 5)), layer.weight, (0, 0, 4)).lower
    assert seen == [(0, 0, 3), (0, 0, 4), (0, 1, 3), (0, 1, 4)]


@pytest.mark.parametrize(("ties", "winners"), [("first", [0, 1, 0, 0]), ("split", [0, 1, 0, 1])])
def test_winners_of_a_tie(ties, winners):
    op = layers.MaxPool2d(2)._operation(np.zeros((1, 1, 2, 2)), "select2d")
    found = connections.connections(op, np.array([[[1.0, 3.0], [2.0, 3.0]]]), None, (0, 0, 0), ties)
    assert found.w.tolist() == winners


# The four steps, by hand.


def three_neurons():
    """The network of docs/ledger.md: f(1, 2) = 6."""
    return chain([
        ("hidden", layers.Dense(np.array([[2.0, -1.0], [1.0, 1.0]]), np.array([1.0, -1.0]))),
        ("relu", layers.ReLU()),
        ("output", layers.Dense(np.array([[3.0, 1.0]]), np.array([1.0]))),
    ], (2,), name="three <neurons>")  # fmt: skip


def explained(composite="lrp-0", dtype="exact", **options):
    return lrpref.explain(three_neurons(), np.array([[1.0, 2.0]]), 0, composite, dtype=dtype, **options)


def test_every_number_of_one_neuron():
    """z = 1 * 2 + 2 * -1 + 1 = 1, R = 3, s = 3, and so on: the page's own sums."""
    found = trace(explained(), "hidden", 0)
    assert (found.z, found.R, found.neuron) == (1, 3, (0,))
    assert found.lower == [(INPUT, (0,)), (INPUT, (1,))]
    (share,) = found.shares
    assert [found.a.tolist(), found.w.tolist(), share.z_jk.tolist()] == [[1, 2], [2, -1], [2, -2]]
    assert (share.b, share.z, share.eps, share.s) == (1, 1, 0, 3)
    assert share.terms[0].c.tolist() == [6, -3]
    assert found.relevance.tolist() == [6, -6]
    assert found.totals.tolist() == [7, -4]  # neuron 2 adds 1 and 2
    assert found.accounts["bias"] == 3
    assert found.residual == 0
    assert found.check == (True, 0, 0)


def test_every_number_of_one_layer():
    found = trace_layer(explained(), "hidden")
    assert found.neurons == [((0,), 3, [(1, 0, 3)]), ((1,), 2, [(2, 0, 1)])]  # z, eps and s
    ((share, name, c),) = found.c
    assert (share, name, c.tolist()) == (0, "a", [7, -2])  # w^T s = (2 * 3 + 1 * 1, -1 * 3 + 1 * 1)
    assert found.relevance.tolist() == [7, -4]
    assert found.accounts["bias"] == 2
    assert found.residual == 0
    assert found.check.agrees


def test_stabilizer_as_a_fraction():
    """eps = 1 at the output: z = 6, s = 6/7, and 6/7 each for bias and stabilizer."""
    found = trace(explained(lrpref.composites.get("epsilon", eps=1)), "output")
    assert [Fraction(str(R)) for R in found.relevance] == [Fraction(18, 7), Fraction(12, 7)]
    assert [Fraction(str(found.accounts[name])) for name in ("stabilizer", "bias")] == [Fraction(6, 7)] * 2
    (sheet,) = lesson.sheets(found, 10)
    cells = {text for row in (*sheet.rows, *sheet.foot) for text, _ in row}
    assert {"18/7", "12/7", "6/7"} <= cells


# Against the engine.


def network_of(name: str) -> tuple[Network, np.ndarray]:
    """A network of one layer; the summands of a sum are slices of the input, one after the other."""
    layer, shape = strategies.LAYERS[name]
    several = strategies.lower(name, 7, samples=1)
    if len(several) == 1:
        return chain([("layer", layer)], shape), several[0]
    n, rest = shape[0], shape[1:]
    slices = [
        Node(f"branch {m}", layers.Slice((m * n, *[0] * len(rest)), ((m + 1) * n, *rest), (1,) * len(shape)),
             (INPUT,))
        for m in range(len(several))
    ]  # fmt: skip
    nodes = (*slices, Node("layer", layer, tuple(node.name for node in slices)))
    return Network(nodes, (n * len(several), *rest)), np.concatenate(several, axis=1)


@pytest.mark.parametrize(("name", "rule"), strategies.EVERY_RULE_AND_LAYER, ids=strategies.EVERY_ID)
def test_every_rule_on_every_layer_is_the_engine_exactly(name, rule):
    network, x = network_of(name)
    shape = (1, *network.shapes["layer"])
    R = np.random.default_rng(3).integers(-3, 4, shape) / 2
    first = strategies.EVERY_RULE_AND_LAYER.index((name, rule)) % 5
    for variant in list(strategies.variants(rule))[first::5]:
        chosen = {node.name: variant if node.layer.is_linear else rules.Pass() for node in network.nodes}
        e = lrpref.explain(network, x, R, rules=chosen, dtype="exact")
        whole = trace_layer(e, "layer")
        assert whole.check == (True, 0, 0), variant
        assert whole.residual == 0
        one = trace(e, "layer")
        assert one.check == (True, 0, 0), variant
        assert one.residual == 0
        received = sum((trace(e, "layer", k).relevance.sum() for k in np.ndindex(shape[1:])), one.R * 0)
        assert received == whole.relevance.sum() == e.relevance.sum()


@pytest.mark.parametrize("composite", ["chapter", "lrp-0", "epsilon-alpha2-beta1", "epsilon-plus-flat"])
def test_every_layer_of_the_embedded_network(composite):
    net = data.embedded()
    e = lrpref.explain(net, net.preprocess(data.image(9)), composite=composite)
    for node in e.canonical.nodes:
        found = trace(e, node.name)
        assert found.check.agrees, node.name
        # rounding of some hundred summands, of which the largest is z / (z + eps) R: far below 1e-12
        assert abs(found.residual) <= 1e-12 * abs(found.R)


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", "float32"), ("loops", "float64"), ("numpy", "ball")])
def test_backends_and_dtypes(backend, dtype):
    e = explained("gamma", dtype, backend=backend)
    for node in ("hidden", "output"):
        found = trace(e, node)
        assert found.check.agrees
        assert trace_layer(e, node).check.agrees
        assert found.dtype == dtype


def test_exact_trace_of_a_float_explanation():
    """What float64 brings to the neuron goes on as rationals: the books close exactly."""
    net = data.embedded()
    e = lrpref.explain(net, net.preprocess(data.image(9)))
    found = trace(e, "conv5", dtype="exact")
    assert found.residual == 0
    assert exact.as_float(np.array([found.R]))[0] == abs(e.at("conv5")).max()
    assert found.check.agrees
    assert found.check.bound > 0


def test_log_odds_trace_sees_the_ratios():
    """z_01 = y_0 - y_1 = log(P_0 / P_1): w_0 - w_1 at the neuron of class 1."""
    weight, bias = np.array([[2.0, -1.0], [1.0, 1.0], [0.0, 1.0]]), np.array([0.5, 0, 0])
    net = chain([("top", layers.Dense(weight, bias))], (2,))
    e = lrpref.explain(net, np.array([[3.0, 1.0]]), 0, "lrp-0", head="log-odds")
    found = trace(e, "top", 1)
    assert found.w.tolist() == [1, -2]
    assert found.z == 3 * 1 - 2 * 1 + 0.5
    assert found.check.agrees
    whole = trace_layer(e, "top")
    assert whole.check.agrees
    np.testing.assert_allclose(whole.relevance, e.relevance[0], rtol=1e-14)  # two summands each


@pytest.mark.parametrize("dtype", ["float64", "ball"])
def test_the_pooling_of_the_log_odds_is_the_chapters_formula(dtype):
    """z_cc' = y_c - y_c', p_c' = exp(-z_cc') / sum exp(-z_cc'), R_cc' = p_c' z_cc' and -H(p), for c = 1."""
    net = chain([("top", layers.Dense(np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])))], (2,))
    x = np.array([[9.0, 9.0], [2.0, 1.0]])
    e = lrpref.explain(net, x, [0, 1], "lrp-0", head="log-odds", dtype=dtype)
    found = trace(e, "log-odds", sample=1)
    z = 5 - np.array([2, 3])  # by hand: y = (2, 5, 3)
    p = np.exp(-z) / np.exp(-z).sum()
    eta = -np.log(np.exp(-z).sum())
    # a handful of roundings, of numbers of at most 5
    close = pytest.approx
    assert found.lower == [("top", (0,)), ("top", (2,))]
    assert exact.as_float(found.a) == close(z, rel=1e-14)
    assert exact.as_float(found.w) == close(p, rel=1e-14)
    assert exact.as_float(found.relevance) == close(p * z, rel=1e-14)
    assert exact.as_float(found.totals) == close(p * z, rel=1e-14)
    assert float(found.R) == float(found.z) == close(eta, rel=1e-14)
    assert float(found.accounts["pooling"]) == close((p * np.log(p)).sum(), rel=1e-14)
    assert abs(float(found.residual)) < 1e-14
    assert found.check.agrees
    (sheet,) = lesson.sheets(found, 1)
    assert sheet.headings == ["j in top", "z_cc'", "p_c'", "R_cc'", "R_j in all"]
    assert [cells[0][0] for cells in (*sheet.rows, *sheet.foot)] == ["2", "1 more", "pooling", "sum"]
    (whole,) = trace_layer(e, "log-odds", sample=1).neurons
    assert float(whole.R) == close(eta, rel=1e-14)
    with pytest.raises(BadInput, match="no node 'log-ratios'"):  # merged with the layer on top
        trace(e, "log-ratios")


@pytest.mark.parametrize("dtype", ["float64", "ball"])
def test_ratios_that_are_a_layer_of_their_own(dtype):
    net = chain([("flat", layers.Flatten())], (3,))
    e = lrpref.explain(net, np.array([[2.0, 5.0, 3.0]]), 1, "lrp-0", head="log-odds", dtype=dtype)
    assert trace(e, "log-odds").lower == [("log-ratios", (0,)), ("log-ratios", (2,))]
    found = trace(e, "log-ratios", 2)
    assert exact.as_float(found.w).tolist() == [0, 1, -1]  # y_1 - y_2
    assert float(found.z) == 2
    whole = trace_layer(e, "log-ratios")
    assert found.check.agrees
    assert whole.check.agrees
    # two summands each
    assert exact.as_float(whole.relevance) == pytest.approx(exact.as_float(e.relevance[0]), rel=1e-14)
    with pytest.raises(BadInput, match="no node 'log-odds'"):
        trace(lrpref.explain(net, np.ones((1, 3)), 1, "lrp-0"), "log-odds")


def test_a_soft_minimum_shows_its_weights():
    net = chain([("f", layers.SoftMin(2.0, hard=True, reference="root"))], (2,))
    found = trace(lrpref.explain(net, np.array([[1.0, 1.5]]), composite="lrp-0"), "f")
    assert found.w == pytest.approx(np.array([1, np.exp(-1)]) / (1 + np.exp(-1)), rel=1e-15)
    assert found.relevance.tolist() == found.w.tolist()  # f = 1
    (sheet,) = lesson.sheets(found, 5)
    assert sheet.headings == ["j in input", "a_j", "p_j", "R_j<-k", "R_j in all"]


def test_rows_are_sorted_by_magnitude():
    """R = (6, -9) by hand: a = (2, 3), w = (3, -3), z = -3 and R_k = -3."""
    net = chain([("top", layers.Dense(np.array([[3.0, -3.0]])))], (2,))
    e = lrpref.explain(net, np.array([[2.0, 3.0]]), 0, "lrp-0")
    for found in (trace(e, "top"), trace_layer(e, "top")):
        assert found.relevance.tolist() == [6, -9]
        sheet = lesson.sheets(found, 1)[-1]
        assert sheet.rows[0][0][0] == "1"
        assert sheet.rows[1][0][0] == "1 more"


@pytest.mark.parametrize("dtype", ["float64", "exact", "ball"])
def test_a_forgotten_connection_is_seen(dtype, monkeypatch):
    """The check can fail: a trace that leaves out a connection is not what the engine computes."""
    e = explained(dtype=dtype)

    def forgetful(*arguments):
        found = connections.connections(*arguments)
        return connections.Connections(found.lower[1:], found.w[1:])

    monkeypatch.setattr("lrpref.trace.connections", forgetful)
    assert not trace(e, "hidden", 0).check.agrees
    assert not trace_layer(e, "hidden").check.agrees
    assert "THE ENGINE DIFFERS" in lesson.verdict(trace(e, "hidden", 0))


def test_a_weight_that_is_a_little_off_is_seen(monkeypatch):
    net = data.embedded()
    e = lrpref.explain(net, net.preprocess(data.image(9)))

    def off(*arguments):
        found = connections.connections(*arguments)
        return connections.Connections(found.lower, found.w * (1 + 1e-9 * np.arange(len(found.w))))

    monkeypatch.setattr("lrpref.trace.connections", off)
    assert [node for node in ("conv1", "conv3", "conv5", "fc1") if trace(e, node).check.agrees] == []


# Layers without a rule.


def test_layers_that_pass_say_so():
    e = explained()
    found = trace(e, "relu", 1)
    assert (found.rule, found.operation, found.shares) == ("pass", "", [])
    assert (found.lower, found.relevance.tolist()) == ([("hidden", (1,))], [2])
    assert "by the way 'pass'" in parsed(lesson.page(found, "", 10)).text
    assert trace_layer(e, "relu").relevance.tolist() == [3, 2]


def test_padding_and_concatenation_name_the_input():
    nodes = (
        Node("pad", layers.Pad(1), (INPUT,)),
        Node("both", layers.Concat(), ("pad", "pad2")),
        Node("flat", layers.Flatten(), ("both",)),
        Node("out", layers.Dense(np.arange(1.0, 33.0)[None]), ("flat",)),
    )
    nodes = (nodes[0], Node("pad2", layers.Pad(1, 1.0), (INPUT,)), *nodes[1:])
    e = lrpref.explain(Network(nodes, (1, 2, 2)), np.ones((1, 1, 2, 2)), 0, "lrp-0", dtype="exact")
    assert trace(e, "both", (1, 0, 0)).lower == [("pad2", (0, 0, 0))]
    cell = trace(e, "pad2", (0, 0, 0))
    assert (cell.lower, cell.accounts["padding"]) == ([], 17)  # the 17th weight times a cell of 1
    assert cell.residual == 0


# What it refuses.


@pytest.mark.parametrize(
    ("node", "neuron", "says"),
    [
        ("hiden", 0, "no node 'hiden'; did you mean hidden"),
        ("hidden", 2, "neuron 2 is not one of node 'hidden'"),
        ("hidden", -1, "neuron -1"),
        ("hidden", (0, 0), "its|output is"),
        ("hidden", "most", "neuron 'most'"),
        ("hidden", 0.5, "neuron 0.5"),
        ("hidden", True, "neuron True"),
    ],
)
def test_refusals(node, neuron, says):
    with pytest.raises(BadInput, match=says):
        trace(explained(), node, neuron)


def test_more_refusals(monkeypatch):
    for sample in (1, -1, "a", 0.0):
        with pytest.raises(BadInput, match=f"sample is {sample!r}: a whole number from 0 to 0 is wanted"):
            trace(explained(), "hidden", sample=sample)
    monkeypatch.setattr("lrpref.trace.LIMIT", 3)
    with pytest.raises(BadInput, match="about 4 connections, more than 3"):
        trace_layer(explained(), "hidden")


# As people read it.


class Strict(HTMLParser):
    """Every element closes, and what is wanted is collected."""

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def parsed(text):
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_page_has_equations_code_and_numbers():
    found = trace(explained(), "hidden", 0)
    page = parsed(lesson.page(found, "a <b> & c", 10))
    assert "a <b> & c" in page.text  # escaped, so it is text
    for line in ("return z if b is None else z + b", "return a @ w.T", "return s @ w",
                 "denominator = z + stabilizer", "return [Share([(a, w)], b)]"):  # fmt: skip
        assert line in page.text
    assert "Step 3: backward" in page.text
    assert "sk = 3 / 1 = 3" in page.text
    tags = {tag for tag, _ in page.seen}
    assert "table" in tags
    assert not tags & {"script", "link"}  # self-contained
    assert not [a for _, attributes in page.seen for a in attributes if a in ("src", "href")]


def test_docstrings_are_not_shown_as_code():
    page = parsed(lesson.page(trace(explained(), "hidden", 0), "", 10))
    assert "Step 4: multiply" in page.text
    assert "Lower activations." not in page.text


def test_rows_beyond_the_top_are_added_up():
    found = trace(explained(), "hidden", 0)
    (sheet,) = lesson.sheets(found, 1)
    assert sheet.rows[0][0][0] == "0"  # of two equal magnitudes the first
    rest = dict(zip(sheet.headings, [cell[0] for cell in sheet.rows[1]], strict=True))
    assert rest == {"j in input": "1 more", "a_j": "", "w_jk": "", "z_jk": "-2", "c_j": "", "R_j<-k": "-6",
                    "R_j in all": ""}  # fmt: skip
    assert [row[0][0] for row in sheet.foot] == ["bias, j = 0", "sum"]


def test_shares_of_alpha_beta_are_told_apart():
    """z+ = 2 + 1 and z- = -2: 2 R (2, 0) / 3 less R (0, -2) / -2."""
    chosen = {"hidden": rules.AlphaBeta(2, 1), "output": rules.Zero()}
    found = trace(lrpref.explain(three_neurons(), [[1.0, 2.0]], 0, rules=chosen, dtype="exact"), "hidden", 0)
    assert [Fraction(str(R)) for R in found.relevance] == [4, -3]
    alpha, beta, together = lesson.sheets(found, 10)
    assert "coefficient 2; left out, 0 everywhere: a-" in alpha.title
    assert beta.foot[-1][-1][0] == "-3"
    assert [cell[0] for cell in together.rows[0]] == ["0", "1", "4", "0", "4", "16/3"]  # neuron 2: 2 * 2 / 3


def test_a_shut_gate_says_so():
    chosen = {"hidden": rules.GeneralizedGamma(1), "output": rules.Zero()}
    found = trace(lrpref.explain(three_neurons(), [[1.0, 2.0]], 0, rules=chosen), "hidden", 0)
    first, second = lesson.sheets(found, 10)
    assert "for z_k > 0" in first.title
    assert first.headings[-1] == "R_j in all"  # it is alone
    assert second.title == "share 2 of 2, for z_k < 0: it receives nothing"
    assert second.rows == []


def test_a_source_that_is_not_at_hand(monkeypatch):
    monkeypatch.setattr("inspect.getsourcelines", _raise)
    assert "its source is not at hand" in lesson.page(trace(explained(), "hidden", 0), "", 10)


def _raise(_):
    raise OSError


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", 'a "quoted" & <b>'])
def test_text_cannot_become_markup(text):
    """Every function that takes text, with text that would be markup."""
    made = [
        report.paragraph(text), report.note(text, good=False), report.equation(text), report.code(text, text),
        report.table([text], [[text]], caption=text, foot=[[text]]), report.figure(b"", text),
        report.hinted(text, text), report.beside(text), report.blocks(text),
    ]  # fmt: skip
    page = parsed(report.page(text, [(text, [*made, text])], lead=text))
    assert not {tag for tag, _ in page.seen} & {"script", "b"}
    assert page.text.count(text) >= 12


def test_subscripts():
    assert report.subscripts("z_k = sum_j a_j w_jk") == (
        "z<sub>k</sub> = Σ<sub>j</sub> a<sub>j</sub> w<sub>jk</sub>"
    )
    assert report.subscripts("_blocks.1._conv relu_fc1 a_b") == "_blocks.1._conv relu_fc1 a<sub>b</sub>"
    assert report.subscripts("sum_{0,j} R_j<-k") == "Σ<sub>0,j</sub> R<sub>j←k</sub>"


def test_page_is_written_whole_or_not(tmp_path):
    report.write(tmp_path / "new" / "page.html", "é")
    assert (tmp_path / "new" / "page.html").read_bytes() == "é".encode()
    with pytest.raises(BadRecord, match="is a folder"):
        report.write(tmp_path, "")


# The command.


def run(*arguments):
    return CliRunner().invoke(cli.app, ["trace", *map(str, arguments)])


def test_command_with_no_argument():
    done = run()
    assert done.exit_code == 0, done.output
    assert "of node 'conv5' (Conv2d), rule epsilon(0.25std)" in done.output
    assert "check: added up connection by connection" in done.output


def test_command_with_everything(tmp_path):
    page = tmp_path / "page.html"
    given = ("--node", "fc2", "--neuron", 3, "--rule", "gamma(0.5)", "--dtype", "exact", "--top", 2)
    given = (*given, "--out", page)
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert "neuron k = 3 of node 'fc2' (Dense), rule gamma(0.5)" in done.output
    assert "the network is too large for more" in done.output
    assert "handed on and booked: 0" in done.output
    assert "62 more" in parsed(page.read_text(encoding="utf-8")).text
    assert run(*given).exit_code == 2  # there is one already
    assert run(*given, "--overwrite").exit_code == 0


def test_command_traces_a_layer():
    done = run("--node", "fc3", "--neuron", "all", "--target", "Sneaker", "--composite", "epsilon")
    assert done.exit_code == 0, done.output
    assert "steps 1 and 2: the neurons of the layer" in done.output


def test_command_shows_the_pooling_of_the_log_odds(tmp_path):
    page = tmp_path / "page.html"
    done = run("--head", "log-odds", "--node", "log-odds", "--top", 3, "--out", page)
    assert done.exit_code == 0, done.output
    assert re.search(r"j in fc3 +z_cc' +p_c' +R_cc' ", done.output)
    assert re.search(r"\n *pooling +-", done.output)
    assert "zcc′" in parsed(page.read_text(encoding="utf-8")).text


def test_command_ends_with_1_where_the_engine_differs(monkeypatch):
    def mixed_up(*arguments):
        found = connections.connections(*arguments)
        return connections.Connections(found.lower, found.w[::-1])

    monkeypatch.setattr("lrpref.trace.connections", mixed_up)
    done = run("--node", "fc3")
    assert done.exit_code == 1
    assert "THE ENGINE DIFFERS" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--node", "cnov1"), "did you mean conv1"),
        (("--node", "cnov1", "--rule", "zero"), "no node 'cnov1'"),
        (("--neuron", "99,0,0"), "is not one of node 'conv5'"),
        (("--neuron", "first"), "--neuron first: wanted is an index"),
        (("--rule", "nothing(1)"), "unknown rule"),
        (("--node", "conv2", "--rule", "winner-take-all"), "is for max pooling"),
        (("--node", "relu5", "--rule", "gamma(1)"), "node 'relu5' (ReLU) takes no rule; its way is 'pass'"),
        (("--target", "Boat"), "unknown target"),
        (("--dtype", "bits"), "unknown dtype"),
    ],
)
def test_command_refuses_in_one_line(arguments, says):
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in done.output
    assert len(done.output.strip().splitlines()) == 1
