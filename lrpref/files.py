"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lrpref.errors import BadRecord, LrprefError


def regular(path: str | os.PathLike[str], error: type[LrprefError]) -> Path:
    """
    Make sure that a path names a regular file: a pipe would be waited for, for ever.

    Parameters
    ----------
    path : path-like
        The file.
    error : type
        What to raise.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    LrprefError
        If there is no such file, or it is something else.
    """
    if not os.fspath(path):
        raise error("'': a file's name is wanted, not an empty one")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise error(f"{path}: there is no such file") from None
    except (OSError, ValueError) as reason:
        raise error(f"{str(path)[:200]!r}: cannot be read ({getattr(reason, 'strerror', reason)})") from None
    if not stat.S_ISREG(mode):
        raise error(f"{path}: is not a file, but a folder or a device")
    return Path(path)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """
    Write a file that takes its place only when it is whole.

    Parameters
    ----------
    path : Path
        The file; an earlier regular file is replaced, a link followed.

    Yields
    ------
    Path
        A temporary path: write the file there.

    Raises
    ------
    BadRecord
        If it cannot be written, or something else than a file is there.
    """
    with _beside(path) as (place, temporary):
        if place.exists() and not place.is_file():
            raise BadRecord(f"{path}: is a folder or a device; name a file")
        yield temporary / "new"
        if place.exists():
            shutil.copymode(place, temporary / "new")
        os.replace(temporary / "new", place)


@contextlib.contextmanager
def new_folder(path: Path, may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """
    Write a folder that takes its place only when it is whole.

    Parameters
    ----------
    path : Path
        The folder: new, or empty, or one that may be replaced.
    may_replace : callable
        Whether an earlier folder may; asked again at the last moment.

    Yields
    ------
    Path
        A temporary path: make the folder there.

    Raises
    ------
    BadRecord
        If it cannot be written, or something that may not be replaced is there.
    """
    with _beside(path) as (place, temporary):
        new, old = temporary / "new", temporary / "old"
        yield new
        if place.is_dir() and any(place.iterdir()):
            if not may_replace(place):
                raise BadRecord(f"{path}: is there already, and not to be replaced")
            os.rename(place, old)
        try:
            os.rename(new, place)
        except BaseException:
            if old.exists():
                os.rename(old, place)
            raise


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, Path]]:
    """Give the true place of a path, and a temporary folder beside it that goes whatever happens."""
    made: list[Path] = []
    temporary = None
    try:
        place = Path(os.path.realpath(path))
        if place.parent == place:
            raise BadRecord(f"{path}: is the root; name a file or folder in it")
        missing = [folder for folder in place.parents if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
        temporary = Path(tempfile.mkdtemp(prefix=".lrpref-", dir=place.parent))
        yield place, temporary
        made = []
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadRecord(f"{str(path)[:200]}: cannot be written ({reason})") from None
    finally:
        if temporary is not None and (place.exists() or not (temporary / "old").exists()):
            shutil.rmtree(temporary, ignore_errors=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
