"""How good exported files are: measured in a fresh process, and bad ones refused.

In float32 a file has to answer as the model does. A smaller one may lose a little, and how much is
measured: what writes text by BLEU, a language model by the perplexity of how texts really go on,
and what gives numbers by the share of answers that are the same.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.artefacts.artefact import SAVED_MODEL
from keras_transformer.artefacts.bulk import BATCH_TOKENS, batches_of_tokens
from keras_transformer.artefacts.bulk import measure as measure_lengths
from keras_transformer.errors import InputError
from keras_transformer.export.folder import PRECISIONS, size_of
from keras_transformer.export.proof import EDGE_CASES, Answer, ask, ask_in_fresh_process
from keras_transformer.export.ties import is_tie
from keras_transformer.pipelines.servable import Call, Servable
from keras_transformer.pipelines.text_generator import TextGenerator
from keras_transformer.pipelines.text_writer import TextWriter
from keras_transformer.training.evaluation.text_scores import score_texts

PROMPT_WORDS = 4
ROWS = 16  # in a call
# How far numbers of a float32 file may be from the model's.
TOLERANCE = {SAVED_MODEL: 1e-5, "tflite": 1e-4}


@dataclasses.dataclass(frozen=True)
class Validation:
    """The text that files are measured on.

    Attributes:
        texts: What they are given.
        references: What is right for each text; None to compare with the model's own texts.
    """

    texts: list[str]
    references: list[str] | None = None


@dataclasses.dataclass(frozen=True)
class Measured:
    """The measurements of a file in a fresh process.

    Attributes:
        file: Its name.
        bytes: Its size.
        texts_per_second: How many texts it answers.
        measure: What is measured, such as "BLEU".
        quality: How much of it there is.
        quality_loss: How much worse than the model's, in the unit of `Judge.unit`.
        more: What else the model card says of it.
    """

    file: str
    bytes: int
    texts_per_second: float
    measure: str
    quality: float
    quality_loss: float
    more: dict[str, float] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the model card, the quality by the name of what it is."""
        fields = dataclasses.asdict(self)
        named = {fields.pop("measure").lower(): fields.pop("quality")}
        return {**fields, **fields.pop("more"), **named}


class Judge:
    """Compares what files answer with what the model does.

    Subclasses say what is asked, and how good the answers are.

    Args:
        servable: What was exported.
        validation: What to measure on.
    """

    measure: str  # what is measured
    unit: str  # of what is lost
    loses: str  # a column's title: what is lost
    what = "sentences"

    def __init__(self, servable: Any, validation: Validation) -> None:
        self.servable = servable
        self.validation = validation
        self.texts = [*validation.texts, *EDGE_CASES]
        self._calls: dict[str, list[Call]] = {}

    @property
    def reference(self) -> str:
        """The measure in words."""
        raise NotImplementedError

    def calls(self, kind: str) -> list[Call]:
        """Return what a file of a kind is asked; those of `batches` come first."""
        if not self._calls:
            for of_batch in map(self.servable.calls, self.batches):
                for name, call in of_batch.items():
                    self._calls.setdefault(name, []).append(call)
        return self._calls[kind]

    @property
    def batches(self) -> list[list[str]]:
        """The texts in batches."""
        return [self.texts[i : i + ROWS] for i in range(0, len(self.texts), ROWS)]

    def check(self, path: Path, kind: str, answers: Sequence[Answer]) -> None:
        """Make sure that a file in float32 answers as the model does.

        Raises:
            InputError: If it does not.
        """
        raise NotImplementedError

    def quality(self, path: Path, kind: str, answers: Sequence[Answer]) -> tuple[float, float]:
        """Return how good the answers are, and how much worse than the model's."""
        raise NotImplementedError

    def more(self, kind: str, answers: Sequence[Answer]) -> dict[str, float]:
        """Return what else the model card says of a file."""
        return {}


class NumbersJudge(Judge):
    """Judges what gives numbers, such as probabilities and vectors.

    The agreement is, of answers such as labels, the share that is the same, and of vectors
    Spearman's correlation of the products of all pairs, both in per cent.
    """

    measure = "agreement"
    unit = "per cent of agreement"
    loses = "agreement lost"

    def __init__(self, servable: Servable, validation: Validation) -> None:
        super().__init__(servable, validation)
        self.what = "pictures" if servable.tokenizer is None else "sentences"
        self._expected: dict[str, list[dict[str, np.ndarray]]] = {}

    @property
    def reference(self) -> str:
        """The measure in words."""
        return f"agreement with the model in per cent, {len(self.texts)} {self.what}"

    def expected(self, kind: str) -> list[dict[str, np.ndarray]]:
        """Return what the model answers."""
        if kind not in self._expected:
            calls = self.calls(kind)
            self._expected[kind] = [self.servable.call(c.signature, **c.inputs) for c in calls]
        return self._expected[kind]

    def _pairs(
        self, kind: str, name: str, answers: Sequence[Answer]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        expected = (outputs[name] for outputs in self.expected(kind))
        return list(zip((answer.outputs[name] for answer in answers), expected, strict=True))

    def more(self, kind: str, answers: Sequence[Answer]) -> dict[str, float]:
        """Compute the largest difference of any number; see `Judge.more`."""
        pairs = self._pairs(kind, self.servable.numbers, answers)
        difference = max(float(np.abs(got - wanted).max(initial=0)) for got, wanted in pairs)
        return {"largest_difference": difference}

    def check(self, path: Path, kind: str, answers: Sequence[Answer]) -> None:
        """Compare the numbers; see `Judge.check`."""
        difference = self.more(kind, answers)["largest_difference"]
        if not difference <= TOLERANCE[SAVED_MODEL if path.name == SAVED_MODEL else "tflite"]:
            raise InputError(
                f"{path.name} disagrees with the model it was made from by {difference:.2g}, so "
                "nothing was written."
            )

    def quality(self, path: Path, kind: str, answers: Sequence[Answer]) -> tuple[float, float]:
        """Compute the agreement; see `Judge.quality`."""
        answer = self.servable.answers.get(self.calls(kind)[0].signature)
        pairs = self._pairs(kind, answer or self.servable.numbers, answers)
        if answer is None:
            agreement = rank_correlation(
                *(np.concatenate(side) for side in zip(*pairs, strict=True))
            )
        else:
            agreement = float(np.concatenate([_same(*pair) for pair in pairs]).mean())
        return 100 * agreement, 100 - 100 * agreement


class TextJudge(Judge):
    """Judges what writes one text for another, by BLEU."""

    measure = "BLEU"
    unit = "points of BLEU"
    loses = "BLEU lost"
    servable: TextWriter

    def __init__(self, servable: TextWriter, validation: Validation) -> None:
        super().__init__(servable, validation)
        self._prepare()
        lengths, _ = measure_lengths(servable, self.texts)
        self._order = list(batches_of_tokens(lengths, BATCH_TOKENS))
        answers = ask(servable, self.calls(SAVED_MODEL)[: len(self._order)])
        self._expected = self._written(SAVED_MODEL, answers)

    def _prepare(self) -> None:
        """Change what is asked before it is put into batches."""

    @property
    def reference(self) -> str:
        """The measure in words."""
        count = len(self.validation.texts)
        if self.validation.references is None:
            return f"BLEU against the model's own texts, {count} sentences"
        return f"BLEU on {count} sentences of the validation text"

    @property
    def batches(self) -> list[list[str]]:
        """The texts in batches of similar length."""
        return [[self.texts[i] for i in batch] for batch in self._order]

    def _written(self, kind: str, answers: Sequence[Answer]) -> list[tuple[str, float]]:
        """Return the text and the score of each of `texts`."""
        found: list[tuple[str, float]] = [("", 0.0)] * len(self.texts)
        # Of a language model there are more answers, of continuations.
        for batch, call, answer in zip(self._order, self.calls(kind), answers, strict=False):
            written = self.servable.written(call, answer.outputs)
            for i, text, score in zip(batch, *written, strict=True):
                found[i] = text, score
        return found

    def check(self, path: Path, kind: str, answers: Sequence[Answer]) -> None:
        """Compare the texts; a tie in the last bits may be broken in any way."""
        for text, (wanted, wanted_score), (got, score) in zip(
            self.texts, self._expected, self._written(kind, answers), strict=True
        ):
            if wanted != got and not is_tie(self.servable, text, got, score, wanted_score):
                raise InputError(
                    f"{path.name} disagrees with the model it was made from, so nothing was "
                    f"written.\n  text:     {text[:200]!r}\n  model:    {wanted[:200]!r}\n"
                    f"  artefact: {got[:200]!r}"
                )

    def quality(self, path: Path, kind: str, answers: Sequence[Answer]) -> tuple[float, float]:
        """Compute the BLEU; see `Judge.quality`."""
        quality = self._bleu(self._written(kind, answers))
        return quality, self._bleu(self._expected) - quality

    def _bleu(self, written: Sequence[tuple[str, float]]) -> float:
        count = len(self.validation.texts)
        expected = [text for text, _ in self._expected[:count]]
        return score_texts(
            [text for text, _ in written[:count]], self.validation.references or expected
        ).bleu


class ContinuationJudge(TextJudge):
    """Judges language models, by the perplexity of how texts really go on.

    They go their own way after the first word that a smaller file finds otherwise.
    """

    measure = "perplexity"
    unit = "per cent of perplexity"
    loses = "% perplexity gained"

    def _prepare(self) -> None:
        words = [text.split() for text in self.validation.texts]
        parts = [
            (" ".join(some[:PROMPT_WORDS]), " " + " ".join(some[PROMPT_WORDS:]))
            for some in words
            if len(some) > PROMPT_WORDS
        ] or [(text, text) for text in self.validation.texts]
        fits = ~self.servable.tokenize([a + b for a, b in parts])[1]
        self._parts = [part for part, fit in zip(parts, fits, strict=True) if fit] or parts[:1]
        texts = [*(prompt for prompt, _ in self._parts), *EDGE_CASES]
        # Of what is too long only some files see the end.
        cut = self.servable.tokenize(texts)[1]
        self.texts = [text for text, is_cut in zip(texts, cut, strict=True) if not is_cut]
        self._qualities: dict[str, float] = {}

    @property
    def reference(self) -> str:
        """The measure in words."""
        return f"perplexity a token of how {len(self._parts)} texts go on"

    def calls(self, kind: str) -> list[Call]:
        """Return what a file is asked; those from pieces can't score what is given."""
        return super().calls(kind) + ([] if kind == "ids" else self._scoring())

    def _scoring(self) -> list[Call]:
        parts = [self._parts[i : i + ROWS] for i in range(0, len(self._parts), ROWS)]
        columns = [list(zip(*some, strict=True)) for some in parts]
        return [Call("score", {"text": list(a), "target": list(b)}) for a, b in columns]

    def quality(self, path: Path, kind: str, answers: Sequence[Answer]) -> tuple[float, float]:
        """Compute the perplexity; of a file from pieces it is that of the one from texts."""
        if "model" not in self._qualities:
            self._qualities["model"] = _perplexity(ask(self.servable, self._scoring()))
        file = path.name.replace(".ids.", ".")  # which has the same weights
        if kind != "ids":
            self._qualities[file] = _perplexity(answers[len(self._order) :])
        quality = self._qualities[file]
        return quality, 100 * (quality / self._qualities["model"] - 1)


def judge_of(servable: Servable, validation: Validation) -> Judge:
    """Return what judges files that were made of a servable."""
    if isinstance(servable, TextGenerator):
        return ContinuationJudge(servable, validation)
    if isinstance(servable, TextWriter):
        return TextJudge(servable, validation)
    return NumbersJudge(servable, validation)


def measure(judge: Judge, files: Mapping[Path, str], max_loss: float) -> list[Measured]:
    """Measure files in a fresh process, and refuse those that are not good enough.

    Args:
        judge: What compares them with the model.
        files: The kind of each file; the SavedModel's is `SAVED_MODEL`.
        max_loss: Most that a smaller file may lose.

    Raises:
        InputError: If a file in float32 does not answer as the model does, or a smaller one loses
            too much.
    """
    trials = ask_in_fresh_process({path: judge.calls(kind) for path, kind in files.items()})
    measured = []
    for (path, kind), answers in zip(files.items(), trials, strict=True):
        quality, loss = judge.quality(path, kind, answers)
        if not any(precision in path.name for precision in PRECISIONS):
            judge.check(path, kind, answers)
        elif not loss <= max_loss:
            raise InputError(
                f"{path.name} loses {loss:.2f} {judge.unit} against the model ({judge.measure} "
                f"{quality:.2f}), so nothing was written. Leave its precision out, or allow more "
                f"by --max-quality-loss, now {max_loss:g}."
            )
        seconds = sum(answer.seconds for answer in answers[: len(judge.batches)])
        rate = round(len(judge.texts) / seconds, 1)
        more = judge.more(kind, answers)
        measured.append(
            Measured(path.name, size_of(path), rate, judge.measure, quality, loss, more)
        )
    return measured


def _perplexity(answers: Sequence[Answer]) -> float:
    """Compute the perplexity a token of what was scored."""
    total = sum(float(answer.outputs["score"].sum()) for answer in answers)
    return math.exp(-total / sum(int(answer.outputs["tokens"].sum()) for answer in answers))


def _same(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return which answers are the same: of strings each that is not empty, of numbers each row."""
    if got.shape != expected.shape:
        return np.zeros(len(expected), bool)
    if expected.dtype == object:
        real = expected != b""
        return (got == expected)[real]
    return (got == expected).reshape(len(expected), -1).all(axis=1)


def rank_correlation(vectors: np.ndarray, others: np.ndarray) -> float:
    """Compute Spearman's correlation of the products of all pairs of vectors, theirs and others'.

    Args:
        vectors: Float array `(N, D)`.
        others: Float array `(N, D)`.
    """
    pairs = np.triu_indices(len(vectors), k=1)
    ours, theirs = (np.argsort(np.argsort((x @ x.T)[pairs])) for x in (vectors, others))
    return float(np.corrcoef(ours, theirs)[0, 1])
