"""Pixel flipping: by hand on linear networks, whose curves are known; and what no explanation gains from."""

from __future__ import annotations

import doctest
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

import lrpref
from lrpref import baselines, data, evaluation, exact
from lrpref.composites import COMPOSITES
from lrpref.errors import BadInput, BadRule
from lrpref.evaluation import (
    PERTURBATIONS,
    estimate,
    negative_share,
    order,
    patches,
    pixel_flipping,
    random_order,
    sensitivity,
)
from lrpref.layers import Dense, Flatten
from lrpref.network import chain

PAGE = Path(__file__).parent.parent / "docs" / "evaluation.md"

WEIGHTS = np.array([[3.0, -1.0, 2.0, 0.5]])
X = np.array([[1.0, 2.0, 3.0, 4.0]])
R = WEIGHTS * X  # 3, -2, 6, 2


def linear():
    """f(x) = 3 x1 - x2 + 2 x3 + x4 / 2 + 7."""
    return chain([("dense", Dense(WEIGHTS, np.array([7.0])))], (4,))


def picture(weights):
    """f(x) = sum of weights * x, of a picture."""
    weights = np.asarray(weights, float)
    dense = Dense(weights.reshape(1, -1), np.zeros(1))
    return chain([("flatten", Flatten()), ("dense", dense)], weights.shape)


# The curve and its area.


def test_linear_network_by_hand():
    # the contributions go in the order 6, 3, 2, -2: f falls from 16 to 10, 7, 5, and rises to 7
    flipped = pixel_flipping(linear(), X, R, patch=1)
    assert flipped.order.tolist() == [[2, 0, 3, 1]]
    assert flipped.scores.tolist() == [[16, 10, 7, 5, 7]]
    assert flipped.drops.tolist() == [[0, 6, 9, 11, 9]]
    assert flipped.aopc == 35 / 5


def test_exact_arithmetic():
    flipped = pixel_flipping(linear(), X / 7, R, patch=1, steps=2, dtype="exact")
    assert flipped.aopc.dtype == object
    assert exact.as_float(flipped.aopc * 7).tolist() == [5]  # 0, 6, 9, each divided by 7


def test_no_order_beats_what_the_inputs_contribute():
    found = {
        places: float(pixel_flipping(linear(), X, -np.argsort([places]), patch=1).aopc[0])
        for places in itertools.permutations(range(4))
    }
    assert max(found, key=found.get) == (2, 0, 3, 1)
    assert sum(value == max(found.values()) for value in found.values()) == 1


def test_an_order_and_its_reverse_share_the_whole():
    # on a linear network, patch i has gone in K + 1 - i of the K + 1 terms one way, and in i the other way
    there, back = (pixel_flipping(linear(), X, sign * R, patch=1).aopc for sign in (1, -1))
    assert there + back == R.sum()


def test_a_swap_costs_what_it_should():
    # fault: 3 and 6 change places; one of four terms loses their difference
    swapped = R[:, [2, 1, 0, 3]]
    whole, faulty = (pixel_flipping(linear(), X, those, patch=1, steps=3).aopc for those in (R, swapped))
    assert whole - faulty == 3 / 4


def test_random_orders_gain_half_on_average():
    x, weights = np.tile(X, (2000, 1)), linear()
    gained = estimate(pixel_flipping(weights, x, patch=1).aopc)
    assert abs(gained.mean - R.sum() / 2) < 2 * gained.error  # 2 x 1.96 standard errors: p < 1e-4, and seeded


def test_the_class_is_settled_before_anything_is_flipped():
    # class 0 wins at x with 5 against 3; without the first input class 1 does
    network = chain([("dense", Dense(np.array([[5.0, 0.0], [0.0, 3.0]]), np.zeros(2)))], (2,))
    x = np.ones((1, 2))
    assert pixel_flipping(network, x, [[2, 1]], patch=1).scores.tolist() == [[5, 0, 0]]
    assert pixel_flipping(network, x, [[2, 1]], 1, patch=1).scores.tolist() == [[3, 3, 0]]


# Patches and their order.


def test_patches_are_cut_off_at_the_border():
    assert patches((3, 5), 2).tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert patches((5,), 2).tolist() == [0, 0, 1, 1, 2]


def test_patches_are_ordered_by_their_sums_over_pixels_and_channels():
    relevance = np.zeros((1, 2, 4, 4))
    relevance[0, 0, 0, 0], relevance[0, 1, 1, 1] = 1, 1  # patch 0: 2
    relevance[0, 0, 0, 2] = 1.5  # patch 1
    relevance[0, 0, 2, 0], relevance[0, 1, 2, 0] = 9, -9  # patch 2: nothing
    relevance[0, 1, 3, 3] = -1  # patch 3
    assert order(relevance, patch=2).tolist() == [[0, 1, 2, 3]]


def test_a_patch_goes_in_all_channels():
    x = np.arange(1.0, 33).reshape(1, 2, 4, 4)
    relevance = np.zeros_like(x)
    relevance[0, 1, 2, 3] = 1
    flipped = pixel_flipping(picture(np.ones((2, 4, 4))), x, relevance, patch=2, steps=1)
    assert flipped.drops[0].tolist() == [0, x[0, :, 2:, 2:].sum()]


def test_ties_are_shuffled_like_random_orders():
    # an explanation that says nothing is a random order, and gains nothing over it
    nothing = np.ones((5, 1, 8, 8))
    assert (order(nothing, patch=2, seed=3) == random_order(5, 16, seed=3)).all()
    assert len({tuple(row) for row in order(nothing, patch=2)}) == 5
    network = picture(np.arange(64).reshape(1, 8, 8))
    flips = [pixel_flipping(network, nothing, those, patch=2).scores for those in (nothing, None)]
    assert (flips[0] == flips[1]).all()


def test_ties_among_some():
    found = order([[0, 0, 5, 0, -1]] * 40, patch=1)
    assert (found[:, 0] == 2).all()
    assert (found[:, -1] == 4).all()
    assert {tuple(row) for row in found[:, 1:4]} == set(itertools.permutations((0, 1, 3)))


def test_random_orders_do_not_depend_on_how_many_follow():
    assert (random_order(3, 9) == random_order(7, 9)[:3]).all()
    assert (np.sort(random_order(3, 9)) == np.arange(9)).all()
    assert (random_order(3, 9, seed=1) != random_order(3, 9)).any()


# What the patches show.


def shown(perturbation, x, **options):
    """All of what a picture shows when every patch has gone."""
    # one class per pixel, and everything flipped at once: the scores are what is shown
    n = x[0].size
    network = chain([("flatten", Flatten()), ("dense", Dense(np.eye(n), np.zeros(n)))], x.shape[1:])
    side = min(x.shape[2:])
    found = [
        pixel_flipping(network, x, target=pixel, patch=side, perturbation=perturbation, **options).scores
        for pixel in range(n)
    ]
    return np.stack(found, axis=1)[..., -1].reshape(x.shape)


@pytest.fixture(scope="module")
def batch():
    return np.random.default_rng(4).normal(size=(2, 2, 4, 4))


def test_zero_mean_and_noise(batch):
    assert (shown("zero", batch) == 0).all()
    means = np.broadcast_to(batch.mean(axis=(2, 3), keepdims=True), batch.shape)
    assert shown("mean", batch) == pytest.approx(means, abs=1e-15)  # a rounding of numbers < 1
    noise = shown("noise", batch)
    low, high = batch.min(axis=(2, 3), keepdims=True), batch.max(axis=(2, 3), keepdims=True)
    assert ((low <= noise) & (noise <= high)).all()
    assert len(np.unique(noise)) == noise.size
    assert (shown("noise", batch[1:]) == noise[1:]).all()  # whatever batch it comes in
    assert (shown("noise", batch, seed=1) != noise).all()


def test_blur_averages_pixels_but_neither_channels_nor_samples():
    # one bright point: the Gaussian's weights, cut off at 4 sigma and continued beyond the border
    x = np.zeros((2, 2, 9, 9))
    x[0, 1, 4, 4] = 1
    found = evaluation.PERTURBATIONS["blur"](x, 1, 0)
    assert (found[1] == 0).all()
    assert (found[0, 0] == 0).all()
    weights = np.exp(-np.arange(-4, 5.0) ** 2 / 2)
    weights /= weights.sum()
    assert found[0, 1] == pytest.approx(np.outer(weights, weights), abs=1e-15)  # roundings of numbers < 1
    flat = np.full((1, 1, 9, 9), 2.0)
    assert evaluation.PERTURBATIONS["blur"](flat, 3, 0) == pytest.approx(flat, abs=1e-14)  # continued, not 0


def test_a_picture_of_ones_own(batch):
    assert (shown(batch[::-1], batch) == batch[::-1]).all()
    assert (shown([1, 2], batch)[:, 1] == 2).all()  # by channel
    assert (shown(-3, batch) == -3).all()


# Batches.


def test_batches_change_nothing_and_are_told():
    rng = np.random.default_rng(0)
    network, x, relevance = picture(rng.integers(-3, 4, (1, 6, 6))), *rng.integers(-9, 9, (2, 3, 1, 6, 6))
    whole = pixel_flipping(network, x, relevance, patch=2)
    assert whole.scores.shape == (3, 10)
    for size in (1, 2, 3, 7, 1000):
        seen = []
        some = pixel_flipping(network, x, relevance, patch=2, batch=size, watch=seen.append)
        assert (some.scores == whole.scores).all()  # whole numbers: no rounding
        assert sum(seen) == 3 + 3 * 10  # the class is settled first
        assert max(seen) <= size
    fewer = pixel_flipping(network, x[:2], relevance[:2], patch=2)
    assert (fewer.scores == whole.scores[:2]).all()


# Numbers over images.


def test_estimate():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    found = estimate(values)
    assert found.mean == 3
    # standard deviation sqrt(14 / 3), divided by sqrt(4); a few roundings
    assert found.error == pytest.approx(norm.ppf(0.975) * (14 / 3) ** 0.5 / 2, rel=1e-14)


def test_the_interval_covers_95_percent():
    rng = np.random.default_rng(1)
    intervals = [estimate(rng.exponential(size=500)) for _ in range(1000)]
    covered = np.mean([abs(mean - 1) < error for mean, error in intervals])
    assert abs(covered - 0.95) < 0.025  # 3.6 standard errors of a share of 1000 at .95: .0069 each


def test_negative_share():
    assert negative_share([[3.0, -1.0], [-2.0, -2.0], [0.0, 0.0], [1.0, 0.0]]).tolist() == [0.25, 1, 0, 0]


# On the embedded network.


@pytest.fixture(scope="module")
def fashion():
    network = data.embedded()
    return network, np.concatenate([network.preprocess(data.image(number)) for number in range(0, 500, 25)])


def test_relevance_beats_chance_and_its_opposite_loses(fashion):
    network, x = fashion
    options = {"patch": 7, "perturbation": "mean", "backend": "cpu"}
    chance = pixel_flipping(network, x, **options).aopc
    R = lrpref.explain(network, x, backend="cpu").relevance
    for explanation in (R, baselines.gradient_times_input(network, x, backend="cpu")):
        gain, loss = (
            estimate(pixel_flipping(network, x, sign * explanation, **options).aopc - chance)
            for sign in (1, -1)
        )
        assert gain.mean - gain.error > 0
        assert loss.mean + loss.error < 0


def test_sensitivity_is_flipping_value_by_value(fashion):
    network, x = fashion[0], fashion[1][:3]
    options = {"patch": 7, "steps": 5, "backend": "cpu"}
    values = (0.1, 10)
    effects = list(sensitivity(network, x, "gamma", "gamma", values, **options))
    assert [effect.value for effect in effects] == list(values)
    for effect in effects:
        composite = lrpref.composites.get("gamma", gamma=effect.value)
        R = lrpref.explain(network, x, composite=composite, backend="cpu").relevance
        assert (effect.aopc == pixel_flipping(network, x, R, **options).aopc).all()
        assert (effect.negative == negative_share(R)).all()
    (third,) = sensitivity(network, x, "gamma", "gamma", values[-1:], target=[3, 1, 2], **options)
    R = lrpref.explain(network, x, [3, 1, 2], composite, backend="cpu").relevance
    assert (third.aopc == pixel_flipping(network, x, R, [3, 1, 2], **options).aopc).all()
    # generalized gamma tends to alpha 1, beta 0: what is negative goes
    assert (effects[0].negative > effects[1].negative).all()


# What is refused.


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"patch": 5}, "patch is 5: at most 4 is wanted"),
        ({"patch": 0}, "patch is 0"),
        ({"patch": 1.5}, "patch is 1.5"),
        ({"steps": 5, "patch": 1}, "steps is 5: at most 4 is wanted"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"perturbation": "black", "patch": 1}, "there are zero, mean, noise, blur, or"),
        ({"perturbation": [1, 2, 3], "patch": 1}, r"perturbation is of shape \(3,\)"),
        ({"relevance": [[1, 2]], "patch": 1}, r"relevance is of shape \(1, 2\), wants the input's \(1, 4\)"),
        ({"relevance": [[1, 2, np.nan, 4]], "patch": 1}, "relevance holds NaN"),
        ({"relevance": "chapter", "patch": 1}, "relevance is 'chapter': an array of numbers is wanted"),
        ({"relevance": [[1], [1, 2]], "patch": 1}, r"relevance is \[\[1\], \[1, 2\]\]: an array"),
        ({"perturbation": None, "patch": 1}, "perturbation is None: finite real numbers"),
    ],
)
def test_bad_arguments(options, says):
    with pytest.raises(BadInput, match=says):
        pixel_flipping(linear(), X, **options)


def test_bad_numbers_and_parameters():
    with pytest.raises(BadInput, match=r"relevance is of shape \(4,\)"):
        order(R[0])
    with pytest.raises(BadInput, match=r"\(2, 4, 3\): \(N, C, H, W\) or \(N, J\) is wanted"):
        order(np.ones((2, 4, 3)))
    with pytest.raises(BadInput, match=r"relevance is of shape \(\)"):
        negative_share(3.0)
    with pytest.raises(BadInput, match="relevance holds NaN"):
        negative_share([[1.0, np.nan]])
    with pytest.raises(BadInput, match="samples is 0"):
        random_order(0, 3)
    with pytest.raises(BadInput, match="at least 2 images"):
        estimate([1.0])
    with pytest.raises(BadInput, match="values holds NaN"):
        estimate([1.0, np.nan])
    with pytest.raises(BadRule, match="no parameter 'eps'"):
        next(sensitivity(linear(), X, "gamma", "eps", [1]))


@pytest.mark.parametrize("method", [pixel_flipping, baselines.occlusion])
def test_sequences_have_no_patches(method):
    # rows of numbers are neither channels nor pixels: what a patch is would be a guess
    network = chain([("flatten", Flatten()), ("dense", Dense(np.ones((1, 12))))], (4, 3))
    with pytest.raises(BadInput, match=r"input is \(4, 3\): only images \(C, H, W\) and vectors \(J,\)"):
        method(network, np.ones((1, 4, 3)), patch=1)


# The page.


def test_the_examples_of_the_page():
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 3
    assert failed == 0


def test_the_page_shows_the_results_as_they_came_out():
    page = PAGE.read_text(encoding="utf-8")
    results = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    assert results["images"] >= 500
    assert {*COMPOSITES, "gradient x input", "integrated gradients", "SmoothGrad x input", "occlusion"} == {
        *results["methods"]
    }
    rows = {**results["methods"], "*random order, its own AOPC*": results["random"]}
    for method, row in rows.items():
        cells = [f"{mean:.2f} ± {error:.2f}" for mean, error in (row["aopc"][name] for name in PERTURBATIONS)]
        assert f"| {method} | {' | '.join(cells)} |" in page
    for point in results["sensitivity"]:
        cells = [f"{mean:.2f} ± {error:.2f}" for mean, error in (point["aopc"], point["negative share"])]
        line = f"| `{point['composite']}` | {point['parameter']} = {point['value']} | {' | '.join(cells)} |"
        assert line in page
