"""Training of language models: to predict the next token, or tokens that were hidden."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.artefacts.bulk import translate
from keras_transformer.errors import InputError
from keras_transformer.files import find_files
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.gpt import GptConfig
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.pipelines.text_generator import TextGenerator
from keras_transformer.text import Tokenizer
from keras_transformer.text.framing import frame
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.batching import ALONE, Batching, Worker
from keras_transformer.training.data.noise import mask_tokens
from keras_transformer.training.data.records import JSON_LINES
from keras_transformer.training.data.tables import TABLES
from keras_transformer.training.data.token_stream import TokenStream, all_windows, windows
from keras_transformer.training.journal import Journal
from keras_transformer.training.metrics import token_metrics
from keras_transformer.training.tasks.task import SAMPLES_SHOWN, TRAINING, TaskTraining
from keras_transformer.typing import Ids, Ragged, Strings, Tensor, Tensors

PROMPT = 30  # characters of a sample that the model goes on from


@dataclasses.dataclass(frozen=True)
class StreamSize:
    """The size of a stream of text.

    Args:
        tokens: Its tokens.
        batches: Batches with as many tokens as it has.
    """

    tokens: int
    batches: int


class CausalLanguageModelling(TaskTraining):
    """Text, each token of which is predicted from those before it.

    A file of plain text is one text, line feeds and all; of a table or a `.jsonl` file, each
    record is one. An end token follows each of them, and then they are one row of tokens, of which
    windows of `max_length` are cut at random.
    """

    preset = "gpt-tiny"
    columns = ("text",)
    unit = "windows"
    counted = "tokens"
    model: GptConfig

    def __init__(
        self, model: GptConfig, settings: TaskSettings, config: TrainingConfig, tokenizer: Tokenizer
    ) -> None:
        super().__init__(model, settings, config, tokenizer)
        self._streams: dict[str, TokenStream] = {}

    @classmethod
    def is_running_text(cls, path: Any) -> bool:
        """Return whether files are plain text; see `TaskTraining.is_running_text`."""
        return not is_of_records(path)

    @classmethod
    def lines(cls, records: Any) -> Iterator[str]:
        """Yield the texts to learn a tokeniser from, with the line feeds that they have."""
        ends = "" if is_of_records(records.path) else "\n"
        return (text + ends for (text,) in records)

    def stream(self, part: str) -> TokenStream:
        """Return the tokens of a part, which are read once."""
        if part not in self._streams:
            records = self.data(part)
            end = self.model.end_id
            if is_of_records(records.path):
                texts = (text for (text,) in records)
                self._streams[part] = TokenStream.from_texts(texts, self.tokenizer, end)
            else:
                self._streams[part] = TokenStream.from_files(records.path, self.tokenizer, end)
        return self._streams[part]

    def measure(self, known: dict[str, Any], part: str, worker: Worker = ALONE) -> StreamSize:
        """Check and count the text; see `TaskTraining.measure`."""
        stream, length = self.stream(part), self.config.max_length
        if part == TRAINING and len(stream) <= length:
            raise InputError(
                f"The text to train on has {len(stream):,} tokens, and a window has {length:,}: "
                "choose a smaller --max-length."
            )
        batch = self._rows(self.batching(part, worker)) * length * worker[1]
        return StreamSize(len(stream), max(1, len(stream) // batch))

    def describe(self, size: StreamSize) -> list[str]:
        """Describe how many tokens there are."""
        return [f"{size.tokens:,} tokens, as many as in {size.batches:,} batches"]

    def training_batches(
        self, size: StreamSize, first_batch: int, worker: Worker = ALONE
    ) -> tf.data.Dataset:
        """Return windows without end, from one batch on."""
        rows = self._rows(self.batching(TRAINING, worker))
        length, seed = self.config.max_length, self.config.seed
        return windows(self.stream(TRAINING), length, rows, seed, first_batch, worker=worker)

    def validation_batches(self) -> tf.data.Dataset:
        """Return windows that hold each token of the text once."""
        rows = self._rows(self.config.batching)
        padding = self.model.padding_id
        stream = self.stream("validation")
        return all_windows(stream, self.config.max_length, rows, padding_id=padding)

    def _rows(self, batching: Batching) -> int:
        return batching.batch_tokens // self.config.max_length

    def metrics(self) -> list[keras.metrics.Metric]:
        """Make the metrics of validation."""
        return token_metrics(self.config.label_smoothing, self.ignore_id)

    def show(self, model: keras.Model, samples: Sequence[str]) -> Callable[[Journal, int], None]:
        """Show how the model goes on from the beginnings of texts."""
        prompts = [sample[:PROMPT] for sample in samples[:SAMPLES_SHOWN]]
        writer = TextGenerator(model, self.tokenizer)

        def show(journal: Journal, step: int) -> None:
            if prompts:
                rows = zip(prompts, translate(writer, prompts).texts, strict=True)
                journal.table(step, "continuations", ("prompt", "text"), rows)

        return show


class MaskedLanguageModelling(TaskTraining):
    """Texts, a line each, of which some tokens are hidden and predicted from all others.

    Which tokens are hidden is drawn anew in each epoch (dynamic masking); to validate on, the same
    ones are each time.
    """

    preset = "bert-tiny"
    columns = ("text",)
    unit = "texts"
    counted = "tokens"
    model: BertConfig

    def check_tokenizer(self) -> None:
        """Refuse a vocabulary without a mask."""
        if self.tokenizer.mask_id is None:
            raise InputError(
                "Masked language modelling needs a vocabulary with a mask, such as [MASK]."
            )

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ids]:
        """Cut texts, and frame them with [CLS] and [SEP]."""
        ids = self.tokenizer.tokenize(columns["text"])
        inputs = encoder_inputs(ids, self.model, self.config.max_length)
        return inputs, tf.zeros([ids.nrows()], tf.int32)

    @classmethod
    def options(cls, config: TrainingConfig) -> tuple[str, ...]:
        """Return the options of single tasks that this one takes."""
        return ("mask_rate",)

    def corrupt(self, inputs: Tensors, labels: Ids, seed: Tensor) -> tuple[Tensors, Ids]:
        """Hide tokens of a batch."""
        model = self.model
        masked = mask_tokens(
            inputs["token_ids"],
            seed,
            mask_id=self.tokenizer.mask_id,
            vocabulary_size=len(self.tokenizer),
            special_ids=(model.padding_id, model.begin_id, model.end_id),
            rate=self.config.mask_rate,
        )
        labels = masked.pop("labels")
        return {**inputs, **masked}, labels

    def metrics(self) -> list[keras.metrics.Metric]:
        """Make the metrics of validation, over the hidden tokens."""
        return token_metrics(self.config.label_smoothing, self.ignore_id)


def encoder_inputs(ids: Ragged, model: BertConfig, max_length: int) -> Tensors:
    """Frame pieces as an encoder of BERT's kind wants them: [CLS] pieces [SEP].

    Args:
        ids: Ragged pieces `(N, (S))`, without special tokens.
        model: Configuration of the encoder.
        max_length: Most tokens of a row; what is beyond is cut, as when the model is used.
    """
    ids = frame(ids[:, : max_length - 2], [model.begin_id], [model.end_id], keep_empty=False)
    if model.num_segments > 1:
        return {"token_ids": ids, "segment_ids": tf.zeros_like(ids)}
    return {"token_ids": ids}


def is_of_records(path: Path | str) -> bool:
    """Return whether files hold records, each of which is a text; otherwise each file is one."""
    endings = (*TABLES, *JSON_LINES)
    return all(str(file).removesuffix(".gz").endswith(endings) for file in find_files(Path(path)))
