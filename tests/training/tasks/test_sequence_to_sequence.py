"""Tests of training.tasks.sequence_to_sequence: one pipeline for all pairs and all special ids."""

import dataclasses
import io
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures_data import TOKENIZER as LETTERS
from fixtures_data import random_pairs, write_pairs
from rich.console import Console

from keras_transformer.errors import InputError
from keras_transformer.models import TransformerConfig
from keras_transformer.models.config import UNKNOWN_ID
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.text import (
    SPECIAL_TOKENS,
    CharacterTokenizer,
    WordPieceTokenizer,
    learn_characters,
)
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.new_run import new_run
from keras_transformer.training.tasks.registry import find_training
from keras_transformer.training.tasks.task import OPTIONS_OF_TASKS

TOKENIZER = WordPieceTokenizer([*LETTERS.vocabulary, "[X]", "[Y]", "[Z]"])
PIECES = len(TOKENIZER.vocabulary)
OWN = TransformerConfig(PIECES, 1, 2, 8, 8)
# As a published model may have them.
PAD, BEGIN, END = range(PIECES - 3, PIECES)
OTHER = dataclasses.replace(OWN, padding_id=PAD, begin_id=BEGIN, end_id=END, source_begin_id=BEGIN)


@pytest.fixture
def make(tmp_path):
    """Makes a training on three texts, two of them to be mixed."""

    def make(model=OWN, task="translation", tokenizer=TOKENIZER, records=False, **fields):
        sides = {"source": [], "target": []}
        for seed in range(3):
            folder = tmp_path / str(seed)
            folder.mkdir(exist_ok=True)
            files = write_pairs(folder, random_pairs(seed, 90, 20))
            for name, paths in sides.items():
                paths.append(str(getattr(files, name)))
        valid = [paths.pop() for paths in sides.values()]
        config = TrainingConfig(
            *sides.values(), *valid, 10, 0.01, 2, max_length=16, batch_tokens=64, seed=3
        )
        if records:
            path = tmp_path / "pairs.tsv"
            path.write_text("".join(f"{s}\t{t}\n" for s, t in random_pairs(7, 90, 20)))
            without = dict.fromkeys(("source", "target", "valid_source", "valid_target"))
            fields = {"data": str(path), "valid_data": str(path), **without, **fields}
        config = dataclasses.replace(config, **fields)
        find_training(task).check_options(task, config)
        return find_training(task)(model, TaskSettings(task), config, tokenizer)

    return make


def batches(training, count=40, first=0):
    size = training.measure({}, "training")
    made = training.training_batches(size, first)
    return list(itertools.islice(made.as_numpy_iterator(), count))


def as_own(ids):
    """Write the special ids of `OTHER` as those of `OWN`."""
    own = {PAD: OWN.padding_id, BEGIN: OWN.begin_id, END: OWN.end_id}
    return np.select([ids == other for other in own], list(own.values()), ids)


@pytest.mark.parametrize("weights", [None, [3.0, 1.0]], ids=["one text", "mixture"])
def test_other_special_ids_change_nothing_else(make, weights):
    other = dataclasses.replace(OTHER, source_begin_id=None)
    for one, two in zip(
        batches(make(OWN, weights=weights)), batches(make(other, weights=weights)), strict=True
    ):
        assert np.array_equal(one[0]["source_ids"], as_own(two[0]["source_ids"]))
        assert np.array_equal(one[0]["target_ids"], as_own(two[0]["target_ids"]))
        assert np.array_equal(one[1], as_own(two[1]))
    begun = batches(make(OTHER, weights=weights))
    assert {row[0] for inputs, _ in begun for row in inputs["source_ids"].tolist()} == {BEGIN}


@pytest.mark.parametrize("records", [False, True], ids=["files", "records"])
def test_tokens_and_pieces_are_dropped_whatever_the_pairs_are_read_from(make, records):
    plain = batches(make(OTHER, records=records))
    dropped = batches(make(OTHER, records=records, token_dropout=0.5))
    special = (OTHER.padding_id, OTHER.begin_id, OTHER.end_id)
    changed = real = 0
    for (inputs, labels), (others, other_labels) in zip(plain, dropped, strict=True):
        assert np.array_equal(labels, other_labels)
        one, other = inputs["source_ids"], others["source_ids"]
        assert set(other[one != other].tolist()) <= {UNKNOWN_ID}
        assert np.array_equal(one[np.isin(one, special)], other[np.isin(one, special)])
        changed += np.sum(one != other)
        real += np.sum(~np.isin(one, special))
    assert changed / real == pytest.approx(0.5, abs=0.05)
    # The vocabulary has single letters alone, so nothing is missing, and nothing changes.
    cut = batches(make(OTHER, records=records, piece_dropout=0.5))
    for one, other in zip(plain, cut, strict=True):
        assert np.array_equal(one[0]["source_ids"], other[0]["source_ids"])
        assert np.array_equal(one[0]["target_ids"], other[0]["target_ids"])
        assert np.array_equal(one[1], other[1])


def test_batches_go_on_where_they_stopped(make):
    options = {"token_dropout": 0.2, "piece_dropout": 0.2, "weights": [3.0, 1.0]}
    whole = batches(make(OTHER, **options))
    for one, other in zip(whole[23:], batches(make(OTHER, **options), 17, 23), strict=True):
        assert np.array_equal(one[0]["source_ids"], other[0]["source_ids"])
        assert np.array_equal(one[1], other[1])


VALUES = {
    "weights": [1.0, 2.0],
    "token_dropout": 0.1,
    "piece_dropout": 0.1,
    "data_service": "grpc://host:5050",
    "mask_rate": 0.5,
    "teacher_forcing": 0.5,
}
WITH_MASK = WordPieceTokenizer([*SPECIAL_TOKENS, "[MASK]", *TOKENIZER.vocabulary[4:]])
TAKEN = {"translation": {*OPTIONS_OF_TASKS} - {"mask_rate"}, "masked-lm": {"mask_rate"}}
TASKS_SEEN = ["translation", "masked-lm", "classification", "causal-lm", "question-answering"]


@pytest.mark.parametrize("option", OPTIONS_OF_TASKS)
@pytest.mark.parametrize("task", TASKS_SEEN)
def test_options_that_a_task_does_not_take_are_refused(make, task, option):
    fields = {option: VALUES[option], "tokenizer": WITH_MASK}
    if option in TAKEN.get(task, ()):
        make(task=task, **fields)
        return
    with pytest.raises(InputError, match=f"^{task} takes no {option}.*; leave it out"):
        make(task=task, **fields)


def test_ignored_options_are_refused_before_a_vocabulary_is_learned(tmp_path):
    (tmp_path / "a.tsv").write_text("a b\tyes\nb a\tno\n" * 9)
    said = io.StringIO()
    with pytest.raises(InputError, match="classification takes no token_dropout; leave it out"):
        new_run(
            tmp_path / "run",
            tmp_path / "a.tsv",
            tmp_path / "a.tsv",
            task="classification",
            training={"token_dropout": 0.1},
            console=Console(file=said),
        )
    assert said.getvalue() == "" and not (tmp_path / "run").exists()


def test_a_run_that_had_an_ignored_option_is_still_opened(make, monkeypatch):
    cls = find_training("classification")
    monkeypatch.setattr(cls, "check_options", lambda *_: None)  # as before there was a check
    assert make(task="classification", token_dropout=0.1).config.token_dropout == 0.1


@pytest.mark.parametrize("option", ["weights", "data_service"])
def test_options_of_files_are_refused_for_records(make, option):
    with pytest.raises(InputError, match=f"takes no {option} with these examples; leave it out"):
        make(records=True, **{option: VALUES[option]})


@pytest.mark.parametrize("share", [None, 0.1])
@pytest.mark.parametrize(
    "task", ["classification", "causal-lm", "masked-lm", "token-classification"]
)
def test_parallel_text_is_refused_by_tasks_of_one_text(tmp_path, task, share):
    text = write_pairs(tmp_path, [("a", "b")] * 9)
    with pytest.raises(InputError, match=f"{task} takes a file or folder of examples, not parall"):
        new_run(
            tmp_path / "run",
            text,
            None if share else text,
            task=task,
            training={"valid_split": share},
        )
    assert not (tmp_path / "run").exists()


def test_what_a_vocabulary_can_not_do_is_refused(make):
    characters = CharacterTokenizer(learn_characters(["abc"] * 3))
    with pytest.raises(InputError, match="piece_dropout is for vocabularies of kind wordpiece"):
        make(tokenizer=characters, piece_dropout=0.1)
    without_unknown = SimpleNamespace(unknown_id=None)
    with pytest.raises(InputError, match="token_dropout needs a vocabulary with an unknown"):
        make(tokenizer=without_unknown, token_dropout=0.1)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("masked-lm", "needs a vocabulary with a mask"),
        ("token-classification", "has pieces that span words"),
        ("question-answering", "has pieces that span words"),
    ],
)
def test_tokenisers_that_a_task_can_not_use_are_refused(make, task, message):
    spanning = SimpleNamespace(kind="sentencepiece", mask_id=None, cuts_words_alone=False)
    with pytest.raises(InputError, match=message):
        make(task=task, tokenizer=spanning)
