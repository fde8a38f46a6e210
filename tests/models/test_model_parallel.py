"""Tests of `Transformer(devices=...)`: blocks spread over devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import largest_difference

from keras_transformer.models import Transformer, TransformerConfig

PROCESS = Path(__file__).with_name("model_parallel_process.py")


@pytest.fixture(scope="module")
def found():
    child = subprocess.run(
        [sys.executable, PROCESS], capture_output=True, text=True, check=False, timeout=300
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_each_device_holds_about_half_of_the_weights_and_of_the_optimizer(found):  # T14
    assert set(found["one"]["bytes"]) == {"CPU:0"}
    whole, parts = sum(found["one"]["bytes"].values()), found["two"]["bytes"]
    assert set(parts) == {"CPU:0", "CPU:1"}
    assert sum(parts.values()) == whole
    for part in parts.values():
        assert part == pytest.approx(whole / 2, rel=0.05)  # the first has the embeddings as well


def test_where_the_blocks_are_does_not_change_the_result(found):  # T14
    assert largest_difference(found["one"]["logits"], found["two"]["logits"]) < 1e-6


def test_devices_are_not_saved_with_the_model(reload):
    model = Transformer(TransformerConfig(11, 2, 2, 8, 16), devices=("CPU:0", "CPU:0"))
    assert "devices" not in model.get_config()
    assert reload(model).get_layer("encoder").devices == ()
