"""What other libraries compute where it is none of the chapter's rules.

Each is the chapter's rule with something changed in its shares, and says so in its name. They exist to
reproduce a library's result and to name the difference; none is a recommendation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from lrpref.kernels.operations import Array, Part
from lrpref.kernels.signs import ones_like, positive
from lrpref.layers import Layer, Shape
from lrpref.rules import (
    AlphaBeta,
    Gamma,
    GeneralizedGamma,
    Rule,
    Share,
    WinnerTakeAll,
    WSquare,
    ZBox,
    ZPlus,
)


class Deviation(Rule):
    """Base of the rules that are some library's, and not the chapter's."""


@dataclass(frozen=True)
class GammaRawBias(Gamma, Deviation):
    """gamma with b in the place of b + gamma b+ (D4)."""

    name: ClassVar[str] = "gamma-raw-bias"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [replace(share, b=b) for share in super().shares(a, w, b)]


@dataclass(frozen=True)
class GeneralizedGammaRawBias(GeneralizedGamma, Deviation):
    """generalized-gamma with b in the place of b + gamma b+ and b + gamma b- (D4)."""

    name: ClassVar[str] = "generalized-gamma-raw-bias"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [replace(share, b=b) for share in super().shares(a, w, b)]


@dataclass(frozen=True)
class ZPlusRawBias(ZPlus, Deviation):
    """a w+ / (sum a w+ + b): neither a nor b is clamped (D6)."""

    name: ClassVar[str] = "z-plus-raw-bias"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(a, positive(w))], b)]


@dataclass(frozen=True)
class AlphaBetaRawBias(AlphaBeta, Deviation):
    """alpha-beta with the whole b in both parts (D7)."""

    name: ClassVar[str] = "alpha-beta-raw-bias"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [replace(share, b=b) for share in super().shares(a, w, b)]


@dataclass(frozen=True)
class WSquareWithBias(WSquare, Deviation):
    """w^2 / (sum w^2 + b^2) (D11)."""

    name: ClassVar[str] = "w2-with-bias"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [replace(share, b=b * b) for share in super().shares(a, w, b)]


@dataclass(frozen=True)
class ZBoxWholeWeights(ZBox, Deviation):
    """z-box with w in the place of w+ and w-: a layer without weights has nothing to split (D15)."""

    name: ClassVar[str] = "z-box-whole-weights"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        ((_, _), (low, _), (high, _)) = super().shares(a, w, b)[0].terms
        return [Share([(a, w), (low, -w), (high, -w)], None)]


@dataclass(frozen=True)
class WinnerEpsilon(WinnerTakeAll, Deviation):
    """The winner receives R a / (a + eps sign(a)): nothing where the maximum is 0 (D14)."""

    name: ClassVar[str] = "winner-epsilon"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(a, w)], None)]


@dataclass(frozen=True)
class Magnitude(Deviation):
    """R_j in proportion to |a_j|, for sums of branches (D17)."""

    name: ClassVar[str] = "magnitude"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(abs(a), abs(w))], None)]


@dataclass(frozen=True)
class Duplicate(Deviation):
    """All of R to each of the summands (D17): what is more than R leaves the books open."""

    name: ClassVar[str] = "duplicate"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(ones_like(a), ones_like(w))], None, coefficient=len(w))]


DEVIATIONS: dict[str, type[Rule]] = {
    cls.name: cls
    for cls in (
        GammaRawBias, GeneralizedGammaRawBias, ZPlusRawBias, AlphaBetaRawBias, WSquareWithBias,
        ZBoxWholeWeights, WinnerEpsilon, Magnitude, Duplicate,
    )
}  # fmt: skip
"""Every deviation by its name."""


@dataclass(frozen=True)
class BySlope(Layer):
    """
    A layer under the gradient: relevance is multiplied with the slopes (D15, D19).

    Parameters
    ----------
    layer : Layer
        An activation, or an average pooling.
    """

    layer: Layer

    @property
    def kind(self) -> str:
        """Name of the layer's class."""
        return self.layer.kind

    @property
    def way(self) -> str:
        """How relevance goes through."""
        return "slope"

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.layer.output_shape(*shapes)

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return self.layer.forward(kernels, *inputs)

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        return self.layer.gradient(kernels, inputs, g)

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return self.layer.nonnegative(inputs)

    def handed(
        self, kernels: Any, inputs: Sequence[Array], R: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        (part,) = self.layer.gradient(kernels, inputs, R)
        rest = [R.reshape(len(R), -1), -part.reshape(len(R), -1)]
        return [part], {"dropped": np.concatenate(rest, axis=1)}
