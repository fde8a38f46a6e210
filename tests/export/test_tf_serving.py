"""Tests of keras_transformer.export.tf_serving: versions, warm-up, configuration.

Also: export.folder.
"""

import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf
from fixtures_export import exported, ready_made, trained, translator, trials
from fixtures_run import everything, quiet
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from keras_transformer.errors import InputError
from keras_transformer.export import exporter, folder, runtime, tf_serving
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer

__all__ = ["exported", "ready_made", "trained", "translator", "trials"]


def make_version(folder, content="x"):
    """Make a folder that may become a version."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)
    return folder


def content_of(version):
    return (version / "saved_model.pb").read_text()


# --- Versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], "1"),
        (["1"], "2"),
        (["1", "2", "7"], "8"),  # a gap is not filled: a server takes the highest for the newest
        (["9", "10"], "11"),
        (["007"], "8"),
        (["backup", "1.5", "-3", "²", "٣", ".writing-4"], "1"),
    ],
)
def test_a_version_gets_the_number_after_the_highest(tmp_path, there, expected):
    base = tmp_path / "base"
    for name in there:
        make_version(base / name, "old")
    path = folder.publish(make_version(tmp_path / "new", "new"), base)
    assert path == base / expected
    assert content_of(path) == "new"
    assert {p.name for p in base.iterdir()} == {*there, expected}
    assert all(content_of(base / name) == "old" for name in there)
    assert not (tmp_path / "new").exists()


def test_a_file_takes_its_number_too(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").write_text("mine")
    path = folder.publish(make_version(tmp_path / "new"), tmp_path / "base")
    assert path.name == "2"
    assert (tmp_path / "base" / "1").read_text() == "mine"


def test_a_number_that_somebody_took_meanwhile_is_left_to_them(tmp_path, monkeypatch):
    base = tmp_path / "base"
    rename, taken = os.rename, []

    def late(source, target):
        if len(taken) < 2:
            taken.append(make_version(target, "theirs"))
        rename(source, target)

    monkeypatch.setattr(folder.os, "rename", late)
    path = folder.publish(make_version(tmp_path / "new", "mine"), base)
    assert {p.name: content_of(p) for p in base.iterdir()} == {
        "1": "theirs",
        "2": "theirs",
        "3": "mine",
    }
    assert path == base / "3"


def test_publishers_at_once_never_lose_a_version(tmp_path):
    base, together = tmp_path / "base", threading.Barrier(4)

    def publish_some(who):
        together.wait()
        for i in range(10):
            new = make_version(tmp_path / f"{who}-{i}", f"{who}-{i}")
            folder.publish(new, base)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish_some, range(4)))
    found = folder.versions(base)
    assert list(found) == list(range(1, 41))
    contents = [content_of(path) for path in found.values()]
    assert set(contents) == {f"{who}-{i}" for who in range(4) for i in range(10)}
    for who in range(4):  # each in the order in which it came
        own = [one for one in contents if one.startswith(f"{who}-")]
        assert own == [f"{who}-{i}" for i in range(10)]


@pytest.mark.parametrize(
    ("keep", "removed", "stay"),
    [(0, [], ["2", "009", "10"]), (1, [2, 9], ["10"]), (2, [2], ["009", "10"]), (5, [], None)],
)
def test_only_the_newest_versions_stay(tmp_path, keep, removed, stay):
    base = tmp_path / "base"
    for name in ("2", "009", "10", "backup"):
        make_version(base / name)
    (base / "11").write_text("a file")
    assert folder.prune(base, keep) == removed
    assert {p.name for p in base.iterdir()} == {*(stay or ["2", "009", "10"]), "backup", "11"}
    assert list(tmp_path.iterdir()) == [base]


def test_a_version_that_somebody_else_removed_is_no_error(tmp_path, monkeypatch):
    for name in "123":
        make_version(tmp_path / "base" / name)
    found = folder.versions(tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / "1")
    monkeypatch.setattr(folder, "versions", lambda _: found)
    folder.prune(tmp_path / "base", 1)
    assert [p.name for p in (tmp_path / "base").iterdir()] == ["3"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/a",
        "a\\b",
        "-a",
        ".a",
        "a b",
        "a\n",
        "a:b",
        'a"',
        "é",
        "a" * 101,
    ],
)
def test_a_name_that_could_leave_its_folder_or_line_is_refused(trained, tmp_path, name):
    with pytest.raises(InputError, match="is not a valid name for a model"):
        tf_serving.check_name(name)
    if name:  # otherwise the run's
        with pytest.raises(InputError, match="is not a valid name for a model"):
            exporter.export_run(trained.run, tmp_path / "out", quiet(), name=name)
        assert everything(tmp_path) == {}


@pytest.mark.parametrize("name", ["a", "de-en", "Model_1.5", "9", "a" * 100])
def test_ordinary_names_are_taken(name):
    assert tf_serving.check_name(name) == name


def test_a_server_that_watches_never_sees_half_a_version(trained, trials, tmp_path):
    folder = tmp_path / "out"
    base, seen, done = folder / "savedmodel", [], threading.Event()

    def watch():
        names = set()
        while not done.is_set():
            for path in base.iterdir() if base.is_dir() else ():
                if path.name not in names:
                    names.add(path.name)
                    seen.append((path.name, everything(path)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(2):
            exporter.export_run(trained.run, folder, quiet(), precisions=("float32",))
    finally:
        done.set()
        watcher.join()
    assert [name for name, _ in seen] == ["1", "2"]
    for name, files in seen:
        assert files == everything(base / name)
        assert {"saved_model.pb", f"assets.extra/{tf_serving.WARMUP}"} <= files.keys()


@pytest.mark.parametrize("step", ["write_warmup", "publish", "configuration"])
def test_an_export_that_fails_leaves_the_one_before(trained, trials, tmp_path, monkeypatch, step):
    out = tmp_path / "out"
    exporter.export_run(trained.run, out, quiet(), precisions=("float32",))
    before = everything(tmp_path)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(folder if step == "publish" else tf_serving, step, fail)
    for output in (out, tmp_path / "new"):
        with pytest.raises(OSError, match="no space left"):
            exporter.export_run(trained.run, output, quiet(), name="other", precisions=("float32",))
        assert everything(tmp_path) == before


# --- Warm-up --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_length", "buckets"),
    [
        (1, [1]),
        (7, [7]),
        (8, [8]),
        (9, [8, 9]),
        (24, [8, 16, 24]),
        (128, [8, 16, 32, 64, 128]),
        (129, [8, 16, 32, 64, 128, 129]),
    ],
)
def test_lengths_are_powers_of_two_up_to_the_models(max_length, buckets):
    assert tf_serving.length_buckets(max_length) == buckets


def test_there_is_a_text_of_exactly_each_length(translator, trained):
    tokenizer = translator.tokenizer
    texts = tf_serving.warmup_texts(tokenizer, trained.run.samples(), 100)
    lengths = [len(ids) + 1 for ids in tokenizer.tokenize(texts).to_list()]  # with the end token
    assert lengths == [8, 16, 32, 64, 100]
    words = {word for text in trained.run.samples() for word in text.split()}
    assert all(set(text.split()) <= words for text in texts)


@pytest.mark.parametrize(
    ("samples", "longest"),
    [
        (["aaa"], [6, 15, 18]),  # as near as words of three pieces come
        (["aaa a"], [7, 15, 19]),
        ([], [7, 15, 19]),  # any word will do
        (["", " "], [7, 15, 19]),
    ],
)
def test_where_words_do_not_fit_texts_are_shorter(samples, longest):
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##a"])
    texts = tf_serving.warmup_texts(tokenizer, samples, 20)
    found = [len(ids) for ids in tokenizer.tokenize(texts).to_list()]
    assert found == longest


def requests_of(version):
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        yield log.predict_log.request


def test_the_warm_up_calls_the_signatures_with_every_length(exported, translator):
    version = exported.paths["savedmodel"] / "1"
    requests = list(requests_of(version))
    assert 0 < len(requests) <= 1000  # more than that and a server refuses the version
    assert {request.model_spec.name for request in requests} == {"capitals"}
    signatures = tf.saved_model.load(str(version)).signatures
    lengths = {}
    for request in requests:
        (text,) = tf.make_ndarray(request.inputs["text"])
        assert set(request.inputs) == {"text"}
        count = len(translator.tokenizer.tokenize([text.decode()]).to_list()[0]) + 1
        lengths.setdefault(request.model_spec.signature_name, []).append(count)
        signatures[request.model_spec.signature_name](text=tf.constant([text]))
    assert lengths == {"serving_default": [8, 16, 24], "translate": [8, 16, 24]}
    assert runtime.load(version).warmup() == [
        (request.model_spec.signature_name, list(tf.make_ndarray(request.inputs["text"])))
        for request in requests
    ]


def test_a_version_without_warm_up_has_none(tmp_path):
    assert tf_serving.read_warmup(tmp_path) == []


# --- Configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_configuration_starts_the_stock_server(jit_compile):
    files = tf_serving.configuration("de-en.1", jit_compile)
    assert files.keys() == {"models.config", "batching.config", "compose.yaml"}
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(files["models.config"], config)
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("de-en.1", "/models/de-en.1")
    assert model.model_platform == "tensorflow"

    compose = yaml_of(files["compose.yaml"])
    assert list(compose) == ["services"]
    serving = compose["services"]["serving"]
    assert list(compose["services"]) == ["serving"]
    assert serving["image"] == "${TF_SERVING_IMAGE:-tensorflow/serving:latest}"
    assert serving["volumes"] == [
        "./savedmodel:/models/de-en.1:ro",
        "./models.config:/config/models.config:ro",
        "./batching.config:/config/batching.config:ro",
    ]
    # Not for the whole network.
    assert serving["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    inside = {volume.split(":")[1] for volume in serving["volumes"]}
    command = dict(flag.split("=") for flag in serving["command"])
    assert command.pop("--model_config_file") in inside
    assert command.pop("--batching_parameters_file") in inside
    assert command.pop("--enable_batching") == "true"
    assert command.pop("--file_system_poll_wait_seconds") == "5"
    assert command == ({"--xla_cpu_compilation_enabled": "true"} if jit_compile else {})
    assert model.base_path in inside


def yaml_of(text):
    """Read the part of YAML that mappings and lists of plain values need."""
    root = {}
    levels = [(-1, root)]
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        while levels[-1][0] >= indent:
            levels.pop()
        inside, line = levels[-1][1], line.strip()
        if line.startswith("- "):
            inside.setdefault("items", []).append(line[2:].strip('"'))
            continue
        key, _, value = line.partition(":")
        assert (re.fullmatch(r"\w+", key) and not value) or value.startswith(" ")
        inside[key] = value.strip().strip('"') if value else {}
        if not value:
            levels.append((indent, inside[key]))
    return without_items(root)


def without_items(value):
    if not isinstance(value, dict):
        return value
    return value["items"] if "items" in value else {k: without_items(v) for k, v in value.items()}


def test_batches_have_few_sizes_and_the_largest_is_the_most():
    text = tf_serving.configuration("x")["batching.config"]
    sizes = [int(size) for size in re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.MULTILINE)]
    assert sizes == sorted(sizes)
    # A server refuses to start otherwise.
    (most,) = re.findall(r"max_batch_size { value: (\d+) }", text)
    assert int(most) == sizes[-1]


def test_what_was_exported_is_configured_by_its_name(exported):
    for file, text in tf_serving.configuration("capitals").items():
        assert (exported.folder / file).read_text() == text
