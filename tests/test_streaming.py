"""Tests of keras_transformer.streaming."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import END_ID
from keras_transformer.streaming import Stream
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer
from keras_transformer.translation import translate
from keras_transformer.translator import Translator

PIECES = ["a", "##b", "é", "##é", "猫", "##猫", "😀", "##😀", "c"]  # of one to four bytes
TEXTS = ["a c", "", "é猫 ab", "😀😀 猫 c", "c", "  ", "abbb a é é é 猫", "c " * 60]
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@pytest.fixture(scope="module")
def model():
    config = TransformerConfig(
        13, 1, 2, 8, 16, max_length=24, positions="learned", tie_embeddings=False
    )
    model = Transformer(config)
    rng = np.random.default_rng(7)
    model.set_weights(
        [0.7 * rng.normal(size=w.shape) if w.ndim == 2 else w for w in model.get_weights()]
    )
    return model


def make_translator(model, **options):
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, *PIECES])
    return Translator(model, tokenizer, GenerationOptions(**options))


@pytest.mark.parametrize(
    "options",
    [{"no_repeat_ngram": 2, "min_length": 20}, {"temperature": 2.0, "seed": 3}],
    ids=["greedy", "sampling"],
)
def test_pieces_joined_are_what_translate_gives(model, options):
    translator = make_translator(model, **options)
    pieces = [list(translator.stream(text)) for text in TEXTS]
    expected = translate(translator, TEXTS).texts
    assert ["".join(some) for some in pieces] == expected
    assert all(pieces for some in pieces for pieces in some)  # none is empty
    assert REPLACEMENT not in "".join(expected)
    # The example is worth it: characters of all widths, and more tokens than caches begin with.
    assert {len(c.encode()) for text in expected for c in text} == {1, 2, 3, 4}
    assert max(len(some) for some in pieces) > 16
    assert pieces[1] == pieces[5] == []
    # Traced once, whatever the lengths.
    stream = translator._stream
    functions = (stream._start, stream._grow, stream._advance)
    assert [function.experimental_get_tracing_count() for function in functions] == [1, 1, 1]


def test_a_stream_that_was_left_does_not_touch_the_next(model):
    translator = make_translator(model, temperature=2.0)
    whole = list(translator.stream(TEXTS[2]))
    assert len(whole) > 2
    left, other = translator.stream(TEXTS[2]), translator.stream(TEXTS[3])
    assert next(left) == whole[0]
    next(other)
    assert list(left) == whole[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 4}, "follows one hypothesis, got beam_size=4"),
        ({"temperature": 1.0, "num_hypotheses": 2}, "follows one hypothesis, got num_hypotheses=2"),
    ],
)
def test_several_hypotheses_can_not_be_streamed(model, options, message):
    translator = make_translator(model, **options)
    with pytest.raises(InputError, match=message):
        translator.stream("a c")


# --- Bytes ----------------------------------------------------------------------------------------


class Bytes:
    """Spells text byte by byte: no tokeniser of ours does, but one may give half a character."""

    def __init__(self, text):
        self.pieces = [b""] * 4 + [bytes([byte]) for byte in text]

    def detokenize(self, ids):
        return tf.strings.reduce_join(tf.gather(self.pieces, ids), axis=1)


def writing(text):
    """A stream over a model that writes each byte once, in order."""
    size = len(text) + 4

    def step(inputs):
        ids, index, caches = inputs[:3]
        token = ops.where(index < len(text), index + 4, END_ID)
        return 9.0 * ops.one_hot(ops.zeros_like(ids) + token, size), caches

    model = SimpleNamespace(
        config=SimpleNamespace(max_length=64),
        encoder=lambda ids: (ops.zeros((1, 1, 1)), []),
        empty_caches=lambda batch, length: ops.zeros((batch, 1, length)),
        grow_caches=lambda caches, slots: caches,
        decoder_step=step,
    )
    return Stream(model, Bytes(text), GenerationOptions())


SOURCE = tf.constant([[4, END_ID]])


def test_no_half_character_is_shown_and_whole_ones_come_at_once():
    stream = writing("é猫x😀".encode())
    pieces = list(stream(SOURCE))
    assert pieces == ["é", "猫", "x", "😀"]
    steps, shown_after = [], []
    advance = stream._advance

    def count(state):
        steps.append(1)
        return advance(state)

    stream._advance = count
    for _ in stream(SOURCE):
        shown_after.append(len(steps))
    assert shown_after == [2, 5, 6, 10]  # the step that completes each
    assert len(steps) == 11  # the end token came after all of them


@pytest.mark.parametrize("cut", [b"\xc3", "é".encode() + "猫".encode()[:2]])
def test_a_text_that_ends_within_a_character_is_shown_as_translate_shows_it(cut):
    assert "".join(writing(cut)(SOURCE)) == cut.decode("utf-8", errors="replace")
