"""Tests of keras_transformer.artefacts.generation_options."""

import dataclasses
import json

import pytest

from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError

SAMPLING = {"temperature": 1.0}
INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("name", "value", "more"),
    [
        ("beam_size", 0, {}),
        ("beam_size", -3, {}),
        ("num_hypotheses", 0, {}),
        ("length_penalty", -0.1, {}),
        ("length_penalty", NAN, {}),
        ("length_penalty", INF, {"beam_size": 2}),
        ("temperature", -1.0, {}),
        ("temperature", NAN, {}),
        ("temperature", INF, {}),
        ("temperature", 1e7, {}),
        ("temperature", 1e-7, {}),
        ("top_k", -1, SAMPLING),
        ("top_p", 0.0, SAMPLING),
        ("top_p", 1.5, SAMPLING),
        ("top_p", NAN, SAMPLING),
        ("min_p", -0.1, SAMPLING),
        ("min_p", 1.1, SAMPLING),
        ("seed", 2**31, SAMPLING),
        ("seed", -(2**31) - 1, SAMPLING),
        ("min_length", -1, {}),
        ("max_length", 0, {}),
        ("repetition_penalty", 0.0, {}),
        ("repetition_penalty", -1.0, {}),
        ("repetition_penalty", INF, {}),
        ("no_repeat_ngram", -2, {}),
    ],
)
def test_value_out_of_its_range_is_refused(name, value, more):
    with pytest.raises(InputError, match=rf"^{name} .*got {value!r}\.$".replace("+", r"\+")):
        GenerationOptions(**{name: value, **more})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"beam_size": 4, "temperature": 0.7},
            "beam_size=4 and temperature=0.7 can't be combined",
        ),
        ({"top_k": 5}, "top_k only matters for sampling; set a temperature above 0, got 5"),
        ({"top_p": 0.9}, "top_p only matters for sampling; set a temperature above 0, got 0.9"),
        ({"min_p": 0.1}, "min_p only matters for sampling; set a temperature above 0, got 0.1"),
        ({"beam_size": 4, "top_k": 5}, "top_k only matters for sampling"),
        ({"num_hypotheses": 2}, "num_hypotheses can't exceed beam_size=1; .*, got 2"),
        ({"num_hypotheses": 5, "beam_size": 4}, "num_hypotheses can't exceed beam_size=4; .* 5"),
        ({"min_length": 9, "max_length": 8}, "min_length exceeds max_length=8, got 9"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        GenerationOptions(**values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"beam_size": 4, "num_hypotheses": 4, "length_penalty": 0.0},
        {"temperature": 0.7, "num_hypotheses": 9, "top_k": 5, "top_p": 0.9, "min_p": 1.0},
        {"temperature": 1e-3, "top_p": 1e-6, "seed": -(2**31)},
        {"seed": 2**31 - 1},
        {"min_length": 8, "max_length": 8},
        {"repetition_penalty": 0.5, "no_repeat_ngram": 1},
    ],
)
def test_values_in_their_range_are_taken(values):
    options = GenerationOptions(**values)
    assert {name: getattr(options, name) for name in values} == values


def test_defaults_are_greedy_search():  # D01
    options = GenerationOptions()
    assert not options.samples
    assert options.width == 1


@pytest.mark.parametrize(
    ("values", "width", "samples"),
    [
        ({"beam_size": 4, "num_hypotheses": 2}, 4, False),
        ({"temperature": 0.5, "num_hypotheses": 3}, 3, True),
    ],
)
def test_width_is_the_number_of_hypotheses_followed(values, width, samples):
    options = GenerationOptions(**values)
    assert options.width == width
    assert options.samples is samples


def test_options_are_plain_values_and_back():
    options = GenerationOptions(temperature=0.7, top_p=0.9, max_length=20)
    again = GenerationOptions(**json.loads(json.dumps(options.to_dict())))
    assert again == options
    assert again != dataclasses.replace(options, seed=1)


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationOptions().beam_size = 2
