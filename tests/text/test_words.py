"""Tests of keras_transformer.text.words."""

import pytest
import tensorflow as tf
from fixtures_text import lite, saved
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_transformer.text import SPECIAL_TOKENS, WordTokenizer, learn_words

SEEN = ["he walked , walking walker talk", "he walked"]


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer(learn_words(SEEN, 100))


@pytest.fixture(scope="module")
def on_a_phone(tokenizer, tmp_path_factory):
    return lite(tokenizer, tmp_path_factory.mktemp("words"))


def there_and_back(tokenizer, *texts):
    joined = tokenizer.detokenize(tokenizer.tokenize(tf.constant(texts, tf.string)))
    return [text.decode() for text in joined.numpy()]


def test_words_are_what_white_space_separates(tokenizer):  # K01
    ids = tokenizer.tokenize(["he  walked\t,\nhe", "", " "]).to_list()
    assert [[tokenizer.vocabulary[i] for i in row] for row in ids] == [
        ["he", "walked", ",", "he"],
        [],
        [],
    ]


def test_unseen_words_are_lost(tokenizer):  # K01, K03
    # None of the forms of a known word help with another.
    unseen = ["talked", "walks", "talking"]
    assert there_and_back(tokenizer, *unseen) == ["[UNK]"] * 3
    assert there_and_back(tokenizer, "he talked , walker") == ["he [UNK] , walker"]
    assert there_and_back(tokenizer, "he walked,") == ["he [UNK]"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["he", "talk", "talked", "hehe", "[PAD]", "[UNK]", "he\x11", "é", ","]),
            max_size=8,
        ),
        min_size=1,
        max_size=4,
    )
)
@example([["he\x11", "\x11", "[EOS]", "h"]])
def test_words_are_looked_up_whole(tokenizer, on_a_phone, rows):  # K03, K11
    learned = tokenizer.vocabulary[len(SPECIAL_TOKENS) :]
    expected = [
        [learned.index(word) + len(SPECIAL_TOKENS) if word in learned else 1 for word in row]
        for row in rows
    ]
    texts = [" ".join(row) for row in rows]
    assert tokenizer.tokenize(tf.constant(texts, tf.string)).to_list() == expected
    assert on_a_phone.tokenize(texts) == expected
    joined = [" ".join(tokenizer.vocabulary[i] for i in row).encode() for row in expected]
    assert on_a_phone.detokenize(expected) == joined


def test_bytes_that_are_no_text_make_their_word_unknown(tokenizer):
    assert there_and_back(tokenizer, b"he \xff he\xc3 talk") == ["he [UNK] [UNK] talk"]


def test_special_ids_are_left_out_and_wrong_ones_are_unknown(tokenizer):
    he = tokenizer.vocabulary.index("he")
    rows = [[2, he, he, 3, 0], [he, 1, -1, len(tokenizer), he]]
    joined = tokenizer.detokenize(tf.constant(rows)).numpy().tolist()
    assert joined == [b"he he", b"he [UNK] [UNK] [UNK] he"]


def test_the_most_frequent_words_are_learned():  # K10
    texts = ["b a c a", "a b d"]
    assert learn_words(texts, 6) == [*SPECIAL_TOKENS, "a", "b"]
    assert learn_words(texts, 99) == [*SPECIAL_TOKENS, "a", "b", "c", "d"]
    assert learn_words(texts, 99, min_frequency=2) == [*SPECIAL_TOKENS, "a", "b"]
    special = (*SPECIAL_TOKENS, "[MASK]")
    tokenizer = WordTokenizer(learn_words(["a [MASK] [PAD]"], 9, special_tokens=special))
    assert tokenizer.vocabulary == [*special, "a"] and tokenizer.mask_id == 4
    assert tokenizer.tokenize(["a [MASK] [PAD]"]).to_list() == [[5, 1, 1]]
    with pytest.raises(ValueError, match="vocabulary_size is 4; it must be more than the 4"):
        learn_words(texts, 4)
    with pytest.raises(TypeError, match="texts is one string"):
        learn_words("a b", 9)


def test_it_works_in_a_data_set_and_in_a_saved_model(tokenizer, tmp_path):
    texts = ["he talked", "", "walker ,"]
    ids = tokenizer.tokenize(texts).to_list()
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(2).map(tokenizer.tokenize)
    assert [row for batch in batches for row in batch.to_list()] == ids
    model = tf.saved_model.load(str(saved(tokenizer, tmp_path)))
    found = model.signatures["tokenize"](text=tf.constant(texts))
    assert tf.RaggedTensor.from_tensor(found["ids"], lengths=found["counts"]).to_list() == ids


def test_a_saved_vocabulary_keeps_its_ids(tokenizer, tmp_path):  # K11
    tokenizer.save(tmp_path / "words.txt")
    assert WordTokenizer.load(tmp_path / "words.txt").vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "utf-8"),
        (b"a\n", "begins with"),
        (b"[PAD]\n[UNK]\n[BOS]\n[EOS]\na\na\n", "'a' is in the vocabulary twice"),
        (b"[PAD]\n[UNK]\n[BOS]\n[EOS]\na b\n", "piece 4 is 'a b'"),
        (b"[PAD]\n[UNK]\n[BOS]\n[EOS]\n\n", "piece 4 is ''"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"words\.txt is not a vocabulary of words") as error:
        WordTokenizer.load(path)
    error.match(message)
