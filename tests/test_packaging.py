"""What is installed, and what importing costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_package_list_is_the_tree():
    found = {
        ".".join(folder.relative_to(ROOT).parts)
        for top in ("lrpref", "kernels", "weights_import")
        for folder in [ROOT / top, *(ROOT / top).rglob("*")]
        if (folder / "__init__.py").is_file()
    }
    installed = {name if name.startswith("lrpref") else f"lrpref.{name}" for name in found}
    # a link lrpref/kernels -> ../kernels may be followed or not; both spellings are the same package
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == installed


def test_links_agree_with_package_dir():
    for name in ("kernels", "weights_import"):
        assert (ROOT / "lrpref" / name).resolve() == ROOT / name
        assert PROJECT["tool"]["setuptools"]["package-dir"][f"lrpref.{name}"] == name


def test_import_is_light():
    """`import lrpref` imports none of the optional or slow libraries."""
    heavy = ["torch", "cupy", "onnx", "matplotlib", "numba", "flint", "sklearn", "PIL", "typer"]
    code = f"import sys, lrpref; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_is_small():
    folder = ROOT / "lrpref" / "data"
    assert (folder / "fashion_cnn.safetensors").stat().st_size <= 500_000
    assert (folder / "fashion_500.npz").stat().st_size <= 250_000
