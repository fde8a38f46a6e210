"""Tests of keras_transformer.models.flops and of the command `flops`.

Also: cli.costs.
"""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from fixtures_cli import call
from fixtures_flops import (
    CONFIG,
    ROWS,
    SOURCE,
    TARGET,
    counted_by_shapes,
    counted_by_tensorflow,
    ids,
    profiled,
)

import keras_transformer as kt
from keras_transformer.cli.costs import in_words
from keras_transformer.layers import EncoderBlock, FeedForward, MultiHeadAttention
from keras_transformer.models import Transformer, TransformerConfig, flops
from keras_transformer.models.flops import MultiplyAdds

__all__ = ["call"]

# --- The terms of attention -----------------------------------------------------------------------


def terms(n, d):
    """The projections, and scores with mixing."""
    part = flops.attention(d, n, n)
    return part.input_projections + part.output_projection, part.scores + part.mixing


@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 5), (512, 512), (1000, 64)])
def test_attention_is_the_textbooks_formula(n, d):  # C08
    assert terms(n, d) == (4 * n * d**2, 2 * n**2 * d)
    assert flops.attention(d, n, n).total == 4 * n * d**2 + 2 * n**2 * d


@pytest.mark.parametrize("d", [1, 64, 512])
def test_both_terms_are_equal_at_twice_the_width(d):  # C08
    projections, scores = terms(2 * d, d)
    assert projections == scores
    assert terms(2 * d - 1, d)[0] > terms(2 * d - 1, d)[1]
    assert terms(2 * d + 1, d)[0] < terms(2 * d + 1, d)[1]


def test_doubling_the_length_doubles_one_and_quadruples_the_other():  # C08
    short, long = terms(100, 64), terms(200, 64)
    assert (long[0] / short[0], long[1] / short[1]) == (2, 4)


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
def test_heads_change_nothing(heads):  # C08
    layer = MultiHeadAttention(heads, 8)
    count = counted_by_tensorflow(layer, (ROWS, SOURCE, 8))
    assert count == ROWS * flops.attention(8, SOURCE, SOURCE).flops
    config = dataclasses.replace(CONFIG, num_heads=heads)
    assert flops.training_step(config, 5, 7) == flops.training_step(CONFIG, 5, 7)


# --- What TensorFlow counts -----------------------------------------------------------------------


def test_an_operation_is_half_a_multiply_add():
    count = counted_by_tensorflow(tf.matmul, (3, 5), (5, 7))
    assert count == 2 * 3 * 5 * 7
    assert MultiplyAdds(scores=3 * 5 * 7).flops == count


def test_cross_attention_agrees():
    layer = MultiHeadAttention(2, 8)
    count = counted_by_tensorflow(layer, (ROWS, TARGET, 8), (ROWS, SOURCE, 8))
    assert count == ROWS * flops.attention(8, TARGET, SOURCE).flops


def test_feed_forward_network_and_encoder_block_agree():
    network = counted_by_tensorflow(FeedForward(12, 8), (ROWS, SOURCE, 8))
    assert network == ROWS * flops.feed_forward(CONFIG, SOURCE).flops
    block = counted_by_tensorflow(EncoderBlock(2, 8, 12), (ROWS, SOURCE, 8))
    assert block == ROWS * flops.encoder_block(CONFIG, SOURCE).flops


@pytest.mark.parametrize(
    "changes", [{}, {"num_layers": 1, "d_ff": 20, "vocabulary_size": 9}, {"tie_embeddings": False}]
)
def test_the_whole_model_agrees(changes):  # E06
    config = dataclasses.replace(CONFIG, **changes)
    model = Transformer(config)

    @tf.function(input_signature=[ids(SOURCE), ids(TARGET)])
    def logits(source, target):
        return model({"source_ids": source, "target_ids": target}, training=False)

    graph = logits.get_concrete_function().graph
    expected = ROWS * flops.forward_pass(config, SOURCE, TARGET).flops
    assert profiled(graph) == counted_by_shapes(graph) == expected


@pytest.mark.parametrize("recompute", [False, True])
def test_the_training_step_agrees(recompute):  # E06
    config = dataclasses.replace(CONFIG, recompute=recompute)
    model = Transformer(config)
    model.compile(kt.training.paper_adam(1e-3), kt.training.CrossEntropy(0.1), jit_compile=False)
    model.optimizer.build(model.trainable_variables)

    @tf.function(input_signature=[ids(SOURCE), ids(TARGET), ids(TARGET)])
    def step(source, target, labels):
        return model.train_step(({"source_ids": source, "target_ids": target}, labels))

    expected = flops.training_step(config, SOURCE, TARGET)
    assert counted_by_shapes(step.get_concrete_function().graph) == ROWS * expected.flops
    forward = flops.forward_pass(config, SOURCE, TARGET)
    assert (expected == 3 * forward) is not recompute
    assert expected.logits == 3 * forward.logits  # these are never computed again


def test_decoding_agrees():  # E06
    model = Transformer(CONFIG)
    encoder = tf.function(model.encoder).get_concrete_function(ids(SOURCE)).graph
    assert profiled(encoder) == ROWS * flops.encoding(CONFIG, SOURCE).flops

    slots = 6

    def cache(length):
        pair = (tf.TensorSpec((ROWS, 2, length, 4)),) * 2
        return [pair] * CONFIG.num_layers

    step = tf.function(model.decoder_step).get_concrete_function(
        (
            ids(1),
            tf.TensorSpec((), tf.int32),
            cache(slots),
            tf.TensorSpec((1, 1, slots), tf.bool),
            tf.TensorSpec((ROWS, 1, SOURCE)),
            cache(SOURCE),
        )
    )
    assert profiled(step.graph) == ROWS * flops.decoding_step(CONFIG, SOURCE, slots).flops


# --- Sums -----------------------------------------------------------------------------------------


def test_the_parts_sum_up():
    parts = MultiplyAdds(1, 2, 4, 8, 16, 32)
    assert parts.total == 63
    assert 3 * parts == parts * 3 == parts + parts + parts
    blocks = flops.encoder_block(CONFIG, 5) + flops.decoder_block(CONFIG, 5, 7)
    whole = flops.forward_pass(CONFIG, 5, 7)
    assert whole == 2 * blocks + flops.logits(CONFIG, 7)
    assert all(dataclasses.astuple(whole))


def test_with_caches_a_target_costs_what_the_visible_half_of_one_pass_does():
    # Of T x T scores a step for each position computes those that the causal mask lets through.
    steps = flops.decoding(CONFIG, SOURCE, TARGET)
    at_once = flops.forward_pass(CONFIG, SOURCE, TARGET)
    hidden = CONFIG.num_layers * TARGET * (TARGET - 1) // 2 * CONFIG.d_model
    assert at_once.scores - steps.scores == at_once.mixing - steps.mixing == hidden
    same = {"scores": 0, "mixing": 0}
    assert dataclasses.replace(steps, **same) == dataclasses.replace(at_once, **same)


# --- The command ----------------------------------------------------------------------------------


def test_command_shows_terms_and_shares(call):  # C08, E06
    status, output, error = call("flops --n 512 --d 512 --rows 2")
    assert (status, error) == (0, "")
    assert "projections         4 n d^2 = 536,870,912\n" in output
    assert "scores and mixing   2 n^2 d = 268,435,456\n" in output
    assert "equal at            n = 2 d = 1,024\n" in output
    config = TransformerConfig.preset("base", 8000)
    totals = [line.split() for line in output.splitlines() if line.startswith("total")]
    training, step = (
        2 * part.flops
        for part in (flops.training_step(config, 512, 512), flops.decoding_step(config, 512, 512))
    )
    assert totals[0][-3:] == [*in_words(training).split(), "100.0%"]
    assert totals[1][-3:] == [*in_words(step).split(), "100.0%"]


def test_shares_add_up_in_every_column(call):
    output = call("flops --preset tiny --n 30")[1]
    tables = re.split(r"\n\n(?=training step|decoding step)", output)[1:]
    assert len(tables) == 2
    for table in tables:
        rows = [re.findall(r"([\d.]+)%", line) for line in table.splitlines()[1:]]
        *terms, total = np.array([row for row in rows if row], float)
        assert len(terms) == 6
        np.testing.assert_allclose(np.sum(terms, axis=0), total, atol=0.3)
        np.testing.assert_array_equal(total, 100)


def test_width_takes_the_feed_forward_along(call):
    assert "d = 1,024, d_ff = 4,096, 8,000 pieces" in call("flops --d 1024")[1]
    assert "d = 64, d_ff = 128, 99 pieces" in call("flops --preset tiny --d 64 --vocab-size 99")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--preset huge", "no preset 'huge'; choose one of tiny, small, base, big"),
        ("--d 100", "d_model=100 and num_heads=8"),
    ],
)
def test_bad_values_are_refused(call, arguments, message):
    status, output, error = call(f"flops {arguments}")
    assert (status, output, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize("option", ["--n 0", "--d 0", "--rows 0", "--vocab-size 3", "--n many"])
def test_a_wrong_option_is_named(call, option):
    status, output, error = call(f"flops {option}")
    assert (status, output) == (2, "")
    assert option.split()[0] in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0 k"), (25e9, "25.0 G"), (1.5e15, "1.5 P")],
)
def test_operations_in_words(count, text):
    assert in_words(count) == text
