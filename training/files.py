"""Writing files and folders so that a reader never sees half of one."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path, and put what was made there in the place of `path` at the end.

    It serves files and folders. All is flushed to the disk first, so that not even a loss of power
    leaves half of one. If the block raises, `path` stays as it was and nothing is left behind.

    Args:
        path: The file or folder to write. Its folder is made if need be.

    Raises:
        InputError: If the folder can't be made or written to.

    Yields:
        A path beside it, with the same ending, that does not exist yet.
    """
    path = Path(path)
    with scratch_folder(path.parent) as scratch:
        new = scratch / path.name
        yield new
        flush(new)
        if path.is_dir():  # a folder can't be replaced in one move while it holds something
            new.stat()  # if nothing was made, this raises while the old is still there
            os.replace(path, scratch / f"{path.name}.old")
        os.replace(new, path)
        _flush_one(path.parent)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give a folder inside another one, on the same file system, that is gone at the end.

    Raises:
        InputError: If nothing can be written there.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
    except OSError as error:
        raise InputError(f"Nothing can be written to {parent}: {error.strerror}.") from None
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a process that was killed inside `replacing` left behind in a folder."""
    for scratch in sorted(Path(folder).rglob(".writing-*")):
        shutil.rmtree(scratch, ignore_errors=True)


def flush(path):
    """Make sure that a file, or a folder with all that is in it, is on the disk."""
    for inner in path.rglob("*") if path.is_dir() else ():
        _flush_one(inner)
    _flush_one(path)


def _flush_one(path):
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one move."""
    with replacing(path) as new:
        new.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
