"""The tutorial "Add a family", run as it stands on its page."""

from pathlib import Path

import keras
import numpy as np
import pytest
from fixtures_cli import call
from fixtures_tasks import write_examples
from fixtures_tutorials import commands, install

import keras_transformer as kt
from keras_transformer.errors import InputError
from keras_transformer.models.parameters import count_parameters
from keras_transformer.training.run.run_directory import RunDirectory

__all__ = ["call", "install"]
PAGE = "add-a-family.md"
SIZES = {"num_layers": 2, "num_heads": 1, "d_model": 8, "max_length": 16}


def test_one_file_and_one_line_add_a_family(install, call):
    _, (command_line,) = install(PAGE)
    for path in write_examples(Path.cwd()).glob("*-labels.tsv"):
        path.rename(path.name.replace("-labels", ""))
    Path("lines.txt").write_text("the film was superb with the cast\nthe plot was dull\n")
    train, export, classify = commands(command_line)
    for command in (train, [*export, "--tflite", "float32"], classify):
        status, shown, errors = call(command)
        assert status == 0, errors
    assert [line.split("\t")[0] for line in shown.splitlines()] == ["good", "bad"]
    config = RunDirectory.open(Path("run")).model_config()
    assert (config.family, config.kernel_size) == ("convolver", 3)


def test_heads_are_put_on_the_graph_of_the_family(install, reload, rng):
    install(PAGE)
    config = kt.models.FAMILIES["convolver"].config_class(99, **SIZES)
    model = kt.models.SequenceClassifier(config, num_labels=3, pooling="mix")
    assert not [w.path for w in model.weights if "query" in w.path]
    ids = rng.integers(5, 99, (2, 6)).astype("int32")
    inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids)}
    expected = model(inputs)
    assert np.array_equal(reload(model)(inputs), expected)
    padded = {name: np.pad(value, ((0, 0), (0, 3))) for name, value in inputs.items()}
    np.testing.assert_allclose(model(padded), expected, atol=1e-5)
    # A head that begins with another takes the convolutions' weights over.
    other = kt.models.TokenClassifier(model, num_labels=2)
    kernels = [[w for w in m.weights if "conv" in w.path] for m in (model, other)]
    assert len(kernels[0]) == 4
    for mine, theirs in zip(*kernels, strict=True):
        assert np.array_equal(mine, theirs)
    with pytest.raises(InputError, match="no formula for the parameters of the family 'convolver'"):
        count_parameters(config)


def test_a_family_without_an_encoder_takes_no_heads(monkeypatch):
    class Config(kt.models.BertConfig):
        family = "headless"

    @keras.saving.register_keras_serializable("test")
    class Headless(kt.models.ConfiguredModel):
        config_class = Config

    table = kt.models.FAMILIES
    monkeypatch.setattr(table, "_rows", dict(table))
    table.register("headless", Headless)
    with pytest.raises(InputError, match="the family 'headless' has none"):
        kt.models.TokenClassifier(Config(99, **SIZES), num_labels=2)
