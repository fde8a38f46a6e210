"""Tests of training.data.augmentation; test_parallel_text.py has those in batches."""

import numpy as np
import pytest
import tensorflow as tf

from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID, UNKNOWN_ID
from keras_transformer.text import WordPieceTokenizer, learn_vocabulary
from keras_transformer.text.learner import SPECIAL_TOKENS
from keras_transformer.training.data.augmentation import VOCABULARIES, PieceDropout, token_dropout

IDS = np.random.default_rng(0).integers(0, 9, (200, 50)).astype("int32")
TEXTS = ["Two young men.", "The menu, [UNK] and [EOS]!", "", "young   youngsters 猫"]
TOKENIZER = WordPieceTokenizer(learn_vocabulary(20 * TEXTS, 100))
SPECIAL = np.isin(IDS, [PADDING_ID, BEGIN_ID, END_ID])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.7, 1.0])
def test_words_become_unknown_and_nothing_else_changes(rate):  # T18
    dropped = token_dropout(IDS, rate, (3, 4)).numpy()
    assert dropped.dtype == IDS.dtype
    changed = dropped != IDS
    assert not changed[SPECIAL].any()
    assert np.all(dropped[changed] == UNKNOWN_ID)
    words = ~SPECIAL & (IDS != UNKNOWN_ID)
    assert changed[words].mean() == pytest.approx(rate, abs=0.02)


def test_the_seed_decides_which():  # T18
    one = token_dropout(IDS, 0.5, (3, 4)).numpy()
    assert np.array_equal(one, token_dropout(IDS, 0.5, (3, 4)))
    for seed in ((3, 5), (4, 4)):
        assert not np.array_equal(one, token_dropout(IDS, 0.5, seed))


def test_text_is_cut_into_other_pieces_of_the_same_text():  # T18
    cut, plain = PieceDropout(TOKENIZER, 0.4, seed=1), TOKENIZER.tokenize(TEXTS)
    same_text = TOKENIZER.detokenize(plain)
    found = {tuple(cut.tokenize(TEXTS, (2, i)).flat_values.numpy()) for i in range(40)}
    assert 6 < len(found) <= VOCABULARIES
    for i in range(10):
        ids = cut.tokenize(TEXTS, (2, i))
        assert ids.dtype == plain.dtype
        assert np.array_equal(TOKENIZER.detokenize(ids), same_text)
        assert np.array_equal(ids.flat_values, cut.tokenize(TEXTS, (2, i)).flat_values)
        assert np.all(ids.row_lengths() >= plain.row_lengths())


@pytest.mark.parametrize("rate", [0.0, 0.999_999])
def test_at_the_ends_nothing_is_missing_or_all_but_the_characters(rate):  # T18
    ids = PieceDropout(TOKENIZER, rate, seed=1).tokenize(TEXTS, (2, 3))
    if not rate:
        assert ids.to_list() == TOKENIZER.tokenize(TEXTS).to_list()
        return
    pieces = [TOKENIZER.vocabulary[i] for i in ids[0].numpy()]
    assert pieces == ["T", "##w", "##o", "y", *(f"##{c}" for c in "oung"), "m", "##e", "##n", "##."]
    assert int(tf.reduce_sum(tf.cast(ids == UNKNOWN_ID, tf.int32))) == 1  # the literal one


def test_the_share_of_missing_pieces_is_the_rate():  # T18
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    letters = [*"abcdefghij", *(f"##{b}" for b in "klmnopqrst")]
    cut = PieceDropout(WordPieceTokenizer([*SPECIAL_TOKENS, *letters, *words]), 0.25, seed=1)
    lengths = [cut.tokenize(words, (0, i)).row_lengths() for i in range(50)]
    assert np.mean(lengths) - 1 == pytest.approx(0.25, abs=0.03)
