"""Which layers an ONNX operator is.

A handler's parameters are the operator's inputs in their order, then its attributes by name. Where a later
version made an attribute an input (the bounds of Clip, the axes of Squeeze), its name stayed, so one handler
serves all versions. `outputs` is how many results the node gives. What a handler does not take, a file must
not say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lrpref import layers
from lrpref.kernels.operations import Array
from lrpref.layers import Layer, Shape
from lrpref.weights_import.program import (
    MAX_CONSTANT,
    Draft,
    Table,
    Unsupported,
    Value,
    gated,
    register,
    size,
    whole,
)

TABLE: Table = {}
"""Every operator that a network may have where values depend on its input."""

_FLOATS = (1, 10, 11)
"""Types that Cast may turn to: float, float16, double."""

_LARGEST = float(np.finfo(np.float32).max)
"""The bounds of Clip where none are given."""

# What handlers share.


def _value(x: Any, operator: str) -> Value:
    if not isinstance(x, Value):
        raise Unsupported(f"{operator} whose first input is a constant and another one is not")
    return x


def _constant(x: Any, what: str) -> Array:
    """Ask for numbers that no input changes, and that are no integers."""
    if isinstance(x, Value):
        raise Unsupported(f"{what} that depends on the input")
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        dtype = getattr(x, "dtype", "no array")
        raise Unsupported(f"{what} of dtype {dtype}: floats are read; convert the model to float32")
    return x


def _scalar(x: Any, what: str) -> float:
    if isinstance(x, Value):
        raise Unsupported(f"{what} that depends on the input")
    numbers = np.asarray(x, np.float64)
    if numbers.size != 1:
        raise Unsupported(f"{what} that is not one number")
    return numbers.item()


def _axis(axis: int, value: Value, operator: str) -> int:
    """Turn an axis of a batch into one of a sample."""
    axes = len(value.shape) + 1
    if not -axes <= axis < axes:
        raise Unsupported(f"{operator} over axis {axis} of a value with {axes}")
    if axis % axes == 0:
        raise Unsupported(f"{operator} over axis 0, the samples': each must stay by itself")
    return axis % axes - 1


def _listed(axes: Iterable[int]) -> tuple[int, ...]:
    found = tuple(axes)
    if len(set(found)) < len(found):
        raise Unsupported(f"an axis given twice in {found}")
    return found


def _over(draft: Draft, layer: Layer, value: Value) -> Value:
    """Add a layer that wants an image, to an image or a signal."""
    image = draft.image(value)
    own = layer.output_shape(draft.shapes[image.node])
    return draft.add(layer, image, shape=own if len(value.shape) == 3 else own[::2])


def _reshaped(draft: Draft, value: Value, shape: Sequence[int], operator: str) -> Value:
    """Give a batch another shape: its samples stay apart."""
    if not shape or shape[0] != draft.batch or size(tuple(shape[1:])) != size(value.shape) or len(shape) < 2:
        raise Unsupported(
            f"{operator} of {(draft.batch, *value.shape)} to {tuple(shape)}: "
            "axis 0 is the samples' and must stay"
        )
    return draft.reshape(value, tuple(shape[1:]))


def _permuted(draft: Draft, value: Value, order: tuple[int, ...]) -> Value:
    """Put axes in another order; two such layers in a row become one, or none."""
    before = draft.made(value)
    if before is not None and isinstance(before.layer, layers.Permute):
        order = tuple(before.layer.order[axis] for axis in order)
        read = before.inputs[0]
        value = Value(read, draft.shapes[read])
    shape = tuple(value.shape[axis] for axis in order)
    moved = [axis for axis in order if value.shape[axis] > 1]
    if moved == sorted(moved):  # no number changes its place
        return draft.reshape(value, shape)
    return draft.add(layers.Permute(order), draft.plain(value))


# Scaling and shifting by constants.


def _by_channel(draft: Draft, constant: Array, value: Value, operator: str) -> Array:
    """Spread a constant over the first axis of a sample: one number for each channel, in its own dtype."""
    shape = (1, *value.shape)
    there = (1,) * (len(shape) - constant.ndim) + constant.shape
    if len(there) != len(shape) or any(n not in (1, c) for n, c in zip(there, shape, strict=True)):
        raise Unsupported(f"{operator} of {(draft.batch, *value.shape)} and a constant of {constant.shape}")
    if size(there[2:]) > 1:
        raise Unsupported(
            f"{operator} of {(draft.batch, *value.shape)} and a constant of {constant.shape}: "
            "one number, or one for each channel (axis 1), is read"
        )
    return np.broadcast_to(constant.reshape(-1), _channels(value))


def _channels(value: Value) -> Shape:
    """Count channels, before numbers are made for each of them."""
    if value.shape[0] > MAX_CONSTANT:
        raise Unsupported(f"a constant for {value.shape[0]} channels (at most {MAX_CONSTANT})")
    return value.shape[:1]


def _affine(draft: Draft, value: Value, scale: Array, shift: Array) -> Value:
    """Scale and shift channels; what does so just before is part of the same layer."""
    before = draft.absorbing(value)
    if before is not None and isinstance(before.layer, layers.BatchNorm):
        scale, shift = scale * before.layer.scale, scale * before.layer.shift + shift
        value = Value(before.inputs[0], value.shape)
    return _normed(draft, layers.BatchNorm(scale, shift), value)


def _normed(draft: Draft, norm: layers.BatchNorm, value: Value) -> Value:
    wanted = draft.plain(value) if len(value.shape) == 1 else draft.image(value)
    return draft.add(norm, wanted, shape=value.shape)


def _scaled(draft: Draft, value: Value, scale: Array) -> Value:
    return _affine(draft, value, np.array(scale, np.float64), np.zeros(len(scale)))


def _shifted(draft: Draft, value: Value, shift: Array) -> Value:
    """Add to channels: the bias of a layer that has none yet, and that nothing else reads."""
    before = draft.absorbing(value)
    if before is not None and isinstance(before.layer, layers.Weighted) and before.layer.bias is None:
        layer = replace(before.layer, bias=np.ascontiguousarray(shift))
        return draft.add(layer, Value(before.inputs[0], value.shape), shape=value.shape)
    return _affine(draft, value, np.ones(len(shift)), np.array(shift, np.float64))


# Windows.


def _settings(values: Any, axes: int, default: int, what: str) -> tuple[int, ...]:
    numbers = (default,) * axes if values is None else whole(values)
    if len(numbers) != axes:
        raise Unsupported(f"{what} {numbers} for {axes} axes")
    return numbers


def _pair(numbers: tuple[int, ...], default: int = 1) -> tuple[int, int]:
    """Two numbers, down and right; a signal has only the second."""
    return (default, *numbers)[-2:]  # type: ignore[return-value]


def _sides(before: Sequence[int], after: Sequence[int]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right."""
    (top, left), (bottom, right) = _pair(tuple(before), 0), _pair(tuple(after), 0)
    return top, bottom, left, right


def _halves(total: Sequence[int], auto_pad: str) -> tuple[list[int], list[int]]:
    """Split paddings in two; what is odd goes to the end for SAME_UPPER, to the start for SAME_LOWER."""
    small, large = [n // 2 for n in total], [n - n // 2 for n in total]
    return (large, small) if auto_pad == "SAME_LOWER" else (small, large)


def _padding(
    operator: str,
    sides: Sequence[int],
    extent: Sequence[int],
    strides: Sequence[int],
    auto_pad: str,
    pads: Any,
) -> tuple[int, int, int, int]:
    """How many cells a window reaches beyond each side."""
    n = len(sides)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        if min(strides) < 1:
            raise Unsupported(f"{operator} with strides {tuple(strides)}")
        wanted = [(-(-side // s) - 1) * s + e for side, s, e in zip(sides, strides, extent, strict=True)]
        return _sides(*_halves([max(0, w - s) for w, s in zip(wanted, sides, strict=True)], auto_pad))
    if auto_pad not in ("NOTSET", "", "VALID"):
        raise Unsupported(f"{operator} with auto_pad {auto_pad[:20]!r}")
    given = _settings(None if auto_pad == "VALID" else pads, 2 * n, 0, f"{operator} with pads")
    if min(given) < 0:
        raise Unsupported(f"{operator} with pads {given}: numbers >= 0 are read; use Slice to cut")
    return _sides(given[:n], given[n:])


def _extent(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]


def _kernel(operator: str, weight: Array, value: Value, kernel_shape: Any) -> tuple[int, ...]:
    """The window of a convolution: what its weight says, and nothing else."""
    kernel = weight.shape[2:]
    if len(value.shape) not in (2, 3) or weight.ndim != len(value.shape) + 1:
        raise Unsupported(
            f"{operator} with {weight.ndim - 2} axes: images (C, H, W) and signals (C, L) are read"
        )
    if kernel_shape is not None and whole(kernel_shape) != kernel:
        raise Unsupported(f"{operator} with kernel_shape {whole(kernel_shape)}: its weight is {weight.shape}")
    return kernel


def _image_weight(weight: Array) -> Array:
    return weight[:, :, None, :] if weight.ndim == 3 else weight


def _optional(x: Any, what: str) -> Array | None:
    return None if x is None else _constant(x, what)


@register(TABLE, "Conv")
def _conv(
    draft: Draft,
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Value:
    """`Conv2d`; images and signals, weights constant, every auto_pad."""
    value, weight = _value(x, "Conv"), _constant(weight, "the weight of Conv")
    kernel = _kernel("Conv", weight, value, kernel_shape)
    sides = value.shape[1:]
    strides = _settings(strides, len(sides), 1, "Conv with strides")
    dilations = _settings(dilations, len(sides), 1, "Conv with dilations")
    padding = _padding("Conv", sides, _extent(kernel, dilations), strides, auto_pad, pads)
    layer = layers.Conv2d(
        _image_weight(weight),
        _optional(bias, "the bias of Conv"),
        _pair(strides),
        padding,
        _pair(dilations),
        group,
    )
    return _over(draft, layer, value)


@register(TABLE, "ConvTranspose")
def _conv_transpose(
    draft: Draft,
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Value:
    """`ConvTranspose2d`; images and signals, weights constant, every auto_pad, output_shape."""
    value, weight = _value(x, "ConvTranspose"), _constant(weight, "the weight of ConvTranspose")
    kernel = _kernel("ConvTranspose", weight, value, kernel_shape)
    sides, n = value.shape[1:], len(value.shape) - 1
    strides = _settings(strides, n, 1, "ConvTranspose with strides")
    dilations = _settings(dilations, n, 1, "ConvTranspose with dilations")
    added = _settings(output_padding, n, 0, "ConvTranspose with output_padding")
    extent = _extent(kernel, dilations)
    if output_shape is None and auto_pad.startswith("SAME"):
        if any(stride > e for stride, e in zip(strides, extent, strict=True)):
            raise Unsupported(
                "ConvTranspose with auto_pad and strides beyond its window, which implementations read "
                "differently: write pads"
            )
        output_shape = [side * stride for side, stride in zip(sides, strides, strict=True)]
    if output_shape is None:
        padding = _padding("ConvTranspose", sides, extent, strides, auto_pad, pads)
    else:
        wanted = _settings(output_shape, n, 0, "ConvTranspose with output_shape")
        full = [(side - 1) * s + e + a for side, s, e, a in zip(sides, strides, extent, added, strict=True)]
        lacking = [f - w for f, w in zip(full, wanted, strict=True)]
        added = tuple(a + max(0, -n) for a, n in zip(added, lacking, strict=True))
        # without SAME_UPPER the odd one goes to the start
        halves = _halves([max(0, n) for n in lacking], auto_pad if auto_pad == "SAME_UPPER" else "SAME_LOWER")
        padding = _sides(*halves)
    layer = layers.ConvTranspose2d(
        _image_weight(weight),
        _optional(bias, "the bias of ConvTranspose"),
        _pair(strides),
        padding,
        _pair(added, 0),
        _pair(dilations),
        group,
    )
    return _over(draft, layer, value)


def _pooled(
    draft: Draft,
    operator: str,
    kind: Callable[..., Layer],
    x: Any,
    *,
    kernel_shape: Any,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Value:
    value = _value(x, operator)
    sides, kernel = value.shape[1:], whole(kernel_shape)
    if len(kernel) != len(sides) or len(sides) not in (1, 2):
        raise Unsupported(f"{operator} with {len(kernel)} axes: images (C, H, W) and signals (C, L) are read")
    if set(_settings(dilations, len(sides), 1, f"{operator} with dilations")) != {1}:
        raise Unsupported(f"{operator} with dilations {whole(dilations)}: 1 is read")
    strides = _settings(strides, len(sides), 1, f"{operator} with strides")
    padding = _padding(operator, sides, kernel, strides, auto_pad, pads)
    (down, right), (top, bottom, left, to_right) = _pair(kernel), padding
    if 2 * max(top, bottom) > down or 2 * max(left, to_right) > right:
        raise Unsupported(f"{operator} with pads {padding} of more than half its kernel {kernel}")
    if ceil_mode and auto_pad == "VALID":
        raise Unsupported(f"{operator} with auto_pad 'VALID' and ceil_mode 1, which implementations read "
                          "differently: write pads")  # fmt: skip
    return _over(draft, kind((down, right), _pair(strides), padding, bool(ceil_mode)), value)


@register(TABLE, "MaxPool")
def _max_pool(draft: Draft, x: Any, *, storage_order: int = 0, **window: Any) -> Value:
    """`MaxPool2d`; images and signals, dilations 1, pads of up to half the kernel, no indices."""
    return _pooled(draft, "MaxPool", layers.MaxPool2d, x, **window)


@register(TABLE, "AveragePool")
def _average_pool(draft: Draft, x: Any, *, count_include_pad: int = 0, **window: Any) -> Value:
    """`AvgPool2d`; images and signals, dilations 1, pads of up to half the kernel."""
    kind = partial(layers.AvgPool2d, count_include_pad=bool(count_include_pad))
    return _pooled(draft, "AveragePool", kind, x, **window)


@register(TABLE, "GlobalAveragePool")
def _global_average_pool(draft: Draft, x: Any) -> Value:
    """`AdaptiveAvgPool2d`, over images and signals."""
    return _over(draft, layers.AdaptiveAvgPool2d(1), _value(x, "GlobalAveragePool"))


@register(TABLE, "GlobalMaxPool")
def _global_max_pool(draft: Draft, x: Any) -> Value:
    """`MaxPool2d`, over images and signals."""
    value = draft.image(_value(x, "GlobalMaxPool"))
    return _over(draft, layers.MaxPool2d(_pair(value.shape[1:])), value)


@register(TABLE, "ReduceMean")
def _reduce_mean(
    draft: Draft, x: Any, axes: Any = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Value:
    """`AdaptiveAvgPool2d`: over all axes of an image or a signal but the channels', first or last."""
    value = _value(x, "ReduceMean")
    given = () if axes is None else whole(axes)
    if not given and noop_with_empty_axes:
        return value
    over = _listed(sorted(_axis(axis, value, "ReduceMean") for axis in given or range(len(value.shape) + 1)))
    n = len(value.shape)
    if n not in (2, 3) or over not in (tuple(range(1, n)), tuple(range(n - 1))):
        raise Unsupported(
            f"ReduceMean of {(draft.batch, *value.shape)} over axes {tuple(axis + 1 for axis in over)}: "
            "all but the channels' are read"
        )
    shape = tuple(1 if axis in over else length for axis, length in enumerate(value.shape))
    if over[0] == 0:
        value = _permuted(draft, value, (n - 1, *range(n - 1)))
    wanted = shape if keepdims else (max(shape),)
    part = "" if wanted == (max(shape), 1, 1) else "mean"  # else a Reshape gives the result
    return draft.reshape(draft.add(layers.AdaptiveAvgPool2d(1), draft.image(value), part=part), wanted)


# Layers with weights.


def _dense(draft: Draft, operator: str, x: Any, weight: Array, bias: Array | None) -> Value:
    value = _value(x, operator)
    if len(value.shape) != 1 or weight.ndim != 2:
        raise Unsupported(
            f"{operator} of {(draft.batch, *value.shape)} and weights of {weight.shape}: "
            "a vector for each sample and a matrix are read; flatten before"
        )
    return draft.add(layers.Dense(weight, bias), draft.plain(value))


@register(TABLE, "Gemm")
def _gemm(
    draft: Draft,
    a: Any,
    b: Any,
    c: Any = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """`Dense`; vectors, B and C constant, C one number or one for each output, transA 0."""
    _value(a, "Gemm")
    if transA:
        raise Unsupported("Gemm with transA 1: axis 0 is the samples' and must stay")
    b = _constant(b, "B of Gemm")
    weight = b if transB else b.T
    bias = None
    if c is not None and beta:
        c = _constant(c, "C of Gemm")
        if size(c.shape[:-1]) != 1 or c.size not in (1, len(weight)):
            raise Unsupported(f"Gemm with C of {c.shape}: one number, or one for each output, is read")
        bias = _times(np.ascontiguousarray(np.broadcast_to(c.reshape(-1), len(weight))), beta)
    return _dense(draft, "Gemm", a, _times(weight, alpha), bias)


def _times(numbers: Array, factor: float) -> Array:
    return numbers if factor == 1 else numbers * numbers.dtype.type(factor)


@register(TABLE, "MatMul")
def _mat_mul(draft: Draft, a: Any, b: Any) -> Value:
    """`Dense`; vectors times a constant matrix; Add of a constant after it is its bias."""
    _value(a, "MatMul")
    return _dense(draft, "MatMul", a, _constant(b, "B of MatMul").T, None)


@register(TABLE, "BatchNormalization")
def _batch_normalization(
    draft: Draft,
    x: Any,
    scale: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    outputs: int = 1,
) -> Value:
    """`BatchNorm`, at test time."""
    value = _value(x, "BatchNormalization")
    if training_mode or outputs > 1:
        raise Unsupported("BatchNormalization in training: export the model in eval mode")
    if not spatial and size(value.shape[1:]) > 1:
        raise Unsupported("BatchNormalization with spatial 0: one number for each channel is read")
    gamma, beta, mean, variance = (
        _constant(c, "a parameter of BatchNormalization") for c in (scale, bias, mean, variance)
    )
    norm = layers.BatchNorm.of(gamma, beta, mean, variance, epsilon)
    if norm.scale.shape != value.shape[:1]:
        raise Unsupported(f"BatchNormalization of {value.shape} with {norm.scale.shape} parameters")
    return _normed(draft, norm, value)


# Number by number.


def _activation(operator: str, layer: Layer) -> None:
    def handler(draft: Draft, x: Any) -> Value:
        return draft.each(layer, _value(x, operator))

    handler.__doc__ = f"`{layer.kind}`."
    register(TABLE, operator)(handler)


_activation("Relu", layers.ReLU())
_activation("Sigmoid", layers.Sigmoid())
_activation("Tanh", layers.Tanh())
_activation("Softplus", layers.Softplus())
_activation("HardSwish", layers.HardSwish())


@register(TABLE, "Clip")
def _clip(draft: Draft, x: Any, min: Any = None, max: Any = None) -> Value:
    """`ReLU`, `ReLU6` or `Clip`; bounds constant."""
    value = _value(x, "Clip")
    low = -_LARGEST if min is None else _scalar(min, "a bound of Clip")
    high = _LARGEST if max is None else _scalar(max, "a bound of Clip")
    low, high = np.clip((low, high), -_LARGEST, _LARGEST).tolist()
    if (low, high) == (-_LARGEST, _LARGEST):
        return value
    if (low, high) == (0, _LARGEST):
        return draft.each(layers.ReLU(), value)
    return draft.each(layers.ReLU6() if (low, high) == (0, 6) else layers.Clip(low, high), value)


@register(TABLE, "LeakyRelu")
def _leaky_relu(draft: Draft, x: Any, *, alpha: float = 0.01) -> Value:
    """`LeakyReLU`."""
    return draft.each(layers.LeakyReLU(alpha), _value(x, "LeakyRelu"))


@register(TABLE, "PRelu")
def _p_relu(draft: Draft, x: Any, slope: Any) -> Value:
    """`LeakyReLU`; one constant slope for all channels."""
    slopes = np.unique(_constant(slope, "the slope of PRelu"))
    if slopes.size != 1:
        raise Unsupported("PRelu with several slopes: one for all channels is read")
    return draft.each(layers.LeakyReLU(slopes.item()), _value(x, "PRelu"))


@register(TABLE, "Elu")
def _elu(draft: Draft, x: Any, *, alpha: float = 1.0) -> Value:
    """`ELU`."""
    return draft.each(layers.ELU(alpha), _value(x, "Elu"))


@register(TABLE, "HardSigmoid")
def _hard_sigmoid(draft: Draft, x: Any, *, alpha: float = 0.2, beta: float = 0.5) -> Value:
    """`HardSigmoid`; alpha 1/6 and beta 1/2, as in PyTorch."""
    if not (math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5):  # an attribute is a float32
        raise Unsupported(f"HardSigmoid with alpha {alpha:.6g} and beta {beta:.6g}: 1/6 and 1/2 are read")
    return draft.each(layers.HardSigmoid(), _value(x, "HardSigmoid"))


@register(TABLE, "Gelu")
def _gelu(draft: Draft, x: Any, *, approximate: str = "none") -> Value:
    """`GELU`; exact."""
    if approximate != "none":
        raise Unsupported(f"Gelu with approximate {approximate[:20]!r}: the exact one is read")
    return draft.each(layers.GELU(), _value(x, "Gelu"))


@register(TABLE, "Swish")
def _swish(draft: Draft, x: Any, *, alpha: float = 1.0) -> Value:
    """`SiLU`; alpha 1."""
    if alpha != 1:
        raise Unsupported(f"Swish with alpha {alpha:.6g}: 1 is read")
    return draft.each(layers.SiLU(), _value(x, "Swish"))


def _top(operator: str, layer: Layer) -> None:
    def handler(draft: Draft, x: Any, *, axis: int = 1) -> Value:
        value = _value(x, operator)
        # Of vectors, axis 1 is the last: so the default, which changed from 1 to -1, means the same.
        if len(value.shape) != 1 or _axis(axis, value, operator) != 0:
            raise Unsupported(
                f"{operator} of {(draft.batch, *value.shape)} over axis {axis}: of one vector a sample "
                "it is read; flatten before, or end the network at the scores"
            )
        return draft.add(layer, draft.plain(value))

    handler.__doc__ = f"`{layer.kind}`; of vectors, at the top of the network."
    register(TABLE, operator)(handler)


_top("Softmax", layers.Softmax())
_top("LogSoftmax", layers.LogSoftmax())


@register(TABLE, "Identity")
def _identity(draft: Draft, x: Any) -> Value:
    """Nothing: the same numbers."""
    return _value(x, "Identity")


@register(TABLE, "Dropout")
def _dropout(draft: Draft, x: Any, ratio: Any = None, training_mode: Any = None, *, seed: int = 0) -> Value:
    """Nothing, at test time."""
    if training_mode is not None and _scalar(training_mode, "the mode of Dropout"):
        raise Unsupported("Dropout in training: export the model in eval mode")
    return _value(x, "Dropout")


@register(TABLE, "Cast")
def _cast(draft: Draft, x: Any, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    """Nothing; between float32, float64 and float16, whose rounding is left out."""
    if to not in _FLOATS:
        raise Unsupported("Cast to a type that is none of float32, float64 and float16")
    return _value(x, "Cast")


# Sums and products.


def _summed(draft: Draft, operator: str, values: Sequence[Value]) -> Value:
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        told = ", ".join(map(str, sorted(shapes)))
        raise Unsupported(f"{operator} of values of shapes {told}: values of one shape are read")
    if len({draft.shapes[value.node] for value in values}) > 1:
        values = [draft.plain(value) for value in values]
    return draft.add(layers.Add(), *values, shape=values[0].shape)


@register(TABLE, "Add", "Sum")
def _sum(draft: Draft, *inputs: Any) -> Value:
    """`Add` of one shape; a constant, one number or one for each channel, is a bias or a `BatchNorm`."""
    values = [x for x in inputs if isinstance(x, Value)]
    total = values[0] if len(values) == 1 else _summed(draft, "Add", values)
    for x in inputs:
        if not isinstance(x, Value):
            total = _shifted(draft, total, _by_channel(draft, _constant(x, "a summand"), total, "Add"))
    return total


@register(TABLE, "Sub")
def _sub(draft: Draft, a: Any, b: Any) -> Value:
    """`BatchNorm`: of a value and a constant, one number or one for each channel."""
    if isinstance(a, Value) and isinstance(b, Value):
        raise Unsupported("Sub of two values that depend on the input: LRP has rules for sums of them only")
    if isinstance(a, Value):
        return _shifted(draft, a, -_by_channel(draft, _constant(b, "a constant of Sub"), a, "Sub"))
    return _shifted(
        draft,
        _neg(draft, b),
        _by_channel(draft, _constant(a, "a constant of Sub"), _value(b, "Sub"), "Sub"),
    )


@register(TABLE, "Neg")
def _neg(draft: Draft, x: Any) -> Value:
    """`BatchNorm`."""
    value = _value(x, "Neg")
    return _scaled(draft, value, -np.ones(_channels(value)))


@register(TABLE, "Mul")
def _mul(draft: Draft, a: Any, b: Any) -> Value:
    """`BatchNorm` by a constant, one number or one for each channel; x * sigmoid(x) is `SiLU`."""
    if isinstance(a, Value) and isinstance(b, Value):
        return gated(draft, a, b)
    value, constant = (a, b) if isinstance(a, Value) else (b, a)
    factor = _by_channel(draft, _constant(constant, "a factor"), value, "Mul")
    return _scaled(draft, value, factor)


@register(TABLE, "Div")
def _div(draft: Draft, a: Any, b: Any) -> Value:
    """`BatchNorm`: a value by a constant, one number or one for each channel."""
    if isinstance(b, Value):
        raise Unsupported("Div by a value that depends on the input: LRP has no rule for quotients")
    divisor = _by_channel(draft, _constant(b, "a divisor"), _value(a, "Div"), "Div")
    if not divisor.all():
        raise Unsupported("Div by 0")
    return _scaled(draft, a, 1 / divisor.astype(np.float64))


# Moving values.


@register(TABLE, "Concat")
def _concat(draft: Draft, *inputs: Any, axis: int) -> Value:
    """`Concat`, but not of samples."""
    values = [x for x in inputs if isinstance(x, Value)]
    if len(values) < len(inputs):
        raise Unsupported("Concat of values and constants: values are read; use Pad for zeros")
    along = _axis(axis, values[0], "Concat")
    if len(values) == 1:
        return values[0]
    return draft.add(layers.Concat(along), *(draft.plain(value) for value in values))


def _cut(draft: Draft, value: Value, parts: Sequence[tuple[int, int, int]], part: str = "") -> Value:
    """Take a part of a value: start, stop and step for each axis."""
    if list(parts) == [(0, n, 1) for n in value.shape]:
        return value
    start, stop, step = zip(*parts, strict=True)
    return draft.add(layers.Slice(start, stop, step), draft.plain(value), part=part)


@register(TABLE, "Split")
def _split(
    draft: Draft, x: Any, split: Any = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int
) -> list[Value]:
    """`Slice`, but not of samples."""
    value = _value(x, "Split")
    along = _axis(axis, value, "Split")
    length = value.shape[along]
    each = -(-length // (num_outputs or outputs))
    sizes = [each] * (outputs - 1) + [length - each * (outputs - 1)] if split is None else list(whole(split))
    if len(sizes) != outputs or min(sizes) < 1 or sum(sizes) != length:
        raise Unsupported(f"Split of {length} into {outputs} parts {tuple(sizes[:9])}: numbers >= 1 are read")
    whole_axes = [(0, n, 1) for n in value.shape]
    found, start = [], 0
    for number, width in enumerate(sizes):
        parts = [*whole_axes[:along], (start, start + width, 1), *whole_axes[along + 1 :]]
        found.append(_cut(draft, value, parts, str(number)))
        start += width
    return found


@register(TABLE, "Slice")
def _slice(draft: Draft, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Value:
    """`Slice`, but not of samples; steps >= 1."""
    value = _value(x, "Slice")
    starts, ends = whole(starts), whole(ends)
    axes = tuple(range(len(starts))) if axes is None else whole(axes)
    steps = (1,) * len(starts) if steps is None else whole(steps)
    shape = (draft.batch, *value.shape)
    parts = [(0, n, 1) for n in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise Unsupported(f"Slice with step {step}: steps >= 1 are read")
        parts[axis] = (*slice(start, end, step).indices(shape[axis])[:2], step)
    _listed(axis % len(shape) for axis in axes)
    if parts[0] != (0, draft.batch, 1):
        raise Unsupported("Slice over axis 0, the samples': each must stay by itself")
    if any(start >= stop for start, stop, _ in parts):
        raise Unsupported("Slice of which nothing is left")
    return _cut(draft, value, parts[1:])


@register(TABLE, "Transpose")
def _transpose(draft: Draft, x: Any, *, perm: Any = None) -> Value:
    """`Permute`; samples stay on axis 0."""
    value = _value(x, "Transpose")
    order = tuple(reversed(range(len(value.shape) + 1))) if perm is None else whole(perm)
    if sorted(order) != list(range(len(value.shape) + 1)) or order[0] != 0:
        raise Unsupported(f"Transpose with perm {order}: axis 0 is the samples' and must stay")
    return _permuted(draft, value, tuple(axis - 1 for axis in order[1:]))


@register(TABLE, "Flatten")
def _flatten(draft: Draft, x: Any, *, axis: int = 1) -> Value:
    """`Reshape`; axis 1."""
    value = _value(x, "Flatten")
    if axis not in (1, -len(value.shape)):
        raise Unsupported(f"Flatten with axis {axis}: 1, which keeps the samples apart, is read")
    return draft.reshape(value, (size(value.shape),))


@register(TABLE, "Reshape")
def _reshape(draft: Draft, x: Any, shape: Any, *, allowzero: int = 0) -> Value:
    """`Reshape` to a constant shape; samples stay on axis 0."""
    value = _value(x, "Reshape")
    before, wanted = (draft.batch, *value.shape), list(whole(shape))
    if not allowzero:
        wanted = [before[axis] if n == 0 else n for axis, n in enumerate(wanted)]
    if -1 in wanted:
        rest = -size(tuple(wanted))
        wanted[wanted.index(-1)] = size(before) // rest if rest > 0 else 0
    if min(wanted, default=0) < 1:
        raise Unsupported(f"Reshape of {before} to {whole(shape)}")
    return _reshaped(draft, value, wanted, "Reshape")


@register(TABLE, "Squeeze")
def _squeeze(draft: Draft, x: Any, axes: Any = None) -> Value:
    """`Reshape`; axes given, not the samples'."""
    value = _value(x, "Squeeze")
    if axes is None:
        raise Unsupported("Squeeze without axes: it would take a single sample's axis away, too")
    gone = _listed(_axis(axis, value, "Squeeze") for axis in whole(axes))
    if any(value.shape[axis] != 1 for axis in gone):
        raise Unsupported(f"Squeeze of {(draft.batch, *value.shape)} over axes {whole(axes)}")
    left = [n for axis, n in enumerate(value.shape) if axis not in gone]
    return _reshaped(draft, value, (draft.batch, *left), "Squeeze")


@register(TABLE, "Unsqueeze")
def _unsqueeze(draft: Draft, x: Any, axes: Any) -> Value:
    """`Reshape`; not before the samples' axis."""
    value = _value(x, "Unsqueeze")
    new = whole(axes)
    after = Value(value.node, (1,) * (len(value.shape) + len(new)))
    places = _listed(_axis(axis, after, "Unsqueeze") for axis in new)
    lengths = iter(value.shape)
    shape: Shape = tuple(1 if axis in places else next(lengths) for axis in range(len(after.shape)))
    return draft.reshape(value, shape)


@register(TABLE, "Pad")
def _pad(
    draft: Draft, x: Any, pads: Any = None, value: Any = 0.0, axes: Any = None, *, mode: str = "constant"
) -> Value:
    """`Pad`; constant, of images and signals, their channels too, numbers >= 0."""
    image, given = _value(x, "Pad"), whole(pads)
    if mode != "constant":
        raise Unsupported(f"Pad with mode {mode[:20]!r}: 'constant' is read")
    number = 0.0 if value is None else _scalar(value, "the value of Pad")
    n = len(image.shape) + 1
    places = [axis % n for axis in (range(n) if axes is None else whole(axes))]
    if len(given) != 2 * len(places) or min(given, default=0) < 0:
        raise Unsupported(f"Pad with pads {given}: two numbers >= 0 for each axis are read")
    before, after = [0] * n, [0] * n
    for axis, first, last in zip(_listed(places), given[: len(places)], given[len(places) :], strict=True):
        before[axis], after[axis] = first, last
    if before[0] or after[0]:
        raise Unsupported("Pad over axis 0, the samples': each must stay by itself")
    if not any(given):
        return image
    if len(image.shape) not in (2, 3):
        raise Unsupported(f"Pad of {(draft.batch, *image.shape)}: images and signals are read")
    layer = layers.Pad(_sides(before[2:], after[2:]), number, (before[1], after[1]))
    return _over(draft, layer, image)


# What is known without the input.


@register(TABLE, "Shape")
def _shape(draft: Draft, x: Any, *, start: int = 0, end: int | None = None) -> Array:
    """A constant: shapes are fixed when a network is read."""
    shape = (draft.batch, *_value(x, "Shape").shape)
    return np.array(shape[start:end], np.int64)


@register(TABLE, "Size")
def _size(draft: Draft, x: Any) -> Array:
    """A constant."""
    return np.array(size((draft.batch, *_value(x, "Size").shape)), np.int64)
