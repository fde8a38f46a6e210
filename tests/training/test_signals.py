"""Tests of keras_transformer.training.signals."""

import os
import signal

import pytest

from keras_transformer.training.signals import StopOnSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(capsys, number):
    class Model:
        stop_training = False

    seen = []
    before = signal.signal(number, lambda *_: seen.append("at once"))
    try:
        stop = StopOnSignal()
        stop.set_model(Model())
        stop.on_train_begin()
        os.kill(os.getpid(), number)
        assert (stop.signal, stop.model.stop_training, seen) == (number, True, [])
        os.kill(os.getpid(), number)
        assert seen == ["at once"]
        stop.on_train_end()
    finally:
        signal.signal(number, before)
    error = capsys.readouterr().err
    assert "Stopping after this step" in error
    assert ("press Ctrl-C again" in error) == (number == signal.SIGINT)
