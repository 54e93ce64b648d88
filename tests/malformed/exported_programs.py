"""Malformed programs of torch.export (`.pt2`)."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from malformed import seeds
from malformed.checkpoints import Command, tricks
from malformed.corpus import Corpus, Maker
from malformed.seeds import Document

CORPUS = Corpus("exported programs", ".pt2")

BILLION = 1_000_000_000


def program(
    graph: Document | bytes | None = None, config: Document | bytes | None = None, **members: bytes
) -> bytes:
    """The seed with another graph, another configuration of its weights, or other members of its weights."""
    parts = seeds.program_members(graph or seeds.model(), config or seeds.weights())
    return seeds.archive(parts | {f"m/data/weights/{name}": content for name, content in members.items()})


def edited(change: Callable[[Document], Any]) -> Maker:
    """The seed with its graph changed."""

    def make(folder: Path) -> bytes:
        model = seeds.model()
        change(model["graph_module"])
        return program(model)

    return make


def node(kind: str, words: str, name: str, number: int, /, operator: str = "", **arguments: Any) -> None:
    """Add a case: another operator for a node, or arguments of it changed."""

    def change(module: Document) -> None:
        there = module["graph"]["nodes"][number]
        there["target"] = f"torch.ops.{operator}" if operator else there["target"]
        kept = [each for each in there["inputs"] if each["name"] not in arguments]
        there["inputs"] = kept + [
            {"name": key, "arg": seeds.argument(value)} for key, value in arguments.items()
        ]

    CORPUS.add(kind, words, name, edited(change))


def weight(kind: str, words: str, name: str, /, **fields: Any) -> None:
    """Add a case: fields of one weight's description changed; those of its tensor among them."""
    config = seeds.weights()
    entry = config["config"]["score.weight"]
    for key, value in fields.items():
        (entry if key in entry else entry["tensor_meta"])[key] = value
    CORPUS.add(kind, words, name, lambda folder: program(config=config))


def numbers(*values: Any) -> list[Document]:
    """Sizes or strides as the schema writes them."""
    return [{"as_int": value} for value in values]


CONV, RELU, POOL, FLAT, SCORE = range(5)
"""The seed's nodes."""

GRAPH = json.dumps(seeds.model()).encode()
DAMAGED = "its graph is damaged"

CORPUS.add("a graph that is no JSON", DAMAGED, "cut-json", program(GRAPH[: len(GRAPH) // 2]))
CORPUS.add("a graph that is no JSON", DAMAGED, "not-json", program(b"graph = 1"))
CORPUS.add("a graph that is no text", DAMAGED, "no-text", program(b"\xff\xfe\x00\x00"))
CORPUS.add("a graph that is a list", DAMAGED, "list", program(b"[]"))
CORPUS.add("a graph of nothing", DAMAGED, "nothing", program(b"{}"))
CORPUS.add("deep nesting", DAMAGED, "deep", program(b"[" * 200_000))
CORPUS.add(
    "deep nesting",
    DAMAGED,
    "deep-inside",
    program(GRAPH.replace(b'"as_ints": [1, 1]', b'"as_ints": ' + b"[" * 50_000 + b"]" * 50_000, 1)),
)
CORPUS.add(
    "a number of a million digits",
    DAMAGED,
    "digits",
    program(GRAPH.replace(b"[1, 1]", b"[1, 1" + b"0" * 1_000_000 + b"]", 1)),
)
CORPUS.add("a configuration that is no JSON", DAMAGED, "config", program(config=b"{"))
CORPUS.add("a text of absurd length", "at most", "long-json", program(b" " * (17 << 20)))
CORPUS.add(
    "an unknown version",
    "its schema has version 99",
    "version",
    program(seeds.model() | {"schema_version": {"major": 99}}),
)
CORPUS.add(
    "an older layout", "before 2.8", "older", seeds.archive({"serialized_exported_program.json": GRAPH})
)
CORPUS.add("missing members", "model_weights_config.json' is not in the archive", "no-config",
           seeds.archive({"m/models/model.json": GRAPH}))  # fmt: skip
CORPUS.add("a configuration without its tensors", "'conv.weight' is not among its weights", "no-entry",
           program(config={"config": {}}))  # fmt: skip

node(
    "an unknown operator",
    r"operator aten.cumsum.default .*node relu",
    "operator",
    RELU,
    "aten.cumsum.default",
)
node("an unknown operator", r"operator os.system", "system", RELU, "os.system")
node("an unknown operator", r"operator __import__", "import", RELU, "__import__('os').system('true')")
node("an unknown argument", "with such arguments", "argument", RELU, run=1)
node("a cycle", "reads 'score', which nothing before it gives", "cycle", RELU, self="score")
node("a cycle", "reads 'relu', which nothing before it gives", "itself", RELU, self="relu")
node("a value that nothing gives", "reads 'gone', which nothing before it gives", "gone", RELU, self="gone")
node("a window of 0", "kernel", "no-window", POOL, kernel_size=[0, 0])
node("an absurd window", "wants at least the window's", "window", POOL, kernel_size=[BILLION, BILLION])
node("an absurd window", "larger than any memory", "padding", CONV, padding=[BILLION, BILLION])
node("an absurd window", "half the kernel", "pool-padding", POOL, padding=[BILLION, BILLION])
node("a size of 2**62", "larger than any memory", "huge", CONV, padding=[1 << 62, 1 << 62])
node("a stride of 0", "stride is", "no-stride", CONV, stride=[0, 0])
node("a negative stride", "stride is", "stride", CONV, stride=[-1, -1])
node("a negative padding", "padding", "negative-padding", CONV, padding=[-1, -1])
node("an absurd dilation", "wants at least the window's", "dilation", CONV, dilation=[BILLION, BILLION])
node("groups of 0", "do not split into 0 groups", "groups", CONV, groups=0)
node("groups of 0", "do not split into -2 groups", "negative-groups", CONV, groups=-2)
node("numbers of another type", "sizes True", "true", CONV, stride=True)
# found by fuzzing: True counts as 1, until NumPy is asked for such a shape
node("numbers of another type", r"is \(True", "shuffle", RELU, "aten.channel_shuffle.default", groups=True)
node("too many numbers", "100000 numbers where 2", "many", CONV, stride=[1] * 100_000)
node("an axis that is not there", "axis|dim", "axis", FLAT, start_dim=99)
node("an axis that is not there", "axis|dim|samples", "negative-axis", FLAT, start_dim=-99)
node("a reshape to nothing", "view|shape|size", "zero", FLAT, "aten.view.default", self="pool", size=[0, 0])
node("a reshape to nothing", "view|shape|size", "minus", FLAT, "aten.view.default", self="pool", size=[1, -5])
node(
    "a reshape to nothing",
    "view|shape|size",
    "endless",
    FLAT,
    "aten.view.default",
    self="pool",
    size=[1] * 100_000,
)
node("weights of another network", r"got \(12,\)|wants", "weights", SCORE, weight="conv_weight")
node("weights of another network", "bias", "bias", SCORE, bias="conv_bias")

weight("an unknown dtype", "dtype or layout is not read", "dtype", dtype=99)
weight("an unknown dtype", "dtype or layout is not read|damaged", "dtype-list", dtype=[7])
weight("weights that are integers", "weights of dtype int32: floats are read", "integers", dtype=4)
weight("an unknown layout", "dtype or layout is not read", "sparse", layout=2)
weight("a pickled tensor", "is pickled", "pickled", use_pickle=True)
weight("a tensor larger than its storage", "reaches element", "larger", sizes=numbers(3, 12))
weight("a tensor larger than its storage", "reaches element", "strides", strides=numbers(24, 1))
weight("a tensor larger than its storage", "reaches element", "offset", storage_offset={"as_int": 12})
weight("a size of 2**62", "size, stride or offset", "size", sizes=numbers(1 << 62, 1 << 62))
weight("a size of 2**62", "size, stride or offset", "huge-offset", storage_offset={"as_int": 1 << 62})
weight(
    "a shape whose product overflows",
    "far more memory",
    "overflow",
    sizes=numbers(1 << 47, 1 << 47),
    strides=numbers(0, 0),
)
weight(
    "a stride of 0 that claims any size",
    "far more memory",
    "repeated",
    sizes=numbers(1 << 40, 12),
    strides=numbers(0, 0),
)
weight("a negative size", "size, stride or offset", "negative-size", sizes=numbers(-2, -12))
weight("a negative stride", "size, stride or offset", "negative-stride", strides=numbers(-12, -1))
weight("a size that is no whole number", "size, stride or offset", "fraction", sizes=numbers(2.0, 12))
weight(
    "more axes than there are",
    "100000 axes",
    "axes",
    sizes=numbers(*[1 << 47] * 100_000),
    strides=numbers(*[0] * 100_000),
)
weight("more axes than there are", "100 axes", "ones", sizes=numbers(*[1] * 100), strides=numbers(*[0] * 100))
weight("sizes and strides of different number", "damaged", "axes-differ", strides=numbers(1))
weight("a path out of the archive", "is not in the archive", "path", path_name="../../../../etc/passwd")
weight("a path out of the archive", "is not in the archive", "absolute", path_name="/etc/passwd")
weight("a path out of the archive", "is not in the archive|damaged", "no-path", path_name=["weight_0"])
weight("a missing field", DAMAGED, "no-meta", sizes=None)
CORPUS.add(
    "a storage of another length",
    "reaches element 23 of a storage of 22",
    "short",
    program(weight_2=bytes(91)),
)
CORPUS.add("numbers that are not finite", "nan", "nan", program(weight_2=b"\0\0\xc0\x7f" * 24))
CORPUS.add("an unknown byte order", "byte order 'middle'", "middle",
           seeds.archive(seeds.members(program()) | {"m/byteorder": b"middle"}))  # fmt: skip
for number, trick in enumerate(tricks(program(), "m/data/weights/weight_0")):
    CORPUS.add(*trick[:2], f"trick-{number}", trick[2])


@CORPUS.case("code in a pickle", "is pickled")
def command(folder: Path) -> bytes:
    config = seeds.weights()
    config["config"]["conv.weight"]["use_pickle"] = True
    return program(config=config, weight_0=pickle.dumps(Command(), 2))


@CORPUS.case("a storage that is missing", "'weight_2' is not in the archive")
def absent(folder: Path) -> bytes:
    parts = seeds.members(program())
    del parts["m/data/weights/weight_2"]
    return seeds.archive(parts)


def change(kind: str, words: str) -> Callable[[Callable[[Document], Any]], None]:
    """Add a case: the decorated function changes the graph."""

    def keep(make: Callable[[Document], Any]) -> None:
        CORPUS.add(kind, words, make.__name__, edited(make))

    return keep


@change("two values of one name", "twice|already|two")
def twice(module: Document) -> None:
    module["graph"]["nodes"][RELU]["outputs"] = [seeds.argument("conv")]


@change("two values of one name", "nothing before it gives|twice|two")
def input_again(module: Document) -> None:
    module["graph"]["nodes"][RELU]["outputs"] = [seeds.argument("x")]


@change("an output that nothing gives", "gone")
def no_output(module: Document) -> None:
    module["signature"]["output_specs"] = [{"user_output": {"arg": seeds.argument("gone")}}]


@change("an output that does not depend on the input", "does not depend on its input")
def constant_output(module: Document) -> None:
    module["signature"]["output_specs"] = [{"user_output": {"arg": seeds.argument("conv_bias")}}]


@change("an output that is the input", "its output is its input")
def input_output(module: Document) -> None:
    module["signature"]["output_specs"] = [{"user_output": {"arg": seeds.argument("x")}}]


@change("too few outputs", "it has 0 outputs")
def none(module: Document) -> None:
    module["signature"]["output_specs"] = []


@change("too many inputs", "it has 2 inputs")
def two_inputs(module: Document) -> None:
    module["signature"]["input_specs"] *= 2


@change("an input without a shape", "damaged|no shape")
def shapeless(module: Document) -> None:
    del module["graph"]["tensor_values"]["x"]


@change("an input without a shape", "no shape")
def scalar(module: Document) -> None:
    module["graph"]["tensor_values"]["x"] = seeds.meta((1,))


@change("a shape that is not what is computed", "where the file says")
def lying(module: Document) -> None:
    module["graph"]["tensor_values"]["relu"] = seeds.meta((1, 3, 5, 5))


@change("a size of 2**62", "size, stride or offset|more than")
def enormous(module: Document) -> None:
    module["graph"]["tensor_values"]["x"]["sizes"] = numbers(1, 2, 1 << 62, 1 << 62)


@change("a size of 2**62", "larger than any memory")
def large(module: Document) -> None:
    module["graph"]["tensor_values"]["x"]["sizes"] = numbers(1, 2, 1 << 47, 1 << 47)


@change("an input of no known kind", "no tensor|damaged")
def token(module: Document) -> None:
    module["signature"]["input_specs"].append({"token": {"arg": {"name": "t"}}})


@change("a symbol that means something", "no shape|damaged|file says")
def expression(module: Document) -> None:
    """PyTorch's own loader evaluates such expressions."""
    text = "__import__('os').system('touch written-by-an-expression')"
    module["graph"]["tensor_values"]["x"]["sizes"][2] = {"as_expr": {"expr_str": text, "hint": None}}


@change("growth from node to node", "larger than any memory")
def doubled(module: Document) -> None:
    nodes, before = module["graph"]["nodes"][:1], "conv"
    for number in range(3_000):
        name = f"n{number}"
        nodes.append(seeds.node(name, "cat.default", dim=1))
        nodes[-1]["inputs"].append({"name": "tensors", "arg": {"as_tensors": [{"name": before}] * 2}})
        before = name
    module["graph"]["nodes"] = nodes
    module["signature"]["output_specs"] = [{"user_output": {"arg": seeds.argument(before)}}]


@change("more nodes than a network has", "more than")
def nodes(module: Document) -> None:
    nodes, before = module["graph"]["nodes"][:1], "conv"
    for number in range(20_000):
        nodes.append({"target": "torch.ops.aten.relu.default", "name": f"n{number}", "metadata": {},
                      "inputs": [{"name": "self", "arg": {"as_tensor": {"name": before}}}],
                      "outputs": [{"as_tensor": {"name": f"n{number}"}}]})  # fmt: skip
        before = f"n{number}"
    module["graph"]["nodes"] = nodes
    module["signature"]["output_specs"] = [{"user_output": {"arg": seeds.argument(before)}}]


@change("arguments in arguments", "damaged|arguments")
def nested(module: Document) -> None:
    argument: Any = {"as_optional_tensor": {"as_tensor": {"name": "conv"}}}
    for _ in range(400):
        argument = {"as_optional_tensor": argument}
    module["graph"]["nodes"][RELU]["inputs"] = [{"name": "self", "arg": argument}]


def ending(module: Document, nodes: list[Document]) -> None:
    """Let a program be other nodes, the last of them its output, on whose shapes it says nothing."""
    module["graph"]["nodes"] = nodes
    module["signature"]["output_specs"] = [{"user_output": {"arg": seeds.argument(nodes[-1]["name"])}}]


def scaled(module: Document, side: int, times: int) -> None:
    """Nodes that flatten an input and scale it, each with numbers of its own for all that it holds."""
    module["graph"]["tensor_values"]["x"] = seeds.meta((1, 1, side, side))
    nodes = [seeds.node("flat", "flatten.using_ints", self="x", start_dim=1)]
    for number in range(times):
        nodes.append(seeds.node(f"relu{number}", "relu.default", self=nodes[-1]["name"]))
        nodes.append(seeds.node(f"mul{number}", "mul.Scalar", self=nodes[-1]["name"], other=2))
    del module["graph"]["tensor_values"]["flat"], module["graph"]["tensor_values"]["relu"]
    ending(module, nodes)


@change("a number for each of too many channels", "a constant for 268435456 channels")
def channels(module: Document) -> None:
    scaled(module, 1 << 14, 1)


@change("a number for each of too many channels", "far more memory")
def channels_again_and_again(module: Document) -> None:
    scaled(module, 1 << 10, 100)


@change("a bomb in arithmetic", "far more memory|computed constant")
def zeros(module: Document) -> None:
    """Constants of 2**24 numbers, a hundred of them; they are added to what they do not fit."""
    nodes = [seeds.node("n0", "zeros.default", size=[1 << 12, 1 << 12])]
    for number in range(1, 100):
        nodes.append(seeds.node(f"n{number}", "add.Scalar", self=f"n{number - 1}", other=1))
    ending(module, [*nodes, seeds.node("sum", "add.Tensor", self="x", other="n99")])


@change("a bomb in arithmetic", "far more memory")
def copies(module: Document) -> None:
    """A constant that is turned and reshaped again and again: each time it is copied."""
    nodes = [
        seeds.node("zeros", "zeros.default", size=[1 << 11, 1 << 10]),
        seeds.node("ones", "add.Scalar", self="zeros", other=1),
        seeds.node("turned", "t.default", self="ones"),
    ]
    for number in range(300):
        nodes.append(seeds.node(f"n{number}", "reshape.default", self="turned", shape=[1 << 21]))
    joined = seeds.node("joined", "cat.default", dim=0)
    names = [{"name": f"n{number}"} for number in range(300)]
    joined["inputs"].append({"name": "tensors", "arg": {"as_tensors": names}})
    ending(module, [*nodes, joined, seeds.node("sum", "add.Tensor", self="x", other="joined")])
