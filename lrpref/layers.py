"""The layer vocabulary: frozen dataclasses that hold arrays.

Every layer says three things, next to each other:

- `forward`: what it computes, for a batch;
- `gradient`: its transposed Jacobian, applied to a gradient;
- for relevance, either `linear`: the linear map that it is (then a rule applies), or
  `passed`: how relevance passes through unchanged (activations, reshaping, concatenation), or
  `handed`: a way of its own (soft minima, gates and states).

Shapes of one sample are (J,) for vectors and (C, H, W) for images; N samples stand in front.
Weights are laid out as in PyTorch.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lrpref.checks import positive
from lrpref.errors import BadNetwork, BadRule
from lrpref.kernels import elementwise
from lrpref.kernels.operations import A, Array, Operation, Window
from lrpref.kernels.signs import blank, equal, greater, zeros, zeros_like

if TYPE_CHECKING:
    from lrpref.rules import Rule

Shape = tuple[int, ...]
Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[int, int, int, int]


def _whole(value: Any, times: int) -> tuple[int, ...]:
    """Read one or several whole numbers; one stands for `times` of them. Nothing else gives any."""
    try:
        return tuple(operator.index(v) for v in (value if np.ndim(value) else (value,) * times))
    except (TypeError, ValueError):
        return ()


def _pair(value: Pair, what: str, least: int) -> tuple[int, int]:
    """Read an int or a pair (down, right), each at least `least`."""
    pair = _whole(value, 2)
    if len(pair) != 2 or min(pair) < least:
        raise BadNetwork(f"{what} is {value!r}: one or two whole numbers >= {least} are wanted")
    return pair[0], pair[1]


def _sides(value: Padding) -> tuple[int, int, int, int]:
    """Read a padding as an int, (down, right), or (top, bottom, left, right)."""
    sides = _whole(value, 4)
    if len(sides) == 2:
        sides = (sides[0], sides[0], sides[1], sides[1])
    if len(sides) != 4 or min(sides) < 0:
        raise BadNetwork(
            f"padding is {value!r}: one, two (down, right) or four whole numbers "
            "(top, bottom, left, right) >= 0 are wanted"
        )
    return sides[0], sides[1], sides[2], sides[3]


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise BadNetwork(f"got {shape}, wants an image (C, H, W)")
    return shape[0], shape[1], shape[2]


@dataclass(frozen=True)
class Linear:
    """
    A layer as a linear map: z = forward(a, w) + b.

    Parameters
    ----------
    operation : Operation
        The map without its weights.
    w : ndarray or None
        The weights; each rule maps them element by element. None where only the input says them: the
        winners of max pooling.
    b : ndarray
        The bias, broadcastable to z; zeros where the layer has none.
    own : bool
        Whether z is the layer's own output.
    """

    operation: Operation
    w: Array | None
    b: Array
    own: bool = True


class Layer:
    """Base of all layers: one input, and relevance passes through unchanged."""

    inputs: ClassVar[int | None] = 1
    """How many inputs the layer takes; None: two or more."""
    is_linear: ClassVar[bool] = False
    """Whether a rule applies."""
    role: ClassVar[str] = ""
    """What composites call its kind: convolution, dense, max-pooling, average-pooling, sum, norm."""
    moves: ClassVar[bool] = False
    """Whether the output holds the inputs' own values, and no others but a padding's."""

    @property
    def rectifies(self) -> bool:
        """Whether the output is 0 exactly where the input is <= 0, and positive elsewhere."""
        return False

    @property
    def kind(self) -> str:
        """Name of the layer's class."""
        return type(self).__name__

    def output_shape(self, *shapes: Shape) -> Shape:
        """
        Infer the shape of one sample of the output.

        Parameters
        ----------
        *shapes : tuple of int
            Shapes of one sample of each input.

        Returns
        -------
        tuple of int
            The shape of one sample of the output.

        Raises
        ------
        BadNetwork
            If the layer cannot take such inputs: what it got and what it wants.
        """
        return shapes[0]

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        """
        Compute the output.

        Parameters
        ----------
        kernels : object
            The backend's function table.
        *inputs : ndarray, shape (N, ...)
            The lower activations.

        Returns
        -------
        ndarray, shape (N, ...)
            The output; for a linear layer z.
        """
        raise NotImplementedError

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        """
        Apply the transposed Jacobian.

        Parameters
        ----------
        kernels : object
            The backend's function table.
        inputs : sequence of ndarray
            The lower activations.
        g : ndarray, like the output
            Gradient with respect to the output.

        Returns
        -------
        list of ndarray
            Gradient with respect to each input.
        """
        raise NotImplementedError

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        """
        Tell whether the output is known to be >= 0, whatever the numbers.

        Parameters
        ----------
        inputs : sequence of bool
            Whether each input is.

        Returns
        -------
        bool
            False where it is not known.
        """
        return self.rectifies or (self.moves and all(inputs))

    def passed(self, inputs: Sequence[Array], R: Array) -> tuple[list[Array], Array | None]:
        """
        Let relevance through unchanged.

        Parameters
        ----------
        inputs : sequence of ndarray
            The lower activations.
        R : ndarray, like the output
            Relevance of the output.

        Returns
        -------
        parts : list of ndarray
            Relevance of each input.
        padding : ndarray, like R, or None
            What lands on the cells of an explicit padding layer.

        Raises
        ------
        BadRule
            If the shapes of input and output differ.
        """
        if len(inputs) != 1 or inputs[0].shape != R.shape:
            raise BadRule(
                f"rule 'pass' needs one input of the output's shape; {self.kind} has "
                f"{[x.shape[1:] for x in inputs]} -> {R.shape[1:]}"
            )
        return [R], None

    @property
    def way(self) -> str:
        """How relevance goes through a layer that takes no rule, in the ledger's words."""
        return "pass"

    def handed(
        self, kernels: Any, inputs: Sequence[Array], R: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        """
        Hand relevance on without a rule: unchanged, but for the layers with a way of their own.

        Parameters
        ----------
        kernels : object
            The backend's function table.
        inputs : sequence of ndarray
            The lower activations.
        R : ndarray, like the output
            Relevance of the output.

        Returns
        -------
        parts : list of ndarray
            Relevance of each input.
        booked : dict of str to ndarray, shape (N, ...)
            What the accounts take, by name.

        Raises
        ------
        BadRule
            If it does not fit.
        """
        parts, padding = self.passed(inputs, R)
        return parts, {} if padding is None else {"padding": padding}

    def parts(self, R: Array) -> list[Array]:
        """
        Split the relevance of the joined input among the inputs.

        Parameters
        ----------
        R : ndarray
            Relevance of a, as `join` made it.

        Returns
        -------
        list of ndarray
            Relevance of each input.
        """
        return [R]

    def followed_by(self, norm: BatchNorm) -> Layer | None:
        """
        Merge a batch norm that follows.

        Parameters
        ----------
        norm : BatchNorm
            The batch norm.

        Returns
        -------
        Layer or None
            The layer that computes both; None where there is none.
        """
        return None

    def preceded_by(self, layer: Layer) -> Layer | None:
        """
        Merge a batch norm, or a padding with zeros, that stands before.

        Parameters
        ----------
        layer : Layer
            What stands before.

        Returns
        -------
        Layer or None
            The layer that computes both; None where there is none.
        """
        return None

    def carries(self, norm: BatchNorm, shape: Shape) -> BatchNorm | None:
        """
        Let a batch norm that stands before pass behind: the same function, exactly.

        Parameters
        ----------
        norm : BatchNorm
            The batch norm.
        shape : tuple of int
            Shape of one sample of the input.

        Returns
        -------
        BatchNorm or None
            What behind the layer does what `norm` does before it: `norm` itself where the two commute; None
            where nothing does.
        """
        return None

    def does_nothing(self, shape: Shape) -> bool:
        """
        Tell whether the layer is the identity on such inputs.

        Parameters
        ----------
        shape : tuple of int
            Shape of one sample of the (first) input.

        Returns
        -------
        bool
            True only where it is by its geometry, whatever the numbers.
        """
        return False

    def adapt(self, rule: Rule) -> Rule:
        """
        Say which rule a composite gives this layer when its region's rule is `rule`.

        Parameters
        ----------
        rule : Rule
            The region's rule.

        Returns
        -------
        Rule
            `rule`; for sums of branches its proportional form.
        """
        return rule


class LinearLayer(Layer):
    """Base of the layers that are linear in their input: z = forward(a, w) + b."""

    is_linear: ClassVar[bool] = True

    def join(self, inputs: Sequence[Array]) -> Array:
        """
        Join the inputs into one array a; `parts` undoes it for relevance.

        Parameters
        ----------
        inputs : sequence of ndarray
            The lower activations.

        Returns
        -------
        ndarray
            a.
        """
        return inputs[0]

    def map(self, a: Array) -> Linear:
        """
        Give the linear map.

        Parameters
        ----------
        a : ndarray, shape (N, ...)
            The joined input, for its shape and arithmetic alone.

        Returns
        -------
        Linear
            The map.
        """
        raise NotImplementedError

    def linear(self, a: Array, rule: Rule) -> Linear:
        """
        View the layer as the linear map that a rule sees.

        Parameters
        ----------
        a : ndarray, shape (N, ...)
            The joined input, for its shape and arithmetic alone.
        rule : Rule
            The rule that asks; max pooling looks different to different rules.

        Returns
        -------
        Linear
            The map.

        Raises
        ------
        BadRule
            If the rule does not fit this layer.
        """
        if rule.selects:
            raise BadRule(f"rule '{rule}' is for max pooling, not for {self.kind}")
        return self.map(a)

    def wants_nonnegative(self, rule: Rule) -> bool:
        """
        Tell whether the layer, under this rule, takes activations >= 0 only.

        Parameters
        ----------
        rule : Rule
            The rule.

        Returns
        -------
        bool
            True for max pooling that is seen as sum pooling.
        """
        return False

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        a = self.join(inputs)
        linear = self.map(blank(a))
        terms = [(A, kernels.prepare(linear.operation, linear.w))]
        return kernels.preactivation(linear.operation, a, terms, kernels.upload(linear.b))

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        linear = self.map(blank(self.join(inputs)))
        w = kernels.prepare(linear.operation, linear.w)
        return self.parts(kernels.transpose(linear.operation, g, w))


def _column(values: Array, ndim: int) -> Array:
    """Shape values (K,) so that they broadcast over (N, K, ...)."""
    return values.reshape(-1, *[1] * (ndim - 2))


def _no_bias(a: Array) -> Array:
    return zeros((1,) * (a.ndim - 1), a)


def _positions(window: Window, size: Sequence[int]) -> tuple[int, int]:
    ho, wo = window.positions((size[0], size[1]))
    if ho < 1 or wo < 1:
        raise BadNetwork(
            f"got an image of {size[0]} x {size[1]}, wants at least the window's "
            f"{window.extent()[0]} x {window.extent()[1]} less the padding {window.padding}"
        )
    return ho, wo


@dataclass(frozen=True, eq=False)
class Weighted(LinearLayer):
    """
    Base of the layers with learned weights.

    Parameters
    ----------
    weight : ndarray, shape (K, ...)
        Weights.
    bias : ndarray, shape (K,), optional
        Biases, the chapter's w_0k.
    """

    weight: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        if 0 in self.weight.shape:
            raise BadNetwork(f"{self.kind}: weight is {self.weight.shape}, wants no 0 in it")
        if self.bias is not None and self.bias.shape != (self.outputs,):
            raise BadNetwork(f"{self.kind}: bias is {self.bias.shape}, wants {(self.outputs,)}")

    @property
    def outputs(self) -> int:
        """How many outputs there are, or channels of it: K."""
        return len(self.weight)

    def _bias(self, a: Array) -> Array:
        return _no_bias(a) if self.bias is None else _column(self.bias, a.ndim)

    def followed_by(self, norm: BatchNorm) -> Layer | None:
        scale = norm.scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        bias = norm.shift if self.bias is None else self.bias * norm.scale + norm.shift
        return replace(self, weight=self.weight * scale, bias=bias)


@dataclass(frozen=True, eq=False)
class Dense(Weighted):
    """
    Fully connected layer: z_k = sum_j a_j w_kj + b_k (Montavon et al. 2019, Eq. (10.1) before its max).

    Parameters
    ----------
    weight : ndarray, shape (K, J)
        Weights.
    bias : ndarray, shape (K,), optional
        Biases, the chapter's w_0k.
    """

    role: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise BadNetwork(f"Dense: weight is {self.weight.shape}, wants (K, J)")
        super().__post_init__()

    def output_shape(self, *shapes: Shape) -> Shape:
        if shapes[0] != self.weight.shape[1:]:
            raise BadNetwork(f"got {shapes[0]}, wants {self.weight.shape[1:]}")
        return (len(self.weight),)

    def map(self, a: Array) -> Linear:
        return Linear(Operation("dense"), self.weight, self._bias(a))

    def preceded_by(self, layer: Layer) -> Layer | None:
        if not isinstance(layer, BatchNorm):
            return None
        shift = self.weight @ layer.shift
        return replace(
            self, weight=self.weight * layer.scale, bias=shift if self.bias is None else self.bias + shift
        )


@dataclass(frozen=True, eq=False)
class Conv2d(Weighted):
    """
    Two-dimensional convolution (cross-correlation, as everywhere in deep learning).

    Parameters
    ----------
    weight : ndarray, shape (K, C/groups, kh, kw)
        Weights.
    bias : ndarray, shape (K,), optional
        Biases.
    stride : int or (down, right)
        In pixels.
    padding : int, (down, right) or (top, bottom, left, right)
        Zeros around the image.
    dilation : int or (down, right)
        Distance between taps, in pixels.
    groups : int
        Into how many groups K and C are split; C of them is a depthwise convolution.
    """

    role: ClassVar[str] = "convolution"
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.weight.ndim != 4:
            raise BadNetwork(f"Conv2d: weight is {self.weight.shape}, wants (K, C/groups, kh, kw)")
        if self.groups < 1 or len(self.weight) % self.groups:
            raise BadNetwork(f"Conv2d: {len(self.weight)} outputs do not split into {self.groups} groups")
        super().__post_init__()
        self.window()

    def window(self) -> Window:
        """
        Give the window.

        Returns
        -------
        Window
            Kernel, stride, padding and dilation.
        """
        kh, kw = self.weight.shape[2:]
        stride, dilation = _pair(self.stride, "stride", 1), _pair(self.dilation, "dilation", 1)
        return Window((kh, kw), stride, _sides(self.padding), dilation)

    def output_shape(self, *shapes: Shape) -> Shape:
        c, *size = _image(shapes[0])
        if c != self.weight.shape[1] * self.groups:
            raise BadNetwork(f"got {shapes[0]}, wants ({self.weight.shape[1] * self.groups}, H, W)")
        return (len(self.weight), *_positions(self.window(), size))

    def map(self, a: Array) -> Linear:
        operation = Operation("conv2d", (a.shape[2], a.shape[3]), self.window(), self.groups)
        return Linear(operation, self.weight, self._bias(a))

    def preceded_by(self, layer: Layer) -> Layer | None:
        if isinstance(layer, Pad) and layer.value == 0 and not any(layer.channels):
            (top, bottom, left, right), added = _sides(self.padding), _sides(layer.padding)
            sides = (top + added[0], bottom + added[1], left + added[2], right + added[3])
            return replace(self, padding=sides)
        return self._preceded_by(layer) if isinstance(layer, BatchNorm) else None

    def _preceded_by(self, norm: BatchNorm) -> Layer | None:
        if any(_sides(self.padding)) and (norm.shift != 0).any():
            return None  # the padding's zeros are not shifted
        k, c, g = len(self.weight), self.weight.shape[1], self.groups
        scale, shift = (
            np.repeat(values.reshape(g, 1, c), k // g, axis=1).reshape(k, c, 1, 1)
            for values in (norm.scale, norm.shift)
        )
        offset = (self.weight * shift).reshape(k, -1).sum(axis=1)
        return replace(
            self, weight=self.weight * scale, bias=offset if self.bias is None else self.bias + offset
        )


@dataclass(frozen=True, eq=False)
class ConvTranspose2d(Weighted):
    """
    Transposed convolution: the map of a convolution, from its output's shape back to its input's.

    Each pixel spreads over a window of the output, and what overlaps adds up. Pixels of the output count
    the taps that reach them; the zeros that one could insert between the pixels do not exist.

    Parameters
    ----------
    weight : ndarray, shape (C, K/groups, kh, kw)
        Weights, from C channels to K.
    bias : ndarray, shape (K,), optional
        Biases.
    stride : int or (down, right)
        Distance between the windows of neighbouring pixels.
    padding : int, (down, right) or (top, bottom, left, right)
        Pixels that the output lacks at its sides: the padding of the convolution.
    output_padding : int or (down, right)
        Pixels that the output has more at its bottom and its right; less than the stride or the dilation.
    dilation : int or (down, right)
        Distance between taps, in pixels.
    groups : int
        Into how many groups C and K are split.
    """

    role: ClassVar[str] = "convolution"
    stride: Pair = 1
    padding: Padding = 0
    output_padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1

    def __post_init__(self) -> None:
        shape, groups = self.weight.shape, self.groups
        if len(shape) != 4:
            raise BadNetwork(f"ConvTranspose2d: weight is {shape}, wants (C, K/groups, kh, kw)")
        if groups < 1 or shape[0] % groups:
            raise BadNetwork(f"ConvTranspose2d: {shape[0]} inputs do not split into {groups} groups")
        super().__post_init__()
        added, window = self._added(), self.window()
        if any(map(operator.ge, added, map(max, window.stride, window.dilation))):
            raise BadNetwork(
                f"ConvTranspose2d: output_padding is {added}, wants less than the stride {window.stride} "
                f"or the dilation {window.dilation}"
            )

    @property
    def outputs(self) -> int:
        """How many channels the output has: K."""
        return self.weight.shape[1] * self.groups

    def _added(self) -> tuple[int, int]:
        return _pair(self.output_padding, "output_padding", 0)

    def window(self) -> Window:
        """
        Give the window that slides over the output.

        Returns
        -------
        Window
            Kernel, stride, padding and dilation; it stops short of what output_padding adds.
        """
        kh, kw = self.weight.shape[2:]
        stride, dilation = _pair(self.stride, "stride", 1), _pair(self.dilation, "dilation", 1)
        (top, bottom, left, right), (down, across) = _sides(self.padding), self._added()
        return Window((kh, kw), stride, (top, bottom - down, left, right - across), dilation)

    def output_shape(self, *shapes: Shape) -> Shape:
        c, *positions = _image(shapes[0])
        if c != len(self.weight):
            raise BadNetwork(f"got {shapes[0]}, wants ({len(self.weight)}, H, W)")
        height, width = self._size(positions)
        if min(height, width) < 1:
            raise BadNetwork(
                f"got an image of {positions[0]} x {positions[1]}, wants a larger one or less padding than "
                f"{self.padding}: the output would be {height} x {width}"
            )
        return (self.outputs, height, width)

    def _size(self, positions: Sequence[int]) -> tuple[int, int]:
        """Height and width over which the window has so many positions."""
        window = self.window()
        (top, bottom, left, right), (eh, ew), (sy, sx) = window.padding, window.extent(), window.stride
        return (positions[0] - 1) * sy + eh - top - bottom, (positions[1] - 1) * sx + ew - left - right

    def map(self, a: Array) -> Linear:
        operation = Operation("conv_transpose2d", self._size(a.shape[2:]), self.window(), self.groups)
        return Linear(operation, self.weight, self._bias(a))

    def followed_by(self, norm: BatchNorm) -> Layer | None:
        c, k, g = len(self.weight), self.weight.shape[1], self.groups
        scale = np.repeat(norm.scale.reshape(g, k), c // g, axis=0).reshape(c, k, 1, 1)
        bias = norm.shift if self.bias is None else self.bias * norm.scale + norm.shift
        return replace(self, weight=self.weight * scale, bias=bias)

    def preceded_by(self, layer: Layer) -> Layer | None:
        if not isinstance(layer, BatchNorm) or (layer.shift != 0).any():
            return None  # each pixel of the output sees another set of taps, and so another shift
        return replace(self, weight=self.weight * layer.scale.reshape(-1, 1, 1, 1))


@dataclass(frozen=True, eq=False)
class BatchNorm(LinearLayer):
    """
    The centering and rescaling that batch normalization is at test time: z = scale a + shift.

    Serves one- and two-dimensional batch norms alike. The two arrays are its definition; they are
    computed once, by `BatchNorm.of`.

    Parameters
    ----------
    scale : ndarray of float64, shape (C,)
        gamma / sqrt(var + eps).
    shift : ndarray of float64, shape (C,)
        beta - mean * scale.
    """

    role: ClassVar[str] = "norm"
    scale: Array
    shift: Array

    @classmethod
    def of(cls, gamma: Array | None, beta: Array | None, mean: Array, var: Array, eps: float) -> BatchNorm:
        """
        Compute scale and shift once, in float64.

        Parameters
        ----------
        gamma : ndarray, shape (C,), or None
            Learned factor; None is 1.
        beta : ndarray, shape (C,), or None
            Learned offset; None is 0.
        mean : ndarray, shape (C,)
            Running mean.
        var : ndarray, shape (C,)
            Running variance.
        eps : float
            What is added to the variance.

        Returns
        -------
        BatchNorm
            The layer.

        Raises
        ------
        BadNetwork
            If a variance + eps is not positive.
        """
        variance = np.asarray(var, np.float64) + eps
        if not (variance > 0).all():
            raise BadNetwork(f"a variance + eps is {variance.min()}, wants > 0")
        with np.errstate(over="ignore", invalid="ignore"):  # the network refuses what is not finite
            scale = (1.0 if gamma is None else np.asarray(gamma, np.float64)) / np.sqrt(variance)
            offset = np.asarray(mean, np.float64) * scale
            shift = (0.0 if beta is None else np.asarray(beta, np.float64)) - offset
        return cls(scale, shift)

    def __post_init__(self) -> None:
        if self.scale.ndim != 1 or self.scale.shape != self.shift.shape:
            raise BadNetwork(f"BatchNorm: scale is {self.scale.shape}, shift {self.shift.shape}, want (C,)")

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) not in (1, 3) or shapes[0][:1] != self.scale.shape:
            raise BadNetwork(f"got {shapes[0]}, wants ({len(self.scale)},) or ({len(self.scale)}, H, W)")
        return shapes[0]

    def map(self, a: Array) -> Linear:
        return Linear(Operation("scale"), _column(self.scale, a.ndim), _column(self.shift, a.ndim))


class _Sum(LinearLayer):
    """Base of the plain sums over the first axis of the joined input: z = sum_m a_m."""

    role: ClassVar[str] = "sum"

    def map(self, a: Array) -> Linear:
        ones = zeros((a.shape[1], *[1] * (a.ndim - 2)), a) + 1  # (M, 1, ...)
        return Linear(Operation("total"), ones, zeros((1,) * (a.ndim - 2), a))

    def adapt(self, rule: Rule) -> Rule:
        return rule.proportional()


@dataclass(frozen=True)
class Add(_Sum):
    """Sum of two or more branches of one shape: z = y_1 + y_2 + ..."""

    inputs: ClassVar[int | None] = None

    def output_shape(self, *shapes: Shape) -> Shape:
        if any(shape != shapes[0] for shape in shapes):
            raise BadNetwork(f"got {', '.join(map(str, shapes))}, wants inputs of one shape")
        return shapes[0]

    def join(self, inputs: Sequence[Array]) -> Array:
        return np.stack(inputs, axis=1)  # (N, M, ...): M summands

    def parts(self, R: Array) -> list[Array]:
        return [R[:, m] for m in range(R.shape[1])]

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return all(inputs)


@dataclass(frozen=True, eq=False)
class Total(_Sum):
    """
    Sum of what the inputs j contribute to each neuron k: z_k = sum_j q_jk + offset_k.

    Composites give the offset no share: a distance is explained by where x lies, all of it.

    Parameters
    ----------
    offset : ndarray, shape (K,), optional
        What is added to each.
    """

    offset: Array | None = None

    def __post_init__(self) -> None:
        if self.offset is not None and self.offset.ndim != 1:
            raise BadNetwork(f"Total: offset is {self.offset.shape}, wants (K,)")

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 2 or (self.offset is not None and self.offset.shape != shapes[0][1:]):
            wanted = "K" if self.offset is None else len(self.offset)
            raise BadNetwork(f"got {shapes[0]}, wants contributions (J, {wanted})")
        return shapes[0][1:]

    def map(self, a: Array) -> Linear:
        linear = super().map(a)
        return linear if self.offset is None else replace(linear, b=self.offset)

    def adapt(self, rule: Rule) -> Rule:
        return super().adapt(rule).with_options(bias="ignore")


@dataclass(frozen=True)
class Pool2d(LinearLayer):
    """
    Base of sum, average and max pooling.

    Parameters
    ----------
    kernel : int or (down, right)
        Size of the window, in pixels.
    stride : int or (down, right), optional
        In pixels; the kernel's size where not given.
    padding : int, (down, right) or (top, bottom, left, right)
        Around the image, at most half a window; never more than zeros that nothing counts.
    ceil_mode : bool
        Whether a last window may reach beyond the image and its padding.
    """

    role: ClassVar[str] = "average-pooling"
    kernel: Pair
    stride: Pair | None = None
    padding: Padding = 0
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        kernel, (top, bottom, left, right) = _pair(self.kernel, "kernel", 1), _sides(self.padding)
        if 2 * max(top, bottom) > kernel[0] or 2 * max(left, right) > kernel[1]:
            raise BadNetwork(f"{self.kind}: padding {self.padding} exceeds half the kernel {self.kernel}")
        self.window((kernel[0], kernel[1]))

    def window(self, size: Sequence[int]) -> Window:
        """
        Give the window over an image of this size; what ceil_mode adds is padding at the far ends.

        Parameters
        ----------
        size : sequence of int
            Height and width of the image.

        Returns
        -------
        Window
            Kernel, stride and padding.
        """
        kernel = _pair(self.kernel, "kernel", 1)
        stride = kernel if self.stride is None else _pair(self.stride, "stride", 1)
        top, bottom, left, right = _sides(self.padding)
        if self.ceil_mode:
            bottom = _ceil_padding(size[0], kernel[0], stride[0], top, bottom)
            right = _ceil_padding(size[1], kernel[1], stride[1], left, right)
        return Window(kernel, stride, (top, bottom, left, right))

    def output_shape(self, *shapes: Shape) -> Shape:
        c, *size = _image(shapes[0])
        return (c, *_positions(self.window(size), size))

    def weight(self, a: Array, positions: tuple[int, int]) -> Array:
        """
        Give one weight for each position of the window.

        Parameters
        ----------
        a : ndarray, shape (N, C, H, W)
            The input, for its size and arithmetic.
        positions : tuple of int
            Height and width (Ho, Wo) of the output.

        Returns
        -------
        ndarray, shape (Ho, Wo)
            1 for a sum.
        """
        return zeros(positions, a) + 1

    def map(self, a: Array) -> Linear:
        size = (a.shape[2], a.shape[3])
        window = self.window(size)
        operation = Operation("sum_pool2d", size, window)
        return Linear(operation, self.weight(a, window.positions(size)), _no_bias(a))

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return all(inputs)


def _ceil_padding(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Widen the far padding so that one more window fits, if it starts in the image or before it."""
    positions = -((kernel - size - before - after) // stride) + 1
    if (positions - 1) * stride >= size + before:
        positions -= 1
    return max(after, (positions - 1) * stride + kernel - size - before)


def _reciprocal(counts: Array, a: Array) -> Array:
    """1 / counts in the arithmetic of a; counts are whole numbers."""
    one = zeros(counts.shape, a) + 1
    return one / (counts.astype(object) if a.dtype == object else counts.astype(a.dtype))


@dataclass(frozen=True)
class SumPool2d(Pool2d):
    """Sum over a window; the chapter's own view of pooling (Section 10.3.2)."""


@dataclass(frozen=True)
class AvgPool2d(Pool2d):
    """
    Average over a window: a linear layer with weights 1/divisor.

    Parameters
    ----------
    count_include_pad : bool
        Whether the divisor counts the padding (not what ceil_mode adds to it).
    divisor : int, optional
        A divisor to use instead.
    """

    count_include_pad: bool = True
    divisor: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divisor is not None and self.divisor < 1:
            raise BadNetwork(f"AvgPool2d: divisor is {self.divisor}, wants a whole number >= 1")

    def carries(self, norm: BatchNorm, shape: Shape) -> BatchNorm | None:
        averages = self.divisor is None and not (self.count_include_pad and any(_sides(self.padding)))
        return norm if averages or not (norm.shift != 0).any() else None

    def weight(self, a: Array, positions: tuple[int, int]) -> Array:
        if self.divisor is not None:
            return _reciprocal(np.full(positions, self.divisor), a)
        window, sides = self.window(a.shape[2:]), _sides(self.padding)
        counts = []
        for axis in (0, 1):
            size, kernel, stride = a.shape[2 + axis], window.kernel[axis], window.stride[axis]
            before, after = sides[2 * axis : 2 * axis + 2] if self.count_include_pad else (0, 0)
            start = np.arange(positions[axis]) * stride - window.padding[2 * axis]
            counts.append(np.minimum(start + kernel, size + after) - np.maximum(start, -before))
        return _reciprocal(np.outer(*counts), a)


@dataclass(frozen=True)
class AdaptiveAvgPool2d(LinearLayer):
    """
    Average over regions that divide the image, whatever its size; `output=1` is global.

    Parameters
    ----------
    output : int or (down, right)
        Height and width of the output. Region i of n covers rows floor(i H / n) to ceil((i+1) H / n).
    """

    role: ClassVar[str] = "average-pooling"
    output: Pair = 1

    def __post_init__(self) -> None:
        _pair(self.output, "output", 1)

    def output_shape(self, *shapes: Shape) -> Shape:
        return (_image(shapes[0])[0], *_pair(self.output, "output", 1))

    def carries(self, norm: BatchNorm, shape: Shape) -> BatchNorm | None:
        return norm

    def does_nothing(self, shape: Shape) -> bool:
        return self.output_shape(shape) == shape

    def map(self, a: Array) -> Linear:
        size = (a.shape[2], a.shape[3])
        rows, columns = (
            tuple((i * length // n, -(-(i + 1) * length // n)) for i in range(n))
            for length, n in zip(size, _pair(self.output, "output", 1), strict=True)
        )
        counts = np.outer([stop - start for start, stop in rows], [stop - start for start, stop in columns])
        operation = Operation("region_sum2d", size, rows=rows, columns=columns)
        return Linear(operation, _reciprocal(counts, a), _no_bias(a))

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return all(inputs)


@dataclass(frozen=True)
class MaxPool2d(Pool2d):
    """
    Maximum over a window.

    For relevance it is one of two linear maps: the winners alone (winner-take-all), or the sum
    pooling of the same geometry (any other rule), which needs a >= 0 (Section 10.3.2).
    """

    role: ClassVar[str] = "max-pooling"

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return kernels.max_pool2d(inputs[0], self._operation(inputs[0], "max_pool2d"))

    def _operation(self, a: Array, name: str) -> Operation:
        return Operation(name, (a.shape[2], a.shape[3]), self.window(a.shape[2:]))

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        operation = self._operation(inputs[0], "select2d")
        winners = kernels.max_pool2d_winners(inputs[0], operation, "first")
        return [kernels.transpose(operation, g, winners)]

    def linear(self, a: Array, rule: Rule) -> Linear:
        if rule.selects:
            return Linear(self._operation(a, "select2d"), None, _no_bias(a), own=False)
        return self.map(a)

    def map(self, a: Array) -> Linear:
        return replace(super().map(a), own=False)  # sum pooling of the same geometry

    def wants_nonnegative(self, rule: Rule) -> bool:
        return not rule.selects

    def carries(self, norm: BatchNorm, shape: Shape) -> BatchNorm | None:
        return norm if greater(norm.scale, 0).all() else None  # then it keeps the order


class Activation(Layer):
    """Base of the elementwise functions: relevance passes through unchanged."""

    function: ClassVar[str]
    """Name in `kernels.elementwise.FUNCTIONS`."""

    def parameters(self) -> tuple[Any, ...]:
        """
        Give the function's parameters.

        Returns
        -------
        tuple
            In the order in which the function takes them.
        """
        return ()

    def singular(self) -> bool:
        """
        Tell whether g(0) is not 0, so that LRP-0 is singular near z = 0.

        Returns
        -------
        bool
            Whether it is.
        """
        return bool(elementwise.FUNCTIONS[self.function][0](np.zeros(1), *self.parameters())[0] != 0)

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return kernels.activation(self.function, inputs[0], *self.parameters())

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        slope = elementwise.FUNCTIONS[self.function][1](kernels.download(inputs[0]), *self.parameters())
        return [g * kernels.upload(slope)]


@dataclass(frozen=True)
class ReLU(Activation):
    """a = max(0, z), Eq. (10.1); the gradient at 0 is 0."""

    function: ClassVar[str] = "relu"

    @property
    def rectifies(self) -> bool:
        return True


@dataclass(frozen=True)
class Clip(Activation):
    """
    Bound: a = min(high, max(low, z)).

    Parameters
    ----------
    low, high : float
        The bounds; PyTorch's Hardtanh has -1 and 1.
    """

    function: ClassVar[str] = "clip"
    low: float = -1.0
    high: float = 1.0

    def parameters(self) -> tuple[Any, ...]:
        return self.low, self.high

    @property
    def rectifies(self) -> bool:
        return bool(self.low == 0 and self.high > 0)


@dataclass(frozen=True)
class ReLU6(Clip):
    """
    Bound: a = min(6, max(0, z)).

    Parameters
    ----------
    low, high : float
        The bounds.
    """

    low: float = 0.0
    high: float = 6.0


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """
    Leak: a = z where z > 0, else slope z.

    Parameters
    ----------
    slope : float
        Slope for z <= 0.
    """

    function: ClassVar[str] = "leaky_relu"
    slope: float = 0.01

    def parameters(self) -> tuple[Any, ...]:
        return (self.slope,)


@dataclass(frozen=True)
class ELU(Activation):
    """
    Exponential unit: a = z where z > 0, else alpha (exp(z) - 1).

    Parameters
    ----------
    alpha : float
        The bound below is -alpha.
    """

    function: ClassVar[str] = "elu"
    alpha: float = 1.0

    def parameters(self) -> tuple[Any, ...]:
        return (self.alpha,)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """a = 1 / (1 + exp(-z))."""

    function: ClassVar[str] = "sigmoid"

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return True


@dataclass(frozen=True)
class Softplus(Activation):
    """a = log(1 + exp(z))."""

    function: ClassVar[str] = "softplus"

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return True


@dataclass(frozen=True)
class Tanh(Activation):
    """a = tanh(z)."""

    function: ClassVar[str] = "tanh"


@dataclass(frozen=True)
class SiLU(Activation):
    """a = z sigmoid(z), also called swish."""

    function: ClassVar[str] = "silu"


@dataclass(frozen=True)
class GELU(Activation):
    """a = z Phi(z), with the normal distribution's Phi."""

    function: ClassVar[str] = "gelu"


@dataclass(frozen=True)
class HardSwish(Activation):
    """a = z min(6, max(0, z + 3)) / 6."""

    function: ClassVar[str] = "hard_swish"


@dataclass(frozen=True)
class HardSigmoid(Activation):
    """a = min(6, max(0, z + 3)) / 6."""

    function: ClassVar[str] = "hard_sigmoid"

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return True


@dataclass(frozen=True)
class Identity(Layer):
    """a = z."""

    moves: ClassVar[bool] = True

    def carries(self, norm: BatchNorm, shape: Shape) -> BatchNorm | None:
        return norm

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return inputs[0]

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        return [g]


@dataclass(frozen=True)
class Dropout(Identity):
    """The identity, at test time."""


@dataclass(frozen=True)
class Softmax(Layer):
    """Probabilities; only at the top of a network, where explaining drops it (Section 10.3.1)."""

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return kernels.upload(elementwise.softmax(kernels.download(inputs[0])))


@dataclass(frozen=True)
class LogSoftmax(Softmax):
    """Logarithms of probabilities; like them only at the top."""

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return kernels.upload(elementwise.log_softmax(kernels.download(inputs[0])))


class _Moved(Layer):
    """Base of the layers that only move values: what goes forward comes back by the same way."""

    moves: ClassVar[bool] = True

    def _back(self, R: Array, shapes: Sequence[Shape]) -> list[Array]:
        raise NotImplementedError

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        return self._back(g, [x.shape for x in inputs])

    def passed(self, inputs: Sequence[Array], R: Array) -> tuple[list[Array], Array | None]:
        return self._back(R, [x.shape for x in inputs]), None


@dataclass(frozen=True)
class Flatten(_Moved):
    """Turn an image (C, H, W) into a vector (C*H*W,)."""

    def carries(self, norm: BatchNorm, shape: Shape) -> BatchNorm | None:
        if self.output_shape(shape) == shape:
            return norm
        pixels = math.prod(shape[1:])
        return BatchNorm(np.repeat(norm.scale, pixels), np.repeat(norm.shift, pixels))

    def output_shape(self, *shapes: Shape) -> Shape:
        return (math.prod(shapes[0]),)

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return inputs[0].reshape(len(inputs[0]), -1)

    def _back(self, R: Array, shapes: Sequence[Shape]) -> list[Array]:
        return [R.reshape(shapes[0])]


@dataclass(frozen=True)
class Reshape(Flatten):
    """
    Turn one sample into another shape, in row-major order.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample of the output.
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1 or bool in map(type, self.shape):
            raise BadNetwork(f"Reshape: shape is {self.shape}, wants whole numbers >= 1")

    def output_shape(self, *shapes: Shape) -> Shape:
        if math.prod(shapes[0]) != math.prod(self.shape):
            raise BadNetwork(f"got {shapes[0]}, wants {math.prod(self.shape)} values for {tuple(self.shape)}")
        return tuple(self.shape)

    def carries(self, norm: BatchNorm, shape: Shape) -> BatchNorm | None:
        if self.shape[0] == shape[0]:
            return norm
        return super().carries(norm, shape) if len(self.shape) == 1 else None

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return inputs[0].reshape(len(inputs[0]), *self.shape)


@dataclass(frozen=True)
class Concat(_Moved):
    """
    Put two or more inputs behind one another.

    Parameters
    ----------
    axis : int
        Axis of one sample; 0 is the channels.
    """

    inputs: ClassVar[int | None] = None
    axis: int = 0

    def output_shape(self, *shapes: Shape) -> Shape:
        first, axis = shapes[0], self.axis
        rest = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
        if not 0 <= axis < len(first) or any(r != rest[0] for r in rest):
            raise BadNetwork(f"got {', '.join(map(str, shapes))}, wants shapes that agree but on axis {axis}")
        return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=self.axis + 1)

    def _back(self, R: Array, shapes: Sequence[Shape]) -> list[Array]:
        ends = np.cumsum([shape[self.axis + 1] for shape in shapes])[:-1].tolist()
        return np.split(R, ends, axis=self.axis + 1)


@dataclass(frozen=True)
class Slice(_Moved):
    """
    Take a part: numbers from `start` to before `stop`, every `step`-th, along each axis of one sample.

    What is left out receives nothing.

    Parameters
    ----------
    start, stop, step : tuple of int
        One for each axis; `start` and `stop` are >= 0, `step` is >= 1.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = [_whole(each, 0) for each in (self.start, self.stop, self.step)]
        if not 0 < len(numbers[0]) == len(numbers[1]) == len(numbers[2]):
            raise BadNetwork(f"Slice: got {self._text()}, wants a whole number of each for each axis")
        if min(self.start) < 0 or min(self.step) < 1 or any(map(operator.ge, self.start, self.stop)):
            raise BadNetwork(f"Slice: got {self._text()}, wants 0 <= start < stop and step >= 1")

    def _text(self) -> str:
        return f"start {self.start}, stop {self.stop}, step {self.step}"

    def _slices(self) -> tuple[slice, ...]:
        return (slice(None), *map(slice, self.start, self.stop, self.step))

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) != len(self.stop) or any(map(operator.gt, self.stop, shape)):
            raise BadNetwork(f"got {shape}, wants at least {tuple(self.stop)}")
        return tuple(len(range(*where)) for where in zip(self.start, self.stop, self.step, strict=True))

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return inputs[0][self._slices()].copy()

    def _back(self, R: Array, shapes: Sequence[Shape]) -> list[Array]:
        whole = zeros(shapes[0], R)
        whole[self._slices()] = R
        return [whole]


@dataclass(frozen=True)
class Permute(_Moved):
    """
    Put the axes of one sample in another order.

    Parameters
    ----------
    order : tuple of int
        The axis of the input that each axis of the output is; (1, 2, 0) makes (C, H, W) into (H, W, C).
    """

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        axes = _whole(self.order, 0)
        if not axes or sorted(axes) != list(range(len(axes))):
            raise BadNetwork(f"Permute: order is {self.order!r}, wants every axis once, such as (1, 2, 0)")

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != len(self.order):
            raise BadNetwork(f"got {shapes[0]}, wants {len(self.order)} axes")
        return tuple(shapes[0][axis] for axis in self.order)

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return inputs[0].transpose(0, *(axis + 1 for axis in self.order)).copy()

    def _back(self, R: Array, shapes: Sequence[Shape]) -> list[Array]:
        return [R.transpose(0, *(self.order.index(axis) + 1 for axis in range(len(self.order)))).copy()]


@dataclass(frozen=True)
class Pad(_Moved):
    """
    An explicit padding layer. Relevance that lands on its cells is booked under `padding`.

    Parameters
    ----------
    padding : int, (down, right) or (top, bottom, left, right)
        Cells around the image.
    value : float
        What they hold.
    channels : (int, int)
        Channels of such cells before and after the image's own, as in the option-A shortcuts of
        CIFAR ResNets.
    """

    padding: Padding = 0
    value: float = 0.0
    channels: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        _sides(self.padding)
        if len(_whole(self.channels, 2)) != 2 or min(self.channels) < 0:
            raise BadNetwork(f"Pad: channels is {self.channels!r}: two whole numbers >= 0 are wanted")

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return self.value >= 0 and all(inputs)

    def output_shape(self, *shapes: Shape) -> Shape:
        c, h, w = _image(shapes[0])
        top, bottom, left, right = _sides(self.padding)
        return c + sum(self.channels), h + top + bottom, w + left + right

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        (a,) = inputs
        y = zeros((len(a), *self.output_shape(a.shape[1:])), a) + self.value
        self._image_of(y)[...] = a
        return y

    def _image_of(self, y: Array) -> Array:
        (first, last), (top, bottom, left, right) = self.channels, _sides(self.padding)
        _, c, h, w = y.shape
        return y[:, first : c - last, top : h - bottom, left : w - right]

    def _back(self, R: Array, shapes: Sequence[Shape]) -> list[Array]:
        return [self._image_of(R)]

    def passed(self, inputs: Sequence[Array], R: Array) -> tuple[list[Array], Array | None]:
        cells = R.copy()
        self._image_of(cells)[...] = zeros_like(inputs[0])
        return [self._image_of(R)], cells


class _Contributions(Layer):
    """
    Base of the layers that spell out what input j contributes to upper neuron k: q_jk, in place of a_j w_jk.

    q_jk is input j's alone, and so is its relevance: R_j = sum_k R_jk. A `Total` that follows adds them up,
    and the rule there shares R_k in proportion: Eq. (10.2) of Montavon et al. 2019.
    """

    def _points(self) -> Array:
        """One point per upper neuron, shape (K, J)."""
        raise NotImplementedError

    def output_shape(self, *shapes: Shape) -> Shape:
        count, *wanted = self._points().shape
        if shapes[0] != tuple(wanted):
            raise BadNetwork(f"got {shapes[0]}, wants {tuple(wanted)}")
        return (*wanted, count)

    def _differences(self, kernels: Any, a: Array) -> Array:
        """From each point: (N, J, K)."""
        return a[:, :, None] - kernels.upload(self._points().T)

    def passed(self, inputs: Sequence[Array], R: Array) -> tuple[list[Array], Array | None]:
        return [R.sum(axis=2)], None


@dataclass(frozen=True, eq=False)
class WeightedDifferences(_Contributions):
    """
    What input j contributes to z_k = w_k . (x - m_k), a discriminant seen from a point m_k where it is 0.

    q_jk = (x_j - m_kj) w_kj; so there is no bias. The neuralized k-means of Kauffmann et al., From Clustering
    to Cluster Explanations via Neural Networks (2022), which calls it the midpoint rule.

    Parameters
    ----------
    weight : ndarray, shape (K, J)
        Normals w.
    midpoint : ndarray, shape (K, J)
        Points m.
    """

    weight: Array
    midpoint: Array

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or 0 in self.weight.shape or self.weight.shape != self.midpoint.shape:
            raise BadNetwork(
                f"WeightedDifferences: weight is {self.weight.shape}, midpoint {self.midpoint.shape}, "
                "want (K, J)"
            )

    def _points(self) -> Array:
        return self.midpoint

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return self._differences(kernels, inputs[0]) * kernels.upload(self.weight.T)

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        return [(g * kernels.upload(self.weight.T)).sum(axis=2)]


@dataclass(frozen=True, eq=False)
class SquaredDifferences(_Contributions):
    """
    What input j contributes to the squared distance from a point u_k: q_jk = scale (x_j - u_kj)^2.

    The deep Taylor decomposition of the distance on the way from u_k to x (Kauffmann, Müller, Montavon 2020).
    The square is of the difference. As terms x_j^2 - 2 x_j u_kj + u_kj^2 of a dense layer it would cancel:
    1e-4 from a support vector, relevances in float64 were off by up to 5e-6 of the largest, and at one, where
    R_k is dropped because z_k is 0, by several times the largest.

    Parameters
    ----------
    points : ndarray, shape (K, J)
        The points u.
    scale : float
        Positive.
    """

    points: Array
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or 0 in self.points.shape:
            raise BadNetwork(f"SquaredDifferences: points are {self.points.shape}, want (K, J)")
        positive("SquaredDifferences: scale", self.scale, BadNetwork)

    def _points(self) -> Array:
        return self.points

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        d = self._differences(kernels, inputs[0])
        return d * d * self.scale

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        return [(2 * self.scale * self._differences(kernels, inputs[0]) * g).sum(axis=2)]

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return True


@dataclass(frozen=True)
class SoftMin(Layer):
    """
    Soft minimum of a vector: f = -1/beta log sum_k exp(-beta h_k); or the least h_k itself.

    Relevance goes min-take-most, with weights p_k = exp(-beta h_k) / sum_k' exp(-beta h_k'). They are the
    gradient of f, and R_k = p_k (h_k - h~_k) R / f are the first-order terms of its Taylor expansion at a
    reference point h~:

    - `origin`, h~ = 0: R_k = p_k h_k R / f (Montavon et al. 2019, Section 10.3.1). As
      sum p h = f + H(p) / beta with the entropy H, the account `pooling` takes -H(p) / beta R / f.
    - `root`, h~_k = h_k - f, where the soft minimum is 0 and up to which it is linear: R_k = p_k R.

    Parameters
    ----------
    beta : float
        Stiffness, positive: the larger, the closer to the minimum. In 1 / the unit of h.
    hard : bool
        Whether f is the least h_k; beta then only says how its relevance is shared.
    reference : {"origin", "root"}
        From where contributions count.
    """

    beta: float = 1.0
    hard: bool = False
    reference: str = "origin"

    def __post_init__(self) -> None:
        positive("SoftMin: beta", self.beta, BadNetwork)
        if self.reference not in ("origin", "root"):
            raise BadNetwork(f"SoftMin: reference is {self.reference!r}, wants 'origin' or 'root'")
        if self.hard and self.reference == "origin":
            raise BadNetwork("SoftMin: a hard minimum wants the reference 'root'")

    @property
    def way(self) -> str:
        """How relevance goes."""
        return f"min-take-most({self.reference})"

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 1:
            raise BadNetwork(f"got {shapes[0]}, wants a vector (K,)")
        return (1,)

    def weights(self, h: Array) -> Array:
        """
        Give the weights by which relevance is shared.

        Parameters
        ----------
        h : ndarray, shape (N, K)
            The inputs.

        Returns
        -------
        ndarray, shape (N, K)
            p_k, positive; their sum is 1.
        """
        return elementwise.softmax(-self.beta * h)

    def _minimum(self, h: Array) -> Array:
        rows, least = np.arange(len(h)), h.argmin(axis=1)
        f = h[rows, least]
        if self.hard:
            greater(f[:, None], h)  # of balls that overlap none is known to be the least
        else:
            f = f + elementwise.log_softmax(-self.beta * h)[rows, least] / self.beta
        return f[:, None]

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return kernels.upload(self._minimum(kernels.download(inputs[0])))

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        h = kernels.download(inputs[0])
        p = zeros_like(h)
        if self.hard:
            p[np.arange(len(h)), h.argmin(axis=1)] += 1
        else:
            p = self.weights(h)
        return [kernels.upload(p * kernels.download(g))]

    def handed(
        self, kernels: Any, inputs: Sequence[Array], R: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        h, R = kernels.download(inputs[0]), kernels.download(R)
        p = self.weights(h)
        if self.reference == "root":
            return [kernels.upload(p * R)], {}
        f = self._minimum(h)
        if (zero := equal(f, 0)).any():
            raise BadRule(
                f"the soft minimum of sample {int(zero.argmax())} is 0: nothing can be in proportion to it"
            )
        surplus = p * elementwise.log_softmax(-self.beta * h) / self.beta  # its sum is -H(p) / beta
        return [kernels.upload(p * h * (R / f))], {"pooling": kernels.upload(surplus * (R / f))}


@dataclass(frozen=True)
class Gate(Layer):
    """
    Product of a gate and a signal: a = gate * signal, the neuron of Section 10.4.

    The gate regulates how the signal goes through; the signal takes all relevance, the gate none.
    """

    inputs: ClassVar[int | None] = 2

    @property
    def way(self) -> str:
        """How relevance goes."""
        return "signal-take-all"

    def output_shape(self, *shapes: Shape) -> Shape:
        if shapes[0] != shapes[1]:
            raise BadNetwork(f"got {shapes[0]} and {shapes[1]}, wants a gate and a signal of one shape")
        return shapes[0]

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        gate, signal = inputs
        return gate * signal

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        gate, signal = inputs
        return [g * signal, g * gate]

    def nonnegative(self, inputs: Sequence[bool]) -> bool:
        return all(inputs)

    def passed(self, inputs: Sequence[Array], R: Array) -> tuple[list[Array], Array | None]:
        return [zeros_like(inputs[0]), R], None


@dataclass(frozen=True, eq=False)
class State(Layer):
    """
    Initial state of a recurrent layer: the same for every input. Its relevance is booked under `state`.

    Parameters
    ----------
    value : ndarray
        One sample of the output.
    """

    value: Array

    @property
    def way(self) -> str:
        """How relevance goes."""
        return "state"

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.value.shape

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return zeros((len(inputs[0]), *self.value.shape), inputs[0]) + kernels.upload(self.value)

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        return [zeros_like(inputs[0])]

    def handed(
        self, kernels: Any, inputs: Sequence[Array], R: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        return [zeros_like(inputs[0])], {"state": R}


LAYERS: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (
        Dense, Conv2d, ConvTranspose2d, BatchNorm, Add, Concat,
        SumPool2d, AvgPool2d, AdaptiveAvgPool2d, MaxPool2d,
        ReLU, ReLU6, Clip, LeakyReLU, ELU, Sigmoid, Softplus, Tanh, SiLU, GELU, HardSwish, HardSigmoid,
        Identity, Dropout, Softmax, LogSoftmax, Flatten, Reshape, Permute, Slice, Pad,
        WeightedDifferences, SquaredDifferences, Total, SoftMin, Gate, State,
    )
}  # fmt: skip
"""Every layer by its name, for the neutral file format and for architecture files."""
