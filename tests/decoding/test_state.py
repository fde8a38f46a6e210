"""Tests of keras_transformer.decoding.state, and of keras_transformer.typing.

Also: typing.
"""

import re
import typing
from pathlib import Path

import numpy as np
import pytest
from keras import ops

import keras_transformer.typing
from keras_transformer.decoding import GenerationOptions, state
from keras_transformer.decoding import search as search_module
from keras_transformer.decoding.generate import encode, make_search
from keras_transformer.models import Transformer, TransformerConfig

# Sizes that can be told from each other: heads, width of a head, source, targets, longest target.
SIZES = {"B": 3, "H": 2, "d_k": 4, "S": 5, "K": 7, "P": 2}
METHODS = {
    "greedy": {},
    "beam": {"beam_size": 7, "num_hypotheses": 6},
    "sampling": {"temperature": 1.0, "num_hypotheses": 7, "seed": 1},
}


@pytest.fixture(scope="module")
def model():
    return Transformer(TransformerConfig(12, 1, 2, 8, 16, max_length=9))


def start(model, options, prefix=None):
    source = np.full((SIZES["B"], SIZES["S"]), 5, "int32")
    options = GenerationOptions(max_length=9, **options)
    search = make_search(model, options)
    beginning = encode(model, source, options, prefix)
    return search, beginning, search.start(**beginning)


def check(described, value, sizes):
    """Compare a dict of tensors with the dtypes and shapes that its class's docstring gives."""
    hints = typing.get_type_hints(described, include_extras=True)
    optional = {name for name, hint in hints.items() if "NotRequired" in str(hint)}
    assert set(hints) - optional <= set(value) <= set(hints)
    entries = re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w|\Z)", described.__doc__, re.M | re.S)
    assert {name for name, _ in entries} == set(hints)
    compared = 0
    for name, words in entries:
        found = re.match(r"(Int32|Bool|Float32) (?:`\((.*?),?\)`|scalar)", words)
        if found and value.get(name) is not None:
            tensor = ops.convert_to_tensor(value[name])
            assert tensor.dtype == found[1].lower(), name
            shape = [size for size in (found[2] or "").split(", ") if size]
            assert tensor.shape == [int(size) if size.isdigit() else sizes[size] for size in shape]
            compared += 1
    return compared


@pytest.mark.parametrize("method", METHODS)
def test_state_has_the_fields_dtypes_and_shapes_that_it_says(model, method):
    prefix = np.full((SIZES["B"], SIZES["P"]), 4, "int32") if method == "beam" else None
    _, beginning, begun = start(model, METHODS[method], prefix)
    slots = begun["slots"].shape[0]
    hypotheses = 1 if method == "greedy" else SIZES["K"]
    sizes = {**SIZES, "K": hypotheses, "N": 6, "T": 9, "slots": slots}
    assert check(state.Beginning, beginning, sizes) >= 2
    assert check(state.SearchState, begun, sizes) == 2
    assert check(state.Rows, begun["rows"], sizes) >= 6
    assert check(state.ModelCache, begun["rows"]["cache"], sizes) == 1
    target, memory = (begun["rows"]["cache"][name][0][0].shape for name in ("target", "memory"))
    assert target == (SIZES["B"], SIZES["H"], slots, SIZES["d_k"])
    assert memory == (SIZES["B"], SIZES["H"], SIZES["S"], SIZES["d_k"])


def test_state_of_a_round_has_the_fields_that_it_says(model, monkeypatch):
    search, beginning, _ = start(model, METHODS["beam"])
    seen = []

    def first_state(condition, body, begun):
        seen.append(begun)
        return begun

    monkeypatch.setattr(search_module, "while_loop", first_state)
    search.run(**beginning)
    assert check(state.Round, seen[0], {**SIZES, "N": 6, "T": 9}) == 3


def test_every_name_of_a_type_says_what_it_is():
    source = Path(keras_transformer.typing.__file__).read_text("utf-8")
    names = re.findall(r"^(\w+): TypeAlias", source, re.M)
    said = re.findall(r'^(\w+): TypeAlias = [^\n]+\n"""[A-Z]', source, re.M)
    assert names and said == names
