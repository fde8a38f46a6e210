"""Tests of keras_transformer.layers.recompute: less memory, and not one bit of another result."""

import functools
import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from oracles import largest_difference

from keras_transformer.layers import Decoder, Encoder, attend_to, causal_mask
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training.losses import CrossEntropy

STACKS = pytest.mark.parametrize("stack_class", [Encoder, Decoder])
RATES = {"dropout": 0.3, "attention_dropout": 0.3, "ffn_dropout": 0.3}
SOURCE_MASK = attend_to(np.array([[True] * 5, [True] * 2 + [False] * 3]))
STEPS = 3


def made(stack_class, recompute, dtype=None, **options):
    keras.utils.set_random_seed(3)  # the same weights and the same random state every time
    options = {"num_heads": 2, "d_model": 8, "d_ff": 16, **RATES, **options}
    stack = stack_class(2, **options, recompute=recompute, dtype=dtype)
    stack.build((None, None, 8))
    return stack


def steps_of(stack, rng, *, graph=True):
    """The output and every gradient of a few steps, those of the inputs last."""
    x, memory = (tf.constant(rng.normal(size=(2, n, 8)), "float32") for n in (4, 5))
    target = tf.constant(rng.normal(size=(2, 5 if isinstance(stack, Encoder) else 4, 8)), "float32")
    if isinstance(stack, Encoder):
        inputs, options = [memory], {"attention_mask": SOURCE_MASK}
    else:
        inputs, options = (
            [x, memory],
            {"attention_mask": causal_mask(4), "memory_mask": SOURCE_MASK},
        )

    def step():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            if isinstance(stack, Encoder):
                y = stack(inputs[0], **options, training=True)
            else:
                y = stack(inputs[0], memory=inputs[1], **options, training=True)
            loss = ops.sum(ops.cast(y, "float32") * target)
        variables = [*stack.trainable_variables, *inputs]
        return [y, *tape.gradient(loss, variables, unconnected_gradients="zero")]

    if graph:
        step = tf.function(step)
    return [[np.array(ops.cast(x, "float32")) for x in step()] for _ in range(STEPS)]


@functools.cache
def results(stack_class, recompute, dtype=None, *, graph=True, **options):
    """The same of a stack that is made anew; kept, since a graph takes seconds to trace."""
    stack = made(stack_class, recompute, dtype, **options)
    return steps_of(stack, np.random.default_rng(0), graph=graph)


def equal(one, other):
    return all(
        np.array_equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


# --- The same result ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack_class", "norm_first", "graph"),
    # Each with each other once; the first two are compared with again below.
    [
        (Encoder, False, True),
        (Decoder, False, True),
        (Decoder, True, True),
        (Encoder, True, False),
        (Decoder, False, False),
    ],
)
def test_outputs_and_gradients_are_the_same_to_the_last_bit(  # T15
    stack_class, norm_first, graph
):
    options = {"norm_first": True} if norm_first else {}
    kept, again = (results(stack_class, r, graph=graph, **options) for r in (False, True))
    if stack_class is Decoder and not graph:
        # Each block adds to the gradient of the memory, and without a graph in another order.
        for one, other in zip(kept, again, strict=True):
            np.testing.assert_allclose(other[-1], one[-1], rtol=0, atol=1e-5)
        kept, again = ([step[:-1] for step in steps] for steps in (kept, again))
    assert equal(kept, again)
    for a, b in itertools.combinations(kept, 2):
        assert largest_difference(a[0], b[0]) > 0.1  # each step drops out other units
    assert all(np.any(gradient) for gradient in again[0])


@STACKS
def test_half_precision_is_the_same_too(stack_class):  # T15, T12
    kept, again = (results(stack_class, r, "mixed_bfloat16") for r in (False, True))
    assert equal(kept, again)
    assert not equal(kept, results(stack_class, False))


def test_the_gradient_reaches_the_memory():
    memory_gradients = [[step[-1] for step in results(Decoder, r)] for r in (False, True)]
    assert np.array_equal(*memory_gradients)
    real = memory_gradients[1][0]
    assert np.all(np.any(real[0], axis=-1))
    assert not np.any(real[1, 2:])  # masked


@pytest.mark.parametrize(("stack_class", "rate"), [(Encoder, 0.0), (Encoder, 0.3), (Decoder, 0.3)])
def test_recomputation_as_keras_offers_it_forgets_dropout(monkeypatch, stack_class, rate):
    """The negative control: what is computed again is not what was computed."""

    def naive(block):
        return lambda x, **options: keras.remat(lambda x: block(x, **options))(x)

    options = {} if rate == RATES["dropout"] else dict.fromkeys(RATES, rate)
    kept = results(stack_class, False, **options)
    monkeypatch.setattr("keras_transformer.layers.stacks.recompute", naive)
    other = steps_of(made(stack_class, True, **options), np.random.default_rng(0))
    # The decoder's memory is caught inside of the function there, so that it gets no gradient.
    weights = len(made(stack_class, False).trainable_variables)
    differences = [
        largest_difference(a, b)
        for a, b in zip(kept[0][1 : weights + 1], other[0][1 : weights + 1], strict=True)
    ]
    assert (max(differences) > 1e-2) == (rate > 0)


def test_fit_with_micro_batches_gives_the_same_weights():  # T15, T11
    weights, losses = [], []
    rng = np.random.default_rng(0)
    source, target, labels = (rng.integers(4, 30, (6, n)).astype("int32") for n in (9, 7, 7))
    source[:3, 4:] = labels[2:5, 5:] = 0
    data = tf.data.Dataset.from_tensors(({"source_ids": source, "target_ids": target}, labels))
    for recompute in (False, True):
        keras.utils.set_random_seed(1)
        config = TransformerConfig(
            30, 1, 2, 16, 32, **RATES, embedding_dropout=0.3, recompute=recompute
        )
        model = Transformer(config)
        model.compile(keras.optimizers.SGD(0.1), loss=CrossEntropy(0.1), accumulate=2)
        history = model.fit(data.repeat(), steps_per_epoch=STEPS, verbose=0, shuffle=False).history
        weights.append(model.get_weights())
        losses.append(history["loss"])
    assert losses[0] == losses[1]
    assert [np.array_equal(a, b) for a, b in zip(*weights, strict=True)] == [True] * len(weights[0])


@STACKS
def test_outside_of_training_nothing_is_computed_again(stack_class, monkeypatch):
    stack = made(stack_class, True)
    monkeypatch.setattr(
        "keras_transformer.layers.stacks.recompute", lambda _: pytest.fail("recomputed")
    )
    x = np.ones((2, 4, 8), "float32")
    options = {} if stack_class is Encoder else {"memory": x}
    before = [state.numpy() for state in stack.non_trainable_variables]
    for training in (False, None):
        stack(x, **options, training=training)
    for old, new in zip(before, stack.non_trainable_variables, strict=True):
        assert np.array_equal(old, new.numpy())


def test_it_is_saved_with_the_model(reload):
    config = TransformerConfig(11, 1, 2, 8, 16, recompute=True)
    loaded = reload(Transformer(config))
    assert loaded.config.recompute
    for name in ("encoder", "decoder"):
        assert loaded.get_layer(name).recompute
        assert loaded.get_layer(name).get_config()["recompute"]
    assert not Encoder(1, num_heads=2, d_model=8, d_ff=16).recompute


# --- Less memory ----------------------------------------------------------------------------------

STEPS_MEMORY = """
import re
from pathlib import Path
import keras
import tensorflow as tf
from keras_transformer.layers import Encoder

def status(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

def megabytes(recompute):
    encoder = Encoder(9, num_heads=2, d_model=64, d_ff=64, dropout=0.1, recompute=recompute)
    encoder.build((None, None, 64))

    @tf.function(input_signature=[tf.TensorSpec((None, None, 64))])
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(x, training=True) ** 2)
        return tf.linalg.global_norm(tape.gradient(loss, encoder.trainable_variables))

    step(tf.ones((1, 2, 64)))
    before = status("VmRSS")
    step(tf.ones((64, 64, 64)))
    return (status("VmHWM") - before) / 1024

print(megabytes(True), megabytes(False))  # the greater last, for the peak is that of the process
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_step_needs_much_less_memory():  # T15
    child = subprocess.run(
        [sys.executable, "-c", STEPS_MEMORY], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    recomputed, kept = map(float, child.stdout.split()[-2:])
    print(recomputed, kept)  # seen: 27 and 107
    assert recomputed < kept / 3
