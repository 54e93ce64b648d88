"""Change valid files at random, and look for one that is neither read nor refused in one line.

    python tools/fuzz_import.py --minutes 10

The valid files, and the watch over what reading them does, are those of `tests/malformed`; hypothesis draws
the changes, and makes a finding as small as it can. A finding is kept in a folder, with what is wrong about
it: fix it, and put it among the cases of `tests/malformed`. What is read after all must be a network that
runs.
"""

import argparse
import contextlib
import copy
import dataclasses
import faulthandler
import inspect
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from malformed import guard, seeds  # noqa: E402
from malformed.corpus import job  # noqa: E402

ROUND = 400
"""Changed files between two looks at the clock."""

SMALL = 1_000_000
"""Networks whose nodes give no more numbers than this are run."""

NUMBERS = (
    0, 1, -1, 2, 3, 4, 7, 12, 24, 255, 1 << 15, -(1 << 31), 1 << 31, (1 << 32) + 1, 1 << 40, 1 << 47, 1 << 62,
    (1 << 63) - 1, -(1 << 63),
)  # fmt: skip
STRANGE = (
    None, True, False, 0.5, -1e308, float("inf"), float("nan"), 10**30, "", "x", "input", "\x1b\n",
    "x" * 5000, [], {}, [[]], {"": None}, [1] * 50,
)  # fmt: skip

Draw = Callable[[st.SearchStrategy[Any]], Any]


# Changes of bytes.


def _flipped(draw: Draw, content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]


def _numbered(draw: Draw, content: bytes, at: int) -> bytes:
    width = draw(st.sampled_from((1, 2, 4, 8)))
    number = draw(st.sampled_from(NUMBERS)) % (1 << 8 * width)
    return content[:at] + number.to_bytes(width, "little") + content[at + width :]


def _removed(draw: Draw, content: bytes, at: int) -> bytes:
    return content[:at] + content[at + draw(st.integers(1, 40)) :]


def _repeated(draw: Draw, content: bytes, at: int) -> bytes:
    length = draw(st.integers(1, 40))
    return content[: at + length] + content[at:]


def _spliced(draw: Draw, content: bytes, at: int) -> bytes:
    start, length = draw(st.integers(0, len(content) - 1)), draw(st.integers(1, 40))
    return content[:at] + content[start : start + length] + content[at + length :]


def _inserted(draw: Draw, content: bytes, at: int) -> bytes:
    return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]


def _cut(draw: Draw, content: bytes, at: int) -> bytes:
    return content[: max(1, at)]


def changed_bytes(draw: Draw, content: bytes) -> bytes:
    """Change bytes, once or a few times."""
    for _ in range(draw(st.integers(1, 4))):
        if not content:
            break
        change = draw(st.sampled_from((_flipped, _numbered, _removed, _repeated, _spliced, _inserted, _cut)))
        content = change(draw, content, draw(st.integers(0, len(content) - 1)))
    return content


# Changes of documents.


def _places(document: Any) -> list[tuple[Any, Any]]:
    """All containers in a document, with the keys of what they hold."""
    found, waiting = [], [document]
    while waiting:
        here = waiting.pop()
        items = list(here.items()) if isinstance(here, dict) else list(enumerate(here))
        found += [(here, key) for key, _ in items]
        waiting += [value for _, value in items if isinstance(value, dict | list)]
    return found


def changed_document(draw: Draw, document: Any) -> Any:
    """Change values in a document of JSON's types."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        places = _places(document)
        if not places:
            break
        here, key = draw(st.sampled_from(places))
        other, its_key = draw(st.sampled_from(places))
        what = draw(st.sampled_from(("number", "strange", "remove", "copy", "exchange", "repeat")))
        if what == "number":
            here[key] = draw(st.sampled_from(NUMBERS))
        elif what == "strange":
            here[key] = copy.deepcopy(draw(st.sampled_from(STRANGE)))
        elif what == "remove":
            del here[key]
        elif what == "copy":
            here[key] = copy.deepcopy(other[its_key])
        elif what == "exchange":
            here[key], other[its_key] = copy.deepcopy(other[its_key]), copy.deepcopy(here[key])
        elif isinstance(here, list):
            here[key:key] = copy.deepcopy(here[key : key + 1]) * draw(st.sampled_from((1, 2, 500)))
    return document


def _as_json(draw: Draw, document: Any) -> bytes:
    return json.dumps(changed_document(draw, document)).encode()


# Calls of any operator, with arguments that may be sound.

SMALL_NUMBERS = st.one_of(st.integers(-2, 5), st.sampled_from(NUMBERS))
PLAIN = st.one_of(
    st.lists(st.integers(0, 4), min_size=1, max_size=4), st.lists(SMALL_NUMBERS, max_size=5),
    st.integers(-2, 5), SMALL_NUMBERS, st.booleans(), st.none(),
    st.sampled_from((0.0, 0.5, -1.0, 1e30, float("nan"))),
    st.sampled_from(("same", "valid", "SAME_UPPER", "constant", "none", "x")),
)  # fmt: skip


def _parameters(handler: Any, skipped: int) -> list[inspect.Parameter]:
    return list(inspect.signature(handler).parameters.values())[skipped:]


def _another_call(draw: Draw, document: Any) -> Any:
    """Let a node of a program be a call of any operator that is read."""
    from lrpref.weights_import.torch_operators import OPERATORS

    document = copy.deepcopy(document)
    nodes = document["graph_module"]["graph"]["nodes"]
    number = draw(st.integers(0, len(nodes) - 1))
    names = ["x", *seeds.WEIGHTS_AS_VALUES, *(each["name"] for each in nodes[:number])]
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    argument = st.one_of(
        st.sampled_from(names).map(seeds.argument),
        st.lists(st.sampled_from(names), max_size=3).map(_tensors),
        PLAIN.map(_argument),
    )
    nodes[number]["target"] = f"torch.ops.{operator}"
    nodes[number]["inputs"] = [
        {"name": parameter.name, "arg": seeds.argument(names[-1]) if first else draw(argument), "kind": 1}
        for first, parameter in zip((True, *[False] * 20), _parameters(OPERATORS[operator], 1), strict=False)
        if first or parameter.default is parameter.empty or draw(st.booleans())
    ]
    if draw(st.booleans()):  # what follows need not fit: let it end here, with a shape that nobody states
        module = document["graph_module"]
        module["signature"]["output_specs"] = [
            {"user_output": {"arg": seeds.argument(nodes[number]["name"])}}
        ]
        del module["graph"]["tensor_values"][nodes[number]["name"]]
    return document


def _tensors(names: list[str]) -> dict[str, Any]:
    return {"as_tensors": [{"name": name} for name in names]}


def _argument(value: Any) -> dict[str, Any]:
    kinds = {
        bool: "as_bool",
        int: "as_int",
        float: "as_float",
        str: "as_string",
        list: "as_ints",
        type(None): "as_none",
    }
    return {kinds[type(value)]: value}


def _another_layer(draw: Draw, graph: Any) -> Any:
    """Let a node of a neutral file be any layer."""
    from lrpref.layers import LAYERS

    graph = copy.deepcopy(graph)
    entry = draw(st.sampled_from(graph["nodes"]))
    kept = {key: entry[key] for key in ("name", "inputs", "tensors") if key in entry}
    kind = draw(st.sampled_from(sorted(LAYERS)))
    fields = [field.name for field in dataclasses.fields(LAYERS[kind])]  # type: ignore[arg-type]
    entry.clear()
    entry.update(
        kept,
        layer=kind,
        **{name: draw(PLAIN) for name in fields if name not in ("weight", "bias") and draw(st.booleans())},
    )
    return graph


def _another_node(draw: Draw, model: Any) -> None:
    """Let a node of an ONNX model be any operator that is read."""
    from onnx import helper

    from lrpref.weights_import.onnx_constants import FOLDABLE
    from lrpref.weights_import.onnx_operators import TABLE

    node = draw(st.sampled_from(model.graph.node))
    node.op_type = draw(st.sampled_from(sorted({*TABLE, *FOLDABLE, "ConstantOfShape"})))
    names = [tensor.name for tensor in model.graph.initializer] + [
        name for other in model.graph.node for name in other.output
    ]
    handler = TABLE.get(node.op_type)
    parameters = _parameters(handler, 1) if handler else []
    keywords = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    inputs = draw(st.lists(st.sampled_from([*names, ""]), max_size=4))
    node.input[:] = [*node.input[:1], *inputs]
    del node.attribute[:]
    for keyword in keywords:
        value = draw(PLAIN)
        if value not in (None, []) and draw(st.booleans()):
            node.attribute.append(helper.make_attribute(keyword, value))
    if draw(st.booleans()) and node.output:
        model.graph.output[0].name = node.output[0]


# Changes of each format.


def changed_archive(draw: Draw, content: bytes) -> bytes:
    """Change a member, so that the archive around it is sound."""
    parts = seeds.members(content)
    name = draw(st.sampled_from(sorted(parts)))
    if "m/models/model.json" in parts and draw(st.booleans()):
        document = _another_call(draw, json.loads(parts["m/models/model.json"]))
        parts["m/models/model.json"] = (
            _as_json(draw, document) if draw(st.booleans()) else json.dumps(document).encode()
        )
    elif name.endswith(".json") and draw(st.booleans()):
        parts[name] = _as_json(draw, json.loads(parts[name]))
    else:
        parts[name] = changed_bytes(draw, parts[name])
    return seeds.archive(parts)


def changed_tensors(draw: Draw, content: bytes) -> bytes:
    """Change the header of a safetensors file, or the graph in it."""
    header, data = seeds.split(content)
    if "__metadata__" in header and draw(st.integers(0, 9)):
        graph = json.loads(header["__metadata__"]["lrpref"])
        if draw(st.booleans()):
            graph = _another_layer(draw, graph)
        text = _as_json(draw, graph) if draw(st.booleans()) else json.dumps(graph).encode()
        header["__metadata__"]["lrpref"] = text.decode()
        return seeds.safetensors(header, data)
    return seeds.safetensors(_as_json(draw, header), data)


def changed_model(draw: Draw, content: bytes) -> bytes:
    """Change fields of an ONNX model."""
    from onnx import ModelProto

    model = ModelProto()
    model.ParseFromString(content)
    another = draw(st.booleans())
    if another:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            _another_node(draw, model)
    for _ in range(draw(st.integers(0 if another else 1, 3))):
        fields = _fields(model)
        if not fields:
            break
        message, field = draw(st.sampled_from(fields))
        # protobuf does not let everything be written
        with contextlib.suppress(ValueError, TypeError, OverflowError, UnicodeError):
            _change_field(draw, model, message, field)
    return model.SerializeToString()


def _fields(model: Any) -> list[tuple[Any, Any]]:
    """All fields that are set, of the model and of all that it holds."""
    found, waiting = [], [model]
    while waiting:
        message = waiting.pop()
        for field, value in message.ListFields():
            found.append((message, field))
            if field.message_type is not None:
                waiting += [value] if _alone(field) else list(value)
    return found


def _alone(field: Any) -> bool:
    return not field.is_repeated


def _change_field(draw: Draw, model: Any, message: Any, field: Any) -> None:
    name = field.name
    if draw(st.integers(0, 9)) == 0:
        message.ClearField(name)
    elif field.message_type is not None:
        values = getattr(message, name)
        if _alone(field) or not len(values):
            return
        some = draw(st.sampled_from(range(len(values))))
        if draw(st.booleans()):
            del values[some]
        else:
            values.append(values[some])
    elif _alone(field):
        setattr(message, name, _scalar(draw, model, getattr(message, name)))
    else:
        values = list(getattr(message, name))
        some = draw(st.sampled_from(range(len(values))))
        values[some] = _scalar(draw, model, values[some])
        values += values[some:] * draw(st.sampled_from((0, 0, 0, 1, 300)))
        getattr(message, name)[:] = values[: len(values) - draw(st.sampled_from((0, 0, 1)))]


def _scalar(draw: Draw, model: Any, value: Any) -> Any:
    from lrpref.weights_import.onnx_constants import FOLDABLE
    from lrpref.weights_import.onnx_operators import TABLE

    if isinstance(value, bytes):
        return changed_bytes(draw, value) if value else b"\0"
    if isinstance(value, str):
        values = [name for node in model.graph.node for name in (*node.input, *node.output)]
        words = {*values, *TABLE, *FOLDABLE, "Constant", "ConstantOfShape", "axis", "axes"}
        return draw(st.sampled_from(sorted(words)))
    if isinstance(value, float):
        return draw(st.sampled_from((0.0, -1.0, 1e30, float("inf"), float("nan"))))
    return draw(st.sampled_from(NUMBERS))


INSIDE: dict[str, Callable[[Draw, bytes], bytes]] = {
    ".pt": changed_archive,
    ".pth": changed_bytes,
    ".safetensors": changed_tensors,
    ".pt2": changed_archive,
    ".onnx": changed_model,
}
"""How a seed is changed so that not all that is found out is that its container is broken."""


@st.composite
def changed_files(draw: Draw) -> tuple[str, bytes, str]:
    """A changed file: its name, its content, and the architecture with which it is read."""
    one = draw(st.sampled_from((*seeds.SEEDS, *seeds.LARGER)))
    content = one.make()
    architecture = one.architecture
    what = draw(st.integers(0, 9))
    if what == 0 and architecture:
        text = changed_bytes(draw, architecture.encode()).decode("utf-8", "replace")
        return one.name, content, text or "\n"
    change = changed_bytes if what < 3 else INSIDE[Path(one.name).suffix]
    return one.name, change(draw, content), architecture


# The worker, and who starts it.


def read_and_run(path: Path, architecture: str | None) -> None:
    """Read a file; what it is then must run."""
    network = guard.load(path, architecture)
    sizes = [np.prod(shape, dtype=float) for shape in network.shapes.values()]
    if max(sizes) <= SMALL and len(network.nodes) < 1000:
        network.forward(np.full((1, *network.input_shape), 0.5))


class Worker:
    """Tries changed files until something is found or time is over."""

    def __init__(self, folder: Path, first: int, until: float) -> None:
        self.folder, self.round, self.until = folder, first, until
        self.known: set[str] = set()
        self.ends: Counter[str] = Counter()
        self.guard = guard.Guard(reader=read_and_run)

    def work(self) -> None:
        while time.time() < self.until:
            self.known |= {path.stem for path in (self.folder / "found").glob("*.txt")}
            self._round()
            self.round += 1
            (self.folder / "ends.json").write_text(json.dumps(self.ends), encoding="utf-8")

    def _round(self) -> None:
        last: list[tuple[tuple[str, bytes, str], guard.Outcome]] = []

        @seed(self.round)
        @settings(max_examples=ROUND, database=None, deadline=None, suppress_health_check=list(HealthCheck),
                  phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False)  # fmt: skip
        @given(changed_files())
        def attempt(file: tuple[str, bytes, str]) -> None:
            outcome = self._read(file)
            if outcome.faults() and _signature(file[0], outcome) not in self.known:
                last[:] = [(file, outcome)]
                raise AssertionError(_signature(file[0], outcome))

        try:
            attempt()
        except Exception:  # the assertion's, or hypothesis' own where it did not fail again
            if not last:
                raise
            self._keep(*last[0])

    def _read(self, file: tuple[str, bytes, str]) -> guard.Outcome:
        name, content, architecture = file
        (self.folder / "round").write_text(str(self.round), encoding="utf-8")
        shutil.rmtree(self.folder / "current", ignore_errors=True)
        path = self.folder / "current" / name
        path.parent.mkdir()
        path.write_bytes(content)
        outcome = self.guard.read(job(path, architecture, command=False))
        self.ends[f"{name}: {'read' if outcome.error == 'none' else 'refused'}"] += 1
        return outcome

    def _keep(self, file: tuple[str, bytes, str], outcome: guard.Outcome) -> None:
        keep(self.folder, _signature(file[0], outcome), file, outcome.faults())


def _signature(name: str, outcome: guard.Outcome) -> str:
    """Findings of one signature are taken for one."""
    text = f"{name} {outcome.error} {outcome.line if not outcome.expected else sorted(outcome.faults())}"
    return "".join(c if c.isascii() and c.isalpha() else "-" for c in text)[:90]


def keep(folder: Path, signature: str, file: tuple[str, bytes, str], faults: list[str]) -> None:
    """Keep a finding."""
    name, content, architecture = file
    place = folder / "found"
    place.mkdir(exist_ok=True)
    (place / f"{signature}-{name}").write_bytes(content)
    (place / f"{signature}.txt").write_text("\n".join([*faults, "", architecture]), encoding="utf-8")
    print(f"FOUND {signature}: {faults}", flush=True)


def watch(folder: Path, minutes: float, first: int) -> Counter[str]:
    """Let workers try until time is over; a file that kills one is a finding."""
    until, ends = time.time() + 60 * minutes, Counter[str]()
    while time.time() < until - 1:
        command = [
            sys.executable,
            __file__,
            "--worker",
            str(folder),
            "--until",
            str(until),
            "--first",
            str(first),
        ]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if (folder / "ends.json").exists():
            ends += Counter(json.loads((folder / "ends.json").read_text(encoding="utf-8")))
            (folder / "ends.json").unlink()
        if done.returncode:
            path = next(path for path in (folder / "current").iterdir() if path.suffix != ".toml")
            text = (path.with_name("architecture.toml").read_text(encoding="utf-8")
                    if path.with_name("architecture.toml").exists() else "")  # fmt: skip
            signature = (
                f"died-{path.stem}-{done.returncode}-{len(list((folder / 'found').glob('died*.txt')))}"
            )
            keep(folder, signature, (path.name, path.read_bytes(), text), [done.stderr[-3000:]])
            first = int((folder / "round").read_text(encoding="utf-8"))
        first += 1
    return ends


def main() -> None:
    """Fuzz."""
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first round: another one, other files"
    )
    parser.add_argument("--keep", type=Path, help="folder for findings")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        Worker(given.worker, given.first, given.until).work()
        return
    folder = given.keep or Path(tempfile.mkdtemp(prefix="fuzz-import-"))
    (folder / "found").mkdir(parents=True, exist_ok=True)
    ends = watch(folder, given.minutes, given.first)
    for what, count in sorted(ends.items()):
        print(f"{count:8,} {what}")
    found = sorted((folder / "found").glob("*.txt"))
    print(f"{sum(ends.values()):,} files, {len(found)} findings in {folder / 'found'}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
