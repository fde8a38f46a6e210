"""Every field that changes the work: the formula of flops beside TensorFlow's profiler."""

import dataclasses

import pytest
import tensorflow as tf
from fixtures_flops import CONFIG, ROWS, SOURCE, TARGET, counted_by_shapes, ids, profiled

import keras_transformer as kt
from keras_transformer.models import Transformer, flops

FIELDS = {
    "decoder layers": {"num_decoder_layers": 1},
    "gate": {"gated": True},
    "shared keys": {"num_kv_heads": 1},
    "wide heads": {"head_width": 6},
    "narrow heads": {"head_width": 2, "num_kv_heads": 1},
    "one block": {"share_layers": True},
    "two tables": {"tie_embeddings": False, "logits_bias": True},
    "no biases": {"use_bias": False},
    "rms": {"norm": "rms", "norm_first": True, "norm_embeddings": True},
    "learned": {"positions": "learned"},
    "rotary": {"positions": "rotary"},
    "alibi": {"positions": "alibi"},
    "buckets": {"positions": "buckets", "num_buckets": 6, "max_distance": 4},
    "shaw": {"positions": "shaw", "max_distance": 3},
    "transformer-xl": {"positions": "transformer-xl"},
    "additive": {"attention": "additive"},
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_formula_is_what_tensorflow_counts(name):
    config = dataclasses.replace(CONFIG, **FIELDS[name])
    model = Transformer(config)

    @tf.function(input_signature=[ids(SOURCE), ids(TARGET)])
    def logits(source, target):
        return model({"source_ids": source, "target_ids": target}, training=False)

    graph = logits.get_concrete_function().graph
    expected = ROWS * flops.forward_pass(config, SOURCE, TARGET).flops
    if name == "transformer-xl":  # a batch projects the distances once
        once = (2 * SOURCE - 1) + (2 * TARGET - 1)
        expected -= 2 * (ROWS - 1) * config.num_layers * once * config.d_model**2
    assert profiled(graph) == counted_by_shapes(graph) == expected


TOGETHER = {**FIELDS["decoder layers"], **FIELDS["gate"], **FIELDS["narrow heads"]}


@pytest.mark.parametrize("fields", [TOGETHER, FIELDS["shaw"]])
def test_decoding_and_training_are_too(fields):
    config = dataclasses.replace(CONFIG, **fields)
    model = Transformer(config)
    encoder = tf.function(model.encoder).get_concrete_function(ids(SOURCE)).graph
    assert profiled(encoder) == ROWS * flops.encoding(config, SOURCE).flops

    slots, heads = 6, config.num_kv_heads or config.num_heads

    def cache(heads, length):
        pair = (tf.TensorSpec((ROWS, heads, length, config.key_width)),) * 2
        return [pair] * config.decoder_layers

    arguments = (
        ids(1),
        tf.TensorSpec((), tf.int32),
        cache(heads, slots),
        tf.TensorSpec((1, 1, slots), tf.bool),
        tf.TensorSpec((ROWS, 1, SOURCE)),
        cache(config.num_heads, SOURCE),
    )
    step = tf.function(model.decoder_step).get_concrete_function(arguments).graph
    assert profiled(step) == ROWS * flops.decoding_step(config, SOURCE, slots).flops

    model.compile("sgd", kt.training.CrossEntropy(0.1), jit_compile=False)
    model.optimizer.build(model.trainable_variables)

    @tf.function(input_signature=[ids(SOURCE), ids(TARGET), ids(TARGET)])
    def train(source, target, labels):
        return model.train_step(({"source_ids": source, "target_ids": target}, labels))

    expected = ROWS * flops.training_step(config, SOURCE, TARGET).flops
    assert counted_by_shapes(train.get_concrete_function().graph) == expected


def test_fields_together_make_the_whole():
    config = dataclasses.replace(CONFIG, num_decoder_layers=5, gated=True, head_width=6)
    encoder, decoder = flops.encoder_block(config, 5), flops.decoder_block(config, 5, 7)
    assert flops.forward_pass(config, 5, 7) == 2 * encoder + 5 * decoder + flops.logits(config, 7)
    assert flops.feed_forward(config, 1).total == 3 * 8 * 12
    assert flops.self_attention(config, 1, 1).total == 4 * 8 * 12 + 2 * 12
