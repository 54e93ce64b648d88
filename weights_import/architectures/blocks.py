"""What the builders share: parts of networks, and how parts make larger ones.

A part is a list of nodes as in a document (`lrpref.weights_import.specification`): a little network, whose
`"input"` is whatever it is put behind. So a residual block is the sum of two branches, the second of which
may be empty and hand on what both read; and a stage is blocks behind one another, each under its own name:

>>> block = parallel("add", "Add", convolution("conv", "bn", 64, 3), [])
>>> stage = numbered("layer1", block, block)
>>> [(table["name"], table["inputs"]) for table in stage if table["layer"] == "Add"]
[('layer1.0.add', ['layer1.0.bn', 'input']), ('layer1.1.add', ['layer1.1.bn', 'layer1.0.add'])]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrpref.network import INPUT
from lrpref.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from lrpref.weights_import.specification import Document

Part = list[Document]
Size = int | list[int]

PREPROCESSING: Document = {
    "size": [224, 224],
    "resize": 256,
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}
"""Torchvision's, with mean and standard deviation of ImageNet's own pixels."""


def network(
    name: str, *parts: Part, preprocessing: Document = PREPROCESSING, classes: Any = "imagenet", **others: Any
) -> Document:
    """
    Describe a network for colour pictures.

    Parameters
    ----------
    name : str
        What it is called.
    *parts : list of dict
        Its parts, from the input to the scores.
    preprocessing : dict
        How a picture becomes an input; its size is the input's.
    classes : str or list of str
        As in a document.
    **others
        Further keys of the document.

    Returns
    -------
    dict
        See `lrpref.weights_import.specification`.
    """
    return {
        "name": name,
        "input": [3, *preprocessing["size"]],
        "classes": classes,
        "preprocessing": preprocessing,
        "node": chained(*parts),
        **others,
    }


def node(name: str, layer: str, **parameters: Any) -> Part:
    """
    Describe a part of one node.

    Parameters
    ----------
    name : str
        Its name; "" where `named` or `numbered` will say it.
    layer : str
        Its layer.
    **parameters
        Further keys of the node.

    Returns
    -------
    list of dict
        The part.
    """
    return [{"name": name, "layer": layer, **parameters}]


def convolution(
    name: str,
    norm: str,
    out: int,
    kernel: Size,
    stride: int = 1,
    padding: Size | None = None,
    groups: int = 1,
    eps: float = 1e-5,
) -> Part:
    """
    Describe a convolution without biases, and the batch norm behind it.

    Parameters
    ----------
    name, norm : str
        The two nodes' names.
    out : int
        Output channels.
    kernel : int or list of int
        Taps.
    stride : int
        In pixels.
    padding : int or list of int, optional
        Zeros around the image; half the kernel where not given, which keeps the image's size at stride 1.
    groups : int
        Into how many groups the channels are split.
    eps : float
        What is added to the variance.

    Returns
    -------
    list of dict
        The part.
    """
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else [taps // 2 for taps in kernel]
    geometry = {"kernel": kernel, "stride": stride, "padding": padding, "groups": groups}
    return chained(
        node(name, "Conv2d", out=out, bias=False, **geometry),
        node(norm, "BatchNorm", eps=eps),
    )


def chained(*parts: Part) -> Part:
    """
    Put parts behind one another.

    Parameters
    ----------
    *parts : list of dict
        The `"input"` of each becomes the last node before it.

    Returns
    -------
    list of dict
        One part.
    """
    nodes: Part = []
    for part in parts:
        nodes += _renamed(part, {INPUT: nodes[-1]["name"]} if nodes else {})
    return nodes


def parallel(name: str, layer: str, *branches: Part) -> Part:
    """
    Let branches read the same node, and join them.

    Parameters
    ----------
    name : str
        The node that joins them.
    layer : str
        Its layer, `Add` or `Concat`.
    *branches : list of dict
        What it reads; an empty branch is what the others read.

    Returns
    -------
    list of dict
        One part.
    """
    first, *others = branches  # the first one follows what it reads; the others have to say so
    said = [{"inputs": [INPUT], **table} if table is branch[0] else table
            for branch in others for table in branch]  # fmt: skip
    ends = [branch[-1]["name"] if branch else INPUT for branch in branches]
    return [*first, *said, *node(name, layer, inputs=ends)]


def named(name: str, part: Part) -> Part:
    """
    Put a part under a name, as PyTorch does with what a module holds.

    Parameters
    ----------
    name : str
        What stands before the names of its nodes, and a dot; "" changes nothing.
    part : list of dict
        The part.

    Returns
    -------
    list of dict
        The part, with longer names.
    """
    names = [table["name"] for table in part]
    return _renamed(part, {own: ".".join(filter(None, (name, own))) for own in names})


def numbered(name: str, *parts: Part) -> Part:
    """
    Put parts behind one another under a name and numbers, as PyTorch's `Sequential` does.

    Parameters
    ----------
    name : str
        What stands before the numbers, and a dot.
    *parts : list of dict
        The parts; the first has the number 0.

    Returns
    -------
    list of dict
        One part.
    """
    return chained(*(named(f"{name}.{i}", part) for i, part in enumerate(parts)))


def _renamed(part: Part, names: Mapping[str, str]) -> Part:
    """Rename nodes, where they stand and where they are read."""
    renamed = []
    for table in part:
        table = {**table, "name": names.get(table["name"], table["name"])}
        if "inputs" in table:
            table["inputs"] = [names.get(read, read) for read in table["inputs"]]
        renamed.append(table)
    return renamed
