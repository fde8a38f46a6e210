"""A training run: from a run directory to trained weights in it."""

import contextlib
import dataclasses
import signal
from typing import Any

import numpy as np
from rich.console import Console

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.files import remove_unfinished
from keras_transformer.locks import locked
from keras_transformer.models.config import TransformerConfig
from keras_transformer.models.parameters import FORMULAS
from keras_transformer.pipelines.tasks import make_model
from keras_transformer.training.callbacks import (
    Checkpoint,
    Profile,
    Report,
    StopOnNaN,
    Validate,
    steps_made,
)
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.distribution import (
    distribute_local_batches,
    has_other_workers,
    sum_over_workers,
    worker_index,
)
from keras_transformer.training.evaluation.evaluator import Evaluator
from keras_transformer.training.journal import Journal
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.memory import describe_memory, measured_peak
from keras_transformer.training.optimizers import make_optimizer
from keras_transformer.training.run.run_directory import RunDirectory, load_weights
from keras_transformer.training.scheduled_sampling import ScheduledSampling
from keras_transformer.training.signals import StopOnSignal
from keras_transformer.training.tasks.registry import training_of
from keras_transformer.training.tasks.task import TRAINING, VALIDATION, TaskTraining
from keras_transformer.training.transfer import freeze

REPORT_EVERY = 50  # steps


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The end of a run.

    Args:
        step: The number of steps made in all.
        best: Validation values of the best weights, with their step; empty if none was made.
        last: Validation values at the last validation.
        signal: The signal that ended it before its last step, or None.
    """

    step: int
    best: dict[str, float]
    last: dict[str, float]
    signal: signal.Signals | None

    @property
    def interrupted(self) -> bool:
        """True if a signal ended it."""
        return self.signal is not None


def train(
    run: RunDirectory,
    console: Console | None = None,
    strategy: tf.distribute.Strategy | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainingResult:
    """Train a run to the step its configuration asks for, from its newest checkpoint if any.

    Args:
        run: A run directory. Weights, checkpoints and reports are written into it, by the first
            worker where there are many; all of them have to see the folder.
        console: Where progress is shown; standard error if None.
        strategy: On which devices to train, from `make_strategy`; None for one device. The result
            is the same on any number of replicas; many workers read other parts of the text at the
            same time, so that their batches are others than those of one.
        profile: First and last step to record for TensorBoard's profiler.

    Returns:
        `TrainingResult`.

    Raises:
        InputError: If the data is missing or damaged, no checkpoint is whole, the run has been
            trained that far already, another process trains it, the gradient is no longer finite,
            or a tf.data service was started anew.
        tf.errors.OpError: Of many workers, if another was lost or told to stop by a signal; see
            `workers_lost`.
    """
    # The first worker is the one that writes.
    is_first = worker_index(strategy)[0] == 0
    with locked(run.path, "training") if is_first else contextlib.nullcontext():
        return _train(run, console, strategy, profile)


def _train(
    run: RunDirectory,
    console: Console | None,
    strategy: tf.distribute.Strategy | None,
    profile: tuple[int, int] | None,
) -> TrainingResult:
    worker = worker_index(strategy)
    is_first = worker[0] == 0
    console = (console or Console(stderr=True)) if is_first else Console(quiet=True)
    strategy = strategy or tf.distribute.get_strategy()
    config = run.training_config()
    run.check_unfinished(config.steps)
    if is_first:
        remove_unfinished(run.path)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    task = training_of(run)
    model = _make_model(run, task, strategy)
    state = _restore(run, model, console)
    _check_same_step(strategy, steps_made(model))

    sizes = run.sizes()
    size = task.measure(sizes, TRAINING, worker)
    valid_size = task.measure(sizes, VALIDATION)
    if is_first and sizes != run.sizes():
        run.save_sizes(sizes)
    _describe(console, model, task, size, valid_size, strategy)

    done = steps_made(model)
    journal = Journal(run.metrics_path, run.tensorboard_path, done) if is_first else None
    report = Report(
        config.steps,
        journal,
        min(REPORT_EVERY, config.validate_every),
        console,
        config.batching,
        task.width,
        task.counted,
        state,
    )
    validate = Validate(
        run,
        Evaluator(model, task.metrics),
        task.is_better,
        task.validation_batches(),
        config,
        journal,
        console,
        task.show(model, run.samples()),
        report,
        state,
    )
    # After validation, so that the checkpoint remembers it.
    writing: list[Any] = []
    if is_first:
        writing.append(Checkpoint(run, config.checkpoint_every, config.keep_checkpoints, state))
        writing += [Profile(*profile, run.tensorboard_path)] if profile else []
    interrupt = StopOnSignal(strategy)
    callbacks = [StopOnNaN(task.summary), report, validate, *writing, interrupt]
    try:
        _fit(model, run, task.training_batches(size, done, worker), done, callbacks)
    finally:
        report.bar.stop()
        if journal:
            journal.close()
        interrupt.on_train_end()  # fit does not call it after an error
    if interrupt.other_stopped:
        raise tf.errors.UnavailableError(
            None, None, "a signal told it to stop, and this step is saved"
        )
    console.print(measured_peak())
    return TrainingResult(
        steps_made(model), state.get("best", {}), state.get("last", {}), interrupt.signal
    )


def _make_model(
    run: RunDirectory, task: TaskTraining, strategy: tf.distribute.Strategy
) -> keras.Model:
    """Make and compile the model, with the weights that training begins with."""
    config = task.config
    with strategy.scope():
        model = make_model(run.model_config(), run.task_settings(), dtype=config.precision)
        if config.freeze:
            freeze(model)
        if run.initial_path.is_file() and not run.checkpoints.all():
            load_weights(model, run.initial_path)
        compile_model(model, config, task.loss())
    return model


def _restore(run: RunDirectory, model: keras.Model, console: Console) -> dict[str, Any]:
    """Go on from the newest checkpoint that is whole; return its state."""
    state = run.checkpoints.restore(model) if run.checkpoints.all() else {}
    for path, problem in run.checkpoints.damaged.items():
        console.print(
            f"{path} is damaged ({problem}): going on from step {run.steps_done():,}",
            style="yellow",
        )
    return state


def _describe(
    console: Console,
    model: keras.Model,
    task: TaskTraining,
    size: Any,
    valid_size: Any,
    strategy: tf.distribute.Strategy,
) -> None:
    """Show what is trained, on what, and in how much memory."""
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)
    console.print(
        f"Model of {model.count_params():,} parameters"
        + (f", of which {trained:,} are trained" if task.config.freeze else "")
    )
    for part, counted in ((TRAINING, size), (VALIDATION, valid_size)):
        first, *more = task.describe(counted)
        console.print(f"{part}: {first}")
        for line in more:
            style = "yellow" if line.startswith("left out") else None
            console.print(f"  {line}", style=style, markup=False)
    # The formula is of encoder and decoder, and of families whose weights it knows.
    if isinstance(task.model, TransformerConfig) and task.model.family in FORMULAS:
        describe_memory(console, task.model, task.config, strategy)


def _fit(
    model: keras.Model, run: RunDirectory, batches: tf.data.Dataset, done: int, callbacks: list[Any]
) -> None:
    """Train for the steps that are left."""
    config = run.training_config()
    try:
        model.fit(
            distribute_local_batches(batches, model.distribute_strategy),
            steps_per_epoch=config.steps - done,
            shuffle=False,  # the data is shuffled already
            verbose=0,
            callbacks=callbacks,
        )
    except tf.errors.NotFoundError as error:
        if config.data_service is None:
            raise
        raise InputError(
            f"The tf.data service at {config.data_service} was started anew and has forgotten this "
            f"run ({error.message}). Go on from the last checkpoint by --resume {run.path}."
        ) from None


def compile_model(
    model: keras.Model, config: TrainingConfig, loss: keras.losses.Loss | None = None
) -> None:
    """Compile a model as a configuration says.

    Args:
        model: The model.
        config: The configuration.
        loss: The loss; that of translation if None.
    """
    sampling = None
    if config.teacher_forcing < 1:
        sampling = ScheduledSampling(config.teacher_forcing, config.steps)
    model.compile(
        make_optimizer(config),
        loss=loss or CrossEntropy(config.label_smoothing),
        accumulate=config.accumulate,
        prepare_inputs=sampling,
    )


def _check_same_step(strategy: tf.distribute.Strategy, step: int) -> None:
    """Make sure that all workers go on from one checkpoint."""
    if not has_other_workers(strategy):
        return

    if sum_over_workers(strategy, step) != step * strategy.num_replicas_in_sync:
        raise InputError(
            f"This worker goes on from step {step:,}, but others do not. The run has to be in a "
            "folder that all workers share."
        )
