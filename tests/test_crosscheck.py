"""One network by a peer and by lrpref: the first node that differs, the cause, and what a peer can do to us.

The peer here is lrpref itself under another library's dialect, so that what parts the two is known.
"""

import json
import math
import operator
import os
import time

import numpy as np
import pytest
from typer.testing import CliRunner

import lrpref
from lrpref import data, dialects, layers
from lrpref.cli import app
from lrpref.composites import Composite
from lrpref.conformance import adapters, crosscheck_page
from lrpref.conformance import crosscheck as checks
from lrpref.conformance.adapters import Run
from lrpref.conformance.isolated import isolated
from lrpref.errors import BadBackend, BadInput
from lrpref.fold import fold
from lrpref.network import INPUT, chain

LINEAR = dict.fromkeys(("convolution", "dense", "average-pooling", "sum", "norm"), "epsilon(1e-6)")

BELOW = Composite(
    "w2-below",
    first={"convolution": "w2"},
    kinds={**LINEAR, "max-pooling": "winner-take-all"},
)


@pytest.fixture(scope="module")
def net():
    return data.embedded()


@pytest.fixture(scope="module")
def x(net):
    return net.preprocess(data.image(9))


def peer(monkeypatch, deed):
    """Put a function of (network, x, R, rules) in the place of the process that runs the peer."""

    def isolated(call, network, x, R, rules, *, peer, timeout):
        assert call is adapters.run
        return Run(deed(network, x, R, rules), 0.0, 0)

    monkeypatch.setattr(checks, "isolated", isolated)


def under(**settings):
    """A peer that is lrpref in a dialect of its own."""
    dialect = dialects.CHAPTER.with_settings(**settings)

    def deed(network, x, R, rules):
        return dict(lrpref.explain(network, x, R, rules=rules, dialect=dialect).relevances)

    return deed


def test_agreement(monkeypatch, net, x):
    peer(monkeypatch, under())
    found = checks.crosscheck("zennit", net, x, composite="epsilon-plus")
    assert found.agrees
    assert (found.first, found.dimensions) == (None, ())
    assert [line.node for line in found.lines][-3:] == ["relu1", "conv1", INPUT]
    assert "they agree" in str(found)


def test_the_first_node_that_differs_and_why(monkeypatch, net, x):
    """b^2 in the denominator of w^2: only the relevance of the input can show it."""
    peer(monkeypatch, under(D11="bias-squared"))
    found = checks.crosscheck("zennit", net, x, composite=BELOW)
    assert found.first.node == INPUT
    assert found.stray is None
    assert found.agrees
    assert found.dimensions == ("D11",)
    assert "b^2" in found.why
    assert f"'{INPUT}'" in str(found)


def test_two_causes(monkeypatch, net, x):
    composite = Composite("two", first={"convolution": "w2"}, kinds={"dense": "gamma(1)"}, base=BELOW)
    peer(monkeypatch, under(D4="untouched", D11="bias-squared"))
    dialect = dialects.get("zennit").with_settings(D4="untouched")
    found = checks.crosscheck("zennit", net, x, composite=composite, dialect=dialect)
    assert found.dimensions == ("D4", "D11")
    assert found.first.node != INPUT


def test_what_was_handed_over_is_told(monkeypatch, net, x):
    peer(monkeypatch, under())
    assert "same layers" in checks.crosscheck("zennit", fold(net), x, composite="epsilon-plus").given
    assert "batch norm is not compared" in checks.crosscheck("zennit", net, x, composite="epsilon-plus").given


def test_what_nothing_explains(monkeypatch, net, x):
    def deed(network, x, R, rules):
        made = under()(network, x, R, rules)
        below = ("conv2", "relu1", "conv1", INPUT)
        return {name: R * 1.001 if name in below else R for name, R in made.items()}

    peer(monkeypatch, deed)
    found = checks.crosscheck("zennit", net, x, composite="epsilon-plus")
    assert not found.agrees
    assert found.first.node == found.stray.node == "conv2"
    assert found.first.chapter == pytest.approx(1e-3)
    assert "does not explain it" in found.why


def test_what_is_not_finite_differs(monkeypatch, net, x):
    def deed(network, x, R, rules):
        return {INPUT: np.full_like(x, np.nan)}

    peer(monkeypatch, deed)
    found = checks.crosscheck("zennit", net, x, composite="epsilon-plus")
    assert [line.node for line in found.lines] == [INPUT]  # a peer may tell of the input alone
    assert found.first.chapter == math.inf
    assert "not finite" in found.why


def test_windows_that_rounding_decides():
    """Four windows: won by a margin, by an ulp, tied, and of zeros."""
    x = np.array([[[[1, 2, 1, 1 + 2**-52], [3, 4, 0, 0], [5, 5, 0, 0], [1, 2, 0, 0]]]], float)
    net = chain([("pool", layers.MaxPool2d(2)), ("flat", layers.Flatten())], (1, 4, 4))
    made = lrpref.explain(net, x, np.ones((1, 4)), composite="lrp-0")
    assert checks.undecided(made) == {"pool": 2}
    nothing = lrpref.explain(net, x, np.array([[1.0, 0, 0, 1]]), composite="lrp-0")
    assert checks.undecided(nothing) == {"pool": 0}  # where no relevance arrives, it does not matter


def test_overlapping_windows_with_padding():
    """Kernel 3, stride 1, padding 1: beside the maximum 9 stands 9 + 1e-13 in two of the nine windows."""
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 0, :2] = 9, 9 + 1e-13
    net = chain([("pool", layers.MaxPool2d(3, 1, 1)), ("flat", layers.Flatten())], (1, 3, 3))
    made = lrpref.explain(net, x, np.ones((1, 9)), composite="lrp-0")
    assert checks.undecided(made) == {"pool": 4}  # the windows around (0, 0), (0, 1), (1, 0), (1, 1)


# The process.


def test_a_call_in_a_process_of_its_own(capfd):
    assert isolated(operator.add, 1, 2, timeout=60) == 3
    assert isolated(os.getpid, timeout=60) != os.getpid()
    isolated(print, "NOISE", timeout=60)
    assert "NOISE" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ((math.sqrt, -1), "ValueError"),
        ((os.abort,), "exit code -6"),
        ((os._exit, 3), "exit code 3"),
        ((time.sleep, 60), "no answer after 4 s"),
    ],
)
def test_what_befalls_it_is_one_line(call, said):
    with pytest.raises(BadBackend, match=said):
        isolated(*call, timeout=4)


def test_an_error_keeps_its_kind():
    with pytest.raises(BadInput, match="there is no node 'nowhere'"):
        isolated(data.embedded().node, "nowhere", timeout=60)


# The command.


def command(*arguments):
    return CliRunner().invoke(app, ["crosscheck", *map(str, arguments)])


def test_the_command_writes_a_page_a_picture_and_a_record(monkeypatch, net, tmp_path):
    peer(monkeypatch, under(D6="no-bias"))
    folder = tmp_path / "out"
    done = command("--library", "zennit", "--composite", "epsilon-plus", "--out", folder)
    assert done.exit_code == 1  # zennit's dialect has the bias
    assert "does not explain it" in done.output
    kept = json.loads((folder / "crosscheck.json").read_text(encoding="utf-8"))
    assert (kept["agrees"], kept["dimensions"]) == (False, [])
    assert kept["network"]["sha256"] == net.digest
    assert kept["nodes"][-1]["node"] == INPUT
    assert kept["folded norms"] == 5  # the embedded network has five
    assert "folded 5 batch norms" in done.output
    assert kept["with"]["numpy"] == np.__version__
    text = (folder / "crosscheck.html").read_text(encoding="utf-8")
    assert all(row["node"] in text for row in kept["nodes"])
    assert "data:image/png" in text
    assert (folder / "crosscheck.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_takes_another_dialect(monkeypatch, net, x, tmp_path):
    """Relevance meets a negative z at the top only, if a negative score is explained: D1 matters there."""
    negative = int(net.forward(x)[0].argmin())
    peer(monkeypatch, under(D1="unsigned"))
    composite = tmp_path / "small.toml"
    rules = '[nodes]\n"pool1" = "winner-take-all"\n"*" = "epsilon(0.1)"\n'
    composite.write_text(rules, encoding="utf-8")
    arguments = ("--composite", composite, "--target", negative, "--out", tmp_path)
    assert command("--library", "zennit", *arguments).exit_code == 1
    done = command("--library", "zennit", "--dialect", "lxt", *arguments)
    assert done.exit_code == 0, done.output
    assert "D1 Stabilizer" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--library", "keras"), "no adapter lets 'keras' explain whole networks"),
        (("--library", "zennit", "--composite", "nothing"), "nothing"),
        (("--library", "zennit", "--dialect", "latin"), "unknown dialect 'latin'"),
        (("--library", "zennit", "--model", "nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path):
    done = command(*arguments, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_picture_of_a_vector_and_its_page(monkeypatch):
    rng = np.random.default_rng(0)
    net = chain([("dense", layers.Dense(rng.normal(size=(2, 3)), np.ones(2)))], (3,))
    peer(monkeypatch, under())
    found = checks.crosscheck("zennit", net, np.ones((1, 3)), 0, "lrp-0")
    assert len(crosscheck_page.page(found, b"")) > 1000
    assert crosscheck_page.draw(found) is not None


def test_a_wrong_input_is_told_before_the_peer_starts(net):
    with pytest.raises(BadInput):
        checks.crosscheck("zennit", net, np.zeros((1, 3)))
