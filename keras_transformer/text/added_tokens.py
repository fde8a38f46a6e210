"""Tokens that were added to a vocabulary: found in the text before it is cut, in the graph.

A text is searched from left to right; of several tokens that begin at one place the longest is
taken, and what it covers is not looked at again. What lies between tokens is cut into pieces as if
each stretch were a text of its own. Those that are `normalized` are looked for after the others, in
what lies between them, after it was normalised.

Special tokens (padding, unknown, begin, end, mask) are never looked for: no text can forge one.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from keras_transformer._quiet import quiet_stderr
from keras_transformer._tensorflow import tf
from keras_transformer.text import unicode
from keras_transformer.text.between import cut_between
from keras_transformer.text.byte_trie import ByteTrie
from keras_transformer.text.code_points import BYTE_OPS, CodePointTable, characters, flags
from keras_transformer.text.slices import SLICE_OPS, owners
from keras_transformer.typing import Ragged, Size, Strings, Tensor

with quiet_stderr():
    from tensorflow_text.python.ops.byte_splitter import gen_byte_splitter

ADDED_OPS = BYTE_OPS | SLICE_OPS


@dataclasses.dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text as a whole.

    Args:
        content: How it is written.
        lstrip: Whether it takes the white space before it.
        rstrip: Whether it takes the white space behind it.
        single_word: Whether it counts only where no character of a word is beside it.
        normalized: Whether it is looked for in the normalised text, in its own normalised form.
        leading: Whether it counts only as the beginning of a text.

    Raises:
        ValueError: If it is empty or holds NUL or a line break.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    leading: bool = False

    def __post_init__(self) -> None:
        if not self.content or any(c in self.content for c in "\0\n\r"):
            raise ValueError(
                f"an added token is {self.content!r}: it can't be empty or hold NUL or a line "
                "break."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return its content and the fields that are true."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    @classmethod
    def from_dict(cls, fields: Any) -> Self:
        """Make a token of what `to_dict` returned.

        Raises:
            ValueError: If it is something else.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        good = (
            isinstance(fields, dict)
            and isinstance(fields.get("content"), str)
            and fields.keys() <= known
            and all(isinstance(v, bool) for k, v in fields.items() if k != "content")
        )
        if not good:
            raise ValueError(f"{fields!r} is not an added token.")
        return cls(**fields)


def read_added(tokens: Iterable[Any] | None) -> list[AddedToken]:
    """Make tokens of what their `to_dict` returned; of None none.

    Raises:
        ValueError: If one is something else.
    """
    return [AddedToken.from_dict(token) for token in tokens or []]


def span_words(tokens: Sequence[AddedToken]) -> bool:
    """Tell whether words cut on their own may give other tokens than the text that they are of."""
    return any(token.leading or len(f"_{token.content}_".split()) > 1 for token in tokens)


class AddedTokens:
    """Cuts text around added tokens.

    Args:
        tokens: The tokens.
        ids: The id of each, by content.
        special: Ids of special tokens, of which none may be looked for.
        normalize: Function from strings `(B,)` to normalised ones, if that is not themselves.

    Raises:
        ValueError: If a token has no id, is special or is listed twice.
    """

    def __init__(
        self,
        tokens: Sequence[AddedToken],
        ids: Mapping[str, int],
        special: Sequence[int | None] = (),
        normalize: Callable[..., Any] | None = None,
    ) -> None:
        seen: set[str] = set()
        for token in tokens:
            if token.content not in ids:
                raise ValueError(f"the added token {token.content!r} is not in the vocabulary.")
            if ids[token.content] in special:
                raise ValueError(f"the added token {token.content!r} is a special one.")
            if token.content in seen:
                raise ValueError(f"the added token {token.content!r} is listed twice.")
            seen.add(token.content)
        self._normalize = normalize or tf.identity
        plain = [token for token in tokens if not token.normalized]
        normal = [token for token in tokens if token.normalized]
        self._plain = self._normal = None
        if plain:
            self._plain = _Finder(plain, ids, [token.content.encode() for token in plain])
        if normal:
            with tf.init_scope():
                contents = self._normalize(tf.constant([token.content for token in normal]))
                contents = contents.numpy().tolist()
            if b"" in contents:
                name = normal[contents.index(b"")].content
                raise ValueError(f"nothing is left of the added token {name!r} when normalised.")
            self._normal = _Finder(normal, ids, contents)

    def cut(
        self, text: Strings, cut: Callable[..., Any], entries: Callable[..., Any] | None = None
    ) -> Ragged:
        """Find the tokens, and cut what lies between them.

        Args:
            text: String tensor `(B,)`.
            cut: Function from strings `(T,)` to a ragged int32 tensor of pieces.
            entries: Function from ids `(K,)` and sizes in bytes `(K,)` to what stands for the
                tokens among the pieces, if that is not their ids.

        Returns:
            Ragged int32 tensor, as `cut` returns it.
        """
        plain, normal = self._plain, self._normal

        def cut_normal(stretches: Strings) -> Ragged:
            if normal is None:
                return cut(stretches)
            return normal.cut(self._normalize(stretches), cut, entries)

        return cut_normal(text) if plain is None else plain.cut(text, cut_normal, entries)


class _Finder:
    """Finds some tokens in texts as they are."""

    def __init__(
        self, tokens: Sequence[AddedToken], ids: Mapping[str, int], contents: Sequence[bytes]
    ) -> None:
        self._trie = ByteTrie(contents)
        self._ids = tf.constant([ids[token.content] for token in tokens], tf.int32)
        self._marks = {
            name: tf.constant([getattr(token, name) for token in tokens])
            for name in ("lstrip", "rstrip", "single_word", "leading")
            if any(getattr(token, name) for token in tokens)
        }
        if self._marks.keys() - {"leading"}:
            self._white, self._word = (
                CodePointTable(unicode.members(table), 0)
                for table in (unicode.WHITE_SPACE, unicode.WORD)
            )

    def cut(
        self, text: Strings, cut: Callable[..., Any], entries: Callable[..., Any] | None
    ) -> Ragged:
        split = gen_byte_splitter.tf_text_byte_split_with_offsets(input_values=text)
        values, rows = tf.cast(split[0], tf.int32), tf.cast(split[1], tf.int32)
        which = owners(rows[:-1], tf.shape(values)[0])  # the text of each byte
        starts, sizes, found = self._trie.find(values, which)
        if "leading" in self._marks:
            at_start = tf.equal(starts, tf.gather(rows, tf.gather(which, starts)))
            kept = tf.logical_or(at_start, tf.logical_not(tf.gather(self._marks["leading"], found)))
            kept = tf.where(kept)[:, 0]
            starts, sizes, found = (tf.gather(x, kept) for x in (starts, sizes, found))
        kept = _one_after_the_other(starts, starts + sizes, tf.shape(values)[0])
        starts, sizes, found = (tf.gather(x, kept) for x in (starts, sizes, found))
        begins, ends = starts, starts + sizes
        if self._marks.keys() - {"leading"}:
            begins, ends, found = self._look_around(text, which, rows, begins, ends, found)
        of = tf.gather(which, begins)
        ids = tf.gather(self._ids, found)
        entries = ids if entries is None else entries(ids, ends - begins)
        shift = tf.gather(rows, of)
        return cut_between(text, rows, of, begins - shift, ends - shift, entries, cut)

    def _look_around(
        self,
        text: Strings,
        which: Tensor,
        rows: Tensor,
        begins: Tensor,
        ends: Tensor,
        found: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Leave out tokens that are no words of their own, and take white space beside others."""
        chars = characters(text)
        size, count = tf.shape(which)[0], tf.shape(chars.codes)[0]
        # The number of characters that begin before each byte, and behind the last.
        before = tf.cumsum(tf.cast(flags(chars.places, size + 1), tf.int32), exclusive=True)
        if "single_word" in self._marks:
            words = tf.concat([self._word.look_up(chars.codes), [0]], 0) > 0
            left = tf.gather(before, begins)  # the character that the token begins with
            right = tf.gather(before, ends)  # the one behind it
            opens = tf.gather(rows, tf.gather(which, begins))
            closes = tf.gather(rows, tf.gather(which, begins) + 1)
            beside = tf.logical_and(begins > opens, tf.gather(words, tf.maximum(left - 1, 0)))
            beside = tf.logical_or(beside, tf.logical_and(ends < closes, tf.gather(words, right)))
            alone = tf.logical_not(
                tf.logical_and(beside, tf.gather(self._marks["single_word"], found))
            )
            kept = tf.where(alone)[:, 0]
            begins, ends, found = (tf.gather(x, kept) for x in (begins, ends, found))
        of = tf.gather(which, begins)
        black = tf.equal(self._white.look_up(chars.codes), 0)  # what is no white space
        solid = tf.cast(tf.where(black)[:, 0], tf.int32)
        solid = tf.concat([[-1], solid, tf.expand_dims(count, 0)], 0)
        solid_before = tf.concat([[0], tf.cumsum(tf.cast(black, tf.int32))], 0)
        places = tf.concat([chars.places, tf.expand_dims(size, 0)], 0)
        if "rstrip" in self._marks:
            after = tf.gather(solid, tf.gather(solid_before, tf.gather(before, ends)) + 1)
            after = tf.minimum(tf.gather(places, after), tf.gather(rows, of + 1))
            ends = tf.where(tf.gather(self._marks["rstrip"], found), after, ends)
        if "lstrip" in self._marks:
            back = tf.gather(solid, tf.gather(solid_before, tf.gather(before, begins))) + 1
            back = tf.maximum(tf.gather(places, back), tf.gather(rows, of))
            begins = tf.where(tf.gather(self._marks["lstrip"], found), back, begins)
        begins = tf.maximum(begins, tf.concat([[0], ends], 0)[:-1])  # not what was taken already
        return begins, tf.maximum(begins, ends), found


def _one_after_the_other(begins: Tensor, ends: Tensor, size: Size) -> Tensor:
    """Choose from the left what does not overlap: int64 indices.

    Each leads to the next that begins where it ends or later. Those that the first leads to are
    found by steps of 1, 2, 4 and so on.

    Args:
        begins: Int32 `(M,)`, ascending.
        ends: Int32 `(M,)`.
        size: No end is beyond it.
    """
    count = tf.shape(begins)[0]
    before = tf.cumsum(tf.cast(flags(begins, size + 1), tf.int32), exclusive=True)
    leads = tf.concat([tf.gather(before, ends), tf.expand_dims(count, 0)], 0)
    reached = flags(tf.zeros([1], tf.int32), count + 1)

    def step(width: Tensor, leads: Tensor, reached: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        there = flags(tf.gather(leads, tf.where(reached)[:, 0]), count + 1)
        return width * 2, tf.gather(leads, leads), tf.logical_or(reached, there)

    flat = tf.TensorShape([None])
    _, _, reached = tf.while_loop(
        lambda width, leads, reached: width < count,
        step,
        [tf.constant(1), leads, reached],
        shape_invariants=[tf.TensorShape([]), flat, flat],
    )
    return tf.where(reached[:-1])[:, 0]
