"""Tests of keras_transformer.training.trainer, and of checkpoints, callbacks and the journal."""

import dataclasses
import json
import math
import os
import shutil
import signal

import h5py
import numpy as np
import pytest
import tensorflow as tf
from fixtures_run import STEPS, WORDS, everything, make_run, quiet, trained, write_text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training import corpus_size, trainer
from keras_transformer.training.corpus_size import measure
from keras_transformer.training.data import make_batches
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.optimizers import paper_adam
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.training.text_files import Mixture, ParallelFiles

__all__ = ["trained"]

TAGS = {
    "train/loss",
    "train/learning_rate",
    "train/tokens_per_second",
    "validation/loss",
    "validation/perplexity",
    "validation/token_accuracy",
}


@pytest.fixture
def files(tmp_path):
    return write_text(tmp_path, "train", 60), write_text(tmp_path, "valid", 10)


def lines_of(run):
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def column(run, name):
    """The values noted under a name, by step."""
    return {line["step"]: line[name] for line in lines_of(run) if name in line}


def arrays(path):
    """Every array of a file of weights, the optimizer's and the random state's included."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, x: found.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None
        )
    return found


def state_of(run):
    """Everything that a checkpoint holds."""
    newest = run.checkpoints.newest()
    with np.load(newest / "optimizer.npz") as optimizer:
        state = {**arrays(newest / "model.weights.h5"), **optimizer}
    return {**state, "state.json": json.loads((newest / "state.json").read_text())}


def asked_for(run, **changes):
    """Change what a run is asked for, as `--steps` does."""
    config = dataclasses.replace(run.training_config(), **changes)
    run.save_config(run.model_config(), config)
    return run


# --- A run ----------------------------------------------------------------------------------------


def test_the_loss_falls_from_that_of_knowing_nothing(trained):  # T26
    knows_nothing = math.log(len(trained.run.tokenizer()))
    train, valid = (column(trained.run, f"{name}/loss") for name in ("train", "validation"))
    assert train[STEPS] < train[40] < 1.5 * knows_nothing
    assert valid[STEPS] < valid[40] < knows_nothing
    assert valid[STEPS] < knows_nothing / 3
    accuracy = column(trained.run, "validation/token_accuracy")
    assert 1 >= accuracy[STEPS] > accuracy[40] > 0
    # Perplexity is that of the loss without its smoothing, which only adds.
    assert column(trained.run, "validation/perplexity")[STEPS] < math.exp(valid[STEPS])


def test_the_result_tells_how_it_ended(trained):
    result, valid = trained.result, column(trained.run, "validation/loss")
    best = min(valid, key=valid.get)
    assert (result.step, result.interrupted) == (STEPS, False)
    assert result.best["step"] == best
    assert result.best["loss"] == valid[best]
    assert result.last["loss"] == valid[STEPS]


def test_a_run_folder_holds_what_it_promises(trained):
    names = {path.name for path in trained.run.path.iterdir()}
    assert names == {
        "config.json",
        "vocab.txt",
        "data.json",
        "best.weights.h5",
        "checkpoints",
        "samples.txt",
        "metrics.jsonl",
        "tensorboard",
    }
    (checkpoint,) = (trained.run.path / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{STEPS:08d}"
    assert not [p for p in trained.run.path.rglob("*") if p.name.startswith(".")]


def test_samples_are_the_first_of_the_validation_text(trained):
    samples = trained.run.samples()
    assert len(samples) == 50
    assert samples == trained.valid.source.read_text("utf-8").splitlines()[:50]


def test_metrics_are_lines_of_json(trained):
    lines = lines_of(trained.run)
    assert {name for line in lines for name in line} == TAGS | {"step"}
    assert all(math.isfinite(value) for line in lines for value in line.values())
    every = list(range(40, STEPS + 1, 40))
    for tag in TAGS:
        assert list(column(trained.run, tag)) == every


def test_the_learning_rate_follows_the_schedule(trained):
    rates = column(trained.run, "train/learning_rate")
    for step, rate in rates.items():
        # Noted after the step: it is the rate of the one to come.
        assert rate == pytest.approx(0.01 * math.sqrt(20 / step), rel=1e-5)


def test_tensorboard_shows_curves_and_translations(trained):
    events = EventAccumulator(str(trained.run.tensorboard_path), size_guidance={"tensors": 0})
    events.Reload()
    assert set(events.Tags()["tensors"]) == TAGS | {"translations"}
    for tag in TAGS:
        seen = {e.step: tf.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}
        assert seen == {step: np.float32(x) for step, x in column(trained.run, tag).items()}
    table = tf.make_ndarray(events.Tensors("translations")[-1].tensor_proto).item().decode()
    rows = table.splitlines()
    assert rows[0] == "| source | output |"
    assert len(rows) == 2 + trainer.SAMPLES_SHOWN
    sample = trained.run.samples()[0]
    assert rows[2].startswith(f"| {sample} | ")
    capitals = {word.upper() for word in WORDS}
    assert set(rows[2].split("|")[2].split()) & capitals


def test_a_console_that_is_no_terminal_gets_plain_lines(trained):
    for part in (
        "Model of ",
        "training: 800 pairs, ",
        "validation: 60 pairs, ",
        "% padding",
        f"step {STEPS}/{STEPS}  loss ",
        "tokens/s",
        " min left",
        f"validation at step {STEPS}: loss ",
        "(best so far)",
    ):
        assert part in trained.printed
    assert "\r" not in trained.printed and "\x1b" not in trained.printed


def test_the_best_weights_are_those_of_the_best_validation(trained):
    model = trained.run.load_model()
    config = trained.run.training_config()
    batches = make_batches(config.valid_files, trained.run.tokenizer(), config.batching)
    evaluate = trainer.Evaluator(model, config.label_smoothing)
    assert evaluate(batches)["loss"] == pytest.approx(trained.result.best["loss"], rel=1e-6)


def test_one_step_changes_every_variable():  # T26
    config = TransformerConfig(11, 1, 2, 8, 16, dropout=0.0, embedding_dropout=0.0)
    model = Transformer(config)
    source = np.array([[5, 6, 7, 3], [8, 9, 3, 0]])
    inputs = {"source_ids": source, "target_ids": np.array([[2, 5, 10], [2, 9, 0]])}
    labels = np.array([[5, 10, 3], [9, 3, 0]])
    with tf.GradientTape() as tape:
        loss = CrossEntropy(0.1)(labels, model(inputs, training=True))
    assert loss > 0
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables)
    before = model.get_weights()
    paper_adam(0.01).apply(gradients, variables)
    for variable, gradient, old in zip(variables, gradients, before, strict=True):
        assert gradient is not None, variable.path
        steepest = np.max(np.abs(tf.convert_to_tensor(gradient)))
        # Softmax does not change if all scores of a query are shifted, so that a bias of the keys
        # has no effect.
        if variable.path.endswith("key/bias"):
            assert steepest < 1e-6
        else:
            assert steepest > 1e-5, variable.path
            assert not np.array_equal(variable, old), variable.path


def test_all_positions_are_trained_on_at_once(trained):  # T27
    model, tokenizer = trained.run.load_model(), trained.run.tokenizer()
    ids = tokenizer.tokenize(["red cat", "RED CAT"]).to_list()
    source, target = tf.constant([[*ids[0], 3]]), tf.constant([[2, *ids[1]]])

    def logits(length):
        return model({"source_ids": source, "target_ids": target[:, :length]}, training=False)[0]

    together = logits(target.shape[1])
    for step in range(target.shape[1]):
        np.testing.assert_allclose(logits(step + 1)[-1], together[step], rtol=0, atol=1e-4)
    assert not np.allclose(together[0], together[1], rtol=0, atol=1e-2)


# --- Going on -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def interrupted(trained, tmp_path_factory):
    """The same run, ended by Ctrl-C half way, and then gone on with."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    run = make_run(path, trained.train, trained.valid)
    ordinary = trainer.Report.on_train_batch_end

    def press(report, batch, logs=None):
        ordinary(report, batch, logs)
        if report.step == STEPS // 2 + 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Report, "on_train_batch_end", press)
        first = trainer.train(run, quiet())
    assert signal.getsignal(signal.SIGINT) is before
    halfway = [path.name for path in run.checkpoints.folder.iterdir()]
    console = quiet()
    second = trainer.train(RunDirectory.open(path), console)
    return first, halfway, second, run


def test_ctrl_c_saves_and_says_so(interrupted):
    first, halfway, _, _ = interrupted
    assert (first.step, first.interrupted) == (STEPS // 2 + 3, True)
    assert halfway == [f"step-{STEPS // 2 + 3:08d}"]


def test_going_on_equals_never_having_stopped(trained, interrupted):
    *_, second, run = interrupted
    assert (second.step, second.interrupted) == (STEPS, False)
    one, other = state_of(trained.run), state_of(run)
    assert trained.run.model_config().dropout > 0
    assert one.keys() == other.keys()
    assert one.pop("state.json") == other.pop("state.json")
    different = [name for name in one if not np.array_equal(one[name], other[name])]
    assert different == []
    assert arrays(trained.run.best_path).keys() == arrays(run.best_path).keys()
    assert column(trained.run, "validation/loss") == column(run, "validation/loss")


def test_another_seed_gives_other_weights(trained):
    # The comparison above can fail.
    weights = []
    for seed in (1, 2):
        trainer.keras.utils.set_random_seed(seed)
        weights.append(Transformer(trained.run.model_config()).get_weights())
    assert any(not np.array_equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("steps", [STEPS, STEPS - 1, 1])
def test_fewer_steps_than_done_are_refused(trained, tmp_path, steps):
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    before = everything(asked_for(run, steps=steps).path)
    with pytest.raises(InputError, match=f"trained for {STEPS} steps already; ask for more"):
        trainer.train(run, quiet())
    assert everything(run.path) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.weights.h5", b""),
        ("model.weights.h5", "half"),
        ("model.weights.h5", None),
        ("optimizer.npz", b""),
        ("optimizer.npz", b"garbage"),
        ("optimizer.npz", "half"),
        ("optimizer.npz", None),
        ("state.json", b"{"),
        ("state.json", None),
    ],
)
def test_a_damaged_checkpoint_is_refused(trained, tmp_path, name, content):
    run = RunDirectory(shutil.copytree(trained.run.path, tmp_path / "run"))
    path = run.checkpoints.newest() / name
    if content is None:
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if content == "half" else content)
    before = everything(asked_for(run, steps=STEPS + 1).path)
    with pytest.raises(InputError, match=f"step-{STEPS:08d} is damaged or of another model"):
        trainer.train(run, quiet())
    assert everything(run.path) == before


# --- Stopping -------------------------------------------------------------------------------------


def test_training_stops_when_it_no_longer_gets_better(tmp_path, files):
    # A learning rate this small changes no weight, so no validation is better than the first.
    settings = {"learning_rate": 1e-30, "validate_every": 2, "checkpoint_every": 100, "patience": 2}
    run = make_run(tmp_path / "run", *files, steps=100, training=settings)
    console = quiet()
    result = trainer.train(run, console)
    assert (result.step, result.best["step"], result.interrupted) == (6, 2, False)
    assert result.last["loss"] == result.best["loss"]
    assert "No better validation loss 2 times in a row: stopping early" in console.file.getvalue()
    assert run.checkpoints.newest().name == "step-00000006"


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path, files):
    settings = {"learning_rate": 1e30, "warmup_steps": 1, "checkpoint_every": 1}
    run = make_run(tmp_path / "run", *files, steps=30, training=settings)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InputError, match=r"The loss became (nan|inf) at step 2; .*--learning-rate"):
        trainer.train(run, quiet())
    assert [p.name for p in run.checkpoints.folder.iterdir()] == ["step-00000001"]
    assert not run.best_path.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_text_is_measured_again_only_if_it_changed(tmp_path, files, monkeypatch):
    settings = {"checkpoint_every": 2, "validate_every": 2}
    run = make_run(tmp_path / "run", *files, steps=2, training=settings)
    counted = []

    def count(corpus, *args):
        counted.append(corpus)
        return measure(corpus, *args)

    monkeypatch.setattr(corpus_size, "measure", count)
    trainer.train(run, quiet())
    assert counted == []
    with files[0].source.open("a") as source, files[0].target.open("a") as target:
        source.write("red\n")
        target.write("RED\n")
    trainer.train(asked_for(run, steps=4), quiet())
    trainer.train(asked_for(run, steps=6), quiet())
    assert counted == [files[0]]
    with files[1].source.open("a") as source:
        source.write("red\n")
    with pytest.raises(InputError, match="line 11 is missing"):
        trainer.train(asked_for(run, steps=8), quiet())


def test_a_mixture_is_trained_on_and_gone_on_with(tmp_path, files):
    write_text(tmp_path, "more-1", 20)
    more = ParallelFiles(tmp_path / "more-*.small", tmp_path / "more-*.capital")
    settings = {"checkpoint_every": 3, "validate_every": 3, "token_dropout": 0.2}
    runs = [
        make_run(
            tmp_path / name, Mixture((files[0], more), (1, 2)), files[1], steps=6, training=settings
        )
        for name in ("whole", "halves")
    ]
    trainer.train(runs[0], quiet())
    for steps in (3, 6):
        trainer.train(asked_for(runs[1], steps=steps), quiet())
    one, other = (arrays(run.checkpoints.newest() / "model.weights.h5") for run in runs)
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []


def test_pairs_that_are_left_out_are_told(trained):
    config = dataclasses.replace(trained.run.training_config(), max_length=5)
    size = measure(config.train_files, trained.run.tokenizer(), config.batching)
    console = quiet()
    trainer._describe(console, None, "validation", dataclasses.replace(size, empty=3))
    assert f"left out: {size.too_long} pairs longer than --max-length" in console.file.getvalue()
    assert "left out: 3 pairs with an empty side" in console.file.getvalue()
    assert size.too_long > 0
