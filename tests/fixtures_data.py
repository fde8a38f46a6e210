"""Parallel text for tests of the data, and what batches of it hold."""

import functools
import gzip
import random

import numpy as np
import pytest

from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer
from keras_transformer.training.data.corpora import ParallelFiles

TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, *"abcdefgh", *("##" + c for c in "abcdefgh")])


def write_pairs(folder, pairs, ending=""):
    sides = list(zip(*pairs, strict=True)) or [(), ()]
    files = [folder / f"{name}.txt{ending}" for name in ("source", "target")]
    for path, lines in zip(files, sides, strict=True):
        content = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content) if ending else content)
    return ParallelFiles(*files)


@pytest.fixture
def write(tmp_path):
    """Writes parallel text, given as pairs of lines."""
    return functools.partial(write_pairs, tmp_path)


def random_pairs(seed, count=300, longest=40):
    """Pairs of all lengths, 0 included, in letters that are a piece each."""
    rng = random.Random(seed)

    def text():
        return "".join(rng.choices("abcdefgh ", k=rng.choice([*range(12), longest])))

    return [(text(), text()) for _ in range(count)]


def ids(text):
    return TOKENIZER.tokenize([text]).to_list()[0]


def rows(batches):
    """What a data set delivers, without padding: (source, decoder's input, labels) of each pair."""

    def real(row):
        row = row.tolist()
        length = len(row) - next((i for i, x in enumerate(reversed(row)) if x != PADDING_ID), 0)
        return tuple(row[:length])

    return [
        tuple(real(side) for side in triple)
        for inputs, labels in batches
        for triple in zip(inputs["source_ids"], inputs["target_ids"], labels, strict=True)
    ]


def expected_rows(pairs, max_length):
    """What should be delivered, pair by pair."""
    sides = (TOKENIZER.tokenize(list(texts)).to_list() for texts in zip(*pairs, strict=True))
    return [
        ((*source, END_ID), (BEGIN_ID, *target), (*target, END_ID))
        for source, target in zip(*sides, strict=True)
        if source and target and max(len(source), len(target)) < max_length
    ]


def same_batches(one, other):
    """Whether two lists of batches are equal to the last id."""
    return len(one) == len(other) and all(
        np.array_equal(a_labels, b_labels)
        and all(np.array_equal(a_inputs[name], b_inputs[name]) for name in a_inputs)
        for (a_inputs, a_labels), (b_inputs, b_labels) in zip(one, other, strict=True)
    )
