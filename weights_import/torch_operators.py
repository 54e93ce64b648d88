"""The table of PyTorch's operators: which layers each of them is.

The names are those that torch.export writes. Every handler takes the operator's own arguments by their own
names and defaults (`pytorch/aten/src/ATen/native/native_functions.yaml`); `program.py` says what the
arguments and results are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lrpref import layers
from lrpref.kernels.operations import Array
from lrpref.layers import Layer, Pair, Shape
from lrpref.weights_import.pickles import shown
from lrpref.weights_import.program import (
    MAX_CONSTANT,
    Draft,
    Handler,
    Table,
    Unsupported,
    Value,
    gated,
    register,
    size,
    whole,
)
from lrpref.weights_import.torch_graph import IMPOSSIBLE

OPERATORS: Table = {}
"""What is supported: operators by their names, each with its handler."""

MAX_PARTS = 4096
"""Into so many parts a value may be split."""

EVAL = "call module.eval() before it is exported"


def _aten(*names: str) -> Callable[[Handler], Handler]:
    return register(OPERATORS, *(f"aten.{name}" for name in names))


# What several handlers need


def _value(value: Any, what: str) -> Value:
    """Make sure that it depends on the input."""
    if not isinstance(value, Value):
        raise Unsupported(f"{what} of a constant")
    return value


def _constant(array: Any, what: str) -> Array:
    """Make sure that no input changes it."""
    if isinstance(array, Value):
        raise Unsupported(
            f"{what} of two values that both depend on the input (a gate, squeeze-and-excitation, "
            "attention): LRP has no agreed rule for products"
        )
    return np.asarray(array)


def _weight(array: Any) -> Any:
    """Make sure that a weight is a constant, and none that is larger than what the file holds; None stays."""
    if isinstance(array, Value):
        raise Unsupported("weights that depend on the input")
    if array is not None and np.asarray(array).dtype.kind != "f":
        raise Unsupported(f"weights of dtype {np.asarray(array).dtype}: floats are read")
    return None if array is None else _real(np.asarray(array))


def _real(array: Array) -> Array:
    """Refuse a constant that repeats a few numbers until it is huge."""
    if 0 in array.strides and array.size > MAX_CONSTANT:
        raise Unsupported(f"a computed constant of {array.size} numbers (at most {MAX_CONSTANT})")
    return array


def _batched(value: Value) -> str:
    return f"(N, {', '.join(map(str, value.shape))})"


def _full(draft: Draft, value: Any) -> Shape:
    """Shape with the samples, as PyTorch sees it."""
    return (draft.batch, *value.shape) if isinstance(value, Value) else np.shape(value)


def _dimension(rank: int, dim: int) -> int:
    if not -rank <= dim < rank:
        raise Unsupported(f"dimension {dim} of {rank}")
    return dim % rank


def _axis(value: Value, dim: int) -> int:
    """Find the axis of one sample that a dimension is."""
    dimension = _dimension(len(value.shape) + 1, dim)
    if dimension == 0:
        raise Unsupported("an operation along the samples of the batch: each must be computed by itself")
    return dimension - 1


def _short(down: int, right: int) -> Pair:
    return down if down == right else (down, right)


def _pair(values: Any, sides: int, down: int = 1) -> Pair:
    """Read (down, right) from one number, or one for each side; a signal has no `down` of its own."""
    numbers = whole(values)
    numbers = numbers * sides if len(numbers) == 1 else numbers
    if len(numbers) != sides:
        raise Unsupported(f"{len(numbers)} numbers where {sides} are wanted")
    return _short(*numbers) if sides == 2 else _short(down, *numbers)


def _on_image(draft: Draft, layer: Layer, value: Any, sides: int, part: str = "") -> Value:
    """Put a layer on an image (two sides) or on a signal (one)."""
    if not isinstance(value, Value) or len(value.shape) != sides + 1:
        wanted = "images (N, C, H, W)" if sides == 2 else "signals (N, C, L)"
        raise Unsupported(f"an input of shape {_full(draft, value)} where {wanted} are read")
    image = draft.image(value)
    c, h, w = layer.output_shape(draft.shapes[image.node])
    return draft.add(layer, image, shape=(c, h, w) if sides == 2 else (c, w), part=part)


# Layers with weights


def _image_weight(weight: Any, what: str) -> tuple[Array, int]:
    """Give a convolution's weight four axes, and say how many sides the images have."""
    weight = _weight(weight)
    if weight.ndim not in (3, 4):
        raise Unsupported(f"{what} with a weight of shape {weight.shape}: one and two dimensions are read")
    return (weight[:, :, None], 1) if weight.ndim == 3 else (weight, 2)


def _convolution_padding(padding: Any, weight: Array, dilation: Pair, sides: int) -> layers.Padding:
    if not isinstance(padding, str):
        return _pair(padding, sides, 0)
    if padding == "valid":
        return 0
    if padding != "same":
        raise Unsupported(f"padding {shown(padding)}: numbers, 'same' and 'valid' are read")
    steps = (dilation, dilation) if isinstance(dilation, int) else dilation
    down, right = (step * (taps - 1) for step, taps in zip(steps, weight.shape[2:], strict=True))
    if down % 2 == right % 2 == 0:
        return _short(down // 2, right // 2)
    return (down // 2, down - down // 2, right // 2, right - right // 2)


@_aten("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding")
def _convolution(
    draft: Draft,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """`Conv1d`, `Conv2d`: any stride, dilation and groups; padding with zeros, 'same' and 'valid'."""
    weight, sides = _image_weight(weight, "a convolution")
    dilation = _pair(dilation, sides)
    padding = _convolution_padding(padding, weight, dilation, sides)
    layer = layers.Conv2d(weight, _weight(bias), _pair(stride, sides), padding, dilation, groups)
    return _on_image(draft, layer, input, sides)


@_aten("conv_transpose1d.default", "conv_transpose2d.input")
def _transposed(
    draft: Draft,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """`ConvTranspose1d`, `ConvTranspose2d`: any stride, padding, output padding, dilation and groups."""
    weight, sides = _image_weight(weight, "a transposed convolution")
    layer = layers.ConvTranspose2d(
        weight,
        _weight(bias),
        _pair(stride, sides),
        _pair(padding, sides, 0),
        _pair(output_padding, sides, 0),
        _pair(dilation, sides),
        groups,
    )
    return _on_image(draft, layer, input, sides)


@_aten("convolution.default")
def _either(
    draft: Draft,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Value:
    """Convolutions, transposed or not, as `conv2d` and `conv_transpose2d`."""
    if transposed:
        return _transposed(draft, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return _convolution(draft, input, weight, bias, stride, padding, dilation, groups)


@_aten("linear.default")
def _linear(draft: Draft, input: Any, weight: Any, bias: Any = None) -> Value:
    """`Linear` on vectors (N, J)."""
    value = _value(input, "linear")
    if len(value.shape) != 1:
        raise Unsupported(
            "a matrix product along the last axis of an image or of tokens: vectors (N, J) are read; along "
            "the channels of an image, write a convolution of 1 x 1"
        )
    return draft.add(layers.Dense(_weight(weight), _weight(bias)), draft.plain(value))


@_aten("addmm.default")
def _addmm(draft: Draft, self: Any, mat1: Any, mat2: Any, beta: float = 1, alpha: float = 1) -> Value:
    """A matrix product with a constant matrix, and a constant bias; `beta` and `alpha` of 1."""
    bias = _weight(self)
    if (beta, alpha) != (1, 1):
        raise Unsupported("addmm with beta or alpha other than 1")
    weight = _constant(mat2, "a matrix product").T
    return _linear(draft, mat1, weight, np.broadcast_to(_real(bias).reshape(-1), weight.shape[:1]))


@_aten("mm.default", "matmul.default")
def _product(draft: Draft, self: Any, other: Any = None, mat2: Any = None) -> Value:
    """A matrix product of vectors (N, J) with a constant matrix (J, K)."""
    matrix = _constant(mat2 if other is None else other, "a matrix product")
    if matrix.ndim != 2:
        raise Unsupported(f"a matrix product with a constant of shape {matrix.shape}: (J, K) is read")
    return _linear(draft, self, matrix.T)


@_aten("batch_norm.default")
def _batch_norm(
    draft: Draft,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    """`BatchNorm1d`, `BatchNorm2d` at test time, with running statistics."""
    if training:
        raise Unsupported(f"batch_norm in training mode, or without running statistics: {EVAL}")
    gamma, beta, mean, var = map(_weight, (weight, bias, running_mean, running_var))
    return _scaled(draft, _value(input, "batch_norm"), layers.BatchNorm.of(gamma, beta, mean, var, eps))


def _scaled(draft: Draft, value: Value, layer: layers.BatchNorm) -> Value:
    own = draft.plain(value) if len(value.shape) == 1 else draft.image(value)
    return draft.add(layer, own, shape=value.shape)


@_aten("_native_batch_norm_legit_no_training.default")
def _native_batch_norm(
    draft: Draft,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
) -> list[Any]:
    """`BatchNorm1d`, `BatchNorm2d` at test time; what else it gives must not be read."""
    norm = _batch_norm(draft, input, weight, bias, running_mean, running_var, False, momentum, eps)
    return [norm, None, None]


# Sums and products


def _affine(draft: Draft, value: Value, scale: Any = 1.0, shift: Any = 0.0) -> Value:
    """Multiply by a constant and add one: each a number, or one for each channel."""
    factors, summands = (_per_channel(value, np.asarray(numbers)) for numbers in (scale, shift))
    if (factors == 1).all() and (summands == 0).all():
        return value
    return _scaled(draft, value, layers.BatchNorm(factors, summands))


def _per_channel(value: Value, numbers: Array) -> Array:
    channels, *rest = value.shape
    axes = (*[1] * (len(value.shape) + 1 - numbers.ndim), *numbers.shape)
    alone = numbers.size == 1 or axes == (1, channels, *[1] * len(rest))
    if not alone or numbers.dtype.kind not in "fiub":
        raise Unsupported(
            f"a constant of shape {numbers.shape} beside a value of {_batched(value)}: one number, or one "
            "for each channel, is read"
        )
    if channels > MAX_CONSTANT:
        raise Unsupported(f"a constant for {channels} channels (at most {MAX_CONSTANT})")
    return np.broadcast_to(numbers.reshape(-1).astype(np.float64), (channels,)).copy()


def _folded(function: Callable[..., Array], *constants: Any) -> Array:
    """Compute a constant."""
    arrays = [np.asarray(constant) for constant in constants]
    if size(np.broadcast_shapes(*(array.shape for array in arrays))) > MAX_CONSTANT:
        raise Unsupported(f"a computed constant of more than {MAX_CONSTANT} numbers")
    with np.errstate(all="ignore"):
        return function(*constants)


@_aten("add.Tensor", "add.Scalar")
def _add(draft: Draft, self: Any, other: Any, alpha: float = 1) -> Any:
    """A sum of two values of one shape, or of a value and a constant: a number, or one for each channel."""
    if not isinstance(self, Value) and not isinstance(other, Value):
        return _folded(np.add, self, other if alpha == 1 else np.multiply(other, alpha))
    if not isinstance(self, Value):
        return _affine(draft, other, alpha, self)
    if not isinstance(other, Value):
        return _affine(draft, self, 1.0, np.asarray(other) * alpha)
    if self.shape != other.shape:
        raise Unsupported(f"a sum of {_batched(self)} and {_batched(other)}: values of one shape are read")
    other = _affine(draft, other, alpha)
    if draft.shapes[self.node] == draft.shapes[other.node]:
        return draft.add(layers.Add(), self, other, shape=self.shape)
    return draft.add(layers.Add(), draft.plain(self), draft.plain(other))


@_aten("sub.Tensor", "sub.Scalar")
def _subtract(draft: Draft, self: Any, other: Any, alpha: float = 1) -> Any:
    """A difference, as `add`."""
    return _add(draft, self, other, -alpha)


@_aten("rsub.Tensor", "rsub.Scalar")
def _subtract_from(draft: Draft, self: Any, other: Any, alpha: float = 1) -> Any:
    """A difference the other way round, as `add`."""
    return _add(draft, other, self, -alpha)


@_aten("mul.Tensor", "mul.Scalar")
def _multiply(draft: Draft, self: Any, other: Any) -> Any:
    """A product with a constant: a number, or one for each channel; x * sigmoid(x) is `SiLU`."""
    if isinstance(self, Value) and isinstance(other, Value):
        return gated(draft, self, other)
    if isinstance(self, Value):
        return _affine(draft, self, _constant(other, "a product"))
    return _affine(draft, other, self) if isinstance(other, Value) else _folded(np.multiply, self, other)


@_aten("div.Tensor", "div.Scalar")
def _divide(draft: Draft, self: Any, other: Any) -> Any:
    """A quotient by a constant: a number, or one for each channel."""
    divisor = _constant(other, "a quotient")
    if isinstance(self, Value):
        with np.errstate(divide="ignore"):
            return _affine(draft, self, 1 / _real(divisor).astype(np.float64))
    return _folded(np.divide, self, other)


@_aten("neg.default")
def _negate(draft: Draft, self: Any) -> Any:
    """The value with the opposite sign."""
    return _multiply(draft, self, -1)


# Functions of single numbers


def _function(layer: Layer, *names: str) -> None:
    """Put a function without parameters into the table."""

    def handler(draft: Draft, self: Any) -> Value:
        return draft.each(layer, _value(self, layer.kind))

    handler.__doc__ = f"`{layer.kind}`."
    _aten(*names)(handler)


_function(layers.ReLU(), "relu.default")
_function(layers.ReLU6(), "relu6.default")
_function(layers.Sigmoid(), "sigmoid.default")
_function(layers.Tanh(), "tanh.default")
_function(layers.SiLU(), "silu.default")
_function(layers.HardSwish(), "hardswish.default")
_function(layers.HardSigmoid(), "hardsigmoid.default")


def _clipped(draft: Draft, value: Any, low: float, high: float) -> Value:
    if (low, high) not in _BOUNDED and not np.isfinite([low, high]).all():
        raise Unsupported("a bound on one side, other than 0 from below: give it both")
    layer = _BOUNDED.get((low, high)) or layers.Clip(float(low), float(high))
    return draft.each(layer, _value(value, "a bound"))


_BOUNDED: dict[tuple[float, float], Layer] = {(0, np.inf): layers.ReLU(), (0, 6): layers.ReLU6()}
"""Bounds that have a name."""


@_aten("hardtanh.default")
def _hardtanh(draft: Draft, self: Any, min_val: float = -1, max_val: float = 1) -> Value:
    """`Hardtanh`, `ReLU6`."""
    return _clipped(draft, self, min_val, max_val)


@_aten("clamp.default")
def _clamp(draft: Draft, self: Any, min: float | None = None, max: float | None = None) -> Value:
    """Two bounds that are numbers, or the lower bound 0 alone."""
    return _clipped(draft, self, -np.inf if min is None else min, np.inf if max is None else max)


@_aten("clamp_min.default")
def _clamp_min(draft: Draft, self: Any, min: float) -> Value:
    """The lower bound 0: a ReLU."""
    return _clipped(draft, self, min, np.inf)


@_aten("leaky_relu.default")
def _leaky_relu(draft: Draft, self: Any, negative_slope: float = 0.01) -> Value:
    """`LeakyReLU`."""
    return draft.each(layers.LeakyReLU(float(negative_slope)), _value(self, "leaky_relu"))


@_aten("prelu.default")
def _prelu(draft: Draft, self: Any, weight: Any) -> Value:
    """`PReLU` with one slope for all channels."""
    slopes = _weight(weight)
    if slopes.size != 1:
        raise Unsupported(f"PReLU with {slopes.size} slopes: one for all channels is read")
    return draft.each(layers.LeakyReLU(float(slopes.reshape(()))), _value(self, "prelu"))


@_aten("elu.default")
def _elu(draft: Draft, self: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Value:
    """`ELU`; no SELU."""
    if (scale, input_scale) != (1, 1):
        raise Unsupported("elu with a scale other than 1 (SELU)")
    return draft.each(layers.ELU(float(alpha)), _value(self, "elu"))


@_aten("gelu.default")
def _gelu(draft: Draft, self: Any, approximate: str = "none") -> Value:
    """`GELU`, the exact one."""
    if approximate != "none":
        raise Unsupported(f"gelu with approximate={shown(approximate)}: the exact one, 'none', is read")
    return draft.each(layers.GELU(), _value(self, "gelu"))


@_aten("softplus.default")
def _softplus(draft: Draft, self: Any, beta: float = 1, threshold: float = 20) -> Value:
    """`Softplus` with its defaults; PyTorch's own is off by up to 2e-9 above its threshold."""
    if (beta, threshold) != (1, 20):
        raise Unsupported("softplus with a beta other than 1 or a threshold other than 20")
    return draft.each(layers.Softplus(), _value(self, "softplus"))


def _over_classes(draft: Draft, layer: Layer, value: Any, dim: int) -> Value:
    value = _value(value, "softmax")
    if _axis(value, dim) != 0 or len(value.shape) != 1:
        raise Unsupported(f"softmax along dimension {dim} of {_batched(value)}: scores (N, K) are read")
    return draft.add(layer, draft.plain(value))


@_aten("softmax.int", "_softmax.default")
def _softmax(draft: Draft, self: Any, dim: int, dtype: Any = None, half_to_float: bool = False) -> Value:
    """`Softmax` of scores (N, K), at the top."""
    return _over_classes(draft, layers.Softmax(), self, dim)


@_aten("log_softmax.int", "_log_softmax.default")
def _log_softmax(draft: Draft, self: Any, dim: int, dtype: Any = None, half_to_float: bool = False) -> Value:
    """`LogSoftmax` of scores (N, K), at the top."""
    return _over_classes(draft, layers.LogSoftmax(), self, dim)


# Pooling


def _window(kernel: Any, stride: Any, padding: Any, sides: int) -> tuple[Pair, Pair | None, Pair]:
    """Read kernel, stride and padding; a stride of the kernel's size need not be named."""
    size = _pair(kernel, sides)
    step = _pair(stride, sides) if np.size(stride) else size
    return size, None if step == size else step, _pair(padding, sides, 0)


def _max_pool(
    draft: Draft, value: Any, sides: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> Value:
    if set(whole(dilation)) != {1}:
        raise Unsupported("max pooling with dilation: 1 is read")
    return _on_image(draft, layers.MaxPool2d(*_window(kernel, stride, padding, sides), ceil), value, sides)


@_aten("max_pool1d.default")
def _max_pool1d(
    draft: Draft,
    self: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:
    """`MaxPool1d` without dilation."""
    return _max_pool(draft, self, 1, kernel_size, stride, padding, dilation, ceil_mode)


@_aten("max_pool2d.default")
def _max_pool2d(
    draft: Draft,
    self: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Value:
    """`MaxPool2d` without dilation; with any stride and padding, and `ceil_mode`."""
    return _max_pool(draft, self, 2, kernel_size, stride, padding, dilation, ceil_mode)


@_aten("max_pool2d_with_indices.default")
def _max_pool2d_with_indices(draft: Draft, self: Any, *args: Any, **options: Any) -> list[Any]:
    """`MaxPool2d` without dilation; the indices must not be read."""
    return [_max_pool2d(draft, self, *args, **options), None]


@_aten("avg_pool1d.default")
def _avg_pool1d(
    draft: Draft,
    self: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value:
    """`AvgPool1d`, with all its options."""
    layer = layers.AvgPool2d(*_window(kernel_size, stride, padding, 1), ceil_mode, count_include_pad)
    return _on_image(draft, layer, self, 1)


@_aten("avg_pool2d.default")
def _avg_pool2d(
    draft: Draft,
    self: Any,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """`AvgPool2d`, with all its options."""
    window = _window(kernel_size, stride, padding, 2)
    layer = layers.AvgPool2d(*window, ceil_mode, count_include_pad, divisor_override)
    return _on_image(draft, layer, self, 2)


@_aten("adaptive_avg_pool1d.default")
def _adaptive_avg_pool1d(draft: Draft, self: Any, output_size: Any) -> Value:
    """`AdaptiveAvgPool1d`, to any size."""
    return _on_image(draft, layers.AdaptiveAvgPool2d(_pair(output_size, 1)), self, 1)


@_aten("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default")
def _adaptive_avg_pool2d(draft: Draft, self: Any, output_size: Any) -> Value:
    """`AdaptiveAvgPool2d`, to any size."""
    return _on_image(draft, layers.AdaptiveAvgPool2d(_pair(output_size, 2)), self, 2)


def _adaptive_max_pool(draft: Draft, value: Any, output_size: Any, sides: int) -> list[Any]:
    _, *lengths = _value(value, "max pooling").shape
    numbers = whole(output_size)
    pairs = list(zip(lengths, numbers, strict=True))
    if any(length % number for length, number in pairs):
        raise Unsupported(f"adaptive max pooling of {lengths} to {list(numbers)} in windows of several sizes")
    kernel = [length // number for length, number in pairs]
    return [_max_pool(draft, value, sides, kernel, [], 0, 1, False), None]


@_aten("adaptive_max_pool1d.default")
def _adaptive_max_pool1d(draft: Draft, self: Any, output_size: Any) -> list[Any]:
    """`AdaptiveMaxPool1d`, to a size that divides the signal; the indices must not be read."""
    return _adaptive_max_pool(draft, self, output_size, 1)


@_aten("adaptive_max_pool2d.default")
def _adaptive_max_pool2d(draft: Draft, self: Any, output_size: Any) -> list[Any]:
    """`AdaptiveMaxPool2d`, to a size that divides the image; the indices must not be read."""
    return _adaptive_max_pool(draft, self, output_size, 2)


def _all_sides(value: Value, dim: Any, what: str) -> int:
    """Make sure that all axes but the channels are meant, and count them."""
    axes = {_axis(value, number) for number in whole(range(len(value.shape) + 1) if dim is None else dim)}
    if axes != set(range(1, len(value.shape))) or len(value.shape) not in (2, 3):
        raise Unsupported(
            f"{what} of {_batched(value)} along {dim}: that over the whole image (N, C, H, W) or signal "
            "(N, C, L) is read"
        )
    return len(axes)


def _without_sides(value: Value, keepdim: bool) -> Value:
    return value if keepdim else Value(value.node, value.shape[:1])


@_aten("mean.dim")
def _mean(draft: Draft, self: Any, dim: Any, keepdim: bool = False, dtype: Any = None) -> Value:
    """The mean over both axes of an image, or over a signal."""
    value = _value(self, "mean")
    sides = _all_sides(value, dim, "the mean")
    return _without_sides(_on_image(draft, layers.AdaptiveAvgPool2d(1), value, sides), keepdim)


@_aten("amax.default")
def _amax(draft: Draft, self: Any, dim: Any = None, keepdim: bool = False) -> Value:
    """The maximum over both axes of an image, or over a signal."""
    value = _value(self, "the maximum")
    sides = _all_sides(value, dim, "the maximum")
    return _without_sides(_max_pool(draft, value, sides, value.shape[1:], [], 0, 1, False), keepdim)


# What only moves numbers


def _shaped(draft: Draft, value: Any, shape: Sequence[int]) -> Any:
    """Give a value another shape, samples included."""
    if not isinstance(value, Value):
        return _real(np.asarray(value)).reshape(shape)
    if not len(shape) > 1 or shape[0] != draft.batch:
        raise Unsupported(
            f"a change of shape from {_full(draft, value)} to {tuple(shape)}: the samples must stay on an "
            "axis of their own, the first"
        )
    return draft.reshape(value, tuple(shape[1:]))


def _completed(shape: Sequence[int], count: int) -> list[int]:
    """Fill in the one size that may be -1."""
    known = size(tuple(number for number in shape if number != -1))
    if list(shape).count(-1) > 1 or not known or count % known:
        raise Unsupported(f"a change of shape of {count} numbers to {tuple(shape)}")
    return [count // known if number == -1 else number for number in shape]


@_aten("view.default", "_unsafe_view.default")
def _view(draft: Draft, self: Any, size: Any) -> Any:
    """Another shape, samples staying apart; not a change of dtype."""
    return _reshape(draft, self, size)


@_aten("reshape.default")
def _reshape(draft: Draft, self: Any, shape: Any) -> Any:
    """Another shape, samples staying apart."""
    return _shaped(draft, self, _completed(whole(shape), size(_full(draft, self))))


@_aten("flatten.using_ints")
def _flatten(draft: Draft, self: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Any axes but the samples."""
    full = _full(draft, self)
    start, end = _dimension(len(full), start_dim), _dimension(len(full), end_dim)
    if isinstance(self, Value) and start == 1 and end == len(full) - 1 and len(draft.shapes[self.node]) > 1:
        return draft.add(layers.Flatten(), self)
    return _shaped(draft, self, (*full[:start], size(full[start : end + 1]), *full[end + 1 :]))


@_aten("unflatten.int")
def _unflatten(draft: Draft, self: Any, dim: int, sizes: Any) -> Any:
    """Any axis but the samples."""
    full = _full(draft, self)
    dim = _dimension(len(full), dim)
    return _shaped(draft, self, (*full[:dim], *_completed(whole(sizes), full[dim]), *full[dim + 1 :]))


@_aten("squeeze.dim", "squeeze.dims", "squeeze.default")
def _squeeze(draft: Draft, self: Any, dim: Any = None) -> Any:
    """Any axes of length 1 but the samples."""
    full = _full(draft, self)
    dims = whole(range(len(full)) if dim is None else dim)
    gone = {number for number in (_dimension(len(full), each) for each in dims) if full[number] == 1}
    if isinstance(self, Value) and 0 in gone:
        raise Unsupported("squeeze of a batch of one sample: name the axes, such as flatten(1)")
    return _shaped(draft, self, [length for axis, length in enumerate(full) if axis not in gone])


@_aten("unsqueeze.default")
def _unsqueeze(draft: Draft, self: Any, dim: int) -> Any:
    """A new axis of length 1."""
    full = _full(draft, self)
    at = _dimension(len(full) + 1, dim)
    return _shaped(draft, self, (*full[:at], 1, *full[at:]))


def _permuted(draft: Draft, value: Any, order: Sequence[int]) -> Any:
    """Put the axes, samples included, in another order."""
    if not isinstance(value, Value):
        return np.transpose(value, order)
    if order[0] != 0:
        raise Unsupported("a transposition of the samples of the batch: they must stay on the first axis")
    if list(order) == sorted(order):
        return value
    return draft.add(layers.Permute(tuple(axis - 1 for axis in order[1:])), draft.plain(value))


@_aten("permute.default")
def _permute(draft: Draft, self: Any, dims: Any) -> Any:
    """The axes of one sample in another order."""
    rank = len(_full(draft, self))
    return _permuted(draft, self, [_dimension(rank, dim) for dim in whole(dims)])


@_aten("transpose.int")
def _transpose(draft: Draft, self: Any, dim0: int, dim1: int) -> Any:
    """Two axes of one sample exchanged."""
    order = list(range(len(_full(draft, self))))
    first, second = _dimension(len(order), dim0), _dimension(len(order), dim1)
    order[first], order[second] = second, first
    return _permuted(draft, self, order)


@_aten("swapaxes.default")
def _swapaxes(draft: Draft, self: Any, axis0: int, axis1: int) -> Any:
    """Two axes of one sample exchanged."""
    return _transpose(draft, self, axis0, axis1)


@_aten("t.default", "numpy_T.default")
def _transposed_matrix(draft: Draft, self: Any) -> Any:
    """A constant matrix, transposed."""
    return _permuted(draft, self, range(len(_full(draft, self)))[::-1])


@_aten("channel_shuffle.default")
def _channel_shuffle(draft: Draft, self: Any, groups: int) -> Value:
    """`ChannelShuffle`."""
    c, *rest = _value(self, "channel_shuffle").shape
    split = draft.reshape(self, (groups, *_completed([groups, -1], c)[1:], *rest))
    order = (1, 0, *range(2, 2 + len(rest)))
    return draft.reshape(draft.add(layers.Permute(order), draft.plain(split)), self.shape)


@_aten("cat.default")
def _concatenate(draft: Draft, tensors: list[Any], dim: int = 0) -> Any:
    """Values one behind another; or one image, and constant zeros before or behind its channels."""
    values = [tensor for tensor in tensors if isinstance(tensor, Value)]
    if not values:
        if sum(np.size(tensor) for tensor in tensors) > MAX_CONSTANT:
            raise Unsupported(f"a computed constant of more than {MAX_CONSTANT} numbers")
        return np.concatenate(tensors, axis=dim)
    if len(values) < len(tensors):
        return _padded_channels(draft, tensors, values, dim)
    axis = _axis(values[0], dim)
    if len(values) == 1:
        return values[0]
    return draft.add(layers.Concat(axis), *map(draft.plain, values))


def _padded_channels(draft: Draft, tensors: list[Any], values: list[Value], dim: int) -> Value:
    """Join one image with blocks of zeros, as the shortcuts of CIFAR's ResNets do."""
    image = values[0]
    at = next(i for i, tensor in enumerate(tensors) if tensor is image)
    for block in (*tensors[:at], *tensors[at + 1 :]):
        rest = np.shape(block)[:1] + np.shape(block)[2:]
        if isinstance(block, Value) or _any(block) or rest != (draft.batch, *image.shape[1:]):
            raise Unsupported("a concatenation with constants other than zeros beside one image's channels")
    if _axis(image, dim) != 0:
        raise Unsupported("a concatenation with constants along another axis than the channels")
    before, behind = (sum(np.shape(block)[1] for block in part) for part in (tensors[:at], tensors[at + 1 :]))
    return _on_image(draft, layers.Pad(channels=(before, behind)), image, len(image.shape) - 1)


def _any(constant: Any) -> bool:
    """Tell whether a constant holds anything but 0, however often it repeats it."""
    array = np.asarray(constant)
    return bool(array[tuple(slice(0, 1) if not step else slice(None) for step in array.strides)].any())


def _sliced(draft: Draft, value: Value, axis: int, where: range, part: str = "") -> Value:
    """Take a part along one axis of one sample."""
    if where == range(value.shape[axis]):
        return value
    starts, stops, steps = [0] * len(value.shape), list(value.shape), [1] * len(value.shape)
    starts[axis], stops[axis], steps[axis] = where.start, where.stop, where.step
    layer = layers.Slice(tuple(starts), tuple(stops), tuple(steps))
    return draft.add(layer, draft.plain(value), part=part)


@_aten("slice.Tensor")
def _slice_along(
    draft: Draft, self: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    """Any part along any axis but the samples."""
    full = _full(draft, self)
    dim = _dimension(len(full), dim)
    where = slice(start, end, step)
    if not isinstance(self, Value):
        return np.asarray(self)[(*[slice(None)] * dim, where)]
    indices = range(*where.indices(full[dim]))
    if dim == 0 and indices == range(draft.batch):
        return self
    return _sliced(draft, self, _axis(self, dim), indices)


@_aten("narrow.default")
def _narrow(draft: Draft, self: Any, dim: int, start: int, length: int) -> Any:
    """A part along any axis but the samples."""
    return _slice_along(draft, self, dim, start, start + length if start + length else None)


@_aten("select.int")
def _select(draft: Draft, self: Any, dim: int, index: int) -> Any:
    """One of the values along any axis but the samples."""
    full = _full(draft, self)
    dim = _dimension(len(full), dim)
    index = _dimension(full[dim], index)
    if not isinstance(self, Value):
        return np.take(self, index, axis=dim)
    one = _sliced(draft, self, _axis(self, dim), range(index, index + 1))
    return _shaped(draft, one, (*full[:dim], *full[dim + 1 :]))


def _parts(draft: Draft, value: Any, dim: int, lengths: Sequence[int]) -> list[Any]:
    """Split along one axis of one sample."""
    value = _value(value, "a split")
    axis, ends = _axis(value, dim), np.cumsum(lengths).tolist()
    if ends[-1] != value.shape[axis]:
        raise Unsupported(f"a split of {value.shape[axis]} into {ends[-1]}")
    starts = [0, *ends[:-1]]
    return [
        _sliced(draft, value, axis, range(start, end), str(i))
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _equal_parts(whole_length: int, length: int) -> list[int]:
    """Split into parts of one length; the last is what is left."""
    if length < 1 or whole_length > length * MAX_PARTS:
        raise Unsupported(f"a split of {whole_length} into parts of {length}")
    return [min(length, whole_length - start) for start in range(0, whole_length, length)]


@_aten("chunk.default")
def _chunk(draft: Draft, self: Any, chunks: int, dim: int = 0) -> list[Any]:
    """Along any axis but the samples."""
    length = _full(draft, self)[_dimension(len(_full(draft, self)), dim)]
    return _parts(draft, self, dim, _equal_parts(length, -(-length // chunks)))


@_aten("split.Tensor")
def _split(draft: Draft, self: Any, split_size: int, dim: int = 0) -> list[Any]:
    """Along any axis but the samples."""
    length = _full(draft, self)[_dimension(len(_full(draft, self)), dim)]
    return _parts(draft, self, dim, _equal_parts(length, split_size))


@_aten("split_with_sizes.default")
def _split_with_sizes(draft: Draft, self: Any, split_sizes: Any, dim: int = 0) -> list[Any]:
    """Along any axis but the samples."""
    return _parts(draft, self, dim, whole(split_sizes))


@_aten("constant_pad_nd.default")
def _constant_pad(draft: Draft, self: Any, pad: Any, value: float | None = None) -> Value:
    """A constant around an image or a signal, and before and behind its channels."""
    padded = _value(self, "padding")
    sides, numbers = len(padded.shape) - 1, list(whole(pad))
    if min(numbers) < 0:
        raise Unsupported("a negative padding: write it as a slice, x[..., 1:-1]")
    pairs = [tuple(numbers[i : i + 2]) for i in range(0, len(numbers), 2)]  # the last axis first
    pairs += [(0, 0)] * (sides + 2 - len(pairs))
    *around, channels, samples = pairs
    if any(samples) or len(pairs) != sides + 2:
        raise Unsupported("a padding of the samples of the batch")
    if not any(numbers):
        return padded
    (left, right), (top, bottom) = [*around, (0, 0)][:2]
    layer = layers.Pad((top, bottom, left, right), float(value or 0), (channels[0], channels[1]))
    return _on_image(draft, layer, padded, sides)


@_aten("pad.default")
def _pad(draft: Draft, self: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Value:
    """`ZeroPad1d`, `ZeroPad2d`, `ConstantPad1d`, `ConstantPad2d`; also before and behind the channels."""
    if mode != "constant":
        raise Unsupported(f"padding with mode={shown(mode)}: 'constant' is read")
    return _constant_pad(draft, self, pad, value)


# What leaves the numbers as they are


@_aten(
    "alias.default", "clone.default", "contiguous.default", "detach.default", "detach_.default",
    "lift_fresh_copy.default",
)  # fmt: skip
def _same(draft: Draft, self: Any) -> Any:
    """Nothing: the same numbers."""
    return self


@_aten("dropout.default", "feature_dropout.default", "alpha_dropout.default", "feature_alpha_dropout.default")
def _dropout(draft: Draft, p: float, train: bool, input: Any = None, self: Any = None) -> Value:
    """`Dropout` and its kin at test time."""  # `dropout_` calls its input `self`
    if train:
        raise Unsupported(f"dropout in training mode: {EVAL}")
    return draft.each(layers.Dropout(), _value(input if self is None else self, "dropout"))


@_aten("to.dtype", "to.dtype_layout", "to.device", "_to_copy.default")
def _to(draft: Draft, self: Any, dtype: Any = None, copy: bool = False) -> Any:
    """Another device, or another dtype of real numbers: lrpref computes in one dtype throughout."""
    if dtype not in (None, "float16", "bfloat16", "float32", "float64"):
        raise Unsupported(f"a conversion to {shown(dtype)}: float numbers stay float")
    return self


# Constants, and sizes that depend on how many samples there are


def _filled(shape: Any, value: float) -> Array:
    return np.broadcast_to(np.float32(value), whole(shape))


@_aten("zeros.default")
def _zeros(draft: Draft, size: Any, dtype: Any = None) -> Array:
    """A constant, for a concatenation."""
    return _filled(size, 0)


@_aten("ones.default")
def _ones(draft: Draft, size: Any, dtype: Any = None) -> Array:
    """A constant."""
    return _filled(size, 1)


@_aten("full.default")
def _constant_of(draft: Draft, size: Any, fill_value: float, dtype: Any = None) -> Array:
    """A constant."""
    return _filled(size, fill_value)


@_aten("new_zeros.default")
def _new_zeros(draft: Draft, self: Any, size: Any, dtype: Any = None) -> Array:
    """A constant, for a concatenation."""
    return _filled(size, 0)


@_aten("zeros_like.default")
def _zeros_like(draft: Draft, self: Any, dtype: Any = None) -> Array:
    """A constant, for a concatenation."""
    return _filled(_full(draft, self), 0)


@_aten("full_like.default")
def _full_like(draft: Draft, self: Any, fill_value: float, dtype: Any = None) -> Array:
    """A constant, for a concatenation."""
    return _filled(_full(draft, self), fill_value)


@_aten("sym_size.int")
def _sym_size(draft: Draft, self: Any, dim: int) -> int:
    """The length of an axis; how many samples there are, for a change of shape."""
    shape = _full(draft, self)
    return int(shape[_dimension(len(shape), dim)])


def _arithmetic(function: Callable[[int, int], int]) -> None:
    """Put arithmetic with sizes into the table."""

    def handler(draft: Draft, a: Any, b: Any) -> int:
        if type(a) is not int or type(b) is not int:
            raise Unsupported("arithmetic with sizes that are not known")
        return function(a, b)

    handler.__doc__ = "Arithmetic with sizes."
    register(OPERATORS, f"_operator.{function.__name__}")(handler)


for _function_of_sizes in (operator.add, operator.mul):
    _arithmetic(_function_of_sizes)


@register(OPERATORS, IMPOSSIBLE)
def _impossible(draft: Draft, reason: str) -> None:
    """No operator: what cannot be read because something in it changes values in place."""
    raise Unsupported(f"a change in place: {reason}")
