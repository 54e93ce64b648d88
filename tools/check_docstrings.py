"""numpydoc's checks on every public name, and a list of what has no docstring.

Methods that override a documented method of their base inherit its documentation and are left out,
as are the functions of a backend's table, which `kernels/operations.py` documents, and those of a device.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from numpydoc.validate import validate

import lrpref
from lrpref.kernels.device import Device
from lrpref.kernels.host import Host
from lrpref.kernels.reference import Reference

CHECKS = set(
    tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "numpydoc_validation"
    ]["checks"]
)
OPTIONAL = {"torch", "torchvision", "zennit", "innvestigate"}
"""Libraries that a module may need; without them its docstrings are not checked, and that is said."""


def modules() -> Iterator[ModuleType]:
    """Import every module of lrpref."""
    for found in pkgutil.walk_packages(lrpref.__path__, "lrpref."):
        if found.name.endswith("__main__"):
            continue
        try:
            yield importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise
            print(f"not checked, {error.name} is not installed: {found.name}")


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Walk over the public functions and classes that a module defines, and their methods."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            yield f"{module.__name__}.{name}", thing
            for method, value in vars(thing).items():
                overrides = any(method in vars(base) for base in thing.__mro__[1:])
                if inspect.isfunction(value) and not method.startswith("_") and not overrides:
                    yield f"{module.__name__}.{name}.{method}", value
        elif inspect.isfunction(thing):
            yield f"{module.__name__}.{name}", thing


def table(module: ModuleType) -> set[str]:
    """Name what is documented once for many: the function table, the device, and the activations' module."""
    if module.__name__ == "lrpref.kernels.elementwise":
        return set(vars(module))
    documented = {*vars(Reference), *vars(Host)}  # by kernels/operations.py
    if module.__name__ == "lrpref.kernels.device":
        documented |= {name for name, value in vars(Device).items() if inspect.getdoc(value)}
    return documented if module.__name__.startswith("lrpref.kernels.") else set()


def documented_elsewhere(thing: Any, message: str) -> bool:
    """Tell whether parameters are documented where they are inherited from, or as a command's options."""
    if thing.__module__.startswith(("lrpref.cli", "lrpref.commands.")) and inspect.isfunction(thing):
        return "Annotated" in str(get_type_hints(thing, include_extras=True))
    missing = re.findall(r"'(\w+)'", message)
    bases = [inspect.getdoc(base) or "" for base in getattr(thing, "__mro__", ())[1:-1]]
    return all(any(re.search(rf"^[^.]*\b{name}\b[^.]* : ", text, re.M) for text in bases) for name in missing)


def main() -> int:
    """Print what is wrong; the exit code is 1 if anything is."""
    wrong, seen = 0, 0
    for module in modules():
        if not module.__doc__:
            print(f"{module.__name__}: the module has no docstring")
            wrong += 1
        for name, thing in public(module):
            seen += 1
            text = inspect.getdoc(thing) or ""
            if name.rpartition(".")[2] in table(module) and "Parameters" not in text:
                continue
            for code, message in validate(name)["errors"]:
                if code in CHECKS and not (code == "PR01" and documented_elsewhere(thing, message)):
                    print(f"{name}: {code} {message}")
                    wrong += 1
    print(f"{seen} public names, {wrong} findings")
    return 1 if wrong or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
