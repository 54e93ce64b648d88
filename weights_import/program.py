"""A foreign graph in one form, whatever language it came in, and how it becomes a network.

Readers (`exported.py`, `onnx_file.py`) make a `Program`: calls of operators on named values. A table says
for each operator which layers it is (`torch_operators.py`, `onnx_operators.py`); `make` runs the calls
through the table, once, and what comes out is the network. All that cannot be read is said in one line.

Every value has the samples on its first axis. Layers want images (C, H, W); a signal (C, L) is one of
height 1, and is made that only where a layer asks for an image (`Draft.image`, `Draft.plain`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrpref.errors import BadNetwork, LrprefError
from lrpref.fold import merge_padding
from lrpref.kernels.operations import Array
from lrpref.layers import BatchNorm, HardSigmoid, HardSwish, Layer, Reshape, Shape, Sigmoid, SiLU
from lrpref.network import INPUT, LARGEST, MAX_NODES, Network, Node
from lrpref.preprocessing import Preprocessing
from lrpref.weights_import.checkpoint import MAX_GROWTH, SMALL
from lrpref.weights_import.pickles import shown

LISTED = 100
"""So many faults, and so many nodes of each, are told of in an error's line; the rest are counted."""

MAX_CONSTANT = 1 << 24
"""A constant that is computed, and not read, has at most so many numbers."""


@dataclass(frozen=True)
class Ref:
    """
    A value of a program, by its name.

    Parameters
    ----------
    name : str
        The name.
    """

    name: str


@dataclass(frozen=True)
class Call:
    """
    One operator at work.

    Parameters
    ----------
    name : str
        What the foreign graph calls it.
    operator : str
        Which operator: a key of the table.
    arguments : mapping of str to Any
        Its arguments by name: plain data, `Ref`, or lists of them.
    results : tuple of str
        The names of what it gives.
    place : str
        What its node is to be called: the path of a module; the call's own name where not given.
    """

    name: str
    operator: str
    arguments: Mapping[str, Any]
    results: tuple[str, ...]
    place: str = ""

    def reads(self) -> set[str]:
        """
        Find the values that it reads.

        Returns
        -------
        set of str
            Their names.
        """
        return {x.name for x in _flat(self.arguments.values()) if isinstance(x, Ref)}


@dataclass(frozen=True)
class Program:
    """
    A foreign graph: calls in the order in which they run.

    Parameters
    ----------
    input, output : str
        The names of its one input and one output.
    shapes : mapping of str to tuple of int
        Shapes of values, samples included, as the graph states them; the input's must be there.
    constants : mapping of str to ndarray
        Weights, and other numbers that no input changes.
    calls : tuple of Call
        The calls.
    """

    input: str
    output: str
    shapes: Mapping[str, Shape]
    constants: Mapping[str, Array]
    calls: tuple[Call, ...]

    @property
    def batch(self) -> int:
        """How many samples its shapes have."""
        return self.shapes[self.input][0]

    def needed(self) -> tuple[Call, ...]:
        """
        Leave out what the output does not depend on.

        Returns
        -------
        tuple of Call
            The calls that are needed, in order.
        """
        wanted, calls = {self.output}, []
        for call in reversed(self.calls):
            if wanted.intersection(call.results):
                wanted |= call.reads()
                calls.append(call)
        return tuple(reversed(calls))


@dataclass(frozen=True)
class Value:
    """
    A value of the foreign graph that depends on the input, and the node that computes it.

    Parameters
    ----------
    node : str
        The node, or `"input"`.
    shape : tuple of int
        One sample, as the foreign graph sees it; the node's own may be (C, 1, L) for (C, L).
    """

    node: str
    shape: Shape


class Unsupported(Exception):
    """What an operator's handler raises: what of it is not supported, and what can be done."""


class Draft:
    """
    A network in the making.

    Parameters
    ----------
    batch : int
        How many samples the foreign graph's shapes have.
    shape : tuple of int
        Shape of one sample of the input.
    budget : int
        How many bytes the constants that are computed may take together.

    Attributes
    ----------
    declared : tuple of int or None
        One sample of the result of the call at hand, as the foreign graph states it.
    readers : Counter of str
        How often calls read what a node gives.
    """

    def __init__(self, batch: int, shape: Shape, budget: int = SMALL) -> None:
        self.batch = batch
        self._left = budget
        self.declared: Shape | None = None
        self.readers = Counter[str]()
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {INPUT: shape}
        self._made: dict[str, Node] = {}
        self._place = ""
        self._uses: dict[str, int] = {}

    def begin(self, call: Call, declared: Shape | None) -> None:
        """
        Turn to a call: its nodes bear its name.

        Parameters
        ----------
        call : Call
            The call.
        declared : tuple of int or None
            One sample of its result, where that is known.
        """
        self._place, self.declared = _printable(call.place or call.name), declared

    def add(self, layer: Layer, *values: Value, shape: Shape | None = None, part: str = "") -> Value:
        """
        Add a node.

        Parameters
        ----------
        layer : Layer
            What it computes.
        *values : Value
            What it reads.
        shape : tuple of int, optional
            One sample of the result as the foreign graph sees it; the layer's own where not given.
        part : str
            Tells several nodes of one call apart; the one that gives the result has none.

        Returns
        -------
        Value
            Its result.

        Raises
        ------
        BadNetwork
            If the layer cannot take such inputs.
        """
        own = layer.output_shape(*(self.shapes[value.node] for value in values))
        if size(own) > LARGEST:
            raise Unsupported(f"a value of shape {own}, which is larger than any memory")
        if len(self.nodes) == MAX_NODES:
            raise BadNetwork(f"there are more than {MAX_NODES} nodes")
        if isinstance(layer, BatchNorm):
            self.spend(layer.scale.nbytes + layer.shift.nbytes)
        name = self._unused(f"{self._place}.{part}" if part else self._place)
        self._made[name] = Node(name, layer, tuple(value.node for value in values))
        self.nodes.append(self._made[name])
        self.shapes[name] = own
        return Value(name, own if shape is None else shape)

    def spend(self, size: int) -> None:
        """
        Account for constants that are computed, and not the file's own.

        Parameters
        ----------
        size : int
            How many bytes they take.

        Raises
        ------
        Unsupported
            If all of them together take too many.
        """
        self._left -= size
        if self._left < 0:
            raise Unsupported("constants that are computed and take far more memory than the file's own")

    def each(self, layer: Layer, value: Value) -> Value:
        """
        Add a node that works number by number.

        Parameters
        ----------
        layer : Layer
            What it computes.
        value : Value
            What it reads.

        Returns
        -------
        Value
            Its result, of the same shape.
        """
        return self.add(layer, value, shape=value.shape)

    def made(self, value: Value) -> Node | None:
        """
        Find the node that computes a value.

        Parameters
        ----------
        value : Value
            Any value.

        Returns
        -------
        Node or None
            The node; None for the input.
        """
        return self._made.get(value.node)

    def absorbing(self, value: Value) -> Node | None:
        """
        Find the node that computes a value, if that is free to compute what follows too.

        Parameters
        ----------
        value : Value
            What the call at hand reads.

        Returns
        -------
        Node or None
            The node; None where anything else reads it, as relevance would then find two layers for one.
        """
        return self._made.get(value.node) if self.readers[value.node] <= 1 else None

    def image(self, value: Value) -> Value:
        """
        Ask for an image: a signal (C, L) becomes one of height 1.

        Parameters
        ----------
        value : Value
            An image or a signal.

        Returns
        -------
        Value
            The same numbers, from a node whose own shape is (C, H, W).

        Raises
        ------
        Unsupported
            If it is neither.
        """
        if len(value.shape) not in (2, 3):
            raise Unsupported(f"an input {value.shape}, no image (C, H, W) and no signal (C, L)")
        c, *sides = value.shape
        return self._as(value, (c, *[1] * (2 - len(sides)), *sides), "image")

    def plain(self, value: Value) -> Value:
        """
        Ask for the shape that the foreign graph sees.

        Parameters
        ----------
        value : Value
            Any value.

        Returns
        -------
        Value
            The same numbers, from a node whose own shape is the value's.
        """
        return self._as(value, value.shape, "plain")

    def reshape(self, value: Value, shape: Shape) -> Value:
        """
        Give a value another shape, in row-major order.

        Parameters
        ----------
        value : Value
            Any value.
        shape : tuple of int
            The shape of one sample.

        Returns
        -------
        Value
            The same numbers.
        """
        if self.shapes[value.node] == shape:
            return Value(value.node, shape)
        return self.add(Reshape(shape), value)

    def stand_in(self, shape: Shape) -> Value:
        """
        Stand for what could not be read, so that all else that cannot be is found too.

        Parameters
        ----------
        shape : tuple of int
            The shape of one sample.

        Returns
        -------
        Value
            A value that no node computes.
        """
        name = self._unused("?")
        self.shapes[name] = shape
        return Value(name, shape)

    def _as(self, value: Value, own: Shape, part: str) -> Value:
        """Reshape a node's output, whose numbers are in the same order whatever its shape."""
        if self.shapes[value.node] == own:
            return value
        return self.add(Reshape(own), value, shape=value.shape, part=part)

    def _unused(self, name: str) -> str:
        """Number a name that is there already, as that of a module that is called twice."""
        found, count = name, self._uses.get(name, 1)
        while found in self.shapes:
            count += 1
            found = f"{name}.{count}"
        self._uses[name] = count
        return found


Handler = Callable[..., Any]
"""From a draft and a call's arguments, refs replaced by values and constants, to its result or results."""

Table = dict[str, Handler]


def register(table: Table, *operators: str) -> Callable[[Handler], Handler]:
    """
    Put a handler into a table; the first line of its docstring says what is supported.

    Parameters
    ----------
    table : dict of str to callable
        The table.
    *operators : str
        The operators that it is for.

    Returns
    -------
    callable
        The decorator.
    """

    def keep(handler: Handler) -> Handler:
        table.update(dict.fromkeys(operators, handler))
        return handler

    return keep


_GATES: dict[type[Layer], Layer] = {Sigmoid: SiLU(), HardSigmoid: HardSwish()}


def gated(draft: Draft, a: Value, b: Value) -> Value:
    """
    Multiply two values that depend on the input: x sigmoid(x), which graphs write in two, is `SiLU`.

    Parameters
    ----------
    draft : Draft
        The network in the making.
    a, b : Value
        The factors.

    Returns
    -------
    Value
        Their product.

    Raises
    ------
    Unsupported
        If it is any other product.
    """
    for value, gate in ((a, b), (b, a)):
        made = draft.made(gate)
        if made is not None and type(made.layer) in _GATES and made.inputs == (value.node,):
            return draft.each(_GATES[type(made.layer)], value)
    raise Unsupported(
        "a product of two values that both depend on the input (a gate, squeeze-and-excitation, attention): "
        "LRP has no agreed rule for products"
    )


@dataclass(frozen=True)
class Imported:
    """
    A network, and which values of the foreign graph its nodes compute.

    Parameters
    ----------
    network : Network
        The network.
    values : mapping of str to str
        The foreign value that a node computes, for those that compute one.
    program : Program
        Where it comes from.
    """

    network: Network
    values: Mapping[str, str]
    program: Program


def make(
    program: Program,
    table: Table,
    *,
    name: str = "",
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Imported:
    """
    Make a network of a program.

    Parameters
    ----------
    program : Program
        The program.
    table : dict of str to callable
        What its operators are.
    name : str
        What the network is called.
    classes : sequence of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.
    provenance : mapping, optional
        Where it comes from: plain JSON data.

    Returns
    -------
    Imported
        The network; a constant padding with zeros is merged into the convolution that reads it.

    Raises
    ------
    BadNetwork
        If operators, or the way they are used, are not supported: all of them in one line, with their
        nodes. Also if shapes do not fit.
    """
    sample = tuple(program.shapes[program.input][1:])
    own = sum(array.nbytes for array in program.constants.values())
    draft = Draft(program.batch, sample, MAX_GROWTH * own + SMALL)
    known: dict[str, Any] = {**program.constants, program.input: Value(INPUT, sample)}
    faults: dict[str, list[str]] = {}
    calls = program.needed()
    reads = Counter(name for call in calls for name in call.reads())
    reads[program.output] += 1
    for call in calls:
        declared = [_sample(program.shapes.get(result), program.batch) for result in call.results]
        draft.begin(call, declared[0])
        try:
            results = _run(call, table, draft, known)
            _check_declared(call, results, declared)
        except Unsupported as fault:
            faults.setdefault(str(fault), []).append(call.place or call.name)
            results = [None if shape is None else draft.stand_in(shape) for shape in declared]  # to read on
        except LrprefError as error:
            if not faults:  # else it may be the stand-in
                where = f"node {shown(call.place or call.name)} ({call.operator})"
                raise type(error)(f"{where}: {error}") from None
            results = [None] * len(call.results)
        known |= dict(zip(call.results, results, strict=True))
        for value, result in zip(call.results, results, strict=True):
            if isinstance(result, Value):
                draft.readers[result.node] += reads[value]
    if faults:
        raise BadNetwork(_told(faults))
    return _finish(draft, program, known, name, tuple(classes), preprocessing, provenance or {})


def _run(call: Call, table: Table, draft: Draft, known: Mapping[str, Any]) -> list[Any]:
    if call.operator not in table:
        raise Unsupported(f"operator {call.operator}")
    draft.spend(0)  # once too much is spent, nothing more is computed
    missing = sorted(name for name in call.reads() if name not in known)
    if missing:
        raise BadNetwork(f"reads {shown(missing[0])}, which nothing before it gives")
    if any(known[name] is None for name in call.reads()):
        return [None] * len(call.results)
    arguments = {key: _resolved(value, known) for key, value in call.arguments.items()}
    try:
        result = table[call.operator](draft, **arguments)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
        raise Unsupported(f"{call.operator} with such arguments ({error})") from None
    results = list(result) if isinstance(result, list | tuple) else [result]
    draft.spend(_new_bytes(arguments, results))
    if len(results) < len(call.results):
        raise Unsupported(f"{call.operator}: more than its first result is read")
    return results[: len(call.results)]


def _new_bytes(arguments: Mapping[str, Any], results: Iterable[Any]) -> int:
    """Count the bytes of results that lie in no argument's memory; what only repeats takes none."""
    given = [x for x in _flat(arguments.values()) if isinstance(x, np.ndarray)]
    arrays = [x for x in results if isinstance(x, np.ndarray)]
    new = [x for x in arrays if not any(np.may_share_memory(x, y) for y in given)]
    return sum(
        x.itemsize * math.prod(n for n, step in zip(x.shape, x.strides, strict=True) if step) for x in new
    )


def _check_declared(call: Call, results: Iterable[Any], declared: Iterable[Shape | None]) -> None:
    for result, shape in zip(results, declared, strict=True):
        if isinstance(result, Value) and shape is not None and result.shape != shape:
            raise BadNetwork(f"gives {result.shape} for each sample, where the file says {shape}")


def _sample(shape: Shape | None, batch: int) -> Shape | None:
    """Take the samples off a shape; one without them is of no input's value."""
    return None if shape is None or not shape or shape[0] != batch else tuple(shape[1:])


def _finish(
    draft: Draft,
    program: Program,
    known: Mapping[str, Any],
    name: str,
    classes: tuple[str, ...],
    preprocessing: Preprocessing | None,
    provenance: Mapping[str, Any],
) -> Imported:
    output = known.get(program.output)
    if not isinstance(output, Value):
        raise BadNetwork(f"its output {shown(program.output)} does not depend on its input")
    draft.begin(Call("output", "", {}, ()), None)
    output = draft.plain(output)
    if output.node == INPUT:
        raise BadNetwork("its output is its input: there is nothing to explain")
    nodes = _leading_to(output.node, draft.nodes)
    network = Network(tuple(nodes), draft.shapes[INPUT], classes, preprocessing, name, provenance)
    network = merge_padding(network)
    values = {value.node: result for result, value in known.items() if isinstance(value, Value)}
    values[output.node] = program.output
    there = {node.name: values[node.name] for node in network.nodes if node.name in values}
    return Imported(network, there, program)


def _leading_to(top: str, nodes: Sequence[Node]) -> list[Node]:
    """Leave out the nodes that the output does not depend on."""
    wanted, kept = {top}, []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted |= set(node.inputs)
            kept.append(node)
    return kept[::-1]


def _told(faults: Mapping[str, list[str]]) -> str:
    """Tell of all faults in one line."""
    items = [f"{_printable(fault)} ({_named(names)})" for fault, names in faults.items()]
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return (
        f"{len(items)} thing{'s' if len(items) > 1 else ''} in it cannot be read: {'; '.join(items[:LISTED])}"
        f"{more}. Nothing was imported. Write them in supported operators (docs/importing.md lists them), "
        "or take the network up to the node before"
    )


def _named(names: Sequence[str]) -> str:
    listed = ", ".join(_printable(name) for name in names[:LISTED])
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"node{'s' if len(names) > 1 else ''} {listed}{more}"


def _flat(arguments: Iterable[Any]) -> Iterable[Any]:
    for argument in arguments:
        if isinstance(argument, list | tuple):
            yield from _flat(argument)
        else:
            yield argument


def _resolved(argument: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(argument, Ref):
        return known[argument.name]
    if isinstance(argument, list | tuple):
        return [_resolved(item, known) for item in argument]
    return argument


def _printable(name: str) -> str:
    """Make a foreign name one that a node may have: one line of at most 500 characters."""
    return "".join(c if c.isprintable() else "?" for c in name)[:400] or "node"


def whole(values: Any) -> tuple[int, ...]:
    """
    Read whole numbers from a constant.

    Parameters
    ----------
    values : array_like
        One or several numbers.

    Returns
    -------
    tuple of int
        The numbers.

    Raises
    ------
    Unsupported
        If they depend on the input, or are not whole.
    """
    if isinstance(values, Value):
        raise Unsupported("a size that depends on the input")
    numbers = np.atleast_1d(np.asarray(values))
    if numbers.dtype.kind not in "iu":
        raise Unsupported(f"sizes {shown(values)} that are not whole numbers")
    return tuple(int(number) for number in numbers.ravel())


def size(shape: Shape) -> int:
    """
    Count the numbers of a shape.

    Parameters
    ----------
    shape : tuple of int
        The shape.

    Returns
    -------
    int
        How many there are.
    """
    return math.prod(shape)
