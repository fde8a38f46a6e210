"""The formula of memory, tensor by tensor, and beside the peak of a process."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from keras_transformer.models import TransformerConfig
from keras_transformer.training.memory import count_parameters, estimate_memory, measured_peak

# Every size is another one.
CONFIG = TransformerConfig(50, num_layers=1, num_heads=2, d_model=8, d_ff=12)
ROWS, LENGTH = 3, 5
N = ROWS * LENGTH
ATTENTION = 4 * N * 8 * 4 + 2 * 2 * N * LENGTH * 4  # queries, keys, values, heads; softmax, weights
NORM = 3 * N * 8 * 4 + N * 8
ENCODER = ATTENTION + 2 * N * 12 * 4 + 2 * NORM
DECODER = 2 * ATTENTION + 2 * N * 12 * 4 + 3 * NORM
EMBEDDINGS = 2 * (2 * N * 8 * 4 + N * 8)


def activations(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    return estimate_memory(config, ROWS, LENGTH).activations


def test_a_step_holds_these_tensors():
    memory = estimate_memory(CONFIG, ROWS, LENGTH)
    assert memory.activations == ENCODER + DECODER + EMBEDDINGS
    assert memory.logits == 2 * N * 50 * 4  # and their exponentials
    # What is rounded for mixing is kept beside what is not.
    mixed = estimate_memory(CONFIG, ROWS, LENGTH, precision="mixed_bfloat16").activations
    scores, masks = 3 * 2 * N * LENGTH, 5 * N * 8 + 2 * N * 8
    assert 2 * (mixed - masks - 6 * scores) == memory.activations - masks - 8 * scores


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"num_decoder_layers": 3}, 2 * DECODER),
        ({"num_layers": 3, "num_decoder_layers": 1}, 2 * ENCODER),
        ({"gated": True}, 2 * 2 * N * 12 * 4),
        ({"head_width": 6}, 3 * 4 * N * (12 - 8) * 4),
        ({"num_kv_heads": 1}, -2 * 2 * N * 4 * 4),  # cross-attention shares nothing
        ({"share_layers": True}, 0),
        ({"attention_dropout": 0.1}, 3 * 2 * N * LENGTH * (4 + 1)),
        ({"ffn_dropout": 0.1}, 2 * N * 12 * (4 + 1)),
        ({"attention": "additive"}, 3 * 2 * 2 * N * LENGTH * 4 * 4),
        ({"positions": "shaw", "max_distance": 3}, 2 * N * 2 * 7 * 8),
        ({"positions": "transformer-xl"}, 2 * (2 * N * 8 * 4 + N * 2 * 9 * 4)),
    ],
)
def test_fields_that_add_tensors(changes, more):
    assert activations(**changes) - activations() == more


def test_recomputation_keeps_a_tensor_a_block_of_both_sides():
    kept = activations(recompute=True, num_decoder_layers=3)
    assert kept == 4 * N * 8 * 4 + DECODER + EMBEDDINGS


def test_the_formula_is_near_the_measured_peak():
    """The peak is 1.05 to 1.35 times the formula: TensorFlow lets go of some only later."""
    sizes = {"num_layers": 1, "num_decoder_layers": 3, "num_heads": 4, "d_model": 64}
    sizes |= {"d_ff": 512, "gated": True}
    config = TransformerConfig(200, **sizes)
    script = Path(__file__).with_name("memory_process.py")
    given = json.dumps({"vocabulary_size": 200, **sizes})
    done = subprocess.run(
        [sys.executable, script, "64", "64", given], capture_output=True, text=True, check=True
    )
    memory = estimate_memory(config, 64, 64)
    step = memory.gradients + memory.activations + memory.logits
    assert 0.95 < int(done.stdout.split()[-1]) / step < 1.35
    assert memory.parameters == 4 * count_parameters(config)


def test_the_peak_of_a_gpu_is_told_and_not_what_is_in_use_now(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    told = {"current": 1e6, "peak": 2e9}
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda device: told)
    assert measured_peak() == "memory: 2.00 GB measured at the peak, on the first GPU"
