"""Training from text to text: translation, summarisation and the like."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.artefacts.bulk import translate
from keras_transformer.errors import InputError
from keras_transformer.models import TransformerConfig, attention_maps
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text import Tokenizer
from keras_transformer.text.framing import cut_and_end, frame
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.batching import ALONE, Worker
from keras_transformer.training.data.corpora import ParallelFiles
from keras_transformer.training.data.corpus_size import CorpusSize, measured
from keras_transformer.training.data.examples import ExampleSize
from keras_transformer.training.data.parallel_text import make_batches, make_training_batches
from keras_transformer.training.journal import Journal
from keras_transformer.training.metrics import token_metrics
from keras_transformer.training.tasks.task import SAMPLES_SHOWN, TRAINING, TaskTraining
from keras_transformer.typing import Ids, Ragged, Strings, Tensors


class SequenceToSequence(TaskTraining):
    """Pairs of a source and a target.

    Parallel text of models that this package began takes the way that is made for it, which can
    mix texts by shares and drop tokens. Everything else goes the way of all tasks: records, and
    models that were imported, whose special tokens are others.
    """

    preset = "tiny"
    columns = ("source", "target")
    unit = "pairs"
    counted = "tokens"
    label_smoothing = 0.1
    length_of = ("source_ids", "target_ids")
    model: TransformerConfig

    def __init__(
        self,
        model: TransformerConfig,
        settings: TaskSettings,
        config: TrainingConfig,
        tokenizer: Tokenizer,
    ) -> None:
        super().__init__(model, settings, config, tokenizer)
        self.ignore_id = model.padding_id
        ids = (model.padding_id, model.begin_id, model.end_id, model.source_begin_id)
        self.is_parallel = bool(config.source) and ids == (PADDING_ID, BEGIN_ID, END_ID, None)
        for name in ("weights", "token_dropout", "piece_dropout", "data_service"):
            if getattr(config, name) and not self.is_parallel:
                raise InputError(
                    f"{name} is for parallel text and for models that were not imported; leave it "
                    "out."
                )

    def data(self, part: str) -> Any:
        """Return the pairs to train or to validate on."""
        config = self.config
        if not config.source:
            return super().data(part)
        corpus = config.train_files if part == TRAINING else config.valid_files
        if self.is_parallel:
            return corpus
        if not isinstance(corpus, ParallelFiles):
            raise InputError("A model that was imported takes one --source and one --target.")
        return dataclasses.replace(corpus, columns=self.columns)

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ragged]:
        """Frame source and target with the model's special tokens."""
        model = self.model
        source, target = (self.tokenizer.tokenize(columns[name]) for name in self.columns)
        begins = [] if model.source_begin_id is None else [model.source_begin_id]
        inputs = {
            "source_ids": frame(source, begins, [model.end_id]),
            "target_ids": frame(target, [model.begin_id], []),
        }
        return inputs, frame(target, [], [model.end_id])

    def measure(
        self, known: dict[str, Any], part: str, worker: Worker = ALONE
    ) -> CorpusSize | ExampleSize:
        """Check and count the pairs; see `TaskTraining.measure`."""
        if not self.is_parallel:
            return super().measure(known, part, worker)
        batching = self.batching(part, worker)
        return measured(known, part, self.data(part), self.tokenizer, batching, worker)

    def describe(self, size: CorpusSize | ExampleSize) -> list[str]:
        """Describe how many pairs there are, and how many are left out."""
        if not isinstance(size, CorpusSize):
            return super().describe(size)
        lines = [
            f"{size.pairs:,} pairs, {size.target_tokens:,} target tokens, {size.batches:,} "
            f"batches, {size.padding:.0%} padding"
        ]
        if size.too_long:
            lines.append(f"left out: {size.too_long:,} pairs longer than --max-length tokens")
        if size.empty:
            lines.append(f"left out: {size.empty:,} pairs with an empty side")
        return lines

    def training_batches(
        self, size: Any, first_batch: int, worker: Worker = ALONE
    ) -> tf.data.Dataset:
        """Return batches without end, from one on."""
        if not self.is_parallel:
            return super().training_batches(size, first_batch, worker)
        config = self.config
        return make_training_batches(
            self.data(TRAINING),
            self.tokenizer,
            self.batching(TRAINING, worker),
            config.seed,
            size,
            first_batch,
            worker=worker,
            token_dropout=config.token_dropout,
            piece_dropout=config.piece_dropout,
            data_service=config.data_service,
        )

    def validation_batches(self) -> tf.data.Dataset:
        """Return batches of all pairs to validate on."""
        if not self.is_parallel:
            return super().validation_batches()
        return make_batches(self.config.valid_files, self.tokenizer, self.config.batching)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Make the metrics of validation."""
        return token_metrics(self.config.label_smoothing, self.ignore_id)

    def show(self, model: keras.Model, samples: Sequence[str]) -> Callable[[Journal, int], None]:
        """Show translations, and where the heads look meanwhile."""
        samples = samples[:SAMPLES_SHOWN]
        translator = Translator(model, self.tokenizer)

        def pieces(ids: Ids) -> list[str]:
            return [self.tokenizer.vocabulary[int(i)] for i in ids]

        def show(journal: Journal, step: int) -> None:
            if not samples:
                return
            outputs = translate(translator, samples).texts
            rows = zip(samples, outputs, strict=True)
            journal.table(step, "translations", ("source", "output"), rows)
            if not self.is_parallel:
                return
            ids = self.tokenizer.tokenize([samples[0], outputs[0]])
            longest, end, padding = self.model.max_length, self.model.end_id, self.model.padding_id
            source = cut_and_end(ids[:1].to_tensor(padding), longest, end, padding)
            target = np.concatenate([[self.model.begin_id], ids[1].numpy()])[None, :longest].astype(
                "int32"
            )
            inputs = {"source_ids": source, "target_ids": tf.constant(target)}
            journal.attention(
                step, attention_maps(model, inputs), pieces(source[0]), pieces(target[0])
            )

        return show


class Summarisation(SequenceToSequence):
    """Texts and what is important in them: translation into fewer words."""

    columns = ("document", "summary")
