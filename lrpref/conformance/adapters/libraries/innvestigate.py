"""iNNvestigate: a rule for each Keras layer with weights; sums, pooling and activations go its own way.

It lives in an environment of its own (TensorFlow 2.14, NumPy 1), so that nothing of lrpref is imported here.
Its images have their channels last. It starts from the score of one output of one sample; LRP is linear in
what it starts from, so that any initial relevance is a sum of such runs.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import innvestigate
import tensorflow as tf
from innvestigate.analyzer.relevance_based import relevance_analyzer, relevance_rule
from tensorflow import keras

NAME = "innvestigate"
INSTALL = "in a clone: make peers-tf (an environment of its own, with TensorFlow 2.14)"

tf.compat.v1.disable_eager_execution()
keras.backend.set_floatx("float64")


def version() -> dict[str, str]:
    """
    Say what runs here.

    Returns
    -------
    dict of str to str
        The versions of iNNvestigate and TensorFlow.
    """
    from importlib import metadata

    assert innvestigate.__file__
    return {"version": metadata.version("innvestigate"), "tensorflow": tf.__version__}


def explain(case: dict[str, Any]) -> Any:
    """
    Explain a vector.

    Parameters
    ----------
    case : dict
        The vector.

    Returns
    -------
    ndarray of float64
        Relevance of the input.

    Raises
    ------
    NotImplementedError
        If iNNvestigate or Keras has no such rule or layer, or if the score to start from is 0.
    """
    keras.backend.clear_session()
    model = _model(case)
    chosen = [(partial(_is, _module(node)), _rule(node)) for node in case["nodes"] if node["rule"]]
    rules = [(condition, rule) for condition, rule in chosen if rule is not None]
    norms = rules[0][1] if rules else "Z"  # all batch norms have one rule: the first layer's
    analyzer = relevance_analyzer.LRP(
        model, rule=rules or "Z", bn_layer_rule=norms, neuron_selection_mode="index"
    )
    x = _last(case["input"])
    scores = model.predict(x, verbose=0)
    start = case["relevance"].reshape(scores.shape)
    R = np.zeros(x.shape)
    for sample, output in np.argwhere(start != 0):
        if scores[sample, output] == 0:
            raise NotImplementedError("iNNvestigate starts from the score, which is 0")
        found = analyzer.analyze(x[sample : sample + 1], neuron_selection=int(output))
        R[sample] += found[0] * (start[sample, output] / scores[sample, output])
    return _first(R)


def _last(x: Any) -> Any:
    """Channels last."""
    return np.moveaxis(x, 1, -1)


def _first(x: Any) -> Any:
    return np.moveaxis(x, -1, 1)


def _module(node: dict[str, Any]) -> str:
    """The layer's name; nodes may share one."""
    name: str = node.get("module") or node["name"]
    return name


def _is(name: str, layer: Any) -> bool:
    return bool(layer.name == name)


def _model(case: dict[str, Any]) -> Any:
    """The network, its output flattened as in the vector."""
    inputs = keras.Input(_last(case["input"]).shape[1:])
    values, layers, weights = {"input": inputs}, {}, []
    for node in case["nodes"]:
        module = _module(node)
        below = [values[name] for name in node["inputs"]]
        if module not in layers:
            if node["kind"] not in LAYERS:
                raise NotImplementedError(f"Keras has no layer '{node['kind']}'")
            layers[module], *arrays = LAYERS[node["kind"]](node, module, _is_same(node, below[0]))
            weights.append((layers[module], [array for array in arrays if array is not None]))
        if node["kind"] in ("conv1d", "conv2d") and not _is_same(node, below[0]):
            below = [_padded(node, below[0])]
        if node["kind"] == "flatten":
            below = [_channels_first(below[0])]
        values[node["name"]] = layers[module](below if len(below) > 1 else below[0])
    top = values[case["nodes"][-1]["name"]]
    if len(top.shape) > 2:
        top = keras.layers.Flatten()(_channels_first(top))
    model = keras.Model(inputs, top)
    for layer, arrays in weights:
        if arrays:
            layer.set_weights(arrays)
    return model


def _channels_first(x: Any) -> Any:
    axes = len(x.shape)
    return keras.layers.Permute((axes - 1, *range(1, axes - 1)))(x) if axes > 2 else x


def _is_same(node: dict[str, Any], x: Any) -> bool:
    """Whether a padding is what Keras calls "same"; it knows no other but none."""
    if node["kind"] not in ("conv1d", "conv2d"):
        return False
    sides = []
    for axis, stride in enumerate(node["stride"]):
        size, reach = x.shape[1 + axis], (node["weight"].shape[2 + axis] - 1) * node["dilation"][axis] + 1
        both = max((-(-size // stride) - 1) * stride + reach - size, 0)
        sides += [both // 2, both - both // 2]
    return sides == node["padding"]


def _padded(node: dict[str, Any], x: Any) -> Any:
    """Any other padding is a layer of its own, whose zeros rules may take for image."""
    sides = node["padding"]
    if not any(sides):
        return x
    if node["rule"]["name"] in ("flat", "w2", "z-box"):
        raise NotImplementedError("Keras pads a convolution as \"same\" or not at all")
    pairs = list(zip(sides[::2], sides[1::2], strict=True))
    one = node["kind"] == "conv1d"
    return (keras.layers.ZeroPadding1D(pairs[0]) if one else keras.layers.ZeroPadding2D(pairs))(x)


def _dense(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    layer = keras.layers.Dense(len(node["weight"]), use_bias=node["bias"] is not None, name=name)
    return layer, node["weight"].T, node["bias"]


def _convolution(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    if node["groups"] != 1:
        raise NotImplementedError("TensorFlow has no grouped convolutions on a CPU")
    weight = node["weight"]
    make = keras.layers.Conv1D if node["kind"] == "conv1d" else keras.layers.Conv2D
    layer = make(
        len(weight), weight.shape[2:], strides=tuple(node["stride"]), dilation_rate=tuple(node["dilation"]),
        padding="same" if same else "valid", use_bias=node["bias"] is not None, name=name,
    )  # fmt: skip
    return layer, np.moveaxis(weight, (0, 1), (-1, -2)), node["bias"]


def _pooling(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    if any(node["padding"]) or node.get("ceil_mode") or node.get("divisor"):
        raise NotImplementedError("Keras's poolings have no padding, ceil mode or divisor of one's own")
    make = keras.layers.MaxPooling2D if node["kind"] == "maxpool2d" else keras.layers.AveragePooling2D
    return (make(tuple(node["kernel"]), tuple(node["stride"]), name=name),)


def _batchnorm(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    scale, shift = node["scale"], node["shift"]
    return keras.layers.BatchNormalization(epsilon=0.0, name=name), scale, shift, 0 * scale, 0 * scale + 1


def _add(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    return (keras.layers.Add(name=name),)


def _concat(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    axis = node["axis"] or -1  # the first axis of a sample, its channels, is the last one here
    return (keras.layers.Concatenate(axis, name=name),)


def _activation(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    return (keras.layers.Activation("relu" if node["kind"] == "relu" else "linear", name=name),)


def _flatten(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    return (keras.layers.Flatten(name=name),)


def _pad(node: dict[str, Any], name: str, same: bool) -> tuple[Any, ...]:
    if node["value"] != 0:
        raise NotImplementedError("Keras pads with zeros")
    top, bottom, left, right = node["padding"]
    return (keras.layers.ZeroPadding2D(((top, bottom), (left, right)), name=name),)


LAYERS = {
    "dense": _dense,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "maxpool2d": _pooling,
    "avgpool2d": _pooling,
    "batchnorm": _batchnorm,
    "add": _add,
    "concat": _concat,
    "relu": _activation,
    "identity": _activation,
    "flatten": _flatten,
    "pad": _pad,
}
"""What makes a node's layer, and its weights."""


def _rule(node: dict[str, Any]) -> Any:
    """What makes a layer's rule; None where iNNvestigate goes its own way."""
    rule, kind = node["rule"], node["kind"]
    name, eps, bias = rule["name"], float(rule["stabilizer"]["value"]), rule["bias"] == "absorb"
    if rule["bias"] == "redistribute":
        raise NotImplementedError("iNNvestigate does not redistribute biases")
    if eps and rule["stabilizer"]["kind"] != "signed":
        raise NotImplementedError("iNNvestigate's eps is signed")
    if kind in ("avgpool2d", "add", "maxpool2d"):
        own = "winner-take-all" if kind == "maxpool2d" else "zero"
        if name != own or eps or rule.get("ties", "first") != "first":
            raise NotImplementedError(f"iNNvestigate has no rule to choose for {kind}")
        return None
    if name in ("zero", "epsilon"):
        make = relevance_rule.EpsilonRule if eps else relevance_rule.ZRule
        return partial(make, bias=bias, **({"epsilon": eps} if eps else {}))
    if eps:
        raise NotImplementedError(f"iNNvestigate has no eps to choose in '{name}'")
    if name == "alpha-beta":
        alpha, beta = float(rule["alpha"]), float(rule["beta"])
        return partial(relevance_rule.AlphaBetaRule, alpha=alpha, beta=beta, bias=bias)
    if name == "z-box":
        low, high = np.unique(rule["low"]), np.unique(rule["high"])
        if len(low) > 1 or len(high) > 1:
            raise NotImplementedError("iNNvestigate's BoundedRule has one low and one high for all channels")
        return partial(relevance_rule.BoundedRule, low=float(low[0]), high=float(high[0]))
    known = {
        "z-plus": relevance_rule.ZPlusRule,
        "w2": relevance_rule.WSquareRule,
        "flat": relevance_rule.FlatRule,
    }
    if name not in known:
        raise NotImplementedError(f"iNNvestigate has no rule '{name}'")
    return known[name]
