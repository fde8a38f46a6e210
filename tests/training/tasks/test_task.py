"""Tests of training.task and of the tasks: each is learned, and evaluated as it is validated.

Also: training.evaluation.of_examples, training.tasks.classification,
training.tasks.image_classification, training.tasks.language_modelling,
training.tasks.question_answering, training.tasks.registry, training.tasks.sequence_to_sequence,
training.tasks.token_classification, training.transfer.
"""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from fixtures_run import differences, everything, quiet
from fixtures_tasks import TRAINING, examples, make_task_run, write_pictures
from typer.testing import CliRunner

from keras_transformer.cli.app import app
from keras_transformer.errors import InputError
from keras_transformer.export import load
from keras_transformer.training.evaluation.of_examples import (
    evaluate_answers,
    evaluate_labels,
    evaluate_run,
    evaluate_words,
)
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks import language_modelling, sequence_to_sequence
from keras_transformer.training.tasks.language_modelling import PROMPT
from keras_transformer.training.tasks.registry import training_of
from keras_transformer.training.tasks.task import SAMPLES_SHOWN, VALIDATION
from keras_transformer.training.tasks.task import TRAINING as TRAINING_PART
from keras_transformer.training.trainer import train

__all__ = ["examples"]

PICTURES = {"image_size": 8, "patch_size": 4, "channels": 1}


def command(examples, path):
    """Return a command that trains a classifier, as words."""
    settings = "--set positions=rotary --num-layers 1 --d-model 32 --num-heads 2 --d-ff 64"
    data = f"--data {examples / 'train-labels.tsv'} --valid-data {examples / 'valid-labels.tsv'}"
    sizes = "--steps 40 --max-length 32 --batch-tokens 512 --vocab-size 120 --learning-rate 0.01"
    often = "--warmup 5 --validate-every 40 --output"
    return [*f"train --task classification {data} {settings} {sizes} {often}".split(), path]


@pytest.fixture(scope="module")
def classified(examples, tmp_path_factory):
    """A run of the command; the best values of its validations; what was said."""
    path = tmp_path_factory.mktemp("classified") / "run"
    result = CliRunner().invoke(app, command(examples, str(path)))
    assert result.exit_code == 0, result.stderr
    run = RunDirectory.open(path)
    state = json.loads((run.checkpoints.newest() / "state.json").read_text("utf-8"))
    return run, state["best"], result.stderr


@pytest.fixture(scope="module")
def masked(examples, tmp_path_factory):
    run = make_task_run(
        tmp_path_factory.mktemp("masked") / "run",
        examples,
        "masked-lm",
        "lines.txt",
        steps=80,
        training={"validate_every": 40, "checkpoint_every": 40},
    )
    return run, train(run, quiet())


@pytest.fixture
def shown(monkeypatch):
    """The texts that a task shows at each validation; they are told apart from what it writes."""
    seen = []

    def translate(_, texts):
        seen.append(texts)
        return SimpleNamespace(texts=[text.upper() for text in texts])

    for module in (sequence_to_sequence, language_modelling):
        monkeypatch.setattr(module, "translate", translate)
    return seen


def inputs_of(run):
    """Return the first batch of a run's validation data, as arrays."""
    inputs, labels = next(iter(training_of(run).validation_batches()))
    return {name: value.numpy() for name, value in inputs.items()}, labels.numpy()


def test_texts_are_classified(classified, examples):  # M17
    run, best, told = classified
    assert run.task_settings().labels == ("bad", "good")
    assert best["accuracy"] > 0.95  # one of two by chance
    assert "training: 400 examples, " in told and "labels/s" in told
    scores = evaluate_labels(load(run.path), examples / "valid-labels.tsv")
    assert scores.accuracy == pytest.approx(best["accuracy"])
    table = (run.path / "tensorboard").glob("*")
    assert any(table)


def test_what_is_too_long_to_classify_is_cut(classified):
    run, _, _ = classified
    task = training_of(run)
    text = tf.constant(["the film " * 40, "the film"])
    inputs, labels = task.featurize({"text": text, "label": tf.constant(["good", "bad"])})
    assert inputs["token_ids"].row_lengths().numpy().tolist() == [32, 4]
    assert labels.numpy().tolist() == [1, 0]
    ids = inputs["token_ids"][1].numpy().tolist()
    assert (ids[0], ids[-1]) == (run.model_config().begin_id, run.model_config().end_id)


def test_words_are_labelled(examples, tmp_path):
    run = make_task_run(tmp_path / "run", examples, "token-classification", "words.jsonl")
    assert run.task_settings().labels == ("O", "THING", "WORTH")
    result = train(run, quiet())
    assert result.best["accuracy"] > 0.95
    inputs, labels = inputs_of(run)
    ids = inputs["token_ids"]
    # A label for each of seven words, at its first piece, and none for [CLS], [SEP], padding.
    assert (np.count_nonzero(labels >= 0, axis=1) == 7).all()
    special = np.isin(ids, [0, run.model_config().begin_id, run.model_config().end_id])
    assert (labels[special] == -1).all()
    scores = evaluate_words(load(run.path), examples / "valid-words.jsonl")
    assert scores.accuracy == pytest.approx(result.best["accuracy"])


def test_questions_are_answered(examples, tmp_path):  # M18
    run = make_task_run(tmp_path / "run", examples, "question-answering", "answers.tsv", steps=120)
    result = train(run, quiet())
    assert result.best["accuracy"] > 0.9
    inputs, labels = inputs_of(run)
    for ids, segments, (begin, end) in zip(
        inputs["token_ids"], inputs["segment_ids"], labels, strict=True
    ):
        answer = training_of(run).texts(tf.constant([ids[begin : end + 1]]))[0]
        assert answer in ("film", "plot", "cast", "story")
        assert segments[begin] == segments[end] == 1  # in the passage
    scores = evaluate_answers(load(run.path), examples / "valid-answers.tsv")
    assert scores.exact_match > 0.85


def test_texts_are_summarised(examples, tmp_path, shown):  # M20
    run = make_task_run(
        tmp_path / "run", examples, "summarisation", "summaries.jsonl", steps=150, preset="tiny"
    )
    result = train(run, quiet())
    assert result.best["token_accuracy"] > 0.9
    assert shown == [run.samples()[:SAMPLES_SHOWN]]
    texts = run.samples()[:8]
    found = [x.decode() for x in run.servable().call("serving_default", text=texts)["text"]]
    wanted = [f"{text.split()[1]} {text.split()[3]}" for text in texts]
    assert np.mean([a == b for a, b in zip(found, wanted, strict=True)]) > 0.8


def test_pictures_are_classified(examples, tmp_path):  # M04, M21
    run = make_task_run(
        tmp_path / "run",
        examples,
        "image-classification",
        "pictures",
        model=PICTURES,
        training={"batch_tokens": 80, "max_length": 5},
    )
    result = train(run, quiet())
    assert result.best["accuracy"] > 0.95
    scores = evaluate_labels(load(run.path), examples / "valid-pictures")
    assert scores.accuracy == pytest.approx(result.best["accuracy"])
    assert not (run.path / "vocab.txt").exists()


@pytest.mark.parametrize("tokenizer", ["byte-pairs"])
def test_a_language_model_is_better_than_the_frequencies_of_tokens(  # M23
    examples, tmp_path, tokenizer, shown
):
    run = make_task_run(
        tmp_path / "run",
        examples,
        "causal-lm",
        "lines.txt",
        tokenizer=tokenizer,
        vocabulary_size=300,
        steps=80,
    )
    result = train(run, quiet())
    assert shown == [[text[:PROMPT] for text in run.samples()[:SAMPLES_SHOWN]]]
    task = training_of(run)
    training, held_out = (task.stream(part).ids for part in (TRAINING_PART, VALIDATION))
    share = np.bincount(training, minlength=len(task.tokenizer)) / len(training)
    unigram = np.exp(-np.log(np.maximum(share, 1e-6))[held_out[1:]].mean())
    assert result.best["perplexity"] < unigram / 3
    values = evaluate_run(run, examples / "valid-lines.txt")
    assert values["perplexity"] == pytest.approx(result.best["perplexity"], rel=1e-4)
    (text,) = run.servable().call("serving_default", text=["the film was"])["text"]
    assert text.decode().startswith("the film was")


def test_a_text_a_line_or_a_text_a_file(examples, tmp_path):
    """Text with its line feeds is one text; each record is one, with its end token."""
    lines = (examples / "train-lines.txt").read_text("utf-8").splitlines()
    for part in ("train", "valid"):
        path = tmp_path / f"{part}-records.jsonl"
        path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), "utf-8")
    ends = {}
    for folder, name in ((examples, "lines.txt"), (tmp_path, "records.jsonl")):
        run = make_task_run(
            tmp_path / f"run-{name}", folder, "causal-lm", name, tokenizer="characters"
        )
        task = training_of(run)
        ids = task.stream(TRAINING_PART).ids
        ends[name] = np.count_nonzero(ids == run.model_config().end_id)
        assert ("\n" in task.tokenizer.vocabulary) == (name == "lines.txt")
    assert ends == {"lines.txt": 1, "records.jsonl": len(lines)}


def test_masks_are_drawn_anew_in_each_epoch(masked):  # M07, T20
    run, result = masked
    assert result.best["token_accuracy"] > 0.5
    task = training_of(run)
    size = task.measure({}, TRAINING_PART)
    seen: dict[tuple, set] = {}
    for inputs, labels in task.training_batches(size, 0).take(3 * size.batches):
        for ids, places, true in zip(
            inputs["token_ids"].numpy(), inputs["places"].numpy(), labels.numpy(), strict=True
        ):
            real = true >= 0
            original = ids.copy()
            original[places[real]] = true[real]
            text = tuple(original[original != 0])
            seen.setdefault(text, set()).add(tuple(places[real]))
    assert np.mean([len(places) > 1 for places in seen.values()]) > 0.8
    # What is validated on is the same each time.
    first, second = (next(iter(task.validation_batches()))[0] for _ in range(2))
    np.testing.assert_array_equal(first["token_ids"], second["token_ids"])


def test_the_share_of_masked_tokens_is_set(masked, examples, tmp_path):  # T21
    more = make_task_run(
        tmp_path / "run", examples, "masked-lm", "lines.txt", training={"mask_rate": 0.4}
    )
    for rate, run in ((0.15, masked[0]), (0.4, more)):
        inputs, labels = inputs_of(run)
        special = [0, run.model_config().begin_id, run.model_config().end_id]
        lengths = (~np.isin(inputs["token_ids"], special)).sum(axis=1)
        hidden = np.count_nonzero(labels >= 0, axis=1)
        np.testing.assert_array_equal(hidden, np.round(rate * lengths))


def test_fine_tuning_begins_with_the_weights_of_another_run(masked, examples, tmp_path):  # T23
    before, _ = masked
    run = make_task_run(
        tmp_path / "run", examples, "classification", "labels.tsv", init_from=before.path
    )
    assert run.tokenizer().vocabulary == before.tokenizer().vocabulary
    assert run.training_config().schedule == "linear"
    given = {weight.path: weight.numpy() for weight in before.load_model().weights}
    from keras_transformer.pipelines.tasks import make_model

    model = make_model(run.model_config(), run.task_settings())
    model.load_weights(run.initial_path)
    common = [w for w in model.trainable_weights if w.path in given]
    assert {w.path for w in model.trainable_weights} - {w.path for w in common} == {
        "logits/kernel",
        "logits/bias",
        "pooler/kernel",
        "pooler/bias",
    }
    for weight in common:
        np.testing.assert_array_equal(weight.numpy(), given[weight.path])


def test_what_is_frozen_stays_as_it_was(masked, examples, tmp_path):  # T24
    before, _ = masked
    run = make_task_run(
        tmp_path / "run",
        examples,
        "classification",
        "labels.tsv",
        init_from=before.path,
        steps=150,
        pooling="mix",
        training={"freeze": True},
    )
    console = quiet()
    result = train(run, console)
    assert "of which" in console.file.getvalue()
    assert result.best["accuracy"] > 0.8  # one of two by chance
    given = {weight.path: weight.numpy() for weight in before.load_model().trainable_weights}
    model = run.load_model()
    same = [w for w in model.trainable_weights if w.path in given]
    assert len(same) > 10
    for weight in same:
        np.testing.assert_array_equal(weight.numpy(), given[weight.path])
    mix = model.get_layer("layer_mix")
    shares = np.array(mix.shares())
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert np.ptp(shares) > 1e-4  # it was learned


def test_a_run_goes_on_as_if_it_had_not_stopped(masked, tmp_path):
    whole, result = masked
    half = RunDirectory(shutil.copytree(whole.path, tmp_path / "run"))
    shutil.rmtree(half.checkpoints.newest())
    half.extend(80)
    assert half.steps_done() == 40
    assert train(half, quiet()).best == result.best
    assert differences(whole, half) == []


def test_an_interrupted_set_up_leaves_nothing(examples, tmp_path):
    with pytest.raises(InputError):
        make_task_run(tmp_path / "run", examples, "token-classification", "labels.tsv")
    assert list(tmp_path.iterdir()) == []


BAD_DATA = {
    "labels.tsv": [
        ("one\ttwo\tthree", "line 1: 3 fields, but 2 are wanted"),
        ("a film\tgood\nother film\tgood", "at least two labels to choose from"),
        ("a film\t \nother film\tgood", "line 1: the label in column label is empty"),
    ],
    "words.jsonl": [
        ('{"words": ["a", "b"], "labels": ["O"]}', "at least two labels"),
        (
            '{"words": ["a", "b"], "labels": ["O"]}\n{"words": ["a"], "labels": ["X"]}',
            "line 1: 2 words, but 1 labels",
        ),
        ('{"words": ["a"]}', "the key 'labels' is missing"),
    ],
    "answers.tsv": [("what\tthe film\tplot", "line 1: the answer 'plot' is not in the passage")],
    "summaries.jsonl": [('{"document": "a"}', "the key 'summary' is missing")],
}
TASK_OF = {
    "labels.tsv": "classification",
    "words.jsonl": "token-classification",
    "answers.tsv": "question-answering",
    "summaries.jsonl": "summarisation",
}


@pytest.mark.parametrize(
    ("name", "text", "message"), [(name, *case) for name in BAD_DATA for case in BAD_DATA[name]]
)
def test_damaged_examples_are_refused(tmp_path, name, text, message):
    for part in ("train", "valid"):
        (tmp_path / f"{part}-{name}").write_text(text + "\n", "utf-8")
    before = everything(tmp_path)
    with pytest.raises(InputError, match=message):
        make_task_run(tmp_path / "run", tmp_path, TASK_OF[name], name)
    assert everything(tmp_path) == before


def test_labels_outside_of_the_set_are_refused(examples, tmp_path):
    (tmp_path / "train-labels.tsv").write_text("a film\tgood\na plot\tbad\n", "utf-8")
    (tmp_path / "valid-labels.tsv").write_text("a film\tfair\n", "utf-8")
    with pytest.raises(InputError, match="line 1: the label 'fair' in column label is unknown"):
        make_task_run(tmp_path / "run", tmp_path, "classification", "labels.tsv")


def test_damaged_pictures_are_refused(tmp_path):
    for part in ("train", "valid"):
        write_pictures(tmp_path / f"{part}-pictures", 2)
    (tmp_path / "train-pictures" / "above" / "0.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(InputError, match=r"0\.png can't be decoded"):
        make_task_run(
            tmp_path / "run", tmp_path, "image-classification", "pictures", model=PICTURES
        )


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("embedding", {}, "There is no training for 'embedding'"),
        ("classification", {"preset": "tiny"}, "family 'transformer' can't do the task"),
        ("classification", {"preset": "huge"}, "There is no preset 'huge'"),
        ("classification", {"training": {"freeze": True}}, "--freeze is for what a run began from"),
        ("classification", {"training": {"max_length": 64}}, "max_length must be at most 32"),
        ("classification", {"tokenizer": "letters"}, "There is no tokeniser 'letters'"),
        ("classification", {"init_from": "nowhere"}, "There is no folder nowhere"),
        ("masked-lm", {"training": {"mask_rate": 1.0}}, "mask_rate must be between 0 and 1"),
        ("causal-lm", {"training": {"batch_tokens": 8}}, "batch_tokens must be at least"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_read(
    examples, tmp_path, task, options, message
):
    with pytest.raises(InputError, match=message):
        make_task_run(tmp_path / "run", examples, task, "labels.tsv", **options)
    assert not (tmp_path / "run").exists()


def test_fine_tuning_takes_no_other_model(classified, examples, tmp_path):
    run, _, _ = classified
    for options, message in (
        ({"preset": "bert-tiny"}, "leave out --preset"),
        ({"vocabulary": examples / "train-lines.txt"}, "leave out --vocab"),
        ({"model": {"d_model": 64}}, "has shape .* in the model to begin with"),
        ({"model": {"num_decoder_layers": 2}}, "family 'bert' has no num_decoder_layers"),
    ):
        with pytest.raises(InputError, match=message):
            make_task_run(
                tmp_path / "run",
                examples,
                "classification",
                "labels.tsv",
                init_from=run.path,
                **options,
            )


def test_a_run_is_opened_again(classified):
    run, _, _ = classified
    again = RunDirectory.open(run.path)
    assert again.task_settings() == run.task_settings()
    assert again.training_config().data.endswith("train-labels.tsv")
    assert again.training_config().batch_tokens == TRAINING["batch_tokens"]
    with pytest.raises(InputError, match="trained for 40 steps already"):
        train(again, quiet())


def test_commands_train_and_evaluate(classified, examples, monkeypatch):
    run, _, _ = classified
    monkeypatch.chdir(run.path.parent)
    assert run.model_config().positions == "rotary"
    ask = CliRunner().invoke
    valid = str(examples / "valid-labels.tsv")
    result = ask(app, ["evaluate", "--model", "run", "--data", valid, "--json"])
    scores = json.loads(result.stdout)
    assert scores["accuracy"] > 0.9 and scores["by_label"]["good"]["count"] > 0
    shown = ask(app, ["evaluate", "--model", "run", "--data", valid]).stdout.splitlines()
    assert shown[0] == f"accuracy       {100 * scores['accuracy']:6.2f} %"
    assert shown[-1].startswith("good")
    again = " ".join(command(examples, "run"))
    for arguments, message in (
        (f"evaluate --model run --source {valid} --target {valid}", "give its examples by --data"),
        ("evaluate --model run", "Give --source and --target, or --data"),
        (f"{again} --overwrite --source x", "leave out --source"),
        (f"{again} --overwrite --set depth=2", "--set depth=2 does not set a known field"),
        (f"{again} --overwrite --set num_layers=two", "'two' is not of type int"),
        ("train --task classification --output other", "--data, --valid-data is missing"),
        ("train --task translation --output other", "--source, --target"),
    ):
        result = ask(app, arguments.split())
        assert isinstance(result.exception, InputError), arguments
        assert message in str(result.exception)
