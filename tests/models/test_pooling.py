"""Tests of models.pooling and SentenceEncoder: one vector of many, whatever the padding."""

import keras
import numpy as np
import pytest
from fixtures_checkpoints import loaded

from keras_transformer.errors import InputError
from keras_transformer.models import BertConfig, SentenceEncoder
from keras_transformer.models.pooling import KINDS, PoolTokens, unit_length

__all__ = ["loaded"]
RNG = np.random.default_rng(0)
SEQUENCE = RNG.normal(-3, 1, (2, 5, 4)).astype("float32")  # below 0, where zeros would be seen
LENGTHS = (5, 3)
MASK = np.array([[i < n for i in range(5)] for n in LENGTHS])
TINY = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 8, "max_length": 9}


def by_hand(kind, rows):
    n = len(rows)
    return {
        "first": rows[0],
        "last": rows[-1],
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "mean_sqrt_length": rows.sum(axis=0) / np.sqrt(n),
        "weighted_mean": np.arange(1, n + 1) @ rows / np.arange(1, n + 1).sum(),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_is_of_real_tokens_alone(kind):
    layer = PoolTokens(kind)
    wanted = [by_hand(kind, rows[:n]) for rows, n in zip(SEQUENCE, LENGTHS, strict=True)]
    np.testing.assert_allclose(layer(SEQUENCE, MASK), wanted, rtol=1e-5)
    spoiled = np.where(MASK[:, :, None], SEQUENCE, 1e3).astype("float32")
    np.testing.assert_allclose(layer(spoiled, MASK), wanted, rtol=1e-5)
    # The negative control: without the mask padding is seen, but by what is in front of it.
    seen = np.abs(np.array(layer(spoiled, np.ones_like(MASK))) - wanted)[1].max() > 1
    assert seen == (kind != "first")


def test_unit_length_leaves_zeros_alone():
    found = np.array(unit_length(np.array([[3.0, 4.0], [0.0, 0.0]], "float32")))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)


STEPS = ["normalize", {"width": 3, "activation": "tanh"}, {"width": 2, "use_bias": False}]


def test_an_encoder_with_steps_is_saved_and_loaded(tmp_path):
    config = BertConfig(vocabulary_size=12, **TINY)
    model = SentenceEncoder(config, pooling=["mean", "max"], normalize=False, steps=STEPS)
    inputs = {name: np.array([[2, 5, 3, 0]], "int32") for name in ("token_ids", "segment_ids")}
    inputs["segment_ids"] *= 0
    vector = np.array(model(inputs))
    assert vector.shape == (1, 2)
    pooled = SentenceEncoder(config, pooling=["mean", "max"], normalize=True)
    for name in ("embedding", "positions", "segments", "embedding_norm", "encoder"):
        pooled.get_layer(name).set_weights(model.get_layer(name).get_weights())
    first, second = (model.get_layer(f"dense_{i}").get_weights() for i in (1, 2))
    hidden = np.tanh(np.array(pooled(inputs)) @ first[0] + first[1])
    np.testing.assert_allclose(vector, hidden @ second[0], atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(inputs), vector, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "median"}, "pooling must be one of first, last, max"),
        ({"pooling": []}, "names no way"),
        ({"steps": ["norm"]}, "got 'norm'"),
        ({"steps": [{"width": 3, "units": 4}]}, "A step is 'normalize', or a dict"),
        ({"steps": [{"activation": "tanh"}]}, "A step is 'normalize', or a dict"),
    ],
)
def test_what_makes_no_vector_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SentenceEncoder(BertConfig(vocabulary_size=12, **TINY), **arguments)
