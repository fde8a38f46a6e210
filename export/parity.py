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

from keras_transformer.artefacts.artefact import decode
from keras_transformer.artefacts.bulk import translate
from keras_transformer.artefacts.text_to_text import TextToText
from keras_transformer.errors import InputError

# Texts that every artefact has to get right, beside the run's own samples.
EDGE_CASES = ["", "  \t ", "a", "\N{GRINNING FACE} e\N{COMBINING ACUTE ACCENT}", "word " * 400]
# Two tokens whose log-probabilities differ by no more than this are a tie: rounding decides.
TIE = 1e-4
SCORED_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Trial:
    """What an artefact wrote in a fresh process."""

    texts: list[str]
    scores: list[float]
    texts_per_second: float  # when all of them are translated a second time
    scored: tuple[float, int] | None = None  # log-probability and tokens of given continuations


def run_in_fresh_process(
    artefacts: Sequence[Path], texts: list[str], pairs: list[tuple[str, str]] | None = None
) -> list[Trial]:
    """Translate texts with artefacts, one after the other, in a process of their own.

    Args:
        artefacts: The SavedModel and `.tflite` files.
        texts: What they are given.
        pairs: Of language models, prompts and how they go on, to be scored.

    Raises:
        InputError: If the process fails; the message holds the end of what it said.
    """
    child = subprocess.run(
        [sys.executable, "-m", "keras_transformer.export.parity", *map(str, artefacts)],
        input=json.dumps({"texts": texts, "pairs": pairs}),
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

    config = translator.model.config
    if getattr(translator.model, "continues", False):
        target = target.removeprefix(source)
    logits, labels, width = translator.teacher_forced([source], [target])
    chosen = tf.gather(logits, labels, batch_dims=2)  # (1, T)
    gap = tf.reduce_max(logits, axis=-1) - chosen
    limit = translator.options.max_length or width + EXTRA_LENGTH
    if labels.shape[1] >= min(limit, translator.max_length):  # the length limit may have ended it
        gap = tf.where(labels == config.end_id, 0.0, gap)
    return bool(tf.reduce_all(gap <= TIE))


def score_all(artefact, pairs: Sequence[tuple[str, str]]) -> tuple[float, int]:
    """Return the log-probability of how texts go on, and the number of its tokens."""
    total, count = 0.0, 0
    for start in range(0, len(pairs), SCORED_AT_ONCE):
        prompts, rests = zip(*pairs[start : start + SCORED_AT_ONCE], strict=True)
        scores, tokens, _ = artefact.score(prompts, rests)
        total, count = total + float(np.sum(scores)), count + int(np.sum(tokens))
    return total, count


# --- The fresh process ----------------------------------------------------------------------------


def _main(artefacts: list[Path]) -> None:
    asked = json.load(sys.stdin)
    trials = [_try(artefact, asked["texts"], asked["pairs"]) for artefact in artefacts]
    json.dump([dataclasses.asdict(trial) for trial in trials], sys.stdout)


def _try(artefact, texts, pairs):
    from keras_transformer.export.runtime import load

    if artefact.name.endswith(".ids.tflite"):
        runtime: TextToText = IdsModel(artefact, pairs is not None)
    else:
        runtime = load(artefact)
    translate(runtime, texts)  # kernels are made for each new number of rows
    since = time.perf_counter()
    result = translate(runtime, texts)
    seconds = time.perf_counter() - since
    scored = None
    if pairs is not None and not isinstance(runtime, IdsModel):
        scored = score_all(runtime, pairs)
    return Trial(result.texts, result.scores, len(texts) / seconds, scored)


class IdsModel(TextToText):
    """The file from ids to ids, with the text cut and joined outside of it.

    Args:
        path: The file; those of the tokeniser are beside it.
        continues: Whether what it gives follows what it is given, as a language model's does.
    """

    def __init__(self, path: Path, continues: bool = False):
        from keras_transformer.export.runtime import interpreter
        from keras_transformer.text import load_tokenizer

        self._tokenizer = load_tokenizer(path.parent)
        self._continues = continues
        self._runner = interpreter(path).get_signature_runner("ids")

    def run(self, texts, prefixes=None):
        """Translate one batch; see `TextToText.run`."""
        given = self.tokenize(texts)[0]
        outputs = self._runner(ids=given)
        ids, scores = outputs["ids"], outputs["score"]
        if ids.ndim == 3:  # the best of several hypotheses
            ids, scores = ids[:, 0], scores[:, 0]
        if self._continues:
            ids = np.concatenate([given, ids], axis=1)  # the padding between is left out
        best = decode(self._tokenizer.detokenize(ids).numpy())
        return [[text] for text in best], [[float(score)] for score in scores]

    def tokenize(self, texts):
        """Cut texts into ids; what is too long is for the file to cut."""
        padding = self._tokenizer.padding_id
        ids = self._tokenizer.tokenize(texts).to_tensor(padding).numpy()
        return ids, np.zeros(len(texts), bool)


if __name__ == "__main__":
    _main([Path(name) for name in sys.argv[1:]])
