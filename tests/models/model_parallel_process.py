"""The process of tests/models/test_model_parallel.py: a model on one device and spread over two."""

import json
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import collections

import keras
import numpy as np
import tensorflow as tf

from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training import CrossEntropy, paper_adam


def main():
    """Train both for two steps, and print what the test compares."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    config = TransformerConfig(20, 2, 2, 32, 64, dropout=0.0, embedding_dropout=0.0)
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(4, 20, (6, 5)) for name in ("source_ids", "target_ids")}
    found = {}
    for name, devices in (("one", ()), ("two", ("CPU:0", "CPU:1"))):
        keras.utils.set_random_seed(0)
        model = Transformer(config, devices=devices)
        model.compile(paper_adam(1e-3), loss=CrossEntropy())
        model.fit(inputs, rng.integers(4, 20, (6, 5)) * 0 + 7, epochs=2, verbose=0)
        size = collections.Counter()
        for variable in [*model.trainable_variables, *model.optimizer.variables]:
            size[variable.value.device[-5:]] += int(np.prod(variable.shape)) * 4
        found[name] = {"bytes": size, "logits": model(inputs).numpy().ravel().tolist()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
