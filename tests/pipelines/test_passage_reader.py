"""Tests of question_answering, in Python and exported, and of the command `answer`."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from fixtures_encoders import PIECES, assert_same, exported_files, published
from typer.testing import CliRunner

from keras_transformer.cli.app import app
from keras_transformer.errors import InputError
from keras_transformer.export import runtime
from keras_transformer.export.runtime import open_file
from keras_transformer.export.tflite.convert import custom_ops_of
from keras_transformer.models import BertConfig
from keras_transformer.pipelines.passage_reader import PassageReader, join_pairs
from keras_transformer.training.run.importing import import_checkpoint

PIECE = {piece: i for i, piece in enumerate(PIECES)}
# Question and passage, and both in pieces as they fit: twelve, of which three are special.
PAIRS = [
    ("a", "cab bed  .\n jade", "a", "cab b ##e ##d . j ##a ##d"),
    ("cab a b", "", "cab a b", ""),
    ("", "a b c", "", "a b c"),
    ("a b c d e f g h", "i j a b c", "a b c d", "i j a b c"),
    ("a b c d e f g h", "i j a b c d e", "a b c d", "i j a b c"),
    ("a b c d e f", "i", "a b c d e f", "i"),
    ("bed", "\x01 a \x02 fig", "b ##e ##d", "a f ##i ##g"),
]
QUESTIONS, PASSAGES = ([pair[i] for pair in PAIRS] for i in (0, 1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    return import_checkpoint(published("bert-answers", folder / "there"), folder / "run")


@pytest.fixture(scope="module")
def reader(run):
    return run.servable()


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def by_hand(model, question, passage):
    """Try every span of a passage, given in pieces: the best one and its probability."""
    rows = [["[CLS]", *question.split(), "[SEP]"], [*passage.split(), "[SEP]"]]
    ids = np.array([[PIECE[piece] for row in rows for piece in row]], "int32")
    segments = np.array([[0] * len(rows[0]) + [1] * len(rows[1])], "int32")
    logits = np.array(model({"token_ids": ids, "segment_ids": segments}, training=False))[0]
    count = len(rows[1]) - 1
    starts, ends = (softmax(x[len(rows[0]) : len(rows[0]) + count]) for x in logits)
    spans = [(starts[i] * ends[j], i, j) for i in range(count) for j in range(i, count)]
    return max(spans)


def test_the_answer_is_the_likeliest_span_of_the_passage(run, reader):
    assert (run.task_settings().task, run.task_settings().labels) == ("question-answering", ())
    outputs = reader.call("serving_default", question=QUESTIONS, passage=PASSAGES)
    places = set()
    for i, (_, passage, *pieces) in enumerate(PAIRS):
        found = {name: values[i] for name, values in outputs.items()}
        if not passage:
            assert found == {"answer": b"", "score": 0, "first_word": -1, "last_word": -1}
            continue
        score, start, end = by_hand(reader.model, *pieces)
        assert found["score"] == pytest.approx(score, abs=1e-6)
        # The word of each piece: one begins where a piece does not continue it.
        words = [w for w in passage.split() if w.isprintable()]
        of = np.cumsum([not piece.startswith("##") for piece in pieces[1].split()]) - 1
        assert found["answer"].decode() == " ".join(words[of[start] : of[end] + 1])
        first, last = passage.split().index(words[of[start]]), passage.split().index(words[of[end]])
        assert (found["first_word"], found["last_word"]) == (first, last)
        places.add((start, end))
    assert len(places) > 2


def test_answers_that_are_too_long_are_not_looked_at(reader, monkeypatch):
    monkeypatch.setattr("keras_transformer.pipelines.passage_reader.LONGEST_ANSWER", 2)
    logits = np.full([1, 2, 9], -9.0, "float32")
    logits[0, 0, 4], logits[0, 1, [3, 5, 6]] = 9, [8, 3, 9]  # the likeliest ends are 6 and 3
    monkeypatch.setattr(reader, "run_model", lambda ids, segments: tf.constant(logits))
    found = reader.find_span(
        tf.constant([[2, 5, 3, 6, 7, 8, 9, 3, 0]]), tf.constant([[0, 0, 0, 1, 1, 1, 1, 1, 0]])
    )
    assert (found["start"].numpy(), found["end"].numpy()) == (4, 5)
    inside = softmax(logits[0, 0, 3:7])[1] * softmax(logits[0, 1, 3:7])[2]
    assert found["score"].numpy()[0] == pytest.approx(inside, rel=1e-5)


def test_no_answer_is_in_the_question_or_behind_the_passage(reader, monkeypatch):
    logits = np.zeros([1, 2, 8], "float32")
    logits[:, :, [0, 1, 2, 5, 6, 7]] = 50  # everywhere else than in the passage
    monkeypatch.setattr(reader, "run_model", lambda ids, segments: tf.constant(logits))
    ids, segments = [[2, 5, 3, 6, 7, 3, 0, 0]], [[0, 0, 0, 1, 1, 1, 0, 0]]
    found = reader.find_span(tf.constant(ids), tf.constant(segments))
    assert 3 <= found["start"].numpy()[0] <= found["end"].numpy()[0] <= 4
    assert found["score"].numpy()[0] == pytest.approx(0.25)


def test_pairs_are_joined_as_models_were_trained_on_them(reader):
    outputs = reader.call("tokenize", question=QUESTIONS, passage=PASSAGES)
    for i, (_, _, question, passage) in enumerate(PAIRS):
        wanted = ["[CLS]", *question.split(), "[SEP]", *passage.split(), "[SEP]"]
        assert [PIECES[k] for k in outputs["ids"][i] if k] == wanted
        segments = [0] * (len(question.split()) + 2) + [1] * (len(passage.split()) + 1)
        assert outputs["segment_ids"][i, : len(segments)].tolist() == segments
        assert not outputs["segment_ids"][i, len(segments) :].any()
    assert outputs["truncated"].tolist() == [True, False, False, True, True, False, False]


def test_a_model_without_segments_has_two_separators():  # as RoBERTa
    config = BertConfig(50, num_segments=1, begin_id=1, end_id=2, padding_id=0)
    rows = [tf.ragged.constant(x, tf.int32) for x in ([[7, 8, 9], [7]], [[5, 6], [4, 5, 6, 4]])]
    pairs = {name: x.numpy().tolist() for name, x in join_pairs(*rows, config, 9).items()}
    assert pairs["ids"] == [[1, 7, 8, 9, 2, 2, 5, 6, 2], [1, 7, 2, 2, 4, 5, 6, 4, 2]]
    assert pairs["segment_ids"] == [[0] * 6 + [1] * 3, [0] * 4 + [1] * 5]
    assert (pairs["begins"], pairs["counts"]) == ([6, 4], [2, 4])
    two = dataclasses.replace(config, num_segments=2)
    assert join_pairs(*rows, two, 9)["ids"].numpy()[1].tolist() == [1, 7, 2, 4, 5, 6, 4, 2]


def test_every_artefact_answers_as_the_model_does(run, reader, tmp_path):
    pairs = {"question": QUESTIONS, "passage": PASSAGES}
    wanted = reader.call("serving_default", **pairs)
    for _, artefact in exported_files(run, reader, tmp_path / "exported"):
        assert_same(artefact.call("serving_default", **pairs), wanted)
    path = tmp_path / "exported" / "model.ids.tflite"
    assert not custom_ops_of(path.read_bytes())
    ids = reader.to_ids(pairs)
    assert_same(open_file(path).call("ids", **ids), reader.call("ids", **ids))
    card = json.loads((tmp_path / "exported" / "model_card.json").read_text("utf-8"))
    assert card["description"] == "Answers a question by words of a passage."


def test_the_command_answers(run, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "load", functools.cache(runtime.load))
    path = tmp_path / "in.tsv"
    path.write_text(
        "".join(f"{q}\t{p}\n" for q, p in zip(QUESTIONS, PASSAGES, strict=True) if "\n" not in p)
    )
    model = ["answer", "--model", str(run.path)]
    result = CliRunner().invoke(app, [*model, "--input", str(path), "--batch", "2"])
    assert result.exit_code == 0
    wanted = reader.call("serving_default", question=QUESTIONS[1:], passage=PASSAGES[1:])
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0].encode() for line in lines] == wanted["answer"].tolist()
    np.testing.assert_allclose([float(line[1]) for line in lines], wanted["score"], atol=1e-5)
    assert "2 of 6 lines were longer than the model takes" in result.stderr
    one = ["--question", QUESTIONS[2], "--passage", PASSAGES[2]]
    assert CliRunner().invoke(app, [*model, *one]).stdout.splitlines() == ["\t".join(lines[1])]
    path.write_text("who\n")
    for arguments, message in (
        (["--input", str(path)], "line 1: a line is a question, a tab and a passage"),
        (["--question", "who"], "Give --question and --passage"),
        ([], "Give --question and --passage"),
        ([*one, "--input", str(path)], "Give --question and --passage"),
    ):
        result = CliRunner().invoke(app, [*model, *arguments])
        assert isinstance(result.exception, InputError) and message in str(result.exception)


def test_a_tokeniser_with_pieces_that_span_words_is_refused(reader):
    tokenizer = type(reader.tokenizer)(PIECES)
    tokenizer.cuts_words_alone = False
    with pytest.raises(InputError, match="pieces that span words"):
        PassageReader(reader.model, tokenizer)
