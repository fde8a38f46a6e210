"""How good exported files are that write text: measured in a fresh process, and bad ones refused.

What turns one text into another is measured by BLEU on validation text. A language model goes its
own way after the first word that it finds otherwise, so that it is measured by the perplexity of
how texts really go on.
"""

import dataclasses
import math
from itertools import islice
from pathlib import Path
from typing import Any

from keras_transformer.artefacts.bulk import translate
from keras_transformer.errors import InputError
from keras_transformer.export import parity
from keras_transformer.export.folder import PRECISIONS
from keras_transformer.files import read_lines
from keras_transformer.pipelines.tasks import CAUSAL_LM
from keras_transformer.training.data.records import Pairs, Records
from keras_transformer.training.data.spoken_english import examples
from keras_transformer.training.evaluation.text_scores import score_texts
from keras_transformer.training.tasks.registry import make_task
from keras_transformer.training.tasks.task import VALIDATION

VALIDATION_LINES = 200
PROBES = 60  # generated sentences, for a run without samples
PROMPT_WORDS = 4


@dataclasses.dataclass(frozen=True)
class Validation:
    """The text that artefacts are measured on."""

    sources: list[str]
    references: list[str] | None = None  # None: float32's own outputs
    continuations: list[str] | None = None  # of a language model: how the sources really go on

    @property
    def measure(self) -> str:
        """The name of what is measured."""
        return "BLEU" if self.continuations is None else "perplexity"

    @property
    def reference(self) -> str:
        """What it is measured on, in words."""
        if self.continuations is not None:
            return f"perplexity a token of how {len(self.sources)} texts go on"
        if self.references is None:
            return f"BLEU against float32's own outputs, {len(self.sources)} sample sentences"
        return f"BLEU on {len(self.sources)} sentences of the run's validation text"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of a file in a fresh process."""

    file: str
    bytes: int
    texts_per_second: float
    measure: str
    quality: float
    quality_loss: float  # points of BLEU below float32, or per cent of perplexity above it

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the model card, the quality by the name of what it is."""
        return {
            "file": self.file,
            "bytes": self.bytes,
            "texts_per_second": self.texts_per_second,
            self.measure.lower(): self.quality,
            "quality_loss": self.quality_loss,
        }


def validation_of(run, servable) -> Validation:
    """Take the first lines of the run's validation text, its samples, or generated sentences."""
    samples = run.samples() or [one.spoken for one in examples("test", PROBES)]
    if run.head().task == CAUSAL_LM:
        return _beginnings(samples, servable)
    if not run.was_trained_here:
        return Validation(samples)
    try:
        if run.training_config().source:
            files = run.training_config().valid_files
            sides = [
                list(islice(read_lines(path), VALIDATION_LINES))
                for path in (files.source, files.target)
            ]
        else:
            data: Records | Pairs = make_task(run).data(VALIDATION)
            sides = [list(side) for side in zip(*islice(data, VALIDATION_LINES), strict=True)]
    except (OSError, InputError):
        sides = [[], []]
    if len(sides) != 2 or not sides[0] or len(sides[0]) != len(sides[1]):
        return Validation(samples)  # the text is no longer what it was
    return Validation(*sides)


def _beginnings(samples, servable):
    """Take texts apart: what a language model is given, and how it goes on."""
    words = [text.split() for text in samples]
    parts = [
        (" ".join(some[:PROMPT_WORDS]), " " + " ".join(some[PROMPT_WORDS:]))
        for some in words
        if len(some) > PROMPT_WORDS
    ] or [(text, text) for text in samples]
    fits = servable.tokenize([a + b for a, b in parts])[1]
    parts = [part for part, too_long in zip(parts, fits, strict=True) if not too_long] or parts[:1]
    prompts, rests = zip(*parts, strict=True)
    return Validation(list(prompts), None, list(rests))


def measure(
    servable, validation: Validation, artefacts: list[Path], max_quality_loss: float
) -> list[Measured]:
    """Measure every artefact in a fresh process, and refuse those that are not good enough.

    Args:
        servable: What was exported.
        validation: What to measure on.
        artefacts: The SavedModel and the `.tflite` files.
        max_quality_loss: Most that a smaller file may lose.

    Raises:
        InputError: If a file in float32 does not write what the model writes, or a smaller one
            loses too much.
    """
    from keras_transformer.export.folder import size_of

    texts = [*validation.sources, *parity.EDGE_CASES]
    if validation.continuations is not None:  # of what is too long only some file sees the end
        cut = servable.tokenize(texts)[1]
        texts = [text for text, is_cut in zip(texts, cut, strict=True) if not is_cut]
    pairs = None
    if validation.continuations is not None:
        pairs = list(zip(validation.sources, validation.continuations, strict=True))
    trials = parity.run_in_fresh_process(artefacts, texts, pairs)
    expected = translate(servable, texts)
    count = len(validation.sources)

    def quality_of(texts, scores):
        if validation.continuations is not None:
            total, tokens = scores
            return math.exp(-total / tokens)
        references = validation.references or expected.texts[:count]
        return score_texts(texts[:count], references).bleu

    own = None if pairs is None else parity.score_all(servable, pairs)
    best = quality_of(expected.texts, own)
    measured: list[Measured] = []
    for path, trial in zip(artefacts, trials, strict=True):
        if validation.continuations is not None and trial.scored is None:
            quality = _same_weights(path, measured).quality  # no signature scores what is given
        else:
            quality = quality_of(trial.texts, trial.scored)
        loss = best - quality
        if validation.continuations is not None:
            loss = 100 * (quality / best - 1)
        if not any(precision in path.name for precision in PRECISIONS):
            parity.check(path.name, trial, servable, texts, expected)
        elif loss > max_quality_loss:
            unit = (
                "points of BLEU" if validation.continuations is None else "per cent of perplexity"
            )
            raise InputError(
                f"{path.name} loses {loss:.2f} {unit} against float32 ({quality:.2f} instead "
                f"of {best:.2f}), so nothing was written. Leave its precision out by --tflite, or "
                f"allow more by --max-quality-loss, now {max_quality_loss:g}."
            )
        rate = round(trial.texts_per_second, 1)
        measured.append(Measured(path.name, size_of(path), rate, validation.measure, quality, loss))
    return measured


def _same_weights(path, measured):
    """Find the file from text that has the weights of one from ids."""
    name = path.name.replace(".ids.", ".")
    return next(one for one in measured if one.file == name)
