"""Reading lines, finding files, and writing so that a reader never sees half of a file."""

import contextlib
import errno
import gzip
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError

BYTE_ORDER_MARK = "\ufeff"

# Reasons for which nothing more can be written: no space, a quota or a limit, a read-only disk, a
# disk that fails.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_REFUSED = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR)


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary path, and put what was made there in the place of `path` at the end.

    It serves files and folders. All is flushed to the disk first, so that not even a loss of power
    leaves half of one. If the block raises, `path` stays as it was and nothing is left behind.

    Args:
        path: The file or folder to write. Its folder is made if need be. What a symbolic link
            leads to is replaced, and the link stays.

    Raises:
        InputError: If the folder can't be made or written to, or the disk is full.

    Yields:
        A path beside it, with the same ending, that does not exist yet.
    """
    named, path = Path(path), _followed(Path(path))
    with naming_problems(named), scratch_folder(path.parent) as scratch:
        new = scratch / path.name
        yield new
        flush(new)
        if path.is_dir():  # a folder can't be replaced in one move while it holds something
            new.stat()  # if nothing was made, this raises while the old is still there
            os.replace(path, scratch / f"{path.name}.old")
        os.replace(new, path)
        _flush_one(path.parent)


def _followed(path: Path) -> Path:
    """Return what a symbolic link leads to, whether it is there or not; or the path itself."""
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:  # links in a circle
        raise InputError(f"{path} can't be written: {error}.") from None


@contextlib.contextmanager
def naming_problems(path: Path) -> Iterator[None]:
    """Name the path where something could not be stored, and why; see `storage_problem`.

    Raises:
        InputError: In place of the error.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if (problem := storage_problem(error)) is None:
            raise
        raise InputError(f"{path} can't be written: {problem}.") from error


def system_problem(error: BaseException) -> str | None:
    """Describe what the system refused, with the path; None if the error is of another kind.

    It may be an OSError, or one of TensorFlow or h5py that quotes what the system says.
    """
    if isinstance(error, OSError) and error.strerror:
        path = f"{error.filename}: " if error.filename is not None else ""
        return f"{path}{error.strerror}."
    text = " ".join(str(error).split())
    said = [os.strerror(number) for number in (*_FULL, *_REFUSED)]
    return f"{text[:500]}" if any(reason in text for reason in said) else None


def storage_problem(error: BaseException | None) -> str | None:
    """Explain why something could not be stored; None if the error is of another kind.

    NumPy raises an OSError that has a number; h5py, Keras and TensorFlow raise errors of their own
    that quote what the system says.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return os.strerror(error.errno)
        text = str(error)
        if found := next((said for said in map(os.strerror, _FULL) if said in text), None):
            return found
        error = error.__cause__ or error.__context__
    return None


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


def flush(path: Path) -> None:
    """Make sure that a file, or a folder with all that is in it, is on the disk."""
    for inner in path.rglob("*") if path.is_dir() else ():
        _flush_one(inner)
    _flush_one(path)


def _flush_one(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one move."""
    with replacing(path) as new:
        new.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_lines(path: Path | str) -> Iterator[str]:
    """Yield the lines of a text file, plain or gzip, without their ends.

    A byte-order mark at the beginning of the file is left out.

    Args:
        path: The file, or "-" for standard input. A name that ends in `.gz` is unpacked.

    Raises:
        InputError: If the file is missing, unreadable or not UTF-8.
    """
    path = Path(path)
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip(b"\r\n").decode("utf-8")
                yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number:,}: not UTF-8 ({error.reason} at byte {error.start}). "
            "Convert the file, for example with: iconv -f ISO-8859-1 -t UTF-8."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can't be read: {error}.") from None


def find_files(pattern: Path) -> list[Path]:
    """Find the files of a pattern, in sorted order.

    Args:
        pattern: A file, or a pattern such as `data/train-*.gz`. A name that exists is taken as it
            is, whatever is in it.

    Raises:
        InputError: If there is none.
    """
    found = [Path(pattern.anchor)]
    for name in pattern.relative_to(pattern.anchor).parts:  # what exists is no pattern
        found = [
            path
            for folder in found
            for path in ([folder / name] if (folder / name).exists() else folder.glob(name))
        ]
    if not found and any(character in str(pattern) for character in "*?["):
        raise InputError(f"No file matches {pattern}.")
    if not found:
        raise InputError(f"There is no file {pattern}.")
    for path in found:
        if not path.is_file() and not path.is_dir():
            raise InputError(
                f"{path} is a pipe or a device, which can be read only once, and this text is read "
                "several times. Write it to a file first."
            )
    return sorted(found)


def _open(path: Path) -> contextlib.AbstractContextManager[Iterable[bytes]]:
    if str(path) == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")
