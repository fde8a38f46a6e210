"""What the tests share."""

import gc
import sys

import numpy as np
import pytest

gc.set_threshold(5000, 10, 10)  # looking through all of TensorFlow took a tenth of the time


@pytest.fixture(autouse=True)
def _seed():
    if "keras" in sys.modules:  # a test without models should not wait for TensorFlow
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def reload(tmp_path):
    """Saves a model as a `.keras` file and loads it again."""
    import keras

    def save_and_load(model):
        model.save(tmp_path / "model.keras")
        return keras.models.load_model(tmp_path / "model.keras")

    return save_and_load
