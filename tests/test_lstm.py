"""LSTMs as networks: they compute what PyTorch's do, signals take all relevance, and nothing is lost."""

import doctest
import json
import os
from pathlib import Path

import flint
import numpy as np
import pytest
from typer.testing import CliRunner

import lrpref
from lrpref import beyond, exact
from lrpref.cli import app
from lrpref.errors import BadInput, BadNetwork, BadWeights
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import Dense, Gate, ReLU, State
from lrpref.network import INPUT, Network, Node
from lrpref.weights_import import checkpoint

PAGE = Path(__file__).parent.parent / "docs" / "lstm.md"
RESIDUAL = 1e-13
"""Of the sum of |R| at a node: float64's 1.1e-16 for each of the additions, which mostly cancel."""

EXACT = exact.get("exact")


def drawn(reads, hidden, layers=1, directions=1, *, bias=True, seed=0):
    """Tensors with the names and shapes that PyTorch documents for torch.nn.LSTM."""
    rng, weights = np.random.default_rng(seed), {}
    for number in range(layers):
        for direction in ("", "_reverse")[:directions]:
            width = reads if number == 0 else hidden * directions
            shapes = {"weight_ih": (4 * hidden, width), "weight_hh": (4 * hidden, hidden)}
            shapes |= {"bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)} if bias else {}
            for what, shape in shapes.items():
                weights[f"{what}_l{number}{direction}"] = rng.uniform(-1, 1, shape)
    return weights


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def run(weights, name, x, h, c):
    """The formulas of PyTorch's manual, one token after the other; everything that they mention."""
    trace = []
    for token in x:
        z = weights[f"weight_ih_{name}"] @ token + weights[f"bias_ih_{name}"]
        z = z + weights[f"weight_hh_{name}"] @ h + weights[f"bias_hh_{name}"]
        z_i, z_f, z_g, z_o = np.split(z, 4)
        i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
        step = {"x": token, "h before": h, "c before": c, "z_g": z_g, "kept": f * c, "written": i * g}
        c = f * c + i * g
        h = o * np.tanh(c)
        trace.append({**step, "c": c, "h": h})
    return trace


def relevances(weights, name, trace, R):
    """Signal-take-all under LRP-0, from the last h down: of the tokens, of the bias, of h_0 and of c_0."""
    (hidden,) = R.shape
    w = np.concatenate([weights[f"weight_ih_{name}"], weights[f"weight_hh_{name}"]], axis=1)
    w_g = w[2 * hidden : 3 * hidden]
    b_g = (weights[f"bias_ih_{name}"] + weights[f"bias_hh_{name}"])[2 * hidden : 3 * hidden]
    tokens, bias, R_c = [], 0.0, np.zeros(hidden)
    for step in reversed(trace):
        R_c = R_c + R  # h = o tanh(c)
        s = R_c * step["written"] / step["c"] / step["z_g"]
        R_c = R_c * step["kept"] / step["c"]
        below = np.concatenate([step["x"], step["h before"]]) * (s @ w_g)
        tokens.insert(0, below[:-hidden])
        R, bias = below[-hidden:], bias + s @ b_g
    return np.array(tokens), bias, R, R_c


def test_the_network_computes_the_formulas():
    weights = drawn(3, 2, seed=1)
    x, (h, c) = np.random.default_rng(2).normal(size=(5, 3)), np.random.default_rng(3).normal(size=(2, 1, 2))
    trace = run(weights, "l0", x, h[0], c[0])
    net = beyond.unroll(weights, 5, state=(h, c))
    # 20 products to a sum, five steps: some units of 1e-16
    assert net.forward(x[None])[0] == pytest.approx(np.array([step["h"] for step in trace]), abs=1e-14)
    values = net.activations(x[None], REFERENCE)
    for t, step in enumerate(trace):
        for what in ("z_g", "kept", "written", "c", "h"):
            assert values[f"l0.t{t}.{what}"][0] == pytest.approx(step[what], abs=1e-14)


def test_layers_and_directions():
    weights = drawn(3, 2, layers=2, directions=2, seed=22)
    x, start = np.random.default_rng(23).normal(size=(5, 3)), (np.zeros(2), np.zeros(2))
    tokens = x
    for number in range(2):
        ahead = [step["h"] for step in run(weights, f"l{number}", tokens, *start)]
        back = [step["h"] for step in run(weights, f"l{number}_reverse", tokens[::-1], *start)]
        tokens = np.concatenate([ahead, back[::-1]], axis=1)
    # as above, and one layer more
    assert beyond.unroll(weights, 5).forward(x[None])[0] == pytest.approx(tokens, abs=1e-14)


def test_relevance_is_signal_take_all():
    weights = drawn(3, 2, seed=4)
    x, (h, c) = np.random.default_rng(5).normal(size=(4, 3)), np.random.default_rng(6).normal(size=(2, 1, 2))
    trace = run(weights, "l0", x, h[0], c[0])
    R = np.array([2.0, -3.0])
    tokens, bias, R_h, R_c = relevances(weights, "l0", trace, R)
    e = lrpref.explain(beyond.unroll(weights, 4, state=(h, c), read="final"), x[None], R[None], "lrp-0")
    # quotients by z of the order of 0.1 over four steps: some hundreds of 1e-16 of numbers around 10
    assert e.relevance[0] == pytest.approx(tokens, rel=1e-12, abs=1e-12)
    assert e.ledger.account("bias")[0] == pytest.approx(bias, rel=1e-12)
    assert e.ledger["l0.h_0"].state[0] == pytest.approx(R_h.sum(), rel=1e-12)
    assert e.ledger["l0.c_0"].state[0] == pytest.approx(R_c.sum(), rel=1e-12)
    assert min(abs(R_h.sum()), abs(R_c.sum()), abs(bias)) > 1e-3
    for row in e.ledger:
        if row.node.split(".")[-1] in ("i", "f", "o", "z_i", "z_f", "z_o"):
            assert (row.arriving == 0).all()


def test_nothing_is_lost():
    weights = drawn(4, 3, layers=2, directions=2, seed=7)
    state = np.random.default_rng(8).normal(size=(2, 4, 3))
    x = np.random.default_rng(9).normal(size=(3, 6, 4))
    net = beyond.unroll(weights, 6, state=tuple(state), read=2, head=[("scores", Dense(np.ones((2, 6))))])
    for composite in ("lrp-0", "epsilon", "gamma", "epsilon-plus"):
        e = lrpref.explain(net, x, 1, composite)
        for row in e.ledger:
            name = e.canonical.merged.get(row.node, row.node)
            size = abs(e.at(name)).reshape(3, -1).sum(axis=1)
            below = sum(abs(e.at(i)).reshape(3, -1).sum(axis=1) for i in set(e.canonical.node(name).inputs))
            assert (abs(row.residual) <= RESIDUAL * (size + below + abs(row.bias))).all(), row.node
        assert (e.ledger.account("state") != 0).all()


def test_nothing_is_lost_in_balls():
    rng = np.random.default_rng(10)
    weights = {name: rng.integers(-8, 9, w.shape) / 8 for name, w in drawn(2, 2, directions=2).items()}
    net = beyond.unroll(weights, 3, state=(np.ones((2, 2)), np.ones((2, 2))), read=1)
    e = lrpref.explain(net, rng.integers(1, 9, (2, 3, 2)) / 4, 2, "lrp-0", dtype="ball")
    residuals = [v for row in e.ledger for v in row.residual] + list(e.ledger.residual)
    with flint.ctx.workprec(256):
        assert all(v.overlaps(flint.arb(0)) and float(v.rad()) < 1e-20 for v in residuals)
        assert all(abs(v) > 1e-4 for v in (*e.ledger.account("state"), *e.ledger.account("bias")))


def test_zero_states_receive_nothing():
    net = beyond.unroll(drawn(3, 2, seed=11), 3, read="final")
    e = lrpref.explain(net, np.ones((1, 3, 3)), 0, "lrp-0")
    assert (e.ledger.account("state") == 0).all()
    assert (e.ledger.account("bias") != 0).all()


def test_without_biases_all_relevance_reaches_the_tokens():
    net = beyond.unroll(drawn(3, 2, bias=False, seed=12), 4, read="final")
    e = lrpref.explain(net, np.random.default_rng(13).normal(size=(5, 4, 3)), 1, "lrp-0")
    size = abs(e.relevance).reshape(5, -1).sum(axis=1)
    assert (abs(beyond.per_token(e).sum(axis=1) - e.scores[:, 1]) <= 1e-12 * size).all()  # rounding, 4 steps


def test_the_neuron_of_the_chapter_in_exact_arithmetic():
    """h = gate * max(0, w a + b): all relevance flows through the second term, and the books close, ==."""
    rng = np.random.default_rng(14)
    signal = Dense(rng.integers(-4, 6, (3, 4)) / 4, rng.integers(1, 4, 3) / 4)
    gate = Dense(rng.integers(-4, 6, (3, 4)) / 4)
    net = Network(
        (
            Node("gate", gate, (INPUT,)),
            Node("signal", signal, (INPUT,)),
            Node("relu", ReLU(), ("signal",)),
            Node("product", Gate(), ("gate", "relu")),
        ),
        (4,),
    )
    x = rng.integers(0, 8, (5, 4)) / 4
    R = np.array([[1.0, -2.0, 3.0]] * 5)
    e = lrpref.explain(net, x, R, "lrp-0", dtype="exact")
    product = x @ gate.weight.T * np.maximum(x @ signal.weight.T + signal.bias, 0)  # dyadic: no rounding
    assert (e.scores == EXACT.array(product)).all()
    alone = lrpref.relprop(EXACT.cast(signal), lrpref.rules.Zero(), EXACT.array(x), EXACT.array(R))
    assert (e.relevance == alone.relevance).all()
    assert (e.ledger["signal"].bias == alone.ledger.bias).all()
    assert (e.ledger["gate"].arriving == 0).all()
    assert (e.ledger.residual == 0).all()
    assert (e.at("relu") == EXACT.array(R)).all()


def test_the_gradient_of_a_product():
    rng = np.random.default_rng(15)
    gate, signal, step, g = EXACT.array(rng.integers(-9, 10, (4, 2, 3)) / 4)
    to_gate, to_signal = Gate().gradient(REFERENCE, [gate, signal], g)

    def change(*inputs):  # a product is linear in each factor: its difference is its derivative
        return g * (Gate().forward(REFERENCE, *inputs) - gate * signal)

    assert (to_gate * step == change(gate + step, signal)).all()
    assert (to_signal * step == change(gate, signal + step)).all()


def test_the_gradient_of_an_lstm():
    net = beyond.unroll(drawn(2, 2, layers=2, directions=2, seed=16), 3, state=(np.ones((4, 2)),) * 2, read=1)
    x = np.random.default_rng(17).normal(size=(1, 3, 2))
    g = net.gradient(x, 3)
    for place in np.ndindex(3, 2):
        d = np.zeros((1, 3, 2))
        d[0][place] = 1e-5
        central = (net.forward(x + d) - net.forward(x - d))[0, 3] / 2e-5
        # the second order cancels, the third is 1e-10; rounding 1e-16 / 1e-5
        assert g[0][place] == pytest.approx(central, abs=1e-9)


def test_a_state_is_the_same_for_every_input():
    layer = State(np.array([1.0, 2.0]))
    x = np.ones((3, 4, 5))
    assert layer.forward(REFERENCE, x).tolist() == [[1.0, 2.0]] * 3
    (g,) = layer.gradient(REFERENCE, [x], np.ones((3, 2)))
    assert g.shape == x.shape
    assert not g.any()


def test_reading_one_token_reads_all_at_that_token():
    weights = drawn(3, 2, layers=2, directions=2, seed=18)
    x = np.random.default_rng(19).normal(size=(2, 4, 3))
    whole = beyond.unroll(weights, 4).forward(x)
    assert whole.shape == (2, 4, 4)
    for t in range(4):
        assert (beyond.unroll(weights, 4, read=t).forward(x) == whole[:, t]).all()
    final = beyond.unroll(weights, 4, read="final").forward(x)
    assert (final == np.concatenate([whole[:, 3, :2], whole[:, 0, 2:]], axis=1)).all()


def test_what_is_not_read_is_not_built():
    net = beyond.unroll(drawn(3, 2, directions=2), 5, read=1)
    steps = {node.name.split(".")[1] for node in net.nodes if node.name.startswith("l0.")}
    assert steps == {"h_0", "c_0", "t0", "t1"}
    steps = {node.name.split(".")[1] for node in net.nodes if node.name.startswith("l0_reverse.")}
    assert steps == {"h_0", "c_0", "t1", "t2", "t3", "t4"}


def test_a_sequence_of_one_token():
    weights = drawn(3, 2, seed=20)
    x = np.random.default_rng(21).normal(size=(1, 1, 3))
    wanted = run(weights, "l0", x[0], np.zeros(2), np.zeros(2))[0]["h"]
    assert beyond.unroll(weights, 1).forward(x)[0, 0] == pytest.approx(wanted, abs=1e-15)


def test_saving(tmp_path):
    net = beyond.unroll(drawn(3, 2, directions=2), 3, state=(np.ones((2, 2)),) * 2, read="final")
    net.save(tmp_path / "lstm.safetensors")
    again = lrpref.load(tmp_path / "lstm.safetensors")
    x = np.ones((1, 3, 3))
    assert again.digest == net.digest
    assert (again.forward(x) == net.forward(x)).all()
    lrpref.explain(again, x).save(tmp_path / "out")
    assert (tmp_path / "out" / "heatmap.png").stat().st_size > 1000


def test_embedding():
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    x = beyond.embed(table, [2, 0])
    assert x.dtype == np.float64
    assert x.tolist() == [[[6, 7, 8], [0, 1, 2]]]


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], "at least 1"),
        ([0.5], "one index for each"),
        ([[1]], "one index for each"),
        ([0, 4], "token 1 is 4: the table has 0 to 3"),
        ([-1], "token 0 is -1"),
    ],
)
def test_bad_tokens(indices, text):
    with pytest.raises(BadInput, match=text):
        beyond.embed(np.zeros((4, 3)), indices)


def without(name):
    return {key: w for key, w in drawn(3, 2, 2, 2).items() if key != name}


@pytest.mark.parametrize(
    ("weights", "options", "error", "text"),
    [
        (drawn(3, 2), {"length": 0}, BadNetwork, "length is 0: a sequence has at least 1 token"),
        (drawn(3, 2), {"length": 2.5}, BadNetwork, "length is 2.5"),
        (drawn(3, 2), {"length": True}, BadNetwork, "length is True"),
        (drawn(3, 2), {"read": 3}, BadNetwork, "read is 3: 'all', 'final' or a token from 0 to 2"),
        (drawn(3, 2), {"read": "last"}, BadNetwork, "read is 'last'"),
        (drawn(3, 2), {"read": True}, BadNetwork, "read is True"),
        (list(drawn(3, 2)), {}, BadWeights, "weights are of type list: a state_dict is wanted"),
        (drawn(3, 2), {"state": 3}, BadNetwork, r"the state is no pair: h_0 and c_0 of \(1, 2\)"),
        (drawn(3, 2), {"prefix": "lstm."}, BadWeights, "no tensor 'lstm.weight_ih_l0'"),
        (drawn(3, 2), {"state": (np.zeros((1, 2)), np.zeros((2, 2)))}, BadNetwork, r"of \(1, 2\)"),
        (drawn(3, 2), {"head": [("l0.h_0", ReLU())]}, BadNetwork, "one of this name already"),
        ({**drawn(3, 2), "embedding": np.zeros(3)}, {}, BadWeights, "'embedding' belongs to no LSTM"),
        ({**drawn(3, 2), "weight_hr_l0": np.zeros((1, 2))}, {}, BadWeights, "'weight_hr_l0' belongs to no"),
        ({**drawn(3, 2), "weight_hh_l0": np.zeros((6, 2))}, {}, BadWeights, r"is \(6, 2\), wants \(8, 2\)"),
        ({**drawn(3, 2), "weight_hh_l0": np.zeros(8)}, {}, BadWeights, "wants two axes"),
        (without("weight_hh_l1_reverse"), {}, BadWeights, "no tensor 'weight_hh_l1_reverse'"),
        (without("bias_hh_l0"), {}, BadWeights, "no tensor 'bias_hh_l0'"),
        (without("weight_ih_l1"), {}, BadWeights, "belongs to no LSTM of 1 layers"),
    ],
)
def test_bad_weights(weights, options, error, text):
    with pytest.raises(error, match=text) as caught:
        beyond.unroll(weights, **{"length": 3, **options})
    assert "\n" not in str(caught.value)


def test_a_sequence_of_another_length():
    with pytest.raises(BadInput, match=r"input is \(1, 0, 3\), wants \(N, 3, 3\)"):
        lrpref.explain(beyond.unroll(drawn(3, 2), 3), np.zeros((1, 0, 3)))


def test_the_command_line_refuses_an_empty_sequence(tmp_path):
    beyond.unroll(drawn(3, 2), 3).save(tmp_path / "lstm.safetensors")
    np.save(tmp_path / "x.npy", np.zeros((1, 0, 3)))
    given = ["--model", str(tmp_path / "lstm.safetensors"), "--input", str(tmp_path / "x.npy")]
    done = CliRunner().invoke(app, ["explain", *given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "input is (1, 0, 3), wants (N, 3, 3)" in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) == 1


def test_only_sequences_have_tokens():
    net = Network((Node("dense", Dense(np.ones((1, 2))), (INPUT,)),), (2,))
    with pytest.raises(BadInput, match=r"relevance is of shape \(1, 2\): \(N, T, E\) is wanted"):
        beyond.per_token(lrpref.explain(net, np.ones((1, 2)), composite="lrp-0"))


def test_a_gate_and_its_signal_have_one_shape():
    with pytest.raises(BadNetwork, match=r"got \(2,\) and \(3,\), wants a gate and a signal of one shape"):
        Gate().output_shape((2,), (3,))


def test_a_drawing_has_a_square_for_each_token():
    figure = beyond.draw_tokens([("one", "abc", np.array([1.0, -2.0, 0.0])), ("two", "de", np.zeros(2))])
    one, two = figure.axes
    assert one.images[0].get_array().tolist() == [[1.0, -2.0, 0.0]]
    assert one.images[0].get_clim() == (-2, 2)
    assert [t.get_text() for t in one.texts] == ["a", "+1.00", "b", "-2.00", "c", "+0.00"]
    assert one.get_xlim() == two.get_xlim()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "there are no sentences to draw"),
        ([("one", "", np.zeros(0))], "'one': 0 tokens and relevances of shape"),
        ([("one", "abc", np.zeros(2))], r"'one': 3 tokens and relevances of shape \(2,\)"),
    ],
)
def test_what_cannot_be_drawn(rows, text):
    with pytest.raises(BadInput, match=text):
        beyond.draw_tokens(rows)


# Against PyTorch.


@pytest.mark.peers
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_forward_and_gradient_are_pytorchs(layers, bidirectional, bias):
    from lrpref.conformance import adapters

    torch = adapters.require("torch")
    torch.manual_seed(layers)
    lstm = torch.nn.LSTM(5, 4, layers, bias=bias, batch_first=True, bidirectional=bidirectional).double()
    count = layers * (1 + bidirectional)
    x = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    h, c = torch.randn(2, count, 4, dtype=torch.float64)
    batch = [state[:, None].expand(count, 3, 4).contiguous() for state in (h, c)]
    said, (h_n, _) = lstm(x, tuple(batch))
    weights = {name: w.detach().numpy() for name, w in lstm.state_dict().items()}
    state = h.numpy(), c.numpy()
    net = beyond.unroll(weights, 7, state=state)
    assert abs(net.forward(x.detach().numpy()) - said.detach().numpy()).max() <= 1e-10
    final = beyond.unroll(weights, 7, state=state, read="final")
    last = torch.cat(list(h_n[-1 - bidirectional :]), dim=1)
    assert abs(final.forward(x.detach().numpy()) - last.detach().numpy()).max() <= 1e-10
    last[:, 2].sum().backward()
    assert abs(final.gradient(x.detach().numpy(), 2) - x.grad.numpy()).max() <= 1e-10


# The tagger.


def folder():
    found = os.environ.get("LRPREF_MODELS")
    if not found:
        pytest.skip("LRPREF_MODELS is not set: not run")
    return Path(found) / "lstm"


def test_the_tagger_reproduces_its_examples():
    weights = checkpoint.read(folder() / "g2pm_bilstm.safetensors")
    record = json.loads((folder() / "g2pm_bilstm.json").read_text(encoding="utf-8"))
    classes = [record["idx2class"][str(number)] for number in range(len(record["idx2class"]))]
    assert len(record["examples"]) == 12
    for example in record["examples"]:
        head = [
            ("hidden", Dense(weights["logit_layer.0.weight"], weights["logit_layer.0.bias"])),
            ("relu", ReLU()),
            ("scores", Dense(weights["logit_layer.2.weight"], weights["logit_layer.2.bias"])),
        ]
        length, target = len(example["ids"]), example["target_index"]
        net = beyond.unroll(weights, length, prefix="lstm.", read=target, head=head, classes=classes)
        x = beyond.embed(weights["embedding.weight"], example["ids"])
        e = lrpref.explain(net, x, composite="lrp-0")
        chosen = int(e.target[0])
        assert net.label(chosen) == example["label"]
        # recorded in float32: 6e-8 for each of the sums, of the order of 10
        assert e.scores[0, chosen] == pytest.approx(example["logit"], abs=1e-5)
        for row in e.ledger:
            size = abs(e.at(row.node)).sum() + abs(row.bias[0])
            below = sum(abs(e.at(name)).sum() for name in set(net.node(row.node).inputs))
            assert abs(row.residual[0]) <= RESIDUAL * (size + below), row.node


# The page.


def pages():
    """The page up to the tagger, which the project does not ship, and the whole."""
    text = PAGE.read_text(encoding="utf-8")
    return text.split("\n## A tagger")[0], text


@pytest.mark.parametrize("tagger", [False, True])
def test_the_page(tagger, tmp_path, monkeypatch):
    text = pages()[tagger]
    if tagger:
        monkeypatch.chdir(folder())
    else:
        monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    failed, tried = doctest.DocTestRunner().run(test)
    assert tried > 3
    assert failed == 0
