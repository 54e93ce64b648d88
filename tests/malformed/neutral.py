"""Malformed files in the neutral format: their graph lies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from malformed import seeds
from malformed.corpus import Corpus, Maker
from malformed.seeds import Document

CORPUS = Corpus("neutral files", ".safetensors")

BILLION = 1_000_000_000


def with_graph(text: str) -> bytes:
    """The seed with another graph."""
    header, data = seeds.split(seeds.neutral())
    return seeds.safetensors(header | {"__metadata__": {"lrpref": text}}, data)


def edited(change: Callable[[Document], Any]) -> Maker:
    """The seed with its graph changed."""

    def make(folder: Path) -> bytes:
        header, _ = seeds.split(seeds.neutral())
        graph = json.loads(header["__metadata__"]["lrpref"])
        change(graph)
        return with_graph(json.dumps(graph))

    return make


def graph(kind: str, words: str, name: str, /, **fields: Any) -> None:
    """Add a case: fields of the graph changed."""
    CORPUS.add(kind, words, name, edited(lambda graph: graph.update(fields)))


def node(kind: str, words: str, name: str, which: str, /, **fields: Any) -> None:
    """Add a case: fields of one node changed."""

    def change(graph: Document) -> None:
        next(entry for entry in graph["nodes"] if entry["name"] == which).update(fields)

    CORPUS.add(kind, words, name, edited(change))


def chain(kind: str, words: str, name: str, *layers: Document, shape: tuple[int, ...] = (2, 4, 4)) -> None:
    """Add a case: layers without weights, one after the other."""
    CORPUS.add(kind, words, name, lambda folder: chained(*layers, shape=shape))


def chained(*layers: Document, shape: tuple[int, ...]) -> bytes:
    """Put layers without weights one after the other; `times` says how often each reads the one before."""
    nodes, before = [], "input"
    for number, fields in enumerate(layers):
        fields = {"times": 1, **fields}
        inputs = [before] * fields.pop("times")
        before = f"n{number}"
        nodes.append({"name": before, "inputs": inputs, **fields})
    document = {"format": 1, "name": "", "input": shape, "nodes": nodes, "classes": [], "preprocessing": None,
                "provenance": {}}  # fmt: skip
    header = {"__metadata__": {"lrpref": json.dumps(document)}}
    return seeds.safetensors(header)


CORPUS.add("a graph that is no JSON", "its graph is damaged", "no-json", with_graph("{'format': 1}"))
CORPUS.add("a graph that is no JSON", "its graph is damaged", "cut", with_graph('{"format": 1, "nodes": [{'))
CORPUS.add("a graph that is a list", "its graph is damaged", "list", with_graph("[]"))
CORPUS.add("deep nesting", "its graph is damaged", "deep", with_graph("[" * 100_000))
CORPUS.add("a number of a million digits", "its graph is damaged", "digits",
           with_graph('{"format": 1' + "0" * 1_000_000 + "}"))  # fmt: skip
CORPUS.add("a text of absurd length", "expected at most", "long-json",
           lambda folder: with_graph('{"format": [' + "[]," * 4_000_000 + "1]}"))  # fmt: skip
graph("an unknown version", "its format is 2", "version", format=2)
graph("an unknown version", "its format is 'x", "long-version", format="x" * 1_000_000)
graph("a missing field", "its graph is damaged|nodes", "no-nodes", nodes=None)
graph("missing tensors", "unexpected tensors", "nothing", nodes=[])
chain("a graph of nothing", "at least one node", "nodes")
node("a cycle", "reads 'score', which is no node before it", "cycle", "conv", inputs=["score"])
node("a cycle", "reads 'conv', which is no node before it", "itself", "conv", inputs=["conv"])
node(
    "a value that nothing gives", "reads 'gone', which is no node before it", "gone", "relu", inputs=["gone"]
)
node("two nodes of one name", "one of this name already", "twice", "relu", name="conv", layer="ReLU")
node("two nodes of one name", "one of this name already", "named-input", "relu", name="input")
node("an unknown layer", "unknown layer 'Exec'", "unknown", "relu", layer="Exec")
node("an unknown layer", "unknown layer .__import__", "import", "relu", layer="__import__('os').system('x')")
node("an unknown key", "unknown key 'run'", "key", "relu", run="x")
node("missing tensors", "missing or given twice: score.weights", "tensor", "score", tensors=["weights"])
node("missing tensors", "unexpected tensors: score.bias", "unread", "score", tensors=["weight"])
node(
    "weights of another network", r"got \(12,\), wants \(24,\)|got .*wants", "other", "flat", inputs=["relu"]
)
node("a negative padding", "padding is -1", "padding", "conv", padding=-1)
node("a negative stride", "stride is -1", "stride", "conv", stride=-1)
node("a stride of 0", "stride is 0", "no-stride", "conv", stride=0)
node("a window of 0", "kernel is 0", "no-kernel", "pool", kernel=0)
node("groups of 0", "do not split into 0 groups", "groups", "conv", groups=0)
node("groups of 0", "do not split into -1 groups", "negative-groups", "conv", groups=-1)
node("an absurd dilation", "wants at least the window's", "dilation", "conv", dilation=BILLION)
node("an absurd window", "wants at least the window's", "window", "pool", kernel=BILLION)
node("an absurd window", "exceeds half the kernel", "half", "pool", padding=BILLION)
node("an absurd window", "more than", "padded", "conv", padding=BILLION)
node("a size of 2**62", "more than", "huge", "conv", padding=1 << 62)
node("a size of 2**62", "kernel is|wants at least", "digits-kernel", "pool", kernel=10**400)
node("numbers of another type", "stride is|wants", "text", "conv", stride="1")
node("numbers of another type", "stride is|wants", "true", "conv", stride=True)
node("numbers of another type", "stride is|wants", "nested", "conv", stride=[[1], [1]])
node("numbers of another type", "damaged|inputs|wants", "inputs", "conv", inputs="input")
node("numbers of another type", "damaged|reads|inputs", "number", "conv", inputs=[7])
node("numbers of another type", "damaged|tensors|missing", "tensors", "score", tensors={"weight": 1})
graph("a negative size", "input shape is", "negative", input=[-2, 4, 4])
graph("a size of 2**62", "more than", "input", input=[2, 1 << 62, 1 << 62])
graph("too many axes", "more than 16", "axes", input=[1] * 100_000)
graph("a name of several lines", "not one line", "lines", name="a\nb")
graph("a name of several lines", "not one line", "escape", classes=["\u001b[2J", "dog"])
graph("classes of another number", "3 class names for an output of", "classes", classes=["a", "b", "c"])
graph("odd preprocessing", "preprocessing", "steps", preprocessing={"size": [0, 0]})
graph("odd preprocessing", "preprocessing", "huge-steps", preprocessing={"size": [BILLION, BILLION]})
graph(
    "odd preprocessing", "preprocessing", "infinite", preprocessing={"size": [4, 4], "divisor": float("inf")}
)
graph("odd preprocessing", "damaged|preprocessing", "text-steps", preprocessing="imagenet")

chain("an absurd window", "more than", "adaptive", {"layer": "AdaptiveAvgPool2d", "output": BILLION})
chain("an absurd window", "more than", "pad", {"layer": "Pad", "padding": BILLION})
chain("an absurd window", "more than", "channels", {"layer": "Pad", "channels": [1 << 62, 1 << 62]})
chain("a shape whose product overflows", "more than", "reshape",
      {"layer": "Reshape", "shape": [1 << 32, 1 << 32]}, shape=(1 << 30, 1 << 34))  # fmt: skip
chain(
    "a shape whose product overflows", "more than", "flatten", {"layer": "Flatten"}, shape=(1 << 32, 1 << 32)
)
chain("a reshape to nothing", "wants whole numbers >= 1", "zero", {"layer": "Reshape", "shape": [0]})
chain("a reshape to nothing", "wants whole numbers >= 1", "minus", {"layer": "Reshape", "shape": [-32]})
chain("a reshape to nothing", "wants whole numbers >= 1", "no-axes", {"layer": "Reshape", "shape": []})
chain("an axis that is not there", "axis 99", "concat", {"layer": "Concat", "axis": 99, "times": 2})
chain("an axis that is not there", "order is", "permute", {"layer": "Permute", "order": [0, 1, 7]})
chain("an axis that is not there", "order is", "orders", {"layer": "Permute", "order": [0] * 100_000})
chain("too few inputs", "got 1 inputs, wants 2 or more", "lonely", {"layer": "Add"})
chain("too many inputs", "got 2 inputs, wants 1", "crowded", {"layer": "ReLU", "times": 2})
chain("a slice of nothing", "start < stop", "slice",
      {"layer": "Slice", "start": [0, 0, 0], "stop": [2, 4, 0], "step": [1, 1, 1]})  # fmt: skip
chain("a slice of nothing", "start < stop", "backwards",
      {"layer": "Slice", "start": [1, 0, 0], "stop": [2, 4, 4], "step": [-1, 1, 1]})  # fmt: skip
chain("growth from node to node", "more than", "doubled", *[{"layer": "Concat", "times": 2}] * 2_000)
chain("growth from node to node", "more than", "padded-on", *[{"layer": "Pad", "padding": 1 << 20}] * 2_000)
chain("a softmax below the top", "only at the top", "softmax", {"layer": "Softmax"}, {"layer": "ReLU"})
chain("more nodes than a network has", "more than 10000 nodes", "many", *[{"layer": "ReLU"}] * 60_000)


@CORPUS.case("numbers that are not finite", "score.*weight holds nan|node 'score'")
def nan(folder: Path) -> bytes:
    header, data = seeds.split(seeds.neutral())
    start, stop = header["score.weight"]["data_offsets"]
    return seeds.safetensors(header, data[:start] + b"\0\0\xc0\x7f" * ((stop - start) // 4) + data[stop:])


@CORPUS.case("weights that are integers", "integers|dtype|real|float")
def integers(folder: Path) -> bytes:
    header, data = seeds.split(seeds.neutral())
    header["score.weight"]["dtype"] = "I32"
    return seeds.safetensors(header, data)


@CORPUS.case("weights with a 0 in their shape", "no 0 in it")
def empty(folder: Path) -> bytes:
    header, data = seeds.split(seeds.neutral())
    start, stop = header["score.weight"]["data_offsets"]
    header["score.weight"] |= {"shape": [0, 12], "data_offsets": [start, start]}
    for name, entry in header.items():
        if name != "__metadata__" and entry["data_offsets"][0] >= stop:
            entry["data_offsets"] = [at - stop + start for at in entry["data_offsets"]]
    return seeds.safetensors(header, data[:start] + data[stop:])


@CORPUS.case("a graph without tensors", "missing")
def bare(folder: Path) -> bytes:
    header, _ = seeds.split(seeds.neutral())
    return seeds.safetensors({"__metadata__": header["__metadata__"]})


assert np.prod([1 << 32, 1 << 32]) == 0, "NumPy's product overflows: what the cases of 2**32 are for"
