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
from lrpref.weights_import.program import Imported, Program

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
        module = copy.deepcopy(program.module(check_guards=False))  # its tensors are the user's own

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc, name-defined, unused-ignore]
        """Keeps what every node gives, as it is before anything overwrites it."""

        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            leaves = torch.utils._pytree.tree_leaves((args, kwargs))
            if any(getattr(leaf, "dtype", None) == torch.float64 for leaf in leaves):
                args, kwargs = torch.utils._pytree.tree_map(widened, (args, kwargs))
            return super().call_function(target, args, kwargs)

        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                found[n.name] = value.detach().clone().double().numpy()
            return value

    def widened(argument: Any) -> Any:
        if isinstance(argument, torch.dtype):
            return torch.float64 if argument.is_floating_point else argument
        return argument.double() if torch.is_tensor(argument) and argument.is_floating_point() else argument

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


def of_torchvision(path: Path, architecture: str, outputs: int) -> Origin:
    """
    Run torchvision's module of an architecture with the weights of a file, in float64.

    Parameters
    ----------
    path : Path
        The weights.
    architecture : str
        A name that torchvision knows.
    outputs : int
        How many classes there are.

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
    module = _torchvisions_module(path, architecture, outputs)
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


def _torchvisions_module(path: Path, architecture: str, outputs: int) -> Any:
    """Build torchvision's module with the weights of a file, in float64."""
    torch, torchvision = require("torch"), require("torchvision")
    known = architectures.get(architecture)
    named = {known.spelling(name): array for name, array in read(path).items()}
    tensors = {name: torch.tensor(np.asarray(a)) for name, a in named.items() if not known.leaves_out(name)}
    options: dict[str, Any] = {"num_classes": outputs}
    if architecture in ("inception_v3", "googlenet"):  # without weights yet: drawing them takes a minute
        options |= {"transform_input": False, "init_weights": False}
    module = torchvision.models.get_model(architecture, weights=None, **options)
    try:
        module.load_state_dict({**module.state_dict(), **tensors})
    except RuntimeError as error:
        what = f"torchvision's {architecture} does not take it ({reason_of(error)})"
        raise BadWeights(f"{path}: {what}") from None
    return module.eval().double()


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
    run = onnx_file.runner(path, program)
    return Origin(f"onnxruntime {require('onnxruntime').__version__}", "float32", run, program.batch)


def find(network: Network, origin: Any, x: Array) -> tuple[Mapping[str, str], Origin]:
    """
    Find out how a network's origin is run, and which of its values the nodes compute.

    Parameters
    ----------
    network : Network
        The network.
    origin : path-like, torch.nn.Module or torch.export.ExportedProgram
        Where it comes from.
    x : ndarray, shape (N, ...)
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
        return _counterparts(network, imported), of_program(traced, imported.program.batch)
    path, written_in = Path(origin), language(origin)
    if written_in == "onnx":
        asked = network.provenance
        imported = onnx_file.imported(path, output=asked.get("output"), shape=asked.get("shape"))
        return _counterparts(network, imported), of_onnx(path, imported.program)
    if written_in == "torch.export":
        imported = exported.imported(path)
        return _counterparts(network, imported), of_saved_program(path, imported.program.batch)
    names = {node.name: node.name for node in network.nodes} | {network.top: ""}
    outputs = network.shapes[network.top][0]
    return names, of_torchvision(path, str(network.provenance.get("architecture", "")), outputs)


def _counterparts(network: Network, imported: Imported) -> Mapping[str, str]:
    """Say what the nodes are in the origin; the output is the output, whatever it is called."""
    return {**imported.values, network.top: imported.program.output}
