"""Take one training step in a fresh process, and print how much memory it took at its peak.

Weights and the optimizer's state are there before it; gradients, activations and logits are not.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

import keras_transformer as kt


def status(name):
    return int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def main(rows, length, fields):
    config = kt.models.TransformerConfig(**fields)
    model = kt.models.Transformer(config)
    model.compile(kt.training.paper_adam(1e-3), kt.training.CrossEntropy(0.1), jit_compile=False)
    rng = np.random.default_rng(0)
    source, target, labels = (
        tf.constant(rng.integers(4, config.vocabulary_size, (rows, length)), "int32")
        for _ in range(3)
    )

    @tf.function
    def step():
        return model.train_step(({"source_ids": source, "target_ids": target}, labels))

    step.get_concrete_function()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    step()
    print(status("VmHWM") - before)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
