"""Tests of the shapes that layers say without being run, and of wrappers that ask for them.

Also: layers.layer, layers.layer_mix, layers.patches.
"""

import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_transformer
from keras_transformer import layers as kt
from keras_transformer.models import (
    Gpt,
    GptConfig,
    Transformer,
    TransformerConfig,
)
from keras_transformer.models.heads import Pick
from keras_transformer.models.pooling import PoolTokens
from keras_transformer.models.transformer import CacheMemory, CausalMask

B, S, T, D, H, V = 2, 5, 3, 8, 2, 11
SIZES = {"num_layers": 1, "num_heads": H, "d_model": D, "d_ff": 12, "max_length": 16}
BLOCK = {"num_heads": H, "d_model": D, "d_ff": 12}


def floats(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def ids(*shape):
    return np.random.default_rng(0).integers(1, V, shape).astype("int32")


VECTORS, TOKENS, POSITIONS = floats(B, S, D), ids(B, S), np.arange(S, dtype="int32")
ROWS = np.stack([POSITIONS, POSITIONS + 1])  # positions that differ between rows
DISTANCE = POSITIONS[None, :, None] - POSITIONS[None, None, :]
CACHE = [(floats(B, H, S, D // H), floats(B, H, S, D // H))]
VISIBLE, BIAS = np.ones((1, 1, S), bool), floats(B, 1, S)
STEP = (ids(B, 1), np.int32(2), CACHE, VISIBLE, BIAS, CACHE)
# Each layer: how it is made, and its inputs. A dict at the end has inputs by name.
ONE_INPUT = {
    "AdditiveAttention": (lambda: kt.AdditiveAttention(H, D), VECTORS),
    "ClassToken": (kt.ClassToken, VECTORS),
    "ComplexEmbedding": (lambda: kt.ComplexEmbedding(V, D), TOKENS),
    "Decoder": (lambda: kt.Decoder(2, cross_attention=False, **BLOCK), VECTORS),
    "DecoderBlock": (lambda: kt.DecoderBlock(cross_attention=False, **BLOCK), VECTORS),
    "Dropout": (lambda: kt.Dropout(0.5), VECTORS),
    "Encoder": (lambda: kt.Encoder(2, **BLOCK, positions=kt.LinearBias(H)), VECTORS),
    "EncoderBlock": (lambda: kt.EncoderBlock(**BLOCK), VECTORS),
    "EncoderBlock, pre-norm": (lambda: kt.EncoderBlock(norm_first=True, **BLOCK), VECTORS),
    "FeedForward": (lambda: kt.FeedForward(12, D, gated=True), VECTORS),
    "GroupedQueryAttention": (lambda: kt.GroupedQueryAttention(H, D), VECTORS),
    "LearnedPositions": (lambda: kt.LearnedPositions(16), VECTORS),
    "Linear": (lambda: kt.Linear(7), VECTORS),
    "MultiHeadAttention": (lambda: kt.MultiHeadAttention(H, D), VECTORS),
    "OutputBias": (kt.OutputBias, VECTORS),
    "PatchEmbedding": (lambda: kt.PatchEmbedding(2, D), floats(B, 6, 4, 3)),
    "SharedProjectionAttention": (lambda: kt.SharedProjectionAttention(H, D), VECTORS),
    "SinusoidalPositions": (lambda: kt.SinusoidalPositions(16), VECTORS),
    "SublayerConnection": (lambda: kt.SublayerConnection(kt.FeedForward(12, D)), VECTORS),
    "TokenEmbedding": (lambda: kt.TokenEmbedding(V, D), TOKENS),
}
MORE_INPUTS = {
    "BucketedBias": (lambda: kt.BucketedBias(H), POSITIONS, POSITIONS[:T]),
    "BucketedBias, rows": (lambda: kt.BucketedBias(H), ROWS, POSITIONS[:T]),
    "CacheMemory": (lambda: CacheMemory(decoder()), VECTORS, TOKENS > 3),
    "CausalMask": (CausalMask, TOKENS),
    "Decoder, memory": (lambda: kt.Decoder(1, **BLOCK), VECTORS, VECTORS[:, :T]),
    "DecoderBlock, memory": (lambda: kt.DecoderBlock(**BLOCK), VECTORS, VECTORS[:, :T]),
    "DecoderStep": (lambda: step_of(Transformer(TransformerConfig(V, **SIZES))), *STEP),
    "Distances": (kt.Distances, POSITIONS, ROWS),
    "GptStep": (lambda: step_of(Gpt(GptConfig(V, **SIZES))), *STEP),
    "LayerMix": (kt.LayerMix, [VECTORS, VECTORS]),
    "LinearBias": (lambda: kt.LinearBias(H), POSITIONS, ROWS),
    "MultiHeadAttention, source": (lambda: kt.MultiHeadAttention(H, D), VECTORS, VECTORS[:, :T]),
    "Pick": (Pick, VECTORS, np.array([[1, 0, 4], [2, 2, 2]], "int32")),
    "PoolTokens": (lambda: PoolTokens("mean"), VECTORS, TOKENS > 0),
    "ReadPrompt": (lambda: Gpt(GptConfig(V, **SIZES)).encoder.get_layer("read_prompt"), TOKENS),
    "RotaryPositions": (lambda: kt.RotaryPositions(4), POSITIONS, POSITIONS),
    "RotaryPositions, rows": (lambda: kt.RotaryPositions(4), ROWS),
    "ShawAttention": (lambda: kt.ShawAttention(H, D), VECTORS, {"distance": DISTANCE}),
    "TargetAttention": (lambda: kt.TargetAttention(D), VECTORS[:, 0], VECTORS),
    "TokenEmbedding, reverse": (lambda: kt.TokenEmbedding(V, D), VECTORS, {"reverse": True}),
    "TransformerXLAttention": (
        lambda: kt.TransformerXLAttention(H, D),
        VECTORS,
        {"distance": DISTANCE},
    ),
}
CASES = {**ONE_INPUT, **MORE_INPUTS}


def decoder():
    layer = kt.Decoder(1, **BLOCK)
    layer.build((None, None, D))
    return layer


def step_of(model):
    return model.decoder_step.get_layer("step")


def shapes(values):
    return keras.tree.map_structure(lambda x: tuple(np.shape(x)), values)


def layer_classes():
    """Return the names of all layers in the package, however deep they are."""
    names = [info.name for info in pkgutil.walk_packages(keras_transformer.__path__, "kt.")]
    folders = ("kt.layers.", "kt.models.")
    for name in names:
        if name.startswith(folders):
            importlib.import_module(name.replace("kt.", "keras_transformer.", 1))
    found, classes = set(), [keras.layers.Layer]
    while classes:
        classes += (cls := classes.pop()).__subclasses__()
        if cls.__module__.startswith("keras_transformer") and not issubclass(cls, keras.Model):
            found.add(cls.__name__)
    return {name for name in found if not name.startswith("_")}


def test_every_layer_of_the_package_has_a_case():
    tested = {name.split(",")[0] for name in CASES}
    assert layer_classes() - {"Layer", "DecodingStep"} == tested


@pytest.mark.parametrize("name", CASES)
def test_layers_say_the_shapes_that_they_make(name):
    make, *inputs = CASES[name]
    named = inputs.pop() if isinstance(inputs[-1], dict) else {}
    flags = {key: value for key, value in named.items() if isinstance(value, bool)}
    layer = make()
    said = layer.compute_output_shape(*shapes(inputs), **flags)  # before there are weights
    made = layer(*inputs, **named)
    assert said == shapes(made)
    assert layer.compute_output_shape(*shapes(inputs), **flags) == said


@pytest.mark.parametrize("name", [name for name in ONE_INPUT if name != "PatchEmbedding"])
def test_unknown_sizes_stay_unknown(name):
    make, inputs = ONE_INPUT[name]
    _, _, *rest = inputs.shape
    layer = make()
    said = layer.compute_output_shape((None, None, *rest))
    made = layer(keras.Input((None, *rest), dtype=inputs.dtype))
    assert said == tuple(made.shape)
    assert said[:2] == (None, None)


@pytest.mark.parametrize("length", [3, None])
@pytest.mark.parametrize("name", ONE_INPUT)
def test_time_distributed_computes_what_the_layer_computes_at_each_step(name, length):
    make, one = ONE_INPUT[name]
    steps = np.stack([one, one[::-1], one], axis=1)  # (B, 3, ...)
    layer = make()
    wrapped = keras.layers.TimeDistributed(layer)
    given = keras.Input((length, *one.shape[1:]), dtype=one.dtype)
    model = keras.Model(given, wrapped(given))
    expected = np.stack([layer(steps[:, i]) for i in range(3)], axis=1)
    assert wrapped.compute_output_shape(steps.shape) == expected.shape
    np.testing.assert_allclose(model(steps), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["BucketedBias", "Distances", "LinearBias"])
def test_dtypes_are_those_that_are_made_and_not_all_the_compute_dtype(name):
    make, *inputs = CASES[name]
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = make()
    finally:
        keras.config.set_dtype_policy(policy)
    symbols = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in inputs]
    said, made = (keras.tree.flatten(layer(*values)) for values in (symbols, inputs))
    dtypes = [keras.backend.standardize_dtype(x.dtype) for x in made]
    assert [spec.dtype for spec in said] == dtypes
    assert "bfloat16" not in dtypes
