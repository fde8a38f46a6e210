"""Tests of keras_transformer.models.config."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from keras_transformer.errors import InputError
from keras_transformer.models import (
    BertConfig,
    GptConfig,
    TransformerConfig,
    VisionTransformerConfig,
)
from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID, PRESETS, UNKNOWN_ID


def test_special_tokens_take_the_first_ids():
    assert (PADDING_ID, UNKNOWN_ID, BEGIN_ID, END_ID) == (0, 1, 2, 3)


def test_defaults_are_the_base_model_of_the_paper():  # L31, L39, W16
    config = TransformerConfig(37000)
    assert config == TransformerConfig.preset("base", 37000)
    assert (config.num_layers, config.num_heads, config.d_model, config.d_ff) == (6, 8, 512, 2048)
    assert (config.dropout, config.embedding_dropout) == (0.1, 0.1)
    assert (config.attention_dropout, config.ffn_dropout) == (0, 0)  # extras of later years
    assert (config.activation, config.norm_first, config.positions) == ("relu", False, "sinusoidal")
    assert config.scale_embeddings
    assert config.tie_embeddings
    assert config.layer_norm_epsilon == 1e-6


def test_big_is_the_other_model_of_the_paper():  # W16
    config = TransformerConfig.preset("big", 37000)
    assert (config.num_layers, config.num_heads, config.d_model, config.d_ff) == (6, 16, 1024, 4096)
    assert (config.dropout, config.embedding_dropout) == (0.3, 0.3)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_takes_changes(name):
    config = TransformerConfig.preset(name, 100, num_layers=2, positions="learned")
    assert config.vocabulary_size == 100
    assert (config.num_layers, config.positions) == (2, "learned")
    assert config.d_model == TransformerConfig.preset(name, 100).d_model


def test_presets_differ_and_grow():
    widths = [
        TransformerConfig.preset(name, 100).d_model for name in ("tiny", "small", "base", "big")
    ]
    assert widths == sorted(set(widths))


def test_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="no preset 'huge'; choose one of tiny, small, base, big"):
        TransformerConfig.preset("huge", 100)


def test_json_gives_back_the_configuration():
    config = TransformerConfig(
        11, 2, 3, 12, 16, "gelu", 0.3, 0.2, 0.4, 0.5, True, 1e-5, "learned", 7, False, False, True,
        "rms", True, False, 6, None, "additive", True, True, 8, 9, 4, 5, 6, 3, True, 2,
    )  # fmt: skip
    fields = config.to_dict()
    same = [f.name for f in dataclasses.fields(config) if fields[f.name] == f.default]
    assert same == ["num_kv_heads"]  # it and additive attention exclude each other
    assert TransformerConfig.from_dict(json.loads(json.dumps(fields))) == config


def test_attentions_that_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="positions='shaw' and num_kv_heads=2 can't be combined"):
        TransformerConfig(11, positions="shaw", num_kv_heads=2)


def test_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransformerConfig(11).d_model = 8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary_size": 11, "heads": 2, "depth": 3}, "Unknown fields .*: depth, heads"),
        ({"num_layers": 2}, "no vocabulary_size"),
        ({"vocabulary_size": 3}, "vocabulary_size must be larger than 3"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("vocabulary_size", 3, "must be larger than 3"),
        ("num_layers", 0, "must be at least 1"),
        ("num_heads", 0, "must be at least 1"),
        ("d_model", -8, "must be at least 1"),
        ("d_ff", 0, "must be at least 1"),
        ("max_length", 1, "must be at least 2"),
        ("dropout", 1.0, r"must be in \[0, 1\)"),
        ("dropout", float("nan"), r"must be in \[0, 1\)"),
        ("embedding_dropout", -0.1, r"must be in \[0, 1\)"),
        ("attention_dropout", 1.5, r"must be in \[0, 1\)"),
        ("ffn_dropout", 2, r"must be in \[0, 1\)"),
        ("layer_norm_epsilon", 0, "must be positive"),
        ("positions", "sideways", "must be one of sinusoidal, learned, rotary"),
        ("norm", "group", "must be one of layer, rms, batch"),
        ("num_kv_heads", 3, "must divide num_heads=8"),
    ],
)
def test_value_out_of_range_is_refused_by_name(name, value, rule):
    with pytest.raises(ValueError, match=f"{name} {rule}.*, got {value!r}"):
        TransformerConfig(**{"vocabulary_size": 11, name: value})


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("num_layers", 2.0, "a whole number"),
        ("d_model", True, "a whole number"),
        ("num_kv_heads", "2", "a whole number"),
        ("begin_id", None, "a whole number"),
        ("dropout", "0.1", "a number"),
        ("layer_norm_epsilon", False, "a number"),
        ("norm_first", 1, "True or False"),
        ("tie_embeddings", "no", "True or False"),
        ("activation", None, "a text"),
    ],
)
def test_value_of_another_kind_is_refused_by_name(name, value, kind):
    with pytest.raises(InputError, match=f"{name} must be {kind}, got {value!r}"):
        TransformerConfig.from_dict({"vocabulary_size": 10, name: value})


def test_numbers_of_numpy_are_numbers():
    config = TransformerConfig(np.int64(10), dropout=np.float32(0.5), num_kv_heads=None)
    assert config.vocabulary_size == 10


def test_number_of_heads_must_divide_the_width():  # L04
    with pytest.raises(ValueError, match="d_model=512 and num_heads=7"):
        TransformerConfig(11, num_heads=7)


def test_only_learned_positions_may_have_an_odd_width():
    with pytest.raises(ValueError, match="even d_model, got 15"):
        TransformerConfig(11, num_heads=3, d_model=15)
    assert TransformerConfig(11, num_heads=3, d_model=15, positions="learned").d_model == 15


@pytest.mark.parametrize(
    ("config", "more"),
    [
        (TransformerConfig(9), {}),
        (TransformerConfig(9, source_begin_id=5), {"source_begin_id": 6}),
        (BertConfig(9), {"mask_id": 8}),
        (GptConfig(9), {"begin_id": 7}),  # the end of a text is the beginning of the next
    ],
)
def test_a_tokenizer_decides_the_ids_of_special_tokens(config, more):
    tokenizer = SimpleNamespace(padding_id=4, begin_id=6, end_id=7, mask_id=8, unknown_id=3)
    ids = config.special_ids(tokenizer)
    assert ids == {"padding_id": 4, "begin_id": 6, "end_id": 7, **more}
    assert dataclasses.replace(config, **ids).end_id == 7


def test_the_longest_sequence_is_of_text_or_of_patches():
    assert TransformerConfig(9, max_length=17).longest == 17
    config = VisionTransformerConfig(image_size=8, patch_size=2, d_model=8, num_heads=2)
    assert config.longest == 4 * 4 + 1
