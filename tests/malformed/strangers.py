"""Files that are something else: what a failed download, a wrong click or a prank leaves."""

import gzip
import os
from pathlib import Path

from malformed import seeds
from malformed.corpus import Corpus

CORPUS = Corpus("strangers", "")

HTML = b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head></html>\n"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
TAR = b"sys_info".ljust(257, b"\0") + b"ustar\0" + b"00".ljust(249, b"\0")

for suffix in (".pth", ".safetensors", ".pt2", ".onnx"):
    CORPUS.add("an empty file", r"is empty|no graph", "empty" + suffix, b"")
    CORPUS.add("a web page", r"web page|no ONNX file|not? .*zip", "page" + suffix, HTML)
    CORPUS.add("a picture", r"is neither|no ONNX file|not? .*zip", "picture" + suffix, PNG)
    CORPUS.add("a document", r"is neither|no ONNX file|not? .*zip", "document" + suffix, PDF)
    CORPUS.add("a Git LFS pointer", r"Git LFS|no ONNX file|not? .*zip", "pointer" + suffix, POINTER)
    CORPUS.add("a tar file", r"tar file|no ONNX file|not? .*zip", "archive" + suffix, TAR)
    CORPUS.add("zeros alone", r"is neither|no ONNX file|not? .*zip", "zeros" + suffix, bytes(4096))
CORPUS.add("a compressed file", r"gunzip", "weights.pth", gzip.compress(seeds.zip_checkpoint(), mtime=0))
CORPUS.add("a compressed file", r"no ONNX file", "model.onnx", gzip.compress(seeds.onnx_file(), mtime=0))
CORPUS.add("an HDF5 file", r"HDF5", "keras.pth", b"\x89HDF\r\n\x1a\n" + bytes(100))
CORPUS.add("a NumPy file", r"NumPy", "array.pth", b"\x93NUMPY\1\0v\0{'descr': '<f4'}")


def _pipe(folder: Path, name: str) -> bytes:
    """A pipe: to open it is to wait for a writer, for ever."""
    os.mkfifo(folder / name)
    return b""


def _folder(folder: Path, name: str) -> bytes:
    (folder / name).mkdir()
    return b""


def _to_nowhere(folder: Path, name: str) -> bytes:
    (folder / name).symlink_to("nowhere")
    return b""


def _nothing_ends(folder: Path, name: str) -> bytes:
    """A device that gives zeros for ever."""
    (folder / name).symlink_to("/dev/zero")
    return b""


for suffix in (".pth", ".safetensors", ".pt2", ".onnx"):
    for kind, words, make in (
        ("a pipe", "device", _pipe),
        ("a folder", "folder", _folder),
        ("an endless device", "device", _nothing_ends),
        ("a link to nowhere", "[Nn]o such file", _to_nowhere),
    ):
        name = make.__name__.strip("_") + suffix
        CORPUS.add(kind, words, name, lambda folder, make=make, name=name: make(folder, name))  # type: ignore[misc]
