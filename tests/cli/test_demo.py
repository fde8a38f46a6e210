"""Tests of keras_transformer.cli.demo, cut down to seconds."""

import functools
import io
import re
import signal

import pytest
from fixtures_run import quiet
from rich.console import Console

from keras_transformer import export
from keras_transformer.cli import demo
from keras_transformer.errors import InputError
from keras_transformer.export import proof, quality, runtime
from keras_transformer.pipelines.translator import Translator
from keras_transformer.training.tasks import sequence_to_sequence


def test_the_demo_goes_the_whole_way(tmp_path, monkeypatch):  # M19
    monkeypatch.setattr(demo, "SIZES", {"train": 400, "validation": 20, "test": 10})
    monkeypatch.setattr(demo, "STEPS", 6)
    monkeypatch.setattr(demo, "VOCABULARY_SIZE", 300)
    small = {"num_layers": 1, "num_heads": 2, "d_model": 16, "d_ff": 16}
    monkeypatch.setattr(demo, "MODEL", {**demo.MODEL, **small})
    once = {"warmup_steps": 2, "validate_every": 6, "checkpoint_every": 6}
    monkeypatch.setattr(demo, "TRAINING", {**demo.TRAINING, **once})
    monkeypatch.setattr(sequence_to_sequence, "SAMPLES_SHOWN", 0)  # they take a graph more
    # Less is exported, and in this process: `exported` is made with all that there is.
    few = frozenset({"translate", "tokenize", "ids"})
    monkeypatch.setattr(Translator, "signatures", few)
    monkeypatch.setattr(runtime, "_check_signatures", lambda *_: None)
    monkeypatch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
    seen, fewer = [], functools.partial(export.export_run, precisions=("int8",))
    monkeypatch.setattr(export, "export_run", lambda *a, **k: seen.append(k) or fewer(*a, **k))
    console = quiet()
    output = tmp_path / "demo"
    demo.run_demo(output, False, console)
    printed = console.file.getvalue()

    steps = [line.split(".")[0] for line in printed.splitlines() if re.match(r"\d\. ", line)]
    assert steps == ["1", "2", "3", "4"]
    assert re.search(r"^   -> .*\S", printed, re.MULTILINE)  # a sentence and how it is written
    assert "all in float32 agree with the model on 20 sentences" in printed
    assert seen == [{"name": "demo", "max_quality_loss": 2.0}]
    table = printed[printed.index("same text as Keras") :]
    rows = re.findall(r"│ ([^│]+?) +│ +([\d.]+) % +│ +[\d.]+ +│ +(\d+) of 10", table)
    names = ["Keras (run folder)", "SavedModel", ".tflite", ".tflite in int8"]
    assert [name for name, *_ in rows] == names
    assert len({exact for _, exact, _ in rows[:3]}) == 1
    assert [same for *_, same in rows[:3]] == ["10"] * 3

    assert {path.name for path in output.iterdir()} == {"text", "run", "export"}
    (command,) = re.findall(r"keras-transformer translate --model (\S+)", printed)
    ((text,),), _ = runtime.load(command).run(["hello"])
    assert isinstance(text, str)
    (served,) = re.findall(r"keras-transformer serve --model (\S+) --name demo", printed)
    assert served == str(output / "export")
    (folder,) = re.findall(r"tensorboard --logdir (\S+)", printed)
    assert list((output / "run" / "tensorboard").iterdir())
    assert folder == str(output / "run" / "tensorboard")

    with pytest.raises(InputError, match="demo holds something already; add --overwrite"):
        demo.run_demo(output, False, console)


def test_ctrl_c_ends_the_demo_and_says_how_to_go_on(tmp_path, monkeypatch):
    from keras_transformer.training import trainer

    monkeypatch.setattr(demo, "SIZES", {"train": 200, "validation": 20, "test": 10})
    stopped = trainer.TrainingResult(3, {}, {}, signal.SIGINT)
    monkeypatch.setattr(trainer, "train", lambda *args, **kwargs: stopped)
    said = io.StringIO()
    with pytest.raises(SystemExit) as stop:
        demo.run_demo(tmp_path / "demo", False, Console(file=said, soft_wrap=True))
    assert stop.value.code == 130
    assert re.search(r"Stopped and saved\. .*train --resume .*demo/run", said.getvalue())
