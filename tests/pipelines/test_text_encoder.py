"""Tests of text_encoders, reading, and training.importing.

Also: pipelines.sentence_embedder, pipelines.text_classifier.
"""

import json

import numpy as np
import pytest
from fixtures_encoders import (
    LABELS,
    PIECES,
    TEXTS,
    classifier_run,
    embedder_run,
    published,
)

from keras_transformer.artefacts.bulk import read_lines_in_order, read_texts
from keras_transformer.errors import InputError
from keras_transformer.models import from_hugging_face
from keras_transformer.pipelines.text_classifier import TextClassifier
from keras_transformer.training.run.importing import import_checkpoint
from keras_transformer.training.run.run_directory import RunDirectory

__all__ = ["classifier_run", "embedder_run"]

PIECE = {piece: i for i, piece in enumerate(PIECES)}


def by_hand(model, *rows):
    """Run a model on rows of pieces, one at a time and without padding."""
    outputs = []
    for row in rows:
        ids = np.array([[PIECE[piece] for piece in row.split()]], "int32")
        inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids)}
        outputs.append(np.array(model(inputs, training=False))[0])
    return np.array(outputs)


ROWS = [
    "[CLS] a cab [SEP]",
    "[CLS] [SEP]",
    "[CLS] b ##e ##d , f ##i ##g . [SEP]",
    "[CLS] a b c d e f g h i j [SEP]",  # cut to 12
    "[CLS] j ##a ##d ##e [SEP]",
    "[CLS] [UNK] a [SEP]",
]


@pytest.fixture(scope="module")
def servable(classifier_run):
    return classifier_run.servable()


def test_a_classifier_reads_text_as_its_model_reads_pieces(servable):  # M17
    outputs = servable.call("serving_default", text=TEXTS)
    logits = by_hand(servable.model, *ROWS)
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["probabilities"], wanted, atol=1e-5)
    assert [x.decode() for x in outputs["label"]] == [LABELS[i] for i in wanted.argmax(axis=1)]
    np.testing.assert_allclose(outputs["probability"], wanted.max(axis=1), atol=1e-5)
    assert len(set(outputs["label"])) > 1


def test_an_embedder_gives_the_mean_of_real_tokens(embedder_run):
    servable = embedder_run.servable()
    got = servable.call("serving_default", text=TEXTS)["embedding"]
    rows = [*ROWS[:3], "[CLS] a b c d e f g h [SEP]", *ROWS[4:]]  # cut to 10
    np.testing.assert_allclose(got, by_hand(servable.model, *rows), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    cut = servable.call("tokenize", text=TEXTS)["truncated"]
    assert cut.tolist() == [False, False, False, True, False, False]


def test_texts_are_read_in_batches_of_like_length_and_given_in_order(servable):
    done = []
    outputs, cut = read_texts(servable, TEXTS, 2, done.append)
    whole = servable.call("serving_default", text=TEXTS)
    np.testing.assert_allclose(outputs["probabilities"], whole["probabilities"], atol=1e-5)
    assert outputs["label"].tolist() == whole["label"].tolist()
    assert (cut, done) == ([3], [2, 2, 2])
    parts = list(read_lines_in_order(servable, iter(TEXTS), 2, lines_at_once=4))
    assert [len(part["label"]) for part, _ in parts] == [4, 2]
    assert [cut for _, cut in parts] == [[3], []]
    joined = np.concatenate([part["probabilities"] for part, _ in parts])
    np.testing.assert_allclose(joined, whole["probabilities"], atol=1e-5)


def test_a_run_that_was_imported_is_opened_again(classifier_run):
    run = RunDirectory.open(classifier_run.path)
    head = run.task_settings()
    assert (head.task, head.labels) == ("classification", tuple(LABELS))
    config = run.model_config()
    assert (config.family, config.begin_id, config.end_id, config.mask_id) == ("bert", 2, 3, 4)
    with pytest.raises(InputError, match="was imported, and has no training to go on with"):
        run.training_config()


def test_names_of_labels_have_to_fit_the_model(servable):
    with pytest.raises(InputError, match="3 labels, but 2 are named"):
        TextClassifier(servable.model, servable.tokenizer, ["good", "bad"])


def test_a_model_for_reading_takes_no_options_of_writing(embedder_run):
    from keras_transformer.decoding import GenerationOptions

    with pytest.raises(InputError, match="writes no text"):
        embedder_run.servable(GenerationOptions(beam_size=2))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no vocabulary", r"tokeniser in .* there is neither tokenizer\.json, vocab\.txt"),
        ("repeated piece", "tokeniser in .* can't be read: .*vocab.txt"),
        ("no special token", r"can't be read: .*\[SEP\]"),
        ("too many pieces", "has 45 pieces, but the model's table has 40"),
    ],
)
def test_a_tokeniser_that_does_not_fit_is_refused(tmp_path, damage, message):
    folder = published("bert-classifier", tmp_path / "there")
    vocabulary = folder / "vocab.txt"
    if damage == "no vocabulary":
        vocabulary.unlink()
    else:
        pieces = {
            "repeated piece": [*PIECES, "a"],
            "no special token": [p for p in PIECES if p != "[SEP]"],
            "too many pieces": [*PIECES, *(f"{i}" for i in range(45 - len(PIECES)))],
        }[damage]
        vocabulary.write_text("".join(f"{piece}\n" for piece in pieces))
    with pytest.raises(InputError, match=message):
        import_checkpoint(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_task_names_what_could_be_made_of_it(tmp_path):
    folder = published("bert", tmp_path / "there")
    with pytest.raises(InputError, match="choose a --head such as SentenceEncoder"):
        import_checkpoint(folder, tmp_path / "run")
    run = import_checkpoint(folder, tmp_path / "run", head="SentenceEncoder")
    assert run.task_settings().task == "embedding"
    assert json.loads(run.config_path.read_text())["training"] is None
    ours = run.load_model().get_weights()
    theirs = from_hugging_face(folder, "SentenceEncoder").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
