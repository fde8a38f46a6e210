"""Tests that a whole run, from text files to a checkpoint, is the same on two devices as on one."""

import subprocess
import sys

import numpy as np
import pytest
from fixtures_run import column, lines_of, make_run, quiet, state_of, write_text

from keras_transformer.training import trainer

STEPS = (3, 6)  # trained to the first, then gone on with to the second

# Two logical CPUs stand for two GPUs.
MIRRORED = """
import dataclasses, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_transformer.training import trainer
from keras_transformer.training.distribution import make_strategy
from keras_transformer.training.run.run_directory import RunDirectory

strategy = make_strategy("mirrored")
assert strategy.num_replicas_in_sync == 2
for steps in sys.argv[2:]:
    run = RunDirectory.open(sys.argv[1])
    config = dataclasses.replace(run.training_config(), steps=int(steps))
    run.save_config(run.model_config(), config)
    print(trainer.train(run, strategy=strategy).step)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run on one device in this process, and, gone on with, on two in another."""
    folder = tmp_path_factory.mktemp("replicas")
    files = write_text(folder, "train", 60), write_text(folder, "valid", 10)
    runs = {}
    for name in ("one", "two"):
        runs[name] = make_run(
            folder / name,
            *files,
            steps=STEPS[-1],
            model={"dropout": 0.0, "embedding_dropout": 0.0},
            training={"validate_every": 3, "checkpoint_every": 3, "warmup_steps": 2},
        )
    command = [sys.executable, "-c", MIRRORED, runs["two"].path, *map(str, STEPS)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        trainer.train(runs["one"], quiet())
        output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    assert output.split() == [str(steps) for steps in STEPS]
    return runs


def test_two_devices_validate_as_one_does(runs):  # T13, C44
    one, two = (column(run, "validation/loss") for run in runs.values())
    assert list(one) == list(two) == [3, 6]
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=0, atol=1e-4)
    assert one[6] < one[3]


def test_two_devices_note_what_one_does(runs):  # T13
    one, two = (lines_of(run) for run in runs.values())
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"train/tokens_per_second"}:
            if name == "train/examples_by_length":
                assert a[name] == b[name]
            else:
                assert b[name] == pytest.approx(a[name], rel=1e-3), name


def test_two_devices_end_with_the_same_weights(runs):  # T13, T16
    one, two = (state_of(run) for run in runs.values())
    assert one.keys() == two.keys()
    for name in one:
        # The key's bias has no gradient but for rounding, which Adam makes as large as any.
        if name.startswith("layers") and not name.endswith("key_projection/vars/1"):
            np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-3, err_msg=name)
    assert runs["two"].checkpoints.newest().name == f"step-{STEPS[-1]:08d}"
