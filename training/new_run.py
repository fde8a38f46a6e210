"""Setting up a run: from text files to a run directory that is ready to be trained."""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeAlias

from rich.console import Console

from keras_transformer._backend import keras
from keras_transformer.errors import InputError
from keras_transformer.files import read_lines, scratch_folder
from keras_transformer.models.config import StackConfig
from keras_transformer.models.families import find_preset
from keras_transformer.pipelines.tasks import TaskSettings, check_family, find_task, make_model
from keras_transformer.text import Tokenizer
from keras_transformer.training.config import TrainingConfig, paper_peak
from keras_transformer.training.data.corpora import Corpus, ParallelFiles
from keras_transformer.training.data.records import RecordSource
from keras_transformer.training.data.validation_split import FOLDER, split_text
from keras_transformer.training.data.vocabulary import learn_tokenizer, read_tokenizer
from keras_transformer.training.plan import Plan
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks.registry import find_training
from keras_transformer.training.tasks.task import SAMPLES, TRAINING, VALIDATION, TaskTraining
from keras_transformer.training.transfer import describe, transfer_weights

EPOCHS = 10
# What differs where a model begins with weights that were trained: Devlin et al. 2019, A.3.
FINE_TUNING = {"learning_rate": 5e-5, "schedule": "linear", "optimizer": "adamw"}
FINE_TUNING_EPOCHS = 3

Data: TypeAlias = Corpus | Path | str


def new_run(
    output: Path | str,
    train: Data,
    valid: Data | None = None,
    *,
    steps: int | None = None,
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    console: Console | None = None,
    **plan: Any,
) -> RunDirectory:
    """Check the data, learn a vocabulary if none is given, and write the run's configuration.

    Args:
        output: Folder of the run.
        train: What to train on: parallel text, or the name of a file or folder of examples, or a
            pattern of names.
        valid: What to validate on, likewise; None if `training` has a `valid_split`.
        steps: Number of updates.
        model: Fields of the model's configuration that differ from the preset.
        training: Fields of `TrainingConfig` that differ from their defaults.
        console: Where progress is shown; standard error if None.
        **plan: Fields of `Plan`.

    Returns:
        The run directory.

    Raises:
        InputError: If anything is missing, damaged, out of range or in the way. Nothing has been
            written then.
    """
    console = console or Console(stderr=True)
    asked = Plan(**plan)
    _check_counts(steps, asked)
    RunDirectory.check_free(output, asked.overwrite)
    task = find_training(asked.task)
    start = None if asked.init_from is None else _Start.of(asked.init_from, asked)

    # All settings are checked before anything that takes time, with stand-ins for what the text
    # will decide: the size of the vocabulary, and the number of steps in an epoch.
    make_config = functools.partial(_make_config, asked, task, start, model or {})
    config = make_config(1000)
    check_family(config, asked.task)
    data = _data_fields(asked.task, train, valid)
    settings = {**_defaults(task, config, start), **data, **(training or {})}
    checked = TrainingConfig(**_with_steps(settings, steps or 1_000_000))
    _check_fits(checked, config, asked, valid)
    with contextlib.ExitStack() as stack:
        text, labels = None, None
        if checked.valid_split:
            text = stack.enter_context(scratch_folder(Path(output).parent)) / FOLDER
            whole = _opened(task, train)
            labels = [] if isinstance(whole, Corpus) else task.find_labels(whole)  # of both halves
            checked = _take_apart(task, whole, checked, text, Path(output), console)
            train, valid = _halves(checked)
        assert valid is not None  # checked above
        records = [_opened(task, some) for some in (train, valid)]
        for some in records:
            some.check()
        labels = task.find_labels(records[0]) if labels is None else labels
        made = _tokenizer(asked, task, start, config, records[0], console)
        fields = task.model_fields(labels)
        if made is not None and start is None:
            fields |= config.special_ids(made)
        config = make_config(None if made is None else len(made), **fields)
        head = _make_head(asked, start, labels, config, checked)
        sizes, batches = _measure(task(config, head, checked, made))
        epochs = asked.epochs or (EPOCHS if start is None else FINE_TUNING_EPOCHS)
        return RunDirectory.create(
            output,
            config,
            TrainingConfig(**_with_steps(settings, steps or epochs * batches)),
            made,
            _samples(task, records[1]),
            asked.overwrite,
            sizes,
            head,
            initial=None if start is None else start.begin(config, head, console),
            text=text,
        )


def _defaults(
    task: type[TaskTraining], config: StackConfig, start: "_Start | None"
) -> dict[str, Any]:
    return {
        "learning_rate": paper_peak(config.d_model),
        "label_smoothing": task.label_smoothing,
        "max_length": config.longest,
        **({} if start is None else FINE_TUNING),
    }


def _measure(task: TaskTraining) -> tuple[dict[str, Any], int]:
    """Count both parts, which refuses data of which nothing can be used."""
    sizes: dict[str, Any] = {}
    batches = task.measure(sizes, TRAINING).batches
    task.measure(sizes, VALIDATION)
    return sizes, batches


def _make_config(
    asked: Plan,
    task: type[TaskTraining],
    start: "_Start | None",
    model: dict[str, Any],
    vocabulary_size: int | None,
    **fields: Any,
) -> StackConfig:
    if start is not None:
        return _changed(start.config, {**model, **fields})
    return find_preset(asked.preset or task.preset, vocabulary_size, **{**model, **fields})


def _make_head(
    asked: Plan,
    start: "_Start | None",
    labels: Sequence[str],
    config: StackConfig,
    training: TrainingConfig,
) -> TaskSettings:
    settings = {} if start is None else start.settings_for(asked.task)
    if asked.pooling is not None:
        settings["pooling"] = asked.pooling
    shorter = training.max_length if training.max_length < config.max_length else None
    return TaskSettings(asked.task, tuple(labels), settings, shorter)


def _check_counts(steps: int | None, asked: Plan) -> None:
    """Refuse numbers that nothing can be made of."""
    if steps is not None and asked.epochs is not None:
        raise InputError("Give --steps or --epochs, not both.")
    for name, value in (
        ("steps", steps),
        ("epochs", asked.epochs),
        ("vocab-size", asked.vocabulary_size),
    ):
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}.")


def _check_fits(
    training: TrainingConfig, config: StackConfig, asked: Plan, valid: Data | None
) -> None:
    """Refuse settings that contradict each other, or that the task would ignore."""
    find_training(asked.task).check_options(asked.task, training)
    if find_task(asked.task).has_text and training.max_length > config.max_length:
        raise InputError(
            f"max_length must be at most {config.max_length}, what the model takes, got "
            f"{training.max_length}."
        )
    if training.freeze and asked.init_from is None:
        raise InputError("--freeze is for what a run began from; give one by --init-from.")
    if (training.valid_split is None) == (valid is None):
        raise InputError("Give something to validate on, or a valid_split, and not both.")


def _take_apart(
    task: type[TaskTraining],
    whole: Corpus | RecordSource,
    training: TrainingConfig,
    text: Path,
    output: Path,
    console: Console,
) -> TrainingConfig:
    """Write both halves of the text; return the configuration that reads them."""
    running = task.is_running_text(training.data)
    halves, trained, held_out = split_text(training, whole, task.columns, text, running)
    console.print(
        f"Validating on {held_out:,} of {trained + held_out:,} lines, training on the others: see "
        f"{output / FOLDER}",
        markup=False,
    )
    return halves


def _halves(training: TrainingConfig) -> tuple[Data, Data]:
    if training.source:
        return training.train_files, training.valid_files
    assert training.data is not None and training.valid_data is not None
    return training.data, training.valid_data


def _tokenizer(
    asked: Plan,
    task: type[TaskTraining],
    start: "_Start | None",
    config: StackConfig,
    records: Corpus | RecordSource,
    console: Console,
) -> Tokenizer | None:
    """Take, read or learn the tokeniser; None where there is no text."""
    if not find_task(asked.task).has_text:
        return None
    if start is not None:
        return start.tokenizer
    if asked.vocabulary is not None:
        return read_tokenizer(asked.tokenizer, asked.vocabulary)
    made = learn_tokenizer(
        asked.tokenizer,
        records.lines() if isinstance(records, Corpus) else task.lines(records),
        asked.vocabulary_size,
        with_mask=hasattr(config, "mask_id"),
        split_digits=asked.split_digits,
        progress=console.is_terminal,
    )
    console.print(f"Learned a vocabulary of {len(made):,} pieces")
    return made


@dataclasses.dataclass(frozen=True)
class _Start:
    """The run that a new one begins with."""

    run: RunDirectory
    config: StackConfig
    tokenizer: Any
    settings: TaskSettings

    @classmethod
    def of(cls, folder: Path, asked: Plan) -> Self:
        """Open it, and refuse options that it decides."""
        for name, value in (("--preset", asked.preset), ("--vocab", asked.vocabulary)):
            if value is not None:
                raise InputError(
                    f"--init-from takes the model and the vocabulary; leave out {name}."
                )
        run = RunDirectory.open(Path(folder))
        return cls(run, run.model_config(), run.tokenizer(), run.task_settings())

    def settings_for(self, task: str) -> dict[str, Any]:
        """Return arguments of its head that another head takes as well."""
        names = ["pooling"] if task == "classification" else []
        if task == self.settings.task:
            # What is trained is one label of several.
            names = [name for name in self.settings.settings if name not in ("scores", "pairs")]
        return {
            name: self.settings.settings[name] for name in names if name in self.settings.settings
        }

    def begin(self, config: StackConfig, head: TaskSettings, console: Console) -> keras.Model:
        """Make a model that begins with its weights."""
        model = make_model(config, head)
        taken = transfer_weights(self.run.load_model(), model)
        console.print(describe(taken, model.weights))
        return model


def _opened(task: type[TaskTraining], data: Data) -> Any:
    return data if isinstance(data, Corpus) else task.open(Path(data))


def _changed(config: StackConfig, fields: dict[str, Any]) -> StackConfig:
    known = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(fields.keys() - known):
        raise InputError(f"A model of the family {config.family!r} has no {', '.join(unknown)}.")
    return dataclasses.replace(config, **fields)


def _samples(task: type[TaskTraining], valid: Corpus | RecordSource) -> list[str]:
    if isinstance(valid, Corpus):
        return list(islice(read_lines(valid.pairs[0][0]), SAMPLES))
    return task.find_samples(valid)


def _data_fields(task: str, train: Data, valid: Data | None) -> dict[str, Any]:
    if isinstance(train, Corpus) and not find_training(task).takes_parallel_text:
        raise InputError(f"{task} takes a file or folder of examples, not parallel text.")
    if valid is not None and isinstance(train, Corpus) != isinstance(valid, Corpus):
        raise InputError("Train and validate on the same kind of data: parallel text, or examples.")
    if not isinstance(train, Corpus):
        assert not isinstance(valid, Corpus)  # as train is none
        names = ("source", "target", "valid_source", "valid_target")
        data = {"data": _absolute(Path(train)), "valid_data": valid and _absolute(Path(valid))}
        return {**dict.fromkeys(names), **data}
    fields = {
        f"valid_{side}": valid and _absolute(getattr(valid, side)) for side in ("source", "target")
    }
    if isinstance(train, ParallelFiles):
        return {"source": _absolute(train.source), "target": _absolute(train.target), **fields}
    return {
        "source": [_absolute(part.source) for part in train.parts],
        "target": [_absolute(part.target) for part in train.parts],
        "weights": None if train.weights is None else list(train.weights),
        **fields,
    }


def _absolute(path: Path) -> str:
    # Links are not followed: what a link leads to may lack the ending .gz.
    return str(path.absolute())


def _with_steps(settings: dict[str, Any], steps: int) -> dict[str, Any]:
    """Fill in what depends on the number of steps, where it is not set."""
    often = max(1, min(1000, steps // 5))
    share = 10 if settings.get("schedule") == "linear" else 4
    return {
        "warmup_steps": min(4000, max(1, steps // share)),
        "validate_every": often,
        "checkpoint_every": often,
        **settings,
        "steps": steps,
    }
