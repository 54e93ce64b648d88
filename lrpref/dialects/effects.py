"""What an option does to the rule or the layer of one node; options that are not here change nothing.

Every effect may be applied twice: what it makes, it leaves alone. So a result's rules, under the same
dialect, give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lrpref.dialects.deviations import (
    AlphaBetaRawBias,
    BySlope,
    Duplicate,
    GammaRawBias,
    GeneralizedGammaRawBias,
    Magnitude,
    WinnerEpsilon,
    WSquareWithBias,
    ZBoxWholeWeights,
    ZPlusRawBias,
)
from lrpref.dialects.graphs import Ruled, multiply_branches, nest_sums, pad_uneven, split_biases
from lrpref.errors import BadRule
from lrpref.layers import ELU, Activation, Layer, LeakyReLU, ReLU, Tanh
from lrpref.network import Network
from lrpref.rules import (
    AlphaBeta,
    Epsilon,
    Gamma,
    GeneralizedGamma,
    Pass,
    Rule,
    Stabilizer,
    WinnerTakeAll,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
    signed,
)

RuleEffect = Callable[[Layer, Rule], Rule]
LayerEffect = Callable[[Layer], Layer]
NetworkEffect = Callable[[Network, Mapping[str, Rule]], Ruled]


def _as(cls: type[Rule], rule: Rule) -> Rule:
    """Give a rule of this class with the rule's parameters, as far as it has them."""
    given = {f.name for f in fields(cls) if f.init}
    return cls(**{f.name: getattr(rule, f.name) for f in fields(rule) if f.name in given})


def _bare(cls: type[Rule], rule: Rule, **options: Any) -> Rule:
    """Give a rule of this class with the rule's stabilizer and no other of its parameters."""
    return cls(stabilizer=rule.stabilizer, **options)


@dataclass(frozen=True)
class _Instead:
    """One rule takes another's place, with its parameters."""

    old: type[Rule]
    new: type[Rule]

    def __call__(self, layer: Layer, rule: Rule) -> Rule:
        return _as(self.new, rule) if type(rule) is self.old else rule


@dataclass(frozen=True)
class _InTurn:
    """One effect after the other."""

    effects: tuple[RuleEffect, ...]

    def __call__(self, layer: Layer, rule: Rule) -> Rule:
        for effect in self.effects:
            rule = effect(layer, rule)
        return rule


@dataclass(frozen=True)
class _Everywhere:
    """Layers of one role have one rule, whatever is asked for; `pass` stays."""

    role: str
    new: type[Rule]

    def __call__(self, layer: Layer, rule: Rule) -> Rule:
        if layer.role != self.role or rule.passes or type(rule) is self.new:
            return rule
        return _bare(self.new, rule)


@dataclass(frozen=True)
class _WithoutWeights:
    """Layers of one role have no weights: rules that take parts of the weights take them whole."""

    role: str

    def __call__(self, layer: Layer, rule: Rule) -> Rule:
        if layer.role != self.role:
            return rule
        if isinstance(rule, ZBox):
            return _as(ZBoxWholeWeights, rule)
        return _bare(Zero, rule) if isinstance(rule, Gamma | AlphaBeta) else rule


def _unsigned(layer: Layer, rule: Rule) -> Rule:
    """Give the stabilizer no sign; LRP-0 and the epsilon rule are one rule with it."""
    stabilizer = rule.stabilizer
    if stabilizer.kind == "relative":
        raise BadRule("a relative stabilizer is not there, or looks at the whole batch: not modelled here")
    if rule.passes or rule.selects:
        return rule
    changed = Stabilizer("unsigned", stabilizer.value)
    if isinstance(rule, Zero):
        return Epsilon(changed, bias=rule.bias)
    return rule.with_options(stabilizer=changed)


@dataclass(frozen=True)
class _Fixed:
    """An eps that only LRP-0 and the epsilon rule can change."""

    eps: float

    def __call__(self, layer: Layer, rule: Rule) -> Rule:
        if isinstance(rule, Zero) or rule.passes or rule.selects:
            return rule
        return rule.with_options(stabilizer=signed(self.eps))


def _z_plus_raw_bias(layer: Layer, rule: Rule) -> Rule:
    one_zero = isinstance(rule, AlphaBeta) and rule.beta == 0
    return _as(ZPlusRawBias, rule) if one_zero and type(rule) is not ZPlusRawBias else rule


def _z_plus_without_bias(layer: Layer, rule: Rule) -> Rule:
    return rule.with_options(bias="ignore") if type(rule) is ZPlus else rule


def _cut_off(layer: Layer, rule: Rule) -> Rule:
    return _bare(Zero, rule) if isinstance(rule, Gamma) and rule.gamma <= 0.01 else rule


def _no_beta(layer: Layer, rule: Rule) -> Rule:
    if isinstance(rule, AlphaBeta) and rule.beta != 0:
        raise BadRule(f"there is no rule '{rule}' but alpha-beta(1,0)")
    return rule


def _passed_norm(layer: Layer, rule: Rule) -> Rule:
    return Pass() if layer.role == "norm" else rule


def _unknown_norm(layer: Layer, rule: Rule) -> Rule:
    if layer.role == "norm":
        raise BadRule("batch norms have a form of their own, which is not modelled here")
    return rule


@dataclass(frozen=True)
class _WinnerEpsilon:
    """Max pooling under the epsilon rule, with the eps of LRP-0 or LRP-eps where it is asked for."""

    keeps: bool
    """Whether winner-take-all stays what it is."""

    def __call__(self, layer: Layer, rule: Rule) -> Rule:
        other = layer.role != "max-pooling" or rule.passes or type(rule) is WinnerEpsilon
        if other or (self.keeps and rule.selects):
            return rule
        return WinnerEpsilon(stabilizer=rule.stabilizer if isinstance(rule, Zero) else signed(1e-9))


@dataclass(frozen=True)
class _MaxPooling:
    """One rule for max pooling, whatever is asked for."""

    made: Rule

    def __call__(self, layer: Layer, rule: Rule) -> Rule:
        return self.made if layer.role == "max-pooling" and not rule.passes else rule


def _relu_and_tanh(layer: Layer) -> Layer:
    if isinstance(layer, Activation) and not isinstance(layer, ReLU | Tanh):
        raise BadRule(f"modules of kind {layer.kind} are refused")
    return layer


def _slope(layer: Layer) -> Layer:
    return BySlope(layer) if isinstance(layer, Activation) else layer


def _average_slope(layer: Layer) -> Layer:
    return BySlope(layer) if layer.role == "average-pooling" else layer


def _leaky_slope(layer: Layer) -> Layer:
    return _slope(layer) if isinstance(layer, LeakyReLU | ELU) else layer


RULE_EFFECTS: dict[tuple[str, str], RuleEffect] = {
    # The eps belongs to the rule that is asked for, the bias that D4 treats to the formula that D5 chooses.
    ("D7", "absent"): _no_beta,
    ("D2", "1e-9"): _Fixed(1e-9),
    ("D5", "generalized"): _Instead(Gamma, GeneralizedGamma),
    ("D5", "simple"): _Instead(GeneralizedGamma, Gamma),
    ("D5", "cut-off"): _cut_off,
    ("D14", "first"): _MaxPooling(WinnerTakeAll()),
    ("D14", "split"): _MaxPooling(WinnerTakeAll("split")),
    ("D14", "first-epsilon"): _WinnerEpsilon(keeps=False),
    ("D14", "first-or-epsilon"): _WinnerEpsilon(keeps=True),
    ("D14", "average"): _Everywhere("max-pooling", Zero),
    ("D15", "proportional"): _WithoutWeights("average-pooling"),
    ("D16", "passed"): _passed_norm,
    ("D16", "fused"): _unknown_norm,
    ("D17", "proportional"): _WithoutWeights("sum"),
    ("D17", "module"): _WithoutWeights("sum"),
    ("D17", "magnitude"): _Everywhere("sum", Magnitude),
    ("D17", "duplicated"): _Everywhere("sum", Duplicate),
    ("D4", "untouched"): _InTurn((
        _Instead(Gamma, GammaRawBias), _Instead(GeneralizedGamma, GeneralizedGammaRawBias),
    )),
    ("D6", "no-bias"): _z_plus_without_bias,
    ("D6", "raw-bias-unclamped"): _z_plus_raw_bias,
    ("D7", "raw"): _Instead(AlphaBeta, AlphaBetaRawBias),
    ("D11", "bias-squared"): _Instead(WSquare, WSquareWithBias),
    ("D1", "unsigned"): _unsigned,
    ("D1", "batch"): _unsigned,
}  # fmt: skip
"""By dimension and option, in the order in which they are applied: what becomes of a linear node's rule."""

NETWORK_EFFECTS: dict[tuple[str, str], NetworkEffect] = {
    ("D12", "uneven-is-explicit"): pad_uneven,
    ("D17", "magnitude"): nest_sums,
    ("D17", "module"): multiply_branches,
    ("D3", "split"): split_biases,
}
"""By dimension and option, in the order in which they are applied: what becomes of the graph."""

NORM_RULES: dict[str, Rule] = {
    **dict.fromkeys(("folded-behind", "folded-keeps-eps", "passed", "fused"), Pass()),
    "own-layer": Epsilon(1e-9),
}
"""By D16's option: the rule of a batch norm that stays and is given none."""

LAYER_EFFECTS: dict[tuple[str, str], LayerEffect] = {
    ("D15", "gradient"): _average_slope,
    ("D19", "relu-and-tanh"): _relu_and_tanh,
    ("D19", "leaky-by-gradient"): _leaky_slope,
    ("D19", "gradient"): _slope,
}
"""By dimension and option: what becomes of a layer; one that is replaced takes no rule."""
