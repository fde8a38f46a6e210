"""Ctrl-C and SIGTERM end training after a whole step."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.training.callbacks import StepCallback
from keras_transformer.training.distribution import all_agree, has_other_workers
from keras_transformer.typing import Tensors


class StopOnSignal(StepCallback):
    """Ends training after the current step on Ctrl-C or SIGTERM; a second one ends it at once.

    Many workers tell each other after every step, so that all of them end after the same one and
    the first can save it. `other_stopped` is True in those that got no signal themselves.

    Args:
        strategy: Where the model was made.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        super().__init__()
        self.strategy = strategy or tf.distribute.get_strategy()
        self.signal: signal.Signals | None = None
        self.stopped = False
        self.previous: dict[int, Any] = {}

    def on_train_begin(self, logs: Tensors | None = None) -> None:
        """Take over the signals, which only the main thread may do."""
        if threading.current_thread() is threading.main_thread():
            self.previous = {one: signal.signal(one, self._stop) for one in self.SIGNALS}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        hint = "; press Ctrl-C again to stop at once" if number == signal.SIGINT else ""
        print(f"\nStopping after this step{hint}.", file=sys.stderr)
        if not has_other_workers(self.strategy):
            self.model.stop_training = True
        self._give_back()

    def on_train_batch_end(self, batch: int, logs: Tensors | None = None) -> None:
        """Stop if any worker has to."""
        if has_other_workers(self.strategy) and not all_agree(self.strategy, self.signal is None):
            self.stopped = self.model.stop_training = True

    @property
    def other_stopped(self) -> bool:
        """True if training ended because of a signal to another worker."""
        return self.stopped and self.signal is None

    def on_train_end(self, logs: Tensors | None = None) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for one, handler in self.previous.items():
            signal.signal(one, handler)
        self.previous = {}
