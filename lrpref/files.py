"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lrpref.errors import BadRecord


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Write a file or folder that takes its place only when it is whole.

    Parameters
    ----------
    path : Path
        The file, or the folder.

    Yields
    ------
    Path
        A temporary path in the same folder: make the file or folder there.

    Raises
    ------
    BadRecord
        If it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".lrpref-", dir=path.parent))
        made = temporary / "new"
        yield made
        old = temporary / "old"
        if path.is_dir():
            os.rename(path, old)
        try:
            os.replace(made, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
    except OSError as error:
        raise BadRecord(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
