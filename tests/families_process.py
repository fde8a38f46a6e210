"""The process of tests/models/test_families.py: a step of models on two logical CPUs.

python families_process.py OUTPUT.npz
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import pytest
import tensorflow as tf
from fixtures_families import LIKE_ANOTHER, leave_out_decoding, make_cases, train_once


def main():
    """Train the models under MirroredStrategy."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    leave_out_decoding(pytest.MonkeyPatch())  # this process ends with it
    found = {"replicas": strategy.num_replicas_in_sync}
    for name, case in make_cases().items():
        if name in LIKE_ANOTHER:
            continue
        with strategy.scope():
            model, _, history = train_once(case)
        found[f"{name} loss"] = history["loss"][0]
        found[f"{name} weights"] = np.concatenate([w.ravel() for w in model.get_weights()])
    np.savez(sys.argv[1], **found)


if __name__ == "__main__":
    main()
