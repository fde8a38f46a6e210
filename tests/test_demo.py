"""Tests of keras_transformer.demo, cut down to seconds."""

import io
import re
import signal

import pytest
from fixtures_run import quiet
from rich.console import Console

from keras_transformer import demo
from keras_transformer.errors import InputError
from keras_transformer.export import runtime


def test_the_demo_goes_the_whole_way(tmp_path, monkeypatch):  # M19
    monkeypatch.setattr(demo, "SIZES", {"train": 400, "validation": 20, "test": 10})
    monkeypatch.setattr(demo, "STEPS", 6)
    monkeypatch.setattr(demo, "VOCABULARY_SIZE", 300)
    small = {"num_layers": 1, "num_heads": 2, "d_model": 16, "d_ff": 16}
    monkeypatch.setattr(demo, "MODEL", {**demo.MODEL, **small})
    often = {"warmup_steps": 2, "validate_every": 3, "checkpoint_every": 6}
    monkeypatch.setattr(demo, "TRAINING", {**demo.TRAINING, **often})
    console = quiet()
    output = tmp_path / "demo"
    demo.run_demo(output, False, console)
    printed = console.file.getvalue()

    steps = [line.split(".")[0] for line in printed.splitlines() if re.match(r"\d\. ", line)]
    assert steps == ["1", "2", "3", "4"]
    assert re.search(r"^   -> .*\S", printed, re.MULTILINE)  # a sentence and how it is written
    assert printed.count("agrees with the model") == 3
    rows = re.findall(r"(Keras \(run folder\)|SavedModel|\.tflite) +.*?([\d.]+) %.* of 10", printed)
    assert [name for name, _ in rows] == ["Keras (run folder)", "SavedModel", ".tflite"]
    assert len({exact for _, exact in rows}) == 1
    assert printed.count("10 of 10") == 3

    assert {path.name for path in output.iterdir()} == {"text", "run", "export"}
    (command,) = re.findall(r"keras-transformer translate --model (\S+)", printed)
    ((text,),), _ = runtime.load(command).run(["hello"])
    assert isinstance(text, str)
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
