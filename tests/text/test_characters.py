"""Tests of keras_transformer.text.characters."""

import json

import pytest
import tensorflow as tf
from fixtures_text import lite, saved
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_transformer.text import SPECIAL_TOKENS, CharacterTokenizer, learn_characters

ALPHABET = "ab é猫\U0001f680\n\t\0[]PADUNKEOS"


@pytest.fixture(scope="module")
def tokenizer():
    return CharacterTokenizer(learn_characters([ALPHABET]))


@pytest.fixture(scope="module")
def on_a_phone(tokenizer, tmp_path_factory):
    return lite(tokenizer, tmp_path_factory.mktemp("characters"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(ALPHABET, max_size=30), min_size=1, max_size=5))
@example(["", "a", "\n", " \t ", ""])
def test_no_text_over_the_alphabet_is_unknown(tokenizer, on_a_phone, texts):  # K02
    ids = tokenizer.tokenize(tf.constant(texts, tf.string))
    pieces = [[tokenizer.vocabulary[i] for i in row] for row in ids.to_list()]
    assert pieces == [list(text) for text in texts]
    back = [text.encode() for text in texts]
    assert tokenizer.detokenize(ids).numpy().tolist() == back
    assert on_a_phone.tokenize(texts) == ids.to_list()
    assert on_a_phone.detokenize(ids.to_list()) == back


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aqb", "a[UNK]b"),
        ("\N{FIRE}猫é", "[UNK]猫é"),
        (b"a\xffb", "a[UNK]b"),
        (b"a\x80", "a[UNK]"),
        (b"\xe7\x8cb", "[UNK]b"),
        (b"\xe0\x80\x80", "[UNK]"),  # a NUL, written too long
        (b"\xed\xa0\x80", "[UNK]"),
        (b"\xf4\x90\x80\x80", "[UNK]"),
        (b"\xc3\xa9\xa9", "[UNK]"),
    ],
)
def test_what_is_not_known_is_unknown_and_nothing_else(tokenizer, on_a_phone, text, expected):
    ids = tokenizer.tokenize(tf.constant(["ab", text, "é"], tf.string))
    expected = [b"ab", expected.encode(), "é".encode()]
    assert tokenizer.detokenize(ids).numpy().tolist() == expected
    assert on_a_phone.tokenize(["ab", text, "é"]) == ids.to_list()


def test_text_never_gives_a_special_id(tokenizer):  # K11
    (ids,) = tokenizer.tokenize(["[PAD][UNK][EOS]"]).to_list()
    assert min(ids) >= len(SPECIAL_TOKENS) and len(ids) == 15


def test_special_ids_are_left_out_and_wrong_ones_are_unknown(tokenizer, on_a_phone):
    a = tokenizer.vocabulary.index("a")
    rows = [[2, a, 3, 0, 0], [a, 1, -1, len(tokenizer), a]]
    expected = [b"a", b"a[UNK][UNK][UNK]a"]
    assert tokenizer.detokenize(tf.constant(rows)).numpy().tolist() == expected
    assert on_a_phone.detokenize(rows) == expected


def test_texts_are_longer_than_in_words(tokenizer):  # K02
    text = "ab é ab 猫 ba"
    assert len(tokenizer.tokenize([text]).to_list()[0]) == len(text) > len(text.split())


def test_the_alphabet_is_learned():
    texts = ["banana\n", "cab"]
    assert learn_characters(texts) == [*SPECIAL_TOKENS, "\n", "a", "b", "c", "n"]
    assert learn_characters(texts, 6) == [*SPECIAL_TOKENS, "a", "b"]
    special = (*SPECIAL_TOKENS, "[MASK]")
    tokenizer = CharacterTokenizer(learn_characters(texts, special_tokens=special))
    assert tokenizer.mask_id == 4
    assert tokenizer.detokenize(tf.constant([[4, 6]])).numpy().tolist() == [b"a"]
    with pytest.raises(ValueError, match="vocabulary_size is 4; it must be more than the 4"):
        learn_characters(texts, 4)
    with pytest.raises(TypeError, match="texts is one string"):
        learn_characters("abc")


def test_it_works_in_a_data_set_and_in_a_saved_model(tokenizer, tmp_path):
    texts = ["ab", "", "é 猫"]
    ids = tokenizer.tokenize(texts).to_list()
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(tokenizer.tokenize)
    assert [row for batch in batches for row in batch.to_list()] == ids
    model = tf.saved_model.load(str(saved(tokenizer, tmp_path)))
    found = model.signatures["tokenize"](text=tf.constant(texts))
    assert tf.RaggedTensor.from_tensor(found["ids"], lengths=found["counts"]).to_list() == ids


def test_a_saved_vocabulary_keeps_its_ids(tokenizer, tmp_path):  # K11
    tokenizer.save(tmp_path / "characters.json")
    loaded = CharacterTokenizer.load(tmp_path / "characters.json")
    assert loaded.vocabulary == tokenizer.vocabulary and len(loaded) == len(tokenizer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "utf-8"),
        (b"[", "is not a vocabulary"),
        (b"{}", "it is not a list of strings"),
        (b"[1]", "it is not a list of strings"),
        (json.dumps(["a"]).encode(), "begins with"),
        (json.dumps([*SPECIAL_TOKENS, "a", "a"]).encode(), "'a' is in the vocabulary twice"),
        (json.dumps([*SPECIAL_TOKENS, "ab"]).encode(), "piece 4 is 'ab', which is not one"),
        (json.dumps([*SPECIAL_TOKENS, "\ud800"]).encode(), "which is not one character"),
        (json.dumps([*SPECIAL_TOKENS, "a", "[MASK]"]).encode(), r"piece 5 is '\[MASK\]'"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, content, message):
    path = tmp_path / "characters.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"characters\.json is not a vocabulary") as error:
        CharacterTokenizer.load(path)
    error.match(message)
