"""Compute the test vectors anew, and pack them for readers in any language: `make vectors`.

The files and the archive are the same, byte for byte, on every run.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from lrpref.conformance.generator.cases import documents
from lrpref.conformance.generator.files import text
from lrpref.files import new_file

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "lrpref" / "conformance" / "vectors"
ARCHIVE = ROOT / "out" / "lrpref-vectors-1.zip"

DATE = (2020, 1, 1, 0, 0, 0)
"""Every file in the archive bears it, whenever it was packed."""


def write(folder: Path) -> None:
    """Compute every family, and put its file into a folder."""
    for name, document in documents():
        with new_file(folder / f"{name}.json") as file:
            file.write_text(text(document) + "\n", encoding="utf-8")
        print(f"{name}: {len(document['vectors'])} vectors")


def pack(folder: Path, archive: Path) -> None:
    """Pack a folder's files: the vectors, their schema, what the fields mean, and an example of a reader."""
    with new_file(archive) as file, zipfile.ZipFile(file, "w") as packed:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                entry = zipfile.ZipInfo(f"{archive.stem}/{path.name}", DATE)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                packed.writestr(entry, path.read_bytes(), compresslevel=9)


def main() -> None:
    """Do both."""
    write(VECTORS)
    pack(VECTORS, ARCHIVE)
    print(f"{ARCHIVE.relative_to(ROOT)}: {ARCHIVE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
