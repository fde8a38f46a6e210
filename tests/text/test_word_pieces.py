"""Tests of text.word_pieces, text.slices and text.masks.

Also: text.masks, text.slices, text.code_points.
"""

import re

import numpy as np
import pytest
import tensorflow as tf
from fixtures_encoders import PIECES
from fixtures_published import SENTENCEPIECE as MODEL

from keras_transformer.errors import InputError
from keras_transformer.export import runtime
from keras_transformer.export.tflite.convert import convert
from keras_transformer.text import (
    SPECIAL_TOKENS,
    BertTokenizer,
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    learn_byte_pairs,
    learn_characters,
    learn_vocabulary,
    learn_words,
)
from keras_transformer.text.masks import MASK_OPS, mask_name, tokenize_with_masks
from keras_transformer.text.slices import JOIN_OPS, owners, slices_of, words_between
from keras_transformer.text.word_pieces import WORD_OPS, padded, word_pieces, word_strings

LINES = ["the cat sat on the mat, größe", "a dog's 12 cats"] * 3
SPECIAL = (*SPECIAL_TOKENS, "[MASK]")
TOKENIZERS = {
    "bert": lambda: BertTokenizer(PIECES),
    "wordpiece": lambda: WordPieceTokenizer(learn_vocabulary(LINES, 60, special_tokens=SPECIAL)),
    "words": lambda: WordTokenizer(learn_words(LINES, 30, special_tokens=SPECIAL)),
    "characters": lambda: CharacterTokenizer(learn_characters(LINES, special_tokens=SPECIAL)),
    "byte_pairs": lambda: BytePairTokenizer(*learn_byte_pairs(LINES, 280, special_tokens=SPECIAL)),
    "sentencepiece": lambda: SentencePieceTokenizer.from_files(MODEL),
}
TEXTS = [
    "a cab, bed",
    " \t ",
    "",
    "  the  cat's\nmat ",
    "\x01 größe \x02\x01 a \x03",  # BERT leaves control characters out
    "größe",
    "\xa0a\u3000b c",  # only ASCII white space is between words
    "\x02",
]
MASKED = ["a [MASK] cab", "[MASK]", "", "the cat", " [MASK][MASK]\n[MASK [MASK", "x[MASK]y [MASK]."]


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


def in_lite(function, ops, folder, texts):
    """Run a function of text in LiteRT, where only custom ops that are named may be."""
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string, name="text")
    module.function = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(folder), {"function": module.function})
    path = folder / "function.tflite"
    path.write_bytes(convert(folder, ["function"], frozenset(ops)))
    rows = np.array([text.encode() for text in texts], object)
    return runtime.interpreter(path).get_signature_runner("function")(text=rows)


def lists(pieces):
    return {name: rows.to_list() for name, rows in pieces._asdict().items()}


# --- Words ----------------------------------------------------------------------------------------


def test_pieces_are_those_of_the_text_and_words_those_between_white_space(tokenizer):
    found = lists(word_pieces(tokenizer, tf.constant(TEXTS)))
    assert found["ids"] == tokenizer.tokenize(TEXTS).to_list()
    for i, text in enumerate(TEXTS):
        words = re.split(r"[\t\n\v\f\r ]+", text.strip("\t\n\v\f\r "))
        words = [word.encode() for word in words if word]
        assert found["words"][i] == words
        data = text.encode()
        spans = zip(found["begins"][i], found["ends"][i], strict=True)
        assert [data[a:b] for a, b in spans] == words


def test_a_word_knows_its_pieces_and_a_piece_its_word(tokenizer):
    found = lists(word_pieces(tokenizer, tf.constant(TEXTS)))
    for i in range(len(TEXTS)):
        for w, word in enumerate(found["words"][i]):
            place, count = found["places"][i][w], found["counts"][i][w]
            alone = tokenizer.tokenize([word]).to_list()[0]
            ids = found["ids"][i][place : place + count]
            if tokenizer.kind == "byte_pairs":  # a space before the word is a part of its first
                assert tokenizer.detokenize(tf.constant([ids])).numpy()[0].strip() == word
            else:
                assert ids == alone
            assert found["word"][i][place : place + count] == [w] * count
            assert found["first"][i][place : place + count] == [True, *[False] * count][:count]
        assert sum(found["first"][i]) == np.count_nonzero(found["counts"][i])


def test_words_without_pieces_do_not_move_the_others():
    found = lists(word_pieces(BertTokenizer(PIECES), tf.constant(TEXTS[4:5])))
    assert found["counts"] == [[0, 1, 0, 1, 0]]
    assert (found["word"], found["first"], found["places"][0][3]) == ([[1, 3]], [[True, True]], 1)


def test_byte_pairs_by_hand():
    tokenizer = TOKENIZERS["byte_pairs"]()
    found = lists(word_pieces(tokenizer, tf.constant(["  the  cat's\nmat "])))
    pieces = [tokenizer.vocabulary[i] for i in found["ids"][0]]
    assert pieces[:5] == ["Ġ", "Ġ", "the", "Ġ", "Ġcat"]
    # White space that is a piece of its own belongs to the word before it, if there is one.
    assert found["word"][0][:5] == [0, 0, 0, 0, 1]
    assert found["first"][0][:5] == [False, False, True, False, True]
    assert (found["places"][0][:2], found["counts"][0][0]) == ([2, 4], 1)


# One that cuts words, and one whose pieces are found by their bytes.
@pytest.mark.parametrize("kind", ["bert", "characters"])
def test_a_phone_and_a_data_set_find_the_same_words_and_masks(kind, tmp_path):
    tokenizer = TOKENIZERS[kind]()

    def dense(text):
        pieces = word_pieces(tokenizer, text)
        first = pieces.first.with_values(tf.cast(pieces.first.values, tf.int32))
        return {
            **{name: padded(getattr(pieces, name), -1) for name in ("ids", "word", "counts")},
            **{"places": padded(pieces.places, -1), "first": padded(first, -1)},
            "words": word_strings(text, pieces),
            "masked": padded(tokenize_with_masks(tokenizer, text), -1),
        }

    texts = TEXTS + MASKED
    wanted = {name: x.numpy() for name, x in dense(tf.constant(texts)).items()}
    got = in_lite(dense, WORD_OPS | MASK_OPS | tokenizer.custom_ops, tmp_path, texts)
    batches = tf.data.Dataset.from_tensors(texts).map(dense)
    for outputs in (got, next(batches.as_numpy_iterator())):
        assert outputs.keys() == wanted.keys()
        for name, values in wanted.items():
            assert np.array_equal(outputs[name], values), name
    words = [[w.decode() for w in row if w] for row in wanted["words"]]
    assert words[3] == ["the", "cat's", "mat"] and words[1] == words[2] == []
    assert tokenizer.mask_id in wanted["masked"] and tokenizer.mask_id not in wanted["ids"]


def test_pieces_that_span_words_are_refused():
    tokenizer = TOKENIZERS["sentencepiece"]()
    tokenizer.cuts_words_alone = False
    with pytest.raises(InputError, match=r"\(sentencepiece\) has pieces that span words"):
        word_pieces(tokenizer, tf.constant(["a"]))


# --- Parts of texts -------------------------------------------------------------------------------


def test_parts_of_texts_by_their_bytes(tmp_path):
    texts = ["ab  c\t\nd é", "xx", ""]

    def cut(text):
        begins, ends = tf.constant([[0, 4], [0, 2], [0, 0]]), tf.constant([[2, 5], [1, 2], [0, 0]])
        between = tf.constant([1, 0, 0]), tf.constant([11, 2, 0])
        return {"parts": slices_of(text, begins, ends), "words": words_between(text, *between)}

    ops = WORD_OPS | JOIN_OPS
    for outputs in (cut(tf.constant(texts)), in_lite(cut, ops, tmp_path, texts)):
        assert np.array(outputs["parts"]).tolist() == [[b"ab", b"c"], [b"x", b""], [b"", b""]]
        assert np.array(outputs["words"]).tolist() == ["b c d é".encode(), b"xx", b""]


def test_owners_count_stretches_that_are_empty():
    assert owners(tf.constant([0, 2, 2, 3, 5]), 5).numpy().tolist() == [0, 0, 2, 3, 3]
    assert owners(tf.constant([0, 0]), 0).numpy().tolist() == []


# --- Masks ----------------------------------------------------------------------------------------


def masked_by_hand(tokenizer, text):
    """Cut what is between the masks in Python."""
    stretches = text.split("[MASK]")
    if tokenizer.kind == "byte_pairs":
        stretches = [part.removesuffix(" ") for part in stretches[:-1]] + stretches[-1:]
    rows = tokenizer.tokenize(stretches).to_list()
    ids = rows[0]
    for row in rows[1:]:
        ids = [*ids, tokenizer.mask_id, *row]
    return ids


def test_the_name_of_the_mask_is_the_mask_and_nothing_else_is(tokenizer):
    if tokenizer.mask_id is None:
        with pytest.raises(InputError, match=r"\(sentencepiece\) has no mask in its vocabulary"):
            mask_name(tokenizer)
        return
    wanted = [masked_by_hand(tokenizer, text) for text in MASKED]
    assert [row.count(tokenizer.mask_id) for row in wanted] == [1, 1, 0, 0, 2, 2]
    assert tokenize_with_masks(tokenizer, tf.constant(MASKED)).to_list() == wanted
    # Elsewhere the name is text, as the pieces of a tokeniser never are special.
    assert tokenizer.mask_id not in tokenizer.tokenize(["[MASK]"]).to_list()[0]
