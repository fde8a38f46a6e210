"""Training of a task: its data, its loss, its metrics, and what to show meanwhile.

`TaskTraining` does it for any task whose examples are records. A task of its own says what its
columns are and what it makes of them; the tasks are in the files of their names, and
`pipelines/tasks.py` lists them.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.models.config import StackConfig
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.text import Tokenizer
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.batching import ALONE, Batching, Worker
from keras_transformer.training.data.corpus_size import CorpusSize, count_examples, fingerprint
from keras_transformer.training.data.examples import (
    NO_LABEL,
    make_example_batches,
    make_example_training_batches,
)
from keras_transformer.training.data.reading import groups_of, paths_of, shares_of
from keras_transformer.training.data.records import Records, RecordSource
from keras_transformer.training.journal import Journal
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.metrics import TokenAccuracy, TokenCrossEntropy
from keras_transformer.typing import Ids, Strings, Tensor, Tensors

TRAINING, VALIDATION = "training", "validation"
SAMPLES = 50  # texts kept in the run
SAMPLES_SHOWN = 5
LABELS_SHOWN = 10
# Options of training that some tasks take and others would ignore.
OPTIONS_OF_TASKS = (
    *("weights", "token_dropout", "piece_dropout", "data_service", "mask_rate"),
    "teacher_forcing",
)


class TaskTraining:
    """The base of all trainings: what the trainer calls.

    Args:
        model: Configuration of the model.
        settings: What the model is for, with the names of the labels.
        config: How it is trained, and on what.
        tokenizer: Cuts text into ids; None where there is no text.
    """

    preset: str  # of the model, if none is asked for
    columns: tuple[str, ...]  # of the examples
    unit = "examples"
    counted = "labels"  # what the loss counts
    label_smoothing = 0.0  # if none is asked for
    length_of: tuple[str, ...] = ("token_ids",)  # the inputs that decide the length of an example
    takes_parallel_text = False  # beside records
    ignore_id = NO_LABEL  # label of what counts for nothing
    corrupt: Any = None  # damages batches, see `make_example_batches`

    def __init__(
        self,
        model: StackConfig,
        settings: TaskSettings,
        config: TrainingConfig,
        tokenizer: Tokenizer | None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.config = config
        self.tokenizer: Any = tokenizer  # None only where nothing asks for it
        self.check_tokenizer()

    def check_tokenizer(self) -> None:
        """Refuse a tokeniser that the task can't use."""

    # --- Before there is a run --------------------------------------------------------------------

    @classmethod
    def options(cls, config: TrainingConfig) -> tuple[str, ...]:
        """Return the options of single tasks that this one takes."""
        return ()

    @classmethod
    def check_options(cls, task: str, config: TrainingConfig) -> None:
        """Refuse options that the task would ignore.

        Runs that were made before this was checked are still opened.
        """
        default = {field.name: field.default for field in dataclasses.fields(config)}
        for name in sorted({*OPTIONS_OF_TASKS} - {*cls.options(config)}):
            if getattr(config, name) not in (default[name], None):
                of_data = " with these examples" if cls.takes_parallel_text else ""
                raise InputError(f"{task} takes no {name}{of_data}; leave it out.")

    @classmethod
    def open(cls, path: Path) -> Any:
        """Return the examples in files."""
        return Records(path, cls.columns)

    @classmethod
    def is_running_text(cls, path: str | None) -> bool:
        """Return whether files are one text each, and not examples."""
        return False

    @classmethod
    def find_labels(cls, records: RecordSource) -> list[str]:
        """Return the names of the labels; none where there are no labels."""
        return []

    @classmethod
    def lines(cls, records: RecordSource) -> Iterator[str]:
        """Yield the texts to learn a tokeniser from."""
        return (text for record in records for text in record)

    @classmethod
    def find_samples(cls, records: RecordSource) -> list[str]:
        """Return a few texts that the model can answer by themselves."""
        return [record[0].replace("\n", " ") for record in islice(records, SAMPLES)]

    @classmethod
    def model_fields(cls, labels: Sequence[str]) -> dict[str, Any]:
        """Return what the labels decide of the model's configuration."""
        return {}

    # --- Data -------------------------------------------------------------------------------------

    def data(self, part: str) -> Any:
        """Return the examples to train or to validate on."""
        path: Any = self.config.data if part == TRAINING else self.config.valid_data
        return self.open(path)

    def batching(self, part: str, worker: Worker = ALONE) -> Batching:
        """Return how examples are put into batches; all workers together make one of training."""
        whole = self.config.batching
        if part == VALIDATION:
            return whole
        return dataclasses.replace(whole, batch_tokens=whole.batch_tokens // worker[1])

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Tensor]:
        """Make inputs and labels of strings, in the graph; see `make_example_batches`."""
        raise NotImplementedError

    def check(self, records: RecordSource) -> None:
        """Read examples to the end, and refuse what can't be trained on.

        Raises:
            InputError: If something is missing or damaged; the message says where.
        """
        records.check()

    def count_labels(self, records: RecordSource) -> dict[str, int]:
        """Return how often each label occurs; nothing where there are no labels."""
        return {}

    def measure(self, known: dict[str, Any], part: str, worker: Worker = ALONE) -> Any:
        """Check and count the data, unless that has been done and nothing has changed since.

        Args:
            known: What was counted, by part. What is counted now is added.
            part: `TRAINING` or `VALIDATION`.
            worker: Whose share of the data to count.

        Returns:
            The size, with `batches`, the number of them in an epoch.

        Raises:
            InputError: If the data is missing or damaged, or nothing of it can be used.
        """
        records, batching = self.data(part), self.batching(part, worker)
        vocabulary = None if self.tokenizer is None else self.tokenizer.vocabulary
        groups = [len(paths_of(group)) for group in groups_of(records)]
        decides = [
            *(self.settings.to_dict(), vocabulary, dataclasses.astuple(batching), worker),
            *(groups, shares_of(records)),
        ]
        of = fingerprint(records.paths, decides)
        noted = known.get(part)
        if isinstance(noted, dict) and noted.get("of") == of:
            return CorpusSize.from_dict(noted["size"])
        self.check(records)
        size = count_examples(
            records, self.featurize, batching, worker=worker, length_of=self.length_of
        )
        size = dataclasses.replace(size, labels=self.count_labels(records))
        known[part] = {"of": of, "size": dataclasses.asdict(size)}
        return size

    def describe(self, size: Any) -> list[str]:
        """Describe the data: a line, and one for each kind of examples that are left out."""
        name, tokens = list(size.tokens.items())[-1]  # those of targets, as training counts them
        kind = "target tokens" if name == "target_ids" else "tokens"
        lines = [
            f"{size.examples:,} {self.unit}, {tokens:,} {kind}, {size.batches:,} batches, "
            f"{size.padding:.0%} padding"
        ]
        if size.too_long:
            lines.append(f"left out: {size.too_long:,} {self.unit} longer than --max-length tokens")
        if size.empty:
            lines.append(f"left out: {size.empty:,} {self.unit} with an empty column")
        return lines + describe_labels(size.labels)

    def training_batches(
        self, size: Any, first_batch: int, worker: Worker = ALONE
    ) -> tf.data.Dataset:
        """Return batches without end, from one on."""
        return make_example_training_batches(
            self.data(TRAINING),
            self.featurize,
            self.batching(TRAINING, worker),
            self.config.seed,
            size,
            first_batch,
            worker=worker,
            length_of=self.length_of,
            padding_id=self.model.padding_id,
            label_padding=self.ignore_id,
            **self.augmentation(),
        )

    def augmentation(self) -> dict[str, Any]:
        """Return what training does to examples: arguments of `make_example_training_batches`."""
        return {"corrupt": self.corrupt}

    def validation_batches(self) -> tf.data.Dataset:
        """Return batches of all data to validate on, the same each time."""
        return make_example_batches(
            self.data(VALIDATION),
            self.featurize,
            self.batching(VALIDATION),
            length_of=self.length_of,
            padding_id=self.model.padding_id,
            label_padding=self.ignore_id,
            corrupt=self.corrupt,
        )

    # --- The model --------------------------------------------------------------------------------

    def loss(self) -> keras.losses.Loss:
        """Return the loss of training."""
        return CrossEntropy(self.config.label_smoothing, self.ignore_id)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Make the metrics of validation; the first is the loss."""
        return [
            TokenCrossEntropy(self.config.label_smoothing, ignore_id=self.ignore_id),
            TokenAccuracy("accuracy", ignore_id=self.ignore_id),
        ]

    def is_better(self, values: dict[str, float], best: dict[str, float]) -> bool:
        """Return whether the values of a validation are better than the best so far."""
        return values["loss"] < best["loss"]

    def width(self, inputs: Tensors) -> int:
        """Return the length of a batch's longest example."""
        return max((inputs[name].shape[1] for name in self.length_of), default=1)

    def summary(self, inputs: Tensors) -> str:
        """Describe a batch, for messages."""
        ids = inputs[self.length_of[0]]
        texts = json.dumps(self.texts(ids[:2]), ensure_ascii=False)
        rows = f"{ids.shape[0]} {self.unit} of up to {ids.shape[1]} tokens"
        return f"{rows} that begins with {texts}"

    def texts(self, ids: Ids) -> list[str]:
        """Turn ids into the texts that they stand for."""
        special = [self.model.padding_id, self.model.begin_id, self.model.end_id]
        real = tf.reduce_all(tf.not_equal(ids[..., tf.newaxis], special), axis=-1)
        texts = self.tokenizer.detokenize(tf.ragged.boolean_mask(ids, real))
        return [text.decode("utf-8", "replace") for text in texts.numpy()]

    def show(self, model: keras.Model, samples: Sequence[str]) -> Callable[[Journal, int], None]:
        """Return what shows, at each validation, what the model makes of a few texts.

        Args:
            model: The model that is trained.
            samples: The texts.
        """
        return lambda journal, step: None


def describe_labels(labels: dict[str, int]) -> list[str]:
    """Describe how often labels occur, the most frequent first: a line, or none without labels."""
    if not labels:
        return []
    frequent = sorted(labels.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count:,}" for label, count in frequent[:LABELS_SHOWN])
    rest = len(frequent) - LABELS_SHOWN
    return [f"labels: {shown}" + (f" and {rest:,} more" if rest > 0 else "")]
