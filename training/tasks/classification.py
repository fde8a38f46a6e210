"""Training of classifiers of texts."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.models.bert import BertConfig
from keras_transformer.pipelines.tasks import make_servable
from keras_transformer.training.data.records import (
    RecordSource,
    check_labels,
    count_labels,
    label_set,
)
from keras_transformer.training.journal import Journal
from keras_transformer.training.tasks.language_modelling import encoder_inputs
from keras_transformer.training.tasks.task import SAMPLES_SHOWN, TaskTraining
from keras_transformer.typing import Ids, Strings, Tensors


class LabelTask(TaskTraining):
    """Examples with a label from a set, which is that of the training data.

    The label is the last column.
    """

    @classmethod
    def find_labels(cls, records: RecordSource) -> list[str]:
        """Return the labels that occur, sorted."""
        return label_set(records, cls.columns[-1])

    @classmethod
    def lines(cls, records: RecordSource) -> Iterator[str]:
        """Yield the texts to learn a tokeniser from."""
        return (record[0] for record in records)

    def check(self, records: RecordSource) -> None:
        """Refuse damaged examples, and labels that are not in the set."""
        super().check(records)
        check_labels(records, self.columns[-1], self.settings.labels)

    def count_labels(self, records: RecordSource) -> dict[str, int]:
        """Return how often each label occurs."""
        return count_labels(records, self.columns[-1])

    def is_better(self, values: dict[str, float], best: dict[str, float]) -> bool:
        """Return whether more labels are right; an overconfident model has a high loss."""
        return (values["accuracy"], -values["loss"]) > (best["accuracy"], -best["loss"])

    def label_ids(self, names: Strings) -> Ids:
        """Turn names of labels into their numbers: strings `(N,)` -> int32 `(N,)`."""
        same = tf.equal(names[:, tf.newaxis], tf.constant(self.settings.labels))
        return tf.argmax(tf.cast(same, tf.int32), axis=1, output_type=tf.int32)


class TextClassification(LabelTask):
    """Texts, each with a label: the first column and the last."""

    preset = "bert-tiny"
    columns = ("text", "label")
    model: BertConfig

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ids]:
        """Cut texts, and number the labels."""
        ids = self.tokenizer.tokenize(columns[self.columns[0]])
        inputs = encoder_inputs(ids, self.model, self.config.max_length)
        return inputs, self.label_ids(columns[self.columns[-1]])

    def show(self, model: keras.Model, samples: Sequence[str]) -> Callable[[Journal, int], None]:
        """Show what the model says of a few texts."""
        samples = samples[:SAMPLES_SHOWN]
        servable = make_servable(model, self.tokenizer, self.settings)

        def show(journal: Journal, step: int) -> None:
            if samples:
                found = servable.call("serving_default", text=samples)
                labels = np.char.decode(found["label"].astype("S"), "utf-8")
                rows = zip(samples, labels, found["probability"].round(3), strict=True)
                journal.table(step, "labels", ("text", "label", "probability"), rows)

        return show
