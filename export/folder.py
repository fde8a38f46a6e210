"""The folder of an export: names, versions, files, and how they appear in one move."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from keras_transformer.artefacts.artefact import SAVED_MODEL
from keras_transformer.errors import InputError
from keras_transformer.files import (
    flush,
    naming_problems,
    replacing,
    scratch_folder,
    write_json,
)
from keras_transformer.locks import locked

if TYPE_CHECKING:
    from keras_transformer.text import Tokenizer

KINDS = ("", "ids")  # of `.tflite` files, by their names; see `Servable.lite_files`

PRECISIONS = ("float32", "float16", "int8")

VOCABULARY = "vocab.txt"
GENERATION = "generation.json"

EXTRA = "assets.extra"
CARD = "model_card.json"
TASK = "task.json"  # what a file is for, inside it
PIECES = "pieces.json"  # the pieces of tokenisers whose files do not list them


def name_of(path: Path) -> str:
    """Return the name of a model: what its export was called, or else its file or folder."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((path / CARD).read_text("utf-8"))["name"])
    return path.absolute().name.removesuffix(".tflite")


def saved_model_versions(path: Path) -> dict[int, Path]:
    """Find the versions of a SavedModel by number.

    Args:
        path: The folder of a version, the one that holds the versions, or one that `export` wrote.
    """
    for folder in (path, path / "savedmodel"):
        if (folder / "saved_model.pb").is_file():
            return {int(folder.name) if folder.name.isdecimal() else 1: folder}
        found = [p.parent for p in folder.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
        if found:
            return {int(p.name): p for p in found}
    return {}


def versions(base: Path) -> dict[int, Path]:
    """Find the versions in a base path by number, oldest first, as a server does."""
    return {number: path for number, path in sorted(_numbered(base)) if path.is_dir()}


def _numbered(base: Path) -> list[tuple[int, Path]]:
    paths = base.iterdir() if base.is_dir() else ()
    return [(int(p.name), p) for p in paths if p.name.isascii() and p.name.isdecimal()]


def publish(new: Path, base: Path) -> Path:
    """Move a version into the base path under the next free number.

    Args:
        new: The folder to move, on the same file system.
        base: The folder that the server watches.

    Returns:
        The folder of the version.
    """
    base.mkdir(parents=True, exist_ok=True)
    flush(new)
    while True:
        version = base / str(max((number for number, _ in _numbered(base)), default=0) + 1)
        try:
            os.rename(new, version)
            return version
        except OSError as error:  # somebody else took the number
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise


def prune(base: Path, keep: int) -> list[int]:
    """Remove all but the newest versions; each disappears in one move.

    Args:
        base: The folder that the server watches.
        keep: How many versions stay; 0 for all.

    Returns:
        The numbers of those removed.
    """
    found = versions(base)
    old = list(found)[:-keep] if keep else []
    for number in old:
        # Somebody else may be pruning too.
        with scratch_folder(base.parent) as scratch, contextlib.suppress(FileNotFoundError):
            os.rename(found[number], scratch / str(number))
    return old


def check_free(output: Path) -> None:
    """Make sure that an export may be written to `output`.

    Raises:
        InputError: If something is there that is no export.
    """
    if output.is_file():
        raise InputError(f"{output} is a file; give the name of a folder.")
    if not output.exists() or not any(output.iterdir()) or (output / SAVED_MODEL).is_dir():
        return
    raise InputError(f"{output} exists and is not an export; choose another output folder.")


@contextlib.contextmanager
def writing_export(output: Path) -> Iterator[Path]:
    """Give a folder beside an export's to prepare it in, while nobody else writes the export.

    Raises:
        InputError: If another process exports into the folder, or the disk is full.
    """
    with (
        locked(output, "exporting"),
        naming_problems(output),
        scratch_folder(output.parent) as scratch,
    ):
        yield scratch


def put_in_place(scratch: Path, output: Path, lite: Sequence[str]) -> Path | None:
    """Move what was written to where it belongs, and remove `.tflite` files that are no more.

    Args:
        scratch: The folder with files and, if it was asked for, `savedmodel`.
        output: The folder of the export.
        lite: Names of the `.tflite` files that were written.

    Returns:
        The folder of the SavedModel's version, if there is one.
    """
    version = None
    if (scratch / SAVED_MODEL).is_dir():
        version = publish(scratch / SAVED_MODEL, output / SAVED_MODEL)
    for path in sorted(p for p in scratch.iterdir() if p.is_file()):
        with replacing(output / path.name) as new:
            shutil.move(path, new)
    for file in {lite_name(*one) for one in product(KINDS, PRECISIONS)}:
        if file not in lite:
            (output / file).unlink(missing_ok=True)  # of the version before
    return version


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def write_tokenizer(tokenizer: "Tokenizer | None", folder: Path) -> list[str]:
    """Write the files of a tokeniser, if there is one, and return their names.

    Where none of them is a list of pieces, `pieces.json` is: an alignment has to name them.
    """
    if tokenizer is None:
        return []
    from keras_transformer.text import save_tokenizer

    before = set(folder.iterdir())
    save_tokenizer(tokenizer, folder)
    if not (folder / VOCABULARY).is_file():
        write_json(folder / PIECES, tokenizer.vocabulary)
    return sorted(path.name for path in {*folder.iterdir()} - before)


def is_text(path: Path) -> bool:
    """Return whether a file is UTF-8."""
    try:
        path.read_text("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def lite_name(kind: str, precision: str) -> str:
    """Return the name of a `.tflite` file, of one of `KINDS` and one of `PRECISIONS`."""
    parts = "model", precision if precision != "float32" else "", kind, "tflite"
    return ".".join(part for part in parts if part)
