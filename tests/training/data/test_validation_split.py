"""Tests of keras_transformer.training.data.validation_split, and of --valid-split."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from fixtures_cli import SMALL, assert_refused, call, here, texts
from fixtures_run import make_run

from keras_transformer.errors import InputError
from keras_transformer.files import read_lines
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.corpora import Mixture, ParallelFiles, make_corpus
from keras_transformer.training.data.records import ImageFolder, Records
from keras_transformer.training.data.validation_split import split_text, with_halves
from keras_transformer.training.run.run_directory import RunDirectory

__all__ = ["call", "here", "texts"]

REQUIRED = {"steps": 9, "learning_rate": 1.0, "warmup_steps": 1}
PARALLEL = dict.fromkeys(("source", "target", "valid_source", "valid_target"))
TRAIN = f"train --source train.small --target train.capital --output new --steps 5 {SMALL}"


def config(share=0.1, **data):
    return TrainingConfig(**{**PARALLEL, **data}, **REQUIRED, valid_split=share)


def split_pairs(folder, sources, targets, share=0.1, name="text"):
    asked = config(share, source=[str(s) for s in sources], target=[str(t) for t in targets])
    halves, *counts = split_text(asked, make_corpus(sources, targets), (), folder / name)
    trained = [
        line
        for pair in halves.train_files.pairs
        for line in zip(*map(read_lines, pair), strict=True)
    ]
    held_out = [
        line
        for pair in halves.valid_files.pairs
        for line in zip(*map(read_lines, pair), strict=True)
    ]
    assert [len(trained), len(held_out)] == counts
    return trained, held_out, halves


def write(path, lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# --- Parallel text --------------------------------------------------------------------------------


def test_every_pair_is_on_one_side_and_equal_sources_on_the_same(tmp_path):
    lines = [f"line {i % 150}" for i in range(200)]  # 50 of them twice
    source = write(tmp_path / "a.en", lines)
    target = write(tmp_path / "a.de.gz", [f"Zeile {i}" for i in range(200)])
    trained, held_out, halves = split_pairs(tmp_path, [source], [target])
    assert sorted(trained + held_out) == sorted(
        zip(lines, (f"Zeile {i}" for i in range(200)), strict=True)
    )
    assert trained == sorted(trained, key=lambda pair: int(pair[1].split()[1]))  # in their order
    assert not {source for source, _ in trained} & {source for source, _ in held_out}
    assert len(held_out) in (20, 21)  # the last one may come twice
    assert [Path(halves.source[0]).suffix, Path(halves.valid_target).suffix] == [".en", ".de"]
    assert halves.valid_split is None


def test_the_same_text_is_split_the_same_and_a_larger_share_keeps_a_smaller(tmp_path):
    files = [write(tmp_path / f"a.{side}", [f"{side} {i}" for i in range(100)]) for side in "st"]
    some, again, more = (
        set(split_pairs(tmp_path, files[:1], files[1:], share, f"text-{i}")[1])
        for i, share in enumerate((0.1, 0.1, 0.3))
    )
    assert some == again
    assert len(some) == 10 and len(more) == 30
    assert some < more


def test_patterns_and_several_texts_are_split_each(tmp_path):
    for side in "st":
        for name in ("one-1", "one-2", "two"):
            write(tmp_path / f"{name}.{side}", [f"{name} {i}" for i in range(50)])
    names = [[tmp_path / f"one-*.{side}", tmp_path / f"two.{side}"] for side in "st"]
    trained, held_out, halves = split_pairs(tmp_path, *names)
    assert isinstance(halves.train_files, Mixture)
    first = list(read_lines(halves.train_files.parts[1].source))
    assert first and all(line.startswith("two") for line in first)
    assert len(held_out) == 15 and len(trained) == 135


@pytest.mark.parametrize(
    ("count", "share", "message"),
    [
        (1, 0.5, "valid_split=0.5 of 1 leaves nothing to train on"),
        (20, 0.99, "valid_split=0.99 of 20 leaves nothing to train on; give a smaller share"),
        (0, 0.5, "are empty"),
    ],
)
def test_a_split_that_leaves_nothing_is_refused(tmp_path, count, share, message):
    files = [write(tmp_path / f"a.{side}", map(str, range(count))) for side in "st"]
    with pytest.raises(InputError, match=message):
        split_pairs(tmp_path, files[:1], files[1:], share)


# --- Examples -------------------------------------------------------------------------------------


def test_examples_of_any_form_are_split(tmp_path):
    rows = [(f'text "{i}"', "yes" if i % 2 else "no") for i in range(60)]
    table = write(tmp_path / "a.tsv.gz", ["text\tlabel", *("\t".join(row) for row in rows)])
    columns = ("text", "label")
    asked = config(data=str(table))
    halves, *counts = split_text(asked, Records(table, columns), columns, tmp_path / "text")
    trained, held_out = (list(Records(p, columns)) for p in (halves.data, halves.valid_data))
    assert counts == [54, 6] == [len(trained), len(held_out)]
    assert sorted(trained + held_out) == sorted(rows)
    assert with_halves(asked, tmp_path / "text") == halves


def test_running_text_is_cut_once_and_stays_whole(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.txt", [f"{i} {j}" for j in range(20)])
    asked = config(0.5, data=str(tmp_path / "*.txt"))
    records = Records(tmp_path / "*.txt", ("text",))
    halves, *counts = split_text(asked, records, ("text",), tmp_path / "text", running=True)
    trained, held_out = (Records(Path(p), ("text",)) for p in (halves.data, halves.valid_data))
    assert counts == [30, 30]
    assert [len(trained.paths), len(held_out.paths)] == [2, 2]  # texts have not grown together
    assert [*trained, *held_out] == list(records)
    assert with_halves(asked, tmp_path / "text") == halves


def test_pictures_of_each_label_are_on_both_sides(tmp_path):
    import tensorflow as tf

    from keras_transformer.training.data.records import PICTURES

    picture = tf.io.encode_png(tf.zeros((2, 2, 1), tf.uint8)).numpy()
    for label, count in (("cat", 20), ("dog", 2)):
        (tmp_path / "all" / label).mkdir(parents=True)
        for i in range(count):
            (tmp_path / "all" / label / f"{i}{PICTURES[0]}").write_bytes(picture)
    whole = ImageFolder(tmp_path / "all")
    asked = config(data=str(tmp_path / "all"))
    halves, *counts = split_text(asked, whole, whole.columns, tmp_path / "text")
    trained, held_out = (ImageFolder(Path(p)) for p in (halves.data, halves.valid_data))
    assert counts == [19, 3] == [trained.check(), held_out.check()]
    assert trained.labels == held_out.labels == ["cat", "dog"]
    names = [{(Path(p).name, label) for p, label in half} for half in (trained, held_out)]
    assert not names[0] & names[1]
    assert with_halves(asked, tmp_path / "text") == halves


# --- In a run -------------------------------------------------------------------------------------


def test_a_run_keeps_both_halves_wherever_it_goes(here, texts):
    train, _ = texts
    run = make_run("run", train, None, training={"valid_split": 0.1})
    stored = json.loads(run.config_path.read_text("utf-8"))["training"]
    assert stored["valid_split"] == 0.1
    assert stored["source"] == str(train.source.absolute())
    assert stored["valid_source"] is None
    shutil.move("run", "moved")
    train.source.unlink()  # it is needed no more
    run = RunDirectory.open("moved")
    for _ in range(2):
        found = run.training_config()
        assert found.valid_split is None
        assert found.train_files.check() == 72
        assert found.valid_files.check() == 8
        assert Path(found.valid_source).parent == here / "moved" / "text"
        run.extend(found.steps + 1)
    assert json.loads(run.config_path.read_text("utf-8"))["training"] == {
        **stored,
        "steps": stored["steps"] + 2,
    }
    held_out = set(read_lines(found.valid_source))
    assert set(run.samples() or held_out) <= held_out


def test_a_run_without_a_split_is_stored_as_before(here, texts):
    run = make_run("run", *texts)
    assert "valid_split" not in json.loads(run.config_path.read_text("utf-8"))["training"]


def test_the_command_says_where_the_text_is(texts, call, monkeypatch):
    from keras_transformer.training import trainer

    seen = []
    ended = trainer.TrainingResult(5, {}, {}, None)
    monkeypatch.setattr(trainer, "train", lambda run, *_: seen.append(run) or ended)
    status, _, error = call(f"{TRAIN} --vocab-size 90 --valid-split 0.1")
    assert status == 0, error
    assert "Validating on 8 of 80 lines, training on the others: see new/text\n" in error
    assert seen[0].training_config().valid_files.check() == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--valid-split 0", "valid_split must be between 0 and 1, got 0.0."),
        ("--valid-split 1", "valid_split must be between 0 and 1, got 1.0."),
        ("--valid-split nan", "valid_split must be between 0 and 1, got nan."),
        ("--valid-split 0.999", "valid_split=0.999 of 80 leaves nothing to train on"),
        (
            "--valid-split 0.1 --valid-source valid.small --valid-target valid.capital",
            "text: leave it out, or --valid-source, --valid-target.",
        ),
        ("--valid-split 0.1 --valid-target valid.capital", "leave it out, or --valid-target."),
    ],
)
def test_a_bad_split_is_one_line_and_changes_nothing(texts, here, call, arguments, message):
    assert_refused(here, call, f"{TRAIN} {arguments}", message)


def test_examples_are_split_or_given_but_not_both(texts, here, call):
    Path("a.tsv").write_text("text\tlabel\na\tb\n", "utf-8")
    both = "train --task classification --data a.tsv --valid-data a.tsv --output new"
    assert_refused(here, call, f"{both} --valid-split 0.1", "leave it out, or --valid-data.")


@pytest.mark.parametrize("valid", [None, ParallelFiles(Path("valid.small"), Path("valid.capital"))])
def test_python_too_gives_one_of_the_two(here, texts, valid):
    training = {} if valid is None else {"valid_split": 0.1}
    with pytest.raises(InputError, match="to validate on, or a valid_split, and not both"):
        make_run("run", texts[0], valid, training=training)
