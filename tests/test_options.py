"""Tests of keras_transformer.options, and of the dataclasses whose fields are options.

Also: errors, cli.options, training.config, training.plan.
"""

import dataclasses
import importlib.util
import typing
from pathlib import Path
from typing import Literal

import pytest
import typer
from typer.testing import CliRunner

from keras_transformer.cli.options import with_options
from keras_transformer.errors import InputError, no_such, suggestion
from keras_transformer.models.config import StackConfig
from keras_transformer.options import kinds_of, option, options_of, parse_fields
from keras_transformer.pipelines.tasks import TASKS as TASK_TABLE
from keras_transformer.training.config import Optimizer, TrainingConfig
from keras_transformer.training.data.vocabulary import TOKENIZERS
from keras_transformer.training.distribution import STRATEGIES
from keras_transformer.training.optimizers import OPTIMIZERS
from keras_transformer.training.plan import TASKS, ModelOptions, Plan, Strategy, TokenizerName

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Wings:
    plain: int = 1
    either: int | float = 1
    count: int = option("Number of wings.", 2, "Body")
    colour: Literal["red", "grey"] | None = option("Their colour.", None, name="paint")
    folded: bool = option("Begin folded.", False, flags=("--folded",))
    span: float = option("Their span; by default the bird's.", 1.5, unset=True)
    bird: str = option("What bears them.", "owl")


def test_options_have_the_names_the_types_and_the_defaults_of_their_fields():
    found = options_of(Wings)
    assert list(found) == ["count", "colour", "folded", "span", "bird"]
    assert [(one.name, one.default, one.written) for one in found.values()] == [
        ("count", 2, "--count"),
        ("paint", None, "--paint"),
        ("folded", False, "--folded"),
        ("span", None, "--span"),
        ("bird", "owl", "--bird"),
    ]
    assert found["span"].kind == float | None
    assert list(options_of(Wings, ("bird", "count"))) == ["count", "bird"]


def test_a_command_gets_what_was_given_by_the_names_of_fields():
    seen, app = [], typer.Typer()

    @app.command()
    @with_options(wings=Wings, again=(Wings, ("plain",)))
    def fly(high: bool = False, *, wings, again):
        seen.append((high, wings, again))

    # Also what is the default: whoever gives it may not do so where it is refused.
    given = ["--high", "--count", "2", "--paint", "red", "--folded", "--bird", "tit"]
    result = CliRunner().invoke(app, given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert seen == [(True, {"count": 2, "colour": "red", "folded": True, "bird": "tit"}, {})]
    CliRunner().invoke(app, [], catch_exceptions=False, default_map={"bird": "owl"})
    assert seen[1:] == [(False, {"bird": "owl"}, {})]


def test_values_are_read_by_the_type_of_their_field():
    specs = ["plain=3", "colour=NONE", "folded=True", "span= 2", "bird=a=b"]
    found = parse_fields("--set", Wings, specs)
    assert found == {"plain": 3, "colour": None, "folded": True, "span": 2.0, "bird": "a=b"}
    assert type(found["span"]) is float


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cuont=3", "--set cuont=3 does not set a known field by NAME=VALUE; .* mean 'count'"),
        ("count", "--set count does not set a known field by NAME=VALUE; the fields are .*span.$"),
        ("plain=x", "--set plain: 'x' is not of type int.$"),
        ("either=none", "--set either: 'none' is not of type int.$"),
        ("plain=none", "--set plain: 'none' is not of type int.$"),
        ("colour=gray", "'gray' is not one of red, grey or none. Did you mean 'grey'"),
        ("folded=ture", "'ture' is not one of true, false. Did you mean 'true'"),
    ],
)
def test_what_no_field_takes_is_refused(spec, message):
    with pytest.raises(InputError, match=message):
        parse_fields("--set", Wings, [spec])
    with pytest.raises(InputError, match="given twice"):
        parse_fields("--set", Wings, ["count=1", "count=1"])


def test_the_nearest_name_is_asked_for():
    near = "There is no preset 'smal'; did you mean 'small'? Choose one of tiny, small."
    assert str(no_such("preset", "smal", ["tiny", "small"])) == near
    far = "There is no preset 'huge'; choose one of tiny, small, or none."
    assert str(no_such("preset", "huge", iter(["tiny", "small"]), ", or none")) == far
    assert suggestion(None, []) == suggestion(3, ["x"]) == ""


@pytest.mark.parametrize(
    ("choices", "known"),
    [
        (TokenizerName, TOKENIZERS),
        (Strategy, STRATEGIES),
        (Optimizer, OPTIMIZERS),
    ],
)
def test_choices_are_what_there_is(choices, known):
    assert typing.get_args(choices) == tuple(known)


def test_the_names_of_tasks_are_those_of_the_table():
    assert tuple(task.name for task in TASK_TABLE.values() if task.training) == TASKS


def test_options_of_models_are_fields_of_models():
    fields, options = kinds_of(StackConfig), kinds_of(ModelOptions)
    for name, kind in options.items():
        assert kind in (fields[name], fields[name] | None), name
    classes = (Plan, TrainingConfig, ModelOptions)
    names = [one.name for of in classes for one in options_of(of).values()]
    assert len(names) == len(set(names))


def test_every_field_of_training_has_an_option():
    assert list(options_of(TrainingConfig)) == [f.name for f in dataclasses.fields(TrainingConfig)]


def test_the_page_of_options_is_what_the_commands_take():
    path = ROOT / "docs" / "make_options.py"
    spec = importlib.util.spec_from_file_location("make_options", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.PAGE.read_text("utf-8") == made.page(), "run python docs/make_options.py"
