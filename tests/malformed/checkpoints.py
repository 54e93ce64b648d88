"""Malformed PyTorch checkpoints, of both kinds; tests/test_checkpoint.py goes into every corner of them."""

import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from malformed import seeds
from malformed.corpus import ARCHITECTURE, Corpus

ZIP = Corpus("zip checkpoints", ".pt", ARCHITECTURE)
LEGACY = Corpus("legacy checkpoints", ".pth", ARCHITECTURE)

SIZE, STRIDE = b"K\x03K\x02\x86q0", b"K\x02K\x01\x86q1"
"""How the pickle writes (3, 2) and (2, 1): size and stride of 1.weight."""

TIMES = b"\x8a"
"""LONG1: an integer of up to 255 bytes follows."""


def program(old: bytes, new: bytes) -> bytes:
    """The seed's pickle with one thing replaced."""
    saved = seeds.members(seeds.zip_checkpoint())["model/data.pkl"]
    assert saved.count(old) == 1
    return saved.replace(old, new)


def stored(**changed: bytes) -> bytes:
    """The seed with members changed: `data` is a storage's key, `pickle` the program."""
    parts = seeds.members(seeds.zip_checkpoint())
    for key, content in changed.items():
        parts["model/data.pkl" if key == "pickle" else f"model/data/{key.removeprefix('_')}"] = content
    return seeds.archive(parts)


def legacy(old: bytes, new: bytes) -> bytes:
    """The seed of the legacy container with one thing replaced."""
    content = seeds.legacy_checkpoint()
    assert old in content
    return content.replace(old, new, 1)


def sized(*numbers: int) -> bytes:
    """A pickled pair of integers of 64 bits."""
    return (
        b"".join(TIMES + b"\x09" + number.to_bytes(9, "little", signed=True) for number in numbers)
        + b"\x86q0"
    )


class Command:
    """Unpickled by Python's own unpickler, it writes a file."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch written-by-a-pickle",)


class Evaluated:
    """Unpickled, it evaluates an expression."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, ("open('written-by-a-pickle', 'w')",)


for protocol in range(6):
    attack = pickle.dumps({"1.weight": Command()}, protocol)
    refused = "refuses to load '(posix|nt).system'" if protocol > 1 else "instruction|damaged pickle|refuses"
    ZIP.add("code in a pickle", refused, f"command-{protocol}", stored(pickle=attack))
ZIP.add("code in a pickle", "refuses to load", "evaluated", stored(pickle=pickle.dumps(Evaluated(), 2)))
ZIP.add("code in a pickle", "refuses to load '(torch.load|torch.hub.load)'", "hub",
        stored(pickle=b"\x80\x02ctorch.hub\nload\nX\x01\x00\x00\x00x\x85R."))  # fmt: skip
LEGACY.add("code in a pickle", "refuses to load", "bare", pickle.dumps({"1.weight": Command()}, 2))
LEGACY.add("code in a pickle", "refuses to load", "inside",
           legacy(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cos\nsystem\n"))  # fmt: skip

ZIP.add("a damaged pickle", "damaged pickle", "cut-pickle", stored(pickle=program(b"susb.", b"")))
ZIP.add("a damaged pickle", "damaged pickle", "empty-stack", stored(pickle=b"\x80\x02R."))
ZIP.add("a damaged pickle", "damaged pickle", "never-put", stored(pickle=b"\x80\x02h\x07."))
LEGACY.add(
    "a damaged pickle", "damaged pickle", "unknown-instruction", legacy(b"ccollections", b"\xffcollections")
)
ZIP.add(
    "a bomb in a pickle",
    "damaged pickle",
    "long-string",
    stored(pickle=b"\x80\x02\x8d" + b"\xff" * 7 + b"\x3fx."),
)
ZIP.add("a bomb in a pickle", "no tensors|expected a dict", "nested-tuples",
        stored(pickle=b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"."))  # fmt: skip
ZIP.add(
    "a bomb in a pickle",
    "instructions",
    "too-many-instructions",
    stored(pickle=b"\x80\x02" + b"N0" * 1_100_000 + b"}."),
)

ZIP.add("a tensor larger than its storage", "reaches element 7 of a storage of 6", "larger",
        stored(pickle=program(SIZE, b"K\x04K\x02\x86q0")))  # fmt: skip
LEGACY.add("a tensor larger than its storage", "reaches element 7 of a storage of 6", "larger",
           legacy(SIZE, b"K\x04K\x02\x86q0"))  # fmt: skip
ZIP.add(
    "a size of 2**62",
    "more than any memory",
    "enormous",
    stored(pickle=program(SIZE, sized(1 << 62, 1 << 62))),
)
ZIP.add(
    "a size of 2**62", "reaches element|more than", "long", stored(pickle=program(SIZE, sized(1 << 50, 2)))
)
ZIP.add("a negative size", "0 to 2", "negative-size", stored(pickle=program(SIZE, sized(-3, -2))))
LEGACY.add("a negative size", "0 to 2", "negative-size", legacy(SIZE, sized(-3, -2)))
ZIP.add(
    "a negative stride", "0 to 2", "negative-stride", stored(pickle=program(STRIDE, sized(-2, 1)[:-1] + b"1"))
)
LEGACY.add("a negative stride", "0 to 2", "negative-stride", legacy(STRIDE, sized(-2, 1)[:-1] + b"1"))
ZIP.add("a stride of 0 that claims any size", "repeats numbers", "repeated",
        stored(pickle=program(SIZE, sized(1 << 40, 2)).replace(STRIDE, b"K\x00K\x00\x86q1")))  # fmt: skip
ZIP.add("more axes than there are", "at most 32", "axes",
        stored(pickle=program(SIZE, b"(" + b"K\x01" * 5000 + b"tq0")))  # fmt: skip
ZIP.add("a storage of another length", "has 23 bytes, expected 24", "short", stored(_5=bytes(23)))
LEGACY.add("a storage of another length", "truncated: storage|elements, expected",  "short",
           legacy(b"K\x06Ntq/", b"K\x07Ntq/"))  # fmt: skip
ZIP.add(
    "a storage described in two ways",
    "in two ways",
    "two-ways",
    stored(pickle=program(b"X\x01\x00\x00\x006q6", b"h.")),
)
LEGACY.add("a storage that is missing", "unknown or comes twice|is not in the file", "missing",
           legacy(b"X\x0e\x00\x00\x0094567847254304q.", b"X\x0e\x00\x00\x0094567847254305q."))  # fmt: skip
ZIP.add("numbers that are not finite", "1 not finite: 1.bias holds nan at \\(2,\\)", "nan",
        stored(_6=struct.pack("<fff", 0, 0, float("nan"))))  # fmt: skip
ZIP.add("numbers that are not finite", "not finite: 1.weight holds -inf", "infinite",
        stored(_5=struct.pack("<6f", 0, 0, float("-inf"), 0, 0, 0)))  # fmt: skip
ZIP.add("a variance below 0", r"variance \+ eps is -", "variance", stored(_3=struct.pack("<ff", 1, -1)))
ZIP.add("weights of another network", "1 misshapen: 1.weight \\(2, 3\\) instead of \\(3, 2\\)", "misshapen",
        stored(pickle=program(SIZE, b"K\x02K\x03\x86q0")))  # fmt: skip
ZIP.add("weights of another network", "1 missing: 1.bias .*; 1 unexpected: 1.bios", "renamed",
        stored(pickle=program(b"1.bias", b"1.bios")))  # fmt: skip
ZIP.add("weights that are integers", "not floating point: 1.bias int32", "integers",
        stored(pickle=program(b"h\5X\1\0\0\x006", b"ctorch\nIntStorage\nX\1\0\0\x006")))  # fmt: skip
ZIP.add("an unknown byte order", "byte order 'middle'", "middle",
        seeds.archive(seeds.members(seeds.zip_checkpoint()) | {"model/byteorder": b"middle"}))  # fmt: skip
LEGACY.add(
    "a legacy format of no version",
    "unknown legacy format",
    "version",
    legacy(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xea\x03."),
)
LEGACY.add(
    "a machine of another byte order",
    "big-endian",
    "big",
    legacy(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
)


@ZIP.case("a storage that is missing", "storage '5' is not in the archive")
def absent(folder: Path) -> bytes:
    parts = seeds.members(seeds.zip_checkpoint())
    del parts["model/data/5"]
    return seeds.archive(parts)


# Archives that lie; the same tricks are tried on saved programs.


def tricks(content: bytes, member: str) -> Iterator[tuple[str, str, bytes]]:
    """Make archives of a valid one: the defect, the words that speak of it, the bytes."""
    parts = seeds.members(content)
    size, start = _fields_of_end(content)
    central, last_central = content.index(b"PK\x01\x02"), content.rindex(b"PK\x01\x02")

    def patched(at: int, value: bytes) -> bytes:
        return content[:at] + value + content[at + len(value) :]

    deflated = seeds.archive(parts, zipfile.ZIP_DEFLATED)
    bomb = seeds.archive(parts | {member: bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    damaged = "damaged zip|damaged or truncated zip"
    yield "compressed members", "compressed member", deflated
    yield "a zip bomb", "compressed member", bomb
    yield "a member outside the archive", "outside it: '../evil'", seeds.archive(parts | {"../evil": b""})
    yield "a member outside the archive", "outside it: '/etc/evil'", seeds.archive(parts | {"/etc/evil": b""})
    yield "two members of one name", "two members of one name", _doubled(parts, member)
    yield "an encrypted member", "encrypted member", patched(last_central + 8, b"\x01")
    yield "a checksum that does not fit", "checksum of", patched(_first_byte(content), b"\xee\xee")
    yield "a member that is elsewhere", "not where the directory says", patched(central + 42, b"\5\0\0\0")
    yield "a directory that is elsewhere", damaged, patched(start, b"\xff\xff\xff\x7f")
    yield "a directory of another length", damaged, patched(size, b"\xff\xff\0\0")
    yield "an archive of nothing", "is a zip archive, but no", seeds.archive({})
    yield "an archive of something else", "is a zip archive, but no", seeds.archive({"word/x.xml": b"<w/>"})
    yield "an end of an archive at the start", damaged, b"PK\5\6" + bytes(18) + content[:-3]


def _fields_of_end(content: bytes) -> tuple[int, int]:
    """Where the archive says how long its directory is, and where; large archives have a record for that."""
    record = content.rfind(b"PK\x06\x06")
    end = content.rindex(b"PK\x05\x06")
    return (end + 12, end + 16) if record < 0 else (record + 40, record + 48)


def _doubled(parts: dict[str, bytes], member: str) -> bytes:
    other = member[:-1] + "~"
    return seeds.archive(parts | {other: b""}).replace(other.encode(), member.encode())


def _first_byte(content: bytes) -> int:
    """Where the first member's bytes begin: behind its header, its name, and what torch.save pads with."""
    start = content.index(b"PK\x03\x04")
    name, extra = struct.unpack("<HH", content[start + 26 : start + 30])
    return start + 30 + name + extra


for number, trick in enumerate(tricks(seeds.zip_checkpoint(), "model/data/0")):
    ZIP.add(*trick[:2], f"trick-{number}", trick[2])


@ZIP.case("a TorchScript archive", "TorchScript")
def script(folder: Path) -> bytes:
    return seeds.archive(
        seeds.members(seeds.zip_checkpoint()) | {"model/code/__torch__.py": b"def forward(x): pass"}
    )


ZIP.add("no architecture", "give an architecture", "bare", seeds.zip_checkpoint(), architecture="")
