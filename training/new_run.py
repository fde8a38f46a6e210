"""Setting up a run: from text files to a run directory that is ready to be trained."""

import dataclasses
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from keras_transformer.errors import InputError
from keras_transformer.files import read_lines
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.config import StackConfig, TransformerConfig
from keras_transformer.models.families import find_preset
from keras_transformer.models.gpt import GptConfig
from keras_transformer.models.vision_transformer import VisionTransformerConfig
from keras_transformer.pipelines.tasks import TaskSettings, check_family, find_task, make_model
from keras_transformer.training.config import TrainingConfig, paper_peak
from keras_transformer.training.data.corpora import Corpus, ParallelFiles
from keras_transformer.training.data.vocabulary import WORDPIECE, learn_tokenizer, read_tokenizer
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks.registry import find_training
from keras_transformer.training.tasks.task import SAMPLES, TRAINING, VALIDATION
from keras_transformer.training.transfer import describe, transfer_weights

EPOCHS = 10
# What differs where a model begins with weights that were trained: Devlin et al. 2019, A.3.
FINE_TUNING = {"learning_rate": 5e-5, "schedule": "linear", "optimizer": "adamw"}
FINE_TUNING_EPOCHS = 3

Data: TypeAlias = Corpus | Path | str


def new_run(
    output,
    train: Data,
    valid: Data,
    *,
    task: str = "translation",
    preset: str | None = None,
    init_from: Path | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    tokenizer: str = WORDPIECE,
    vocabulary: Path | None = None,
    vocabulary_size: int = 8000,
    split_digits: bool = False,
    overwrite: bool = False,
    model: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    console: Console | None = None,
) -> RunDirectory:
    """Check the data, learn a vocabulary if none is given, and write the run's configuration.

    Args:
        output: Folder of the run.
        train: What to train on: parallel text, or the name of a file or folder of examples, or a
            pattern of names.
        valid: What to validate on, likewise.
        task: What the model is for, by the name in the table of tasks.
        preset: Name of the model's preset; the task's if None.
        init_from: A run whose weights, tokeniser and model the new one begins with (fine-tuning);
            there is no preset then.
        steps: Number of updates.
        epochs: Number of passes over the training data, instead of `steps`. With neither, 10, and
            3 with `init_from`.
        tokenizer: Kind of the tokeniser that is learned or read, one of `vocabulary.TOKENIZERS`.
        vocabulary: File with a vocabulary; None to learn one from the training text.
        vocabulary_size: Number of pieces to learn.
        split_digits: Whether digits stay single pieces when the vocabulary is learned.
        overwrite: Whether a run in `output` may be replaced.
        model: Fields of the model's configuration that differ from the preset.
        head: Arguments of the model's head, such as `pooling`.
        training: Fields of `TrainingConfig` that differ from their defaults.
        console: Where progress is shown; standard error if None.

    Returns:
        The run directory.

    Raises:
        InputError: If anything is missing, damaged, out of range or in the way. Nothing has been
            written then.
    """
    console = console or Console(stderr=True)
    if steps is not None and epochs is not None:
        raise InputError("Give --steps or --epochs, not both.")
    for name, value in (("steps", steps), ("epochs", epochs), ("vocab-size", vocabulary_size)):
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}.")
    RunDirectory.check_free(output, overwrite)
    trained = find_training(task)
    has_text = find_task(task).has_text
    start = None if init_from is None else _Start.of(Path(init_from), preset, vocabulary)

    # All settings are checked before anything that takes time, with stand-ins for what the text
    # will decide: the size of the vocabulary, and the number of steps in an epoch.
    def make_config(vocabulary_size, **fields) -> StackConfig:
        fields = {**(model or {}), **fields}
        if start is not None:
            return _changed(start.config, fields)
        return find_preset(preset or trained.preset, vocabulary_size, **fields)

    config = make_config(1000)
    check_family(config, task)
    settings: dict[str, Any] = {
        **_data_fields(train, valid),
        "learning_rate": paper_peak(config.d_model),
        "label_smoothing": trained.label_smoothing,
        "max_length": _longest(config),
        **({} if start is None else FINE_TUNING),
        **(training or {}),
    }
    checked = TrainingConfig(**_with_steps(settings, steps or 1_000_000))
    if has_text and checked.max_length > config.max_length:
        raise InputError(
            f"max_length must be at most {config.max_length}, what the model takes, got "
            f"{checked.max_length}."
        )
    if checked.freeze and start is None:
        raise InputError("--freeze is for what a run began from; give one by --init-from.")
    records = [_opened(trained, some) for some in (train, valid)]
    for some in records:
        some.check()

    labels = trained.find_labels(records[0])
    if not has_text:
        made = None
    elif start is not None:
        made = start.tokenizer
    elif vocabulary is not None:
        made = read_tokenizer(tokenizer, vocabulary)
    else:
        made = learn_tokenizer(
            tokenizer,
            records[0].lines() if isinstance(train, Corpus) else trained.lines(records[0]),
            vocabulary_size,
            with_mask=isinstance(config, BertConfig),
            split_digits=split_digits,
            progress=console.is_terminal,
        )
        console.print(f"Learned a vocabulary of {len(made):,} pieces")
    fields = trained.model_fields(labels)
    if made is not None and start is None:
        fields |= _special_ids(config, made)
    config = make_config(None if made is None else len(made), **fields)
    arguments = {**({} if start is None else start.settings_for(task)), **(head or {})}
    shorter = checked.max_length if checked.max_length < config.max_length else None
    made_settings = TaskSettings(task, tuple(labels), arguments, shorter)

    # Measuring refuses data of which nothing can be used.
    sizes: dict[str, Any] = {}
    measuring = trained(config, made_settings, checked, made)
    batches = measuring.measure(sizes, TRAINING).batches
    measuring.measure(sizes, VALIDATION)
    if steps is None:
        steps = (epochs or (EPOCHS if start is None else FINE_TUNING_EPOCHS)) * batches
    initial = None
    if start is not None:
        initial = make_model(config, made_settings)
        taken = transfer_weights(start.run.load_model(), initial)
        console.print(describe(taken, initial.weights))
    return RunDirectory.create(
        output,
        config,
        TrainingConfig(**_with_steps(settings, steps)),
        made,
        _samples(trained, valid, records[1]),
        overwrite,
        sizes,
        made_settings,
        initial=initial,
    )


@dataclasses.dataclass(frozen=True)
class _Start:
    """The run that a new one begins with."""

    run: RunDirectory
    config: StackConfig
    tokenizer: Any
    settings: TaskSettings

    @classmethod
    def of(cls, path, preset, vocabulary):
        """Open it, and refuse options that it decides."""
        for name, value in (("--preset", preset), ("--vocab", vocabulary)):
            if value is not None:
                raise InputError(
                    f"--init-from takes the model and the vocabulary; leave out {name}."
                )
        run = RunDirectory.open(path)
        return cls(run, run.model_config(), run.tokenizer(), run.task_settings())

    def settings_for(self, task):
        """Return arguments of its head that another head takes as well."""
        names = ["pooling"] if task == "classification" else []
        if task == self.settings.task:
            # What is trained is one label of several.
            names = [name for name in self.settings.settings if name not in ("scores", "pairs")]
        return {
            name: self.settings.settings[name] for name in names if name in self.settings.settings
        }


def _opened(trained, data):
    return data if isinstance(data, Corpus) else trained.open(Path(data))


def _changed(config, fields):
    known = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(fields.keys() - known):
        raise InputError(f"A model of the family {config.family!r} has no {', '.join(unknown)}.")
    return dataclasses.replace(config, **fields)


def _longest(config):
    if isinstance(config, VisionTransformerConfig):
        return config.num_patches + 1
    return config.max_length


def _special_ids(config, tokenizer):
    """Return the ids of special tokens, for the model's configuration."""
    fields = {name: getattr(tokenizer, name) for name in ("padding_id", "begin_id", "end_id")}
    if isinstance(config, BertConfig):
        fields["mask_id"] = getattr(tokenizer, "mask_id", None)
    if isinstance(config, GptConfig):  # the end of a text is the beginning of the next
        fields["begin_id"] = fields["end_id"]
    if isinstance(config, TransformerConfig) and config.source_begin_id is not None:
        fields["source_begin_id"] = fields["begin_id"]
    return fields


def _samples(trained, valid, records):
    if isinstance(valid, Corpus):
        return list(islice(read_lines(valid.pairs[0][0]), SAMPLES))
    return trained.find_samples(records)


def _data_fields(train, valid):
    if isinstance(train, Corpus) != isinstance(valid, Corpus):
        raise InputError("Train and validate on the same kind of data: parallel text, or examples.")
    if not isinstance(train, Corpus):
        names = ("source", "target", "valid_source", "valid_target")
        data = {"data": _absolute(Path(train)), "valid_data": _absolute(Path(valid))}
        return {**dict.fromkeys(names), **data}
    fields = {"valid_source": _absolute(valid.source), "valid_target": _absolute(valid.target)}
    if isinstance(train, ParallelFiles):
        return {"source": _absolute(train.source), "target": _absolute(train.target), **fields}
    return {
        "source": [_absolute(part.source) for part in train.parts],
        "target": [_absolute(part.target) for part in train.parts],
        "weights": None if train.weights is None else list(train.weights),
        **fields,
    }


def _absolute(path):
    # Links are not followed: what a link leads to may lack the ending .gz.
    return str(path.absolute())


def _with_steps(settings, steps):
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
