"""What happens between two steps: reports, validation, checkpoints, stopping."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keras_transformer.errors import InputError
from keras_transformer.training.evaluation import Evaluator
from keras_transformer.training.journal import Journal
from keras_transformer.training.run_directory import RunDirectory


class StepCallback(keras.callbacks.Callback):
    """A callback that counts the run's steps, those before a resume included."""

    @property
    def step(self) -> int:
        """The number of updates made."""
        return int(self.model.optimizer.iterations)


class Report(StepCallback):
    """Shows progress, the loss of late, the learning rate, tokens/s and the time left.

    On a terminal it is a bar, elsewhere a plain line now and then. The same goes to the journal.

    Args:
        steps: The step at which the run ends.
        journal: Where values are noted.
        every: Steps between two reports.
        console: Where to write.
    """

    def __init__(self, steps: int, journal: Journal, every: int, console: Console):
        super().__init__()
        self.steps = steps
        self.journal = journal
        self.every = every
        self.console = console
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

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self.task = self.bar.add_task("", total=self.steps, completed=self.step, values="")
        self.bar.start()
        self.last = (self.step, time.perf_counter())

    def on_train_batch_end(self, batch, logs=None):
        """Count the step, and report if it is time."""
        step = self.step
        self.bar.update(self.task, completed=step)
        if not math.isfinite(logs["loss"]):
            raise InputError(
                f"The loss became {logs['loss']} at step {step:,}; the last checkpoint is kept. "
                "A lower --learning-rate or a longer --warmup usually helps."
            )
        if step % self.every and step != self.steps:
            return
        steps_done = step - self.last[0]
        seconds = time.perf_counter() - self.last[1]
        tokens_per_second = logs["tokens"] / seconds
        learning_rate = float(self.model.optimizer.learning_rate)
        self.bar.update(
            self.task, values=f"loss {logs['loss']:.3f}, {tokens_per_second:,.0f} tokens/s"
        )
        if not self.console.is_terminal:
            left = (self.steps - step) * seconds / steps_done
            self.console.print(
                f"step {step:,}/{self.steps:,}  loss {logs['loss']:.4f}  "
                f"learning rate {learning_rate:.2e}  {tokens_per_second:,.0f} tokens/s  "
                f"{left / 60:.1f} min left"
            )
        self.journal.scalars(
            step,
            **{
                "train/loss": logs["loss"],
                "train/learning_rate": learning_rate,
                "train/tokens_per_second": tokens_per_second,
            },
        )
        self.model.reset_metrics()  # the loss reported next is that of the steps to come
        self.last = (step, time.perf_counter())

    def on_train_end(self, logs=None):
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
        evaluator: Computes loss, perplexity and token accuracy.
        batches: Validation data.
        config: The training's configuration.
        journal: Where values are noted.
        console: Where to write.
        translate_samples: Gives sample sources and their translations, or None.
        report: Is told how long validation took.
        state: What a checkpoint remembers; `best` and `bad` are kept here.
    """

    def __init__(
        self,
        run: RunDirectory,
        evaluator: Evaluator,
        batches,
        config,
        journal: Journal,
        console: Console,
        translate_samples: Callable[[], tuple[list[str], list[str]]],
        report: Report,
        state: dict,
    ):
        super().__init__()
        self.run = run
        self.evaluator = evaluator
        self.batches = batches
        self.config = config
        self.journal = journal
        self.console = console
        self.translate_samples = translate_samples
        self.report = report
        self.state = state

    def on_train_batch_end(self, batch, logs=None):
        """Validate if it is time."""
        step = self.step
        if step % self.config.validate_every and step != self.config.steps:
            return
        begin = time.perf_counter()
        values = self.evaluator(self.batches)
        self.state.update(validated=step, last=values)
        self.journal.scalars(step, **{f"validation/{name}": v for name, v in values.items()})
        self.journal.translations(step, *self.translate_samples())
        better = values["loss"] < self.state.get("best", {}).get("loss", math.inf)
        if better:
            self.run.save_best(self.model)
            self.state.update(best={"step": step, **values}, bad=0)
        else:
            self.state["bad"] = self.state.get("bad", 0) + 1
        self.console.print(
            f"validation at step {step:,}: loss {values['loss']:.4f}, perplexity "
            f"{values['perplexity']:.2f}, token accuracy {values['token_accuracy']:.1%}"
            + (" (best so far)" if better else "")
        )
        self.report.paused(time.perf_counter() - begin)
        if self.config.patience and self.state["bad"] >= self.config.patience:
            self.console.print(
                f"No better validation loss {self.state['bad']} times in a row: stopping early. "
                f"The best was at step {self.state['best']['step']:,}."
            )
            self.model.stop_training = True


class Checkpoint(StepCallback):
    """Saves what the run can go on from.

    Args:
        run: The run directory.
        every: Steps between two checkpoints.
        state: What else to remember.
    """

    def __init__(self, run: RunDirectory, every: int, state: dict):
        super().__init__()
        self.run = run
        self.every = every
        self.state = state

    def on_train_batch_end(self, batch, logs=None):
        """Save if it is time."""
        if self.step % self.every == 0:
            self.save()

    def on_train_end(self, logs=None):
        """Save the last step, also when training was stopped."""
        self.save()

    def save(self):
        """Write a checkpoint, unless this step has one."""
        if self.run.steps_done() != self.step:
            self.run.checkpoints.save(self.model, self.state)


class StopOnInterrupt(StepCallback):
    """Ends training after the current step on Ctrl-C; a second one ends it at once."""

    interrupted = False

    previous: Any = None

    def on_train_begin(self, logs=None):
        """Take over Ctrl-C, which only the main thread may do."""
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._stop)

    def _stop(self, number, frame):
        print("\nStopping after this step; press Ctrl-C again to stop at once.", file=sys.stderr)
        self.interrupted = True
        self.model.stop_training = True
        signal.signal(signal.SIGINT, self.previous)

    def on_train_end(self, logs=None):
        """Give Ctrl-C back."""
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
