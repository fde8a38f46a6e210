"""Tests of keras_transformer.training.optimizers."""

import keras
import numpy as np
import pytest
from fixtures_families import without_decoding
from oracles import assert_close

from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training import (
    OPTIMIZERS,
    Constant,
    CrossEntropy,
    InverseSquareRoot,
    adafactor,
    adamw,
    paper_adam,
)
from keras_transformer.training.optimizers import AdamW

__all__ = ["without_decoding"]

EACH = pytest.mark.parametrize("name", OPTIMIZERS)


def adam_by_hand(weights, gradients, rate, decay=0.0):
    """One step a gradient, with the means corrected for having begun at 0."""
    mean = square = 0.0
    for t, gradient in enumerate(gradients, start=1):
        weights = weights - rate * decay * weights
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.98 * square + 0.02 * gradient**2
        step = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.98**t)) + 1e-9)
        weights = weights - rate * step
    return weights


def adafactor_by_hand(weights, gradients, rate):
    """Algorithms 4 and 5 of the paper, with sums over rows and columns as it writes them."""
    rows = columns = full = 0.0
    for t, gradient in enumerate(gradients, start=1):
        keep = 1 - t**-0.8
        square = gradient**2 + 1e-30
        if gradient.ndim == 2:
            rows = keep * rows + (1 - keep) * square.sum(axis=1)
            columns = keep * columns + (1 - keep) * square.sum(axis=0)
            second = np.outer(rows, columns) / rows.sum()
        else:
            second = full = keep * full + (1 - keep) * square
        update = gradient / np.sqrt(second)
        update = update / max(1, np.sqrt(np.mean(update**2)))  # clipping, d = 1
        size = max(1e-3, np.sqrt(np.mean(weights**2)))
        weights = weights - min(rate, t**-0.5) * size * update
    return weights


def after(optimizer, weights, gradients):
    """Return what an optimizer makes of one variable."""
    variable = keras.Variable(weights, dtype="float32")
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    return variable.numpy()


def tiny_model(**changes):
    config = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 16, "max_length": 8, **changes}
    return Transformer(TransformerConfig(vocabulary_size=12, **config))


def batch(rng, rows=16):
    ids = rng.integers(4, 12, (rows, 5)).astype("int32")
    return {"source_ids": ids, "target_ids": ids}, ids


# --- Adam -----------------------------------------------------------------------------------------


def test_adam_has_the_values_of_the_paper():  # T04
    config = paper_adam(0.1).get_config()
    assert (config["beta_1"], config["beta_2"], config["epsilon"]) == (0.9, 0.98, 1e-9)


def test_adam_by_hand():  # T04
    gradients = [np.array([0.5]), np.array([-2.0]), np.array([1.0])]
    expected = adam_by_hand(np.ones(1), gradients, 0.1)
    assert_close(after(paper_adam(0.1), np.ones(1), gradients), expected)


def test_first_step_of_adam_is_the_learning_rate_whatever_the_gradient():  # T04: bias correction
    gradients = [np.array([1e-6, -1e-3, 1.0, -1e3])]
    moved = after(paper_adam(0.1), np.zeros(4), gradients)
    assert_close(moved, [-0.1, 0.1, -0.1, 0.1], 1e-3)


@pytest.mark.parametrize(
    ("gradients", "clipped"),
    [
        ([[3.0], [4.0]], [[0.6], [0.8]]),  # the direction stays
        ([[0.3], [0.4]], [[0.3], [0.4]]),
        ([[0.0], [0.0]], [[0.0], [0.0]]),
    ],
)
@pytest.mark.parametrize("make", [paper_adam, adamw])
def test_gradients_are_clipped_by_their_norm_together(make, gradients, clipped):  # T10
    optimizer = make(0.1, global_clipnorm=1.0)
    variables = [keras.Variable(np.zeros(1)) for _ in gradients]
    optimizer.apply([np.array(g, "float32") for g in gradients], variables)
    means = [v.numpy() for v in optimizer.variables if v.path.endswith("momentum")]
    assert_close(means, 0.1 * np.array(clipped))
    assert all(np.isfinite(v.numpy()).all() for v in variables)


# --- AdamW ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [adamw, adafactor])
def test_without_gradient_matrices_shrink_and_vectors_do_not(make):  # T05
    variables = [keras.Variable(np.full(shape, 2.0)) for shape in ([3, 4], [4], [])]
    optimizer = make(0.1, weight_decay=0.5)
    for expected in (2 * 0.95, 2 * 0.95**2):  # by lr * wd = 0.05 a step
        optimizer.apply([np.zeros(v.shape, "float32") for v in variables], variables)
        assert_close(variables[0].numpy(), np.full([3, 4], expected), 1e-6)
        assert (variables[1].numpy() == 2).all()
        assert variables[2].numpy() == 2


def test_decay_is_decoupled_from_the_gradient(rng):  # T05
    weights, gradients = rng.normal(size=(3, 2)), [rng.normal(size=(3, 2)) for _ in range(3)]
    expected = adam_by_hand(weights, gradients, 0.1, decay=0.5)
    assert_close(after(adamw(0.1, 0.5), weights, gradients), expected)


def test_decay_follows_the_schedule():  # T05
    variable = keras.Variable(np.ones([1, 1]))
    optimizer = adamw(Constant(0.4, 4), weight_decay=0.5)
    expected = 1.0
    for rate in (0.1, 0.1, 0.2, 0.3, 0.4, 0.4):
        optimizer.apply([np.zeros([1, 1], "float32")], [variable])
        expected *= 1 - rate * 0.5
        assert float(variable.numpy()[0, 0]) == pytest.approx(expected, rel=1e-6)


def test_without_decay_adamw_is_the_adam_of_the_paper(rng):  # T05
    weights, gradients = rng.normal(size=(3, 2)), [rng.normal(size=(3, 2)) for _ in range(3)]
    plain = after(paper_adam(0.1), weights, gradients)
    assert (after(adamw(0.1, 0.0), weights, gradients) == plain).all()
    assert (after(adamw(0.1, 0.5), weights, gradients) != plain).all()
    assert adamw(0.1, beta_2=0.999).beta_2 == 0.999  # each value can be replaced


def test_what_decays_in_a_transformer_is_kernels_and_tables():  # T05
    model = tiny_model()
    optimizer = adamw(0.1)
    optimizer.build(model.trainable_variables)
    spared = {v.name for v in model.trainable_variables if not optimizer._use_weight_decay(v)}
    decayed = {v.name for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert spared == {"bias", "gamma", "beta"}
    assert "kernel" in decayed
    assert not spared & decayed


def test_excluding_more_by_hand_works_as_in_keras():
    table, kernel = keras.Variable(np.ones([2, 2])), keras.Variable(np.ones([2, 2]))
    optimizer = adamw(0.1, 0.5)
    optimizer.exclude_from_weight_decay([table])
    optimizer.apply([np.zeros([2, 2], "float32")] * 2, [table, kernel])
    assert_close(table.numpy(), np.ones([2, 2]), 0)
    assert_close(kernel.numpy(), np.full([2, 2], 0.95), 1e-6)


def test_loaded_model_still_spares_biases_and_norms(reload):  # T05
    inputs = keras.Input([3])
    outputs = keras.layers.LayerNormalization()(keras.layers.Dense(3)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(adamw(0.1, weight_decay=0.5), "mse")
    model.fit(np.ones([1, 3]), np.ones([1, 3]), verbose=0)
    loaded = reload(model)
    assert type(loaded.optimizer) is AdamW
    assert loaded.optimizer.weight_decay == 0.5
    before = loaded.get_weights()
    loaded.optimizer = AdamW.from_config(loaded.optimizer.get_config())  # without old momentum
    variables = loaded.trainable_variables
    loaded.optimizer.apply([np.zeros(v.shape, "float32") for v in variables], variables)
    for old, new in zip(before, loaded.get_weights(), strict=True):
        assert_close(new, 0.95 * old if old.ndim == 2 else old, 1e-6)


# --- Adafactor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3), (5,), ()])
@pytest.mark.parametrize("rate", [1e-2, 0.8])  # the second is more than 1/sqrt(t) from step 2 on
@pytest.mark.parametrize("scheduled", [False, True])
def test_adafactor_is_that_of_the_paper(rng, shape, rate, scheduled):
    weights = rng.normal(size=shape)
    gradients = [np.asarray(rng.normal(size=shape)) * 10.0**-t for t in range(3)]
    expected = adafactor_by_hand(weights, gradients, rate)
    actual = after(adafactor(Constant(rate) if scheduled else rate), weights, gradients)
    assert_close(actual, expected, 1e-5)
    assert np.abs(expected - weights).max() > 1e-4


def test_adafactor_clips_a_sudden_large_update():
    calm, sudden = np.full([2, 2], 1e-3), np.full([2, 2], 1.0)
    gradients = [calm] * 5 + [sudden]
    weights = np.full([2, 2], 3.0)
    before = after(adafactor(1e-2), weights, gradients[:-1])
    moved = after(adafactor(1e-2), weights, gradients) - before
    assert_close(moved, -1e-2 * before, 1e-6)  # the root mean square of the update is 1, no more


def test_adafactor_moves_a_variable_that_is_zero_and_stands_without_gradient():
    zeros, ones = np.zeros([2, 2]), np.ones([2, 2])
    assert_close(after(adafactor(1e-2), zeros, [ones]), -1e-5 * ones, 1e-9)  # 1e-3 * 1e-2
    assert (after(adafactor(1e-2), ones, [zeros]) == 1).all()


def test_adafactor_takes_each_matrix_of_a_stack_by_itself(rng):
    # But for clipping and size, which are those of the whole variable: here of equal matrices.
    weights, gradient = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    expected = adafactor_by_hand(weights, [gradient, -gradient], 1e-2)
    stacked = after(adafactor(1e-2), [weights] * 2, [[gradient] * 2, [-gradient] * 2])
    assert_close(stacked, [expected] * 2, 1e-6)


def test_adafactor_stays_finite_where_an_empty_row_and_column_cross():
    gradient = np.ones([3, 4])
    gradient[1] = gradient[:, 2] = 0
    expected = adafactor_by_hand(np.ones([3, 4]), [gradient], 1e-2)
    assert_close(after(adafactor(1e-2), np.ones([3, 4]), [gradient]), expected, 1e-6)
    keras_own = keras.optimizers.Adafactor(1e-2)  # the control, and the reason for our own
    assert np.isnan(after(keras_own, np.ones([3, 4]), [gradient])).all()


def test_adafactor_adds_up_the_gradients_of_a_token_that_comes_twice():
    table = keras.layers.Embedding(4, 2)
    model = keras.Sequential([keras.layers.Input([3], dtype="int32"), table])
    model.compile(adafactor(1e-2), "mse", jit_compile=False)
    weights, ids = table.get_weights()[0].astype("float64"), np.array([[1, 1, 3]])
    gradient = np.zeros([4, 2])
    np.add.at(gradient, ids[0], 2 * (weights[ids[0]] - 1) / 6)
    model.fit(ids, np.ones([1, 3, 2]), verbose=0)
    assert_close(table.get_weights()[0], adafactor_by_hand(weights, [gradient], 1e-2), 1e-6)


def test_what_each_optimizer_keeps():
    numbers = {}
    for name, make in OPTIMIZERS.items():
        optimizer = make(0.1)
        optimizer.build([keras.Variable(np.zeros([30, 20])), keras.Variable(np.zeros([20]))])
        numbers[name] = sum(np.prod(v.shape) for v in optimizer.variables if v.ndim)
    assert numbers == {"adam": 1240, "adamw": 1240, "adafactor": 30 + 20 + 20}


# --- All of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "policy"),
    [("adam", "float32"), ("adamw", "mixed_float16"), ("adafactor", "float32")],
)
@pytest.mark.usefixtures("without_decoding")
def test_each_trains_a_transformer(name, policy, rng):
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny_model(dropout=0.0, embedding_dropout=0.0)
    finally:
        keras.config.set_dtype_policy("float32")
    rate = {"adafactor": 0.1}.get(name, 1e-2)
    optimizer = OPTIMIZERS[name](Constant(rate, 5), weight_decay=0.001, global_clipnorm=1.0)
    model.compile(optimizer, CrossEntropy(), jit_compile=False)
    inputs, labels = batch(rng)
    losses = model.fit(inputs, labels, batch_size=16, epochs=40, verbose=0).history["loss"]
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (
        policy == "mixed_float16"
    )
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]
    assert all(np.isfinite(w).all() for w in model.get_weights())


@EACH
def test_config_gives_back_each(name):
    optimizer = OPTIMIZERS[name](
        InverseSquareRoot.noam(512), weight_decay=0.02, global_clipnorm=1.0, use_ema=True
    )
    data = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(data)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert again.weight_decay == 0.02
    assert float(again.learning_rate) == float(optimizer.learning_rate)


@EACH
def test_training_goes_on_from_a_saved_model(name, reload, rng):
    model = keras.Sequential([keras.layers.Input([3]), keras.layers.Dense(2)])
    model.compile(OPTIMIZERS[name](Constant(0.1, 5), use_ema=True), "mse", jit_compile=False)
    x, y = rng.normal(size=(8, 3)), np.ones([8, 2])
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    loaded = reload(model)
    for each in (model, loaded):
        each.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        assert_close(a, b, 0)


@EACH
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_weights_after_fit_are_their_moving_average(name, policy):
    layer = keras.layers.Dense(1, use_bias=False, dtype=policy)
    model = keras.Sequential([keras.layers.Input([2]), layer])
    model.compile(OPTIMIZERS[name](0.1, use_ema=True, ema_momentum=0.75), "mse")
    raw = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: raw.append(layer.kernel.numpy().copy())
    )
    x = np.ones([4, 2], "float32")
    model.fit(x, np.zeros([4, 1]), batch_size=1, shuffle=False, verbose=0, callbacks=[note])
    average = raw[0]  # it begins with the weights after the first step
    for weights in raw[1:]:
        average = 0.75 * average + 0.25 * weights
    assert_close(layer.kernel.numpy(), average, 1e-6)
    assert np.abs(average - raw[-1]).max() > 1e-3
