"""Tests of training.label_scores, with figures computed by hand."""

import pytest

from keras_transformer.training.evaluation.label_scores import (
    score_answers,
    score_labels,
    score_words,
    spans_of,
)


def test_labels_by_hand():
    scores = score_labels(["a", "a", "b", "c"], ["a", "b", "b", "b"])
    assert scores.accuracy == 0.5
    # a: 1 of 2 found, 1 of 1; b: 1 of 1 found, 1 of 3; c occurs nowhere and is left out.
    assert scores.by_label["a"].f1 == pytest.approx(2 / 3)
    assert scores.by_label["b"].f1 == pytest.approx(2 * 1 / 4)
    assert (scores.by_label["b"].precision, scores.by_label["b"].count) == (1, 3)
    assert scores.by_label["c"].precision == 0
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.spans_f1 is None


def test_all_right_and_all_wrong():
    assert score_labels(["x", "y"], ["x", "y"]).macro_f1 == 1
    assert score_labels(["y", "x"], ["x", "y"]).macro_f1 == 0


def test_spans():
    labels = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-PER"]
    assert spans_of(labels) == [(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC"), (5, 6, "PER")]
    assert spans_of(["O", "O"]) == []
    assert spans_of(["", "B-PER", ""]) == [(1, 2, "PER")]


def test_spans_count_only_as_a_whole():
    true = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "O"]]
    scores = score_words([["B-PER", "O", "O"], ["B-LOC", "O", "O"]], true)
    assert scores.accuracy == pytest.approx(5 / 6)
    assert scores.spans_f1 == pytest.approx(2 * 1 / (2 + 2))
    # Labels that mark no spans have no such score, even if they begin alike.
    assert score_words([["BAD", "O"]], [["BAD", "O"]]).spans_f1 is None


def test_answers_are_compared_as_squad_does():
    scores = score_answers(["The film!", "a red car", ""], ["film", "red house", "plot"])
    assert scores.exact_match == pytest.approx(1 / 3)
    assert scores.f1 == pytest.approx((1 + 2 * 1 / 4 + 0) / 3)
    assert score_answers(["", "the"], ["", "a"]).f1 == 1
