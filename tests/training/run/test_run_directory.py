"""Tests of keras_transformer.training.run.run_directory and of setting up a run by new_run.

Also: training.data.vocabulary, training.new_run.
"""

import dataclasses
import gzip
import json
from pathlib import Path

import pytest
from fixtures_run import everything, make_run, quiet, write_text

from keras_transformer.errors import InputError
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.data.corpora import Mixture, ParallelFiles
from keras_transformer.training.new_run import new_run
from keras_transformer.training.run.run_directory import RunDirectory
from keras_transformer.training.tasks.registry import training_of

TOKENIZER = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##b", "c"])
MODEL = TransformerConfig(7, num_layers=1, num_heads=2, d_model=8, d_ff=8, max_length=12)
TRAINING = TrainingConfig("s", "t", "vs", "vt", 10, 0.01, 2, max_length=12, batch_tokens=24)


@pytest.fixture
def run(tmp_path):
    samples = ["a b", "", "c\u2028d"]
    return RunDirectory.create(tmp_path / "run", MODEL, TRAINING, TOKENIZER, samples)


@pytest.fixture
def texts(tmp_path):
    return write_text(tmp_path, "train", 60), write_text(tmp_path, "valid", 10)


def damaged_config(run, change):
    fields = json.loads(run.config_path.read_text())
    change(fields)
    run.config_path.write_text(json.dumps(fields))
    return run


# --- The folder -----------------------------------------------------------------------------------


def test_what_is_created_is_read_again(run):
    again = RunDirectory.open(run.path)
    assert again.model_config() == MODEL
    assert again.training_config() == TRAINING
    assert again.tokenizer().vocabulary == TOKENIZER.vocabulary
    assert again.samples() == ["a b", "", "c\u2028d"]
    assert sorted(everything(run.path)) == ["config.json", "samples.txt", "vocab.txt"]


def test_every_setting_survives(tmp_path):
    model = dataclasses.replace(MODEL, norm_first=True, dropout=0.25, positions="learned")
    training = dataclasses.replace(
        TRAINING,
        source=["a", "b*"],
        target=["c", "d*"],
        weights=[1.0, 2.5],
        token_dropout=0.1,
        data_service="grpc://host:5050",
        clip_norm=0.0,
        seed=9,
        patience=3,
        schedule="linear",
    )
    RunDirectory.create(tmp_path / "run", model, training, TOKENIZER, [])
    run = RunDirectory.open(str(tmp_path / "run"))
    assert (run.model_config(), run.training_config()) == (model, training)


def test_a_run_is_made_in_one_move(tmp_path, monkeypatch):
    def fail(self, path):
        raise OSError("the disk is full")

    monkeypatch.setattr(WordPieceTokenizer, "save", fail)
    with pytest.raises(OSError, match="full"):
        RunDirectory.create(tmp_path / "run", MODEL, TRAINING, TOKENIZER, [])
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "run").mkdir()
    RunDirectory.create(tmp_path / "run", MODEL, TRAINING, TOKENIZER, [])


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_is_replaced_only_if_asked(run, overwrite):
    (run.path / "old.txt").write_text("old")
    before = everything(run.path)
    training = dataclasses.replace(TRAINING, steps=99)
    if overwrite:
        RunDirectory.create(run.path, MODEL, training, TOKENIZER, [], overwrite=True)
        assert run.training_config().steps == 99
        assert not (run.path / "old.txt").exists()
    else:
        with pytest.raises(
            InputError, match=r"holds a run already\. Go on .*--resume.*--overwrite"
        ):
            RunDirectory.create(run.path, MODEL, training, TOKENIZER, [])
        assert everything(run.path) == before


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_run_is_never_replaced(tmp_path, kind, overwrite):
    path = tmp_path / "precious"
    if kind == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("x")
    else:
        path.write_text("x")
    before = everything(tmp_path)
    with pytest.raises(InputError, match="precious exists and is not a run"):
        RunDirectory.create(path, MODEL, TRAINING, TOKENIZER, [], overwrite)
    assert everything(tmp_path) == before


def test_only_runs_are_opened(tmp_path):
    with pytest.raises(InputError, match=r"There is no folder .*missing"):
        RunDirectory.open(tmp_path / "missing")
    with pytest.raises(InputError, match=r"is not a run: it has no config.json"):
        RunDirectory.open(tmp_path)


# --- Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b"null", "is damaged"),
        (b"{}", "is damaged"),
        (b'{"format": 1}', "is damaged"),
        (b"\xff\xfe", "config.json"),
        (b'{"format": 2, "model": {}, "training": {}}', "has format 2, but this version reads"),
        (b'{"format": 1, "model": {}, "training": {}}', "config.json"),
        (b'{"format": 1, "model": 5, "training": 5}', "config.json"),
    ],
)
@pytest.mark.parametrize("part", ["model_config", "training_config"])
def test_a_damaged_configuration_is_refused(run, content, message, part):
    run.config_path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        getattr(RunDirectory.open(run.path), part)()
    assert str(raised.value).count(str(run.config_path)) == 1


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("model", "d_model", 0, "d_model must be"),
        ("model", "d_model", "x", "config.json"),
        ("model", "wings", 2, "Unknown fields .*wings"),
        ("training", "steps", 0, "steps must be at least 1, got 0"),
        ("training", "learning_rate", -1.0, "learning_rate must be positive, got -1.0"),
        ("training", "batch_tokens", 11, "batch_tokens must be at least max_length, got 11"),
        ("training", "wings", 2, "wings"),
    ],
)
def test_a_setting_out_of_range_is_named(run, part, field, value, message):
    damaged_config(run, lambda fields: fields[part].update({field: value}))
    with pytest.raises(InputError, match=message):
        getattr(run, f"{part}_config")()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("".join(f"{p}\n" for p in TOKENIZER.vocabulary[:-1]), "has 6 pieces, but .* for 7"),
        ("".join(f"{p}\n" for p in [*TOKENIZER.vocabulary, "d"]), "has 8 pieces, but .* for 7"),
        ("a\nb\n", "vocab.txt is not a WordPiece vocabulary"),
        (None, "vocabulary can't be read.*vocab.txt"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(run, content, message):
    run.vocabulary_path.unlink()
    if content is not None:
        run.vocabulary_path.write_text(content)
    with pytest.raises(InputError, match=message):
        run.tokenizer()


def test_a_run_without_weights_says_how_to_get_them(run):
    with pytest.raises(InputError, match=r"has no weights yet.*train --resume"):
        run.load_model()


def test_the_best_weights_are_loaded(run):
    model = Transformer(MODEL)
    model.set_weights([w + 1 for w in model.get_weights()])
    run.save_best(model)
    for one, other in zip(run.load_model().get_weights(), model.get_weights(), strict=True):
        assert (one == other).all()


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("damage", ["garbage", "half", "empty", "another model"])
def test_weights_that_do_not_fit_are_refused(run, damage):
    run.save_best(Transformer(MODEL))
    data = run.best_path.read_bytes()
    if damage == "another model":
        run.save_best(Transformer(dataclasses.replace(MODEL, d_model=4)))
    else:
        content = {"garbage": b"x" * 500, "half": data[: len(data) // 2], "empty": b""}
        run.best_path.write_bytes(content[damage])
    with pytest.raises(InputError, match=r"best\.weights\.h5 does not fit the model or is damaged"):
        run.load_model()


# --- Setting up a run -----------------------------------------------------------------------------


def test_a_new_run_learns_its_vocabulary_from_both_sides(tmp_path, texts):
    run = make_run(tmp_path / "run", *texts, vocabulary_size=90, samples=True)
    assert len(run.tokenizer()) == run.model_config().vocabulary_size == 90
    for side in ("source", "target"):
        line = getattr(texts[0], side).read_text("utf-8").splitlines()[0]
        assert 1 not in run.tokenizer().tokenize([line]).to_list()[0]
    config = run.training_config()
    assert (config.train_files, config.valid_files) == texts
    assert run.samples() == texts[1].source.read_text("utf-8").splitlines()


def mixture_of(texts, folder, weights):
    more = ParallelFiles(folder / "more-*.small", folder / "more-*.capital")
    write_text(folder, "more-1", 20)
    write_text(folder, "more-2", 30)
    return Mixture((texts[0], more), weights)


@pytest.mark.parametrize("weights", [None, (1.0, 2.5)])
def test_a_run_may_have_a_mixture_of_texts(tmp_path, texts, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    mixture = mixture_of(texts, tmp_path, weights)
    relative = Mixture(
        tuple(ParallelFiles(Path(p.source.name), Path(p.target.name)) for p in mixture.parts),
        weights,
    )
    run = make_run(tmp_path / "run", relative, texts[1])
    monkeypatch.chdir("/")
    config = RunDirectory.open(run.path).training_config()
    assert config.train_files == mixture
    assert config.train_files.check() == 110
    size = run.sizes()["training"]["size"]
    assert size["examples"] == 110
    assert [part["examples"] for part in size["parts"]] == ([] if weights is None else [60, 50])


def test_links_to_files_are_kept(tmp_path, texts):
    # What a link leads to may lack the ending by which packed files are known.
    packed = tmp_path / "blob"
    packed.write_bytes(gzip.compress(texts[0].source.read_bytes()))
    (tmp_path / "link.gz").symlink_to(packed)
    files = ParallelFiles(tmp_path / "link.gz", texts[0].target)
    run = make_run(tmp_path / "run", files, texts[1])
    assert run.training_config().train_files.check() == 60


def test_a_setting_of_a_former_version_is_read(run):
    def forget(fields):
        for name in ("weights", "token_dropout", "data_service"):
            del fields["training"][name]

    assert damaged_config(run, forget).training_config() == TRAINING


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"training": 1}', b"\xff", None])
def test_sizes_that_can_not_be_read_are_measured_again(tmp_path, texts, content):
    run = make_run(tmp_path / "run", *texts)
    known = run.sizes()
    run.sizes_path.unlink()
    if content is not None:
        run.sizes_path.write_bytes(content)
    again = run.sizes()
    for part in ("training", "validation"):
        training_of(run).measure(again, part)
    assert json.loads(json.dumps(again)) == known


def test_a_given_vocabulary_is_taken(tmp_path, texts):
    TOKENIZER.save(tmp_path / "pieces.txt")
    with pytest.raises(InputError, match=r"The vocabulary can't be read: .*nothing.txt"):
        make_run(tmp_path / "run", *texts, vocabulary=tmp_path / "nothing.txt")
    run = make_run(tmp_path / "run", *texts, vocabulary=tmp_path / "pieces.txt")
    assert run.tokenizer().vocabulary == TOKENIZER.vocabulary


def test_the_paper_decides_what_is_not_given(tmp_path, texts):
    run = new_run(tmp_path / "run", *texts, steps=300, vocabulary_size=120, console=quiet())
    config = run.training_config()
    assert config.learning_rate == pytest.approx((128 * 4000) ** -0.5)
    assert (config.warmup_steps, config.validate_every, config.checkpoint_every) == (75, 60, 60)
    assert run.model_config() == TransformerConfig.preset("tiny", len(run.tokenizer()))


def test_epochs_are_counted_in_batches(tmp_path, texts):
    steps = {}
    for epochs in (2, None):
        run = make_run(tmp_path / f"{epochs}", *texts, steps=None, epochs=epochs)
        steps[epochs] = run.training_config().steps
    assert steps[2] > 2
    assert steps[None] == 5 * steps[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5, "epochs": 5}, "Give --steps or --epochs, not both"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"steps": None, "epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"vocabulary_size": 0}, "--vocab-size must be at least 1, got 0"),
        ({"preset": "huge"}, "no preset 'huge'; choose one of tiny, small, base, big"),
        ({"model": {"dropout": 1.0}}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"model": {"num_layers": 0}}, "num_layers must be at least 1, got 0"),
        ({"model": {"max_length": 1}}, "max_length must be at least 2, got 1"),
        ({"training": {"batch_tokens": 10}}, "batch_tokens must be at least max_length, got 10"),
        ({"training": {"learning_rate": 0.0}}, "learning_rate must be positive, got 0.0"),
        ({"training": {"learning_rate": float("nan")}}, "learning_rate must be positive, got nan"),
        ({"training": {"label_smoothing": 1.0}}, "label_smoothing must be in .*, got 1.0"),
        ({"training": {"clip_norm": -1.0}}, "clip_norm must be positive, .* got -1.0"),
        ({"training": {"seed": -1}}, "seed must be .*, got -1"),
        ({"training": {"seed": 1 << 32}}, "seed must be .*, got 4294967296"),
        ({"training": {"patience": -1}}, "patience must be .*, got -1"),
        ({"training": {"validate_every": 0}}, "validate_every must be at least 1, got 0"),
        ({"training": {"warmup_steps": 0}}, "warmup_steps must be at least 1, got 0"),
        ({"training": {"token_dropout": 1.0}}, r"token_dropout must be in \[0, 1\), got 1.0"),
        ({"training": {"data_service": "host"}}, "data_service must be an address such as grpc:"),
        ({"training": {"weights": [1.0, 2.0]}}, "numbers of texts and weights differ, 1 and 2"),
        ({"training": {"schedule": "zigzag"}}, "schedule must be one of .*, got 'zigzag'"),
    ],
)
def test_bad_settings_are_named_before_anything_takes_time(
    tmp_path, texts, monkeypatch, options, message
):
    before = everything(tmp_path)
    learn = "keras_transformer.training.new_run.learn_tokenizer"
    monkeypatch.setattr(learn, lambda *_, **__: pytest.fail("learned a vocabulary first"))
    with pytest.raises(InputError, match=message):
        make_run(tmp_path / "run", *texts, **options)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary_size": 10}, "can't be learned: vocabulary_size is 10, but"),
        (
            {"model": {"max_length": 2}, "vocabulary_size": 90},
            "No example of .* can be used: .* more than 2 tokens",
        ),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_text_that_does_not_do_is_refused_and_nothing_is_written(
    tmp_path, texts, options, message, overwrite
):
    if overwrite:
        RunDirectory.create(tmp_path / "run", MODEL, TRAINING, TOKENIZER, [])
    before = everything(tmp_path)
    with pytest.raises(InputError, match=message):
        make_run(tmp_path / "run", *texts, overwrite=overwrite, **options)
    assert everything(tmp_path) == before


def test_validation_text_that_does_not_do_is_refused(tmp_path, texts):
    train, valid = texts
    valid.target.write_text("\n" * valid.check())
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"No example of .*valid.* 10 have an empty column"):
        make_run(tmp_path / "run", train, valid)
    assert everything(tmp_path) == before


def test_a_file_of_weights_holds_the_weights_alone(tmp_path):
    run = RunDirectory.create(tmp_path / "run", MODEL, TRAINING, TOKENIZER, [])
    sizes = []
    for compiled in (False, True):
        model = Transformer(MODEL)
        if compiled:
            model.compile("adam", jit_compile=False)
            model.optimizer.build(model.trainable_variables)
            optimizer = model.optimizer
        run.save_best(model)
        sizes.append(run.best_path.stat().st_size)
    assert sizes[0] == sizes[1]
    assert model.optimizer is optimizer
