"""Tests of keras_transformer.cli.help: how the command line explains itself and what is meant."""

import re
import shlex

import pytest
import typer
from fixtures_cli import call, here

from keras_transformer.cli.app import VERBS, app
from keras_transformer.training.config import PANELS

__all__ = ["call", "here"]

COMMANDS = typer.main.get_command(app).commands


def sections(text):
    """Return what stands below each heading."""
    parts = re.split(r"^(\S.*):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_verbs_stand_in_groups_and_their_sentences_fit(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    found = sections(call("--help")[1])
    assert list(found) == ["Usage: keras-transformer [OPTIONS] COMMAND [ARGS]...", *found][1:]
    assert [*VERBS] == list(found)[-len(VERBS) :]
    listed = []
    for group in VERBS:
        for row in found[group].strip().splitlines():
            assert len(row) <= 78 and row.endswith("."), row
            assert not row.endswith("..."), row
            listed.append(row.split()[0])
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("verb", list(COMMANDS))
def test_each_verb_has_an_example_that_it_takes(call, verb):
    found = sections(call(f"{verb} --help")[1])
    assert list(found)[-1] == "Example"
    lines = found["Example"].splitlines()
    assert all(line.startswith("  ") and len(line) <= 80 for line in lines)
    name, first, *arguments = shlex.split("\n".join(lines).replace("\\\n", " "))
    assert (name, first) == ("keras-transformer", verb)
    COMMANDS[verb].make_context(verb, arguments)  # nothing is unknown, nothing is missing


def test_options_of_train_stand_in_panels(call):
    found = sections(call("train --help")[1])
    assert list(found) == ["Options", *PANELS, "Example"]
    for panel, option in (
        ("Run", "--init-from"),
        ("Data", "--valid-split"),
        ("Model", "--pre-norm / --post-norm"),
        ("Tokeniser", "--vocab-size"),
        ("Optimisation", "--warmup"),
        ("Regularisation", "--dropout"),
        ("Validation and checkpoints", "--patience"),
        ("Hardware", "--strategy"),
    ):
        assert f"\n  {option} " in f"\n{found[panel]}", option
    assert "Generation" in sections(call("translate --help")[1])


def test_brackets_and_arguments_are_shown_as_they_are(call):
    found = sections(call("fill-mask --help")[1])
    assert "such as [MASK] or <mask>." in " ".join(found["Arguments"].split())
    assert "[required]" in found["Options"]
    assert "'Paris is in [MASK].'" in found["Example"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("train --task translatoin", "'translation'"),
        ("train --tokenizer byte-pair", "'byte-pairs'"),
        ("train --schedule cosin", "'cosine'"),
        ("train --strategy mirored", "'mirrored'"),
        ("train --precision bfloat16", "'mixed_bfloat16'"),
        ("memory --optimizer adamww", "'adamw'"),
        ("explain position", "'positions'"),
        ("vocab --input x --output y --score frequences", "'frequency'"),
    ],
)
def test_the_nearest_choice_is_asked_for(here, call, arguments, wanted):
    status, _, error = call(arguments)
    assert status == 2
    assert f"id you mean {wanted}?" in error


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("params --preset bert_base", "'bert-base'"),
        ("params --preset gpt2 --set num_head=2", "'num_heads'"),
        ("params --preset gpt2 --set positions=rotery", "'rotary'"),
        ("memory --preset smal", "'small'"),
        ("flops --preset bas", "'base'"),
        ("trian", "'train'"),
        ("train --optimiser adam", "--optimizer"),
    ],
)
def test_the_nearest_name_is_asked_for(here, call, arguments, wanted):
    status, _, error = call(arguments)
    assert status == 2
    assert wanted in error.splitlines()[-1].split("hoose one of")[0]
