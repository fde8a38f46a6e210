"""Causal language modelling on one long row of ids: texts are read once, and windows cut out of it.

    text files -> ids, one after the other, in memory -> windows -> (inputs, labels)

Shapes: N tokens of the stream, B rows of a batch, T length of a window.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.files import find_files, read_lines
from keras_transformer.models.config import PADDING_ID
from keras_transformer.training.data.batching import ALONE, Worker, untuned
from keras_transformer.typing import Tensor, Tensors

CHARACTERS_AT_ONCE = 1 << 14  # in one text for the tokeniser
TEXTS_AT_ONCE = 64  # tokenised by one op
NO_LABEL = -1


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStream:
    """The ids of texts, one after the other.

    Args:
        ids: Int32 array `(N,)`.

    Raises:
        InputError: If there are fewer than two: nothing could be predicted.
    """

    ids: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what holds nothing to learn from."""
        if len(self.ids) < 2:
            raise InputError(
                f"The text has {len(self.ids)} tokens; a language model needs at least 2, one to "
                "see and one to predict."
            )

    def __len__(self) -> int:
        """Return the number of tokens N."""
        return len(self.ids)

    @classmethod
    def from_files(
        cls,
        paths: Path | str | Sequence[Path | str],
        tokenizer: Any,
        separator_id: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> "TokenStream":
        """Read text files, plain or gzip, each of which is one text.

        Line feeds belong to the text, and every line has one at its end, as the last of a file
        should.

        Args:
            paths: A file or pattern, or several. The files of a pattern are read in sorted order.
            tokenizer: Cuts text into ids.
            separator_id: Id to put at the end of each file, such as that of the end token; None
                for none.
            progress: Called now and then with the number of tokens so far.

        Raises:
            InputError: If a file is missing, unreadable or not UTF-8, or there is next to no text.
        """
        several = [paths] if isinstance(paths, Path | str) else paths
        files = [file for path in several for file in find_files(Path(path))]
        return cls._tokenized(map(_parts, files), tokenizer, separator_id, progress)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        tokenizer: Any,
        separator_id: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> "TokenStream":
        """Take each string for a text of its own; see `from_files`."""
        return cls._tokenized(((text,) for text in texts), tokenizer, separator_id, progress)

    @classmethod
    def _tokenized(
        cls,
        texts: Iterable[Iterable[str]],
        tokenizer: Any,
        separator_id: int | None,
        progress: Callable[[int], None] | None,
    ) -> "TokenStream":
        """Put together texts that come in parts."""
        ends = [] if separator_id is None else [separator_id]
        found, count = [np.zeros(0, np.int32)], 0
        # None marks the end of a text.
        parts = (part for text in texts for part in itertools.chain(text, [None]))
        while group := list(itertools.islice(parts, TEXTS_AT_ONCE)):
            rows = tokenizer.tokenize(tf.constant([part or "" for part in group]))
            values, bounds = rows.values.numpy(), rows.row_splits.numpy()
            for part, begin, end in zip(group, bounds[:-1], bounds[1:], strict=True):
                found.append(np.array(ends if part is None else values[begin:end], np.int32))
            count += len(values) + len(ends) * group.count(None)
            if progress is not None:
                progress(count)
        return cls(np.concatenate(found))

    def split(self, share: float) -> tuple["TokenStream", "TokenStream"]:
        """Split off the end, for validation.

        Args:
            share: The share of the tokens that the second stream gets.

        Returns:
            Two streams, the first part and the rest.

        Raises:
            InputError: If `share` is not between 0 and 1, or a part is too small.
        """
        if not 0 < share < 1:
            raise InputError(f"The share must be between 0 and 1, got {share!r}.")
        first = len(self.ids) - round(share * len(self.ids))
        return TokenStream(self.ids[:first]), TokenStream(self.ids[first:])


def windows(
    stream: TokenStream,
    length: int,
    rows: int,
    seed: int,
    first_batch: int = 0,
    *,
    worker: Worker = ALONE,
) -> tf.data.Dataset:
    """Cut windows out of a stream at random, without end.

    Where a window begins depends on the seed and the number of its batch alone, so a run can begin
    at any batch.

    Args:
        stream: The ids.
        length: Tokens in a window T.
        rows: Windows in a batch B.
        seed: Decides where windows begin.
        first_batch: Number of batches to leave out, so that a run goes on where it stopped.
        worker: Its index, and the number of workers; no two get the same windows.

    Returns:
        Data set of `({"token_ids": (B, T)}, labels (B, T))`, int32. The label of a token is the
        next one.

    Raises:
        InputError: If the stream is too short for a window.
    """
    begins = len(stream) - length  # a window and the token behind it fit in
    if length < 1 or begins < 1:
        raise InputError(
            f"A window of {length:,} tokens and the one behind it must fit into the text, which "
            f"has {len(stream):,}: choose a length from 1 to {len(stream) - 1:,}."
        )
    ids = tf.constant(stream.ids)
    columns = tf.range(length + 1, dtype=tf.int64)

    def cut(number: Tensor) -> tuple[Tensors, Tensor]:
        number = number * worker[1] + worker[0]
        drawn = tf.stack([tf.constant(seed, tf.int64), number])
        first = tf.random.stateless_uniform([rows, 1], drawn, 0, begins, tf.int64)
        window = tf.gather(ids, first + columns)  # (B, T + 1)
        return {"token_ids": window[:, :-1]}, window[:, 1:]

    return untuned(tf.data.Dataset.range(first_batch, tf.int64.max).map(cut).prefetch(8))


def all_windows(
    stream: TokenStream,
    length: int,
    rows: int,
    *,
    padding_id: int = PADDING_ID,
    label_padding: int = NO_LABEL,
) -> tf.data.Dataset:
    """Cut a stream into windows, in order, so that each token but the first is a label once.

    Args:
        stream: The ids.
        length: Tokens in a window T.
        rows: Windows in a batch B; the last batch may have fewer.
        padding_id: What the last window is filled up with.
        label_padding: Label of what fills it up.

    Returns:
        Data set as `windows` returns.

    Raises:
        InputError: If `length` is less than 1.
    """
    if length < 1:
        raise InputError(f"A window must have at least 1 token, got {length}.")
    missing = -(len(stream) - 1) % length

    def cut(ids: np.ndarray, filling: int) -> np.ndarray:
        padded = np.pad(ids, (0, missing), constant_values=filling)
        return padded.astype(np.int32).reshape(-1, length)

    inputs, labels = cut(stream.ids[:-1], padding_id), cut(stream.ids[1:], label_padding)
    batches = tf.data.Dataset.from_tensor_slices(({"token_ids": inputs}, labels)).batch(rows)
    return untuned(batches.prefetch(2))


def _parts(path: Path) -> Iterator[str]:
    """Yield a file's text in parts, which are cut into the same tokens as the whole.

    Tokenisers that know words cut between a word and the white space behind it, so a part ends
    where a line does with anything but white space, and the line feed begins the next.
    """
    lines: list[str] = []
    size = 0
    for line in read_lines(path):
        lines.append(line)
        size += len(line) + 1
        if size >= CHARACTERS_AT_ONCE and line and not line[-1].isspace():
            yield "".join(lines)
            lines, size = [], 0
        lines.append("\n")
    yield "".join(lines)
