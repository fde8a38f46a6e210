"""Tests of keras_transformer.artefacts.bulk, with a stand-in for what translates.

Also: artefacts.text_to_text.
"""

import numpy as np
import pytest

from keras_transformer.artefacts.bulk import (
    batches_of_tokens,
    measure,
    score_lines,
    translate,
    translate_lines,
)
from keras_transformer.artefacts.text_to_text import Alignment, decode

LIMIT = 9  # tokens that the stand-in takes, the end token included


class Words:
    """Cuts text into words, and writes each text in capitals."""

    def __init__(self, width=1):
        self.width = width
        self.batches = []

    def tokenize(self, texts):
        counts = [len(text.split()) for text in texts]
        ids = np.zeros((len(texts), max(counts, default=0)), "int32")
        for row, count in zip(ids, counts, strict=True):
            row[:count] = 5
        return ids, np.array([count >= LIMIT for count in counts], bool)

    def run(self, texts):
        self.batches.append(list(texts))
        outputs = [[text.upper() + "!" * i for i in range(self.width)] for text in texts]
        # A text of one word has one hypothesis, and a text of none has one too.
        real = [len(text.split()) > 1 for text in texts]
        scores = [
            [-float(len(text)) - i if r or i == 0 else -np.inf for i in range(self.width)]
            for text, r in zip(texts, real, strict=True)
        ]
        return outputs, scores

    def score(self, texts, targets):
        self.batches.append(list(zip(texts, targets, strict=True)))
        pairs = [(len(a.split()), len(b.split())) for a, b in zip(texts, targets, strict=True)]
        scores = np.array([-10.0 * a - b for a, b in pairs], "float32")
        tokens = np.array([b + 1 for _, b in pairs], "int32")
        return scores, tokens, np.array([max(pair) >= LIMIT for pair in pairs])


def texts_of(counts):
    return [" ".join(f"{number}w" for _ in range(count)) for number, count in enumerate(counts)]


# --- Batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_tokens", [1, 7, 20, 64, 1000])
def test_batches_hold_at_most_so_many_tokens_with_their_padding(rng, batch_tokens):
    lengths = rng.integers(1, 30, 200).tolist()
    batches = list(batches_of_tokens(lengths, batch_tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= batch_tokens or len(batch) == 1  # a longer line is alone
    # None could take more: the next lines are no longer than the longest of the batch.
    for batch in batches[:-1]:
        step = 1 if len(batch) < 8 else 8  # of few numbers, each of which costs kernels
        assert len(batch) % step == 0
        assert (len(batch) + step) * lengths[batch[0]] > batch_tokens


def test_the_longest_come_first_and_equal_ones_stay_in_order():
    assert list(batches_of_tokens([2, 9, 4, 4, 2, 4], 8)) == [[1], [2, 3], [5, 0], [4]]
    assert list(batches_of_tokens([], 8)) == []


def test_lengths_count_the_end_token_and_what_is_cut_is_named():
    counts = [0, 3, *[1] * 40, LIMIT - 1, LIMIT, *[2] * 30, 50]
    lengths, truncated = measure(Words(), texts_of(counts))
    assert lengths == [count + 1 for count in counts]
    assert truncated == [43, 74]
    assert measure(Words(), []) == ([], [])


# --- translate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_tokens", [1, 12, 1000])
def test_the_order_is_that_of_the_input(rng, batch_tokens):
    texts = texts_of(rng.integers(0, 12, 60))
    words, done = Words(), []
    result = translate(words, texts, batch_tokens, done.append)
    assert result.texts == [text.upper() for text in texts]
    assert result.scores == [-float(len(text)) for text in texts]
    assert result.truncated == [i for i, text in enumerate(texts) if len(text.split()) >= LIMIT]
    assert done == [len(batch) for batch in words.batches]
    longest = [max(len(text.split()) for text in batch) for batch in words.batches]
    assert longest == sorted(longest, reverse=True)
    assert translate(words, []).texts == []


def test_hypotheses_that_do_not_exist_are_left_out():
    texts = ["a b", "a", "", "a b c"]
    result = translate(Words(width=3), texts, batch_tokens=1)
    assert result.hypotheses == [
        [("A B", -3), ("A B!", -4), ("A B!!", -5)],
        [("A", -1)],
        [("", 0)],
        [("A B C", -5), ("A B C!", -6), ("A B C!!", -7)],
    ]
    assert result.texts == ["A B", "A", "", "A B C"]
    assert result.scores == [-3, -1, 0, -5]
    assert result.several
    assert not translate(Words(width=1), texts).several


def test_the_first_hypothesis_stays_even_if_nothing_was_allowed():
    words = Words(width=2)
    words.run = lambda texts: ([["", ""] for _ in texts], [[-np.inf, -np.inf] for _ in texts])
    result = translate(words, ["a b"])
    assert (result.texts, result.hypotheses) == ([""], [[("", -np.inf)]])


# --- Any number of lines --------------------------------------------------------------------------


def counted(lines, pulled):
    for line in lines:
        pulled.append(line)
        yield line


def test_lines_are_read_as_they_are_needed_and_come_in_order():
    texts = texts_of([(7 * i) % 11 for i in range(23)])
    pulled, got, truncated = [], [], []
    parts = translate_lines(Words(), counted(texts, pulled), 12, lines_at_once=5)
    assert pulled == []
    for number, part in enumerate(parts, start=1):
        assert len(pulled) == min(5 * number, 23)  # never more than this part
        truncated += [len(got) + i for i in part.truncated]
        got += part.texts
    assert got == [text.upper() for text in texts]
    assert truncated == translate(Words(), texts).truncated != []
    assert list(translate_lines(Words(), [])) == []


def test_pairs_are_scored_as_they_are_needed_and_come_in_order():
    counts = [((4 * i) % 11, (5 * i) % 8) for i in range(23)]
    sources, targets = (texts_of([pair[side] for pair in counts]) for side in (0, 1))
    pulled, words, done = [], Words(), []
    pairs = counted(zip(sources, targets, strict=True), pulled)
    scores, tokens, truncated = [], [], []
    parts = score_lines(words, pairs, 12, done.append, lines_at_once=10)
    for number, part in enumerate(parts, start=1):
        assert len(pulled) == min(10 * number, 23)
        truncated += [len(scores) + i for i in part.truncated]
        scores += part.scores
        tokens += part.tokens
    assert scores == [-10.0 * a - b for a, b in counts]
    assert tokens == [b + 1 for _, b in counts]
    assert truncated == [i for i, pair in enumerate(counts) if max(pair) >= LIMIT]
    assert sum(done) == 23
    for batch in words.batches:  # the longer side counts
        longest = max(len(text.split()) + 1 for pair in batch for text in pair)
        assert len(batch) * longest <= 12 or len(batch) == 1


def test_an_alignment_is_without_padding():
    weights = np.arange(24, dtype="float32").reshape(2, 3, 4)
    one, two = Alignment.of_batch(
        np.array([[5, 6, 7, 3], [5, 3, -1, -1]]), np.array([[8, 3, -1], [8, 9, 3]]), weights
    )
    assert (one.source_ids, one.target_ids) == ([5, 6, 7, 3], [8, 3])
    assert (two.source_ids, two.target_ids) == ([5, 3], [8, 9, 3])
    assert one.weights.tolist() == weights[0, :2].tolist()
    assert two.weights.tolist() == weights[1, :, :2].tolist()


def test_bytes_become_strings_as_deep_as_they_are_nested():
    assert decode([[b"a", "é".encode()], [b"\xff", b""]]) == [
        ["a", "é"],
        ["\N{REPLACEMENT CHARACTER}", ""],
    ]
