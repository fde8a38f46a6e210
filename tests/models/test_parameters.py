"""Tests of keras_transformer.models.parameters and of the command `params`."""

import dataclasses
import re

import pytest
import typer
from fixtures_families import without_decoding
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from keras_transformer.cli.costs import params
from keras_transformer.errors import InputError
from keras_transformer.models import TransformerConfig
from keras_transformer.models.families import FAMILIES, find_preset
from keras_transformer.models.parameters import (
    Parameters,
    count_attention,
    count_feed_forward,
    count_parameters,
)

__all__ = ["without_decoding"]

# --- The formula and the models -------------------------------------------------------------------

# Every size is another one, so that no two can be mistaken for each other.
SIZES = {
    "num_layers": st.integers(1, 2),
    "num_heads": st.sampled_from([1, 2, 4]),
    "d_model": st.sampled_from([8, 12]),
    "d_ff": st.sampled_from([5, 14]),
    "norm_first": st.booleans(),
    "norm": st.sampled_from(["layer", "rms", "batch"]),
    "gated": st.booleans(),
    "use_bias": st.booleans(),
    "head_width": st.sampled_from([None, 6, 10]),
    "share_layers": st.booleans(),
}
TEXT = {
    "vocabulary_size": st.sampled_from([17, 23]),
    "max_length": st.sampled_from([7, 9]),
    "tie_embeddings": st.booleans(),
    "positions": st.sampled_from(
        ["sinusoidal", "learned", "rotary", "alibi", "buckets", "shaw", "transformer-xl", "none"]
    ),
    "num_kv_heads": st.sampled_from([None, None, 1, 2]),
    "attention": st.sampled_from(["dot-product", "dot-product", "additive"]),
    "norm_embeddings": st.booleans(),
    "num_buckets": st.sampled_from([8, 32]),
    "max_distance": st.sampled_from([11, 16]),
    "padding_id": st.just(0),
    "begin_id": st.just(2),
    "end_id": st.just(3),
}
ENCODER = {
    **TEXT,
    "num_segments": st.integers(0, 3),
    "embedding_width": st.sampled_from([None, 4, 6]),
    "pooler": st.booleans(),
    "mask_id": st.just(4),
}
BOTH_SIDES = {
    **TEXT,
    "num_decoder_layers": st.sampled_from([None, 1, 3]),
    "logits_bias": st.booleans(),
}
FIELDS = {
    "transformer": BOTH_SIDES,
    "t5": BOTH_SIDES,
    "bart": BOTH_SIDES,
    "bert": ENCODER,
    "roberta": ENCODER,
    "electra": ENCODER,
    "gpt": TEXT,
    "vit": {
        "positions": st.sampled_from(["learned", "none"]),
        "image_size": st.sampled_from([8, 12]),
        "patch_size": st.sampled_from([2, 4]),
        "channels": st.sampled_from([1, 3]),
        "num_classes": st.sampled_from([0, 7]),
    },
}


def test_every_family_is_tested():
    assert set(FIELDS) == set(FAMILIES)
    deciding = {
        field.name
        for cls in FAMILIES.values()
        for field in dataclasses.fields(cls.config_class)
        if not re.search("dropout|activation|epsilon|recompute|scale_|source_begin", field.name)
    }
    assert deciding == {name for fields in FIELDS.values() for name in {**SIZES, **fields}}


EXAMPLES = {"transformer": 6, "bert": 6, "gpt": 5, "electra": 4, "vit": 4}  # 3 of their kin


@pytest.mark.usefixtures("without_decoding")
@pytest.mark.parametrize("family", FIELDS)
def test_the_formula_counts_what_the_model_has(family):  # E04, L34
    cls = FAMILIES[family]

    @settings(
        max_examples=EXAMPLES.get(family, 3),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(fields=st.fixed_dictionaries({**SIZES, **FIELDS[family]}))
    def check(fields):
        try:
            config = cls.config_class(**fields)
        except InputError:
            assume(False)
        assert count_parameters(config).total == cls(config).count_params()

    check()


@pytest.mark.usefixtures("without_decoding")
@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("base", {"positions": "transformer-xl"}),
        ("base", {"positions": "shaw", "max_distance": 3}),
        ("base", {"num_kv_heads": 2}),
        ("base", {"attention": "additive", "head_width": 6}),
        ("bert-tiny", {"positions": "learned", "embedding_width": 5}),
    ],
)
def test_each_kind_of_attention_and_positions_is_counted(preset, changes):  # E04
    sizes = {"num_layers": 1, "num_heads": 4, "d_model": 8, "d_ff": 12, "max_length": 7}
    config = find_preset(preset, 17, **{**sizes, **changes})
    plain = find_preset(preset, 17, **sizes)
    assert count_parameters(config) != count_parameters(plain)
    assert count_parameters(config).total == FAMILIES[config.family](config).count_params()


@pytest.mark.parametrize(
    ("name", "vocabulary_size", "count"),
    [
        ("base", 37000, 63_082_496),
        ("bert-base", None, 109_482_240),
        ("bert-large", None, 335_141_888),
        ("roberta-base", None, 124_645_632 - 2 * 768),  # less the offset of its positions
        ("gpt1", None, 116_534_784),
        ("gpt2", None, 124_439_808),
        ("gpt2-medium", None, 354_823_168),
        ("gpt2-large", None, 774_030_080),
        ("gpt2-xl", None, 1_557_611_200),
        ("t5-small", None, 60_506_624),
        ("t5-base", None, 222_903_552),
        ("vit-b-16", None, 86_567_656),
        ("vit-l-16", None, 304_326_632),
    ],
)
def test_published_sizes_by_formula(name, vocabulary_size, count):  # M02, M03, M04, M05, E04
    assert count_parameters(find_preset(name, vocabulary_size)).total == count


@pytest.mark.parametrize("name", ["bert-base", "gpt1", "vit-b-16"])
def test_published_sizes_built(name):  # M02, M03, M04, E04
    config = find_preset(name)
    model = FAMILIES[config.family](config)
    assert model.count_params() == count_parameters(config).total


# --- The terms ------------------------------------------------------------------------------------


def test_the_parts_sum_up():
    parts = Parameters(1, 2, 4, 8, 16, 32)
    assert parts.total == 63
    assert 3 * parts == parts * 3 == parts + parts + parts


def test_terms_are_those_of_their_layers():
    config = find_preset("base", 37000, positions="learned", max_length=10, tie_embeddings=False)
    count = count_parameters(config)
    assert count.embeddings == 2 * 37000 * 512
    assert count.head == 37000 * 512
    assert count.positions == 2 * 10 * 512
    assert count.norms == 5 * 6 * 2 * 512
    assert count.attention == 18 * count_attention(config).attention == 18 * 1_050_624
    assert count.feed_forward == 12 * count_feed_forward(config).feed_forward


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
def test_heads_share_the_width(heads):  # C09, C10, W10
    config = find_preset("base", 37000, num_heads=heads)
    assert count_attention(config).total == 1_050_624
    assert count_parameters(config) == count_parameters(find_preset("base", 37000))
    # Without the reduction every head is as wide as the model, and each costs as much again.
    wide = dataclasses.replace(config, head_width=512)
    assert count_attention(wide).total == heads * (3 * 512 * 513 + 512 * 512) + 512
    assert count_attention(dataclasses.replace(wide, num_heads=8)).total == 8_401_408


def test_feed_forward_is_two_thirds_of_an_encoder_layer():  # C36
    config = find_preset("base", 37000)
    parts = count_attention(config), count_feed_forward(config)
    layer = parts[0].total + parts[1].total + 4 * 512
    assert layer == 3_152_384
    assert round(parts[1].total / layer, 3) == 0.666


def test_a_tied_table_saves_two_more():  # L33
    tied = count_parameters(find_preset("base", 37000))
    apart = count_parameters(find_preset("base", 37000, tie_embeddings=False))
    assert apart.total - tied.total == 2 * 37000 * 512
    assert round(tied.total / 1e6, 1) == 63.1 and round(apart.total / 1e6, 1) == 101.0


def test_shared_layers_are_counted_once():  # L34, W1
    apart, shared = (
        count_parameters(find_preset("bert-base", share_layers=share)) for share in (False, True)
    )
    assert (apart.attention, apart.feed_forward) == (
        12 * shared.attention,
        12 * shared.feed_forward,
    )
    assert apart.embeddings == shared.embeddings
    config = TransformerConfig(37000)
    assert config.share_layers is False


# --- The command ----------------------------------------------------------------------------------

app = typer.Typer()
app.command("params")(params)


def call(arguments):
    return CliRunner().invoke(app, arguments.split())


def rows_of(output):
    found = re.findall(r"^([a-z][a-z -]*?)  +([\d,]+) +([\d.]+)%$", output, re.MULTILINE)
    return {name: (int(count.replace(",", "")), float(share)) for name, count, share in found}


@pytest.mark.parametrize("name", ["bert-base", "gpt2", "t5-v1.1-small", "bart-base", "vit-b-16"])
def test_command_shows_terms_and_shares(name):  # E04
    result = call(f"--preset {name}")
    assert result.exit_code == 0, result.output
    config = find_preset(name)
    count = count_parameters(config)
    rows = rows_of(result.output)
    assert rows.pop("total") == (count.total, 100.0)
    assert [row[0] for row in rows.values()] == list(dataclasses.astuple(count))
    assert sum(row[1] for row in rows.values()) == pytest.approx(100, abs=0.3)
    assert f"family {config.family}, " in result.output


def test_command_says_that_heads_change_nothing():  # C10, W10
    output = call("--preset bert-base").output
    assert "The number of heads changes nothing" in output
    assert "With 1, 2, 4, 8, 12, 16, 32 heads: 109,482,240 each." in output
    assert "With 1, 3, 9 heads" not in output


def test_heads_that_do_not_divide_the_width_are_left_out():
    output = call("--preset base --vocab-size 37000 --set d_model=510 --set num_heads=3").output
    assert "With 1, 2, 3 heads: " in output


@pytest.mark.parametrize(
    ("arguments", "changing", "why"),
    [
        ("--preset t5-small", "positions", "each head has biases of its own"),
        (
            "--preset t5-v1.1-small",
            "positions and attention",
            "the width of a head is given and each head has biases",
        ),
        ("--preset gpt-modern --vocab-size 99", "attention", "keys and values is given"),
        ("--preset gpt2 --set positions=shaw", "positions", "as wide as a head"),
    ],
)
def test_command_says_where_heads_count(arguments, changing, why):
    output = call(arguments).output
    assert f"The number of heads changes {changing} alone: " in output
    assert why in output
    assert "changes nothing" not in output
    totals = re.findall(r"heads: +(\d+)   ([\d,]+)$", output, re.MULTILINE)
    assert len(totals) >= 4
    assert len({total for _, total in totals}) > 1


def test_settings_have_the_type_of_their_field():
    output = call(
        "--preset base --vocab-size 99 --set tie_embeddings=False --set dropout=0.5 "
        "--set num_kv_heads=none --set positions=learned --set max_length=9"
    ).output
    expected = count_parameters(
        TransformerConfig(99, tie_embeddings=False, positions="learned", max_length=9)
    )
    assert rows_of(output)["total"][0] == expected.total


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--preset huge", "no preset 'huge'; choose one of tiny, .*, bert-tiny, .*, vit-tiny"),
        ("--preset t5_small", "no preset 't5_small'; did you mean 't5-small'?"),
        ("--preset base", "'base' has no vocabulary: give --vocab-size"),
        (
            "--preset gpt2 --set heads=3",
            "--set heads=3 does not set a known field by NAME=VALUE; .*vocab",
        ),
        (
            "--preset gpt2 --set num_heads",
            "--set num_heads does not set a known field by NAME=VALUE",
        ),
        ("--preset gpt2 --set num_heads=many", "--set num_heads: 'many' is not of type int"),
        ("--preset gpt2 --set use_bias=1", "--set use_bias: '1' is not one of true, false"),
        ("--preset gpt2 --set head_width=x", "--set head_width: 'x' is not of type int or none"),
        ("--preset gpt2 --set num_heads=5", "d_model=768 and num_heads=5"),
    ],
)
def test_bad_values_are_refused(arguments, message):
    result = call(arguments)
    assert type(result.exception) is InputError
    assert re.search(message, str(result.exception))
    assert "\n" not in str(result.exception)
