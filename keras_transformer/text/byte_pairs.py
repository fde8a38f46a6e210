"""Byte-level byte-pair encoding: any text -> ids -> the same bytes, inside the graph.

The pieces are strings of bytes, so that nothing is ever unknown, and joining them gives every text
back. A text is first cut as GPT-2 does it, into runs of letters, of digits, of other signs, each
with the space before it, and of white space. Each of these words begins as its bytes; the pair of
neighbours that was learned first is merged, again and again, until no pair is known.

All words are merged at the same time, as one flat vector, and each word only once, however often it
occurs in the batch. It takes nothing but tf.text's op from a string to its bytes and TensorFlow's
ops on numbers, so the same graph runs in TensorFlow, in TensorFlow Serving and in LiteRT.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from keras_transformer._tensorflow import tf
from keras_transformer.text.added_tokens import ADDED_OPS, AddedToken, AddedTokens, read_added
from keras_transformer.text.batches import as_batch
from keras_transformer.text.byte_alphabet import BYTES, CHARACTERS
from keras_transformer.text.byte_pair_files import read_ids, read_merges
from keras_transformer.text.byte_pair_learner import learn_byte_pairs
from keras_transformer.text.byte_pair_words import SPACE, character_kinds, word_begins
from keras_transformer.text.code_points import (
    BYTE_OPS,
    begin_with_space,
    characters,
    flags,
    stretches,
)
from keras_transformer.text.joining import DETOKENIZE_OPS, Joiner
from keras_transformer.text.pair_table import PairTable
from keras_transformer.text.slices import owners
from keras_transformer.text.tokenizer import Tokenizer
from keras_transformer.text.unique_words import unique_words
from keras_transformer.text.wordpiece import special_tokens
from keras_transformer.typing import Ragged, Strings, Tensor

# The names that a special token goes by, in the order in which they are looked for.
SPECIAL_NAMES = {
    "padding": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>"),
    "begin": ("[BOS]", "<s>", "<|endoftext|>"),
    "end": ("[EOS]", "</s>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>"),
}
VOCABULARY, MERGES = "vocab.json", "merges.txt"


class BytePairTokenizer(Tokenizer):
    """Turns text into byte-level BPE ids and back, in the graph.

    The ids are those of Hugging Face's `GPT2TokenizerFast`, with one difference: text never gives
    a special id. There, a literal `<|endoftext|>` is the special token; here it is spelled. Added
    tokens that are not special are found. Text of any bytes comes back as the very bytes. What is
    no id of a piece is written as the unknown one, or left out if there is none.

    Args:
        vocabulary: The pieces in the order of their ids, spelled in GPT-2's alphabet, in which
            every byte is a printable character (a space is `Ġ`), and the special tokens.
        merges: Pairs of pieces, those to be merged first in front.
        special_tokens: Names of the special tokens by what they are for: `padding`, `unknown`,
            `begin`, `end`, `mask`. None looks for those of GPT-2, of RoBERTa and of
            `learn_byte_pairs`.
        add_prefix_space: Whether a text, and what lies between added tokens, is cut as if a space
            were before it, unless it begins with one.
        added_tokens: Entries of the vocabulary that are found in a text before it is cut.

    Raises:
        ValueError: If a byte has no piece, a piece is repeated or not spelled in the alphabet, or
            a merge or a special token is not in the vocabulary.

    Example:
        tokenizer = BytePairTokenizer(*learn_byte_pairs(lines, 8000))
        ids = tokenizer.tokenize(["Two young men."])
        tokenizer.detokenize(ids)

    Reference: Sennrich et al. 2016; Radford et al. 2019 (GPT-2).
    """

    kind = "byte_pairs"
    file = ""  # a folder
    custom_ops = BYTE_OPS | DETOKENIZE_OPS

    def __init__(
        self,
        vocabulary: Sequence[str],
        merges: Sequence[tuple[str, str]],
        special_tokens: Mapping[str, str] | None = None,
        add_prefix_space: bool = False,
        added_tokens: Sequence[AddedToken] = (),
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.add_prefix_space = add_prefix_space
        self.added_tokens = tuple(added_tokens)
        self.merges = [(left, right) for left, right in merges]
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        if special_tokens is None:
            found = {role: [n for n in names if n in ids] for role, names in SPECIAL_NAMES.items()}
            special_tokens = {role: names[0] for role, names in found.items() if names}
        self.special_tokens = dict(special_tokens)
        # What is not spelled in the alphabet. An added token may be a piece as well.
        spelled = {*CHARACTERS, *(left + right for left, right in self.merges)}
        names = {token.content for token in self.added_tokens} - spelled
        names |= set(self.special_tokens.values())
        _check(self.vocabulary, ids, self.merges, self.special_tokens, names)
        special = {role: ids[name] for role, name in self.special_tokens.items()}
        self.padding_id = special.get("padding")
        self.unknown_id = special.get("unknown")
        self.begin_id = special.get("begin")
        self.end_id = special.get("end")
        self.mask_id = special.get("mask")

        self._byte_ids = tf.constant([ids[CHARACTERS[byte]] for byte in range(256)])
        self._pairs = PairTable([(ids[a], ids[b], ids[a + b]) for a, b in self.merges], len(ids))
        self._kinds = character_kinds()
        if self.added_tokens:
            self.custom_ops = self.custom_ops | ADDED_OPS
        self._added = AddedTokens(self.added_tokens, ids, list(special.values()))
        pieces = [p.encode() if p in names else bytes(BYTES[c] for c in p) for p in self.vocabulary]
        self._sizes = tf.constant([len(piece) for piece in pieces])
        self._joiner = Joiner(
            pieces,
            [True] * len(self.vocabulary),
            self.unknown_id,
            set(special.values()) - {self.unknown_id},
        )

    _added: AddedTokens

    @classmethod
    def _learn(
        cls, lines: Iterable[str], size: int, *, with_mask: bool = False, **options: Any
    ) -> Self:
        return cls(
            *learn_byte_pairs(lines, size, special_tokens=special_tokens(with_mask), **options)
        )

    def _cut(self, text: Strings) -> Ragged:
        found = characters(text)
        if self.add_prefix_space:
            found = begin_with_space(found)
        begins = word_begins(found, self._kinds)  # (N,), of bytes
        size = tf.shape(found.bytes)[0]
        starts = tf.cast(tf.where(begins)[:, 0], tf.int32)  # (W,)
        counts = tf.concat([starts, tf.expand_dims(size, 0)], 0)[1:] - starts
        before = tf.concat([[0], tf.cumsum(tf.cast(begins, tf.int32))], 0)
        row_words = tf.gather(before, found.rows)  # (B + 1,)

        which, starts, counts = unique_words(found.bytes, starts, counts, before[1:] - 1)
        tokens = tf.gather(self._byte_ids, tf.gather(found.bytes, stretches(starts, counts)))
        tokens, counts = self._merge(tokens, counts)

        starts = tf.gather(tf.cumsum(counts, exclusive=True), which)
        counts = tf.gather(counts, which)
        tokens = tf.gather(tokens, stretches(starts, counts))
        ends = tf.concat([[0], tf.cumsum(counts)], 0)
        rows = tf.cast(tf.gather(ends, row_words), tf.int64)
        return tf.RaggedTensor.from_row_splits(tokens, rows, validate=False)

    def tokenize_with_sizes(self, text: Strings) -> tuple[Ragged, Tensor]:
        """Cut text into pieces, and say how many bytes of it each is.

        Args:
            text: String tensor `(B,)` of any bytes.

        Returns:
            What `tokenize` returns, and int32 `(N,)` for the pieces of all texts.
        """
        pairs = self._added.cut(
            as_batch(text), self._cut_with_sizes, lambda ids, sizes: tf.stack([ids, sizes], axis=1)
        )
        ids = tf.RaggedTensor.from_row_splits(pairs.values[:, 0], pairs.row_splits, validate=False)
        return ids, pairs.values[:, 1]

    def _cut_with_sizes(self, text: Strings) -> Ragged:
        ids = self._cut(text)
        sizes = tf.gather(self._sizes, ids.values)  # (N,)
        if self.add_prefix_space:
            # The first piece of a text holds the space that is not in it.
            found = characters(text)
            spaced = tf.equal(found.codes, SPACE)
            rows = tf.where(tf.logical_and(found.first, tf.logical_not(spaced)))
            texts = tf.gather(owners(found.rows[:-1], tf.shape(found.bytes)[0]), found.places)
            firsts = tf.gather(ids.row_splits, tf.gather_nd(texts, rows))
            sizes -= tf.cast(flags(tf.cast(firsts, tf.int32), tf.shape(sizes)[0]), tf.int32)
        pairs = tf.stack([ids.values, sizes], axis=1)
        return tf.RaggedTensor.from_row_splits(pairs, ids.row_splits, validate=False)

    def _merge(self, tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Merge pairs in words until none is left.

        Args:
            tokens: Int32 `(N,)`, the bytes of all words as pieces.
            counts: Int32 `(W,)`, how many there are in each word.

        Returns:
            The same after merging.
        """
        total = tf.shape(counts)[0]
        begins = tf.cumsum(counts, exclusive=True)
        words = tf.cumsum(tf.cast(flags(begins, tf.shape(tokens)[0]), tf.int32)) - 1  # (N,)

        def ranks_of(tokens: Tensor, words: Tensor) -> Tensor:
            after = tf.concat([tokens, [0]], 0)[1:]
            same = tf.equal(words, tf.concat([words, [-1]], 0)[1:])
            return self._pairs.ranks(tokens, after, same)

        def merge(tokens: Tensor, words: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            least = tf.math.unsorted_segment_min(ranks, words, total)
            here = tf.equal(ranks, tf.gather(least, words))
            here = tf.logical_and(here, ranks < self._pairs.none)
            if self._pairs.in_order:
                # In `aaa` two equal pairs overlap: the first is merged.
                before = tf.logical_and(here, tf.concat([[False], here], 0)[:-1])
                here = tf.cond(
                    tf.reduce_any(before), lambda: _every_other(here, before), lambda: here
                )
            else:
                # What the leftmost pair gives may have to be merged before the next such pair.
                every = tf.range(tf.shape(tokens)[0])
                places = tf.where(here, every, tf.shape(tokens)[0])
                first = tf.math.unsorted_segment_min(places, words, total)
                here = tf.equal(places, tf.gather(first, words))
                here = tf.logical_and(here, ranks < self._pairs.none)
            tokens = tf.where(here, tf.gather(self._pairs.merged, ranks), tokens)
            kept = tf.where(tf.logical_not(tf.concat([[False], here], 0)[:-1]))[:, 0]
            tokens, words = tf.gather(tokens, kept), tf.gather(words, kept)
            return tokens, words, ranks_of(tokens, words)

        flat = tf.TensorShape([None])
        tokens, words, _ = tf.while_loop(
            lambda tokens, words, ranks: tf.reduce_any(ranks < self._pairs.none),
            merge,
            [tokens, words, ranks_of(tokens, words)],
            shape_invariants=[flat, flat, flat],
        )
        counts = tf.scatter_nd(
            tf.expand_dims(words, 1), tf.ones_like(words), tf.expand_dims(total, 0)
        )
        return tokens, counts

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `load` besides the files."""
        settings: dict[str, Any] = {"special_tokens": self.special_tokens}
        if self.add_prefix_space:
            settings["add_prefix_space"] = True
        if self.added_tokens:
            settings["added_tokens"] = [token.to_dict() for token in self.added_tokens]
        return settings

    def save(self, path: Path | str) -> None:
        """Write `vocab.json` and `merges.txt`, as GPT-2's are."""
        path = Path(path)
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        lines = ["#version: 0.2", *map(" ".join, self.merges)]
        (path / VOCABULARY).write_text(json.dumps(ids, ensure_ascii=False), "utf-8")
        merges = "".join(f"{line}\n" for line in lines)
        (path / MERGES).write_text(merges, "utf-8", newline="\n")

    @classmethod
    def load(
        cls, path: Path | str, special_tokens: Mapping[str, str] | None = None, **settings: Any
    ) -> "BytePairTokenizer":
        """Read what `save` wrote; settings are those of `settings`.

        Raises:
            OSError: If a file can't be read.
            ValueError: If one is damaged, or the two do not fit.
        """
        path = Path(path)
        settings["added_tokens"] = read_added(settings.get("added_tokens"))
        return cls.from_files(path / VOCABULARY, path / MERGES, special_tokens, **settings)

    @classmethod
    def from_files(
        cls,
        vocabulary: Path | str,
        merges: Path | str,
        special_tokens: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> "BytePairTokenizer":
        """Read published files, as those of GPT-2 and RoBERTa.

        Args:
            vocabulary: Path of a `vocab.json`: an id for each piece.
            merges: Path of a `merges.txt`: two pieces a line.
            special_tokens: See the class.
            **settings: Other arguments of the class.

        Raises:
            OSError: If a file can't be read.
            ValueError: If one is damaged, or the two do not fit.
        """
        try:
            pieces = read_ids(Path(vocabulary))
        except ValueError as error:
            raise ValueError(f"{vocabulary} is not a vocabulary: {error}") from None
        try:
            pairs = read_merges(Path(merges))
        except ValueError as error:
            raise ValueError(f"{merges} is not a list of merges: {error}") from None
        try:
            return cls(pieces, pairs, special_tokens, **settings)
        except ValueError as error:
            raise ValueError(f"{vocabulary} with {merges}: {error}") from None


def _every_other(here: Tensor, before: Tensor) -> Tensor:
    """Keep the first, the third and so on of each row of true values.

    Args:
        here: Bool `(N,)`.
        before: Bool `(N,)`: whether the value is true and the one before it as well.
    """
    first = tf.logical_and(here, tf.logical_not(before))
    starts = tf.cast(tf.where(first)[:, 0], tf.int32)
    rows = tf.maximum(tf.cumsum(tf.cast(first, tf.int32)) - 1, 0)
    offsets = tf.range(tf.shape(here)[0]) - tf.gather(starts, rows)
    return tf.logical_and(here, tf.equal(offsets % 2, 0))


def _check(
    vocabulary: Sequence[str],
    ids: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    special_tokens: Mapping[str, str],
    names: Collection[str],
) -> None:
    if len(ids) < len(vocabulary):
        again = next(piece for i, piece in enumerate(vocabulary) if ids[piece] != i)
        raise ValueError(f"the piece {again!r} is in the vocabulary twice.")
    for role, name in special_tokens.items():
        if role not in SPECIAL_NAMES:
            raise ValueError(
                f"special_tokens has {role!r}; the roles are {', '.join(SPECIAL_NAMES)}."
            )
        if name not in ids:
            raise ValueError(f"the special token {name!r} is not in the vocabulary.")
    missing = [character for character in CHARACTERS if character not in ids]
    if missing:
        byte = BYTES[missing[0]]
        raise ValueError(f"byte {byte:#04x} has no piece: there is no {missing[0]!r}.")
    for i, piece in enumerate(vocabulary):
        if piece not in names and not (piece and BYTES.keys() >= set(piece)):
            raise ValueError(
                f"piece {i} is {piece!r}, which is neither a special token nor spelled in the "
                "alphabet of bytes."
            )
    seen = set()
    for i, pair in enumerate(merges):
        for piece in (*pair, "".join(pair)):
            if piece not in ids or piece in names:
                raise ValueError(f"merge {i} is {' '.join(pair)!r}, but {piece!r} is not a piece.")
        if pair in seen:
            raise ValueError(f"merge {i} is {' '.join(pair)!r}, which repeats an earlier one.")
        seen.add(pair)
