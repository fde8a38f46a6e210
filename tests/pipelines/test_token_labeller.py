"""Tests of token_labels, in Python and exported, and of the command `tag`."""

import json

import numpy as np
import pytest
from fixtures_encoders import (
    LABELS,
    PIECES,
    TEXTS,
    assert_same,
    exported_files,
    published,
    texts_of,
)
from typer.testing import CliRunner

from keras_transformer.cli.app import app
from keras_transformer.errors import InputError
from keras_transformer.export import load
from keras_transformer.export.runtime import open_file
from keras_transformer.export.tflite.convert import custom_ops_of
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.pipelines.token_labeller import TokenLabeller
from keras_transformer.training.run.importing import import_checkpoint

PIECE = {piece: i for i, piece in enumerate(PIECES)}
# The words of `TEXTS` in pieces; twelve fit, of which ten are the text's.
WORDS = [
    ["a", "cab"],
    [],
    ["b ##e ##d ,", "f ##i ##g ."],
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"],
    ["j ##a ##d ##e"],
    ["[UNK]", "a"],
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    published("bert-tokens", folder / "there")
    config = json.loads((folder / "there" / "config.json").read_text())
    config["id2label"] = {str(i): label for i, label in enumerate(LABELS)}
    (folder / "there" / "config.json").write_text(json.dumps(config))
    return import_checkpoint(folder / "there", folder / "run")


@pytest.fixture(scope="module")
def servable(run):
    return run.servable()


def by_hand(model, words):
    """Label words one text at a time, by the logits of the first piece of each."""
    pieces = " ".join(["[CLS]", *words, "[SEP]"]).split()
    ids = np.array([[PIECE[piece] for piece in pieces]], "int32")
    logits = np.array(model({"token_ids": ids, "segment_ids": 0 * ids}, training=False))[0]
    firsts = 1 + np.cumsum([0, *(len(word.split()) for word in words)])[:-1]
    logits = logits[firsts.astype(int)]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return [LABELS[i] for i in probabilities.argmax(axis=1)], probabilities.max(axis=1)


def test_a_word_has_the_label_of_its_first_piece(run, servable):
    assert (run.task_settings().task, run.task_settings().labels) == (
        "token-classification",
        tuple(LABELS),
    )
    outputs = servable.call("serving_default", text=TEXTS)
    assert outputs["words"].shape == outputs["labels"].shape == (6, 16)
    assert texts_of(outputs["words"]) == [text.split() for text in TEXTS]
    seen = set()
    for i, words in enumerate(WORDS):
        labels, probabilities = by_hand(servable.model, words)
        # Words beyond the greatest length have the label "", as padding has.
        assert texts_of(outputs["labels"])[i] == labels
        count = len(words)
        np.testing.assert_allclose(outputs["probabilities"][i, :count], probabilities, atol=1e-5)
        assert not outputs["probabilities"][i, count:].any()
        seen |= set(labels)
    assert len(seen) > 1


def test_words_without_pieces_have_no_label_and_leave_the_others_theirs(servable):
    outputs = servable.call("serving_default", text=["\x01 a \x02\x03 cab", "a cab"])
    assert outputs["labels"][0, [0, 2]].tolist() == [b"", b""]
    assert outputs["probabilities"][0, [0, 2]].tolist() == [0, 0]
    assert outputs["labels"][0, [1, 3]].tolist() == outputs["labels"][1, :2].tolist()
    assert texts_of(outputs["words"])[0] == ["\x01", "a", "\x02\x03", "cab"]


def test_every_artefact_labels_words_as_the_model_does(run, servable, tmp_path):
    texts = [*TEXTS, "\x01 a"]
    wanted = servable.call("serving_default", text=texts)
    for _, artefact in exported_files(run, servable, tmp_path / "exported"):
        assert_same(artefact.call("serving_default", text=texts), wanted)
        one = artefact.call("serving_default", text=[""])  # no words at all
        assert (one["words"].tolist(), one["labels"].tolist()) == ([[b""]], [[b""]])
    path = tmp_path / "exported" / "model.ids.tflite"
    assert not custom_ops_of(path.read_bytes())
    ids = servable.call("tokenize", text=texts)["ids"]
    got = open_file(path).call("ids", ids=ids)
    assert_same(got, servable.call("ids", ids=ids))
    assert texts_of(got["labels"])[2][:4:4] == texts_of(wanted["labels"])[2][:1]  # b ##e ##d ,
    card = json.loads((tmp_path / "exported" / "model_card.json").read_text("utf-8"))
    assert card["description"] == "Says of each word of a text which of good, bad, größer it is."


def test_the_command_tags_lines(run, tmp_path):
    (tmp_path / "in.txt").write_text("a cab\n\nBed, \t fig.\n", "utf-8")
    arguments = ["tag", "--model", str(run.path), "--input", str(tmp_path / "in.txt")]
    result = CliRunner().invoke(app, [*arguments, "--batch", "1"])
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [[one["word"] for one in row] for row in rows] == [["a", "cab"], [], ["Bed,", "fig."]]
    labels, probabilities = by_hand(run.load_model(), WORDS[2])
    assert [one["label"] for one in rows[2]] == labels
    np.testing.assert_allclose([one["probability"] for one in rows[2]], probabilities, atol=1e-5)


def test_what_does_not_fit_is_refused(run, servable):
    with pytest.raises(InputError, match="3 labels, but 1 are named"):
        TokenLabeller(servable.model, servable.tokenizer, ["one"])
    with pytest.raises(InputError, match="gives labels and probabilities and words, and no label"):
        load(run.path, gives="label")
    with pytest.raises(InputError, match="There is no task 'tagging'"):
        TaskSettings("tagging")
