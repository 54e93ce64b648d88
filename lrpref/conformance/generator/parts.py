"""Rules and layers as the vector files say them, with every parameter spelled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrpref.conformance.generator.geometry import Array

Node = dict[str, Any]

# Rules.


def rule(
    name: str, *, stabilizer: tuple[str, float] = ("signed", 0.0), bias: str = "absorb", **more: Any
) -> Node:
    """
    Make a rule.

    Parameters
    ----------
    name : str
        Its name.
    stabilizer : (kind, value)
        What is added to denominators.
    bias : {"absorb", "ignore", "redistribute"}
        What becomes of the bias's part.
    **more
        The rule's own parameters.

    Returns
    -------
    dict
        The rule, as the vector files have it.
    """
    kind, value = stabilizer
    return {"name": name, **more, "stabilizer": {"kind": kind, "value": value}, "bias": bias}


def epsilon(eps: float, kind: str = "signed", bias: str = "absorb") -> Node:
    """
    Make LRP-epsilon: its eps is its stabilizer.

    Parameters
    ----------
    eps : float
        In the unit of z; under kind `relative` a factor.
    kind : {"signed", "unsigned", "relative"}
        How it is added.
    bias : str
        What becomes of the bias's part.

    Returns
    -------
    dict
        The rule.
    """
    return rule("epsilon", eps=eps, stabilizer=(kind, eps), bias=bias)


ZERO = rule("zero")
Z_PLUS = rule("z-plus")
FLAT = rule("flat")
W_SQUARE = rule("w2")
PASS = rule("pass")
FIRST = rule("winner-take-all", ties="first")
SPLIT = rule("winner-take-all", ties="split")


def gamma(value: float, **options: Any) -> Node:
    """
    Make LRP-gamma.

    Parameters
    ----------
    value : float
        gamma.
    **options
        `stabilizer`, `bias`.

    Returns
    -------
    dict
        The rule.
    """
    return rule("gamma", gamma=value, **options)


def generalized(value: float, **options: Any) -> Node:
    """
    Make the generalized LRP-gamma.

    Parameters
    ----------
    value : float
        gamma.
    **options
        `stabilizer`, `bias`.

    Returns
    -------
    dict
        The rule.
    """
    return rule("generalized-gamma", gamma=value, **options)


def alpha_beta(alpha: float, beta: float, **options: Any) -> Node:
    """
    Make LRP-alpha-beta.

    Parameters
    ----------
    alpha, beta : float
        alpha - beta = 1.
    **options
        `stabilizer`, `bias`.

    Returns
    -------
    dict
        The rule.
    """
    return rule("alpha-beta", alpha=alpha, beta=beta, **options)


def z_box(low: Any, high: Any, **options: Any) -> Node:
    """
    Make the z^B-rule.

    Parameters
    ----------
    low, high : float or list of float
        Bounds of the input, one or one per channel.
    **options
        `stabilizer`, `bias`.

    Returns
    -------
    dict
        The rule.
    """
    return rule("z-box", low=low, high=high, **options)


# Layers.


def _node(kind: str, name: str, inputs: Sequence[str], rule: Node | None, **more: Any) -> Node:
    return {"name": name, "kind": kind, "inputs": list(inputs), **more, "rule": rule}


def dense(weight: Any, bias: Any, rule: Node, name: str = "dense", inputs: Sequence[str] = ()) -> Node:
    """
    Make a fully connected layer.

    Parameters
    ----------
    weight : list of list of numbers
        Weights (K, J).
    bias : list of numbers or None
        Biases (K,).
    rule : dict
        Its rule.
    name : str
        Its name.
    inputs : sequence of str
        What it reads, if not the node before.

    Returns
    -------
    dict
        The node.
    """
    return _node("dense", name, inputs, rule, weight=Array.of(weight), bias=_maybe(bias))


def _maybe(bias: Any) -> Array | None:
    return None if bias is None else Array.of(bias)


def convolution(
    weight: Any,
    bias: Any,
    rule: Node,
    name: str = "conv",
    inputs: Sequence[str] = (),
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Node:
    """
    Make a convolution: of images, or of rows where the weight has three axes.

    Parameters
    ----------
    weight : nested list
        Weights (K, C/groups, kh, kw) or (K, C/groups, k).
    bias : list of numbers or None
        Biases (K,).
    rule : dict
        Its rule.
    name : str
        Its name.
    inputs : sequence of str
        What it reads, if not the node before.
    stride : int or list of int
        One, or one for each axis.
    padding : int or list of int
        One, or one for each side: top, bottom, left, right; of a row left, right.
    dilation : int or list of int
        One, or one for each axis.
    groups : int
        Groups of channels.

    Returns
    -------
    dict
        The node.
    """
    w = Array.of(weight)
    axes = len(w.shape) - 2
    return _node(
        "conv2d" if axes == 2 else "conv1d", name, inputs, rule, weight=w, bias=_maybe(bias),
        stride=_each(stride, axes), padding=_each(padding, 2 * axes), dilation=_each(dilation, axes),
        groups=groups,
    )  # fmt: skip


def _each(value: Any, count: int) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value] * count


def pooling(
    kind: str,
    rule: Node,
    kernel: Any = 2,
    name: str = "pool",
    inputs: Sequence[str] = (),
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    **more: Any,
) -> Node:
    """
    Make a pooling.

    Parameters
    ----------
    kind : {"avg", "sum", "max"}
        Which.
    rule : dict
        Its rule.
    kernel : int or list of int
        Size of the window.
    name : str
        Its name.
    inputs : sequence of str
        What it reads, if not the node before.
    stride : int or list of int, optional
        The kernel's size where not given.
    padding : int or list of int
        One, or top, bottom, left, right.
    ceil_mode : bool
        Whether a last window may reach beyond the image and its padding.
    **more
        Of an average: `count_include_pad` (True), `divisor` (None: the number of cells).

    Returns
    -------
    dict
        The node.
    """
    kernel = _each(kernel, 2)
    if kind == "avg":
        more = {"count_include_pad": True, "divisor": None} | more
    return _node(
        f"{kind}pool2d", name, inputs, rule, kernel=kernel, stride=_each(stride or kernel, 2),
        padding=_each(padding, 4), ceil_mode=ceil_mode, **more,
    )  # fmt: skip


def norm(
    scale: Any, shift: Any, rule: Node | None = None, name: str = "norm", inputs: Sequence[str] = ()
) -> Node:
    """
    Make a batch norm.

    Parameters
    ----------
    scale, shift : list of numbers
        gamma / sqrt(var + eps) and beta - mean scale, of each channel.
    rule : dict or None
        Its rule; None: it is folded into the linear layer beside it.
    name : str
        Its name.
    inputs : sequence of str
        What it reads, if not the node before.

    Returns
    -------
    dict
        The node.
    """
    return _node("batchnorm", name, inputs, rule, scale=Array.of(scale), shift=Array.of(shift))


def add(inputs: Sequence[str], rule: Node = ZERO, name: str = "sum") -> Node:
    """
    Make a sum of branches.

    Parameters
    ----------
    inputs : sequence of str
        The branches.
    rule : dict
        LRP-0, with or without a stabilizer.
    name : str
        Its name.

    Returns
    -------
    dict
        The node.
    """
    return _node("add", name, inputs, rule)


def concat(inputs: Sequence[str], axis: int = 0, name: str = "concat") -> Node:
    """
    Make a concatenation.

    Parameters
    ----------
    inputs : sequence of str
        The branches.
    axis : int
        Axis of one sample.
    name : str
        Its name.

    Returns
    -------
    dict
        The node.
    """
    return _node("concat", name, inputs, None, axis=axis)


def pad(padding: Any, value: float = 0.0, name: str = "pad", inputs: Sequence[str] = ()) -> Node:
    """
    Make an explicit padding.

    Parameters
    ----------
    padding : int or list of int
        One, or top, bottom, left, right.
    value : float
        What the cells hold.
    name : str
        Its name.
    inputs : sequence of str
        What it reads, if not the node before.

    Returns
    -------
    dict
        The node.
    """
    return _node("pad", name, inputs, None, padding=_each(padding, 4), value=value)


def plain(kind: str, name: str | None = None, inputs: Sequence[str] = ()) -> Node:
    """
    Make a layer without parameters.

    Parameters
    ----------
    kind : {"relu", "flatten", "identity"}
        Which.
    name : str, optional
        Its name; the kind where not given.
    inputs : sequence of str
        What it reads, if not the node before.

    Returns
    -------
    dict
        The node.
    """
    return _node(kind, name or kind, inputs, None)
