"""Tests of keras_transformer.training.evaluation.text_scores."""

import math

import pytest
import sacrebleu

from keras_transformer.errors import InputError
from keras_transformer.training.evaluation.text_scores import TOKENIZERS, score_texts

REFERENCES = [
    "The cat sat quietly on the mat, near the door.",
    "Two young men are outside.",
    'Er sagte: "Ja!"',
]
OUTPUTS = [
    "The cat sat on the mat near the old door.",
    "two young men are outside.",
    "Er sagte nein.",
]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("tokenize", TOKENIZERS)
def test_scores_are_those_of_sacrebleu(lowercase, tokenize):  # E02
    scores = score_texts(OUTPUTS, REFERENCES, lowercase, tokenize)
    bleu = sacrebleu.corpus_bleu(OUTPUTS, [REFERENCES], lowercase=lowercase, tokenize=tokenize)
    chrf = sacrebleu.CHRF(lowercase=lowercase).corpus_score(OUTPUTS, [REFERENCES])
    assert scores.bleu == bleu.score
    assert scores.chrf == chrf.score
    assert 0 < scores.bleu < 100


def test_bleu_of_an_example_worked_by_hand():  # E02
    # 6 of 7 words, 4 of 6 pairs, 3 of 5 triples and 2 of 4 quadruples are in the reference, which
    # is one word longer.
    output, reference = "the cat sat on the big mat", "today the cat sat on the mat ."
    precision = (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** (1 / 4)
    expected = 100 * math.exp(1 - 8 / 7) * precision
    assert score_texts([output], [reference]).bleu == pytest.approx(expected, rel=1e-12)


def test_identical_texts_score_100():  # E02
    scores = score_texts(REFERENCES, REFERENCES)
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)
    assert scores.exact_match == 100


def test_disjoint_texts_score_0():  # E02
    scores = score_texts(["aaa bbb ccc ddd eee"], ["vvv www xxx yyy zzz"])
    assert (scores.bleu, scores.chrf, scores.exact_match) == (0, 0, 0)


def test_short_outputs_pay_the_brevity_penalty():  # E02
    # All that was written is right, but it is half of what was to be written.
    reference = "a b c d e f g h i j"
    scores = score_texts(["a b c d e"], [reference])
    assert scores.bleu == pytest.approx(100 * math.exp(1 - 10 / 5))


def test_case_counts_unless_it_is_ignored():
    output, reference = ["THE CAT SAT ON THE MAT"], ["the cat sat on the mat"]
    with_case = score_texts(output, reference)
    assert (with_case.bleu, with_case.exact_match) == (0, 0)
    without = score_texts(output, reference, lowercase=True)
    assert without.bleu == pytest.approx(100)
    assert without.chrf == pytest.approx(100)
    assert without.exact_match == 100


def test_exact_match_is_the_share_of_equal_lines():
    scores = score_texts(["a", "b ", "c", ""], ["a", "b", "C", ""])
    assert scores.exact_match == 50


@pytest.mark.parametrize("lowercase", [False, True])
def test_signatures_say_how_to_repeat_the_score(lowercase):
    scores = score_texts(OUTPUTS, REFERENCES, lowercase, "intl")
    case = "lc" if lowercase else "mixed"
    for part in (f"case:{case}", "tok:intl", "smooth:exp", f"version:{sacrebleu.__version__}"):
        assert part in scores.bleu_signature.split("|")
    assert f"case:{case}" in scores.chrf_signature.split("|")
    assert "tok:13a" in score_texts(OUTPUTS, REFERENCES).bleu_signature


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="0 outputs for 0"):
        score_texts([], [])
    with pytest.raises(InputError, match="2 outputs for 1"):
        score_texts(["a", "b"], ["a"])
    with pytest.raises(InputError, match="no tokeniser 'moses'; choose one of 13a"):
        score_texts(["a"], ["a"], tokenize="moses")
