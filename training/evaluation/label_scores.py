"""Scores of labels and of answers against the true ones."""

import collections
import dataclasses
import re
import string
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class LabelScore:
    """Scores of one label; each from 0 to 1.

    Args:
        precision: The share of what got the label that has it.
        recall: The share of what has the label that got it.
        f1: Their harmonic mean.
        count: How many have the label.
    """

    precision: float
    recall: float
    f1: float
    count: int


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """Scores of all labels; each from 0 to 1.

    Args:
        accuracy: The share that is right.
        macro_f1: The mean of F1 over the labels that occur.
        by_label: Every label's own scores.
        spans_f1: F1 of spans, of labels such as B-PER and I-PER that make spans; else None.
    """

    accuracy: float
    macro_f1: float
    by_label: dict[str, LabelScore]
    spans_f1: float | None = None


def score_labels(found: Sequence[str], true: Sequence[str]) -> LabelScores:
    """Compare labels with the true ones.

    Args:
        found: The labels that a model gave.
        true: As many labels.
    """
    by_label = {}
    for label in sorted({*true, *found}):
        hits = sum(a == b == label for a, b in zip(found, true, strict=True))
        by_label[label] = _score(hits, found.count(label), true.count(label))
    occurring = [score.f1 for score in by_label.values() if score.count]
    right = sum(a == b for a, b in zip(found, true, strict=True))
    return LabelScores(right / len(true), sum(occurring) / len(occurring), by_label)


def score_words(found: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> LabelScores:
    """Compare the labels of words with the true ones.

    Args:
        found: For each text the labels that a model gave its words; those it did not see have "".
        true: For each text as many labels.
    """
    scores = score_labels(
        [label for labels in found for label in labels],
        [label for labels in true for label in labels],
    )
    if not any(re.match("[BI]-.", label) for labels in true for label in labels):
        return scores
    spans = [
        {(i, *span) for i, labels in enumerate(side) for span in spans_of(labels)}
        for side in (found, true)
    ]
    hits = len(spans[0] & spans[1])
    f1 = _score(hits, len(spans[0]), len(spans[1])).f1
    return dataclasses.replace(scores, spans_f1=f1)


def spans_of(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """Find spans in labels such as B-PER, I-PER and O.

    Returns:
        For each span its first word, the word behind it and its kind. I- of another kind than
        the label before it begins a span, as CoNLL's own script has it.
    """
    spans: list[tuple[int, int, str]] = []
    open_kind, begin = "", 0
    for i, label in enumerate([*labels, "O"]):
        mark, _, kind = label.partition("-")
        goes_on = mark == "I" and kind == open_kind and kind
        if not goes_on:
            if open_kind:
                spans.append((begin, i, open_kind))
            open_kind, begin = (kind if mark in ("B", "I") else ""), i
    return spans


def _score(hits: int, found: int, true: int) -> LabelScore:
    precision = hits / found if found else 0.0
    recall = hits / true if true else 0.0
    f1 = 2 * hits / (found + true) if found + true else 0.0
    return LabelScore(precision, recall, f1, true)


@dataclasses.dataclass(frozen=True)
class AnswerScores:
    """Similarity of answers and the true ones; each from 0 to 1.

    Args:
        exact_match: The share that is the same.
        f1: The mean of F1 over the words of each answer.
    """

    exact_match: float
    f1: float


def score_answers(found: Sequence[str], true: Sequence[str]) -> AnswerScores:
    """Compare answers as SQuAD does: without case, punctuation, articles and extra spaces.

    Args:
        found: The answers that a model gave.
        true: As many answers.

    Reference: Rajpurkar et al. 2016, "SQuAD", section 6.1.
    """
    pairs = [(_words(a), _words(b)) for a, b in zip(found, true, strict=True)]
    exact = sum(a == b for a, b in pairs)
    return AnswerScores(exact / len(pairs), sum(_overlap(*pair) for pair in pairs) / len(pairs))


def _words(text: str) -> list[str]:
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _overlap(found: Sequence[str], true: Sequence[str]) -> float:
    if not found or not true:
        return float(found == true)
    common = sum((collections.Counter(found) & collections.Counter(true)).values())
    return 2 * common / (len(found) + len(true))
