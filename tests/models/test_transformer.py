"""Tests of keras_transformer.models.transformer.

Also: models.decoding_graphs.
"""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_toy import toy
from keras import ops
from oracles import assert_close, largest_difference, shake

from keras_transformer.decoding import generate
from keras_transformer.layers import causal_mask
from keras_transformer.models import Transformer, TransformerConfig
from keras_transformer.training import CrossEntropy, TokenAccuracy, paper_adam

TINY = TransformerConfig(13, num_layers=2, num_heads=2, d_model=8, d_ff=16, max_length=16)
STILL = {"dropout": 0.0, "embedding_dropout": 0.0}
PAPER = {"norm_first": False, "positions": "sinusoidal", "tie_embeddings": True}
OTHER = {"norm_first": True, "positions": "learned", "tie_embeddings": False}
KINDS = pytest.mark.parametrize("kind", [PAPER, OTHER], ids=["paper", "other"])

SOURCE = np.array([[5, 6, 7, 3], [8, 3, 0, 0]])
TARGET = np.array([[2, 9, 10, 11, 12], [2, 4, 1, 0, 0]])
LABELS = np.array([[9, 10, 11, 12, 3], [4, 1, 3, 0, 0]])


def made(dtype=None, seed=0, **options):
    """Build a model that a test may change."""
    keras.utils.set_random_seed(seed)
    model = Transformer(dataclasses.replace(TINY, **options), dtype=dtype)
    shake(model, np.random.default_rng(seed), 0.1)
    return model


@functools.cache
def _kept(config):
    return made(**dataclasses.asdict(config))


def kept(**options):
    """Return a model that no test may change: to build one takes a third of a second."""
    return _kept(dataclasses.replace(TINY, **options))


@pytest.fixture(scope="module")
def model():
    return kept()


def logits_of(model, source=SOURCE, target=TARGET, **options):
    return np.array(
        ops.cast(model({"source_ids": source, "target_ids": target}, **options), "float32")
    )


def loss_of(model, **options):
    logits = model({"source_ids": SOURCE, "target_ids": TARGET}, **options)
    return CrossEntropy()(LABELS, logits)


# Size and parts


def test_base_with_the_vocabulary_of_the_paper_has_63_million_parameters():  # M01, L33
    model = Transformer(TransformerConfig.preset("base", 37000))
    attention, network, norm = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512, 2 * 512
    blocks = 6 * (attention + network + 2 * norm) + 6 * (2 * attention + network + 3 * norm)
    assert model.count_params() == 37000 * 512 + blocks == 63_082_496


def test_separate_tables_cost_two_more():  # L33
    tied, untied = (kept(num_layers=1, tie_embeddings=tie) for tie in (True, False))
    assert untied.count_params() - tied.count_params() == 2 * 13 * 8


def test_learned_positions_cost_a_vector_a_position():  # L20
    fixed, learned = (kept(num_layers=1, positions=p) for p in ("sinusoidal", "learned"))
    assert learned.count_params() - fixed.count_params() == 2 * 16 * 8


def test_number_of_parameters_does_not_depend_on_heads():  # W10
    assert len({kept(num_heads=h, num_layers=1).count_params() for h in (2, 8)}) == 1


def test_number_of_parameters_is_linear_in_layers():  # L39
    one, two, three = (kept(num_layers=n).count_params() for n in (1, 2, 3))
    assert two - one == three - two > 0


def test_every_layer_has_variables_of_its_own(model):  # L39, W1
    assert len({id(w) for w in model.weights}) == len(model.weights)
    assert len({w.path for w in model.weights}) == len(model.weights)
    for stack in ("encoder", "decoder"):
        blocks = {w.path.split("/")[1] for w in model.weights if w.path.startswith(stack)}
        assert blocks == {"block_0", "block_1"}


@KINDS
def test_parts_of_every_block(kind):  # L37, L38, W3
    model, norm_first = kept(**kind), kind["norm_first"]
    for stack, attentions in (("encoder", 1), ("decoder", 2)):
        for i in (0, 1):
            paths = [w.path for w in model.weights if f"{stack}/block_{i}/" in w.path]
            assert sum(p.endswith("norm/gamma") for p in paths) == attentions + 1
            assert sum(p.endswith("query/kernel") for p in paths) == attentions
            assert sum(p.endswith("expand/kernel") for p in paths) == 1
        ends = [w.path for w in model.weights if w.path == f"{stack}/final_norm/gamma"]
        assert len(ends) == norm_first


def test_tied_table_embeds_both_languages_and_gives_the_logits():  # L33
    model = kept()
    table = model.get_layer("embedding").table
    assert sum(w.shape == (13, 8) for w in model.weights) == 1
    with tf.GradientTape() as tape:
        logits = model({"source_ids": SOURCE[:1], "target_ids": TARGET[:1]})
        loss = ops.sum(logits[..., 0])  # id 0 is in neither: only the logits read its row
    gradient = tf.convert_to_tensor(tape.gradient(loss, table.value))
    used = np.flatnonzero(np.any(gradient, axis=1))
    assert set(used) == {0, *SOURCE[0], *TARGET[0]}


def test_untied_model_has_three_matrices():  # L32, L33
    model = made(num_layers=1, tie_embeddings=False)
    shapes = {
        "source_embedding/table": (13, 8),
        "target_embedding/table": (13, 8),
        "logits/kernel": (8, 13),
    }
    assert {w.path: w.shape for w in model.weights if 13 in w.shape} == shapes
    before = logits_of(model)
    model.get_layer("logits").kernel.assign(2 * model.get_layer("logits").kernel)
    assert_close(logits_of(model), 2 * before)


@KINDS
@pytest.mark.parametrize("side", ["source", "target"])
def test_input_of_each_stack_is_scaled_embedding_plus_position(kind, side):  # L17, L19
    model = kept(**kind)
    layer = model.get_layer(f"{side}_positions")
    inside = keras.Model(model.input[f"{side}_ids"], layer.output)
    name = "embedding" if kind["tie_embeddings"] else f"{side}_embedding"
    table = model.get_layer(name).table.numpy()
    expected = table[SOURCE] * 8**0.5 + ops.convert_to_numpy(layer.table)[:4]
    assert_close(inside(SOURCE), expected)


@pytest.mark.parametrize("norm_first", [False, True])
def test_post_norm_states_have_deviation_one(norm_first):  # L30
    model = Transformer(dataclasses.replace(TINY, norm_first=norm_first))
    x = np.random.default_rng(0).normal(size=(2, 4, 8)).astype("float32")
    for block in model.get_layer("encoder").blocks:
        x = block(x)
        assert (largest_difference(np.std(x, axis=-1), 1) < 1e-4) == (not norm_first)


@pytest.mark.parametrize(
    "option", [{"layer_norm_epsilon": 0.1}, {"activation": "gelu"}, {"scale_embeddings": False}]
)
def test_options_without_weights_change_what_is_computed(option):  # L17, L26, L28
    plain, changed = kept(num_layers=1), made(num_layers=1, **option)
    changed.set_weights(plain.get_weights())
    assert largest_difference(logits_of(changed), logits_of(plain)) > 1e-3


# What depends on what


@pytest.mark.parametrize("source_length", [1, 2, 7])
@pytest.mark.parametrize("target_length", [1, 5])
def test_logits_are_as_long_as_the_target(
    model, source_length, target_length
):  # L07, L47, W31, W43
    source, target = np.full((3, source_length), 4), np.full((3, target_length), 5)
    assert logits_of(model, source, target).shape == (3, target_length, 13)


@pytest.mark.parametrize("length", [2, 7])
def test_memory_is_as_long_as_the_source(model, length):  # C58, W31
    bias, caches = model.encoder(np.full((3, length), 4))
    assert bias.shape == (3, 1, length)
    assert {x.shape for pair in caches for x in pair} == {(3, 2, length, 4)}


def test_source_changes_the_logits(model):  # L07, W43
    changed = SOURCE.copy()
    changed[0, 1] = 12
    difference = np.abs(logits_of(model, changed) - logits_of(model)).max(axis=(1, 2))
    assert difference[0] > 1e-3
    assert difference[1] == 0


def test_order_of_the_source_changes_the_logits(model):  # L18, L19
    assert (
        largest_difference(logits_of(model, SOURCE[:1, ::-1]), logits_of(model, SOURCE[:1])) > 1e-3
    )


@KINDS
def test_padding_of_the_source_has_no_influence(kind):  # L10, L11, L47, C17, W12, W13
    model = kept(**kind)
    alone = logits_of(model, SOURCE[:1], TARGET[:1])
    padded = np.pad(SOURCE[:1], [(0, 0), (0, 4)])
    assert_close(logits_of(model, padded, TARGET[:1]), alone)
    visible = np.where(padded == 0, 1, padded)  # as many tokens, but none of them padding
    assert largest_difference(logits_of(model, visible, TARGET[:1]), alone) > 1e-3


def test_padding_of_the_target_has_no_influence(model):  # L09, W12
    padded = np.pad(TARGET, [(0, 0), (0, 3)])
    assert_close(logits_of(model, target=padded)[:, :5], logits_of(model))
    assert_close(
        logits_of(model, target=TARGET[1:, :3], source=SOURCE[1:]), logits_of(model)[1:, :3]
    )


def test_rows_of_a_batch_do_not_meet(model):  # T28
    rng = np.random.default_rng(0)
    source, target = rng.integers(4, 13, (8, 6)), rng.integers(4, 13, (8, 5))
    for row in range(8):
        source[row, rng.integers(2, 7) :] = 0
    together = logits_of(model, source, target)
    for row in range(8):
        length = np.count_nonzero(source[row])
        alone = logits_of(model, source[row : row + 1, :length], target[row : row + 1])
        assert_close(alone[0], together[row])


class _Everything(keras.layers.Layer):
    def call(self, ids):
        return ops.ones((1, ops.shape(ids)[1], ops.shape(ids)[1]), dtype="bool")

    def compute_output_spec(self, ids):
        return keras.KerasTensor((1, ids.shape[1], ids.shape[1]), dtype="bool")


def test_later_tokens_leave_earlier_logits_bit_for_bit(model, monkeypatch):  # L09, C16, T27
    def leaks(model):
        before = logits_of(model)
        for t in range(1, 5):
            changed = TARGET.copy()
            changed[:, t:] = 7
            yield largest_difference(logits_of(model, target=changed)[:, :t], before[:, :t])

    assert max(leaks(model)) == 0
    monkeypatch.setattr("keras_transformer.models.transformer.CausalMask", _Everything)
    assert min(leaks(made(num_layers=1))) > 1e-3


def test_shift_and_mask_together_hide_the_label_and_nothing_else(model):  # T03, W49
    sentence = np.array([[2, 9, 10, 11, 3]])  # begin, y1, y2, y3, end
    inputs, labels = sentence[:, :-1], sentence[:, 1:]
    before = logits_of(model, SOURCE[:1], inputs)[0]
    for t in range(4):  # logits[t] are those of labels[t]
        for changed_token in range(1, 5):
            changed = sentence.copy()
            changed[0, changed_token] = 12
            moved = largest_difference(
                logits_of(model, SOURCE[:1], changed[:, :-1])[0, t], before[t]
            )
            position_of_label = t + 1
            assert sentence[0, position_of_label] == labels[0, t]
            if changed_token < position_of_label:
                assert moved > 1e-4  # y_{t-1} included: the mask keeps its diagonal
            else:
                assert moved == 0  # not y_t itself


# Dropout


@pytest.mark.parametrize(
    "rate", ["dropout", "embedding_dropout", "attention_dropout", "ffn_dropout"]
)
def test_each_dropout_acts_in_training_alone(rate):  # L31, T17, C24, W15, W16
    model = made(num_layers=1, **{**STILL, rate: 0.5})
    still = logits_of(model, training=False)
    assert np.array_equal(logits_of(model, training=False), still)
    assert np.array_equal(logits_of(model), still)
    once, twice = logits_of(model, training=True), logits_of(model, training=True)
    assert largest_difference(once, still) > 1e-3
    assert largest_difference(once, twice) > 1e-3


def test_without_dropout_training_changes_nothing():  # C24
    model = kept(num_layers=1, **STILL)
    assert np.array_equal(logits_of(model, training=True), logits_of(model, training=False))


def test_dropout_of_embeddings_is_after_the_positions():  # L31, W15, W16
    model = kept(num_layers=1, **{**STILL, "embedding_dropout": 0.5})
    entrance, _mask = model.get_layer("encoder").input
    inside = keras.Model(model.input["source_ids"], entrance)
    source = np.tile(SOURCE, (1, 3))
    whole, dropped = (np.array(inside(source, training=training)) for training in (False, True))
    kept_values = dropped != 0
    assert 0.3 < np.mean(kept_values) < 0.7
    assert_close(dropped[kept_values], 2 * whole[kept_values])  # so that inference need not scale


# Training


@KINDS
def test_every_variable_learns_but_the_bias_of_the_keys(kind):  # T26
    model = made(**kind, **STILL)
    with tf.GradientTape() as tape:
        loss = loss_of(model, training=True)
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    before = [v.numpy() for v in variables]
    keras.optimizers.SGD(1.0).apply(gradients, variables)
    assert sum(v.path.endswith("key/bias") for v in variables) == 2 + 2 * 2
    for variable, gradient, old in zip(variables, gradients, before, strict=True):
        size = np.max(np.abs(tf.convert_to_tensor(gradient)))
        moved = largest_difference(variable.numpy(), old)
        if variable.path.endswith("key/bias"):  # adds the same to all scores of a query
            assert size < 1e-7, variable.path
        else:
            assert size > 1e-5, variable.path
            assert moved > 1e-6, variable.path


def test_model_learns_to_translate_a_toy_language():  # M01, M19, T04, T26, T27
    example = toy()
    assert example.history["loss"][0] < np.log(12)  # less than knowing nothing
    assert example.history["token_accuracy"][-1] > 0.95
    ids, _ = generate(example.model, example.source)
    whole = np.all(np.array(ids)[:, :6] == example.labels, axis=1)
    assert np.mean(whole) > 0.8  # over six seeds: 0.94 to 1


# Keras's own methods


@KINDS
def test_model_is_saved_and_loaded(reload, kind):  # M01
    model = kept(**kind)
    again = reload(model)
    assert type(again) is Transformer
    assert again.config == model.config
    assert np.array_equal(logits_of(again), logits_of(model))
    for pair, expected in zip(again.encoder(SOURCE)[1], model.encoder(SOURCE)[1], strict=True):
        assert np.array_equal(pair[0], expected[0])
        assert np.array_equal(pair[1], expected[1])


def test_training_goes_on_after_loading(reload):
    model = made(num_layers=1, **STILL)
    model.compile(paper_adam(0.01), CrossEntropy(0.1), metrics=[TokenAccuracy()], run_eagerly=True)
    data = {"source_ids": SOURCE, "target_ids": TARGET}
    model.fit(data, LABELS, verbose=0)
    again = reload(model)
    assert again.loss.label_smoothing == 0.1
    losses = [m.fit(data, LABELS, verbose=0).history["loss"][0] for m in (model, again)]
    assert losses[0] == losses[1]
    assert np.array_equal(logits_of(again), logits_of(model))


def test_weights_are_saved_and_loaded(tmp_path):
    model, other = kept(num_layers=1), made(num_layers=1, seed=1)
    assert largest_difference(logits_of(other), logits_of(model)) > 1e-3
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(logits_of(other), logits_of(model))


@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_config_gives_back_the_model(dtype):
    model = made(dtype, num_layers=1, positions="learned")
    again = Transformer.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert again.config == model.config
    assert again.compute_dtype == model.compute_dtype == (dtype or "float32").removeprefix("mixed_")


def test_summary_shows_the_parts(model):
    lines = []
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    for part in ("embedding", "encoder", "decoder", "causal_mask", f"{model.count_params():,}"):
        assert part in text


@pytest.mark.parametrize(
    ("source", "target"),
    [(np.ones((1, 17), int), TARGET[:1]), (SOURCE[:1], np.ones((1, 17), int))],
)
def test_sequence_that_is_too_long_is_refused(model, source, target):  # L20
    with pytest.raises(ValueError, match=r"max_length=16 positions, but the sequence needs 17"):
        logits_of(model, source, target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "d_model=8 and num_heads=3"),
        ({"num_layers": 0}, "num_layers .*got 0"),
        ({"dropout": 1.0}, "dropout .*got 1.0"),
        ({"positions": "sideways"}, "positions .*got 'sideways'"),
        ({"activation": "absolute"}, "absolute"),
    ],
)
def test_configuration_that_makes_no_model_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Transformer({**TINY.to_dict(), **options})


# Precision


@pytest.mark.parametrize(("policy", "bound"), [("mixed_float16", 1e-2), ("mixed_bfloat16", 8e-2)])
def test_mixed_precision_is_near_float32(model, policy, bound):  # L12
    mixed = made(policy)
    mixed.set_weights(model.get_weights())
    source = np.array([[5, 6, 7, 3], [0, 0, 0, 0]])  # the second has nothing to attend to
    expected = logits_of(model, source)
    assert mixed.compute_dtype == policy.removeprefix("mixed_")
    assert mixed({"source_ids": source, "target_ids": TARGET}).dtype == mixed.compute_dtype
    assert {w.dtype for w in mixed.weights} == {"float32"}
    assert_close(logits_of(mixed, source), expected, bound * np.max(np.abs(expected)))


def test_mixed_precision_trains():
    model = made("mixed_float16", num_layers=1)
    model.compile(keras.optimizers.Adam(0.03), CrossEntropy(), run_eagerly=True)
    data = {"source_ids": SOURCE, "target_ids": TARGET}
    losses = [model.train_on_batch(data, LABELS) for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]


def test_policy_of_the_process_does_not_touch_a_model_with_its_own():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = made("float32")
    finally:
        keras.config.set_dtype_policy("float32")
    assert_close(cached_logits(model), logits_of(model))


def cached_logits(model):
    """Feed TARGET token by token."""
    memory_bias, memory_caches = model.encoder(SOURCE)
    caches, logits = model.empty_caches(2, 5), []
    for index in range(5):
        ids, position = ops.convert_to_tensor(TARGET[:, index : index + 1]), tf.constant(index)
        inputs = (ids, position, caches, causal_mask(5)[:, index : index + 1])
        step, caches = model.decoder_step((*inputs, memory_bias, memory_caches))
        logits.append(np.array(step))
    return np.concatenate(logits, axis=1)


@KINDS
def test_step_by_step_equals_all_at_once(kind):  # D03, C19, T27
    model = kept(**kind)
    assert_close(cached_logits(model), logits_of(model))
