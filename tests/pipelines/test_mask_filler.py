"""Tests of fill_mask, in Python and exported, and of the command `fill-mask`.

How text is split at masks is tested in test_word_pieces.py.
"""

import functools
import json

import numpy as np
import pytest
from fixtures_encoders import PIECES, assert_same, exported_files, published, texts_of
from typer.testing import CliRunner

from keras_transformer.cli.app import app
from keras_transformer.errors import InputError
from keras_transformer.export import load, runtime
from keras_transformer.export.runtime import open_file
from keras_transformer.export.tflite.convert import custom_ops_of
from keras_transformer.pipelines.mask_filler import MaskFiller
from keras_transformer.pipelines.tasks import TaskSettings, make_servable
from keras_transformer.text import SPECIAL_TOKENS, WordTokenizer
from keras_transformer.training.run.importing import import_checkpoint

PIECE = {piece: i for i, piece in enumerate(PIECES)}
TEXTS = [
    "a [MASK] cab, [MASK]",
    "no mask",
    "",
    "[MASK]",
    "a b c d e f g h i [MASK] [MASK] j",  # cut to ten pieces, of which one is masked
]
ROWS = ["[CLS] a [MASK] cab , [MASK] [SEP]", "[CLS] [MASK] [SEP]", None]
ROWS[2] = "[CLS] a b c d e f g h i [MASK] [SEP]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    return import_checkpoint(published("bert-masked-lm", folder / "there"), folder / "run")


@pytest.fixture(scope="module")
def filler(run):
    return run.servable()


def by_hand(model, row):
    """Score every place of a row, and rank the pieces at its masks: `(M, 5)` and `(M, 5)`."""
    ids = np.array([[PIECE[piece] for piece in row.split()]], "int32")
    places = np.arange(ids.shape[1])[None]
    inputs = {"token_ids": ids, "segment_ids": 0 * ids, "places": places}
    logits = np.array(model(inputs, training=False))[0][ids[0] == PIECE["[MASK]"]]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = probabilities[:, : len(PIECES)]  # the table is larger than the vocabulary
    best = np.argsort(-probabilities, axis=1)[:, :5]
    return best, np.take_along_axis(probabilities, best, axis=1)


def test_masks_get_the_likeliest_pieces(run, filler):
    assert run.task_settings().task == "masked-lm"
    outputs = filler.call("serving_default", text=TEXTS)
    assert outputs["tokens"].shape == outputs["probabilities"].shape == (5, 2, 5)
    for i, row in ((0, ROWS[0]), (3, ROWS[1]), (4, ROWS[2])):
        best, probabilities = by_hand(filler.model, row)
        count = len(best)
        assert texts_of(outputs["tokens"][i, :count]) == [[PIECES[k] for k in one] for one in best]
        np.testing.assert_allclose(outputs["probabilities"][i, :count], probabilities, atol=1e-6)
        assert not outputs["probabilities"][i, count:].any()
        assert not b"".join(outputs["tokens"][i, count:].ravel())
    assert not b"".join(outputs["tokens"][1:3].ravel())
    assert outputs["text"][1:3].tolist() == [b"[UNK] [UNK]", b""]
    best = PIECES[by_hand(filler.model, ROWS[1])[0][0, 0]]
    assert outputs["text"][3].decode() == best
    assert filler.call("tokenize", text=TEXTS)["truncated"].tolist() == [False] * 4 + [True]


def test_masked_places_alone_are_scored(filler, monkeypatch):  # D07
    asked = []

    def spy(ids, **inputs):
        asked.append((np.array(ids), np.array(inputs["places"])))
        return MaskFiller.run_model(filler, ids, **inputs)

    monkeypatch.setattr(filler, "run_model", spy)
    filler.read_text(np.array([text.encode() for text in TEXTS], object))
    [(ids, places)] = asked
    assert places.shape == (5, 2)  # as many as the text with the most masks has
    for row, some in zip(ids, places, strict=True):
        masked = np.flatnonzero(row == PIECE["[MASK]"])
        assert some[: len(masked)].tolist() == masked.tolist()
        assert not some[len(masked) :].any()


def test_every_artefact_fills_in_what_the_model_does(run, filler, tmp_path):
    wanted = filler.call("serving_default", text=TEXTS)
    for _, artefact in exported_files(run, filler, tmp_path / "exported"):
        assert_same(artefact.call("serving_default", text=TEXTS), wanted)
        one = artefact.call("serving_default", text=[""])
        assert one["tokens"].tolist() == [[[b""] * 5]] and one["text"].tolist() == [b""]
        with pytest.raises(
            InputError, match="gives probabilities and text and tokens, and no text"
        ):
            load(artefact._path, gives="text")
    path = tmp_path / "exported" / "model.ids.tflite"
    assert not custom_ops_of(path.read_bytes())
    ids = filler.call("tokenize", text=TEXTS)["ids"]
    got = open_file(path).call("ids", ids=ids)
    assert_same(got, filler.call("ids", ids=ids))
    names = np.array([*PIECES, ""], object)[got["ids"]]  # -1 is nothing
    assert names.tolist() == np.vectorize(bytes.decode)(wanted["tokens"]).tolist()
    card = json.loads((tmp_path / "exported" / "model_card.json").read_text("utf-8"))
    assert card["description"].endswith("in the places of a text where [MASK] stands.")


def test_the_command_ranks_tokens(run, filler, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "load", functools.cache(runtime.load))
    command = ["fill-mask", "--model", str(run.path)]
    result = CliRunner().invoke(app, [*command, TEXTS[0], TEXTS[3]])
    assert result.exit_code == 0
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines[::5]] == [["1", "1"], ["1", "2"], ["2", "1"]]
    best, probabilities = by_hand(filler.model, ROWS[1])
    assert [line[2] for line in lines[10:]] == [PIECES[k] for k in best[0]]
    np.testing.assert_allclose([float(x[3]) for x in lines[10:]], probabilities[0], atol=1e-5)
    path = tmp_path / "in.txt"
    path.write_text(f"{TEXTS[3]}\n{TEXTS[1]}\n")
    for arguments, message in (
        (["--input", str(path)], r"Text 2 has no mask, such as [MASK] or <mask>, within the"),
        ([TEXTS[2]], "Text 1 has no mask"),
        ([], "Give texts, or a file of them by --input."),
        ([TEXTS[0], "--input", str(path)], "Give texts, or a file of them by --input."),
    ):
        result = CliRunner().invoke(app, [*command, *arguments])
        assert isinstance(result.exception, InputError) and message in str(result.exception)
        assert result.stdout == ""


def test_a_vocabulary_without_a_mask_is_refused(filler):
    words = WordTokenizer([*SPECIAL_TOKENS, "a"])
    with pytest.raises(InputError, match=r"\(words\) has no mask in its vocabulary, such as"):
        make_servable(filler.model, words, TaskSettings("masked-lm"))
