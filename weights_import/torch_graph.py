"""What a live module and a saved program have in common: the names of their nodes, and changes in place.

torch.export writes down calls of PyTorch's own operators (`aten`), in the order in which they run. Two
things stand between such calls and a `Program`, and are the same whoever read them.

A **place**. Nodes are to be called as the user calls the modules: `layer1.0.conv1`, and `layer1.0.add` for
what no module of PyTorch does. `place` says which.

**Changes in place**. `relu_` overwrites what it reads, so all that reads it later sees the result; so does,
in PyTorch, every view of it. In a network nothing is overwritten: `functional` makes `relu_` a `relu`, and
lets later readers read its result. Where they would read through another view it gives up, rather than
guess.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrpref.weights_import.pickles import shown
from lrpref.weights_import.program import Call, Ref

IMPOSSIBLE = "changed in place"
"""The operator of a call that reads what cannot be read any more; its argument `reason` says why."""

VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "alias.default", "channel_shuffle.default", "chunk.default", "contiguous.default",
        "detach.default", "detach_.default",
        "flatten.using_ints", "narrow.default", "numpy_T.default", "permute.default", "reshape.default",
        "select.int", "slice.Tensor", "split.Tensor", "split_with_sizes.default", "squeeze.default",
        "squeeze.dim", "squeeze.dims", "swapaxes.default", "t.default", "to.device", "to.dtype",
        "to.dtype_layout", "transpose.int", "unflatten.int", "unsqueeze.default", "view.default",
        # at test time they give what they got
        "dropout.default", "feature_dropout.default", "alpha_dropout.default",
        "feature_alpha_dropout.default",
    )
)  # fmt: skip
"""Supported operators whose result may be their first argument, or a part of it, in the same memory."""

_HARMLESS = ("_operator.", "math.", "torch.sym_", "aten._assert", "aten.sym_constrain")
"""Beginnings of the names of functions of sizes, and of operators that give nothing and change nothing."""

_ABOUT_MEMORY = ("device", "layout", "pin_memory", "memory_format", "non_blocking")
"""Arguments that say nothing of the numbers."""


def place(modules: Sequence[tuple[str, str]], operator: str, weight: str | None) -> str:
    """
    Say where a call is at home in the module.

    Parameters
    ----------
    modules : sequence of (str, str)
        Path and class of the modules that were being called, the outermost first.
    operator : str
        The operator, such as `"aten.add.Tensor"`.
    weight : str, optional
        The path of its weight, where it has one: `"layer1.0.conv1.weight"`.

    Returns
    -------
    str
        The path of the weight's module, or of the module of PyTorch that does this; else that of the module
        in whose `forward` it stands, with the operator's name: `"layer1.0.add"`.
    """
    owner, _, last = (weight or "").rpartition(".")
    if weight and (owner or last != "weight"):
        return owner if last == "weight" else weight
    path, kind = modules[-1] if modules else ("", "")
    path = path.partition("@")[0]  # "relu@1" is the second call of one module
    if path and kind.startswith("torch.nn."):
        return path
    name = operator.split(".")[:2][-1].rstrip("_")
    return f"{path}.{name}" if path else name


def weight_of(arguments: Mapping[str, Any], paths: Mapping[str, str]) -> str | None:
    """
    Find the path of a call's weight.

    Parameters
    ----------
    arguments : mapping of str to Any
        The call's arguments.
    paths : mapping of str to str
        Paths of parameters and buffers in the module, by the names of their values.

    Returns
    -------
    str or None
        The path; None where there is none.
    """
    weight = arguments.get("weight")
    return paths.get(weight.name) if isinstance(weight, Ref) else None


@dataclass
class _Memory:
    """Memory that several tensors share."""

    changed: int = 0  # when it was changed in place the last time
    by: str = ""  # by which call
    through: int = 0  # through which of the tensors; 0 is none of them

    def change(self, time: int, by: str, through: int = 0) -> None:
        self.changed, self.by, self.through = time, by, through


@dataclass(frozen=True)
class _Tensor:
    """What a name stands for: a tensor in some memory, since when."""

    memory: _Memory
    number: int
    born: int = 0

    @property
    def stale(self) -> bool:
        """Whether the memory was changed through another tensor since."""
        return self.memory.changed > self.born and self.memory.through != self.number


def functional(
    calls: Iterable[Call], constants: Iterable[str], output: str, supported: Container[str]
) -> tuple[tuple[Call, ...], str]:
    """
    Write calls that change values in place as calls that give new ones.

    Parameters
    ----------
    calls : iterable of Call
        As PyTorch runs them.
    constants : iterable of str
        The names of weights and other constants.
    output : str
        The name of the value that they are there for.
    supported : container of str
        The operators that are known. Any other may give a view, and those that are not PyTorch's own may
        change what they read.

    Returns
    -------
    calls : tuple of Call
        Calls with the same results, none of which changes anything. One that would have to is given the
        operator `IMPOSSIBLE`.
    output : str
        What that value is called among them.
    """
    memory = _Functional(constants, supported)
    made = [memory.call(call) for call in calls]
    last = memory.call(Call("output", "aten.alias.default", {"self": Ref(output)}, ("output",)))
    if last.operator == IMPOSSIBLE:
        return (*made, last), "output"
    return tuple(made), last.arguments["self"].name


class _Functional:
    """Follows which names share memory while the calls run."""

    def __init__(self, constants: Iterable[str], supported: Container[str]) -> None:
        self.constants, self.supported = frozenset(constants), supported
        self.tensors: dict[str, _Tensor] = {}
        self.newest: dict[int, str] = {}  # what a tensor that was changed in place is called now
        self.numbers = itertools.count(1)
        self.time = 0

    def call(self, call: Call) -> Call:
        self.time += 1
        call = replace(call, arguments={k: v for k, v in call.arguments.items() if k not in _ABOUT_MEMORY})
        first = next(iter(call.arguments.values()), None)
        target = first.name if isinstance(first, Ref) else ""
        operator, in_place = _without_underscore(call.operator)
        reason = next(filter(None, map(self._stale, sorted(call.reads()))), "")
        if in_place and target in self.constants:
            reason = f"{call.operator} on {shown(target)}, a weight or constant of the module"
        arguments = {key: self._now(value) for key, value in call.arguments.items()}
        if in_place and target:
            self._change(target, call)
        elif _may_change_anything(call):
            for name in call.reads():
                self._tensor(name).memory.change(self.time, call.name)
        elif target and (call.operator in VIEWS or call.operator not in self.supported):
            for name in call.results:
                self.tensors[name] = _Tensor(self._tensor(target).memory, next(self.numbers), self.time)
        if reason:
            return replace(call, operator=IMPOSSIBLE, arguments={"reason": reason})
        return replace(call, operator=operator, arguments=arguments)

    def _tensor(self, name: str) -> _Tensor:
        if name not in self.tensors:
            self.tensors[name] = _Tensor(_Memory(), next(self.numbers))
        return self.tensors[name]

    def _change(self, name: str, call: Call) -> None:
        tensor = self._tensor(name)
        tensor.memory.change(self.time, call.name, tensor.number if call.results else 0)
        for result in call.results[:1]:
            self.newest[tensor.number] = result
            self.tensors[result] = replace(tensor, born=self.time)

    def _stale(self, name: str) -> str:
        """Say why a name cannot be read any more."""
        tensor = self.tensors.get(name)
        if tensor is None or not tensor.stale:
            return ""
        return (
            f"it reads {shown(name)}, which node {shown(tensor.memory.by)} may have changed in place since, "
            "through another view of the same memory: write that without inplace=True and final underscores"
        )

    def _now(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            tensor = self.tensors.get(argument.name)
            return argument if tensor is None else Ref(self.newest.get(tensor.number, argument.name))
        return [self._now(item) for item in argument] if isinstance(argument, list | tuple) else argument


def _without_underscore(operator: str) -> tuple[str, bool]:
    """Name the operator that gives a new value: aten.relu for aten.relu_."""
    space, _, rest = operator.partition(".")
    name, _, overload = rest.partition(".")
    if space != "aten" or not name.endswith("_") or name.startswith("__") or name == "detach_":
        return operator, False
    return f"{space}.{name.rstrip('_')}.{overload}", True


def _may_change_anything(call: Call) -> bool:
    """Tell whether a call may write into what it reads, for all that its name says."""
    if call.operator.startswith(_HARMLESS):
        return False
    return not call.operator.startswith("aten.") or call.operator.endswith(".out") or not call.results
