"""Tests of keras_transformer.training.distribution.

What several replicas and workers compute is tested in test_train_step.py and test_replicas.py.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_transformer.errors import InputError
from keras_transformer.training.data.batching import split_batches
from keras_transformer.training.distribution import (
    all_agree,
    distribute_batches,
    distribute_local_batches,
    make_strategy,
    sum_over_workers,
    worker_index,
    workers_lost,
)


def cluster(workers=2, **task):
    hosts = [f"localhost:{2222 + i}" for i in range(workers)]
    return {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": 0, **task}}


@pytest.fixture
def tf_config(monkeypatch):
    def put(value):
        monkeypatch.setenv("TF_CONFIG", value if isinstance(value, str) else json.dumps(value))

    monkeypatch.delenv("TF_CONFIG", raising=False)
    return put


@pytest.mark.parametrize("name", ["single", "auto"])
def test_one_device_needs_no_strategy(tf_config, name):  # T13
    strategy = make_strategy(name)
    assert strategy is tf.distribute.get_strategy()
    assert strategy.num_replicas_in_sync == 1


def test_mirrored_takes_every_device_there_is(tf_config):
    strategy = make_strategy("mirrored")
    assert type(strategy) is tf.distribute.MirroredStrategy
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    assert strategy.num_replicas_in_sync == len(devices)


@pytest.mark.parametrize(
    ("config", "gpus", "expected"),
    [
        (None, 0, "single"),
        (None, 1, "single"),
        (None, 2, "mirrored"),
        (1, 0, "single"),
        (1, 2, "mirrored"),
        (2, 0, "multiworker"),
        (2, 2, "multiworker"),
    ],
)
def test_auto_takes_what_there_is(tf_config, monkeypatch, config, gpus, expected):
    if config:
        tf_config(cluster(config))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * gpus)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: "mirrored")
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "multiworker")
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: "single")
    assert make_strategy("auto") == expected


def test_another_name_is_refused(tf_config):
    with pytest.raises(
        InputError, match="no strategy 'both'; choose one of auto, single, mirrored, multiworker"
    ):
        make_strategy("both")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"needs the environment variable TF_CONFIG.*\"host0:2222\""),
        ("", "needs the environment variable TF_CONFIG"),
        ("{}", "needs the environment variable TF_CONFIG"),
        ('{"cluster": {"worker": []}}', "needs the environment variable TF_CONFIG"),
        ("workers", r"TF_CONFIG is not JSON \(.*\): workers"),
        ("{", "TF_CONFIG is not JSON"),
        ("5", "TF_CONFIG lacks .*, got 5"),
        ('["a"]', "TF_CONFIG lacks "),
        ('{"cluster": {"chief": ["a:1"]}}', "TF_CONFIG lacks 'worker'"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG lacks 'task'"),
        (cluster(index="1"), "TF_CONFIG"),
        (cluster(index=2), '"index": 2.* is not one of its 2 workers'),
        (cluster(index=-1), '"index": -1.* is not one of its 2 workers'),
        (cluster(type="chief"), '"type": "chief".* is not one of its 2 workers'),
    ],
    ids=str,
)
def test_many_workers_need_a_tf_config_that_fits(tf_config, config, message):  # T13
    if config is not None:
        tf_config(config)
    with pytest.raises(InputError, match=message):
        make_strategy("multiworker")


def test_workers_know_their_number(tf_config, monkeypatch):
    class Many:
        """Stands for a strategy of many workers, which would wait for the others."""

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", Many)
    tf_config(cluster(3, index=2))
    assert worker_index(Many()) == (2, 3)
    assert worker_index(None) == worker_index(tf.distribute.get_strategy()) == (0, 1)


@pytest.mark.parametrize("config", [cluster(2, index=1), "{", "5"], ids=str)
def test_one_device_does_not_look_at_tf_config(tf_config, config):
    tf_config(config)
    assert make_strategy("single") is tf.distribute.get_strategy()


def test_one_machine_looks_at_tf_config_as_tensorflow_does(tf_config):
    tf_config(cluster(2, index=1))
    assert make_strategy("mirrored").num_replicas_in_sync >= 1
    tf_config("{")
    with pytest.raises(InputError, match="TF_CONFIG is not JSON"):
        make_strategy("mirrored")


# --- Parts of a batch -----------------------------------------------------------------------------


def batches_of(*sizes):
    first = np.cumsum([0, *sizes])
    for begin, size in zip(first, sizes, strict=False):
        x = np.arange(begin, begin + size)
        yield {"source_ids": np.stack([x, 10 * x], 1)}, 100 * x


def dataset(*sizes):
    signature = (
        {"source_ids": tf.TensorSpec((None, 2), tf.int64)},
        tf.TensorSpec((None,), tf.int64),
    )
    return tf.data.Dataset.from_generator(lambda: batches_of(*sizes), output_signature=signature)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_of_batches_are_the_batches(parts):  # C44
    sizes = (6, 1, 5, 8)
    found = list(split_batches(dataset(*sizes), parts).as_numpy_iterator())
    assert len(found) == parts * len(sizes)
    for i, (inputs, labels) in enumerate(batches_of(*sizes)):
        mine = found[i * parts : (i + 1) * parts]
        np.testing.assert_array_equal(np.concatenate([y for _, y in mine]), labels)
        np.testing.assert_array_equal(
            np.concatenate([x["source_ids"] for x, _ in mine]), inputs["source_ids"]
        )
        rows = [len(y) for _, y in mine]
        assert max(rows) - min(rows) <= 1
        assert all(len(x["source_ids"]) == len(y) for x, y in mine)


def test_each_worker_keeps_its_parts_alone():
    whole = [labels.tolist() for _, labels in split_batches(dataset(7, 5), 4).as_numpy_iterator()]
    halves = [
        [labels.tolist() for _, labels in split_batches(dataset(7, 5), 4, kept).as_numpy_iterator()]
        for kept in (range(2), range(2, 4))
    ]
    assert halves[0] == whole[:2] + whole[4:6]
    assert halves[1] == whole[2:4] + whole[6:]


@pytest.mark.parametrize("distribute", [distribute_batches, distribute_local_batches])
def test_one_replica_gets_whole_batches(distribute):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    data = dataset(3, 5)
    assert distribute(data, strategy) is data
    assert distribute(data, tf.distribute.get_strategy()) is data


def test_without_other_workers_one_agrees_with_itself():
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])):
        assert all_agree(strategy, True)
        assert not all_agree(strategy, False)
        assert workers_lost(strategy) == ()
        assert sum_over_workers(strategy, 2.5) == 2.5
