"""One text taken apart: what is trained on, and what is validated on.

Both halves are files in the run folder, so that training, resuming and export read the same ones
whatever becomes of the text. A digest of a line decides on which side it is: the same line is
always on the same side, however often it occurs, and a larger share keeps what a smaller one took.
Running text is cut once, near its end.
"""

import dataclasses
import hashlib
import heapq
import itertools
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from keras_transformer.errors import InputError
from keras_transformer.files import read_lines
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.corpora import Corpus, Mixture, ParallelFiles
from keras_transformer.training.data.records import ImageFolder, Records, RecordSource

FOLDER = "text"  # in the run folder
TRAIN, VALID = "train", "valid"
PICTURES, EXAMPLES, RUNNING = "", ".jsonl", "-*.txt"  # how the names of halves end

Line = tuple[str, Sequence[str]]  # what decides on its side, and what is written of it, a file each


def with_halves(config: TrainingConfig, folder: Path, ending: str | None = None) -> TrainingConfig:
    """Return a configuration that reads the halves in a folder, and is split no further.

    Args:
        config: What names the whole text, and a `valid_split`.
        folder: Where the halves are.
        ending: What the names of examples end with; None to look.
    """
    folder = folder.absolute()
    if config.source is None:
        if ending is None:
            kinds = PICTURES, EXAMPLES
            ending = next((e for e in kinds if (folder / f"{TRAIN}{e}").exists()), RUNNING)
        fields: dict[str, Any] = {
            name: str(folder / f"{part}{ending}")
            for name, part in (("data", TRAIN), ("valid_data", VALID))
        }
    else:
        fields = {}
        for side in ("source", "target"):
            names = [_named(side, getattr(part, side)) for part in _parts(config.train_files)]
            fields[side] = [str(folder / f"{TRAIN}-{i}-{name}") for i, name in enumerate(names, 1)]
            fields[f"valid_{side}"] = str(folder / f"{VALID}-{names[0]}")
    return dataclasses.replace(config, **fields, valid_split=None)


def split_text(
    config: TrainingConfig,
    text: Corpus | RecordSource,
    columns: tuple[str, ...],
    folder: Path,
    running: bool = False,
) -> tuple[TrainingConfig, int, int]:
    """Write both halves of a text.

    Args:
        config: What names the text, and a `valid_split`.
        text: The text.
        columns: The columns of examples in their files.
        folder: The folder to make.
        running: Whether the lines of a file are one text.

    Returns:
        The configuration that reads the halves, and the numbers of lines to train and to validate
        on.

    Raises:
        InputError: If the text is missing or damaged, or nothing would be left on a side.
    """
    total = text.check()
    share = config.valid_split or 0.0
    wanted = max(1, round(share * total))
    folder.mkdir()
    if isinstance(text, Corpus):
        halves = with_halves(config, folder)
        counts = _split_pairs(_parts(text), halves, wanted)
    elif isinstance(text, ImageFolder):
        halves = with_halves(config, folder, PICTURES)
        counts = _link(text, folder, share)
    elif running:
        halves = with_halves(config, folder, RUNNING)
        counts = [_cut(text.paths, folder, total - wanted)]
    else:
        halves = with_halves(config, folder, EXAMPLES)
        counts = [_split_examples(Records(Path(str(config.data)), columns), folder, wanted)]
    if not all(left for left, _ in counts):
        raise InputError(
            f"valid_split={config.valid_split:g} of {total:,} leaves nothing to train on; "
            "give a smaller share, or more text."
        )
    trained, held_out = (sum(some) for some in zip(*counts, strict=True))
    return halves, trained, held_out


def _split_pairs(parts: Sequence[ParallelFiles], halves: Any, wanted: int) -> list[tuple[int, int]]:
    last = _last(
        (line for part in parts for source, _ in part.pairs for line in read_lines(source)), wanted
    )
    held_out = [halves.valid_source, halves.valid_target]
    return [
        _copy(
            (
                (pair[0], pair)
                for files in part.pairs
                for pair in zip(*map(read_lines, files), strict=True)
            ),
            last,
            files,
            held_out,
        )
        for part, *files in zip(parts, halves.source, halves.target, strict=True)
    ]


def _split_examples(records: RecordSource, folder: Path, wanted: int) -> tuple[int, int]:
    last = _last((record[0] for record in records), wanted)
    lines = (
        (
            record[0],
            [json.dumps(dict(zip(records.columns, record, strict=True)), ensure_ascii=False)],
        )
        for record in records
    )
    return _copy(lines, last, *([folder / f"{part}{EXAMPLES}"] for part in (TRAIN, VALID)))


def _link(records: ImageFolder, folder: Path, share: float) -> list[tuple[int, int]]:
    """Make folders of links to pictures, of each label on both sides."""
    counts = []
    for label, pictures in itertools.groupby(records, lambda record: record[1]):
        paths = sorted((Path(name) for name, _ in pictures), key=lambda path: _digest(path.name))
        wanted = max(1, round(share * len(paths)))
        counts.append((len(paths) - wanted, wanted))
        for i, path in enumerate(paths):
            place = folder / (VALID if i < wanted else TRAIN) / label
            place.mkdir(parents=True, exist_ok=True)
            (place / path.name).symlink_to(path.absolute())
    return counts


def _cut(paths: Iterable[Path], folder: Path, left: int) -> tuple[int, int]:
    """Write the lines of files up to a number to one half, and the rest to the other."""
    number, held_out = 0, 0
    for i, path in enumerate(paths, 1):
        with ExitStack() as stack:
            files: dict[str, Any] = {}
            for line in read_lines(path):
                part = TRAIN if number < left else VALID
                if part not in files:
                    name = folder / f"{part}{RUNNING.replace('*', f'{i:06}')}"
                    files[part] = stack.enter_context(_writing(name))
                files[part].write(f"{line}\n")
                number += 1
                held_out += part == VALID
    return number - held_out, held_out


def _copy(
    lines: Iterable[Line], last: int, train: Sequence[Path | str], valid: Sequence[Path | str]
) -> tuple[int, int]:
    """Write lines to the files of their half, and count them."""
    counts = [0, 0]
    with ExitStack() as stack:
        halves = [[stack.enter_context(_writing(name)) for name in some] for some in (train, valid)]
        for key, texts in lines:
            held_out = _digest(key) <= last
            counts[held_out] += 1
            for file, text in zip(halves[held_out], texts, strict=True):
                file.write(f"{text}\n")
    return counts[0], counts[1]


def _writing(name: Path | str) -> TextIO:
    return Path(name).open("a", encoding="utf-8", newline="\n")


def _last(keys: Iterable[str], wanted: int) -> int:
    """Return the digest up to which lines are validated on: those with the lowest."""
    return heapq.nsmallest(wanted, map(_digest, keys))[-1]


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _parts(corpus: Corpus) -> Sequence[ParallelFiles]:
    return corpus.parts if isinstance(corpus, Mixture) else (corpus,)


def _named(side: str, path: Path) -> str:
    """Name a half after its language, which the ending often says."""
    ending = Path(path.name.removesuffix(".gz")).suffix
    return side if set(ending) & set("*?[") else f"{side}{ending}"
