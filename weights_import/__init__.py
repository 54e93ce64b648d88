"""Foreign networks -> `lrpref.Network`.

>>> from lrpref import weights_import                                                   # doctest: +SKIP
>>> net = weights_import.load("vgg16-397923af.pth", architecture="vgg16")               # doctest: +SKIP
>>> net = weights_import.from_torch(module.eval(), example_input)                       # doctest: +SKIP
>>> net = weights_import.from_onnx("model.onnx")                                        # doctest: +SKIP
>>> weights_import.verify(net, "model.onnx").worst                                      # doctest: +SKIP

Two ways lead here, and no more:

- A weight file holds tensors and their names, not what is computed with them: that is the *architecture*,
  known by a name or written down in a TOML file. Read on in `specification.py` (what an architecture says),
  `recipes.py` (which tensors a layer wants), `build.py` (both together), `checkpoint.py` and `pickles.py`
  (what is in a file).
- A live module, a saved `.pt2` program and an ONNX file bring their graph. Read on in `program.py` (the one
  form that a foreign graph is given, and how it becomes a network), then `live.py`, `exported.py` and
  `torch_operators.py`, or `onnx_file.py` and `onnx_operators.py`.

Whether what came in is the same network, `comparison.py` finds out.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lrpref import network
from lrpref.errors import BadWeights
from lrpref.network import Network
from lrpref.weights_import import (
    architectures,
    exported,
    onnx_constants,
    onnx_operators,
    torch_graph,
    torch_operators,
)
from lrpref.weights_import.build import make_network
from lrpref.weights_import.checkpoint import read
from lrpref.weights_import.comparison import STEPS, Comparison, verify
from lrpref.weights_import.live import from_torch
from lrpref.weights_import.onnx_file import from_onnx
from lrpref.weights_import.origins import language

__all__ = ["STEPS", "Comparison", "from_onnx", "from_torch", "language", "load", "supported", "verify"]


def load(path: str | os.PathLike[str], architecture: str | os.PathLike[str] | None = None) -> Network:
    """
    Read a network from a file, without PyTorch and running no code of the file.

    Parameters
    ----------
    path : path-like
        A PyTorch checkpoint (zip or legacy format) or a safetensors file; a program that torch.export saved
        (`.pt2`); an ONNX file (`.onnx`); or a file in the neutral format.
    architecture : str or path-like, optional
        Only for bare weights, as the other files bring their graph: a name in
        `lrpref.weights_import.architectures.NAMES`, or the path of a TOML file (a path-like object, or a
        string that ends in `.toml`; `lrpref.weights_import.specification` shows one). Under a name, a file
        with another number of outputs, of a network that was trained on, makes one that has them too, and
        no class names.

    Returns
    -------
    Network
        The network, with its classes and preprocessing. The weights have the file's own dtype and bytes;
        only float16 and bfloat16 are widened, exactly, to float32. A batch norm is computed from its four
        tensors, in float64. The provenance holds the file's name and SHA-256, and the architecture's name
        or file.

    Raises
    ------
    BadWeights
        If the file cannot be read, or does not fit the architecture: missing, unexpected, misshapen,
        integer and non-finite tensors are listed in one line. Also if an architecture is given where none
        is needed, or none where one is.
    BadNetwork
        If there is no such architecture, or the TOML file does not describe one; if the graph has operators
        that are not supported: all of them.
    """
    path = Path(path)
    written_in = language(path)
    if written_in and architecture is not None:
        raise BadWeights(f"{path.name}: brings its own graph; leave the architecture out")
    if written_in:
        return from_onnx(path) if written_in == "onnx" else exported.imported(path).network
    if architecture is None:
        return _with_graph(path)
    if path.is_file() and _is_neutral(path):
        raise BadWeights(f"{path.name}: brings its own graph; leave the architecture out")
    specification = architectures.get(architecture)
    tensors = read(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known = str(architecture) in architectures.NAMES
    if known:
        spelled = {specification.spelling(name): tensor for name, tensor in tensors.items()}
        specification = specification.with_outputs_of(spelled)
    told = str(architecture) if known else os.path.abspath(architecture)
    provenance = {"file": path.name, "sha256": digest, "architecture": told}
    try:
        return make_network(specification, tensors, provenance)
    except BadWeights as error:
        raise BadWeights(f"{path.name}: {error}") from None


def supported() -> dict[str, dict[str, list[str]]]:
    """
    List the operators that graphs may have.

    Returns
    -------
    dict
        For PyTorch and for ONNX: what of them is supported, and the operators of which that is true.
    """
    listed: dict[str, dict[str, list[str]]] = {}
    for framework, table in (("PyTorch", torch_operators.OPERATORS), ("ONNX", onnx_operators.TABLE)):
        entries = listed.setdefault(framework, {})
        for operator, handler in table.items():
            if operator != torch_graph.IMPOSSIBLE:
                entries.setdefault((handler.__doc__ or "").splitlines()[0], []).append(operator)
    constant = {"Constant", "ConstantOfShape", *onnx_constants.FOLDABLE} - onnx_operators.TABLE.keys()
    what = "Arithmetic with shapes and weights: all that it reads must be constant."
    listed["ONNX"][what] = sorted(constant)
    return listed


def _with_graph(path: Path) -> Network:
    """Read a file that must bring its graph."""
    if path.is_file() and _is_neutral(path):
        return network.load(path)
    tensors = read(path)  # of a file that is none, this tells best what is wrong
    raise BadWeights(
        f"{path.name}: holds {len(tensors)} tensors, but not what is computed with them: "
        f"give an architecture ({', '.join(architectures.NAMES)}) or a TOML file of your own"
    )


def _is_neutral(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy") as file:
            return "lrpref" in (file.metadata() or {})
    except (SafetensorError, OSError):  # a PyTorch checkpoint, or nothing that can be read
        return False
