"""Valid files of every format, small: most cases are one of these with one thing changed."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from malformed.corpus import ARCHITECTURE, Job, job

DATA = Path(__file__).parents[1] / "data"

Document = dict[str, Any]
Members = dict[str, bytes]


@dataclass(frozen=True)
class Seed:
    """A valid file.

    Parameters
    ----------
    name : str
        The file's name.
    make : callable
        Makes its bytes.
    architecture : str
        The document with which it is read, if it needs one.
    """

    name: str
    make: Callable[[], bytes]
    architecture: str = ""

    def write(self, folder: Path) -> Job:
        """Write it into a folder of its own."""
        folder.mkdir()
        path = folder / self.name
        path.write_bytes(self.make())
        return job(path, self.architecture)


def rng() -> np.random.Generator:
    """The same numbers for everyone."""
    return np.random.default_rng(20190917)


# Zip archives.


def members(content: bytes) -> Members:
    """Take an archive apart."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(parts: Members, compression: int = zipfile.ZIP_STORED) -> bytes:
    """Put an archive together."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


# PyTorch's checkpoints: those that tests/test_checkpoint.py reads.


def zip_checkpoint() -> bytes:
    """The state dict of Sequential(BatchNorm1d(2), Linear(2, 3))."""
    return (DATA / "model.pt").read_bytes()


def legacy_checkpoint() -> bytes:
    """The same, as PyTorch before 1.6 wrote it."""
    return (DATA / "model-legacy.pt").read_bytes()


# safetensors.


def safetensors(header: Document | bytes, data: bytes = b"") -> bytes:
    """Put a header, sound or not, before numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def split(content: bytes) -> tuple[Document, bytes]:
    """Take a safetensors file apart."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def tensors() -> bytes:
    """The state dict once more."""
    shapes = {"0.weight": [2], "0.bias": [2], "0.running_mean": [2], "0.running_var": [2],
              "1.weight": [3, 2], "1.bias": [3]}  # fmt: skip
    header: Document = {}
    data = b""
    for name, shape in shapes.items():
        numbers = np.ones(shape, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    return safetensors(header, data)


# The neutral format.


@cache
def neutral() -> bytes:
    """A small network of our own: convolution, norm, pooling, a sum, a dense layer."""
    import tempfile

    from lrpref import layers
    from lrpref.network import Network, Node

    random = rng()
    weight = random.standard_normal((3, 2, 3, 3)).astype(np.float32)
    dense = random.standard_normal((2, 12)).astype(np.float32)
    nodes = (
        Node("conv", layers.Conv2d(weight, None, padding=1), ("input",)),
        Node("norm", layers.BatchNorm(np.ones(3), np.zeros(3)), ("conv",)),
        Node("relu", layers.ReLU(), ("norm",)),
        Node("sum", layers.Add(), ("relu", "conv")),
        Node("pool", layers.MaxPool2d(2), ("sum",)),
        Node("flat", layers.Flatten(), ("pool",)),
        Node("score", layers.Dense(dense, np.zeros(2, np.float32)), ("flat",)),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        Network(nodes, (2, 4, 4), ("cat", "dog"), name="small").save(path)
        return path.read_bytes()


# Programs that torch.export.save wrote: the parts that are read, in the words of the schema.


def argument(value: Any) -> Document:
    """An argument by its kind; a string is the name of a value."""
    if isinstance(value, str):
        return {"as_tensor": {"name": value}}
    if isinstance(value, list):
        return {"as_ints": value}
    return {f"as_{type(value).__name__}": value}


def node(name: str, operator: str, **arguments: Any) -> Document:
    """A call of an operator."""
    return {
        "target": f"torch.ops.aten.{operator}",
        "inputs": [{"name": key, "arg": argument(value), "kind": 1} for key, value in arguments.items()],
        "outputs": [argument(name)],
        "metadata": {"nn_module_stack": f"L__self__,,M;L__self__{name},{name},torch.nn.modules.M"},
        "name": name,
    }


def meta(shape: tuple[int, ...], dtype: int = 7) -> Document:
    """What is said of a tensor."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return {
        "dtype": dtype,
        "sizes": [{"as_int": n} for n in shape],
        "strides": [{"as_int": n} for n in strides],
        "storage_offset": {"as_int": 0},
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "layout": 7,
    }


WEIGHTS = {"conv.weight": (3, 2, 3, 3), "conv.bias": (3,), "score.weight": (2, 12), "score.bias": (2,)}


WEIGHTS_AS_VALUES = tuple(name.replace(".", "_") for name in WEIGHTS)
"""What the graph calls them."""


def model() -> Document:
    """The graph of a program: convolution, ReLU, pooling, a dense layer."""
    values = dict(zip(WEIGHTS_AS_VALUES, WEIGHTS.values(), strict=True))
    results = {
        "x": (1, 2, 4, 4),
        "conv": (1, 3, 4, 4),
        "relu": (1, 3, 4, 4),
        "pool": (1, 3, 2, 2),
        "flat": (1, 12),
        "score": (1, 2),
    }
    parameters = [
        {"parameter": {"arg": {"name": name.replace(".", "_")}, "parameter_name": name}} for name in WEIGHTS
    ]
    graph = {
        "inputs": [argument(name) for name in (*values, "x")],
        "outputs": [argument("score")],
        "nodes": [
            node("conv", "conv2d.default", input="x", weight="conv_weight", bias="conv_bias",
                 stride=[1, 1], padding=[1, 1]),
            node("relu", "relu.default", self="conv"),
            node("pool", "max_pool2d.default", self="relu", kernel_size=[2, 2]),
            node("flat", "flatten.using_ints", self="pool", start_dim=1),
            node("score", "linear.default", input="flat", weight="score_weight", bias="score_bias"),
        ],
        "tensor_values": {name: meta(shape) for name, shape in (values | results).items()},
    }  # fmt: skip
    return {
        "graph_module": {
            "graph": graph,
            "signature": {
                "input_specs": [*parameters, {"user_input": {"arg": argument("x")}}],
                "output_specs": [{"user_output": {"arg": argument("score")}}],
            },
        },
        "schema_version": {"major": 8, "minor": 17},
        "torch_version": "2.13.0",
    }


def weights() -> Document:
    """Where a program's weights are."""
    return {
        "config": {
            name: {
                "path_name": f"weight_{n}",
                "is_param": True,
                "use_pickle": False,
                "tensor_meta": meta(shape),
            }
            for n, (name, shape) in enumerate(WEIGHTS.items())
        }
    }


def program_members(graph: Document | bytes, config: Document | bytes) -> Members:
    """The members of a `.pt2`."""
    random = rng()
    numbers = [random.standard_normal(shape).astype("<f4").tobytes() for shape in WEIGHTS.values()]
    return {
        **{f"m/data/weights/weight_{n}": raw for n, raw in enumerate(numbers)},
        "m/data/weights/model_weights_config.json": _text(config),
        "m/data/constants/model_constants_config.json": b'{"config": {}}',
        "m/models/model.json": _text(graph),
        "m/archive_format": b"pt2",
        "m/byteorder": b"little",
    }


def exported_program() -> bytes:
    """A `.pt2`."""
    return archive(program_members(model(), weights()))


def _text(document: Document | bytes) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


# ONNX.


def onnx_model() -> Any:
    """A graph: convolution, norm, ReLU, pooling, a sum, shape arithmetic, a dense layer."""
    from onnx import TensorProto, helper, numpy_helper

    random = rng()
    constants = {
        "conv.weight": random.standard_normal((3, 2, 3, 3)).astype(np.float32),
        "conv.bias": random.standard_normal(3).astype(np.float32),
        "norm.scale": np.ones(3, np.float32), "norm.shift": np.zeros(3, np.float32),
        "norm.mean": np.zeros(3, np.float32), "norm.var": np.ones(3, np.float32),
        "score.weight": random.standard_normal((2, 12)).astype(np.float32),
        "zero": np.array(0), "one": np.array([0]), "rest": np.array([-1]),
    }  # fmt: skip
    norm = ("norm.scale", "norm.shift", "norm.mean", "norm.var")
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["conv"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", *norm], ["norm"], "norm"),
        helper.make_node("Relu", ["norm"], ["relu"], "relu"),
        helper.make_node("Add", ["relu", "conv"], ["sum"], "sum"),
        helper.make_node("MaxPool", ["sum"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["pool"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], "gather"),
        helper.make_node("Unsqueeze", ["batch", "one"], ["batches"], "unsqueeze"),
        helper.make_node("Concat", ["batches", "rest"], ["target"], "concat", axis=0),
        helper.make_node("Reshape", ["pool", "target"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "score.weight"], ["score"], "score", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_file() -> bytes:
    """The same as a file."""
    return onnx_model().SerializeToString()


def program_of_torch(name: str) -> bytes:
    """One that PyTorch wrote, for tests/test_exported.py."""
    return (DATA / f"exported-{name}.pt2").read_bytes()


SEEDS = (
    Seed("checkpoint.pt", zip_checkpoint, ARCHITECTURE),
    Seed("legacy.pth", legacy_checkpoint, ARCHITECTURE),
    Seed("tensors.safetensors", tensors, ARCHITECTURE),
    Seed("network.safetensors", neutral),
    Seed("program.pt2", exported_program),
    Seed("half.pt2", partial(program_of_torch, "half")),
    Seed("model.onnx", onnx_file),
)
LARGER = tuple(Seed(f"{name}.pt2", partial(program_of_torch, name)) for name in ("pictures", "signals"))
