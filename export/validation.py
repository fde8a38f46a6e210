"""The text that exported files are measured on: a run's, a script's, or generated sentences."""

from itertools import islice
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.export.quality import Validation
from keras_transformer.pipelines.servable import Servable
from keras_transformer.pipelines.tasks import find_task
from keras_transformer.pipelines.translator import Translator
from keras_transformer.training.data.spoken_english import examples
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks.registry import training_of
from keras_transformer.training.tasks.task import VALIDATION

VALIDATION_TEXTS = 200
PROBES = 60  # generated sentences, where there is no text to validate on


def validation_of(run: RunDirectory) -> Validation:
    """Take the first lines of the run's validation text, its samples, or generated sentences."""
    settings = run.task_settings()
    samples = Validation(run.samples() or _generated())
    # What writes one text for another is measured on what is right; see `Judge`.
    if not _compares(find_task(settings.task).servable) or not run.was_trained_here:
        return samples
    try:
        records: Any = training_of(run).data(VALIDATION)
        rows = list(islice(records, VALIDATION_TEXTS))
    except (OSError, InputError):
        return samples  # the text is no longer what it was
    sides = list(zip(*rows, strict=True))
    return Validation(list(sides[0]), list(sides[1])) if len(sides) == 2 else samples


def check_validation(given: Any, servable: type[Servable]) -> Validation:
    """Check what a script gives to validate on.

    Args:
        given: Texts, or a tuple of texts and of what is right for each; None for generated ones.
        servable: What answers.

    Raises:
        InputError: If it is none of these, or does not fit.
    """
    if given is None:
        return Validation(_generated())
    pair = isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], str)
    texts, references = given if pair else (given, None)
    for side in (texts, references or ()):
        if isinstance(side, str) or not all(isinstance(text, str) for text in side):
            raise InputError(
                f"validation has to be a list of texts, or a tuple of texts and of what is right "
                f"for each, got {given!r:.100}."
            )
    if references is not None and not _compares(servable):
        raise InputError(
            "validation has to be a list of texts: files of this task are compared with the model, "
            "so leave out what is right."
        )
    if not texts or (references is not None and len(texts) != len(references)):
        raise InputError(
            f"validation has {len(texts)} texts and {len(references or [])} of what is right; give "
            "at least one text, and as many of both."
        )
    return Validation(list(texts), None if references is None else list(references))


def _compares(servable: type[Servable]) -> bool:
    """Return whether what a servable writes is compared with what is right."""
    return issubclass(servable, Translator)


def _generated() -> list[str]:
    return [one.spoken for one in examples("test", PROBES)]
