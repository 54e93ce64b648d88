"""Live PyTorch modules, through torch.export. PyTorch is imported only when it is asked for.

torch.export calls a module with numbers that are not there, only their shapes, and writes down the calls
of PyTorch's operators: whatever Python the module is written in, what comes out is a plain graph.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lrpref.errors import BadBackend, BadInput, BadNetwork
from lrpref.kernels.operations import Array
from lrpref.layers import Shape
from lrpref.network import Network
from lrpref.preprocessing import Preprocessing
from lrpref.weights_import.pickles import reason_of, shown
from lrpref.weights_import.program import Call, Imported, Program, Ref, make
from lrpref.weights_import.torch_graph import functional, place, weight_of
from lrpref.weights_import.torch_operators import OPERATORS


def from_torch(
    module: Any,
    example_input: Any = None,
    *,
    name: str = "",
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
) -> Network:
    """
    Make a network of a live PyTorch module.

    The module stays as it is. The network's weights are copies, which training the module on does not change.

    Parameters
    ----------
    module : torch.nn.Module or torch.export.ExportedProgram
        The module, in evaluation mode; or what torch.export made of one, which also takes modules of several
        options and sizes (`dynamic_shapes`).
    example_input : torch.Tensor or array_like, shape (N, ...)
        An input of the right shape; its numbers do not matter. None for an ExportedProgram.
    name : str
        What the network is called; the module's class where not given.
    classes : sequence of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.

    Returns
    -------
    Network
        The network; its nodes have the names of the modules. Weights have the module's own dtype and bytes;
        only float16 and bfloat16 are widened, exactly, to float32.

    Raises
    ------
    BadNetwork
        If the module is none, or in training mode; if torch.export cannot follow it; if operators are not
        supported: all of them in one line, with their nodes.
    BadInput
        If the example input is none.
    BadBackend
        If PyTorch is not installed.
    """
    return imported(module, example_input, name=name, classes=classes, preprocessing=preprocessing).network


def imported(
    module: Any,
    example_input: Any = None,
    *,
    name: str = "",
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
) -> Imported:
    """
    Make a network of a live PyTorch module, and say what its nodes are in torch.export's program.

    Parameters
    ----------
    module : torch.nn.Module or torch.export.ExportedProgram
        As in `from_torch`.
    example_input : torch.Tensor or array_like, shape (N, ...)
        As in `from_torch`.
    name : str
        What the network is called; the module's class where not given.
    classes : sequence of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.

    Returns
    -------
    Imported
        The network, the program, and which of its values are which nodes.

    Raises
    ------
    BadNetwork, BadInput, BadBackend
        As in `from_torch`.
    """
    torch = _torch()
    if isinstance(module, torch.export.ExportedProgram) and example_input is not None:
        raise BadInput("an ExportedProgram knows its input's shape: give no example input")
    program = exported(module, example_input)
    kind = "" if program is module else type(module).__name__
    provenance = {"origin": "torch.export", "torch": str(torch.__version__), "module": kind}
    return make(
        read(program),
        OPERATORS,
        name=name or kind,
        classes=classes,
        preprocessing=preprocessing,
        provenance=provenance,
    )


def exported(module: Any, example_input: Any = None) -> Any:
    """
    Let torch.export write a module down.

    Parameters
    ----------
    module : torch.nn.Module or torch.export.ExportedProgram
        As in `from_torch`; a program is returned as it is.
    example_input : torch.Tensor or array_like, shape (N, ...)
        As in `from_torch`; a program needs none.

    Returns
    -------
    torch.export.ExportedProgram
        The program.

    Raises
    ------
    BadNetwork, BadInput, BadBackend
        As in `from_torch`.
    """
    torch = _torch()
    if isinstance(module, torch.export.ExportedProgram):
        return module
    _check_module(torch, module)
    example = _example(torch, module, example_input)
    try:
        with warnings.catch_warnings(), torch.no_grad():  # else torch.no_grad() inside is a graph of its own
            warnings.simplefilter("ignore")
            return torch.export.export(module, (example,))
    except Exception as error:  # whatever the module's own code raises
        raise BadNetwork(
            f"torch.export cannot follow {type(module).__name__} on an input of {tuple(example.shape)} "
            f"({type(error).__name__}: {reason_of(error)}): see whether module(example_input) runs; if it "
            "does, code that depends on the numbers of an input, such as `if x.sum() > 0`, has no graph"
        ) from None


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError:
        raise BadBackend("torch is not installed: pip install 'lrpref[torch]'") from None


def _check_module(torch: Any, module: Any) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise BadNetwork("the module is TorchScript: give the torch.nn.Module that it was made of")
    if not isinstance(module, torch.nn.Module):
        raise BadNetwork(
            f"expected a torch.nn.Module, got {shown(module)}: load a state dict into its module first"
        )
    training = [path or type(module).__name__ for path, part in module.named_modules() if part.training]
    if training:
        raise BadNetwork(
            f"the module is in training mode ({', '.join(training[:3])}{' ...' if training[3:] else ''}), "
            "where dropout and batch norms depend on chance and on the batch: call module.eval() first"
        )


def _example(torch: Any, module: Any, example: Any) -> Any:
    """Make an example input of what is given, where the module is and of its dtype."""
    if isinstance(example, tuple) and len(example) == 1:  # as torch.export itself wants it
        (example,) = example
    if isinstance(example, tuple):
        raise BadInput(
            f"the example input is a tuple of {len(example)}: give one tensor; a module that takes several "
            "wants a wrapper that takes one"
        )
    try:
        tensor = torch.as_tensor(example).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"the example input is no array of numbers ({reason_of(error)})") from None
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise BadInput(f"the example input is {tuple(tensor.shape)}, wants (N, ...) such as (1, 3, 224, 224)")
    floats = (parameter for parameter in module.parameters() if parameter.is_floating_point())
    first = next(floats, tensor if tensor.is_floating_point() else torch.zeros(1))
    return tensor.to(first.device, first.dtype)


# From torch.export's program to ours


def read(program: Any) -> Program:
    """
    Read a program of torch.export.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        The program.

    Returns
    -------
    Program
        The same calls, under the same names. What no input changes is computed here, by PyTorch.

    Raises
    ------
    BadNetwork
        If it has not one tensor as its input and one as its output.
    """
    torch = _torch()
    signature = program.graph_signature
    stored = {**program.state_dict, **program.constants}
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {**paths, **signature.inputs_to_lifted_tensor_constants}
    constants = {value: _array(torch, path, stored[path]) for value, path in tensors.items()}
    nodes = list(program.graph.nodes)
    shapes = {node.name: shape for node in nodes if (shape := _shape(node)) is not None}
    reader = _Reader(torch, paths)
    calls = [reader.call(node) for node in nodes if node.op == "call_function" and not _is_getitem(node)]
    value, output = _only(signature.user_inputs, "inputs"), _only(signature.user_outputs, "outputs")
    if value not in shapes or len(shapes[value]) < 2:
        raise BadNetwork(f"its input {shown(value)} is no tensor of shape (N, ...)")
    made, output = functional(calls, constants, output, OPERATORS)
    constants, made = _computed(torch, constants, made)
    return Program(value, output, shapes, constants, made)


def _only(names: Iterable[Any], what: str) -> str:
    tensors = [name for name in names if isinstance(name, str)]
    if len(tensors) != 1:
        raise BadNetwork(f"it has {len(tensors)} {what}: one tensor is read; wrap it in a module with one")
    return tensors[0]


def _array(torch: Any, path: str, tensor: Any) -> Array:
    """Give a tensor's numbers, where they are or widened."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        raise BadNetwork(f"{shown(path)} is no dense tensor of plain numbers")
    if tensor.device.type == "meta":
        raise BadNetwork(f"{shown(path)} is on the device 'meta', without numbers: load the weights first")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return np.array(tensor.numpy())  # its own: training the module on must not change the network


def _shape(node: Any) -> Shape | None:
    """Give the shape of what a node gives; an unknown number of samples is that of the example."""
    sizes = getattr(node.meta.get("val"), "shape", None)
    if sizes is None:
        return None
    known = [size if isinstance(size, int) else getattr(size.node, "hint", None) for size in sizes]
    return None if None in known else tuple(int(size) for size in known if size is not None)


def _is_getitem(node: Any) -> bool:
    return getattr(node.target, "__name__", "") == "getitem"


class _Reader:
    """Reads nodes of a graph."""

    def __init__(self, torch: Any, paths: Mapping[str, str]) -> None:
        self.torch, self.paths = torch, paths

    def call(self, node: Any) -> Call:
        target = node.target
        if isinstance(target, self.torch._ops.OpOverload):
            operator = str(target)  # aten.add.Tensor
            names = [argument.name for argument in target._schema.arguments]
        else:
            operator = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"
            operator = operator.removeprefix("torch.ops.")
            names = ["a", "b"]  # as the functions of `operator` call them
        pairs = [*zip(names, node.args, strict=False), *node.kwargs.items()]
        arguments = {name: self.argument(value) for name, value in pairs}
        stack = [(path, _named(kind)) for path, kind in (node.meta.get("nn_module_stack") or {}).values()]
        where = place(stack, operator, weight_of(arguments, self.paths))
        return Call(node.name, operator, arguments, _results(node), where)

    def argument(self, value: Any) -> Any:
        if isinstance(value, self.torch.fx.Node):
            return Ref(value.name)
        if isinstance(value, list | tuple):
            return [self.argument(item) for item in value]
        return value if isinstance(value, int | float | str | None) else str(value).removeprefix("torch.")


def _named(kind: Any) -> str:
    return kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def _results(node: Any) -> tuple[str, ...]:
    """Name what a node gives; of a list the names are those of the nodes that take its items."""
    value = node.meta.get("val", node)  # where nothing is known of it, there may be something
    if not isinstance(value, list | tuple):
        return (node.name,) if value is not None else ()
    names = [f"{node.name}_unused_{i}" for i in range(len(value))]
    for user in filter(_is_getitem, node.users):
        names[user.args[1]] = user.name
    return tuple(names)


def _computed(
    torch: Any, constants: Mapping[str, Array], calls: Sequence[Call]
) -> tuple[dict[str, Array], tuple[Call, ...]]:
    """Let PyTorch compute what no input changes, such as weights that are stored as a product."""
    known, left = dict(constants), []
    for call in calls:
        results = _result(torch, known, call) if call.reads() <= known.keys() else None
        if results is None:
            left.append(call)
        else:
            known |= dict(zip(call.results, results, strict=True))
    return known, tuple(left)


def _result(torch: Any, known: Mapping[str, Array], call: Call) -> list[Array] | None:
    """Run a call whose arguments are all constants; None where that is not for us to do."""
    space, _, rest = call.operator.partition(".")
    name, _, overload = rest.partition(".")
    function = getattr(getattr(getattr(torch.ops, space, None), name, None), overload, None)
    if function is None or torch.Tag.nondeterministic_seeded in function.tags:
        return None

    def value(argument: Any) -> Any:
        if isinstance(argument, Ref):
            return torch.from_numpy(known[argument.name])
        return [value(item) for item in argument] if isinstance(argument, list) else argument

    arguments = {key: value(argument) for key, argument in call.arguments.items()}
    if isinstance(arguments.get("dtype"), str):
        arguments["dtype"] = getattr(torch, arguments["dtype"], None)
    try:
        with torch.no_grad():
            made = function(**arguments)
    except Exception:  # then its handler may know better, or says what is wrong
        return None
    tensors = list(made) if isinstance(made, list | tuple) else [made]
    if len(tensors) != len(call.results) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        return None
    return [_array(torch, call.name, tensor) for tensor in tensors]
