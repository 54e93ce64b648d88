"""Malformed safetensors files."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from malformed import seeds
from malformed.corpus import ARCHITECTURE, Corpus

CORPUS = Corpus("safetensors", ".safetensors", ARCHITECTURE)


def changed(name: str = "1.weight", **fields: Any) -> bytes:
    """The seed with fields of one tensor changed."""
    header, data = seeds.split(seeds.tensors())
    header[name] |= fields
    return seeds.safetensors(header, data)


DAMAGED = "damaged safetensors|is neither|safetensors"

CORPUS.add("a header longer than the file", DAMAGED, "long-header", struct.pack("<Q", 1 << 40) + b"{}")
CORPUS.add("a header longer than the file", DAMAGED, "longest-header", b"\xff" * 8 + b"{}")
CORPUS.add("a header that is no JSON", DAMAGED, "no-json", seeds.safetensors(b"{'a': None}"))
CORPUS.add("a header that is no text", DAMAGED, "no-text", seeds.safetensors(b'{"\xff\xfe": 1}'))
CORPUS.add("a header that is a list", DAMAGED, "list", seeds.safetensors(b"[]"))
CORPUS.add(
    "deep nesting", DAMAGED, "nested", seeds.safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
)
CORPUS.add("a shape that is not its numbers'", DAMAGED, "larger", changed(shape=[4, 2]))
CORPUS.add("a shape whose product overflows", DAMAGED, "overflow", changed(shape=[1 << 62, 4]))
CORPUS.add("a negative size", DAMAGED, "negative-size", changed(shape=[-3, -2]))
CORPUS.add("a size that is no whole number", DAMAGED, "fraction", changed(shape=[3.5, 2]))
CORPUS.add("an unknown dtype", DAMAGED, "unknown-dtype", changed(dtype="F31"))
CORPUS.add("numbers that end before they begin", DAMAGED, "backwards", changed(data_offsets=[24, 0]))
CORPUS.add("tensors that overlap", DAMAGED, "overlap", changed(data_offsets=[0, 24]))
CORPUS.add("numbers behind the file", DAMAGED, "behind", changed(data_offsets=[1 << 40, (1 << 40) + 24]))
CORPUS.add("a missing field", DAMAGED, "no-offsets", seeds.safetensors({"a": {"dtype": "F32", "shape": []}}))
CORPUS.add("bytes that no tensor has", DAMAGED, "rest", seeds.tensors() + b"rest")
CORPUS.add("no tensors", "no tensors|missing", "nothing", seeds.safetensors({}))
CORPUS.add("weights that are integers", "not floating point", "integers", changed(dtype="I32"))
CORPUS.add("a size of 2**62", DAMAGED, "empty-axis", changed("0.bias", shape=[0, 1 << 62]))


@CORPUS.case("numbers that are not finite", "not finite: 1.bias holds nan")
def nan(folder: Path) -> bytes:
    header, data = seeds.split(seeds.tensors())
    numbers = np.frombuffer(data, "<f4").copy()
    numbers[-1] = np.nan
    return seeds.safetensors(header, numbers.tobytes())


@CORPUS.case("weights of another network", "1 missing: 1.bias")
def renamed(folder: Path) -> bytes:
    header, data = seeds.split(seeds.tensors())
    header["other"] = header.pop("1.bias")
    return seeds.safetensors(header, data)
