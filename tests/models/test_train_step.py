"""Tests of keras_transformer.models.train_step: one update, however its batch is split.

`pytest -s tests/models/test_train_step.py` prints the table of docs/distributed.md.

Also: models.loss_scale, models.model.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_run import free_ports
from oracles import largest_difference

import keras_transformer as kt
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training.losses import CrossEntropy

PROCESS = Path(__file__).with_name("train_step_process.py")
PLACES = {"single": "1 replica", "mirrored": "2 replicas", "multiworker": "2 workers"}
BOUNDS = {
    "float32": 1e-5,  # seen: 1.2e-7
    # Activations have 8 and 11 significant bits, and their sums depend on the order. Seen after
    # three steps with a rate of 0.5: 9.6e-3 and 1.6e-3.
    "mixed_bfloat16": 2e-2,
    "mixed_float16": 5e-3,
}
CASES = [
    {"accumulate": k, "recompute": recompute, "policy": policy}
    for policy, k, recompute in itertools.product(BOUNDS, (1, 4), (False, True))
    if (k == 4) == recompute  # accumulation alone is below, recomputation in test_recompute.py
]
CONTROL = {"accumulate": 1, "recompute": False, "policy": "float32", "mean": True}


def is_tried(place, case):
    """Other places take their time: all make the hardest case, and two replicas a few more."""
    hardest = [x for x in CASES if x["accumulate"] == 4 and x["policy"] != "mixed_bfloat16"]
    if "worker" in place:
        return case == hardest[0]
    return place == "single" or case in (*hardest, CASES[0], CONTROL)


TRIED = [
    (place, case) for place in [*PLACES, "other worker"] for case in CASES if is_tried(place, case)
]


def start(folder, *places, **environment):
    folder.mkdir()
    cases = {
        place: [case if is_tried(place, case) else None for case in (*CASES, CONTROL)]
        for place in places
    }
    return subprocess.Popen(
        [sys.executable, PROCESS, folder, json.dumps(cases)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What was seen in each place; the last is two processes."""
    folder = tmp_path_factory.mktemp("train_step")
    processes = {"one": start(folder / "one", "single", "mirrored")}
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    for i, name in enumerate(("first", "second")):
        task = {"cluster": cluster, "task": {"type": "worker", "index": i}}
        processes[name] = start(folder / name, "multiworker", TF_CONFIG=json.dumps(task))
    for name, process in processes.items():
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 0, f"{name}: {errors}"
    files = {
        "single": "one/single",
        "mirrored": "one/mirrored",
        "multiworker": "first/multiworker",
        "other worker": "second/multiworker",
    }
    found = {place: dict(np.load(folder / f"{file}.npz")) for place, file in files.items()}
    for place, title in PLACES.items():
        for i, case in enumerate(CASES):
            if not is_tried(place, case):
                continue
            difference = largest_difference(
                found[place][f"{i} weights"], found["single"][f"{_plain(case)} weights"]
            )
            print(
                f"| {title} | {case['accumulate']} | {'on' if case['recompute'] else 'off'} | "
                f"{case['policy']} | {difference:.1e} |"
            )
    return found


def _plain(case):
    """The first case of a policy: one replica, where it is float32 in one piece."""
    return next(i for i, c in enumerate(CASES) if c["policy"] == case["policy"])


@pytest.mark.parametrize(
    ("place", "case"),
    TRIED,
    ids=lambda x: x if isinstance(x, str) else "-".join(str(v) for v in x.values()),
)
def test_the_update_does_not_depend_on_the_split(results, place, case):  # T10, T11, T13, C44
    i, bound = CASES.index(case), BOUNDS[case["policy"]]
    assert results[place]["replicas"] == (1 if place == "single" else 2)
    first = case == CASES[0]  # evaluation knows neither of what the others change
    for name in ("weights", "losses", *(["evaluated"] if first else [])):
        expected = results["single"][f"{_plain(case)} {name}"]
        assert largest_difference(results[place][f"{i} {name}"], expected) <= bound, name
    norms = results[place][f"{i} norms"]
    np.testing.assert_allclose(norms, results["single"][f"{_plain(case)} norms"], rtol=10 * bound)
    assert np.all(norms > 0.5)  # clipping is on


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_lower_precision_stays_near_float32(results, policy):  # T12
    i = next(i for i, case in enumerate(CASES) if case["policy"] == policy)
    difference = largest_difference(
        results["single"][f"{i} weights"], results["single"]["0 weights"]
    )
    assert 0 < difference <= BOUNDS[policy]


def test_a_mean_in_each_replica_would_give_another_update(results):
    """The negative control: Keras's own way, which the test above must be able to see."""
    i = len(CASES)
    expected = results["single"]["0 weights"]
    assert largest_difference(results["single"][f"{i} weights"], expected) <= 1e-5
    assert largest_difference(results["mirrored"][f"{i} weights"], expected) > 1e-3


# --- One step -------------------------------------------------------------------------------------

SOURCE = np.array([[5, 6, 7, 3], [8, 9, 3, 0], [5, 3, 0, 0], [9, 9, 3, 0], [4, 5, 6, 3]])
TARGET = np.array([[2, 5, 10], [2, 9, 0], [2, 0, 0], [2, 4, 5], [2, 6, 0]])
LABELS = np.array([[5, 10, 3], [9, 3, 0], [3, 0, 0], [4, 5, 3], [6, 3, 0]])
INPUTS = {"source_ids": SOURCE, "target_ids": TARGET}


def make(dtype=None, dropout=0.0, **config):
    keras.utils.set_random_seed(0)
    rates = {"dropout": dropout, "embedding_dropout": dropout}
    return Transformer(TransformerConfig(11, 1, 2, 8, 16, **rates, **config), dtype=dtype)


def one_fit(model, steps=1):
    data = tf.data.Dataset.from_tensors((INPUTS, LABELS)).repeat()
    return model.fit(data, steps_per_epoch=steps, verbose=0, shuffle=False).history


def test_uneven_and_empty_micro_batches_change_nothing():  # T11
    weights = []
    for k in (1, 3, 7):
        model = make()
        model.compile(keras.optimizers.SGD(0.5), loss=CrossEntropy(), accumulate=k)
        history = one_fit(model, 2)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert largest_difference(*weights[:2]) < 1e-6
    assert largest_difference(weights[0], weights[2]) < 1e-6
    assert history["loss"][-1] > 0


def test_equal_weights_for_micro_batches_would_be_wrong():
    """Micro-batches with one and with seven tokens: the plain mean of their means is another."""
    model = make()
    losses = []
    for rows in (slice(2, 3), slice(0, 1)):
        logits = model({k: v[rows] for k, v in INPUTS.items()})
        losses.append(CrossEntropy().sum_and_count(LABELS[rows], logits))
    (a, n), (b, m) = losses
    assert abs((a / n + b / m) / 2 - (a + b) / (n + m)) > 1e-3


def test_batch_norm_would_break_the_equality():  # C44
    """The negative control: its mean is that of a micro-batch, not of the batch."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 3, 6)).astype("float32"), rng.integers(1, 5, (8, 3))
    differences = []
    for norm in (keras.layers.LayerNormalization, keras.layers.BatchNormalization):
        weights = []
        for accumulate in (1, 4):
            keras.utils.set_random_seed(0)
            inputs = keras.Input((3, 6))
            model = kt.models.Model(inputs, keras.layers.Dense(5)(norm()(inputs)))
            model.compile(keras.optimizers.SGD(0.5), CrossEntropy(), accumulate=accumulate)
            model.fit(x, y, batch_size=8, verbose=0)
            weights.append(np.concatenate([v.numpy().ravel() for v in model.trainable_variables]))
        differences.append(largest_difference(*weights))
    assert differences[0] < 1e-6
    assert differences[1] > 1e-3


def test_the_step_is_the_one_that_keras_makes_on_one_device():
    weights, loss = [], CrossEntropy(0.1)
    for exact in (True, False):
        model = make(dropout=0.3)
        model.compile(
            kt.training.paper_adam(0.01, global_clipnorm=0.1),
            # Behind a function, Keras sees an ordinary loss and takes its own step.
            loss=loss if exact else (lambda y, p: loss.call(y, p)),
        )
        one_fit(model, 3)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert largest_difference(*weights) < 1e-6


def test_every_micro_batch_drops_out_other_units():
    """The same row four times: with the same units gone, all gradients would be the same."""
    rows = {k: np.repeat(v[:1], 4, axis=0) for k, v in INPUTS.items()}
    model = make(dropout=0.5)
    seen = []
    model.compile(keras.optimizers.SGD(0.0), loss=CrossEntropy(), accumulate=4, run_eagerly=True)
    note = model._note
    model._note = lambda x, y, y_pred, *rest: (
        seen.append(y_pred.numpy()),
        note(x, y, y_pred, *rest),
    )
    for _ in range(2):
        model.train_on_batch(rows, LABELS[:1].repeat(4, axis=0))
    for a, b in itertools.combinations(seen, 2):
        assert largest_difference(a, b) > 1e-3
    assert len(seen) == 8


def test_clipping_keeps_an_exploding_batch_in_bounds():  # C42, T10
    class Explode(CrossEntropy):
        def sum_and_count(self, y_true, y_pred):
            total, count = super().sum_and_count(y_true, y_pred)
            return total * 1e4, count

    steps = {}
    for clip in (None, 1.0):
        model = make()
        before = np.concatenate([w.ravel() for w in model.get_weights()])
        model.compile(keras.optimizers.SGD(0.1, global_clipnorm=clip), loss=Explode())
        norm = one_fit(model)["gradient_norm"][-1]
        after = np.concatenate([w.ravel() for w in model.get_weights()])
        assert np.all(np.isfinite(after))
        steps[clip] = np.linalg.norm(after - before)
        assert norm > 1e3
    assert steps[1.0] <= 0.1 * (1 + 1e-5)
    assert steps[None] == pytest.approx(0.1 * norm, rel=1e-4)


def test_gradient_norm_is_reported_before_clipping():
    model = make()
    model.compile(keras.optimizers.SGD(0.1, global_clipnorm=1e-3), loss=CrossEntropy())
    with tf.GradientTape() as tape:
        loss = CrossEntropy()(LABELS, model(INPUTS, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    norm = np.sqrt(sum(np.sum(np.square(tf.convert_to_tensor(g))) for g in gradients))
    assert one_fit(model)["gradient_norm"][-1] == pytest.approx(norm, rel=1e-5)


def test_loss_scale_falls_and_skipped_steps_are_counted():  # T12
    model = make("mixed_float16")
    optimizer = keras.optimizers.Adam(1e-3)
    model.compile(optimizer, loss=CrossEntropy())
    scale = model.optimizer
    assert isinstance(scale, kt.training.LossScaleOptimizer)
    scale.build(model.trainable_variables)
    scale.dynamic_scale.assign(2.0**40)  # float16 ends at 65504
    before = model.get_weights()
    one_fit(model, 1)
    assert (int(scale.skipped_steps), int(scale.iterations)) == (1, 0)
    assert all(
        np.array_equal(a, b) for a, b in zip(before[:-1], model.get_weights()[:-1], strict=True)
    )
    one_fit(model, 40)
    assert 0 < int(scale.skipped_steps) < 40
    assert int(scale.iterations) == 41 - int(scale.skipped_steps)
    assert float(scale.dynamic_scale) == 2.0 ** (40 - int(scale.skipped_steps))


def test_accumulation_is_saved_with_the_model(reload):
    model = make()
    model.compile(kt.training.paper_adam(1e-3), loss=CrossEntropy(0.1), accumulate=3)
    one_fit(model)
    loaded = reload(model)
    assert loaded.accumulate == 3
    assert loaded.loss.label_smoothing == 0.1
    one_fit(model), one_fit(loaded)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_steps_an_execution():
    model = make()
    model.compile(keras.optimizers.SGD(0.1), loss=CrossEntropy(), steps_per_execution=3)
    data = tf.data.Dataset.from_tensors((INPUTS, LABELS)).repeat(7)
    model.fit(data, verbose=0, shuffle=False)
    assert int(model.optimizer.iterations) == 7


@pytest.mark.parametrize(("policy", "parts"), [("float32", 5), ("mixed_float16", 1)])
def test_with_xla_the_update_is_the_same(policy, parts):
    weights = []
    for jit in (False, True):
        model = make(policy)
        model.compile(
            keras.optimizers.SGD(0.5), loss=CrossEntropy(), accumulate=parts, jit_compile=jit
        )
        one_fit(model, 2)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert largest_difference(*weights) < BOUNDS[policy]


def test_ordinary_losses_keep_the_step_of_keras():
    inputs = keras.Input((3,))
    model = kt.models.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", loss="mse", metrics=["mae"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    history = model.fit(x, x.sum(1), epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    assert set(model.evaluate(x, x.sum(1), verbose=0, return_dict=True)) == {"loss", "mae"}


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [0, -1, 1.5])
def test_accumulate_has_to_be_a_number_of_micro_batches(accumulate):
    with pytest.raises(ValueError, match=f"accumulate must be .*, got {accumulate}"):
        make().compile("sgd", loss=CrossEntropy(), accumulate=accumulate)


def test_accumulation_needs_a_loss_that_counts():
    with pytest.raises(ValueError, match=r"accumulate=2 needs a loss that counts its tokens.*mse"):
        make().compile("sgd", loss="mse", accumulate=2)


def test_accumulation_of_the_optimizer_is_refused():
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="accumulate=4 to compile"):
        make().compile(optimizer, loss=CrossEntropy())


def test_an_optimizer_from_outside_the_strategy_is_refused():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    optimizer = keras.optimizers.SGD(0.1)
    with strategy.scope(), pytest.raises(ValueError, match=r"inside `with strategy.scope\(\):`"):
        make().compile(optimizer, loss=CrossEntropy())


def test_xla_under_a_strategy_is_refused():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = make()
        with pytest.raises(
            ValueError, match="jit_compile=True does not work under MirroredStrategy"
        ):
            model.compile("sgd", loss=CrossEntropy(), jit_compile=True)
