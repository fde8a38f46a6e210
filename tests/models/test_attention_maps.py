"""Tests of keras_transformer.models.attention_maps.

Also: cli.attention.
"""

import numpy as np
import pytest
import tensorflow as tf
from oracles import assert_close, largest_difference, shake

from keras_transformer.layers import attention
from keras_transformer.models import (
    Bert,
    BertConfig,
    Gpt,
    GptConfig,
    SequenceClassifier,
    Transformer,
    TransformerConfig,
    VisionTransformer,
    VisionTransformerConfig,
    attention_maps,
)

SOURCE = np.array([[5, 6, 7, 3], [8, 3, 0, 0]], "int32")
TARGET = np.array([[2, 5, 10], [2, 9, 0]], "int32")
INPUTS = {"source_ids": tf.constant(SOURCE), "target_ids": tf.constant(TARGET)}
NORM_FIRST = pytest.mark.parametrize("norm_first", [False, True])
LAYERS = 2


def made(rng, **options):
    # Dropout is high: it must not act.
    options = {"dropout": 0.5, "embedding_dropout": 0.5, "attention_dropout": 0.5, **options}
    model = Transformer(TransformerConfig(11, LAYERS, 2, 8, 16, **options))
    shake(model, rng)
    return model


def mixed_by(model, inputs, monkeypatch):
    """Run a model, and return the weights that its layers mix by, in their order."""
    seen = []
    ordinary = attention.scaled_dot_product_attention

    def record(*args, **kwargs):
        output, weights = ordinary(*args, **kwargs)
        seen.append(np.array(weights))
        return output, weights

    with monkeypatch.context() as patch:
        patch.setattr(attention, "scaled_dot_product_attention", record)
        model(inputs, training=False)
    return seen


def arrays(maps):
    return {name: np.array(layers) for name, layers in maps.items()}


@NORM_FIRST
def test_maps_are_the_weights_that_the_model_itself_mixes_by(
    rng, monkeypatch, norm_first
):  # C18, E07
    model = made(rng, norm_first=norm_first)
    of_the_model = mixed_by(model, INPUTS, monkeypatch)
    maps = arrays(attention_maps(model, INPUTS))
    assert len(of_the_model) == 3 * LAYERS
    for i in range(LAYERS):
        assert_close(maps["encoder"][i], of_the_model[i])
        assert_close(maps["decoder"][i], of_the_model[LAYERS + 2 * i])
        assert_close(maps["cross"][i], of_the_model[LAYERS + 2 * i + 1])
    assert largest_difference(maps["cross"][0], maps["cross"][1]) > 1e-2


@NORM_FIRST
def test_running_the_blocks_by_hand_gives_the_logits_of_the_model(rng, monkeypatch, norm_first):
    model = made(rng, norm_first=norm_first)
    states = []
    decoder = model.get_layer("decoder")
    network = type(decoder.blocks[-1].feed_forward)
    ordinary = network.__call__

    def record(layer, *args, **kwargs):
        outputs = ordinary(layer, *args, **kwargs)
        if layer is decoder.blocks[-1].feed_forward:
            states.append(outputs)
        return outputs

    monkeypatch.setattr(network, "__call__", record)
    attention_maps(model, INPUTS)
    (last,) = states
    last = decoder.final_norm(last) if norm_first else last
    logits = model.get_layer("embedding")(last, reverse=True)
    assert_close(logits, model(INPUTS, training=False), 1e-4)


@NORM_FIRST
def test_rows_are_distributions_without_padding_and_without_what_comes_later(rng, norm_first):
    model = made(rng, norm_first=norm_first)
    maps = arrays(attention_maps(model, INPUTS))
    shapes = {name: map_.shape for name, map_ in maps.items()}
    assert shapes == {
        "encoder": (LAYERS, 2, 2, 4, 4),
        "decoder": (LAYERS, 2, 2, 3, 3),
        "cross": (LAYERS, 2, 2, 3, 4),
    }
    for map_ in maps.values():
        assert_close(map_.sum(-1), np.ones(map_.shape[:-1]))
        assert map_.dtype == np.float32
    for name in ("encoder", "cross"):
        assert not np.any(maps[name][:, 1, :, :, 2:])
        assert np.all(maps[name][:, 0] > 0)
    later = np.triu(np.ones((3, 3), bool), 1)
    assert not np.any(maps["decoder"][..., later])
    assert np.all(maps["decoder"][..., ~later] > 0)


def test_mixed_precision_has_maps_too(rng):
    model = Transformer(TransformerConfig(11, 1, 2, 8, 16), dtype="mixed_bfloat16")
    for map_ in arrays(attention_maps(model, INPUTS)).values():
        assert_close(map_.sum(-1), np.ones(map_.shape[:-1]), 1e-2)


SMALL = {"num_layers": 2, "num_heads": 2, "d_model": 8, "d_ff": 16, "dropout": 0.5}
IDS = np.array([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]], "int32")
ALONE = {  # model, its inputs, and which of the keys the second row may not see
    "encoder": (
        lambda: SequenceClassifier(BertConfig(11, **SMALL), num_labels=2),
        {"token_ids": IDS, "segment_ids": np.zeros_like(IDS)},
        np.s_[1, :, :, 3:],
    ),
    "rotary": (
        lambda: Bert(BertConfig(11, positions="rotary", pooler=False, **SMALL)),
        {"token_ids": IDS, "segment_ids": np.zeros_like(IDS)},
        np.s_[1, :, :, 3:],
    ),
    "decoder": (
        lambda: Gpt(GptConfig(11, positions="alibi", **SMALL)),
        {"token_ids": IDS},
        np.s_[:, :, 0, 1:],
    ),
    "image": (
        lambda: VisionTransformer(VisionTransformerConfig(**SMALL, image_size=8, patch_size=4)),
        {"images": np.random.default_rng(0).random((2, 8, 8, 3), "float32")},
        np.s_[2:],
    ),
}


@pytest.mark.parametrize("kind", ALONE)
def test_a_stack_alone_has_maps(rng, monkeypatch, kind):  # L44
    make, inputs, hidden = ALONE[kind]
    model = make()
    shake(model, rng)
    of_the_model = mixed_by(model, inputs, monkeypatch)
    ((name, layers),) = attention_maps(model, inputs).items()
    assert name == ("decoder" if kind == "decoder" else "encoder")
    assert len(layers) == len(of_the_model) == 2
    for weights, wanted in zip(layers, of_the_model, strict=True):
        assert_close(weights, wanted)
        assert_close(np.sum(weights, -1), np.ones(wanted.shape[:-1]))
        assert not np.any(np.array(weights)[hidden])
