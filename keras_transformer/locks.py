"""Locks: a run or an export is written by one process at a time.

A lock is a file beside the folder, `.NAME.lock`, that says who holds it. The system holds the lock
itself, and lets go of it when the process ends, however it ends: so what a process that was killed
left behind stops nobody.
"""

import contextlib
import datetime
import fcntl
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from keras_transformer.errors import InputError
from keras_transformer.files import naming_problems

_held: dict[Path, TextIO] = {}  # locks of this process, each until nobody here wants it any more
_wanted: Counter[Path] = Counter()
_guard = threading.Lock()


@contextlib.contextmanager
def locked(folder: Path | str, doing: str) -> Iterator[None]:
    """Keep other processes from writing a folder.

    A process may take a lock again that it holds.

    Args:
        folder: The folder, which need not be there yet.
        doing: What is done with it, for the message that others get, such as "training".

    Raises:
        InputError: If another process holds the lock; the message says which.
    """
    path = lock_path(folder)
    with _guard:
        if path not in _held:
            _held[path] = _take(path, Path(folder), doing)
        _wanted[path] += 1
    try:
        yield
    finally:
        with _guard:
            _wanted[path] -= 1
            if not _wanted[path]:
                path.unlink(missing_ok=True)  # before it is let go of, or it might be another's
                _held.pop(path).close()


def lock_path(folder: Path | str) -> Path:
    """Return the file of a folder's lock, the same by whatever name the folder goes."""
    folder = Path(folder).resolve()
    return folder.parent / f".{folder.name}.lock"


def _take(path: Path, folder: Path, doing: str) -> TextIO:
    with naming_problems(path):
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("a+", encoding="utf-8")
            except OSError as error:
                raise InputError(
                    f"Nothing can be written to {path.parent}: {error.strerror}."
                ) from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                message = _message(folder, path, file.read())
                file.close()
                raise InputError(message) from None
            if _is_still(path, file):
                break
            file.close()  # its holder removed it meanwhile
        file.truncate(0)
        holder = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "doing": doing,
        }
        file.write(json.dumps(holder) + "\n")
        file.flush()
        return file


def _is_still(path: Path, file: TextIO) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(file.fileno())
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _message(folder: Path, path: Path, content: str) -> str:
    try:
        holder = json.loads(content)
        who = (
            f"process {holder['process']} on {holder['host']}, {holder['doing']} since "
            f"{holder['since']}"
        )
    except (ValueError, KeyError, TypeError):  # it is being written
        who = "another process"
    return (
        f"{folder} is in use by {who}. Wait until that ends, stop it, or choose another folder. "
        f"(The lock is {path}.)"
    )
