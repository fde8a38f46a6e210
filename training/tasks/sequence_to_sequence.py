"""Training from text to text: translation, summarisation and the like."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.artefacts.bulk import translate
from keras_transformer.errors import InputError
from keras_transformer.models import TransformerConfig, attention_maps
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.pipelines.translator import Translator
from keras_transformer.text import Tokenizer, WordPieceTokenizer
from keras_transformer.text.framing import cut_and_end
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.parallel_text import SIDES, Pairs
from keras_transformer.training.journal import Journal
from keras_transformer.training.metrics import token_metrics
from keras_transformer.training.tasks.task import SAMPLES_SHOWN, TRAINING, TaskTraining
from keras_transformer.typing import Ids, Ragged, Strings, Tensors


class SequenceToSequence(TaskTraining):
    """Pairs of a source and a target: parallel text, or records of two columns."""

    preset = "tiny"
    columns = ("source", "target")
    unit = "pairs"
    counted = "tokens"
    label_smoothing = 0.1
    length_of = SIDES
    takes_parallel_text = True
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
        self.pairs = Pairs(
            tokenizer,
            self.columns,
            model.padding_id,
            model.begin_id,
            model.end_id,
            model.source_begin_id,
            getattr(tokenizer, "unknown_id", None),
        )
        if config.piece_dropout and not isinstance(tokenizer, WordPieceTokenizer):
            raise InputError("piece_dropout is for vocabularies of kind wordpiece; leave it out.")
        if config.token_dropout:
            self.pairs.token_dropout(config.token_dropout)  # refused before there is a run

    @classmethod
    def options(cls, config: TrainingConfig) -> tuple[str, ...]:
        """Return the options of single tasks that this one takes."""
        of_files = ("weights", "data_service") if config.source else ()
        return ("token_dropout", "piece_dropout", "teacher_forcing", *of_files)

    def data(self, part: str) -> Any:
        """Return the pairs to train or to validate on."""
        config = self.config
        if not config.source:
            return super().data(part)
        corpus = config.train_files if part == TRAINING else config.valid_files
        return corpus.named(self.columns)

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ragged]:
        """Frame source and target with the model's special tokens."""
        return self.pairs.featurize(columns)

    def augmentation(self) -> dict[str, Any]:
        """Return what training does to pairs; see `TaskTraining.augmentation`."""
        config = self.config
        rate, longest = config.piece_dropout, config.max_length
        return {
            "vary": self.pairs.piece_dropout(rate, config.seed, longest) if rate else None,
            "corrupt": (
                self.pairs.token_dropout(config.token_dropout) if config.token_dropout else None
            ),
            "data_service": config.data_service,
        }

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
