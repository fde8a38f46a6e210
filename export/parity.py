"""Proof before publication: artefacts, run in a fresh process, write what the model writes.

A smaller `.tflite` may write something else here and there; what that costs is measured.
"""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_transformer.artefact import decode
from keras_transformer.errors import InputError
from keras_transformer.text_to_text import TextToText
from keras_transformer.translation import translate

# Texts that every artefact has to get right, beside the run's own samples.
EDGE_CASES = ["", "  \t ", "a", "\N{GRINNING FACE} e\N{COMBINING ACUTE ACCENT}", "word " * 400]
# Two tokens whose log-probabilities differ by no more than this are a tie: rounding decides.
TIE = 1e-4


@dataclasses.dataclass(frozen=True)
class Trial:
    """What an artefact wrote in a fresh process."""

    texts: list[str]
    scores: list[float]
    texts_per_second: float  # when all of them are translated a second time


def run_in_fresh_process(artefacts: Sequence[Path], texts: list[str]) -> list[Trial]:
    """Translate texts with artefacts, one after the other, in a process of their own.

    Raises:
        InputError: If the process fails; the message holds the end of what it said.
    """
    child = subprocess.run(
        [sys.executable, "-m", "keras_transformer.export.parity", *map(str, artefacts)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        names = ", ".join(artefact.name for artefact in artefacts)
        raise InputError(f"{names} do not run in a fresh process:\n{child.stderr[-2000:]}")
    return [Trial(**trial) for trial in json.loads(child.stdout)]


def check(name: str, trial: Trial, translator, texts: list[str], expected) -> None:
    """Compare what an artefact wrote with what the model writes.

    Args:
        name: Name of the artefact.
        trial: What it wrote.
        translator: The `Translator` that was exported.
        texts: What both were given.
        expected: The `Translations` of the model.

    Raises:
        InputError: If any output differs by more than a tie in the last bits can explain.
    """
    for text, wanted, wanted_score, got, score in zip(
        texts, expected.texts, expected.scores, trial.texts, trial.scores, strict=True
    ):
        if wanted != got and not _is_tie(translator, text, got, score, wanted_score):
            raise InputError(
                f"{name} disagrees with the model it was made from, so nothing was "
                f"written.\n  text:     {text[:200]!r}\n  model:    {wanted[:200]!r}\n"
                f"  artefact: {got[:200]!r}"
            )


def _is_tie(translator, source, target, score, expected):
    """Say whether another target than expected is the work of rounding alone.

    Greedy search goes another way for good where two tokens tie. Two hypotheses of beam search tie
    by their scores. In sampling a draw may fall on the border of two tokens, and then the score has
    to be what the model gives this target.
    """
    from keras_transformer.decoding import GenerationOptions

    options = translator.options
    if options.samples:
        own, _, _ = translator.score([source], [target])
        return bool(abs(own[0] - score) <= 1e-3 * max(1.0, abs(score)))
    if options != GenerationOptions(max_length=options.max_length):
        return bool(abs(score - expected) <= TIE)
    return _is_greedy_tie(translator, source, target)


def _is_greedy_tie(translator, source, target):
    """Say whether `target` is what greedy search gives if ties are broken otherwise."""
    import tensorflow as tf

    from keras_transformer.decoding.generate import EXTRA_LENGTH
    from keras_transformer.models.config import BEGIN_ID, END_ID
    from keras_transformer.translator import append_end

    tokenizer, length = translator.tokenizer, translator.max_length
    source_ids = append_end(tokenizer.tokenize([source]).to_tensor(), length)
    labels = append_end(tokenizer.tokenize([target]).to_tensor(), length)  # (1, T)
    inputs = tf.concat([[[BEGIN_ID]], labels[:, :-1]], 1)
    logits = translator.model({"source_ids": source_ids, "target_ids": inputs}, training=False)
    chosen = tf.gather(logits, labels, batch_dims=2)  # (1, T)
    gap = tf.reduce_max(logits, axis=-1) - chosen
    limit = translator.options.max_length or source_ids.shape[1] + EXTRA_LENGTH
    if labels.shape[1] >= min(limit, length):  # the end may have come by the length limit
        gap = tf.where(labels == END_ID, 0.0, gap)
    return bool(tf.reduce_all(gap <= TIE))


# --- The fresh process ----------------------------------------------------------------------------


def _main(artefacts: list[Path]) -> None:
    texts = json.load(sys.stdin)
    json.dump([dataclasses.asdict(_try(artefact, texts)) for artefact in artefacts], sys.stdout)


def _try(artefact, texts):
    from keras_transformer.export.runtime import load

    runtime = (IdsModel if artefact.name.endswith(".ids.tflite") else load)(artefact)
    translate(runtime, texts)  # kernels are made for each new number of rows
    since = time.perf_counter()
    result = translate(runtime, texts)
    seconds = time.perf_counter() - since
    return Trial(result.texts, result.scores, len(texts) / seconds)


class IdsModel(TextToText):
    """The file from ids to ids, with the text cut and joined outside of it.

    Args:
        path: The file; `vocab.txt` is beside it.
    """

    def __init__(self, path: Path):
        from keras_transformer.export.runtime import interpreter
        from keras_transformer.text import WordPieceTokenizer

        self._tokenizer = WordPieceTokenizer.load(path.with_name("vocab.txt"))
        self._runner = interpreter(path).get_signature_runner("ids")

    def run(self, texts, prefixes=None):
        """Translate one batch; see `TextToText.run`."""
        outputs = self._runner(ids=self.tokenize(texts)[0])
        ids, scores = outputs["ids"], outputs["score"]
        if ids.ndim == 3:  # the best of several hypotheses
            ids, scores = ids[:, 0], scores[:, 0]
        best = decode(self._tokenizer.detokenize(ids).numpy())
        return [[text] for text in best], [[float(score)] for score in scores]

    def tokenize(self, texts):
        """Cut texts into ids; what is too long is for the file to cut."""
        ids = self._tokenizer.tokenize(texts).to_tensor().numpy()
        return ids, np.zeros(len(texts), bool)


if __name__ == "__main__":
    _main([Path(name) for name in sys.argv[1:]])
