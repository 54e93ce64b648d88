"""Occlusion: how much of the score is lost when a patch of the input is covered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lrpref import exact, heads
from lrpref.baselines.score import Score
from lrpref.checks import whole
from lrpref.errors import BadInput
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import zeros, zeros_like
from lrpref.network import Network

Place = tuple[Any, ...]
"""A patch: a slice for each axis of the image."""


def occlusion(
    network: Network,
    x: Any,
    target: heads.Target = "max",
    *,
    patch: int | tuple[int, ...] = 4,
    stride: int | tuple[int, ...] | None = None,
    fill: Any = 0,
    **options: Any,
) -> Array:
    """
    Cover patch after patch, and give each pixel the mean of f(x) - f(covered) over the patches that hold it.

    Zeiler and Fergus 2014, ECCV; where patches overlap averaged as in Zintgraf et al. 2017, ICLR. A patch
    covers all channels; they share its pixel's relevance equally, so that the sum over channels is the score
    lost. Nothing is conserved.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, C, H, W) or (N, J)
        Preprocessed inputs.
    target : int, sequence of int, or "max"
        The class whose score before softmax is explained; "max" is settled with nothing covered.
    patch : int or (down, right)
        Size of the patch, in pixels; of a vector (J,) so many neighbours.
    stride : int or (down, right), optional
        How far the patch moves, the patch's size unless given. The last ones are cut off at the border.
    fill : array_like
        What the patch shows: a number, numbers (C,) for the channels, one sample, or a batch like x. In
        units of the preprocessed input, where 0 is the mean colour.
    **options
        `backend`, `dtype`, `batch`, `watch` of `Score.of`.

    Returns
    -------
    ndarray, like x
        Relevance, in the unit of the score.

    Raises
    ------
    BadInput
        If an argument does not fit, such as a patch larger than the image.
    """
    score = Score.of(network, x, target, **options)
    size = score.size()
    extent = _sides("patch", patch, size, "the input")
    steps = extent if stride is None else _sides("stride", stride, extent, "the patch")
    cover = score.like_x("fill", fill)
    whole_score = score.values(score.x)
    lost, times = zeros_like(score.x), zeros(size, score.x)
    windows = list(_windows(size, extent, steps))
    at_once = max(1, score.batch // len(score.x))
    for start in range(0, len(windows), at_once):
        some = windows[start : start + at_once]
        covered = np.concatenate([_covered(score.x, cover, window) for window in some])
        losses = np.tile(whole_score, len(some)) - score.values(covered)
        for window, loss in zip(some, np.split(losses, len(some)), strict=True):
            lost[(..., *window)] += loss.reshape(-1, *[1] * (score.x.ndim - 1))
            times[window] += 1
    channels = score.x.shape[1] if score.x.ndim > 2 else 1
    return lost / (times * exact.get(score.dtype).number(channels))


def _covered(x: Array, cover: Array, window: Place) -> Array:
    place = (..., *window)
    covered = x.copy()
    covered[place] = cover[place]
    return covered


def _sides(what: str, value: Any, most: tuple[int, ...], whose: str) -> tuple[int, ...]:
    """Read one whole number, or one per axis, each from 1 to `most`."""
    sides = tuple(value) if isinstance(value, tuple | list) else (value,) * len(most)
    if len(sides) != len(most):
        raise BadInput(f"{what} is {value!r:.60}: one whole number is wanted, or {len(most)}")
    sides = tuple(whole(what, side) for side in sides)
    if any(side > limit for side, limit in zip(sides, most, strict=True)):
        said, limits = (" x ".join(map(str, numbers)) for numbers in (sides, most))
        raise BadInput(f"{what} is {said}: at most {limits} is wanted, the size of {whose}")
    return sides


def _windows(
    size: tuple[int, ...], extent: tuple[int, ...], steps: tuple[int, ...]
) -> Iterator[Place]:
    """Walk over the patches in row-major order, until every pixel has been in one."""
    counts = [-(-(n - e) // s) + 1 for n, e, s in zip(size, extent, steps, strict=True)]
    for place in np.ndindex(*counts):
        yield tuple(slice(i * s, i * s + e) for i, s, e in zip(place, steps, extent, strict=True))
