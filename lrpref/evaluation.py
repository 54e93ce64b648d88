"""How good is an explanation? Pixel flipping, and what a rule's parameters do (Section 10.3).

Samek et al. 2017, "Evaluating the visualization of what a deep neural network has learned": patch after patch
is perturbed, the most relevant first. The sooner the score falls, the better the explanation has told what it
rests on. Any explanation will do that is an array like the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrpref import composites, exact, heads
from lrpref.baselines.score import Score
from lrpref.checks import whole
from lrpref.errors import BadInput
from lrpref.explanation import explain
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.plan import Plan

Z = 1.959963984540054
"""The normal distribution's 97.5 % point: 95 % lie within so many standard errors."""


@dataclass(frozen=True, eq=False)
class Flipping:
    """
    What became of the scores.

    Parameters
    ----------
    order : ndarray of int, shape (N, P)
        Each sample's patches, the most relevant first; numbered in row-major order.
    scores : ndarray, shape (N, K + 1)
        f(x^k), the score of each sample's class after the first k patches were perturbed, for k = 0 to K.
    """

    order: Array
    scores: Array

    @property
    def drops(self) -> Array:
        """What the scores have lost, f(x^0) - f(x^k), shape (N, K + 1)."""
        return self.scores[:, :1] - self.scores

    @property
    def aopc(self) -> Array:
        """Area over the perturbation curve: the mean over k = 0, ..., K of f(x^0) - f(x^k), shape (N,)."""
        drops = self.drops
        return np.asarray(drops.sum(axis=1) / exact.arithmetic_of(drops).number(drops.shape[1]))


class Estimate(NamedTuple):
    """
    A mean over images, and how well it is known.

    Parameters
    ----------
    mean : float
        The mean.
    error : float
        Half the width of its 95 % confidence interval, mean - error to mean + error.
    """

    mean: float
    error: float


class Effect(NamedTuple):
    """
    What a composite does at one value of its parameter.

    Parameters
    ----------
    value : number or str
        The parameter's value.
    aopc : ndarray, shape (N,)
        Area over the perturbation curve of each sample.
    negative : ndarray, shape (N,)
        Share of negative relevance of each sample.
    """

    value: Any
    aopc: Array
    negative: Array


def patches(size: Sequence[int], patch: int) -> Array:
    """
    Number the patches of an image in row-major order.

    Parameters
    ----------
    size : sequence of int
        (H, W), or (J,) for a vector.
    patch : int
        Size of a patch: p x p pixels, or p neighbours. The last ones are cut off at the border.

    Returns
    -------
    ndarray of int, of shape `size`
        The number of each pixel's patch.

    Raises
    ------
    BadInput
        If a patch is larger than the image.
    """
    if whole("patch", patch) > min(size):
        raise BadInput(f"patch is {patch}: at most {min(size)} is wanted, the shorter side of the input")
    counts = [-(-n // patch) for n in size]
    return np.asarray(np.ravel_multi_index(tuple(np.indices(size) // patch), counts))


def random_order(samples: int, count: int, seed: int = 0) -> Array:
    """
    Shuffle each sample's patches.

    Parameters
    ----------
    samples : int
        N, how many samples.
    count : int
        P, how many patches each has.
    seed : int
        Of the shuffling, at least 0.

    Returns
    -------
    ndarray of int, shape (N, P)
        An order for each sample; the n-th sample's does not depend on how many follow.

    Raises
    ------
    BadInput
        If there are no samples or patches, or the seed is negative.
    """
    seed, samples, count = whole("seed", seed, least=0), whole("samples", samples), whole("count", count)
    return np.stack([np.random.default_rng((seed, n)).permutation(count) for n in range(samples)])


def order(relevance: Any, patch: int = 4, seed: int = 0) -> Array:
    """
    Order patches by the relevance that they hold.

    Patches that hold the same are shuffled, as by `random_order`: an explanation that says nothing is a
    random order, and is not rewarded for where in the picture it starts.

    Parameters
    ----------
    relevance : array_like, shape (N, C, H, W) or (N, J)
        An explanation; channels are summed.
    patch : int
        Size of a patch.
    seed : int
        Of the shuffling.

    Returns
    -------
    ndarray of int, shape (N, P)
        Each sample's patches, the most relevant first.

    Raises
    ------
    BadInput
        If the relevance is not finite, or of another shape, or a patch is larger than the image.
    """
    R = _read(relevance)
    if R.ndim not in (2, 4):
        raise BadInput(f"relevance is of shape {R.shape}: (N, C, H, W) or (N, J) is wanted")
    pixels = R.sum(axis=1) if R.ndim > 2 else R
    numbers = patches(pixels.shape[1:], patch)
    count = int(numbers.max()) + 1
    sums = np.zeros((len(R), count))
    np.add.at(sums.T, numbers.ravel(), pixels.reshape(len(R), -1).T)
    shuffled = random_order(len(R), count, seed)
    ranks = np.argsort(-np.take_along_axis(sums, shuffled, axis=1), axis=1, kind="stable")
    return np.take_along_axis(shuffled, ranks, axis=1)


def _read(relevance: Any) -> Array:
    """Read an explanation of N samples, as floats."""
    R = _floats("relevance", relevance)
    if R.ndim < 2 or not len(R):
        raise BadInput(f"relevance is of shape {R.shape}: (N, ...) is wanted, one for each of N inputs")
    return R


def _floats(what: str, values: Any) -> Array:
    try:
        floats = exact.as_float(np.asarray(values))
    except (TypeError, ValueError):  # rows of different lengths, or no numbers at all
        said = " ".join(repr(values).split())
        raise BadInput(f"{what} is {said:.60}: an array of numbers is wanted") from None
    if not np.isfinite(floats).all():
        raise BadInput(f"{what} holds NaN or infinity: finite numbers are wanted")
    return floats


def _zero(x: Array, patch: int, seed: int) -> Array:
    return np.zeros_like(x)


def _mean(x: Array, patch: int, seed: int) -> Array:
    return np.broadcast_to(x.mean(axis=_pixels(x), keepdims=True), x.shape)


def _noise(x: Array, patch: int, seed: int) -> Array:
    low, high = (limit(x, axis=_pixels(x), keepdims=True) for limit in (np.min, np.max))
    # the same for every sample: none depends on the batch that it comes in
    uniform = np.random.default_rng(seed).random(x.shape[1:])
    return np.asarray(low + (high - low) * uniform)


def _blur(x: Array, patch: int, seed: int) -> Array:
    from scipy.ndimage import gaussian_filter

    sigma = [patch if axis in _pixels(x) else 0 for axis in range(x.ndim)]
    return np.asarray(gaussian_filter(x, sigma, mode="nearest"))


def _pixels(x: Array) -> tuple[int, ...]:
    """Name the axes along which the pixels of a batch lie."""
    return tuple(range(2 if x.ndim > 2 else 1, x.ndim))


PERTURBATIONS: dict[str, Callable[[Array, int, int], Array]] = {
    "zero": _zero, "mean": _mean, "noise": _noise, "blur": _blur,
}  # fmt: skip
"""
What a perturbed patch shows. `zero`: 0 in units of the preprocessed input, which mostly is the mean colour of
all data; `mean`: the picture's own mean colour; `noise`: uniform between each channel's darkest and brightest
pixel; `blur`: the picture under a Gaussian whose standard deviation is the patch's size.
"""


def pixel_flipping(
    network: Network,
    x: Any,
    relevance: Any = None,
    target: heads.Target = "max",
    *,
    patch: int = 4,
    perturbation: Any = "zero",
    steps: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Flipping:
    """
    Perturb patch after patch, the most relevant first, and look at the score.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, C, H, W) or (N, J)
        Preprocessed inputs.
    relevance : array_like, like x, optional
        An explanation by any method; patches are in random order without.
    target : int, sequence of int, or "max"
        The class whose score before softmax is looked at; "max" is settled on x.
    patch : int
        Size of the patch: p x p pixels, or p neighbours of a vector.
    perturbation : str or array_like
        What a perturbed patch shows: a name in `PERTURBATIONS`; or a number, numbers (C,) for the channels,
        one sample, or a batch like x, in units of the preprocessed input.
    steps : int, optional
        K, how many patches are perturbed; all unless given.
    seed : int
        Of random orders and of noise.
    **options
        `backend`, `dtype`, `batch`, `watch` of `Score.of`.

    Returns
    -------
    Flipping
        The orders and the scores.

    Raises
    ------
    BadInput
        If an argument does not fit, such as a patch larger than the image.
    """
    seed = whole("seed", seed, least=0)
    score = Score.of(network, x, target, **options)
    if relevance is not None and (given := _read(relevance).shape) != score.x.shape:
        raise BadInput(f"relevance is of shape {given}, wants the input's {score.x.shape}")
    numbers = patches(score.size(), patch)
    shown = _shown(score, perturbation, patch, seed)
    count = int(numbers.max()) + 1
    ordered = random_order(len(score.x), count, seed) if relevance is None else order(relevance, patch, seed)
    last = count if steps is None else whole("steps", steps)
    if last > count:
        raise BadInput(f"steps is {last}: at most {count} is wanted, the number of patches")
    turns = np.argsort(ordered, axis=1)[:, numbers]  # when each pixel's turn comes
    turns = turns[:, None] if score.x.ndim > 2 else turns  # in all channels at once
    return Flipping(ordered, np.stack(list(_scores(score, shown, turns, last)), axis=1))


def _shown(score: Score, perturbation: Any, patch: int, seed: int) -> Array:
    """Give what the patches show once they are perturbed, like x."""
    if not isinstance(perturbation, str):
        return score.like_x("perturbation", perturbation)
    if perturbation not in PERTURBATIONS:
        known = ", ".join(PERTURBATIONS)
        raise BadInput(f"unknown perturbation {perturbation!r:.60}: there are {known}, or an array like x")
    shown = PERTURBATIONS[perturbation](exact.as_float(score.x), patch, seed)
    return exact.get(score.dtype).array(shown)


def _scores(score: Score, shown: Array, turns: Array, last: int) -> Iterator[Array]:
    """Give all samples' scores after 0, 1, ..., last patches; as many at once as fit into a batch."""
    at_once = max(1, score.batch // len(score.x))
    for start in range(0, last + 1, at_once):
        some = range(start, min(start + at_once, last + 1))
        points = np.concatenate([np.where(turns < k, shown, score.x) for k in some])
        yield from score.values(points).reshape(len(some), -1)


def negative_share(relevance: Any) -> Array:
    """
    Tell how much of the relevance is negative.

    Parameters
    ----------
    relevance : array_like, shape (N, ...)
        An explanation.

    Returns
    -------
    ndarray of float64, shape (N,)
        Sum of the negative R_i divided by the sum of all, both in absolute value; 0 where all are 0.

    Raises
    ------
    BadInput
        If the relevance is not finite, or holds no samples.
    """
    R = _read(relevance)
    R = R.reshape(len(R), -1)
    total = abs(R).sum(axis=1)
    return np.asarray(np.maximum(-R, 0).sum(axis=1) / np.where(total > 0, total, 1))


def estimate(values: Any) -> Estimate:
    """
    Estimate a mean over images, and its 95 % confidence interval: +- 1.96 standard errors (normal).

    Parameters
    ----------
    values : array_like, shape (N,)
        A number for each image, such as `Flipping.aopc`, or its difference from a random order's.

    Returns
    -------
    Estimate
        The mean, and half the interval's width.

    Raises
    ------
    BadInput
        If there are fewer than 2, or one is not finite.
    """
    v = _floats("values", values)
    if v.ndim != 1 or len(v) < 2:
        raise BadInput(f"values are of shape {v.shape}: a number for each of at least 2 images is wanted")
    return Estimate(float(v.mean()), float(Z * v.std(ddof=1) / len(v) ** 0.5))


def sensitivity(
    network: Network,
    x: Any,
    composite: str,
    parameter: str,
    values: Sequence[Any],
    target: heads.Target = "max",
    *,
    backend: str = "numpy",
    dtype: str = "float64",
    **flipping: Any,
) -> Iterator[Effect]:
    """
    Vary one parameter of a composite, and look at the explanations.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    composite : str
        A name in `COMPOSITES`.
    parameter : str
        Which of its parameters, such as `gamma` or `eps`.
    values : sequence of number or str
        Its values, such as 0.25 or "0.25std".
    target : int, sequence of int, or "max"
        The class whose score is explained.
    backend, dtype : str
        Who computes, and in which arithmetic.
    **flipping
        `patch`, `perturbation` and the others of `pixel_flipping`.

    Yields
    ------
    Effect
        For each value, what comes of it.
    """
    for value in values:
        chosen = composites.get(composite, **{parameter: value})
        plan = Plan(network, chosen, backend=backend, dtype=dtype)
        R = explain(plan, x, target).relevance
        flipped = pixel_flipping(network, x, R, target, backend=backend, dtype=dtype, **flipping)
        yield Effect(value, flipped.aopc, negative_share(R))
