"""Callbacks between two steps: reports, validation, checkpoints, stopping."""

import collections
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keras_transformer._backend import keras
from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.batching import Batching
from keras_transformer.training.distribution import has_other_workers
from keras_transformer.training.evaluation.evaluator import Evaluator
from keras_transformer.training.journal import SMOOTHING, Journal
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.typing import Nested, Tensors

SKIPPED_IN_A_ROW = 30  # float16's scale falls from 2^15 below 2^-14 in so many steps


def steps_made(model: keras.Model) -> int:
    """Return the number of steps made, those before a resume and those skipped included."""
    optimizer = model.optimizer
    counters = [optimizer.iterations, getattr(optimizer, "skipped_steps", None)]
    return sum(int(counter.numpy()) for counter in counters if counter is not None)


class StepCallback(keras.callbacks.Callback):
    """A callback that counts the run's steps, those before a resume included."""

    @property
    def step(self) -> int:
        """The number of steps made."""
        return steps_made(self.model)


class StopOnNaN(StepCallback):
    """Ends training when a gradient is no longer finite, before anything is saved.

    In float16 the update was left out then, and the scale of the loss lowered; only many such steps
    in a row end the training.

    Args:
        summary: Says what a batch is made of, given its inputs.
    """

    def __init__(self, summary: Callable[[Any], str]) -> None:
        super().__init__()
        self.summary = summary
        self.skipped = 0

    def on_train_batch_end(self, batch: int, logs: Tensors | None = None) -> None:
        """Look at the gradient's norm, which is not finite if any part of it is not."""
        assert logs is not None
        norm = float(logs["gradient_norm"])
        if math.isfinite(norm):
            self.skipped = 0
            return
        self.skipped += 1
        if hasattr(self.model.optimizer, "skipped_steps") and self.skipped < SKIPPED_IN_A_ROW:
            return
        inputs, _ = first_local(self.model, self.model.last_batch)
        raise InputError(
            f"The gradient became {norm} at step {self.step:,}, on a batch of "
            f"{self.summary(inputs)}; the last checkpoint is kept. A lower --learning-rate or a "
            "longer --warmup usually helps."
        )


def first_local(model: keras.Model, batch: Nested) -> Nested:
    """Return the part of a batch that the first replica of this process got."""
    strategy = model.distribute_strategy
    return keras.tree.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], batch
    )


class Report(StepCallback):
    """Shows progress, the loss of late, the learning rate, tokens/s and the time left.

    On a terminal it is a bar, elsewhere a plain line now and then. The same goes to the journal.

    Args:
        steps: The step at which the run ends.
        journal: Where values are noted; None for nowhere.
        every: Steps between two reports.
        console: Where to write.
        batching: Whose buckets examples are counted by.
        width: Gives the length of a batch's longest example, given its inputs.
        counted: What the loss counts: tokens or labels.
        state: What a checkpoint remembers; the smoothed loss is kept here.
    """

    def __init__(
        self,
        steps: int,
        journal: Journal | None,
        every: int,
        console: Console,
        batching: Batching,
        width: Callable[[Any], int],
        counted: str,
        state: dict[str, Any],
    ) -> None:
        super().__init__()
        self.steps = steps
        self.journal = journal
        self.every = every
        self.console = console
        self.batching = batching
        self.width = width
        self.counted = counted
        self.state = state
        self.examples: collections.Counter[int] = collections.Counter()
        self.bar = Progress(
            TextColumn("Training"),
            BarColumn(),
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[values]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_begin(self, logs: Tensors | None = None) -> None:
        """Start the clock."""
        self.task = self.bar.add_task("", total=self.steps, completed=self.step, values="")
        self.bar.start()
        self.examples.update({int(k): v for k, v in self.state.get("examples", {}).items()})
        self.last = (self.step, time.perf_counter())
        self.tokens = 0.0
        if not has_other_workers(self.model.distribute_strategy):
            self.restored = [value.numpy() for value in self.model.metrics_variables]

    def on_epoch_begin(self, epoch: int, logs: Tensors | None = None) -> None:
        """Put the mean loss of a checkpoint back, which `fit` has just set to 0."""
        if not has_other_workers(self.model.distribute_strategy):
            for variable, value in zip(self.model.metrics_variables, self.restored, strict=True):
                variable.assign(value)

    def on_train_batch_end(self, batch: int, logs: Tensors | None = None) -> None:
        """Count the step, and report if it is time."""
        step = self.step
        self.bar.update(self.task, completed=step)
        self._count_examples()
        assert logs is not None
        self.tokens += float(logs["tokens"])
        if step % self.every and step != self.steps:
            return
        loss = float(logs["loss"])
        seconds = time.perf_counter() - self.last[1]
        tokens_per_second = self.tokens / seconds
        rate = f"{tokens_per_second:,.0f} {self.counted}/s"
        learning_rate = float(_innermost(self.model.optimizer).learning_rate)
        smoothed = SMOOTHING * self.state.get("smoothed_loss", loss) + (1 - SMOOTHING) * loss
        self.state["smoothed_loss"] = smoothed
        values = {
            "train/loss": loss,
            "train/loss_smoothed": smoothed,
            "train/learning_rate": learning_rate,
            "train/gradient_norm": float(logs["gradient_norm"]),
            "train/tokens_per_second": tokens_per_second,
        }
        if hasattr(self.model.optimizer, "skipped_steps"):
            values["train/loss_scale"] = float(self.model.optimizer.dynamic_scale.numpy())
            values["train/skipped_steps"] = int(self.model.optimizer.skipped_steps.numpy())
        self.bar.update(self.task, values=f"loss {loss:.3f}, {rate}")
        if not self.console.is_terminal:
            left = (self.steps - step) * seconds / max(1, step - self.last[0])
            self.console.print(
                f"step {step:,}/{self.steps:,}  loss {loss:.4f}  "
                f"learning rate {learning_rate:.2e}  {rate}  "
                f"{left / 60:.1f} min left"
            )
        if self.journal:
            self.journal.scalars(step, **values)
            self.journal.examples(step, dict(sorted(self.examples.items())))
        self.examples.clear()
        self.state["examples"] = {}
        self.model.reset_metrics()  # the loss reported next is that of the steps to come
        self.last = (step, time.perf_counter())
        self.tokens = 0.0

    def _count_examples(self) -> None:
        inputs, _ = first_local(self.model, self.model.last_batch)
        bucket = self.batching.lengths[self.batching.bucket_of(self.width(inputs))]
        strategy = self.model.distribute_strategy
        any_input = next(iter(self.model.last_batch[0].values()))
        parts = strategy.experimental_local_results(any_input)
        self.examples[bucket] += sum(part.shape[0] for part in parts)
        self.state["examples"] = dict(self.examples)

    def on_train_end(self, logs: Tensors | None = None) -> None:
        """Stop the bar."""
        self.bar.stop()

    def paused(self, seconds: float) -> None:
        """Leave out time that was spent on something else than steps."""
        step, since = self.last
        self.last = (step, since + seconds)


class Validate(StepCallback):
    """Evaluates, keeps the best weights, and stops when it no longer gets better.

    Args:
        run: The run directory.
        evaluator: Computes the loss and other metrics.
        is_better: Says whether such values are better than the best so far.
        batches: Validation data.
        config: The training's configuration.
        journal: Where values are noted; None for a worker that is not the first.
        console: Where to write.
        show_samples: Called with the journal and the step, to show what the model does.
        report: Is told how long validation took.
        state: What a checkpoint remembers; `best` and `bad` are kept here.
    """

    def __init__(
        self,
        run: RunDirectory,
        evaluator: Evaluator,
        is_better: Callable[[dict[str, float], dict[str, float]], bool],
        batches: tf.data.Dataset,
        config: TrainingConfig,
        journal: Journal | None,
        console: Console,
        show_samples: Callable[[Journal, int], None],
        report: Report,
        state: dict[str, Any],
    ) -> None:
        super().__init__()
        self.run = run
        self.evaluator = evaluator
        self.is_better = is_better
        self.batches = batches
        self.config = config
        self.journal = journal
        self.console = console
        self.show_samples = show_samples
        self.report = report
        self.state = state

    def on_train_batch_end(self, batch: int, logs: Tensors | None = None) -> None:
        """Validate if it is time."""
        step = self.step
        if step % self.config.validate_every and step != self.config.steps:
            return
        begin = time.perf_counter()
        with averaged_weights(self.model):
            values = self.evaluator(self.batches)
            best = self.state.get("best")
            better = math.isfinite(values["loss"]) and (not best or self.is_better(values, best))
            if self.journal:
                named = {f"validation/{name}": value for name, value in values.items()}
                self.journal.scalars(step, **named)
                self.show_samples(self.journal, step)
                if better:
                    self.run.save_best(self.model)
        self.state.update(validated=step, last=values)
        if better:
            self.state.update(best={"step": step, **values}, bad=0)
        else:
            self.state["bad"] = self.state.get("bad", 0) + 1
        self.console.print(
            f"validation at step {step:,}: {', '.join(_shown(*one) for one in values.items())}"
            + (" (best so far)" if better else "")
        )
        self.report.paused(time.perf_counter() - begin)
        if self.config.patience and self.state["bad"] >= self.config.patience:
            self.console.print(
                f"No better validation {self.state['bad']} times in a row: stopping early. "
                f"The best was at step {self.state['best']['step']:,}."
            )
            self.model.stop_training = True


def _shown(name: str, value: float) -> str:
    """Write a metric for people: a share in per cent."""
    if name.endswith("accuracy"):
        return f"{name.replace('_', ' ')} {value:.1%}"
    return f"{name} {value:.4f}" if name == "loss" else f"{name} {value:.2f}"


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Put the optimizer's moving average of the weights in their place, if it keeps one."""
    optimizer = _innermost(model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    variables = model.trainable_variables
    trained = [variable.numpy() for variable in variables]
    for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
        variable.assign(average.numpy())
    try:
        yield
    finally:
        for variable, value in zip(variables, trained, strict=True):
            variable.assign(value)


def _innermost(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return getattr(optimizer, "inner_optimizer", optimizer)


class Checkpoint(StepCallback):
    """Saves what the run can go on from.

    Args:
        run: The run directory.
        every: Steps between two checkpoints.
        keep: How many are kept.
        state: What else to remember.
    """

    def __init__(self, run: RunDirectory, every: int, keep: int, state: dict[str, Any]) -> None:
        super().__init__()
        self.run = run
        self.every = every
        self.keep = keep
        self.state = state
        self.saved = -1

    def on_train_batch_end(self, batch: int, logs: Tensors | None = None) -> None:
        """Save if it is time."""
        if self.step % self.every == 0:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Tensors | None = None) -> None:
        """Save the last step, also when training was stopped.

        Later, Keras would have put the optimizer's average in the place of the weights.
        """
        self.save()

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        step = self.step
        if step != self.saved:
            self.run.checkpoints.save(self.model, step, self.state, self.keep)
            self.saved = step


class Profile(StepCallback):
    """Records what TensorFlow does during some steps, for TensorBoard's profiler.

    Args:
        begin: The first step that is recorded.
        end: The last one.
        folder: TensorBoard's folder.
    """

    def __init__(self, begin: int, end: int, folder: Path | str) -> None:
        super().__init__()
        self.begin = begin
        self.end = end
        self.folder = str(folder)
        self.running = False

    def on_train_batch_begin(self, batch: int, logs: Tensors | None = None) -> None:
        """Start before the first step."""
        if self.step + 1 == self.begin:
            tf.profiler.experimental.start(self.folder)
            self.running = True

    def on_train_batch_end(self, batch: int, logs: Tensors | None = None) -> None:
        """Stop after the last step."""
        if self.running and self.step >= self.end:
            self.stop()

    def on_train_end(self, logs: Tensors | None = None) -> None:
        """Stop if training ended before."""
        self.stop()

    def stop(self) -> None:
        """Write what was recorded."""
        if self.running:
            tf.profiler.experimental.stop()
            self.running = False
