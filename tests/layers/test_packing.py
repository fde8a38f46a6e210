"""Tests of keras_transformer.layers.packing."""

import numpy as np
import pytest
import tensorflow as tf
from oracles import assert_close, shake

from keras_transformer.layers import Encoder, attend_to, packing
from keras_transformer.layers.packing import Packing, packing_tokens
from keras_transformer.models.assembly import stack_arguments
from keras_transformer.models.bert import BertConfig

LENGTHS = [3, 7, 1, 5]
MASK = np.arange(7) < np.array(LENGTHS)[:, None]
HOLES = np.array([[True, False, True, True], [False, True, True, False], [False] * 4])
KINDS = {
    "plain": {},
    "norm first": {"norm_first": True, "norm": "rms", "gated": True},
    "grouped": {"num_kv_heads": 1},
    "rotary": {"positions": "rotary"},
    "buckets": {"positions": "buckets"},
    "shaw": {"positions": "shaw"},
    "transformer-xl": {"positions": "transformer-xl"},
    "additive": {"attention": "additive"},
    "shared": {"share_layers": True},
}


def encoder(rng, **options):
    config = BertConfig(vocabulary_size=9, num_layers=2, num_heads=2, d_model=8, d_ff=16, **options)
    stack = Encoder(config.num_layers, **stack_arguments(config, causal=False))
    stack.build((None, None, 8))
    shake(stack, rng)
    return stack


def graph_of(stack):
    """Return the stack as a graph for batches of all sizes, traced now."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, 8]), tf.TensorSpec([None, None], bool)],
        autograph=False,
    )
    def graph(x, mask):
        return stack(x, attention_mask=attend_to(mask))

    return graph.get_concrete_function()


@pytest.mark.parametrize("kind", KINDS)
def test_packed_tokens_get_what_they_get_beside_padding(rng, kind):
    stack = encoder(rng, **KINDS[kind])
    beside_padding = graph_of(stack)
    with packing_tokens():
        without = graph_of(stack)
    for mask in (MASK, HOLES, MASK[:, :1], MASK[:0]):
        x = tf.constant(rng.normal(size=(*mask.shape, 8)), "float32")
        plain, packed = (graph(x, tf.constant(mask)).numpy() for graph in (beside_padding, without))
        assert packed.shape == plain.shape
        assert np.isfinite(packed).all()
        assert_close(packed[mask], plain[mask], 1e-5)


def test_nothing_is_computed_of_padding(rng, monkeypatch):
    seen = []
    pack = Packing.pack

    def watched(self, x):
        packed = pack(self, x)
        tf.py_function(lambda n: seen.append(int(n)), [tf.shape(packed)[0]], [])
        return packed

    monkeypatch.setattr(Packing, "pack", watched)
    for lengths in (LENGTHS, [30, 37]):
        mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        with packing_tokens():
            graph_of(encoder(rng))(tf.zeros((*mask.shape, 8)), tf.constant(mask))
    assert seen == [16, 72]  # 67 tokens and five more, as many tokens come in eights


@pytest.mark.parametrize(
    ("options", "call", "axis"),
    [({"norm": "batch"}, {}, 7), ({}, {"training": True}, 7), ({}, {}, 1)],
    ids=["batch norm", "training", "a mask of pairs"],
)
def test_what_can_not_be_packed_is_not(rng, options, call, axis, monkeypatch):
    monkeypatch.setattr(packing, "Packing", None)
    stack = encoder(rng, **options)
    mask = tf.ones((4, 1 if axis == 7 else 7, 7), bool)
    with packing_tokens():
        stack(rng.normal(size=(4, 7, 8)).astype("float32"), attention_mask=mask, **call)
        assert packing.wanted()
    assert not packing.wanted()
    assert packing.current() is None


def test_tokens_go_back_to_their_places(rng):
    x = rng.normal(size=(4, 7, 8)).astype("float32")
    some = Packing(tf.constant(MASK))
    packed = some.pack(tf.constant(x))
    assert_close(packed, x[MASK], 0)
    assert_close(some.unpack(packed).numpy()[MASK], x[MASK], 0)
    heads = some.split_heads(packed, 2).numpy()
    assert heads.shape == (4, 2, 7, 4)
    assert_close(heads.transpose(0, 2, 1, 3).reshape(4, 7, 8)[MASK], x[MASK], 0)
    assert_close(some.join_heads(tf.constant(heads)), x[MASK], 0)
