"""Tests of keras_transformer.pipelines.streaming."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_transformer.artefacts.bulk import translate
from keras_transformer.artefacts.text_to_text import TextToText
from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.models.config import END_ID
from keras_transformer.pipelines.streaming import Stream
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer

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
    # A step takes what the last one gave, whatever the lengths of texts before.
    again = [list(translator.stream(text)) for text in reversed(TEXTS)]
    assert again[::-1] == pieces


def test_a_stream_that_was_left_does_not_touch_the_next(model):
    translator = make_translator(model, temperature=2.0)
    whole = list(translator.stream(TEXTS[2]))
    assert len(whole) > 2
    left, other = translator.stream(TEXTS[2]), translator.stream(TEXTS[3])
    assert next(left) == whole[0]
    next(other)
    assert list(left) == whole[1:]


@pytest.mark.parametrize(
    ("options", "rest"),
    [
        ({"beam_size": 4, "num_hypotheses": 2, "min_length": 5}, {"min_length": 5}),
        (
            {"temperature": 1.0, "num_hypotheses": 2, "seed": 3},
            {"temperature": 1.0, "seed": 3},
        ),
    ],
    ids=["beam", "samples"],
)
def test_several_hypotheses_can_not_be_streamed_but_one_can_be_drafted(model, options, rest):
    translator = make_translator(model, **options)
    assert not {"stream_start", "stream_step"} & translator.signatures
    with pytest.raises(InputError, match="Streaming follows one hypothesis"):
        next(translator.stream("a c"))
    drafts = ["".join(translator.draft(text)) for text in TEXTS]
    assert drafts == translate(make_translator(model, **rest), TEXTS).texts
    assert drafts != translate(translator, TEXTS).texts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 4}, "follows one hypothesis, got beam_size=4"),
        ({"temperature": 1.0, "num_hypotheses": 2}, "follows one hypothesis, got num_hypotheses=2"),
    ],
)
def test_a_stream_of_several_hypotheses_is_not_made(model, options, message):
    translator = make_translator(model)
    with pytest.raises(InputError, match=message):
        Stream(model, translator.tokenizer, GenerationOptions(**options))


# --- Bytes ----------------------------------------------------------------------------------------


class Bytes:
    """Spells text byte by byte: no tokeniser of ours does, but one may give half a character."""

    def __init__(self, text):
        self.pieces = [b""] * 4 + [bytes([byte]) for byte in text]

    def detokenize(self, ids):
        return tf.strings.reduce_join(tf.gather(self.pieces, ids), axis=1)


class Writing(TextToText):
    """A stream over a model that writes each byte once, in order; it counts its steps."""

    signatures = frozenset({"stream_start", "stream_step"})

    def __init__(self, text):
        size = len(text) + 4

        def step(inputs):
            ids, index, caches = inputs[:3]
            token = ops.where(index < len(text), index + 4, END_ID)
            return 9.0 * ops.one_hot(ops.zeros_like(ids) + token, size), caches

        model = SimpleNamespace(
            config=SimpleNamespace(max_length=64, padding_id=0, begin_id=2, end_id=END_ID),
            encoder=lambda ids: (ops.zeros((1, 1, 1)), []),
            empty_caches=lambda batch, length: ops.zeros((batch, 1, length)),
            grow_caches=lambda caches, slots: ops.zeros((1, 1, slots)),
            decoder_step=step,
        )
        self.stream_of_ids = Stream(model, Bytes(text), GenerationOptions())
        self.steps = 0

    def call(self, signature, **inputs):
        if signature == "stream_start":
            outputs = self.stream_of_ids.start(tf.constant([[4, END_ID]]))
        else:
            self.steps += 1
            outputs = self.stream_of_ids.step(**inputs)
        return {name: np.array(x) for name, x in outputs.items()}


def test_no_half_character_is_shown_and_whole_ones_come_at_once():
    writing = Writing("é猫x😀".encode())
    shown = [(piece, writing.steps) for piece in writing.stream("x")]
    # The step that completes each; the end token came after all of them.
    assert shown == [("é", 2), ("猫", 5), ("x", 6), ("😀", 10)]
    assert writing.steps == 11


@pytest.mark.parametrize("cut", [b"\xc3", "é".encode() + "猫".encode()[:2]])
def test_a_text_that_ends_within_a_character_is_shown_as_translate_shows_it(cut):
    assert "".join(Writing(cut).stream("x")) == cut.decode("utf-8", errors="replace")
