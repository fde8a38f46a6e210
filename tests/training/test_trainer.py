"""Tests of keras_transformer.training.trainer, of its callbacks and the journal.

Going on with a run is tested in test_resume.py.

Also: training.callbacks, training.evaluation.evaluator.
"""

import dataclasses
import logging
import math
import signal

import numpy as np
import pytest
import tensorflow as tf
from fixtures_run import (
    STEPS,
    WORDS,
    arrays,
    asked_for,
    column,
    lines_of,
    make_run,
    quiet,
    trained,
    write_text,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training import trainer
from keras_transformer.training.data.corpus_size import count_examples
from keras_transformer.training.data.parallel_text import make_batches, measure
from keras_transformer.training.losses import CrossEntropy
from keras_transformer.training.metrics import token_metrics
from keras_transformer.training.optimizers import paper_adam
from keras_transformer.training.scheduled_sampling import ScheduledSampling
from keras_transformer.training.schedules import InverseSquareRoot, OneCycle
from keras_transformer.training.tasks import task
from keras_transformer.training.tasks.registry import training_of
from keras_transformer.training.tasks.task import SAMPLES_SHOWN

__all__ = ["trained"]

TAGS = {
    "train/loss",
    "train/loss_smoothed",
    "train/learning_rate",
    "train/gradient_norm",
    "train/tokens_per_second",
    "validation/loss",
    "validation/perplexity",
    "validation/token_accuracy",
}


EXAMPLES = "train/examples_by_length"


@pytest.fixture
def files(tmp_path):
    return write_text(tmp_path, "train", 60), write_text(tmp_path, "valid", 10)


# --- A run ----------------------------------------------------------------------------------------


def test_the_loss_falls_from_that_of_knowing_nothing(trained):  # T26
    knows_nothing = math.log(len(trained.run.tokenizer()))
    train, valid = (column(trained.run, f"{name}/loss") for name in ("train", "validation"))
    assert train[STEPS] < train[50] < 1.5 * knows_nothing
    assert valid[STEPS] < valid[50] < knows_nothing
    assert valid[STEPS] < knows_nothing / 3
    accuracy = column(trained.run, "validation/token_accuracy")
    assert 1 >= accuracy[STEPS] > accuracy[50] > 0
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
    checkpoints = [path.name for path in trained.run.checkpoints.all()]
    assert checkpoints == [f"step-{STEPS // 2:08d}", f"step-{STEPS:08d}"]
    assert not [p for p in trained.run.path.rglob("*") if p.name.startswith(".")]


def test_samples_are_the_first_of_the_validation_text(trained):
    samples = trained.run.samples()
    assert len(samples) == 50
    assert samples == trained.valid.source.read_text("utf-8").splitlines()[:50]


def test_metrics_are_lines_of_json(trained):
    lines = lines_of(trained.run)
    assert {name for line in lines for name in line} == TAGS | {"step", EXAMPLES}
    assert all(math.isfinite(line[name]) for line in lines for name in line if name != EXAMPLES)
    every = list(range(50, STEPS + 1, 50))
    for tag in (*TAGS, EXAMPLES):
        assert list(column(trained.run, tag)) == every


def test_the_smoothed_loss_follows_the_loss(trained):
    smoothed = None
    for step, loss in column(trained.run, "train/loss").items():
        smoothed = loss if smoothed is None else 0.6 * smoothed + 0.4 * loss
        assert column(trained.run, "train/loss_smoothed")[step] == pytest.approx(smoothed)


def test_examples_are_counted_by_the_length_of_their_bucket(trained):
    config = trained.run.training_config()
    counts = column(trained.run, EXAMPLES)
    assert {int(length) for by_length in counts.values() for length in by_length} <= {
        *config.batching.lengths
    }
    size = measure(config.train_files, trained.run.tokenizer(), config.batching)
    a_batch = size.pairs / size.batches
    total = sum(sum(by_length.values()) for by_length in counts.values())
    assert total == pytest.approx(STEPS * a_batch, rel=0.05)


def test_the_learning_rate_follows_the_schedule(trained):
    rates = column(trained.run, "train/learning_rate")
    for step, rate in rates.items():
        # Noted after the step: it is the rate of the one to come.
        assert rate == pytest.approx(0.005 * math.sqrt(20 / step), rel=1e-5)


def test_tensorboard_shows_curves_and_translations(trained):
    events = EventAccumulator(str(trained.run.tensorboard_path), size_guidance={"tensors": 0})
    events.Reload()
    pictures = {f"attention_{name}/layer_0" for name in ("encoder", "decoder", "cross")}
    assert set(events.Tags()["tensors"]) == TAGS | {EXAMPLES, "translations"} | pictures
    for tag in TAGS:
        seen = {e.step: tf.make_ndarray(e.tensor_proto) for e in events.Tensors(tag)}
        assert seen == {step: np.float32(x) for step, x in column(trained.run, tag).items()}
    table = tf.make_ndarray(events.Tensors("translations")[-1].tensor_proto).item().decode()
    rows = table.splitlines()
    assert rows[0] == "| source | output |"
    assert len(rows) == 2 + SAMPLES_SHOWN
    sample = trained.run.samples()[0]
    assert rows[2].startswith(f"| {sample} | ")
    capitals = {word.upper() for word in WORDS}
    assert set(rows[2].split("|")[2].split()) & capitals
    for tag in pictures:
        last = tf.make_ndarray(events.Tensors(tag)[-1].tensor_proto)
        width, height, png = last[0], last[1], last[2]
        shape = tf.io.decode_png(png).shape
        assert shape == (int(height), int(width), 3)
        assert min(shape[:2]) > 50
    lengths = tf.make_ndarray(events.Tensors(EXAMPLES)[-1].tensor_proto)[:, 2]
    assert lengths.sum() == sum(column(trained.run, EXAMPLES)[STEPS].values())


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
    evaluate = trainer.Evaluator(model, lambda: token_metrics(config.label_smoothing))
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


# --- Stopping -------------------------------------------------------------------------------------


def test_training_stops_when_it_no_longer_gets_better(tmp_path, files):
    # A learning rate this small changes no weight, so no validation is better than the first.
    settings = {"learning_rate": 1e-30, "validate_every": 2, "checkpoint_every": 100, "patience": 2}
    run = make_run(tmp_path / "run", *files, steps=100, training=settings)
    console = quiet()
    result = trainer.train(run, console, profile=(6, 400))
    assert (result.step, result.best["step"], result.interrupted) == (6, 2, False)
    assert result.last["loss"] == result.best["loss"]
    assert "No better validation 2 times in a row: stopping early" in console.file.getvalue()
    assert run.checkpoints.newest().name == "step-00000006"
    # A recording ends with the training.
    assert len([*run.tensorboard_path.rglob("*.xplane.pb")]) == 1


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_gradient_that_is_no_number_stops_and_keeps_the_checkpoint(  # C42, T12
    tmp_path, files, precision
):
    settings = {"learning_rate": 1e30, "warmup_steps": 1, "checkpoint_every": 1}
    run = make_run(
        tmp_path / "run", *files, steps=60, training={**settings, "precision": precision}
    )
    before = [signal.getsignal(number) for number in trainer.StopOnSignal.SIGNALS]
    # In float16, single steps with such a gradient are ordinary: they are left out.
    step = 2 if precision == "float32" else 31
    with pytest.raises(
        InputError,
        match=rf"The gradient became (nan|inf) at step {step}, on a batch of \d+ pairs of up to "
        r"\d+ tokens that begins with \[\"[\w .]+\", \"[\w .]+\"\]; the last checkpoint is kept. "
        "A lower --learning-rate or a longer --warmup",
    ) as raised:
        trainer.train(run, quiet())
    first = str(raised.value).split('["')[1].split('"')[0]
    assert first in files[0].source.read_text("utf-8").splitlines()
    assert run.steps_done() == step - 1
    assert run.checkpoints.damaged == {}
    assert not run.best_path.exists()
    assert [signal.getsignal(number) for number in trainer.StopOnSignal.SIGNALS] == before


def test_a_few_infinite_gradients_in_float16_do_not_stop(tmp_path, files, monkeypatch):  # T12
    settings = {"precision": "mixed_float16", "validate_every": 4, "checkpoint_every": 4}
    run = make_run(tmp_path / "run", *files, steps=12, training=settings)
    ordinary = trainer.compile_model

    def with_a_large_scale(model, config, loss):
        ordinary(model, config, loss)
        model.optimizer.build(model.trainable_variables)
        model.optimizer.dynamic_scale.assign(2.0**24)

    monkeypatch.setattr(trainer, "compile_model", with_a_large_scale)
    result = trainer.train(run, quiet())
    skipped, scale = (column(run, f"train/{name}") for name in ("skipped_steps", "loss_scale"))
    assert result.step == 12
    assert 0 < skipped[4] <= skipped[12] < 12
    assert scale[12] == 2.0 ** (24 - skipped[12])


def test_text_is_measured_again_only_if_it_changed(tmp_path, files, monkeypatch):
    settings = {"checkpoint_every": 2, "validate_every": 2}
    run = make_run(tmp_path / "run", *files, steps=2, training=settings)
    counted = []

    def count(corpus, *args, **options):
        counted.append(corpus)
        return count_examples(corpus, *args, **options)

    monkeypatch.setattr(task, "count_examples", count)
    monkeypatch.setattr(Transformer, "fit", lambda *_, **__: None)
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


def test_pairs_that_are_left_out_are_told(trained):
    config = dataclasses.replace(trained.run.training_config(), max_length=5)
    size = measure(config.train_files, trained.run.tokenizer(), config.batching)
    _, *left_out = training_of(trained.run).describe(dataclasses.replace(size, empty=3))
    assert left_out == [
        f"left out: {size.too_long} pairs longer than --max-length tokens",
        "left out: 3 pairs with an empty column",
    ]
    assert size.too_long > 0


# --- Settings -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run of five steps that keeps the average of its weights; two of them were recorded."""
    folder = tmp_path_factory.mktemp("averaged")
    files = write_text(folder, "train", 60), write_text(folder, "valid", 10)
    settings = {"ema": 0.9, "validate_every": 5, "checkpoint_every": 5}
    run = make_run(folder / "run", *files, steps=5, training=settings)
    trainer.train(run, quiet(), profile=(3, 4))
    return run


@pytest.fixture
def compiled(tmp_path, files, monkeypatch):
    """What `train` would have trained, and how."""

    def get(model=None, **settings):
        seen = []
        monkeypatch.setattr(Transformer, "fit", lambda self, data, **_: seen.append(self))
        name = str(len(list(tmp_path.iterdir())))
        run = make_run(tmp_path / name, *files, steps=9, model=model, training=settings)
        trainer.train(run, quiet())
        return seen[0]

    return get


def test_what_is_not_set_is_plain(compiled):
    model = compiled()
    assert model.dtype_policy.name == "float32"
    assert (model.accumulate, model.config.recompute, model.prepare_inputs) == (1, False, None)
    assert type(model.optimizer).__name__ == "Adam"
    assert type(model.optimizer._learning_rate) is InverseSquareRoot
    assert (model.optimizer.global_clipnorm, model.optimizer.use_ema) == (1.0, False)
    assert model.loss.label_smoothing == 0.05


def test_settings_reach_the_model(compiled):  # T05, T11, T12, T15
    model = compiled(
        {"recompute": True},
        precision="mixed_bfloat16",
        accumulate=3,
        optimizer="adamw",
        weight_decay=0.25,
        schedule="one-cycle",
        warmup_steps=2,
        clip_norm=0.0,
        ema=0.9,
        teacher_forcing=0.5,
        label_smoothing=0.2,
    )
    assert model.dtype_policy.name == "mixed_bfloat16"
    assert (model.accumulate, model.config.recompute) == (3, True)
    assert model.get_layer("encoder").recompute
    assert model.optimizer.weight_decay == 0.25
    assert type(model.optimizer._learning_rate) is OneCycle
    assert model.optimizer.global_clipnorm is None
    assert (model.optimizer.use_ema, model.optimizer.ema_momentum) == (True, 0.9)
    assert type(model.prepare_inputs) is ScheduledSampling
    assert model.prepare_inputs.get_config() == {"share": 0.5, "steps": 9, "passes": 1}
    assert model.loss.label_smoothing == 0.2


def test_half_precision_scales_the_loss(compiled):  # T12
    optimizer = compiled(precision="mixed_float16", optimizer="adafactor").optimizer
    assert type(optimizer).__name__ == "LossScaleOptimizer"
    assert "adafactor" in type(optimizer.inner_optimizer).__name__.lower()


@pytest.mark.parametrize("deterministic", [False, True])
def test_determinism_is_asked_for(compiled, monkeypatch, deterministic):
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    compiled(deterministic=deterministic)
    assert asked == [True] * deterministic


def test_the_average_of_the_weights_is_validated_and_kept(averaged):
    run = averaged
    best, last = (
        arrays(path) for path in (run.best_path, run.checkpoints.newest() / "model.weights.h5")
    )
    assert best.keys() == last.keys()
    assert any(not np.array_equal(best[name], last[name]) for name in best)
    config = run.training_config()
    batches = make_batches(config.valid_files, run.tokenizer(), config.batching)
    model = run.load_model()
    found = trainer.Evaluator(model, lambda: token_metrics(config.label_smoothing))(batches)["loss"]
    assert found == pytest.approx(column(run, "validation/loss")[5], rel=1e-6)

    # The average is that of the optimizer, and training goes on from the weights themselves.
    trainer.keras.utils.set_random_seed(0)
    again = Transformer(run.model_config())
    trainer.compile_model(again, config)
    run.checkpoints.restore(again)
    averages = again.optimizer._model_variables_moving_average
    for mine, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(mine, average)
    assert any(
        not np.array_equal(mine, weight)
        for mine, weight in zip(model.trainable_variables, again.trainable_variables, strict=True)
    )


def test_some_steps_are_recorded_for_the_profiler(averaged):
    (trace,) = averaged.tensorboard_path.rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000
    assert b"train_step" in trace.read_bytes() or b"one_step" in trace.read_bytes()


# --- Evaluation --------------------------------------------------------------------------------


def test_many_models_are_evaluated_without_a_warning(caplog):
    class Model:  # what it computes is not the point, and a graph of it would take a second
        distribute_strategy = tf.distribute.get_strategy()

        def __call__(self, inputs, training):
            return tf.one_hot(inputs["source_ids"], 30)

    model = Model()
    ids = tf.constant(np.random.default_rng(0).integers(4, 30, (4, 5)), tf.int32)
    batches = tf.data.Dataset.from_tensors(({"source_ids": ids, "target_ids": ids}, ids))
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        tf.get_logger().addHandler(caplog.handler)
        losses = {trainer.Evaluator(model)(batches)["loss"] for _ in range(7)}
        tf.get_logger().removeHandler(caplog.handler)
    assert len(losses) == 1
    assert not caplog.messages
