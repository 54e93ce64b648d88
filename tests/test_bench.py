"""The benchmark counts, compares and reports what it says; its figures are nobody's expectation here."""

import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # bench/ is no part of the installed package

from bench import accuracy, flops, networks, report, run, sides, turn  # noqa: E402
from lrpref.conformance import adapters  # noqa: E402
from lrpref.errors import BadNetwork, BadRule  # noqa: E402
from lrpref.kernels.reference import REFERENCE  # noqa: E402
from lrpref.layers import Conv2d, Flatten  # noqa: E402
from lrpref.network import chain  # noqa: E402
from lrpref.plan import Plan  # noqa: E402
from lrpref.weights_import.build import expected_tensors  # noqa: E402

# tiny: conv1 3 -> 8 on 16 x 16, conv2 8 -> 16 on 8 x 8, score 256 -> 10; flops of one pass over each
CONV1, CONV2, SCORE = 2 * 16 * 16 * 8 * 3 * 9, 2 * 8 * 8 * 16 * 8 * 9, 2 * 256 * 10


@pytest.mark.parametrize(
    ("composite", "passes"),
    [
        ("epsilon", (2, 2, 2)),  # forward, transposed
        ("epsilon-plus", (1 + 2 + 2, 3, 2)),  # conv1's inputs have both signs: a+ and a- are two terms
        ("epsilon-alpha2-beta1", (1 + 4 + 4, 1 + 2 + 2, 2)),  # two shares
        ("epsilon-gamma-box", (1 + 3 + 3, 3, 2)),  # z-box: x, low and high
    ],
)
def test_flops_by_hand(composite, passes):
    counted = flops.count(networks.random("tiny"), sides.COMPOSITES[composite])
    assert counted == sum(n * layer for n, layer in zip(passes, (CONV1, CONV2, SCORE), strict=True))


def test_flops_of_stride_groups_and_padding():
    w = np.ones((6, 2, 3, 2), np.float32)  # two groups of 2 channels to 3
    network = chain({"conv": Conv2d(w, None, (2, 1), 1, groups=2), "flat": Flatten()}.items(), (4, 7, 5))
    positions = ((7 + 2 - 3) // 2 + 1) * (5 + 2 - 2 + 1)
    assert flops.count(network, "lrp-0") == 2 * (2 * positions * 6 * 2 * 3 * 2)


# Parameters as torchvision's documentation states them.
@pytest.mark.parametrize(
    ("name", "parameters"), [("vgg16", 138_357_544), ("resnet50", 25_557_032), ("squeezenet", 1_235_496)]
)
def test_networks_have_their_size(name, parameters):
    shapes = expected_tensors(networks.architecture(name))
    assert sum(math.prod(shape) for tensor, shape in shapes.items() if "running" not in tensor) == parameters


def test_random_networks_and_inputs():
    def drawn(seed):
        return networks.random("tiny", seed).node("conv1").layer

    assert (drawn(3).weight == drawn(3).weight).all()
    assert (drawn(3).weight != drawn(4).weight).any()
    assert drawn(3).bias.all()
    network = networks.random("tiny")
    low, high = network.preprocessing.box()
    x = networks.inputs(network, 2, 0)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    # box and inputs are rounded to float32 at another place: 1e-6 is ten times the rounding of 2
    assert (x >= low[:, None, None] - 1e-6).all()
    assert (x <= high[:, None, None] + 1e-6).all()
    assert (x != networks.inputs(network, 2, 1)).any()
    with pytest.raises(BadNetwork, match="there are vgg16, resnet50"):
        networks.random("vgg61")


def test_sides():
    network = networks.random("tiny")
    x = networks.inputs(network, 2, 0)
    R = sides.make("numpy", network, "epsilon-plus", "float64")(x)
    assert R.shape == x.shape
    assert R.dtype == np.float64
    with pytest.raises(BadRule, match="there are epsilon-gamma-box"):
        sides.make("numpy", network, "epsilon-minus", "float64")
    assert "epsilon" in sides.lacks("captum", "vgg16", "epsilon-plus")
    assert "sums" in sides.lacks("captum", "resnet50", "epsilon")
    assert sides.lacks("captum", "vgg16", "epsilon") is None


# Turns in processes


def test_a_turn_is_a_process(tmp_path):
    saved = tmp_path / "R.npy"
    job = turn.Job("numpy", "tiny", "epsilon", 2, "float64", (0, 1, 2), 1, str(saved))
    result = run.turn(job)
    assert len(result["seconds"]) == 2  # the first call is not measured
    assert all(seconds > 0 for seconds in result["seconds"])
    assert 10 * 2**20 < result["peak"] < 10 * 2**30  # an interpreter with NumPy; a unit's mistake is 1024
    network = networks.random("tiny")
    last = networks.inputs(network, 2, 2).astype(np.float64)
    # the same computation in another process; BLAS may add up in another order there
    expected = sides.make("numpy", network, "epsilon", "float64")(last)
    assert run.difference(np.load(saved), expected)["max"] <= 1e-12


def test_a_turn_that_fails_says_why_in_one_line():
    with pytest.raises(run.Failed, match=r"^BadNetwork: unknown network 'nonesuch'") as caught:
        run.turn(turn.Job("numpy", "nonesuch", "epsilon"))
    assert "\n" not in str(caught.value)


def test_the_machines_rate():
    rate = turn.sgemm(size=64, times=2)["rate"]
    assert 1e6 < rate < 1e15  # flops per second, not GFLOP/s and not seconds


def test_difference():
    actual, expected = np.array([1.0, -2.0, 5.0]), np.array([1.0, -4.0, 5.0])
    assert run.difference(actual, expected) == {"max": 2 / 5, "l1": 2 / 10}


def test_a_side_that_fails_does_not_end_the_run(monkeypatch):
    """Made-up turns: zennit fails in its second turn, Captum lacks the rules."""
    asked = []

    def made_up(job):
        asked.append((job.side, job.seeds))
        if job.side in ("flops", "sgemm"):
            return {"flops": 1000, "rate": 4e9}
        if job.side == "zennit" and not job.save:
            raise run.Failed("ended by signal 9: out of memory?")
        np.save(job.save or "/dev/null", np.ones(3))
        return {"seconds": [0.5] * (len(job.seeds) - 1), "peak": 2**30}

    monkeypatch.setattr(run, "turn", made_up)
    case = run.compare("tiny", "epsilon-plus", 1, 3, ["numpy", "zennit", "captum"], lambda words: None)
    assert case["failures"] == {
        "captum": sides.lacks("captum", "tiny", "epsilon-plus"),
        "zennit": "ended by signal 9: out of memory?",
    }
    assert [t["turn"] for t in case["turns"] if t["side"] == "numpy"] == [0, 1, 2]
    assert case["differences"] == []
    assert case["rates"] == [4e9] * 3
    seeds = [seed for side, seeds in asked if side == "numpy" for seed in seeds]
    assert len(set(seeds)) == len(seeds) == 3 * (1 + run.CALLS[1])  # never the same input twice


def test_command_line_without_peers(tmp_path):
    options = ["--network", "tiny", "--composite", "epsilon-plus", "--backend", "numpy", "--peer", "captum"]
    app = run.typer.Typer()
    app.command()(run.main)
    done = CliRunner().invoke(app, [*options, "--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "lacks these rules" in (tmp_path / "table.md").read_text(encoding="utf-8")
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["cases"][0]["flops"] == (1 + 2 + 2) * CONV1 + 3 * CONV2 + 2 * SCORE
    refused = CliRunner().invoke(app, ["--network", "vgg61", "--out", str(tmp_path)])
    assert refused.exit_code == 2
    assert "vgg61" in refused.output


# The report, on made-up turns


def made_up():
    """VGG-16 and SqueezeNet; `cpu` takes 2 s at batch 1, zennit 7 s, Captum is another computation."""

    def turns(side, seconds, peak):
        return [{"side": side, "turn": i, "seconds": s, "peak": peak * 2**30} for i, s in enumerate(seconds)]

    def case(network, composite, factor, batch):
        return {
            "network": network, "composite": composite, "batch": batch, "flops": 100e9, "rates": [1e11, 3e11],
            "turns": [*turns("cpu", [[2 * factor, 1.5 * factor], [2.5 * factor]], 1.25),
                      *turns("zennit", [[7 * factor], [8 * factor], [6 * factor]], 3),
                      *turns("captum", [[4 * factor]], 2)],
            "failures": {"numpy": "ended by signal 9: out of memory?"},
            "differences": [{"side": "cpu", "peer": "zennit", "max": 5e-3, "l1": 2e-5},
                            {"side": "cpu", "peer": "captum", "max": 0.4, "l1": 0.3}],
        }  # fmt: skip

    names = [(n, c) for n in ("vgg16", "squeezenet") for c in ("epsilon-plus", "epsilon")]
    far = {"zennit": 1e-12, "captum": 0.4}
    return {
        "machine": {"processor": "A processor", "threads": 2, "memory": 24.0, "system": "Linux"},
        "versions": {"lrpref": "0.1.0"}, "date": "2026-01-02 03:04", "load": 0.0, "turns": 3,
        "cases": [case(n, c, batch, batch) for n, c in names for batch in (1, 16)],
        "checks": [{"network": n, "composite": c, "peer": peer, "max": most, "l1": most}
                   for peer, most in far.items() for n, c in names],
    }  # fmt: skip


def test_figures_by_hand():
    case = made_up()["cases"][0]
    assert report.figures(case, "cpu") == (2, 1.5, 2.5, 1.25, 100e9 / 2 / 2e11)
    # at batch 16 it takes 16 times as long for 16 times the work
    assert report.figures(made_up()["cases"][1], "cpu").rate == 100e9 / 2 / 2e11
    assert report.figures(case, "numpy") is None
    assert report.figures(case, "cupy") is None


def test_a_ratio_only_where_both_computed_the_same():
    results = made_up()
    zennit, captum = report.ratios(results, results["cases"][0])
    assert (zennit.times, zennit.max, zennit.l1) == (3.5, 5e-3, 2e-5)
    assert captum.times is None
    unchecked = copy.deepcopy(results)
    unchecked["checks"] = []
    assert [ratio.times for ratio in report.ratios(unchecked, unchecked["cases"][0])] == [None, None]


def test_table_and_chart(tmp_path):
    results = made_up()
    report.write(results, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "results.json").read_text(encoding="utf-8")) == results
    lines = (tmp_path / "new" / "table.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if "`cpu`" in line)
    assert row == (
        "| epsilon-plus | 1 | lrpref `cpu` | 2 (1.5 to 2.5) | 1.25 | 25% "
        "| 3.50 x zennit<br>not the same as Captum | 5e-03, 2e-05¹<br>4e-01, 3e-01 |"
    )
    assert any("| lrpref `numpy` | ended by signal 9: out of memory? |" in line for line in lines)
    assert sum(line.startswith("¹ ") for line in lines) == 2  # one for each network
    assert "| VGG-16 | epsilon | Captum | 4e-01 **not the same** | 4e-01 |" in lines
    assert not any("not idle" in line for line in lines)
    widths = {line.replace("\\|", "").count("|") for line in lines if line.startswith("| epsilon")}
    assert widths == {9}  # eight columns, whatever a row says
    assert (tmp_path / "new" / "chart.png").read_bytes().startswith(b"\x89PNG")
    results["load"] = 3.0
    assert "not idle: load 3.0" in report.table(results)


# Agreement


def test_accuracy_on_a_tiny_network(tmp_path):
    app = run.typer.Typer()
    app.command()(accuracy.main)
    options = ["--network", "tiny", "--backend", "numpy", "--seeds", "2", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "accuracy.json").read_text(encoding="utf-8"))
    assert [one["seed"] for one in found["seeds"]] == [0, 1]
    for name in ("guided", "layer", "node_residual", "residual"):
        # float32 at all: more than float64's rounding; and no more than a few hundred of its own 6e-8
        assert 1e-12 < found["figures"][name]["worst"] < 2e-5
        assert found["figures"][name]["reached"] is (found["figures"][name]["worst"] <= accuracy.WANTED[name])


def test_the_guided_reference_sees_a_flipped_winner():
    network = networks.random("tiny")
    x = networks.inputs(network, 1, 0)
    plan = Plan(network, "epsilon-plus")
    recorder = accuracy.Recorder(REFERENCE)
    own = accuracy.explain(plan, x, recorder).relevances["input"]
    assert len(recorder.winners) == 2

    def guided(winners):
        kernels = accuracy.Guided(winners)
        return accuracy.explain(plan, x, kernels).relevances["input"], kernels.flipped

    R, flipped = guided(recorder.winners)
    assert flipped == 0
    assert not (R - own).any()
    flip = np.argwhere(recorder.winners[0][0] == 1)  # windows of the upper pooling that their first tap wins
    wrong = [winners.copy() for winners in recorder.winners]
    for place in flip:
        wrong[0][(0, *place)], wrong[0][(1, *place)] = 0, 1
    R, flipped = guided(wrong)
    assert flipped == len(flip) > 0
    # far more than rounding: a share of relevance went elsewhere
    assert abs(R - own).max() > 1e-3 * abs(own).max()


def test_books_that_do_not_close_show():
    network = networks.random("tiny")
    plan = Plan(network, "epsilon-plus")
    result = accuracy.explain(plan, networks.inputs(network, 1, 0), plan.kernels)
    nodes, residual = accuracy.residuals(result)
    assert max(*nodes.values(), residual) < 1e-13  # sums of some thousand float64 numbers
    result.ledger["conv2"].residual += 0.01 * abs(result.relevances["conv2"]).sum()
    assert accuracy.residuals(result)[0]["conv2"] == pytest.approx(0.01)


def test_a_figure_that_is_missed():
    good = accuracy.Agreement(0, 1e-6, 1e-6, 3, 1e-6, 1e-3, 1e-7, "conv1", 1e-7)
    bad = accuracy.Agreement(1, 6e-5, 1e-6, 5, 1e-6, 1e-3, 1e-7, "conv1", 3e-6)
    verdicts = accuracy.worst([good, bad])
    missed = [name for name, verdict in verdicts.items() if verdict["reached"] is False]
    assert missed == ["guided", "residual"]
    assert verdicts["flipped"] == {"worst": 5, "wanted": None, "reached": None}
    assert accuracy.table([good, bad]).row_count == len(accuracy.SAYS)


# Beside the other libraries


@pytest.mark.peers
@pytest.mark.parametrize("name", ["resnet50", "squeezenet"])
def test_networks_are_torchvisions(name):
    torch, torchvision = adapters.require("torch"), adapters.require("torchvision")
    module = getattr(torchvision.models, {"squeezenet": "squeezenet1_1"}.get(name, name))(weights=None).eval()
    drawn = networks.tensors(networks.architecture(name), 0)
    left = module.load_state_dict({k: torch.tensor(v) for k, v in drawn.items()}, strict=False)
    assert not left.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in left.missing_keys)
    network = networks.random(name, 0)
    x = networks.inputs(network, 1, 0)
    with torch.no_grad():
        expected = module(torch.tensor(x)).numpy()
    # float32 beside float32, through fifty layers: the project's figure for forward passes
    assert run.difference(network.forward(x, dtype="float32"), expected)["max"] <= 1e-5


@pytest.mark.peers
@pytest.mark.parametrize("composite", sides.COMPOSITES)
def test_composites_mean_the_same_to_zennit(composite):
    network = networks.random("tiny")
    x = networks.inputs(network, 3, 0).astype(np.float64)
    ours, theirs = (sides.make(side, network, composite, "float64") for side in ("numpy", "zennit"))
    for _ in range(2):  # its hooks stay in place
        assert run.difference(ours(x), theirs(x))["max"] <= 1e-12  # float64's rounding through five layers


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")  # Captum says what it does
def test_epsilon_means_the_same_to_captum():
    network = networks.random("tiny")
    ours, theirs = (sides.make(side, network, "epsilon", "float64") for side in ("numpy", "captum"))
    for seed in range(2):  # its rules are forgotten after each call
        x = networks.inputs(network, 3, seed).astype(np.float64)
        theirs.prepare(x)
        assert run.difference(ours(x), theirs(x))["max"] <= 1e-12  # float64's rounding through five layers


@pytest.mark.peers
def test_a_quick_run_makes_all_files(tmp_path):
    app = run.typer.Typer()
    app.command()(run.main)
    backends = ["--backend", "numpy", "--backend", "cpu"]
    options = ["--network", "tiny", *backends, "--quick", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "results.json", "chart.png"}
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert not [check for check in results["checks"] if "failure" in check]
    first, second = (list(report.ratios(results, case)) for case in results["cases"])
    assert [(r.side, r.peer) for r in first] == [("numpy", "zennit"), ("cpu", "zennit")]
    assert len(second) == 4  # and Captum
    for ratio in (*first, *second):
        assert ratio.times is not None
        # float32 beside float32 on 2048 windows: no winner flips here, with this seed
        assert ratio.max <= 1e-5
    assert list(results["cases"][0]["failures"]) == ["captum"]
    assert not results["cases"][1]["failures"]
