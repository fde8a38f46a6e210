"""Every benchmark runs to its end at toy size; `fixtures_benchmarks` says how."""

import contextlib
import functools
import inspect
import re
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf
from fixtures_benchmarks import TOY, Subprocess, figures, given, toy
from fixtures_encoders import published
from fixtures_serving import Capitals, Loaded, server

__all__ = ["toy"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    import decode_engines
    import embeddings_engines

    monkeypatch.setattr(decode_engines, "TURN", 0.0)
    monkeypatch.setattr(embeddings_engines, "TURN", 0.0)
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        # This process has its threads already.
        monkeypatch.setattr(tf.config.threading, name, lambda threads: None)


@pytest.fixture
def few_signatures(monkeypatch):
    """Leave those that benchmarks call; each other would be one more graph to make and convert."""
    from keras_transformer.export import runtime
    from keras_transformer.pipelines.translator import Translator

    all_graphs, some = Translator._all_graphs, ("serving_default", "ids", "tokenize")

    def graphs(translator):
        made = all_graphs(translator)
        return {name: made[name] for name in some}

    monkeypatch.setattr(Translator, "_all_graphs", graphs)
    monkeypatch.setattr(runtime, "REQUIRED", frozenset())


def test_training_step(toy, monkeypatch):
    import train

    monkeypatch.setitem(train.SHAPES, "toy", (1, 16, 2, 32, 2, 4, 1))
    monkeypatch.setattr(train, "sgemm_rate", functools.partial(train.sgemm_rate, 8))
    rows = figures(train.rows(toy, ["toy"], starts=2, rounds=2), train.OURS)
    assert {row.peer: type(row.theirs) for row in rows} == {"keras-hub": str, "torch": str}
    assert re.fullmatch(r"\d+% of \d+ GFLOP/s", rows[0].note)


def test_decoding(toy, few_signatures, monkeypatch):
    import decode
    import decode_engines
    import decode_models

    monkeypatch.setattr(decode_models, "LENGTH", 4)
    rows = decode.rows(toy, ["tiny"], batches=[2], beams=[1], starts=1, rounds=1)
    figures(rows, *decode_engines.OURS)

    theirs = {row.peer: row.theirs for row in rows}
    assert theirs["recompute-all"] > 0
    assert all(isinstance(theirs[x], str) for x in ("ctranslate2", "ctranslate2-int8", "marian"))
    (said,) = toy.said
    assert "savedmodel 2/2" in said and "recompute-all 2/2" in said


def test_footprint(toy, few_signatures, monkeypatch):
    import footprint
    import footprint_engines as engines
    import footprint_models as forms

    from keras_transformer import export
    from keras_transformer.export import exporter

    # Other precisions are other files of the same code; what export tries out has its own tests.
    small = functools.partial(export.export_run, precisions=["float32"])
    monkeypatch.setattr(export, "export_run", small)
    monkeypatch.setattr(exporter, "measure", lambda *anything: [])
    judge = {"texts": ["a"], "what": "", "measure": "", "loses": "", "reference": ""}
    monkeypatch.setattr(exporter, "judge_of", lambda *_: SimpleNamespace(**judge))
    monkeypatch.setattr(forms, "PIECES", 200)
    for module in (forms, engines):
        monkeypatch.setattr(module, "LENGTH", 4)
    monkeypatch.setattr(forms, "SENTENCES", 200)
    some = {k: v for k, v in engines.ENGINES.items() if "int8" not in k}
    monkeypatch.setattr(engines, "ENGINES", some)
    monkeypatch.setattr(forms, "FILES", ["savedmodel", "tflite", "tflite-ids", "marian"])
    rows = footprint.rows(toy, ["tiny"], batch=2, starts=1)
    figures(rows, "savedmodel", "run folder", "tflite", "tflite-ids")
    assert {row.subject for row in rows} == {"start-up", "size", "peak memory"}


def test_embeddings(toy, monkeypatch, tmp_path):
    import embeddings
    import embeddings_engines as engines

    from keras_transformer.export import proof, quality

    monkeypatch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
    model = published("bert-sentences", tmp_path / "model")
    rows = embeddings.rows(toy, [16], rounds=1, model=model)
    figures(rows, *engines.OURS)
    assert all(isinstance(row.theirs, str) for row in rows)


def test_tokenising(toy, monkeypatch):
    import text

    monkeypatch.setattr(text, "PIECES", 150)
    rows = figures(text.rows(toy, runs=2, generated=200), text.OURS)
    assert [row.setting.split(",")[0] for row in rows] == ["learn 150 pieces", "cut into ids"]
    assert all(isinstance(row.theirs, str) for row in rows)


def test_recurrent(toy, monkeypatch, capsys):
    import recurrent

    monkeypatch.setattr(recurrent, "WIDTH", 8)
    monkeypatch.setattr(recurrent, "LENGTHS", (3,))
    monkeypatch.setattr(recurrent, "TOKENS", 96)
    with given("recurrent.py", "--length", "3", "--rounds", "1"):
        recurrent.main()
    printed = capsys.readouterr().out
    assert "missing" not in printed
    for task in ("Training step", "Inference", "Products that wait for one another"):
        assert f"## {task}" in printed
    chains = dict(re.findall(r"\| (\w+) \| [\d,]+ \| (\d+) \|", printed))
    assert chains.keys() == {"keras_transformer", "LSTM", "GRU"}


@pytest.mark.parametrize("memory", [False, True])
def test_input(toy, monkeypatch, capsys, memory):
    import input

    monkeypatch.setattr(input, "subprocess", Subprocess)
    monkeypatch.setattr(input, "PIECES", 150)
    monkeypatch.setattr(input, "RUNS", 1)
    monkeypatch.setattr(input, "BATCHES_IN_A_FIT", 1)
    monkeypatch.setattr(input, "GENERATED_PAIRS", 100)
    monkeypatch.setattr(input, "PAIRS_FOR_MEMORY", 100)
    with given("input.py", ["--memory"] if memory else ["--batch-tokens", "512"]):
        input.main()
    printed = capsys.readouterr().out
    if memory:
        assert re.findall(r"([\d,]+) pairs: at most [\d,]+ MiB", printed) == ["100", "1,000"]
    else:
        assert re.search(r"ratio +[\d.]+\n", printed)


def test_phone(toy, few_signatures, monkeypatch, capsys):
    import phone

    monkeypatch.setattr(phone, "PIECES", 200)
    monkeypatch.setattr(phone, "SENTENCES", 200)
    monkeypatch.setattr(phone, "LINES", 2)
    monkeypatch.setattr(phone, "PROCESSES", 1)
    with given("phone.py", "--presets", "tiny"):
        phone.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| tiny.ids.tflite", "| tiny.ids.tflite, kept"]


def test_vocabulary_score(toy, monkeypatch, tmp_path, capsys):
    import vocabulary_score

    from keras_transformer.training.data import spoken_english
    from keras_transformer.training.new_run import new_run
    from keras_transformer.training.tasks import sequence_to_sequence

    for name, count in (("train", 200), ("val", 20)):
        some = list(spoken_english.examples("train", count))
        for ending, lines in (("en", [x.spoken for x in some]), ("de", [x.written for x in some])):
            (tmp_path / f"{name}.{ending}").write_text("".join(f"{x}\n" for x in lines), "utf-8")
    monkeypatch.setattr(sequence_to_sequence, "SAMPLES_SHOWN", 0)  # they take a graph more
    monkeypatch.setattr(vocabulary_score, "new_run", functools.partial(new_run, model=TOY))
    monkeypatch.setattr(vocabulary_score, "VARIANTS", [("likelihood", 2)])
    with given("vocabulary_score.py", tmp_path, "--steps", "4", "--size", "150"):
        vocabulary_score.main()
    printed = capsys.readouterr().out
    assert re.fullmatch(
        r"likelihood min_frequency  2: 150 pieces, .*, loss a token [\d.]+, a character [\d.]+\n",
        printed,
    )


class InProcessServer:
    """A server of the benchmark's kind, in a thread, for as many versions as are published."""

    published = 1

    def __init__(self, base, *options, **ports):
        self.name, self.ports = "caps", {}
        self._serving = contextlib.ExitStack()
        at = self._serving.enter_context(server(Loaded({1: Capitals()}))).at
        self.rest, self.grpc = at.rest, at.grpc

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._serving.close()

    def kill(self):
        """Go on: what is retried is answered, as by the next one on the same ports."""

    def memory(self):
        return 1.0

    def processor_seconds(self):
        return 0.0

    def versions(self):
        return list(range(self.published))


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Put a server in a thread in the place of each process, and count the versions."""
    import serve

    from keras_transformer.export import runtime

    def publish(base):
        InProcessServer.published += 1

    monkeypatch.setattr(InProcessServer, "published", 1)
    monkeypatch.setattr(serve, "Server", InProcessServer)
    monkeypatch.setattr(serve, "publish_copy", publish)
    clock = SimpleNamespace(perf_counter=time.perf_counter, sleep=lambda seconds: None)
    monkeypatch.setattr(serve, "time", clock)
    monkeypatch.setattr(runtime, "load", lambda base: Capitals())
    (tmp_path / "savedmodel").mkdir()
    return serve


def test_serving(served, tmp_path, capsys):
    parts = ",".join(served.PARTS)
    counts = ("--requests=12", "--clients=3", "--versions=1", "--rounds=1", "--reloads=1")
    with given("serve.py", "--export", tmp_path, "--parts", parts, *counts):
        served.main()
    printed = capsys.readouterr().out
    assert re.findall(r"### (\w+)", printed) == list(served.PARTS)
    answers = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \|", printed, re.MULTILINE)
    assert len(answers) == 4  # of load, versions, leave and kill
    assert all(wrong == "0" for _, _, wrong in answers)
    assert "| Grpc, 8 clients |" in printed and "| after 1 |" in printed


def test_serving_trains_a_model_of_its_own(served, monkeypatch, tmp_path):
    from keras_transformer import export
    from keras_transformer.cli import demo
    from keras_transformer.export.validation import validation_of
    from keras_transformer.training.tasks import sequence_to_sequence

    monkeypatch.setattr(sequence_to_sequence, "SAMPLES_SHOWN", 0)  # they take a graph more
    monkeypatch.setattr(served, "STEPS", 2)
    monkeypatch.setattr(served, "PAIRS", 100)
    monkeypatch.setattr(demo, "SIZES", {"train": 0, "validation": 10, "test": 10})
    monkeypatch.setattr(demo, "MODEL", {**demo.MODEL, **TOY})
    monkeypatch.setattr(demo, "VOCABULARY_SIZE", 150)
    monkeypatch.setattr(demo, "TRAINING", {**demo.TRAINING, "warmup_steps": 1})
    signature = inspect.signature(export.export_run)  # which test_footprint runs

    def export_run(*arguments, **options):
        run = signature.bind(*arguments, **options).arguments["run"]
        assert run.best_path.is_file() and len(validation_of(run).texts) == 10

    monkeypatch.setattr(export, "export_run", export_run)
    assert served._small_export(tmp_path) == tmp_path / "export"
