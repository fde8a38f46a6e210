"""One process of tests/models/test_train_step.py: trains a tiny model on a given number of devices.

    python train_step_process.py FOLDER CASES

CASES is JSON: lists of cases by place, which is "single", "mirrored" (2 logical CPUs) or
"multiworker" (TF_CONFIG is set); what is seen in a place is written to FOLDER/PLACE.npz. A case is
null, for nothing, or has `accumulate`, `recompute`, `policy` and optionally `mean`, the negative
control: a loss that takes the mean in each replica.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training.distribution import distribute_batches, make_strategy
from keras_transformer.training.losses import CrossEntropy

STEPS = 3
CLIP = 0.5


def batch():
    """Sixteen rows whose lengths differ, so that replicas get different numbers of tokens."""
    rng = np.random.default_rng(0)
    source, target, labels = (rng.integers(4, 30, (16, n)).astype("int32") for n in (9, 7, 7))
    for i in range(16):
        source[i, 1 + i % 8 :] = 0
        target[i, 1 + i // 3 :] = labels[i, 1 + i // 3 :] = 0
    return {"source_ids": source, "target_ids": target}, labels


def train(strategy, accumulate, recompute, policy, mean=False):
    """Return the weights after a few steps of SGD with clipping, and what was reported."""
    with strategy.scope():
        keras.utils.set_random_seed(1)
        config = TransformerConfig(
            30, 1, 2, 16, 32, dropout=0.0, embedding_dropout=0.0, recompute=recompute
        )
        model = Transformer(config, dtype=policy)
        optimizer = keras.optimizers.SGD(0.5, global_clipnorm=CLIP)
        model.compile(
            optimizer,
            loss=MeanOfEach() if mean else CrossEntropy(0.1),
            accumulate=1 if mean else accumulate,
        )
    data = distribute_batches(tf.data.Dataset.from_tensors(batch()).repeat(), strategy)
    norms, losses = [], []
    notes = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: (
            losses.append(logs["loss"]),
            norms.append(logs.get("gradient_norm", 0)),
        )
    )
    model.fit(data, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[notes])
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    found = {"weights": weights, "losses": np.array(losses), "norms": np.array(norms)}
    if accumulate == 1 and not recompute and policy == "float32":  # no other matters to evaluation
        data = distribute_batches(tf.data.Dataset.from_tensors(batch()), strategy)
        values = model.evaluate(data, verbose=0, return_dict=True)
        found["evaluated"] = np.array(values["loss"])
    return found


class MeanOfEach(keras.losses.Loss):
    """What Keras does by itself: the mean over the tokens of each replica."""

    def call(self, y_true, y_pred):
        """Return the mean."""
        return CrossEntropy(0.1)(y_true, y_pred)


def main():
    """Train every case in its place."""
    folder, cases = sys.argv[1:]
    places = json.loads(cases)
    if "mirrored" in places:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    for place, cases in places.items():
        strategy = make_strategy(place)
        results = {}
        for i, case in enumerate(cases):
            if case is not None:
                found = train(strategy, **case)
                results |= {f"{i} {name}": value for name, value in found.items()}
        path = os.path.join(folder, f"{place}.npz")
        np.savez(path, replicas=strategy.num_replicas_in_sync, **results)


if __name__ == "__main__":
    main()
