"""The examples of docs/importing.md run, as they stand there, one after the other."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lrpref import cli, weights_import
from lrpref.conformance import adapters

PAGE = (Path(__file__).parent.parent / "docs" / "importing.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\S*).*?\n(.*?)^```$", PAGE, flags=re.M | re.S)
    return [code for its_language, code in fenced if its_language == language]


def provide(folder: Path) -> None:
    """Put there what the page supposes: an ONNX file, weights, a photograph, names of classes."""
    import onnx

    torch, torchvision = adapters.require("torch"), adapters.require("torchvision")
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / "resnet18-f37072fd.pth")
    with as_file(files("sklearn.datasets") / "images" / "china.jpg") as picture:
        shutil.copy(picture, folder / "palace.jpg")
    (folder / "names.txt").write_text("cat\ndog\n")
    h, floats = onnx.helper, onnx.TensorProto.FLOAT
    weight = torch.randn(2, 3, 8, 8).numpy()
    graph = h.make_graph(
        [h.make_node("Conv", ["x", "w"], ["z"]), h.make_node("Flatten", ["z"], ["score"])],
        "small",
        [h.make_tensor_value_info("x", floats, [1, 3, 8, 8])],
        [h.make_tensor_value_info("score", floats, [1, 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")


@pytest.mark.peers
def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters.require("torch").manual_seed(0)
    provide(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    code = blocks("python")
    assert len(code) >= 4  # a module, a program, ONNX, weights alone
    for block in code:
        exec(compile(block, "docs/importing.md", "exec"), names)
    assert names["explanation"].relevance.shape == (1, 3, 32, 32)
    assert names["net"].label(698) == "palace"
    commands = [line for block in blocks("") for line in block.splitlines() if line.startswith("lrpref ")]
    assert len(commands) >= 2
    for command in commands:
        done = CliRunner().invoke(cli.app, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output
        assert "compared with" in done.output


ONNX = (
    "Conv", "Gemm", "MatMul", "Add", "BatchNormalization", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh",
    "MaxPool", "AveragePool", "GlobalAveragePool", "Sum", "Concat", "Flatten", "Reshape", "Transpose", "Pad",
    "Dropout", "Identity", "Softmax", "ReduceMean",
)  # fmt: skip


def test_every_operator_is_in_the_table() -> None:
    listed = weights_import.supported()
    assert set(ONNX) <= {name for names in listed["ONNX"].values() for name in names}
    assert all(what for operators in listed.values() for what in operators)
