"""Every class of model at a tiny size, with a batch to train it on."""

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest

from keras_transformer import models
from keras_transformer.models import gpt, transformer
from keras_transformer.training.losses import BinaryCrossEntropy, CrossEntropy

V, S, T = 20, 5, 4
LENGTHS = (5, 2, 3, 4)  # of the rows of a batch, so that two replicas get different numbers
SIZES = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 12, "max_length": 12}
# On many devices these make the step of another: of Bart, of Bert, and, in two kinds of labels, of
# SentenceEncoder (one a row) and Electra (one a token).
LIKE_ANOTHER = ("Marian", "Roberta", "SequenceClassifier", "TokenClassifier")
NO_DROPOUT = {"dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0}


def leave_out_decoding(patch):
    """Leave out the graphs for decoding, which take the most time and own no weights."""
    for module, names in (
        (transformer, ("_encoder_graph", "step_graph")),
        (gpt, ("_prompt_graph", "step_graph")),
    ):
        for name in names:
            patch.setattr(module, name, lambda *_: None)


@pytest.fixture
def without_decoding(monkeypatch):
    """Models without the graphs for decoding."""
    leave_out_decoding(monkeypatch)


@contextlib.contextmanager
def in_float64():
    """Let Keras compute in float64 for a while."""
    import keras

    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and what it is trained on.

    Args:
        cls: The class.
        config: The configuration.
        inputs: A batch of four rows.
        labels: Their labels.
        loss: What `compile` gets.
        arguments: What else the class takes.
    """

    cls: type
    config: Any
    inputs: dict
    labels: Any
    loss: Any
    arguments: dict = dataclasses.field(default_factory=dict)

    def make(self, **kwargs):
        """Make the model."""
        return self.cls(self.config, **self.arguments, **kwargs)


def tokens(rng, length, padding, first=None):
    """Draw rows of tokens, filled up with padding at their ends."""
    ids = rng.integers(5, V - 1, (4, length)).astype("int32")
    if first is not None:
        ids[:, 0] = first
    for row, real in zip(ids, LENGTHS, strict=True):
        row[real:] = padding
    return ids


def _both_sides(cls, config):
    rng = np.random.default_rng(0)
    pad = config.padding_id
    inputs = {
        "source_ids": tokens(rng, S, pad),
        "target_ids": tokens(rng, T, pad, config.begin_id),
    }
    return Case(cls, config, inputs, tokens(rng, T, pad), CrossEntropy(ignore_id=pad))


def _encoder(cls, config, labels, loss=None, **arguments):
    rng = np.random.default_rng(0)
    ids = tokens(rng, S, config.padding_id, config.begin_id)
    inputs = {"token_ids": ids}
    if config.num_segments > 1:
        second = (np.arange(S) >= 1)[None] & (ids != config.padding_id)
        inputs["segment_ids"] = second.astype("int32")
    if cls is models.MaskedLanguageModel:
        inputs["places"] = np.array([[1, 3], [1, 0], [1, 2], [3, 0]], "int32")
    return Case(cls, config, inputs, labels, loss or CrossEntropy(ignore_id=-1), dict(arguments))


def make_cases():
    """Return a `Case` a class of model, by name."""
    common = {**SIZES, **NO_DROPOUT}
    bert = models.BertConfig(V, **common, begin_id=2, end_id=3)
    roberta = models.RobertaConfig(V, **common)
    electra = models.ElectraConfig(V, **common, begin_id=2, end_id=3, mask_id=4, embedding_width=6)
    gpt = models.GptConfig(V, **common)
    ids = tokens(np.random.default_rng(0), S, 0)
    per_token = np.where(ids == 0, -1, ids % 3)
    per_row = np.array([0, 2, 1, 0])
    rng = np.random.default_rng(1)
    return {
        "Transformer": _both_sides(models.Transformer, models.TransformerConfig(V, **common)),
        "T5": _both_sides(models.T5, models.T5Config(V, **common, num_buckets=8, max_distance=6)),
        "Bart": _both_sides(models.Bart, models.BartConfig(V, **common)),
        "Marian": _both_sides(
            models.Bart,
            models.BartConfig.preset("marian", V, **common, padding_id=V - 1, begin_id=V - 1),
        ),
        "Bert": _encoder(
            models.Bert, bert, {"pooled": per_row}, {"pooled": CrossEntropy(ignore_id=-1)}
        ),
        "Roberta": _encoder(
            models.Roberta, roberta, {"pooled": per_row}, {"pooled": CrossEntropy(ignore_id=-1)}
        ),
        "Electra": _encoder(
            models.Electra, electra, np.minimum(per_token, 1), BinaryCrossEntropy()
        ),
        "Gpt": Case(
            models.Gpt,
            gpt,
            {"token_ids": tokens(rng, T, 0)},
            tokens(rng, T, 0),
            CrossEntropy(),
        ),
        "VisionTransformer": Case(
            models.VisionTransformer,
            models.VisionTransformerConfig(
                **common, image_size=6, patch_size=2, channels=1, num_classes=3
            ),
            {"images": rng.uniform(-1, 1, (4, 6, 6, 1)).astype("float32")},
            per_row,
            CrossEntropy(ignore_id=-1),
        ),
        "SequenceClassifier": _encoder(models.SequenceClassifier, bert, per_row, num_labels=3),
        "TokenClassifier": _encoder(models.TokenClassifier, roberta, per_token, num_labels=3),
        "QuestionAnswerer": _encoder(
            models.QuestionAnswerer, bert, np.array([[1, 4], [1, 1], [1, 2], [-1, 3]])
        ),
        "SentenceEncoder": _encoder(models.SentenceEncoder, bert, per_row, normalize=True),
        "MaskedLanguageModel": _encoder(
            models.MaskedLanguageModel,
            electra,
            np.array([[7, 0], [9, -1], [0, 8], [11, -1]]),
        ),
    }


def train_once(case, run_eagerly=False, **kwargs):
    """Make the model and one step of `fit`, as a plain Keras script does.

    Args:
        case: A `Case`.
        run_eagerly: Whether to make the step without a graph.
        **kwargs: `dtype`, and `name`.

    Returns:
        Tuple of the model, its weights before the step, and the history.
    """
    import keras

    keras.utils.set_random_seed(1)
    model = case.make(**kwargs)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), loss=case.loss, run_eagerly=run_eagerly)
    history = model.fit(
        case.inputs, case.labels, batch_size=4, epochs=1, shuffle=False, verbose=0
    ).history
    return model, before, history
