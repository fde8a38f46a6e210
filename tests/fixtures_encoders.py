"""Imported encoders for tests: tiny published checkpoints with a vocabulary of letters."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures_run import quiet

from keras_transformer.export import export_run, load, proof, quality
from keras_transformer.training.run.importing import import_checkpoint

CHECKPOINTS = Path(__file__).parent / "golden" / "checkpoints"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIAL, *"abcdefghij", *(f"##{c}" for c in "abcdefghij"), "cab", "##bed", ".", ","]
LABELS = ["good", "bad", "größer"]
TEXTS = ["a cab", "", "Bed, fig.", "a b c d e f g h i j a b c d e f", "jade", "zzz a"]


def published(name, folder):
    """Make a folder of a published checkpoint with a vocabulary of its own."""
    shutil.copytree(CHECKPOINTS / name, folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    if name == "bert-classifier":
        config = json.loads((folder / "config.json").read_text())
        config["id2label"] = {str(i): label for i, label in enumerate(LABELS)}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def classifier_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    return import_checkpoint(published("bert-classifier", folder / "there"), folder / "run")


@pytest.fixture(scope="module")
def embedder_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedder")
    there = published("bert", folder / "there")
    (there / "1_Pooling").mkdir()
    (there / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (there / "sentence_bert_config.json").write_text('{"max_seq_length": 10}')
    return import_checkpoint(there, folder / "run")


def exported_files(run, servable, folder):
    """Export a run in float32, and load what takes no pieces: `(name, artefact)`.

    The files are made of the run's servable as it is, so that no graph is traced again, and proven
    in this process; test_encoders.py makes them anew and waits for a fresh one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run), "servable", lambda *_: servable)
        patch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
        export_run(run, folder, quiet(), precisions=())
    return [(file, load(folder / file)) for file in ("savedmodel/1", "model.tflite")]


def assert_same(got, wanted):
    """Make sure that an artefact gave what the model gives, up to the rounding of floats."""
    assert got.keys() == wanted.keys()
    for name, values in wanted.items():
        if values.dtype == np.float32:
            np.testing.assert_allclose(got[name], values, atol=1e-5)
        else:
            assert np.array_equal(got[name], values), name


def texts_of(array):
    """Return strings of an array of bytes, without the empty ones that fill up rows."""
    if isinstance(array, bytes):
        return array.decode("utf-8")
    return [texts_of(some) for some in array if not isinstance(some, bytes) or some]
