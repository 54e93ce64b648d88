"""The rules of Appendix 10.A: each says which terms (p, w) enter the four steps, and nothing else.

A rule is a small frozen dataclass with one method, `shares(a, w, b)`. A share is a list of terms
with one bias, one coefficient and, for the generalized gamma rule, a gate on R. The engine runs the
four steps over the shares (`lrpref.engine`). The weights w and b are arrays; a stands for lower
activations that are not there yet, so that a plan can prepare the weights once. To write a rule of
your own, subclass `Rule`:

>>> from dataclasses import dataclass
>>> import numpy as np
>>> from lrpref import relprop
>>> from lrpref.layers import Dense
>>> from lrpref.rules import Rule, Share
>>> @dataclass(frozen=True)
... class Magnitude(Rule):
...     def shares(self, a, w, b):
...         return [Share([(abs(a), abs(w))], abs(b))]
>>> layer = Dense(np.array([[3.0, -1.0]]), np.array([0.0]))
>>> relprop(layer, Magnitude(), np.array([[1.0, 1.0]]), np.array([[8.0]])).relevance
array([[6., 2.]])
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, ClassVar, NoReturn, Self

import numpy as np

from lrpref.checks import nonnegative
from lrpref.errors import BadRule
from lrpref.kernels.operations import Array, Part, Term
from lrpref.kernels.signs import negative, ones_like, positive

BIAS_MODES = ("absorb", "ignore", "redistribute")


@dataclass(frozen=True)
class Stabilizer:
    """
    What is added to a denominator z.

    Parameters
    ----------
    kind : {"signed", "unsigned", "relative"}
        `signed`: eps sign(z), sign(0) = +1. `unsigned`: the chapter's literal + eps. `relative`:
        signed, eps being `value` times the root mean square of the share's own z over all units of
        the node, per sample.
    value : float
        eps in the unit of z; for `relative` a factor without unit. At least 0.

    Raises
    ------
    BadRule
        If the kind is unknown or the value is not a finite number >= 0.
    """

    kind: str
    value: Any

    def __post_init__(self) -> None:
        if self.kind not in ("signed", "unsigned", "relative"):
            raise BadRule(f"unknown stabilizer {self.kind!r}: there are signed, unsigned and relative")
        nonnegative("eps of a stabilizer", self.value, BadRule)

    def __str__(self) -> str:
        return f"{self.value}std" if self.kind == "relative" else f"{self.kind}({self.value})"


def signed(eps: float) -> Stabilizer:
    """
    Stabilize by eps sign(z), with sign(0) = +1.

    Parameters
    ----------
    eps : float
        In the unit of z.

    Returns
    -------
    Stabilizer
        The stabilizer.
    """
    return Stabilizer("signed", eps)


def unsigned(eps: float) -> Stabilizer:
    """
    Stabilize by + eps, as the chapter's formula is written.

    Parameters
    ----------
    eps : float
        In the unit of z.

    Returns
    -------
    Stabilizer
        The stabilizer.
    """
    return Stabilizer("unsigned", eps)


def relative(factor: float) -> Stabilizer:
    """
    Stabilize by factor * RMS(z) sign(z), per sample: the chapter's "0.25 std".

    Parameters
    ----------
    factor : float
        Without unit.

    Returns
    -------
    Stabilizer
        The stabilizer.
    """
    return Stabilizer("relative", factor)


NOTHING = signed(0)


@dataclass(frozen=True)
class Share:
    """
    One pass of the four steps: z = sum over terms of forward(p, w) + b, and R_j in proportion.

    Parameters
    ----------
    terms : sequence of (p, w)
        p a part of the input, or numbers that broadcast to it; w like the weights.
    b : ndarray or None
        Bias, like the layer's; None is 0.
    coefficient : number
        What the share's relevance is multiplied with: 1, alpha, or -beta.
    gate : {0, 1, -1}
        The share receives R_k only where the layer's own z_k has this sign; 0: everywhere.
    """

    terms: Sequence[Term]
    b: Array | None
    coefficient: Any = 1
    gate: int = 0


@dataclass(frozen=True)
class Rule:
    """
    Base of all rules.

    Parameters
    ----------
    stabilizer : Stabilizer
        Added to the denominator of every share.
    bias : {"absorb", "ignore", "redistribute"}
        `absorb`: the bias takes its part, which is booked. `ignore`: b = 0 in the shares (gates look
        at the layer's true z). `redistribute`: the bias's part goes to the connected inputs in equal
        parts, and its account is 0.
    """

    stabilizer: Stabilizer = field(default=NOTHING, kw_only=True)
    bias: str = field(default="absorb", kw_only=True)

    name: ClassVar[str] = ""
    passes: ClassVar[bool] = False
    """Whether relevance passes unchanged, without the four steps."""

    def __post_init__(self) -> None:
        if not isinstance(self.stabilizer, Stabilizer):
            raise BadRule(
                f"stabilizer is {self.stabilizer!r}: signed(eps), unsigned(eps) or relative(f) wanted"
            )
        for f in fields(self):
            if isinstance(value := getattr(self, f.name), np.generic):
                object.__setattr__(self, f.name, value.item())
        if self.bias not in BIAS_MODES:
            raise BadRule(f"unknown bias treatment {self.bias!r}: there are {', '.join(BIAS_MODES)}")

    @property
    def selects(self) -> str:
        """How ties are resolved, for a rule that sees the winners of max pooling; else empty."""
        return ""

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        """
        Say which terms enter the sums.

        Asked before any input is there, and more than once: the answer depends on w, b and the rule alone.

        Parameters
        ----------
        a : Part
            Stands for the lower activations: `positive(a)`, `negative(a)`, `ones_like(a)`, and whatever
            NumPy's universal functions compute of it, such as `abs(a)` or `a * (a > 1)`.
        w : ndarray
            Weights.
        b : ndarray
            Bias, broadcastable to z; zeros where the layer has none.

        Returns
        -------
        list of Share
            One share, or two.
        """
        raise NotImplementedError

    def admits(self, a: Array) -> bool:
        """
        Tell whether the rule is meant for such activations.

        Parameters
        ----------
        a : ndarray, shape (N, ...)
            Lower activations.

        Returns
        -------
        bool
            False where they lie outside the rule's bounds (`ZBox`).
        """
        return True

    def proportional(self) -> Rule:
        """
        Give the rule for a sum of branches: in proportion to the summands, with this stabilizer.

        Returns
        -------
        Rule
            LRP-0 with this rule's stabilizer; a sum has no bias.
        """
        return Zero(stabilizer=self.stabilizer)

    def with_options(self, **options: Any) -> Self:
        """
        Give the same rule with other options.

        Parameters
        ----------
        **options
            `stabilizer`, `bias`, or a parameter of the rule.

        Returns
        -------
        Rule
            The new rule.
        """
        return replace(self, **options)

    def __str__(self) -> str:
        texts = [_text(value) for value in self._parameters()]
        if self.stabilizer != NOTHING and "eps" not in vars(self):
            texts.append(f"stabilizer={self.stabilizer}")
        if self.bias != "absorb":
            texts.append(f"bias={self.bias}")
        name = self.name or type(self).__name__
        return f"{name}({','.join(texts)})" if texts else name

    def _parameters(self) -> list[Any]:
        """Give what stands in the parentheses of the rule's name."""
        return [getattr(self, f.name) for f in fields(self) if f.init and not f.kw_only]


def _text(value: Any) -> str:
    return str(value.tolist()).replace(" ", "") if isinstance(value, np.ndarray) else str(value)


@dataclass(frozen=True)
class Zero(Rule):
    """
    LRP-0: R_j = sum_k a_j w_kj / (sum_{0,j} a_j w_kj) R_k.

    Conserves sum R less the bias's part. Montavon et al. 2019, Section 10.2.1 and Appendix 10.A.
    """

    name: ClassVar[str] = "zero"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(a, w)], b)]


@dataclass(frozen=True)
class Epsilon(Zero):
    """
    LRP-eps: LRP-0 with eps in the denominator, which absorbs R where contributions are weak.

    Montavon et al. 2019, Section 10.2.1 and Appendix 10.A.

    Parameters
    ----------
    eps : float or Stabilizer
        A number is `signed(eps)`; `relative(0.25)` is the chapter's 0.25 std.
    """

    eps: Any = 1e-6

    name: ClassVar[str] = "epsilon"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stabilizer != NOTHING and self.stabilizer != self.eps:
            raise BadRule("rule 'epsilon' has its stabilizer in eps: give one, not both")
        eps = self.eps if isinstance(self.eps, Stabilizer) else signed(self.eps)
        object.__setattr__(self, "eps", eps)
        object.__setattr__(self, "stabilizer", eps)

    def __str__(self) -> str:
        return re.sub(r"\(signed\(([^)]*)\)", r"(\1", super().__str__())


@dataclass(frozen=True)
class Gamma(Rule):
    """
    LRP-gamma: LRP-0 with w + gamma w+; for a >= 0 and R_k = 0 where z_k <= 0.

    Montavon et al. 2019, Section 10.2.1 and Appendix 10.A.

    Parameters
    ----------
    gamma : float
        How much positive contributions are favoured, at least 0.
    """

    gamma: Any = 0.25

    name: ClassVar[str] = "gamma"

    def __post_init__(self) -> None:
        super().__post_init__()
        nonnegative("gamma", self.gamma, BadRule)

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(a, w + self.gamma * positive(w))], b + self.gamma * positive(b))]


@dataclass(frozen=True)
class GeneralizedGamma(Gamma):
    """
    Generalized LRP-gamma: favours the contributions that have the sign of z, for inputs of any sign.

    Where z > 0: R_j = sum_k (a_j+ (w + g w+) + a_j- (w + g w-)) / (the sum of these, b + g b+) R_k;
    where z < 0 the parts of w change places, with b + g b-.

    Equal to `Gamma` where a >= 0 and R_k = 0 wherever z_k <= 0. R_k is dropped where z_k = 0.
    """

    name: ClassVar[str] = "generalized-gamma"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        shares = []
        for part, other, gate in ((positive, negative, 1), (negative, positive, -1)):
            same, opposite = w + self.gamma * part(w), w + self.gamma * other(w)
            terms = [(positive(a), same), (negative(a), opposite)]
            shares.append(Share(terms, b + self.gamma * part(b), gate=gate))
        return shares


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """
    LRP-alpha-beta: alpha R in proportion to (a w)+, minus beta R in proportion to (a w)-.

    Montavon et al. 2019, Appendix 10.A. A neuron whose contributions all have one sign conserves
    alpha R or -beta R only; the other part is booked under dropped.

    Parameters
    ----------
    alpha : float
        At least 0.
    beta : float
        At least 0, and alpha - beta = 1.
    """

    alpha: Any = 2
    beta: Any = 1

    name: ClassVar[str] = "alpha-beta"

    def __post_init__(self) -> None:
        super().__post_init__()
        nonnegative("alpha", self.alpha, BadRule)
        nonnegative("beta", self.beta, BadRule)
        if abs(self.alpha - self.beta - 1) * 10**9 > 1:  # 2.3 - 1.3 is not 1 in floating point
            raise BadRule(f"alpha - beta is {self.alpha} - {self.beta}: 1 is wanted, or R is not conserved")

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        shares = []
        minus_beta = 1 - self.alpha  # to the last digit, so that the books close exactly
        for q, part, other in ((self.alpha, positive, negative), (minus_beta, negative, positive)):
            if q != 0:
                terms = [(positive(a), part(w)), (negative(a), other(w))]
                shares.append(Share(terms, part(b), coefficient=q))
        return shares


@dataclass(frozen=True)
class ZPlus(AlphaBeta):
    """z-plus: alpha-beta with (1, 0), the bias's positive part in the denominator."""

    alpha: Any = field(default=1, init=False)
    beta: Any = field(default=0, init=False)

    name: ClassVar[str] = "z-plus"


@dataclass(frozen=True)
class Flat(Rule):
    """flat: R_j = sum_k 1 / (sum_j 1) R_k, over the inputs in the image. Appendix 10.A."""

    name: ClassVar[str] = "flat"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(ones_like(a), ones_like(w))], None)]


@dataclass(frozen=True)
class WSquare(Rule):
    """w^2: R_i = sum_j w_ij^2 / (sum_i w_ij^2) R_j, for unbounded inputs. Appendix 10.A."""

    name: ClassVar[str] = "w2"

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(ones_like(a), w * w)], None)]


@dataclass(frozen=True)
class ZBox(Rule):
    """
    z^B: R_i in proportion to x_i w_ij - l_i w_ij+ - h_i w_ij-, for pixels. Appendix 10.A.

    Parameters
    ----------
    low : array_like
        Lowest values l of the input, one or one per channel.
    high : array_like
        Highest values h.

    Raises
    ------
    BadRule
        If l > h anywhere.
    """

    low: Any = None
    high: Any = None

    name: ClassVar[str] = "z-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low is None or self.high is None:
            raise BadRule(
                "rule 'z-box' needs bounds: z-box(low,high), a network with preprocessing, or a composite "
                "without it, such as epsilon-plus"
            )
        low, high = np.asarray(self.low), np.asarray(self.high)
        for bound in (low, high):
            if bound.dtype.kind not in "fiuO" or (bound.dtype.kind != "O" and not np.isfinite(bound).all()):
                raise BadRule(f"z-box has the bound {_text(bound)}: finite numbers are wanted")
        if (low > high).any():
            raise BadRule(f"z-box has low > high: {_text(low)} > {_text(high)}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZBox) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        low, high = (_per_channel(bound, a.shape) for bound in (self.low, self.high))
        return [Share([(a, w), (low, -positive(w)), (high, -negative(w))], None)]

    def admits(self, a: Array) -> bool:
        low, high = (_per_channel(bound, a.shape[1:]) for bound in (self.low, self.high))
        return bool(((low <= a) & (a <= high)).all())


def _per_channel(bound: Array, shape: tuple[int, ...]) -> Array:
    """Shape a bound () or (C,) or (C, H, W) like one sample (C, H, W) of the input."""
    column = bound.reshape(-1, *[1] * (len(shape) - 1)) if bound.ndim == 1 else bound
    try:
        return np.broadcast_to(column, shape)
    except ValueError:
        raise BadRule(f"z-box has bounds of shape {bound.shape} for an input {shape}") from None


@dataclass(frozen=True)
class Pass(Rule):
    """Relevance passes unchanged, where input and output have one shape."""

    name: ClassVar[str] = "pass"
    passes: ClassVar[bool] = True


@dataclass(frozen=True)
class WinnerTakeAll(Rule):
    """
    Winner-take-all for max pooling: the maximum receives all. Section 10.3.2.

    Parameters
    ----------
    ties : {"first", "split"}
        Among equal maxima the first in row-major order, or equal parts.
    """

    ties: str = "first"

    name: ClassVar[str] = "winner-take-all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ties not in ("first", "split"):
            raise BadRule(f"unknown ties {self.ties!r} of winner-take-all: there are first and split")

    @property
    def selects(self) -> str:
        return self.ties

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(ones_like(a), w)], None)]

    def _parameters(self) -> list[Any]:
        return [] if self.ties == "first" else [self.ties]


RULES: dict[str, type[Rule]] = {
    cls.name: cls
    for cls in (
        Zero, Epsilon, Gamma, GeneralizedGamma, AlphaBeta, ZPlus, Flat, WSquare, ZBox, Pass, WinnerTakeAll,
    )
}  # fmt: skip

_STABILIZERS: dict[str, Callable[[float], Stabilizer]] = {
    "signed": signed, "unsigned": unsigned, "relative": relative,
}  # fmt: skip


LONGEST = 10_000_000
"""Characters of the longest rule that is read: a z-box with a bound for each pixel."""


def parse(
    text: str, box: tuple[Array, Array] | None = None, known: Mapping[str, type[Rule]] = RULES
) -> Rule:
    """
    Read a rule by name: `gamma(0.25)`, `epsilon(0.25std)`, `alpha-beta(2,1,stabilizer=signed(1e-6))`.

    Parameters
    ----------
    text : str
        As `str(rule)` writes it; parameters that are left out take their defaults.
    box : (low, high), optional
        The bounds of a `z-box` without parameters.
    known : mapping of str to type of Rule
        The rules by name.

    Returns
    -------
    Rule
        The rule.

    Raises
    ------
    BadRule
        If there is no such rule, or a parameter is wrong.
    """
    if not isinstance(text, str) or len(text) > (LONGEST if "z-box" in str(text)[:99] else 1000):
        raise BadRule(f"a rule's name is wanted, such as gamma(0.25); got {str(text)[:60]!r}...")
    match = re.fullmatch(r"\s*([a-z0-9-]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if not match or match[1] not in known:
        raise BadRule(f"unknown rule {text!r}: there are {', '.join(known)}")
    name, arguments = match[1], re.sub(r"([0-9.eE+-]+)std\b", r"relative(\1)", match[2] or "")
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            _fail()
        args = [_value(node) for node in call.args]
        options = {str(k.arg): _value(k.value) for k in call.keywords}
        if name == "z-box" and not args and box is not None:
            args = list(box)
        return known[name](*args, **options)
    except (SyntaxError, ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        raise BadRule(f"cannot read rule {text!r}: wanted is for example {_example(name)}") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        return _STABILIZERS[node.func.id](_value(node.args[0])) if node.func.id in _STABILIZERS else _fail()
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # a fraction, as str() writes it
        return Fraction(ast.literal_eval(node.left), ast.literal_eval(node.right))
    return ast.literal_eval(node)


def _fail() -> NoReturn:
    raise ValueError


def _example(name: str) -> str:
    return {
        "epsilon": "epsilon(1e-6) or epsilon(0.25std)",
        "gamma": "gamma(0.25)",
        "generalized-gamma": "generalized-gamma(0.25)",
        "alpha-beta": "alpha-beta(2,1)",
        "z-box": "z-box(-1,1) or z-box([-2.1,-2.0,-1.8],[2.2,2.4,2.6])",
        "winner-take-all": "winner-take-all(split)",
    }.get(name, name)
