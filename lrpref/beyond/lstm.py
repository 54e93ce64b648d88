"""LSTMs as networks, unrolled in time: time series prediction in Section 10.4 of Montavon et al. 2019.

At each step a cell reads a token x and what it said the step before, h, in four dense layers:

    i, f, o = sigm(W x + U h + b)        three gates, each with weights of its own
    g       = tanh(W x + U h + b)        the signal
    c       = f c + i g                  the state: some of it is kept, some is written
    h       = o tanh(c)                  some of it is said

(Hochreiter and Schmidhuber 1997; the forget gate is of Gers et al. 2000). Each product is a gate times a
signal, and the signal takes all relevance (Arras et al. 2017); the sum divides it in proportion to its
summands. So nothing is lost: what does not reach the tokens is booked, under `bias`, or under `state` where
it reaches h_0 or c_0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrpref import exact
from lrpref.checks import is_whole
from lrpref.errors import BadInput, BadNetwork, BadWeights
from lrpref.explanation import Explanation
from lrpref.kernels.operations import Array
from lrpref.layers import Add, Concat, Dense, Gate, Layer, Reshape, Sigmoid, Slice, State, Tanh
from lrpref.network import INPUT, Network, Node

GATES = "ifgo"
"""The rows of PyTorch's weights: input gate, forget gate, signal, output gate."""


def unroll(
    weights: Mapping[str, Array],
    length: int,
    *,
    prefix: str = "",
    state: tuple[Array, Array] | None = None,
    read: int | str = "all",
    head: Iterable[tuple[str, Layer]] = (),
    **options: Any,
) -> Network:
    """
    Make a network of an LSTM, for sequences of one length.

    Nodes are called `l0.t3.c` or `l0_reverse.t3.c`: layer and direction as in PyTorch, step, and quantity
    (joined, of x and h; z_i, z_f, z_g, z_o; i, f, g, o; kept, written, c, tanh_c, h).

    Parameters
    ----------
    weights : mapping of str to ndarray
        PyTorch's `state_dict`, or what `weights_import.checkpoint.read` reads from a file.
    length : int
        Number of tokens T.
    prefix : str
        What stands before `weight_ih_l0`, such as `"lstm."`; tensors without it are not looked at.
    state : pair of ndarray, shape (layers * directions, H), optional
        h_0 and c_0, in PyTorch's order; zeros unless given.
    read : int, "final" or "all"
        What is read of the last layer: its output at one token, (D H,) for D directions; `final`, where each
        direction ends, (D H,); or `all`, (T, D H).
    head : iterable of (name, Layer)
        Layers that follow one another on top.
    **options
        Further parameters of `Network`.

    Returns
    -------
    Network
        From (T, E), a vector for each token. Nodes that the output does not depend on are left out.

    Raises
    ------
    BadWeights
        If a tensor is missing, is no LSTM's, or has another shape than it should.
    BadNetwork
        If the sequence has no tokens, or a shape does not fit.
    """
    if not is_whole(length) or length < 1:
        raise BadNetwork(f"length is {length!r:.60}: a sequence has at least 1 token")
    layers = _layers(weights, prefix, state)
    graph = _Graph()
    embedding = layers[0][0].reads
    tokens = [graph.token(t, embedding) for t in range(length)]
    for number, cells in enumerate(layers):
        said = [graph.run(cell, tokens) for cell in cells]
        tokens = [graph.join(f"l{number}.t{t}", at_t) for t, at_t in enumerate(zip(*said, strict=True))]
    if read == "all":
        top = graph.stack(tokens, sum(cell.hidden for cell in layers[-1]))
    elif read == "final":
        ends = [hs[cell.end] for cell, hs in zip(layers[-1], said, strict=True)]
        top = graph.join("final", ends)
    elif is_whole(read) and 0 <= read < length:
        top = tokens[read]
    else:
        raise BadNetwork(f"read is {read!r:.60}: 'all', 'final' or a token from 0 to {length - 1} is wanted")
    for name, layer in head:
        top = graph.add(name, layer, top)
    return Network(graph.below(top), (int(length), embedding), **options)


@dataclass(frozen=True, eq=False)
class _Cell:
    """One direction of one layer, the same at every step."""

    name: str
    dense: Mapping[str, Dense]  # of x and h joined, by gate
    h: Array
    c: Array

    @property
    def hidden(self) -> int:
        return len(self.h)

    @property
    def reads(self) -> int:
        """Length of what it reads at each step."""
        return self.dense["g"].weight.shape[1] - self.hidden

    @property
    def backward(self) -> bool:
        return self.name.endswith("_reverse")

    @property
    def end(self) -> int:
        """The token that it reads last."""
        return 0 if self.backward else -1


class _Graph:
    """Nodes in topological order; each method adds some, and names the one to read."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def add(self, name: str, layer: Layer, *inputs: str) -> str:
        if name in self.nodes:
            raise BadNetwork(f"node '{name}': there is one of this name already")
        self.nodes[name] = Node(name, layer, inputs)
        return name

    def token(self, t: int, size: int) -> str:
        """Vector t of the input."""
        row = self.add(f"x.t{t}.row", Slice((t, 0), (t + 1, size), (1, 1)), INPUT)
        return self.add(f"x.t{t}", Reshape((size,)), row)

    def run(self, cell: _Cell, tokens: Sequence[str]) -> list[str]:
        """All steps of a cell in its direction: h at each token."""
        h = self.add(f"{cell.name}.h_0", State(cell.h), INPUT)
        c = self.add(f"{cell.name}.c_0", State(cell.c), INPUT)
        steps = list(enumerate(tokens))
        said = {}
        for t, x in reversed(steps) if cell.backward else steps:
            h, c = self.step(cell, f"{cell.name}.t{t}", x, h, c)
            said[t] = h
        return [said[t] for t, _ in steps]

    def step(self, cell: _Cell, at: str, x: str, h: str, c: str) -> tuple[str, str]:
        """One step: the four lines of the module's docstring."""
        joined = self.add(f"{at}.joined", Concat(), x, h)
        z = {gate: self.add(f"{at}.z_{gate}", dense, joined) for gate, dense in cell.dense.items()}
        i, f, o = (self.add(f"{at}.{gate}", Sigmoid(), z[gate]) for gate in "ifo")
        g = self.add(f"{at}.g", Tanh(), z["g"])
        kept = self.add(f"{at}.kept", Gate(), f, c)
        written = self.add(f"{at}.written", Gate(), i, g)
        c = self.add(f"{at}.c", Add(), kept, written)
        squashed = self.add(f"{at}.tanh_c", Tanh(), c)
        return self.add(f"{at}.h", Gate(), o, squashed), c

    def join(self, name: str, names: Sequence[str]) -> str:
        """Vectors behind one another."""
        return self.add(name, Concat(), *names) if len(names) > 1 else names[0]

    def stack(self, tokens: Sequence[str], size: int) -> str:
        """Vectors under one another."""
        return self.join("all", [self.add(f"{name}.row", Reshape((1, size)), name) for name in tokens])

    def below(self, top: str) -> tuple[Node, ...]:
        """The nodes that lead to `top`, which is the last."""
        wanted = {top}
        for name in reversed(self.nodes):
            if name in wanted:
                wanted.update(self.nodes[name].inputs)
        return tuple(node for name, node in self.nodes.items() if name in wanted)


def _layers(
    weights: Mapping[str, Array], prefix: str, state: tuple[Array, Array] | None
) -> list[list[_Cell]]:
    """The cells of each layer, forward and perhaps backward."""
    if not isinstance(weights, Mapping):
        raise BadWeights(f"weights are of type {type(weights).__name__}: a state_dict is wanted")
    own = {name.removeprefix(prefix): np.asarray(w) for name, w in weights.items() if name.startswith(prefix)}
    names = _names(own)
    _check(own, names, prefix)
    hidden = own["weight_hh_l0"].shape[1]
    states = _states(state, (sum(map(len, names)), hidden))
    pairs = zip(*states, strict=True)
    return [[_Cell(name, _dense(own, name), *next(pairs)) for name in row] for row in names]


def _names(own: Mapping[str, Array]) -> list[list[str]]:
    """What PyTorch calls the cells of each layer."""
    directions = ("", "_reverse") if "weight_ih_l0_reverse" in own else ("",)
    count = 1
    while f"weight_ih_l{count}" in own:
        count += 1
    return [[f"l{number}{direction}" for direction in directions] for number in range(count)]


def _check(own: Mapping[str, Array], names: list[list[str]], prefix: str) -> None:
    """Compare the tensors with those that an LSTM of this size has."""
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in own:
            raise BadWeights(f"there is no tensor '{prefix}{name}': is the prefix {prefix!r} the LSTM's?")
        if own[name].ndim != 2 or 0 in own[name].shape:
            raise BadWeights(f"'{prefix}{name}' is {own[name].shape}, wants two axes and no 0")
    reads, hidden = own["weight_ih_l0"].shape[1], own["weight_hh_l0"].shape[1]
    biases = ("bias_ih", "bias_hh") if any(name.startswith("bias_") for name in own) else ()
    wanted: dict[str, tuple[int, ...]] = {}
    for row in names:
        for name in row:
            wanted[f"weight_ih_{name}"] = (4 * hidden, reads)
            wanted[f"weight_hh_{name}"] = (4 * hidden, hidden)
            wanted.update({f"{bias}_{name}": (4 * hidden,) for bias in biases})
        reads = hidden * len(row)
    for name in sorted(own.keys() - wanted.keys()):
        raise BadWeights(f"'{prefix}{name}' belongs to no LSTM of {len(names)} layers: is a prefix missing?")
    for name, shape in wanted.items():
        if name not in own:
            raise BadWeights(f"there is no tensor '{prefix}{name}'")
        if own[name].shape != shape:
            raise BadWeights(f"'{prefix}{name}' is {own[name].shape}, wants {shape}")


def _dense(own: Mapping[str, Array], name: str) -> dict[str, Dense]:
    """The four dense layers of a cell, over x and h joined; the two biases are added in float64."""
    joined = np.concatenate([own[f"weight_ih_{name}"], own[f"weight_hh_{name}"]], axis=1)
    biases: list[Any] = [None] * len(GATES)
    if f"bias_ih_{name}" in own:
        both = np.add(own[f"bias_ih_{name}"], own[f"bias_hh_{name}"], dtype=np.float64)
        biases = np.split(both, len(GATES))
    return dict(zip(GATES, map(Dense, np.split(joined, len(GATES)), biases), strict=True))


def _states(given: tuple[Array, Array] | None, shape: tuple[int, int]) -> tuple[Array, Array]:
    if given is None:
        return np.zeros(shape), np.zeros(shape)
    try:
        h, c = (np.asarray(values) for values in given)
    except (TypeError, ValueError):
        raise BadNetwork(f"the state is no pair: h_0 and c_0 of {shape} are wanted") from None
    if h.shape != shape or c.shape != shape:
        raise BadNetwork(f"the state is {h.shape} and {c.shape}, wants h_0 and c_0 of {shape}")
    return h, c


def embed(table: Array, indices: Sequence[int]) -> Array:
    """
    Look up tokens in an embedding table.

    Parameters
    ----------
    table : ndarray, shape (V, E)
        A vector for each word: PyTorch's `Embedding.weight`.
    indices : sequence of int
        One for each of T tokens.

    Returns
    -------
    ndarray of float64, shape (1, T, E)
        An input for an unrolled LSTM.

    Raises
    ------
    BadInput
        If there are no tokens, or one is not in the table.
    """
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise BadInput(f"tokens are {indices!r:.60}: one index for each is wanted, and at least 1")
    if chosen.min() < 0 or chosen.max() >= len(table):
        at = int(((chosen < 0) | (chosen >= len(table))).argmax())
        raise BadInput(f"token {at} is {chosen[at]}: the table has 0 to {len(table) - 1}")
    return table[chosen].astype(np.float64)[None]


def per_token(explanation: Explanation) -> Array:
    """
    Sum relevance over the numbers that stand for a token.

    Parameters
    ----------
    explanation : Explanation
        Of an unrolled LSTM.

    Returns
    -------
    ndarray, shape (N, T)
        One number per token, in the unit of the score.

    Raises
    ------
    BadInput
        If what was explained is no sequence of vectors.
    """
    if explanation.relevance.ndim != 3:
        raise BadInput(f"relevance is of shape {explanation.relevance.shape}: (N, T, E) is wanted")
    return np.asarray(explanation.relevance.sum(axis=2))


def draw_tokens(rows: Sequence[tuple[str, Sequence[str], Array]], *, font: Any = None) -> Any:
    """
    Draw sentences, each token on the colour of its relevance: red for, blue against.

    Parameters
    ----------
    rows : sequence of (str, sequence of str, ndarray)
        For each sentence a title, T tokens and their relevances, shape (T,). Each has its own scale.
    font : matplotlib.font_manager.FontProperties, optional
        A font that has the tokens' letters.

    Returns
    -------
    matplotlib.figure.Figure
        One row for each sentence.

    Raises
    ------
    BadInput
        If there are no sentences, or one has no tokens, or not a relevance for each.
    """
    from matplotlib.figure import Figure

    if not len(rows):
        raise BadInput("there are no sentences to draw: a title, tokens and relevances are wanted for each")
    for title, tokens, R in rows:
        if not len(tokens) or np.shape(R) != (len(tokens),):
            raise BadInput(f"{title!r:.60}: {len(tokens)} tokens and relevances of shape {np.shape(R)}")
    longest = max(len(tokens) for _, tokens, _ in rows)
    figure = Figure(figsize=(0.42 * longest + 0.4, 0.85 * len(rows)), layout="constrained", dpi=110)
    every = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (title, tokens, R) in zip(every, rows, strict=True):
        values = exact.as_float(np.asarray(R))
        bound = abs(values).max() or 1.0
        axes.imshow(values[None], cmap="bwr", vmin=-bound, vmax=bound, alpha=0.7)
        for t, (token, value) in enumerate(zip(tokens, values, strict=True)):
            axes.text(t, -0.1, token, ha="center", va="center", fontproperties=font, fontsize=13)
            axes.text(t, 0.36, f"{value:+.2f}", ha="center", va="center", fontsize=6)
        axes.set_xlim(-0.5, longest - 0.5)
        axes.set_title(title, fontsize=9, loc="left", pad=3)
        axes.set_axis_off()
    return figure
