"""Where networks come from, run as they are: by PyTorch, by torchvision's own module, by onnxruntime."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrpref.conformance.adapters import require
from lrpref.errors import BadWeights
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.weights_import import architectures, exported, live, onnx_file
from lrpref.weights_import.checkpoint import read
from lrpref.weights_import.pickles import reason_of
from lrpref.weights_import.program import Program

Run = Callable[[Array], Mapping[str, Array]]


def language(path: str | os.PathLike[str]) -> str:
    """
    Tell in which language a file writes its graph down.

    Parameters
    ----------
    path : path-like
        A file.

    Returns
    -------
    str
        `"onnx"`, `"torch.export"`, or nothing where the file brings weights alone.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return "onnx"
    return "torch.export" if suffix == ".pt2" or exported.is_exported(path) else ""


@dataclass(frozen=True)
class Origin:
    """
    An origin that can be run.

    Parameters
    ----------
    name : str
        Who runs it, with the version.
    dtype : str
        In which numbers.
    run : callable
        From inputs of shape (batch, ...) to values by name.
    batch : int
        How many samples it takes at once.
    """

    name: str
    dtype: str
    run: Run
    batch: int = 1

    def values(self, x: Array) -> Mapping[str, Array]:
        """
        Run it on any number of samples.

        Parameters
        ----------
        x : ndarray, shape (N, ...)
            Inputs; the last is repeated where the batch wants more.

        Returns
        -------
        mapping of str to ndarray
            Values of N samples by name.
        """
        full = np.concatenate([x, np.repeat(x[-1:], -len(x) % self.batch, axis=0)])
        runs = [self.run(full[start : start + self.batch]) for start in range(0, len(full), self.batch)]
        return {
            name: np.concatenate([run[name] for run in runs])[: len(x)]
            for name, value in runs[0].items()
            if value.shape[:1] == (self.batch,)
        }


def of_program(program: Any, batch: int) -> Origin:
    """
    Run an exported program by PyTorch, node by node in float64.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        The program.
    batch : int
        How many samples it takes.

    Returns
    -------
    Origin
        The origin; its values have the names of the program's nodes.
    """
    torch = require("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PyTorch, about its own parts
        module = copy.deepcopy(program.module(check_guards=False)).double()  # its tensors are the user's own

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc, name-defined, unused-ignore]
        """Keeps what every node gives, as it is before anything overwrites it."""

        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                found[n.name] = value.detach().clone().double().numpy()
            return value

    found: dict[str, Array] = {}

    def run(x: Array) -> Mapping[str, Array]:
        found.clear()
        with torch.no_grad():
            Recorder(module).run(torch.tensor(x, dtype=torch.float64))
        return dict(found)

    return Origin(f"PyTorch {torch.__version__}", "float64", run, batch)


def of_saved_program(path: Path, batch: int) -> Origin:
    """
    Run a saved `.pt2` by PyTorch. Its loader can run code of the file: for files that one trusts.

    Parameters
    ----------
    path : Path
        The file.
    batch : int
        How many samples it takes.

    Returns
    -------
    Origin
        The origin.

    Raises
    ------
    BadWeights
        If PyTorch cannot load it.
    """
    torch = require("torch")
    try:
        loaded = torch.export.load(os.fspath(path))
    except Exception as error:  # whatever it is, it is of the file
        raise BadWeights(f"{path}: PyTorch cannot load it ({reason_of(error)})") from None
    return of_program(loaded, batch)


def of_torchvision(path: Path, architecture: str) -> Origin:
    """
    Run torchvision's module of an architecture with the weights of a file, in float64.

    Parameters
    ----------
    path : Path
        The weights.
    architecture : str
        A name that torchvision knows.

    Returns
    -------
    Origin
        The origin; its values have the names of the submodules, which are those of our nodes.

    Raises
    ------
    BadWeights
        If torchvision has no such network.
    """
    if architecture not in architectures.TORCHVISION:
        raise BadWeights(
            f"{path.name}: there is nothing to compare with: weights alone do not say what is computed with "
            f"them, and the architecture {architecture or 'that the file brings'!r} is none of torchvision's"
        )
    torch, torchvision = require("torch"), require("torchvision")
    options = {"transform_input": False} if architecture in ("inception_v3", "googlenet") else {}
    module = torchvision.models.get_model(architecture, weights=None, **options, **_quick(architecture))
    spelling = architectures.get(architecture).spelling
    tensors = {spelling(name): torch.tensor(np.asarray(array)) for name, array in read(path).items()}
    try:
        module.load_state_dict({**module.state_dict(), **tensors})
    except RuntimeError as error:
        raise BadWeights(
            f"{path}: torchvision's {architecture} does not take it ({reason_of(error)})"
        ) from None
    module = module.eval().double()
    found: dict[str, list[Array]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                found.setdefault(name, []).append(output.detach().clone().numpy())

        return hook

    for name, part in module.named_modules():
        part.register_forward_hook(keep(name))

    def run(x: Array) -> Mapping[str, Array]:
        found.clear()
        with torch.no_grad():
            module(torch.tensor(x, dtype=torch.float64))
        once = {name: values[0] for name, values in found.items() if len(values) == 1}
        return {**once, "": found[""][0]}

    versions = f"torchvision {torchvision.__version__}, PyTorch {torch.__version__}"
    return Origin(versions, "float64", run)


def _quick(architecture: str) -> dict[str, Any]:
    """Spare torchvision the drawing of weights that takes it a minute."""
    return {"init_weights": False} if architecture in ("inception_v3", "googlenet") else {}


def of_onnx(path: Path, program: Program) -> Origin:
    """
    Run an ONNX file by onnxruntime, in float32.

    Parameters
    ----------
    path : Path
        The file.
    program : Program
        What was read from it.

    Returns
    -------
    Origin
        The origin; its values have the names that they have in the file.
    """
    onnxruntime = require("onnxruntime")

    def run(x: Array) -> Mapping[str, Array]:
        return onnx_file.run(path, program, x)

    return Origin(f"onnxruntime {onnxruntime.__version__}", "float32", run, program.batch)


def find(network: Network, origin: Any, x: Array | None) -> tuple[Mapping[str, str], Origin]:
    """
    Find out how a network's origin is run, and which of its values the nodes compute.

    Parameters
    ----------
    network : Network
        The network.
    origin : path-like, torch.nn.Module or torch.export.ExportedProgram
        Where it comes from.
    x : ndarray, shape (N, ...), or None
        An input, to trace a live module with.

    Returns
    -------
    values : mapping of str to str
        The counterparts' names by node.
    origin : Origin
        What is run.
    """
    if not isinstance(origin, str | os.PathLike):
        traced = live.exported(origin, x)
        imported = live.imported(traced)
        return imported.values, of_program(traced, imported.program.batch)
    path, written_in = Path(origin), language(origin)
    if written_in == "onnx":
        asked = network.provenance
        imported = onnx_file.imported(path, output=asked.get("output"), shape=asked.get("shape"))
        return imported.values, of_onnx(path, imported.program)
    if written_in == "torch.export":
        imported = exported.imported(path)
        return imported.values, of_saved_program(path, imported.program.batch)
    names = {node.name: node.name for node in network.nodes} | {network.top: ""}
    return names, of_torchvision(path, str(network.provenance.get("architecture", "")))
