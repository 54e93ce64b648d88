"""The command line, as a user meets it: what works, and one line for what cannot."""

import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner

from lrpref import data
from lrpref.cli import app, main
from lrpref.errors import BadNetwork
from lrpref.layers import Dense
from lrpref.network import chain
from lrpref.weights_import.architectures import get
from lrpref.weights_import.build import expected_tensors


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Inputs of every kind of badness."""
    folder = tmp_path_factory.mktemp("files")
    nan = np.zeros((1, 1, 28, 28))
    nan[0, 0, 3, 4] = np.nan
    np.save(folder / "nan.npy", nan)
    np.save(folder / "shape.npy", np.zeros((1, 3, 28, 28)))
    np.save(folder / "words.npy", np.array([["a"]]))
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (folder / "torn.npy").write_bytes(b"\x93NUMPY")
    (folder / "torn.safetensors").write_bytes(b"\x00" * 5)
    (folder / "mine.toml").write_text('base = "epsilon"\n[nodes]\n"conv*" = "gamma(-1)"\n', encoding="utf-8")
    (folder / "gaps.toml").write_text('[nodes]\n"conv1" = "zero"\n', encoding="utf-8")
    (folder / "typo.toml").write_text('base = "epsilon"\n[nodes]\n"cnov1" = "zero"\n', encoding="utf-8")
    weights = {n: np.zeros(s, np.float32) for n, s in expected_tensors(get("fashion-cnn")).items()}
    save_file({**weights, "extra": np.zeros(3)}, folder / "wrong.safetensors")
    weights["fc1.bias"][7] = np.inf
    save_file(weights, folder / "inf.safetensors")
    (folder / "hostile.pt").write_bytes(b"\x80\x02cos\nsystem\nX\x12\x00\x00\x00touch lrpref-was-here\x85R.")
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(10_000_000))
    (folder / "file").write_text("", encoding="utf-8")
    Image.fromarray(data.image(0)).save(folder / "shirt.png")
    Image.fromarray(np.full((28, 28), 40_000, np.uint16)).save(folder / "deep.png")
    for name in ("pipe.toml", "pipe.png", "pipe.npy"):
        os.mkfifo(folder / name)  # to open one for reading is to wait for a writer, for ever
    np.save(folder / "huge.npy", np.full((1, 1, 28, 28), 1e308))
    (folder / "huge.toml").write_text(
        'base = "epsilon"\n[nodes]\n"conv*" = "gamma(1e308)"\n', encoding="utf-8"
    )
    (folder / "nest.toml").write_text("x = " + "[" * 5000, encoding="utf-8")
    return folder


def test_explain_with_no_argument(elsewhere):
    result = run("explain")
    assert result.exit_code == 0, result.output
    folder = elsewhere / "out" / "explanation"
    audit = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert audit["composite"] == "chapter"
    assert set(audit["rules"]) >= {"conv1", "fc1"}
    with Image.open(folder / "heatmap.png") as picture:
        assert picture.size[0] > 500
    assert "the books close" in result.output
    assert run("verify", folder).exit_code == 0


def test_explain_with_everything(elsewhere, files):
    given = ["--input", files / "shirt.png", "--target", "Sneaker", "--composite", "epsilon-plus"]
    result = run("explain", *given, "--backend", "loops", "--dtype", "float32", "--out", elsewhere / "o")
    assert result.exit_code == 0, result.output
    audit = json.loads((elsewhere / "o" / "audit.json").read_text(encoding="utf-8"))
    assert audit["explained"]["class"] == ["Sneaker"]
    assert audit["computed"]["dtype"] == "float32"


def test_convert_then_explain(elsewhere):
    assert run("convert", "embedded", "net.safetensors").exit_code == 0
    assert run("explain", "--model", "net.safetensors", "--input", "5", "--out", "o").exit_code == 0
    assert run("verify", "o").exit_code == 0
    (elsewhere / "net.safetensors").rename(elsewhere / "moved.safetensors")
    assert run("verify", "o").exit_code == 1
    assert run("verify", "o", "--model", "moved.safetensors").exit_code == 0


def test_info():
    result = run("info", "embedded", "--composite", "epsilon-gamma-box")
    assert result.exit_code == 0
    assert "z-box" in result.output
    assert "parameters" in run("info", "--no-folded").output


BAD = {
    "--composite nonsense": "unknown composite 'nonsense'",
    "--composite absent.toml": "there is no such file",
    "--composite {files}/mine.toml": "gamma is -1",
    "--composite {files}/gaps.toml": "gives no rule to",
    "--composite {files}/typo.toml": "no node matches 'cnov1'",
    "--composite {files}/torn.png": "unknown composite",
    "--backend abacus": "unknown backend 'abacus'",
    "--dtype float16": "unknown dtype 'float16'",
    "--dtype exact": "use dtype 'ball'",
    "--dtype longdouble --backend loops": "runs on backend 'numpy' only",
    "--composite {files}/pipe": "unknown composite",
    "--composite {files}/pipe.toml": "is not a file",
    "--input {files}/pipe.png": "is not a file",
    "--input {files}/pipe.npy": "is not a file",
    "--input {files}/deep.png": "save it with 8 bits",
    "--input {files}/huge.npy": "not finite",
    "--composite {files}/huge.toml": "overflows",
    "--composite {files}/nest.toml": "not a TOML file",
    "--target 10": "0 to 9",
    "--target -1": "0 to 9",
    "--target shoe": "unknown target 'shoe'",
    "--input absent.png": "there is no such file",
    "--input {files}/torn.png": "not a picture that can be read",
    "--input 500": "no embedded picture 500",
    "--input {files}/nan.npy": "holds nan at (0, 0, 3, 4)",
    "--input {files}/shape.npy": "wants (N, 1, 28, 28)",
    "--input {files}/words.npy": "input is",
    "--input {files}/torn.npy": "not an array",
    "--input absent.npy": "no such file",
    "--model absent.safetensors": "absent.safetensors",
    "--model {files}/torn.safetensors": "torn.safetensors",
    "--model {files}/shirt.png --architecture vgg16": "shirt.png",
    "--model {files}/shirt.png --architecture vgg17": "vgg17",
    "--model {files}/hostile.pt --architecture fashion-cnn": "'os.system'",
    "--model {files}/bomb.pt --architecture fashion-cnn": "bomb.pt",
    "--model {files}/wrong.safetensors --architecture fashion-cnn": "1 unexpected: extra (3,)",
    "--model {files}/wrong.safetensors --architecture vgg16": "does not fit architecture 'vgg16'",
    "--model {files}/inf.safetensors --architecture fashion-cnn": "fc1.bias holds inf at (7,)",
    "--model {files}/wrong.safetensors": "give an architecture",
    "--out {files}": "other files than a record",
    "--out {files}/file": "not a folder",
    "--out {files}/file/out": "cannot be",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input_is_one_line(arguments, elsewhere, files):
    before = sorted(files.iterdir())
    result = run("explain", *arguments.replace("{files}", str(files)).split())
    assert result.exit_code == 2
    assert BAD[arguments] in result.stderr
    assert result.stderr.startswith("lrpref: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    assert list(elsewhere.iterdir()) == []
    assert sorted(files.iterdir()) == before


def test_unwritable_folder(elsewhere):
    result = run("explain", "--out", "/proc/lrpref/out")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_names_are_not_markup(elsewhere):
    """Square brackets in names are Rich's markup elsewhere; control characters stay out of the terminal."""
    network = replace(data.embedded(), name="[/]", classes=("[bold]", *"abcdefghi"))
    network.save(elsewhere / "n.safetensors")
    for arguments in (["info", "n.safetensors"],
                      ["explain", "--model", "n.safetensors", "--input", "0", "--out", "run[a]"],
                      ["verify", "run[a]"]):  # fmt: skip
        assert run(*arguments).exit_code == 0
    assert "run[a]/heatmap.png" in run("explain", "--out", "run[a]", "--overwrite").output
    assert "\x1b" not in run("verify", "\x1b[31m").stderr
    with pytest.raises(BadNetwork, match="not one line"):
        replace(network, name="\x1b[31m")


@pytest.fixture
def single(elsewhere):
    """A network of one output, whose score is negative and whose books have nothing but inputs."""
    network = chain([("score", Dense(np.array([[1.0, -2.0]])))], (2,))
    network.save(elsewhere / "single.safetensors")
    np.save(elsewhere / "x.npy", np.array([[1.0, 3.0]]))
    return "explain", "--model", "single.safetensors", "--input", "x.npy", "--composite", "lrp-0"


def test_one_output_has_no_probability(single):
    said = run(*single).stdout
    assert "says: output 0 -5.000\n" in said
    assert "= -5 input (+1 -6), residual" in said
    assert "probability" not in said
    assert "who took most" not in said  # nothing was booked
    assert "blue inputs push it down" in said
    assert "(probability 0." in run("explain", "--out", "o").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["trace", "--top", "0"], ["trace", "--topp", "3"], ["verify"], ["explane"], ["explain", "--input"],
        ["info", "--kernels=3"], ["conformance", "runn"], ["convert", "embedded"],
    ],
)  # fmt: skip
def test_misuse_is_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lrpref", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert said.out == ""
    assert said.err.startswith("lrpref: ")
    assert said.err.endswith(" --help)\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["info", "--help"], 0), ([], 2), (["info"], 0), (["verify", "."], 2)],
)
def test_the_program_ends_with_its_commands_code(arguments, code, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lrpref", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert (caught.value.code or 0) == code
    shown = capsys.readouterr()
    assert ("Usage: " in shown.out) == ("--help" in arguments or not arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["explain", "--architecture", "vgg16"], "--architecture vgg16: network 'embedded' has its own"),
        (["info", "efficientnet-lite0", "--architecture", "a"], "--architecture a: network 'efficientnet-l"),
        (["explain", "--input", ""], "'': a file's name is wanted, not an empty one"),
        (["explain", "--model", ""], "'': a network's name or file is wanted, not an empty name"),
    ],
)
def test_what_would_be_ignored_is_refused(arguments, text):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"lrpref: {text}")
    assert result.stderr.count("\n") == 1


def test_verify_takes_no_architecture_for_a_network_that_has_one():
    assert run("explain", "--out", "o").exit_code == 0
    result = run("verify", "o", "--architecture", "vgg16")
    assert result.exit_code == 1
    assert "FAIL recomputation: --architecture vgg16: network 'embedded' has its own" in result.stdout


def test_verify_of_no_record(elsewhere):
    result = run("verify", elsewhere)
    assert result.exit_code == 2
    assert "no record of ours" in result.stderr


def test_convert_keeps_what_is_there(elsewhere):
    (elsewhere / "precious").write_text("mine", encoding="utf-8")
    assert run("convert", "embedded", "precious").exit_code == 2
    assert (elsewhere / "precious").read_text(encoding="utf-8") == "mine"
