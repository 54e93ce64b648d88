"""Seeded faults: does the suite notice? Each changes one line of ours for a while.

A fault is data: the function, the text that stands there, and the text that is put in its place. The changed
function is compiled from its own source and takes the sound one's place while the fault is active; nothing
of ours knows of it. A vector catches a fault if anything that `self_check.differences` compares is then
beyond its bound, or if it cannot be computed any more.
"""

from __future__ import annotations

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from lrpref import engine, explanation, layers, rules
from lrpref.conformance.self_check import differences
from lrpref.conformance.suite import Vector
from lrpref.kernels import operations, reference


@dataclass(frozen=True)
class Fault:
    """
    One wrong line.

    Parameters
    ----------
    what : str
        What is wrong, in words.
    owner : class or module
        Where the function is looked up.
    function : str
        Its name.
    sound : str
        What stands there; exactly once.
    faulty : str
        What is put in its place.
    """

    what: str
    owner: Any
    function: str
    sound: str
    faulty: str

    @property
    def place(self) -> str:
        """Where the function stands: its module and name."""
        function = vars(self.owner)[self.function]
        return f"{function.__module__.removeprefix('lrpref.')}.{function.__qualname__}"

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """
        Put the fault in for a while.

        Yields
        ------
        None
            Nothing.
        """
        function = vars(self.owner)[self.function]
        setattr(self.owner, self.function, self._changed(function))
        try:
            yield
        finally:
            setattr(self.owner, self.function, function)

    def _changed(self, function: FunctionType) -> Any:
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.sound) != 1:
            raise ValueError(f"{self.place} has not one {self.sound!r}: fault '{self.what}' is out of date")
        made: dict[str, Any] = {}
        exec(source.replace(self.sound, self.faulty), function.__globals__, made)
        return made[self.function]


@dataclass(frozen=True)
class Catch:
    """
    Which vectors notice a fault.

    Parameters
    ----------
    fault : Fault
        The fault.
    off : tuple of str
        The vectors with a wrong number, by id.
    broken : tuple of str
        The vectors that could not be computed any more.
    """

    fault: Fault
    off: tuple[str, ...]
    broken: tuple[str, ...]


def run(vectors: Sequence[Vector], watch: Callable[[Fault], None] | None = None) -> list[Catch]:
    """
    Seed every fault, and see which vectors notice.

    Parameters
    ----------
    vectors : sequence of Vector
        The suite; without a fault each is within its bounds.
    watch : callable, optional
        Called with each fault when it has been tried.

    Returns
    -------
    list of Catch
        One for each of `FAULTS`, in order.
    """
    catches = []
    for fault in FAULTS:
        with fault.seeded():
            found = [(vector.id, _outcome(vector)) for vector in vectors]
        off, broken = (tuple(i for i, outcome in found if outcome == what) for what in ("off", "broken"))
        catches.append(Catch(fault, off, broken))
        if watch is not None:
            watch(fault)
    return catches


def _outcome(vector: Vector) -> str:
    try:
        with np.errstate(all="ignore"):  # a wrong denominator may be 0
            return "off" if differences(vector) else "sound"
    except Exception:  # whatever a wrong line may cause
        return "broken"


_RULES = (
    Fault("the bias counts with the opposite sign", rules.Zero, "shares", "(a, w)], b)", "(a, w)], -b)"),
    Fault("the bias is no part of z", rules.Zero, "shares", "(a, w)], b)", "(a, w)], None)"),
    Fault("gamma favours w-", rules.Gamma, "shares", "positive(w)", "negative(w)"),
    Fault("gamma does not act on the bias", rules.Gamma, "shares", "b + self.gamma * positive(b)", "b"),
    Fault("gamma w+ stands in the place of w", rules.Gamma, "shares", "w + self.gamma * positive(w)",
          "self.gamma * positive(w)"),
    Fault("the gates look for the wrong sign", rules.GeneralizedGamma, "shares", "gate=gate", "gate=-gate"),
    Fault("both shares are open everywhere", rules.GeneralizedGamma, "shares", ", gate=gate", ""),
    Fault("generalized gamma does not act on the bias", rules.GeneralizedGamma, "shares",
          "b + self.gamma * part(b)", "b"),
    Fault("a+ and a- have changed places in generalized gamma", rules.GeneralizedGamma, "shares",
          "(positive(a), same), (negative(a), opposite)", "(negative(a), same), (positive(a), opposite)"),
    Fault("beta's share has the wrong sign", rules.AlphaBeta, "shares", "1 - self.alpha", "self.alpha - 1"),
    Fault("b- for b+, b+ for b-", rules.AlphaBeta, "shares", "part(b)", "other(b)"),
    Fault("the whole bias in both shares", rules.AlphaBeta, "shares", "part(b)", "b"),
    Fault("no bias in alpha-beta", rules.AlphaBeta, "shares", "part(b)", "0 * b"),
    Fault("a+ and a- have changed places in alpha-beta", rules.AlphaBeta, "shares",
          "(positive(a), part(w)), (negative(a), other(w))",
          "(negative(a), part(w)), (positive(a), other(w))"),
    Fault("w+ with a- too", rules.AlphaBeta, "shares", "other(w)", "part(w)"),
    Fault("activations < 0 are forgotten", rules.AlphaBeta, "shares", ", (negative(a), other(w))]", "]"),
    Fault("flat looks at the activations", rules.Flat, "shares", "(ones_like(a),", "(a,"),
    Fault("w in the place of w squared", rules.WSquare, "shares", "w * w", "w"),
    Fault("w squared weighs the activations", rules.WSquare, "shares", "(ones_like(a),", "(a,"),
    Fault("l and h have changed places", rules.ZBox, "shares", "(low, -positive(w)), (high, -negative(w))",
          "(high, -positive(w)), (low, -negative(w))"),
    Fault("the first channel's l and h serve all channels", rules, "_per_channel",
          "bound.reshape(-1, *[1] * (len(shape) - 1)) if bound.ndim", "bound.flat[0] if bound.ndim"),
    Fault("l is forgotten", rules.ZBox, "shares", "(low, -positive(w)), ", ""),
    Fault("the bias takes part in z-box", rules.ZBox, "shares", "(high, -negative(w))], None)",
          "(high, -negative(w))], b)"),
)  # fmt: skip

_STEPS = (
    Fault("no stabilizer", engine.Prepared, "_four_steps", "rule.stabilizer.value)\n", "0.0)\n"),
    Fault("every stabilizer is unsigned", engine.Prepared, "_four_steps",
          'rule.stabilizer.kind != "unsigned"', "False"),
    Fault("every stabilizer is signed", engine.Prepared, "_four_steps",
          'rule.stabilizer.kind != "unsigned"', "True"),
    Fault("a relative stabilizer is taken for an absolute one", engine.Prepared, "_four_steps",
          "rule.stabilizer.value * root", "rule.stabilizer.value + 0 * root"),
    Fault("the root mean square is that of the contributions, without the bias", engine.Prepared,
          "_four_steps", "preactivation(op, a, share.terms, share.b) if z is None else z",
          "preactivation(op, a, share.terms, None)"),
    Fault("the root mean square is taken over the batch", reference.Reference, "mean_square",
          "(units * units).sum(axis=1) / units.shape[1]",
          "np.full(len(z), (units * units).sum() / units.size)"),
    Fault("the root of the sum, not of the mean", reference.Reference, "mean_square",
          " / units.shape[1]", ""),
    Fault("sign(0) = -1", reference.Reference, "divide", "np.where(greater(zeros_like(z), z), -eps, eps)",
          "np.where(greater(z, zeros_like(z)), eps, -eps)"),
    Fault("the stabilizer is subtracted", reference.Reference, "divide", "z + stabilizer\n",
          "z - stabilizer\n"),
    Fault("a hidden 1e-9 in the denominator", reference.Reference, "divide", "z + stabilizer\n",
          "z + stabilizer + 1e-9\n"),
    Fault("a zero denominator lets R through", reference.Reference, "divide",
          "np.where(zero, zeros_like(R), R / ", "np.where(zero, R, R / "),
    Fault("what is dropped is not booked", reference.Reference, "divide", "dropped=dropped,",
          "dropped=0 * dropped,"),
    Fault("what the bias takes is not booked", reference.Reference, "divide", "per_sample(s * b)",
          "0 * dropped"),
    Fault("what the stabilizer takes is not booked", reference.Reference, "divide",
          "per_sample(s * stabilizer)", "0 * dropped"),
    Fault("what no gate lets through is not booked", engine.Prepared, "_run_shares",
          'row.book("dropped", kernels.per_sample(R))', "pass"),
    Fault("the bias's account lacks alpha and beta", engine.Prepared, "_four_steps", "q * sums.bias",
          "sums.bias"),
    Fault("alpha and beta are forgotten", reference.Reference, "redistribute",
          "coefficient * sum(", "sum("),
    Fault("only the first term is handed on", reference.Reference, "redistribute",
          "sum(parts[1:], parts[0])", "parts[0]"),
    Fault("bias 'ignore' is not heard", engine.Prepared, "_four_steps", 'rule.bias == "ignore"', "False"),
    Fault("the bias is divided by all taps, not by those in the image", engine.Prepared,
          "_redistribute_bias", "np.where(alone, ones_like(taps), taps)", "w[0].size"),
    Fault("a bias without any input in its reach is lost", engine.Prepared, "_redistribute_bias",
          "np.where(alone, owed, zeros_like(s))", "zeros_like(s)"),
    Fault("a redistributed bias is booked all the same", engine.Prepared, "_four_steps",
          "sums._replace(bias=unconnected)", "sums"),
    Fault("of several readers the last one's relevance counts", explanation, "propagate",
          "relevance[name] + part if name in relevance else part", "part"),
)  # fmt: skip

_GEOMETRY = (
    Fault("the padding is ignored on the way back", reference, "_crop",
          "top : top + h, left : left + w", ":h, :w"),
    Fault("the picture lies in the corner of its padding", reference, "_pad",
          "top : top + h, left : left + w", ":h, :w"),
    Fault("the kernel is flipped on the way back", reference.Reference, "conv2d_transpose",
          "w[:, :, i, j]", "w[:, :, -1 - i, -1 - j]"),
    Fault("the groups change places on the way back", reference.Reference, "conv2d_transpose",
          ".swapaxes(1, 2)", "[::-1].swapaxes(1, 2)"),
    Fault("the stride is ignored", operations.Window, "taps",
          "y + sy * (ho - 1) + 1, sy), slice(x, x + sx * (wo - 1) + 1, sx)", "y + ho), slice(x, x + wo)"),
    Fault("the dilation is ignored", operations.Window, "taps", "i * dy, j * dx", "i, j"),
    Fault("stride and dilation have changed places", operations.Window, "taps",
          "self.stride, self.dilation", "self.dilation, self.stride"),
    Fault("pooling hands back without its weights", reference.Reference, "sum_pool2d_transpose",
          "s * w", "s"),
    Fault("the divisor counts the padding, asked or not", layers.AvgPool2d, "weight",
          " if self.count_include_pad else (0, 0)", ""),
    Fault("the divisor never counts the padding", layers.AvgPool2d, "weight",
          "sides[2 * axis : 2 * axis + 2] if self.count_include_pad else (0, 0)", "(0, 0)"),
    Fault("'split' for 'first' among equal maxima", reference.Reference, "max_pool2d_winners",
          'ties == "first"', 'ties == "split"'),
    Fault("a zero of the padding may be the maximum", reference.Reference, "max_pool2d",
          "inside & (~seen", "(~seen"),
    Fault("a zero of the padding may win", reference.Reference, "max_pool2d_winners",
          "image[:, :, rows, columns] & equal", "equal"),
)  # fmt: skip

_NETWORK = (
    Fault("a norm forgets its shift", layers.BatchNorm, "map", "_column(self.shift, a.ndim)",
          "0 * _column(self.shift, a.ndim)"),
    Fault("a folded norm forgets its shift", layers.Weighted, "followed_by",
          "norm.shift if self.bias is None else self.bias * norm.scale + norm.shift",
          "self.bias if self.bias is None else self.bias * norm.scale"),
    Fault("a folded norm does not scale the bias", layers.Weighted, "followed_by",
          "self.bias * norm.scale", "self.bias"),
    Fault("each summand receives all", layers.Add, "parts", "R[:, m]", "R.sum(axis=1)"),
    Fault("the summands have changed places", layers.Add, "parts", "R[:, m]", "R[:, -1 - m]"),
    Fault("concatenated inputs have changed places", layers.Concat, "_back",
          "np.split(R, ends, axis=self.axis + 1)", "np.split(R, ends, axis=self.axis + 1)[::-1]"),
    Fault("a vector is read back column by column", layers.Flatten, "_back", "shapes[0])",
          'shapes[0], order="F")'),
    Fault("what lands on a padding layer is not booked", layers.Layer, "handed",
          "{} if padding is None else", "{} if True else"),
)  # fmt: skip

FAULTS = (*_RULES, *_STEPS, *_GEOMETRY, *_NETWORK)
"""Mistakes that one makes: in the rules, the four steps and their books, the geometry, the network."""
