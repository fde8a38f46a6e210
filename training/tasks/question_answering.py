"""Training of what finds the answer to a question in a passage."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.models.bert import BertConfig
from keras_transformer.text.framing import join_pairs
from keras_transformer.text.word_pieces import check_words, word_pieces
from keras_transformer.training.data.records import Record, Records, RecordSource
from keras_transformer.training.tasks.task import TaskTraining
from keras_transformer.training.tasks.token_classification import WORD
from keras_transformer.typing import Ids, Ragged, Strings, Tensor, Tensors

ANY_LENGTH = 1 << 30


@dataclasses.dataclass(frozen=True)
class Answers:
    """Questions, passages, and the words of the passage that are the answer.

    The answer is where it first occurs in the passage, and begins and ends with whole words.

    Args:
        examples: Records of a question, a passage and an answer.
    """

    examples: Records
    columns: tuple[str, ...] = ("question", "passage", "first", "last")

    @property
    def path(self) -> Path:
        """The file, or the pattern of files."""
        return self.examples.path

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return self.examples.paths

    def __iter__(self) -> Iterator[Record]:
        """Yield the examples in order."""
        return (record for _, record in self.located())

    def located(self) -> Iterator[tuple[str, Record]]:
        """Yield the examples in order, each with its file and line.

        Raises:
            InputError: If a passage does not hold its answer.
        """
        for place, (question, passage, answer) in self.examples.located():
            begin = passage.find(answer.strip())
            if begin < 0 or not answer.strip():
                raise InputError(
                    f"{place}: the answer {answer[:60]!r} is not in the passage. It must be "
                    "written as it is there."
                )
            end = begin + len(answer.strip())
            words = [match.span() for match in WORD.finditer(passage)]
            inside = [i for i, (a, b) in enumerate(words) if a < end and b > begin]
            yield place, (question, passage, str(inside[0]), str(inside[-1]))

    def check(self) -> int:
        """Read all to the end, and return the number of examples."""
        self.examples.check()
        return sum(1 for _ in self)


class QuestionAnswering(TaskTraining):
    """Questions and passages, and where in these the answers begin and end."""

    preset = "bert-tiny"
    columns = ("question", "passage", "answer")
    model: BertConfig

    def check_tokenizer(self) -> None:
        """Refuse a tokeniser whose pieces span words."""
        check_words(self.tokenizer)

    @classmethod
    def open(cls, path: Path) -> Answers:
        """Return the examples in files."""
        return Answers(Records(path, cls.columns))

    @classmethod
    def lines(cls, records: RecordSource) -> Iterator[str]:
        """Yield the texts to learn a tokeniser from."""
        return (text for record in records for text in record[:2])

    @classmethod
    def find_samples(cls, records: RecordSource) -> list[str]:
        """Return nothing: a question needs its passage."""
        return []

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ids]:
        """Put question and passage into one row, and number the first and the last piece."""
        question = self.tokenizer.tokenize(columns["question"])
        passage = word_pieces(self.tokenizer, columns["passage"])
        # Nothing is cut: rows that are too long are left out later, as their answers might be cut.
        pair = join_pairs(question, passage.ids, self.model, ANY_LENGTH)
        lengths = pair["begins"] + pair["counts"] + 1
        lengths = tf.where(question.row_lengths() > 0, lengths, 0)  # nothing was asked
        inputs = {"token_ids": tf.RaggedTensor.from_tensor(pair["ids"], lengths=lengths)}
        if self.model.num_segments > 1:
            inputs["segment_ids"] = tf.RaggedTensor.from_tensor(pair["segment_ids"], lengths)
        first, last = (
            tf.strings.to_number(columns[name], tf.int32)[:, tf.newaxis]
            for name in ("first", "last")
        )
        begin = _pick(passage.places, first)
        end = _pick(passage.places, last) + tf.maximum(_pick(passage.counts, last), 1) - 1
        return inputs, tf.stack([begin, end], axis=1) + pair["begins"][:, tf.newaxis]


def _pick(rows: Ragged, index: Tensor) -> Tensor:
    """Pick an element of each row: ragged `(N, (W))`, `(N, 1)` -> `(N,)`."""
    return tf.gather(rows.to_tensor(), index, batch_dims=1)[:, 0]
