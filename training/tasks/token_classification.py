"""Training of what labels the words of a text, such as names or parts of speech."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.models.bert import BertConfig
from keras_transformer.text.framing import frame
from keras_transformer.text.word_pieces import check_words, word_pieces
from keras_transformer.training.data.records import RecordSource
from keras_transformer.training.tasks.language_modelling import encoder_inputs
from keras_transformer.training.tasks.task import TaskTraining
from keras_transformer.typing import Ragged, Strings, Tensors

WORD = re.compile(r"[^\t-\r ]+")  # what `word_pieces` takes for a word


class TokenClassification(TaskTraining):
    """Texts with a label for each word; words, and labels, have spaces between them.

    A word's label is learned from its first piece.
    """

    preset = "bert-tiny"
    columns = ("words", "labels")
    model: BertConfig

    def check_tokenizer(self) -> None:
        """Refuse a tokeniser whose pieces span words."""
        check_words(self.tokenizer)

    @classmethod
    def lines(cls, records: RecordSource) -> Iterator[str]:
        """Yield the texts to learn a tokeniser from."""
        return (words for words, _ in records)

    @classmethod
    def find_labels(cls, records: Any) -> list[str]:
        """Return the labels that occur, sorted."""
        found = {label for _, labels in records for label in labels.split()}
        if len(found) < 2:
            raise InputError(
                f"{records.path} must hold at least two labels to choose from, but there is "
                f"{', '.join(map(repr, found)) or 'none'}."
            )
        return sorted(found)

    def check(self, records: RecordSource) -> None:
        """Refuse texts that do not have a known label for each word."""
        super().check(records)
        known = set(self.settings.labels)
        for place, (words, labels) in records.located():
            counts = len(WORD.findall(words)), len(labels.split())
            if counts[0] != counts[1]:
                raise InputError(
                    f"{place}: {counts[0]} words, but {counts[1]} labels. Give each word one "
                    "label, with spaces between them."
                )
            if unknown := [label for label in labels.split() if label not in known]:
                raise InputError(
                    f"{place}: the label {unknown[0]!r} is unknown; supported are "
                    f"{', '.join(self.settings.labels)}."
                )

    def count_labels(self, records: RecordSource) -> dict[str, int]:
        """Return how often each label occurs."""
        return dict(Counter(label for _, labels in records for label in labels.split()))

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ragged]:
        """Cut texts, and give each word's label to its first piece."""
        pieces = word_pieces(self.tokenizer, columns["words"])
        names = tf.strings.split(columns["labels"])  # (N, (W))
        same = tf.equal(names.values[:, tf.newaxis], tf.constant(self.settings.labels))
        ids = names.with_values(tf.argmax(tf.cast(same, tf.int32), 1, tf.int32))
        of_pieces = tf.gather(ids, pieces.word, batch_dims=1)
        first = pieces.first.values
        labels = of_pieces.with_values(tf.where(first, of_pieces.values, self.ignore_id))
        longest = self.config.max_length
        inputs = encoder_inputs(pieces.ids, self.model, longest)
        edge = [self.ignore_id]
        return inputs, frame(labels[:, : longest - 2], edge, edge, keep_empty=False)
