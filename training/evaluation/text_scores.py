"""Scores of texts against references, by sacrebleu."""

import dataclasses
from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from keras_transformer.errors import InputError, no_such

TOKENIZERS = ("13a", "intl", "zh", "char", "none")  # those that need no package of their own


@dataclasses.dataclass(frozen=True)
class TextScores:
    """Similarity of outputs and references; each from 0 to 100.

    Args:
        bleu: BLEU of the corpus.
        chrf: chrF of the corpus.
        exact_match: Percentage of outputs that equal their reference.
        bleu_signature: What a reader needs to repeat the BLEU.
        chrf_signature: The same for chrF.
    """

    bleu: float
    chrf: float
    exact_match: float
    bleu_signature: str
    chrf_signature: str


def score_texts(
    outputs: Sequence[str],
    references: Sequence[str],
    lowercase: bool = False,
    tokenize: str = "13a",
) -> TextScores:
    """Compare outputs with references, line by line and as a corpus.

    Args:
        outputs: What the model wrote.
        references: What is right, as many.
        lowercase: Whether case is ignored, in all three scores.
        tokenize: sacrebleu's tokeniser for BLEU; "none" for text that is tokenised already.

    Raises:
        InputError: If `tokenize` is unknown, or there is nothing to compare.

    Reference: Papineni et al. 2002; Popovic 2015; Post 2018 for signatures.
    """
    if tokenize not in TOKENIZERS:
        raise no_such("tokeniser", tokenize, TOKENIZERS)
    if not outputs or len(outputs) != len(references):
        raise InputError(f"There are {len(outputs)} outputs for {len(references)} references.")
    # `force` keeps sacrebleu from warning about text that looks tokenised.
    bleu = BLEU(lowercase=lowercase, tokenize=tokenize, force=True)
    chrf = CHRF(lowercase=lowercase)
    fold = str.lower if lowercase else str
    hits = sum(fold(o) == fold(r) for o, r in zip(outputs, references, strict=True))
    return TextScores(
        bleu=bleu.corpus_score(list(outputs), [list(references)]).score,
        chrf=chrf.corpus_score(list(outputs), [list(references)]).score,
        exact_match=100 * hits / len(outputs),
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )
