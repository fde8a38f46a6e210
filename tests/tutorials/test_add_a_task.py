"""The tutorial "Add a task", run as it stands on its page.

Also: pipelines.tasks.
"""

import re
from pathlib import Path

import pytest
from fixtures_cli import call
from fixtures_tutorials import commands, install

import keras_transformer as kt
from keras_transformer.errors import InputError
from keras_transformer.export import proof, quality
from keras_transformer.training.run.run_directory import RunDirectory

__all__ = ["call", "install"]
SAID = {
    "on": ["switch it on", "turn the light on", "light please", "on with it"],
    "off": ["switch it off", "turn the light off", "no light please", "off with it"],
    "dim": ["make it darker", "a little darker please", "dim the light", "not so bright"],
}
SMALL = "--vocab-size 60 --num-layers 1 --batch-tokens 256 --max-length 16 --learning-rate 3e-3"


def test_one_file_and_one_line_add_a_task(install, call, monkeypatch):
    files, (command_line,) = install("add-a-task.md")
    code = [line for line in files["lamp.py"].splitlines() if line.strip()]
    assert len(code) <= 40
    monkeypatch.setattr(quality, "ask_in_fresh_process", proof.ask_in_this_process)
    rows = "".join(f"{text}\t{intent}\n" for intent, texts in SAID.items() for text in texts)
    for name in ("train.tsv", "valid.tsv"):
        Path(name).write_text(f"said\tintent\n{rows}", "utf-8")
    Path("said.txt").write_text("make it darker\nswitch it on\nxyzzy\n", "utf-8")
    train, evaluate, export, classify = commands(command_line)
    shown = {}
    for command in ([*train, *SMALL.split()], evaluate, [*export, "--tflite", "float32"], classify):
        status, shown[command[0]], errors = call(command)
        assert status == 0, errors
    assert float(re.search(r"accuracy +([\d.]+) %", shown["evaluate"])[1]) > 90
    answers = [line.split("\t")[0] for line in shown["classify"].splitlines()]
    assert answers[:2] == ["dim", "on"]
    for file in ("run/config.json", "exported/model_card.json"):
        assert '"task": "intent"' in Path(file).read_text("utf-8")
    assert kt.load("exported").task == kt.load("exported/model.tflite").task == "intent"
    # The answer of its own is in the files: nothing is likely where the threshold is above 1.
    lamp = RunDirectory.open("run").servable()
    (probability,) = lamp.call("serving_default", text=["light"])["probability"]
    monkeypatch.setattr(f"{type(lamp).__module__}.LIKELY", probability + 0.01)
    assert RunDirectory.open("run").servable()(["light"]) == ["unsure"]


def test_without_the_package_the_task_of_a_run_is_unknown(install, monkeypatch):
    install("add-a-task.md")
    settings = kt.pipelines.TaskSettings("intent", ("on", "off"))
    assert settings.task == "intent"
    monkeypatch.undo()
    with pytest.raises(InputError, match="There is no task 'intent'"):
        kt.pipelines.TaskSettings("intent", ("on", "off"))
