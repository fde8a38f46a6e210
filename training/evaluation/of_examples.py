"""Evaluation of any task on examples: what is answered, compared with what is right."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from keras_transformer.artefacts.artefact import Artefact, sees
from keras_transformer.artefacts.bulk import read_columns
from keras_transformer.errors import InputError
from keras_transformer.pipelines.images import read_pictures
from keras_transformer.training.data.records import Records, RecordSource
from keras_transformer.training.evaluation.evaluator import Evaluator
from keras_transformer.training.evaluation.label_scores import (
    AnswerScores,
    LabelScores,
    score_answers,
    score_labels,
    score_words,
)
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks.registry import find_training, training_of
from keras_transformer.training.tasks.task import VALIDATION
from keras_transformer.training.tasks.token_classification import WORD
from keras_transformer.typing import Shape

Advance = Callable[[int], None]


def _nothing(count: int) -> None:
    """Show no progress."""


def evaluate_labels(
    artefact: Artefact, path: Path | str, batch_size: int = 32, advance: Advance = _nothing
) -> LabelScores:
    """Compare the labels of texts or of pictures.

    Args:
        artefact: What gives `label`.
        path: File of texts and labels; a folder of pictures for what takes pictures.
        batch_size: Most examples at once.
        advance: Called with the number of examples in each batch that is done.

    Returns:
        `LabelScores`.

    Raises:
        InputError: If the examples are missing or damaged.
    """
    texts, true = _columns(find_training(artefact.task).open(Path(path)))
    if sees(artefact):
        found = _label_pictures(artefact, texts, batch_size, advance)
    else:
        outputs, _ = read_columns(artefact, {"text": texts}, batch_size, advance)
        found = outputs["label"].tolist()
    return score_labels([label.decode() for label in found], true)


def evaluate_words(
    artefact: Artefact, path: Path | str, batch_size: int = 32, advance: Advance = _nothing
) -> LabelScores:
    """Compare the labels of words.

    Args:
        artefact: What gives `labels`.
        path: File of words and labels.
        batch_size: Most texts at once.
        advance: Called with the number of texts in each batch that is done.

    Returns:
        `LabelScores`, over all words. A word that the model did not see is labelled wrongly.

    Raises:
        InputError: If the examples are missing or damaged.
    """
    records = find_training(artefact.task).open(Path(path))
    texts, true = _columns(records)
    wanted = [labels.split() for labels in true]
    for (place, _), text, labels in zip(records.located(), texts, wanted, strict=True):
        if len(WORD.findall(text)) != len(labels):
            raise InputError(f"{place}: there is not one label for each word.")
    outputs, _ = read_columns(artefact, {"text": texts}, batch_size, advance)
    found = [
        [label.decode() for label in row[: len(labels)]]
        for row, labels in zip(outputs["labels"].tolist(), wanted, strict=True)
    ]
    return score_words(found, wanted)


def evaluate_answers(
    artefact: Artefact, path: Path | str, batch_size: int = 32, advance: Advance = _nothing
) -> AnswerScores:
    """Compare answers to questions.

    Args:
        artefact: What gives `answer`.
        path: File of questions, passages and answers.
        batch_size: Most questions at once.
        advance: Called with the number of questions in each batch that is done.

    Returns:
        `AnswerScores`.

    Raises:
        InputError: If the examples are missing or damaged.
    """
    questions, passages, true = _columns(Records(Path(path), ("question", "passage", "answer")))
    columns = {"question": questions, "passage": passages}
    outputs, _ = read_columns(artefact, columns, batch_size, advance)
    return score_answers([text.decode() for text in outputs["answer"].tolist()], true)


def evaluate_run(run: RunDirectory, path: Path | str, batch_tokens: int = 4096) -> dict[str, float]:
    """Compute the metrics of a run's task over examples, as its validation does.

    Args:
        run: A run, trained or imported.
        path: File or folder of examples.
        batch_tokens: Tokens at once.

    Returns:
        The metrics by name, such as `loss`, `perplexity` and `token_accuracy`.

    Raises:
        InputError: If the examples are missing or damaged, or the run was imported.
    """
    config = run.training_config()
    longest = config.max_length
    task = training_of(run)
    task.config = dataclasses.replace(
        config, data=str(path), valid_data=str(path), batch_tokens=max(batch_tokens, longest)
    )
    task.measure({}, VALIDATION)
    return Evaluator(run.load_model(), task.metrics)(task.validation_batches())


def _columns(records: RecordSource) -> list[list[str]]:
    """Read all records, and return a list for each column."""
    records.check()
    return [list(column) for column in zip(*records, strict=True)]


def _label_pictures(
    artefact: Artefact, names: Sequence[str], batch_size: int, advance: Advance
) -> list[bytes]:
    """Label pictures; they are decoded here, as LiteRT can't."""
    shape: Shape = artefact.specs("pixels")[0]["pixels"].shape
    _, size, _, channels = shape
    rest, found = iter(names), []
    while some := list(islice(rest, batch_size)):
        found += artefact.call("pixels", pixels=read_pictures(some, size, channels))[
            "label"
        ].tolist()
        advance(len(some))
    return found
