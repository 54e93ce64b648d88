"""Files of weights, opened safely: mapped into memory, and zip archives whose members lie in place."""

from __future__ import annotations

import io
import mmap
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrpref.errors import BadWeights
from lrpref.weights_import.pickles import reason_of, shown


@contextmanager
def mapped(path: Path) -> Iterator[tuple[memoryview, io.BufferedReader]]:
    """Map a file into memory, and let every error of it begin with its name.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    data : memoryview
        Its bytes.
    file : BufferedReader
        The file itself.

    Raises
    ------
    BadWeights
        If it is no regular file, or empty, or cannot be read; and whatever is found out about it meanwhile,
        in one line that starts with its name.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever, /dev/zero would never end
            raise BadWeights(f"is a {'folder' if path.is_dir() else 'device'}, expected a file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise BadWeights("is empty")
            yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), file
        return
    except BadWeights as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    except MemoryError:
        reason = "does not fit into memory"
    raise BadWeights(f"{path.name or path}: {reason}") from None


class Archive:
    """A zip archive as PyTorch writes it: its members are stored, so that their bytes lie in the file.

    Parameters
    ----------
    data : memoryview
        The file's bytes.
    file : BufferedReader
        The file.

    Attributes
    ----------
    names : dict of str to ZipInfo
        The members by their names.

    Raises
    ------
    BadWeights
        If it is no zip archive.
    """

    def __init__(self, data: memoryview, file: io.BufferedReader) -> None:
        try:
            with zipfile.ZipFile(file) as archive:
                self._members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError) as error:
            raise BadWeights(f"damaged or truncated zip archive: {reason_of(error)}") from None
        self.names = {member.filename: member for member in self._members}
        self._data = data
        self._found: dict[str, memoryview] = {}

    def check(self) -> None:
        """Refuse what PyTorch never writes and a zip bomb needs.

        Raises
        ------
        BadWeights
            If a member is encrypted, compressed, outside the archive, or there twice; or if all of them
            together claim more bytes than the file has.
        """
        for member in self._members:
            _check_member(member)
        if len(self.names) < len(self._members):
            raise BadWeights("its zip archive has two members of one name")
        if sum(member.file_size for member in self._members) > len(self._data):
            raise BadWeights("its zip archive claims more bytes than the file has")

    def content(self, name: str) -> memoryview:
        """Find the bytes of a member, in place.

        Parameters
        ----------
        name : str
            The member, one of `names`.

        Returns
        -------
        memoryview
            Its bytes.

        Raises
        ------
        BadWeights
            If they are not where the directory says, or do not fit their checksum.
        """
        if name not in self._found:  # a checksum takes time, and thousands of tensors may share a member
            self._found[name] = _member_bytes(self._data, self.names[name])
        return self._found[name]

    def byteorder(self, folder: str) -> str:
        """Read in which byte order the numbers are.

        Parameters
        ----------
        folder : str
            The folder in which all members are.

        Returns
        -------
        {"<", ">"}
            Little or big; little where the archive does not say.

        Raises
        ------
        BadWeights
            If it says something else.
        """
        order = "little"
        if f"{folder}/byteorder" in self.names:
            order = bytes(self.content(f"{folder}/byteorder")).decode("ascii", "replace")
        if order not in ("little", "big"):
            raise BadWeights(f"unknown byte order {shown(order)}, expected little or big")
        return "<" if order == "little" else ">"


def _check_member(member: zipfile.ZipInfo) -> None:
    """Refuse what torch.save never writes and a zip bomb needs."""
    name = shown(member.filename)
    if member.filename.startswith("/") or ".." in member.filename.split("/"):
        raise BadWeights(f"its zip archive has a member outside it: {name}")
    if member.flag_bits & 0x1:
        raise BadWeights(f"its zip archive has an encrypted member, {name}")
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise BadWeights(f"its zip archive has a compressed member, {name}: torch.save compresses none")


def _member_bytes(data: memoryview, member: zipfile.ZipInfo) -> memoryview:
    """The bytes of a stored member, in place."""
    name = shown(member.filename)
    local = data[member.header_offset : member.header_offset + 30]
    if len(local) < 30 or bytes(local[:4]) != b"PK\x03\x04":
        raise BadWeights(f"damaged zip archive: {name} is not where the directory says")
    name_length, extra_length = struct.unpack("<HH", local[26:30])
    start = member.header_offset + 30 + name_length + extra_length
    content = data[start : start + member.file_size]
    if len(content) < member.file_size:
        raise BadWeights(f"truncated zip archive: {name} ends behind the file")
    # torch.serialization.set_crc32_options(False) leaves 0; PyTorch itself never compares.
    if member.CRC not in (0, zlib.crc32(content)):
        raise BadWeights(f"damaged: the checksum of {name} does not fit its bytes")
    return content
