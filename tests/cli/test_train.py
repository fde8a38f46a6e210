"""Tests of cli.train and cli.training_tools: train, average, tune, memory, data-service.

Also: cli.training_tools.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_cli import (
    SMALL,
    TEXT,
    assert_refused,
    bad,
    call,
    exported,
    here,
    original,
    texts,
    trained,
)
from fixtures_run import STEPS, arrays, everything, make_run, pretend_checkpoint, write_text

__all__ = ["bad", "call", "exported", "here", "original", "texts", "trained"]

TRAIN = f"train {TEXT} --output new --steps 5 --vocab-size 90"
ONE = TRAIN.replace("--target train.capital ", "")
TUNE = f"tune {TEXT} --output new --steps 5 --vocab-size 90"


# --- train ----------------------------------------------------------------------------------------


def test_train_goes_on_to_more_steps(here, trained, call):  # T26
    shutil.copytree(trained.run.path, "run")
    Path("run/samples.txt").unlink()  # to translate them takes longer than a few steps
    before = everything(here)
    status, output, error = call("train --resume run")
    assert (status, output) == (2, "")
    assert error == (
        f"error: run has been trained for {STEPS} steps already; ask for more by --steps.\n"
    )
    assert everything(here) == before

    last = STEPS + 3
    status, output, error = call(f"train --resume run --steps {last}")
    assert (status, output) == (0, "")
    assert f"step {last}/{last}  loss " in error
    assert error.endswith(f"\nrun: trained to step {last}\n")
    assert sorted(os.listdir("run/checkpoints")) == [f"step-{STEPS:08d}", f"step-{last:08d}"]
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    assert sorted({json.loads(line)["step"] for line in lines}) == [50, 100, 150, STEPS, last]


@pytest.fixture
def untrained(monkeypatch):
    """Sets runs up without training them; returns what the trainer was called with."""
    from keras_transformer.training import trainer

    seen = []

    def train(run, console, strategy, profile):
        seen.append((run.path, run.training_config().steps, strategy, profile))
        return trainer.TrainingResult(1, {}, {}, None)

    monkeypatch.setattr(trainer, "train", train)
    return seen


def config():
    return json.loads(Path("run/config.json").read_text())


def test_train_options_reach_the_configuration(texts, call, untrained):
    options = {
        "model": {
            "num_layers": 3,
            "num_heads": 2,
            "d_model": 24,
            "d_ff": 40,
            "dropout": 0.25,
            "embedding_dropout": 0.25,
            "attention_dropout": 0.1,
            "ffn_dropout": 0.2,
            "norm_first": True,
            "max_length": 17,
            "recompute": True,
        },
        "training": {
            "batch_tokens": 1000,
            "learning_rate": 0.5,
            "warmup_steps": 7,
            "schedule": "linear",
            "label_smoothing": 0.2,
            "clip_norm": 2.5,
            "seed": 4,
            "validate_every": 9,
            "checkpoint_every": 11,
            "keep_checkpoints": 5,
            "patience": 3,
            "steps": 100,
            "max_length": 17,
            "accumulate": 3,
            "precision": "mixed_bfloat16",
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "ema": 0.99,
            "teacher_forcing": 0.75,
            "token_dropout": 0.15,
            "data_service": "grpc://host:5050",
            "deterministic": True,
        },
    }
    status, _, _ = call(
        f"train {TEXT} --output run --steps 100 --vocab-size 90 --preset big "
        "--num-layers 3 --num-heads 2 --d-model 24 --d-ff 40 --dropout 0.25 --pre-norm "
        "--max-length 17 --batch-tokens 1000 --learning-rate 0.5 --warmup 7 --schedule linear "
        "--label-smoothing 0.2 --clip-norm 2.5 --seed 4 --validate-every 9 --checkpoint-every 11 "
        "--patience 3 --keep-checkpoints 5 --accumulate 3 --recompute --precision mixed_bfloat16 "
        "--optimizer adamw --weight-decay 0.05 --ema 0.99 --teacher-forcing 0.75 "
        "--token-dropout 0.15 --data-service grpc://host:5050 --deterministic "
        "--attention-dropout 0.1 --ffn-dropout 0.2"
    )
    assert status == 0
    for part, fields in options.items():
        assert {name: config()[part][name] for name in fields} == fields


def test_train_takes_a_vocabulary(texts, call, untrained):
    assert call("vocab --input train.small --input train.capital --output v --size 95")[0] == 0
    assert call(f"train {TEXT} --output run --steps 9 --vocab v")[0] == 0
    assert Path("run/vocab.txt").read_text() == Path("v").read_text()
    assert config()["model"]["vocabulary_size"] == 95


def test_train_counts_epochs(texts, call, untrained):
    steps = []
    for epochs in (1, 4):
        options = f"--output run --overwrite --vocab-size 90 --epochs {epochs} {SMALL}"
        assert call(f"train {TEXT} {options}")[0] == 0
        steps.append(config()["training"]["steps"])
    assert steps[1] == 4 * steps[0]


def test_train_replaces_a_run_only_if_asked(texts, call, untrained):
    options = f"train {TEXT} --output run --vocab-size 90 --steps"
    assert call(f"{options} 5")[0] == 0
    status, _, error = call(f"{options} 6")
    assert status == 2
    assert "run holds a run already. Go on with it by --resume run" in error
    assert config()["training"]["steps"] == 5
    assert call(f"{options} 6 --overwrite")[0] == 0
    assert config()["training"]["steps"] == 6


def test_resume_goes_on_to_the_steps_first_asked_for(texts, call, untrained):
    make_run("run", *texts, steps=70)
    assert call("train --resume run")[0] == 0
    assert call("train --resume run --steps 90")[0] == 0
    assert [seen[:2] for seen in untrained] == [(Path("run"), 70), (Path("run"), 90)]


def test_train_takes_several_texts_patterns_and_weights(texts, here, call, untrained):
    for name in ("more-1", "more-2"):
        write_text(here, name, 20)
    options = "--valid-source valid.small --valid-target valid.capital --steps 9 --vocab-size 90"
    command = ["train", *options.split(), *SMALL.split(), "--output", "run"]
    for side in ("small", "capital"):
        name = {"small": "--source", "capital": "--target"}[side]
        command += [name, f"train.{side}", name, f"more-*.{side}"]
    assert call([*command, "--weight", "1", "--weight", "2.5"])[0] == 0
    training = config()["training"]
    assert training["source"] == [str(here / name) for name in ("train.small", "more-*.small")]
    assert training["target"] == [str(here / name) for name in ("train.capital", "more-*.capital")]
    assert training["weights"] == [1.0, 2.5]
    assert call([*command, "--overwrite"])[0] == 0
    assert config()["training"]["weights"] is None


def test_train_hands_over_devices_and_the_steps_to_record(texts, call, untrained):
    assert call(f"{TRAIN} --strategy mirrored --profile 3:4")[0] == 0
    assert call("train --resume new")[0] == 0
    (_, _, mirrored, profile), (_, _, plain, nothing) = untrained
    assert type(mirrored).__name__ == "MirroredStrategy"
    assert profile == (3, 4)
    assert (plain.num_replicas_in_sync, nothing) == (1, None)


def test_one_machine_trains_whatever_tf_config_says(texts, call, untrained, monkeypatch):
    workers = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    assert call(f"{TRAIN} --strategy single")[0] == 0
    assert Path("new/config.json").is_file()


# --- average and tune -----------------------------------------------------------------------------


def test_average_makes_a_run_of_the_mean(here, trained, call):
    status, output, error = call(["average", "--model", trained.run.path, "--output", "mean"])
    assert (status, output, error) == (
        0,
        "",
        "mean: averaged; translate, evaluate and export take it\n",
    )
    mean = arrays(Path("mean/best.weights.h5"))
    parts = [arrays(path / "model.weights.h5") for path in trained.run.checkpoints.all()]
    assert len(parts) == 2
    for name, value in mean.items():
        if value.dtype.kind == "f":
            expected = (parts[0][name].astype("float64") + parts[1][name]) / 2
            assert (value == expected.astype(value.dtype)).all()


def test_tune_trains_every_point_and_prints_a_table(texts, call):  # T25
    from keras_transformer.training import tune as tuning

    seen = []

    def train(run, console):
        seen.append((run.training_config().learning_rate, run.training_config().steps))
        best = {"step": 1, "loss": seen[-1][0], "perplexity": 2.0, "token_accuracy": 0.5}
        pretend_checkpoint(run, run.training_config().steps, {"best": best})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "train_run", train)
        status, output, error = call(
            f"tune {TEXT} --output search --grid learning_rate=2e-3,1e-3 --steps 7 --vocab-size 90"
        )
    assert status == 0, error
    assert seen == [(0.002, 7), (0.001, 7)]
    assert "point 2/2: learning_rate 0.001" in error
    rows = [line for line in output.splitlines() if "0.00" in line]
    assert ["0.001" in row for row in rows] == [True, False]  # the best first


# --- memory ---------------------------------------------------------------------------------------


def test_memory_shows_a_table(call):
    status, output, error = call("memory --preset base --vocab-size 37000 --length 128")
    assert (status, error) == (0, "")
    # 37000 more pieces than none; see M01 for the number.
    assert output.startswith("base: 63,082,496 parameters, 32 rows of 128 tokens\n")
    for name in ("as asked for", "4 micro-batches", "mixed_bfloat16", "recompute", "adafactor"):
        assert name in output


def test_memory_takes_its_options(call):
    def total(options):
        output = call(f"memory --vocab-size 1000 {options}")[1]
        row = next(line for line in output.splitlines() if "as asked for" in line)
        number, unit = re.search(r"([\d.]+) (kB|MB|GB)\W*$", row).groups()
        return float(number) * {"kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]

    plain = total("")
    for less in ("--recompute", "--accumulate 4", "--precision mixed_bfloat16"):
        assert total(less) < plain, less
    assert total("--ema") > plain
    assert total("--optimizer adafactor") < plain
    assert total("--batch-tokens 8192") > plain


# --- data-service ---------------------------------------------------------------------------------


@pytest.fixture
def listening():
    """Lets children hear Ctrl-C, which those of a shell's background jobs would ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_data_service_runs_until_ctrl_c(here, listening):
    command = [sys.executable, "-m", "keras_transformer", "data-service"]
    with subprocess.Popen(
        [*command, "--kind", "dispatcher", "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as child:
        said = next(line for line in child.stderr if "listens on port" in line)
        port = int(re.search(r"^dispatcher listens on port (\d+); Ctrl-C ends it$", said)[1])
        socket.create_connection(("localhost", port), 10).close()
        child.send_signal(signal.SIGINT)
        try:
            error = child.communicate(timeout=30)[1]
        finally:
            child.kill()
    assert child.returncode == 130
    assert "Traceback" not in error


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --source train.small --steps 5", "--target, --valid-source, --valid-target, --out"),
        (f"{TRAIN} --steps 0", "--steps must be at least 1, got 0."),
        (f"{TRAIN} --epochs 3", "--steps or --epochs, not both"),
        (f"{TRAIN} --source nothing", "There is no file nothing."),
        (f"{TRAIN} --valid-target nothing", "There is no file nothing."),
        (f"{TRAIN} --target short", "numbers of sources and targets differ, 1 and 2"),
        (f"{ONE} --target short", "short has 1 lines, but train.small has 80: line 2"),
        (f"{TRAIN} --source train.*", "numbers of sources and targets differ, 2 and 1"),
        (f"{TRAIN} --source nothing-*", "There is no file nothing-*."),
        (f"{TRAIN} --weight 1 --weight 2", "numbers of texts and weights differ, 1 and 2"),
        (f"{TRAIN} --valid-source empty --valid-target empty", "empty and empty are empty"),
        (f"{TRAIN} --source latin --target short", "latin, line 1: not UTF-8"),
        (f"{TRAIN} --output folder --overwrite", "folder exists and is not a run"),
        (f"{TRAIN} --output run", "run holds a run already"),
        (f"{TRAIN} --output latin/run", "latin"),
        (f"{TRAIN} --preset huge", "no preset 'huge'; choose one of tiny, small, base, big"),
        (f"{TRAIN} --dropout 1.5", "dropout must be in [0, 1), got 1.5"),
        (f"{TRAIN} --d-model 10 --num-heads 4", "got d_model=10 and num_heads=4"),
        (f"{TRAIN} --max-length 1", "max_length must be at least 2, got 1"),
        (f"{TRAIN} --max-length 2", "have more than 2 tokens"),
        (f"{TRAIN} --batch-tokens 10", "batch_tokens must be at least max_length, got 10"),
        (f"{TRAIN} --label-smoothing 1", "label_smoothing must be in [0, 1), got 1.0"),
        (f"{TRAIN} --learning-rate 0", "learning_rate must be positive, got 0.0"),
        (f"{TRAIN} --warmup 0", "warmup_steps must be at least 1, got 0"),
        (f"{TRAIN} --clip-norm -1", "clip_norm must be positive, or 0 for none, got -1.0"),
        (f"{TRAIN} --validate-every 0", "validate_every must be at least 1, got 0"),
        (f"{TRAIN} --checkpoint-every 0", "checkpoint_every must be at least 1, got 0"),
        (f"{TRAIN} --patience -1", "patience must be"),
        (f"{TRAIN} --seed -1", "seed must be"),
        (f"{TRAIN} --ema 1", "ema must be in [0, 1), got 1.0"),
        (f"{TRAIN} --weight-decay -1", "weight_decay must be"),
        (f"{TRAIN} --accumulate 0", "accumulate must be at least 1, got 0"),
        (f"{TRAIN} --teacher-forcing 1.5", "teacher_forcing must be in [0, 1], got 1.5"),
        (f"{TRAIN} --token-dropout 1", "token_dropout must be in [0, 1), got 1.0"),
        (f"{TRAIN} --keep-checkpoints 0", "keep_checkpoints must be at least 1, got 0"),
        (f"{TRAIN} --schedule linear --warmup 5", "warmup_steps must be less than steps, got 5"),
        (f"{TRAIN} --data-service here", "data_service must be an address such as grpc:"),
        (f"{TRAIN} --profile 3", "--profile takes FROM:TO, two steps such as 10:12, got '3'."),
        (f"{TRAIN} --profile 4:3", "got '4:3'."),
        (f"{TRAIN} --profile 0:3", "got '0:3'."),
        (f"{TRAIN} --profile a:b", "got 'a:b'."),
        (f"{TRAIN} --profile 1:2:3", "got '1:2:3'."),
        (f"{TRAIN} --profile -1:3", "got '-1:3'."),
        (f"{TRAIN} --strategy multiworker", "needs the environment variable TF_CONFIG"),
        ("train --resume fresh --strategy multiworker", "needs the environment variable TF_CONFIG"),
        (f"{TRAIN} --vocab nothing", "nothing"),
        (f"{TRAIN} --vocab short", "short is not a WordPiece vocabulary"),
        (f"{TRAIN} --vocab-size 20", "vocabulary_size is 20, but"),
        ("train --resume nothing", "There is no folder nothing."),
        ("train --resume folder", "folder is not a run"),
        ("train --resume run --source train.small", "--resume takes its files and folder from"),
        ("train --resume run --epochs 3", "--epochs"),
        ("train --resume run --learning-rate 0.1", "leave out --learning-rate"),
        # Also the default, which need not be what the run has.
        ("train --resume run --weight-decay 0.01", "leave out --weight-decay"),
        ("train --resume run --steps 0", "--steps must be at least 1, got 0."),
        ("train --resume run --steps 3", f"run has been trained for {STEPS} steps already"),
        ("average --model nothing --output new", "There is no file nothing."),
        ("average --model folder --output new", "folder is not a run"),
        ("average --model fresh --output new", "checkpoint"),
        ("average --model run --output folder", "folder exists and is not a run"),
        ("average --model run --output new --last 3", "needs at least 3 checkpoints"),
        ("average --model run --output new --last 1", "must be at least 2, got 1"),
        (f"{TUNE} --grid learning_rate", "learning_rate"),
        (f"{TUNE} --grid wings=1,2", "wings"),
        (f"{TUNE} --grid num_layers=many", "many"),
        (f"{TUNE} --grid num_heads=3", "num_heads=3"),
        (f"{TUNE} --grid num_layers=1 --preset huge", "no preset 'huge'"),
        (f"{TUNE} --grid num_layers=1 --source nothing", "There is no file nothing."),
        (f"{TUNE} --grid num_layers=1 --output folder", "folder"),
        ("memory --preset huge", "no preset 'huge'; choose one of tiny, small, base, big"),
        ("data-service --kind worker --port 0", "needs the address of its --dispatcher"),
        (
            "data-service --kind dispatcher --port 0 --dispatcher grpc://here:1",
            "a dispatcher has none",
        ),
        (
            "data-service --kind worker --port 0 --dispatcher here",
            "here is not the address of a tf.data service",
        ),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(bad, call, arguments, message):
    assert_refused(bad, call, arguments, message)


@pytest.mark.parametrize("tf_config", ["{", "5", '{"cluster": {"worker": ["a:1", "b:1"]}}'])
@pytest.mark.parametrize("strategy", ["multiworker", "auto"])
def test_a_wrong_tf_config_is_one_line(bad, call, monkeypatch, tf_config, strategy):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    assert_refused(bad, call, f"{TRAIN} --strategy {strategy}", "TF_CONFIG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --precision float8", "float8"),
        ("train --strategy many", "many"),
        ("train --optimizer sgd", "sgd"),
        ("train --accumulate some", "--accumulate"),
        ("average --model run", "--output"),
        ("tune --output new", "--source"),
        ("memory --length 0", "--length"),
        ("memory --vocab-size 3", "--vocab-size"),
        ("data-service --kind clerk --port 0", "clerk"),
        ("data-service --kind worker --port 65536", "--port"),
        ("data-service --kind dispatcher", "--port"),
    ],
)
def test_a_wrong_option_is_named(here, call, arguments, message):
    status, output, error = call(arguments)
    assert (status, output) == (2, "")
    assert message in error.splitlines()[-1]
    assert list(here.iterdir()) == []
