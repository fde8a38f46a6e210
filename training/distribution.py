"""Strategies: on which devices a model trains, and which part of a batch each of them gets."""

import functools
import json
import os
from collections.abc import Callable
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError, no_such
from keras_transformer.training.data.batching import split_batches
from keras_transformer.typing import Tensor

STRATEGIES = ("auto", "single", "mirrored", "multiworker")


def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Make a distribution strategy; do it before anything else touches TensorFlow's devices.

    Args:
        name: "single" for one device. "mirrored" for all GPUs of this machine, or all logical CPUs
            where there are no GPUs. "multiworker" for all machines that the environment variable
            TF_CONFIG lists. "auto": "multiworker" if TF_CONFIG lists several workers, "mirrored" if
            there are several GPUs, else "single".

    Raises:
        InputError: If there is no such strategy, or TF_CONFIG is missing or wrong.
    """
    if name not in STRATEGIES:
        raise no_such("strategy", name, STRATEGIES)
    workers = [] if name == "single" else _workers()  # TensorFlow reads it for the others
    if name == "auto":
        if len(workers) > 1:
            name = "multiworker"
        else:
            name = "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "single"
    if name == "single":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if not workers:
        raise InputError(
            "The strategy 'multiworker' needs the environment variable TF_CONFIG, which lists the "
            'workers: {"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
            '"task": {"type": "worker", "index": 0}}.'
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def worker_index(strategy: tf.distribute.Strategy | None) -> tuple[int, int]:
    """Return this process's number among the workers of a strategy, and how many there are."""
    if not has_other_workers(strategy):
        return 0, 1
    return _tf_config()["task"]["index"], len(_workers())


def workers_lost(strategy: tf.distribute.Strategy) -> tuple[type[Exception], ...]:
    """Return the errors that tell of another worker that died; none without other workers."""
    if not has_other_workers(strategy):
        return ()
    return (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.InternalError,
        tf.errors.DeadlineExceededError,
        tf.errors.UnknownError,
    )


def has_other_workers(strategy: tf.distribute.Strategy | None) -> bool:
    """Return whether a strategy is that of many workers, each a process of its own."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def all_agree(strategy: tf.distribute.Strategy, agree: bool) -> bool:
    """Wait for all workers, and return whether all of them agree."""
    if not has_other_workers(strategy):
        return agree
    return sum_over_workers(strategy, float(not agree)) == 0


def sum_over_workers(strategy: tf.distribute.Strategy, value: float) -> float:
    """Add up a number over all replicas of all workers."""
    return float(_make_sum(strategy)(tf.constant(value, tf.float64)))


@functools.cache
def _make_sum(strategy: tf.distribute.Strategy) -> Callable[[Tensor], Tensor]:
    @tf.function
    def total(value: Tensor) -> Tensor:
        def each(value: Tensor) -> Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

        return strategy.experimental_local_results(strategy.run(each, (value,)))[0]

    return total


def _workers() -> list[str]:
    """Return the addresses in TF_CONFIG, checked."""
    config = _tf_config()
    try:
        workers = config["cluster"]["worker"] if config else []
        if workers:
            task = config["task"]
            if task["type"] != "worker" or not 0 <= task["index"] < len(workers):
                raise InputError(
                    f"TF_CONFIG's task {json.dumps(task)} is not one of its {len(workers)} "
                    'workers: its type has to be "worker" and its index from 0.'
                )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"TF_CONFIG lacks {error}: it has to hold cluster.worker, task.type and task.index, "
            f"got {json.dumps(config)}."
        ) from None
    return workers


def _tf_config() -> dict[str, Any]:
    text = os.environ.get("TF_CONFIG", "")
    try:
        return json.loads(text) if text else {}
    except ValueError as error:
        raise InputError(f"TF_CONFIG is not JSON ({error}): {text}") from None


def distribute_batches(
    batches: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """Give each replica its part of every batch, for `fit` and `evaluate`.

    Every worker reads the same `batches` and keeps its own rows, so that the update is that of the
    whole batch. With many workers, data that is sharded before it is read is cheaper; hand that to
    `distribute_local_batches`.

    Args:
        batches: Data set of global batches, the same in every worker.
        strategy: Where the model was made.

    Returns:
        A data set for `fit`: each replica gets consecutive rows of each batch.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def local(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = replicas // context.num_input_pipelines  # replicas of a worker
        first = context.input_pipeline_id * count
        return split_batches(batches, replicas, range(first, first + count)).prefetch(2 * count)

    return strategy.distribute_datasets_from_function(local)


def distribute_local_batches(
    batches: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """Split this worker's own batches over its replicas, for `fit`.

    Args:
        batches: Data set of batches that only this worker reads.
        strategy: Where the model was made.

    Returns:
        A data set for `fit`.
    """
    if not has_other_workers(strategy):
        return distribute_batches(batches, strategy)

    def local(context: tf.distribute.InputContext) -> tf.data.Dataset:
        count = strategy.num_replicas_in_sync // context.num_input_pipelines
        return split_batches(batches, count).prefetch(2 * count)

    return strategy.distribute_datasets_from_function(local)
