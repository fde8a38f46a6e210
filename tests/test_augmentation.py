"""Tests of keras_transformer.training.augmentation; tests/test_data.py has those in batches."""

import numpy as np
import pytest

from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID, UNKNOWN_ID
from keras_transformer.training.augmentation import token_dropout

IDS = np.random.default_rng(0).integers(0, 9, (200, 50)).astype("int32")
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
