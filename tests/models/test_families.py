"""What holds for every class of model: saving, training, padding, and its structure.

Also: models.assembly, models.bart, models.bert, models.electra, models.heads, models.roberta,
models.t5, models.vision_transformer.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_families import (
    LIKE_ANOTHER,
    leave_out_decoding,
    make_cases,
    train_once,
    without_decoding,
)
from oracles import assert_close

import keras_transformer as kt
from keras_transformer import models
from keras_transformer.errors import InputError
from keras_transformer.layers.patches import ClassToken, PatchEmbedding
from keras_transformer.models.families import FAMILIES, config_from_dict, find_preset
from keras_transformer.training.losses import BinaryCrossEntropy, CrossEntropy

__all__ = ["without_decoding"]

CASES = make_cases()
every_model = pytest.mark.parametrize("name", CASES)
PROCESS = Path(__file__).parents[1] / "families_process.py"


@pytest.fixture(scope="module", autouse=True)
def two_devices(tmp_path_factory):
    """A process that trains models on two devices, while the tests here run."""
    output = tmp_path_factory.mktemp("families") / "mirrored.npz"
    process = subprocess.Popen(
        [sys.executable, PROCESS, output],
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process, output
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def trained():
    """A step of every model in float32, each when it is asked for first."""
    done = {}

    def get(name):
        if name not in done:
            with pytest.MonkeyPatch.context() as patch:
                leave_out_decoding(patch)
                done[name] = train_once(CASES[name])
        return done[name]

    return get


def outputs_of(model, inputs):
    """All outputs of a model, by name."""
    outputs = model(inputs, training=False)
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    return {name: np.array(keras.ops.cast(value, "float32")) for name, value in outputs.items()}


# --- Training and saving --------------------------------------------------------------------------


@every_model
def test_fit_makes_a_step(trained, name):
    model, before, history = trained(name)
    assert np.isfinite(history["loss"]).all()
    for variable, new, old in zip(model.weights, model.get_weights(), before, strict=True):
        assert np.any(new != old), f"{variable.path} was not trained"


@pytest.mark.usefixtures("without_decoding")
@every_model
def test_mixed_precision_trains_alike(trained, name):
    _, _, wanted = trained(name)
    # Without a graph, which takes longer to trace than to run once.
    model, before, history = train_once(CASES[name], run_eagerly=True, dtype="mixed_bfloat16")
    assert model.compute_dtype == "bfloat16"
    assert {w.dtype for w in model.weights} == {"float32"}
    assert history["loss"] == pytest.approx(wanted["loss"], rel=0.01)
    assert history["loss"] != wanted["loss"]
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


@every_model
def test_keras_file_gives_the_same_model(trained, name, reload):
    model, *_ = trained(name)
    loaded = reload(model)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert loaded.get_config() == model.get_config()
    inputs = CASES[name].inputs
    expected = outputs_of(model, inputs)
    for key, value in outputs_of(loaded, inputs).items():
        np.testing.assert_array_equal(value, expected[key])
        assert np.ptp(value[np.abs(value) < 1e30]) > 0.01


@pytest.mark.usefixtures("without_decoding")
@every_model
def test_weights_file_gives_the_same_outputs(trained, name, tmp_path):
    model, *_ = trained(name)
    model.save_weights(tmp_path / "model.weights.h5")
    other = CASES[name].make()
    inputs = CASES[name].inputs
    expected = outputs_of(model, inputs)
    fresh = outputs_of(other, inputs)
    assert all(np.abs(fresh[key] - value).max() > 1e-3 for key, value in expected.items())
    other.load_weights(tmp_path / "model.weights.h5")
    for key, value in outputs_of(other, inputs).items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.fixture(scope="module")
def mirrored(two_devices):
    process, output = two_devices
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    with np.load(output) as found:
        yield dict(found)


# --- Configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_configurations_go_through_json(family):
    cls = FAMILIES[family].config_class
    cases = [case.config for case in CASES.values() if case.config.family == family]
    presets = [find_preset(name, None if _has_vocabulary(name) else 99) for name in cls.presets]
    assert cases and presets
    for config in [*cases, *presets]:
        fields = json.loads(json.dumps(config.to_dict()))
        assert fields["family"] == family
        again = config_from_dict(fields)
        assert type(again) is cls
        assert again == config
        assert again != dataclasses.replace(config, d_ff=config.d_ff + 1)
        if family != "transformer":
            with pytest.raises(InputError, match=r"Unknown fields .*: colour"):
                config_from_dict({**fields, "colour": 1})


def _has_vocabulary(name):
    try:
        find_preset(name)
    except InputError:
        return False
    return True


def test_an_unknown_family_is_refused():
    with pytest.raises(InputError, match="no family 'rnn'; choose one of transformer, t5, bart"):
        config_from_dict({"family": "rnn", "vocabulary_size": 9})
    with pytest.raises(InputError, match=r"no preset 'huge'; choose one of tiny, .*vit-l-16"):
        find_preset("huge")
    with pytest.raises(InputError, match="has no vocabulary_size"):
        config_from_dict({"family": "gpt"})
    assert type(config_from_dict({"vocabulary_size": 9})) is models.TransformerConfig


# --- Padding --------------------------------------------------------------------------------------


def lengthen(inputs, name, filling):
    """Make one input twice as long."""
    ids = inputs[name]
    more = np.full_like(ids, filling)
    return {**inputs, name: np.concatenate([ids, more], axis=1)}


WITHOUT_PLACES = ("SequenceClassifier", "SentenceEncoder", "MaskedLanguageModel")
TEXT = [name for name in CASES if name != "VisionTransformer"]


@pytest.mark.parametrize("name", TEXT)
def test_padding_changes_no_real_token(trained, name):
    model, *_ = trained(name)
    case, padding = CASES[name], CASES[name].config.padding_id
    names = [key for key in case.inputs if key in ("source_ids", "target_ids", "token_ids")]
    wanted = outputs_of(model, case.inputs)
    for padded in names:
        real = case.inputs["target_ids" if "target_ids" in names else padded] != padding

        def of_real_tokens(inputs, real=real):
            found = {}
            for key, value in outputs_of(model, inputs).items():
                if name == "QuestionAnswerer":  # (B, 2, S)
                    value = value.transpose(0, 2, 1)
                if key != "pooled" and name not in WITHOUT_PLACES:
                    value = value[:, : real.shape[1]][real]
                found[key] = value
            return found

        longer, control = (lengthen(case.inputs, padded, filling) for filling in (padding, 6))
        if "segment_ids" in case.inputs:
            longer, control = (
                lengthen(inputs, "segment_ids", int(inputs is control))
                for inputs in (longer, control)
            )
        expected = of_real_tokens(case.inputs)
        for key, value in of_real_tokens(longer).items():
            assert_close(value, expected[key])
        changed = [
            np.abs(value - expected[key]).max() > 1e-4
            for key, value in of_real_tokens(control).items()
        ]
        # A decoder looks back alone, and does not see what follows either way.
        causal = padded == "target_ids" or name == "Gpt"
        assert all(changed) is not causal
        if causal:
            earlier = {**case.inputs, padded: np.roll(case.inputs[padded], 1, axis=1)}
            assert np.abs(outputs_of(model, earlier)["logits"] - wanted["logits"]).max() > 1e-3


@pytest.mark.parametrize("pooling", ["pooled", "mean"])
def test_pooled_vector_depends_on_every_real_token_and_on_no_padding(pooling):  # L40, W26
    case = CASES["Bert"]
    make = models.Bert if pooling == "pooled" else models.SentenceEncoder
    model = make(case.config)
    ids = case.inputs["token_ids"]
    table = model.get_layer("embedding").table
    real = ids != case.config.padding_id
    for row in range(len(ids)):
        # Every place has a token of its own, so that the gradient of the table tells them apart.
        own = np.where(real[row], np.arange(5, 5 + ids.shape[1]), case.config.padding_id)[None]
        inputs = {"token_ids": own, "segment_ids": np.zeros_like(own)}
        with tf.GradientTape() as tape:
            outputs = model(inputs)
            vector = outputs["pooled"] if pooling == "pooled" else outputs
            first = tf.reduce_sum(vector * np.arange(1.0, 9.0, dtype="float32"))
        gradient = np.array(tf.convert_to_tensor(tape.gradient(first, table.value)))
        size = np.abs(gradient[own[0]]).max(axis=1)
        assert np.all(size[real[row]] > 1e-5)
        assert not np.any(size[~real[row]])
    assert not real.all() and real.any(axis=1).all()


# --- Structure ------------------------------------------------------------------------------------


def paths(name):
    return [weight.path for weight in CASES[name].make().weights]


@pytest.mark.usefixtures("without_decoding")
def test_bert_has_no_decoder():  # M02
    assert not any("decoder" in path or "cross_attention" in path for path in paths("Bert"))
    assert any("decoder" in path and "cross_attention" in path for path in paths("Transformer"))
    assert not any("logits" in path for path in paths("Bert"))


@pytest.mark.usefixtures("without_decoding")
def test_bert_sees_both_sides_and_gpt_the_left_one():  # M02, M03
    changes = {}
    for name, key in (("Bert", "sequence"), ("Gpt", "logits")):
        case, model = CASES[name], CASES[name].make()
        ids = np.array([[5, 6, 7, 8, 9]], "int32")
        other = np.array([[5, 6, 11, 8, 9]], "int32")
        inputs = {**{k: np.zeros_like(ids) for k in case.inputs}, "token_ids": ids}
        one, two = (
            outputs_of(model, {**inputs, "token_ids": tokens})[key] for tokens in (ids, other)
        )
        changes[name] = np.abs(one - two).max(axis=-1)[0] > 1e-6
    assert changes["Bert"].tolist() == [True] * 5
    assert changes["Gpt"].tolist() == [False, False, True, True, True]
    assert not any("cross_attention" in path for path in paths("Gpt"))


def test_roberta_is_a_bert_without_segments():  # M07
    roberta, bert = (CASES[name].make() for name in ("Roberta", "Bert"))
    assert isinstance(roberta, models.Bert)
    assert set(roberta.input) == {"token_ids"}
    assert set(bert.input) == {"token_ids", "segment_ids"}
    assert roberta.get_layer("segments").table.shape == (1, 8)
    # Its only segment is added to every token, so that BERT can be given the same weights.
    config = models.BertConfig.from_dict(
        {**roberta.config.to_dict(), "num_segments": 1, "family": "bert"}
    )
    same = models.Bert(config)
    same.set_weights(roberta.get_weights())
    inputs = CASES["Roberta"].inputs
    assert_close(same(inputs)["pooled"], roberta(inputs)["pooled"])
    preset = find_preset("roberta-base")
    assert (preset.vocabulary_size, preset.padding_id, preset.mask_id) == (50265, 1, 50264)


def test_electra_scores_every_token_against_what_was_replaced():  # M08
    from keras_transformer.training.data.noise import replace_tokens

    ids = np.array([[2, 7, 8, 9, 3, 0]], "int32")
    places, sampled = np.array([[1, 2]], "int32"), np.array([[11, 8]], "int32")
    new, labels = replace_tokens(ids, places, sampled, special_ids=(0, 2, 3))
    assert np.array(new).tolist() == [[2, 11, 8, 9, 3, 0]]
    assert np.array(labels).tolist() == [[-1, 1, 0, 0, -1, -1]]  # 8 was what had been there
    model = CASES["Electra"].make()
    logits = model({"token_ids": np.array(new), "segment_ids": np.zeros_like(ids)})
    assert logits.shape == (1, 6) and logits.dtype == "float32"
    total, count = BinaryCrossEntropy().sum_and_count(labels, logits)
    p = 1 / (1 + np.exp(-np.array(logits, "float64")[0, 1:4]))
    assert float(count) == 3
    assert float(total) == pytest.approx(-np.log([p[0], 1 - p[1], 1 - p[2]]).sum(), abs=1e-5)
    assert model.get_layer("embedding").table.shape == (20, 6)  # narrower than the model


@pytest.mark.usefixtures("without_decoding")
def test_t5_has_buckets_and_no_absolute_positions():  # M05
    assert not any("source_positions" in path for path in paths("T5"))
    model = CASES["T5"].make()
    for side in ("encoder", "decoder"):
        assert model.get_layer(side).positions.table.shape == (8, 2)
    assert not any(path.endswith("bias") or path.endswith("beta") for path in paths("T5"))


@pytest.mark.usefixtures("without_decoding")
def test_bart_has_a_norm_on_embeddings_and_marian_a_bias_on_logits():  # M06
    assert {"embedding_norm", "positions"} <= {
        name.removeprefix("source_")
        for name in (layer.name for layer in CASES["Bart"].make().layers)
        if name.startswith("source_")
    }
    marian = CASES["Marian"].make()
    assert marian.get_layer("logits_bias").bias.shape == (20,)
    assert not any("embedding_norm" in weight.path for weight in marian.weights)
    preset = find_preset("marian")
    assert preset.begin_id == preset.padding_id == preset.vocabulary_size - 1 == 65000


@pytest.mark.usefixtures("without_decoding")
def test_layers_have_weights_of_their_own_unless_shared():  # L34, W1
    apart, shared = (
        models.Transformer(models.TransformerConfig(20, 2, 2, 8, 12, share_layers=share_layers))
        for share_layers in (False, True)
    )
    for model, number in ((apart, 2), (shared, 1)):
        for side in ("encoder", "decoder"):
            blocks = model.get_layer(side).blocks
            assert len(blocks) == 2
            kernels = {
                id(block.self_attention.sublayer.query_projection.kernel) for block in blocks
            }
            assert len(kernels) == number
    encoders = [
        sum(int(np.prod(w.shape)) for w in model.get_layer("encoder").weights)
        for model in (apart, shared)
    ]
    assert encoders[0] == 2 * encoders[1]


@pytest.mark.usefixtures("without_decoding")
def test_tied_tables_are_one_variable():  # L33, W1
    tied = CASES["Transformer"].make()
    assert sum("embedding" in path for path in (w.path for w in tied.weights)) == 1
    config = dataclasses.replace(CASES["Transformer"].config, tie_embeddings=False)
    apart = models.Transformer(config)
    assert apart.count_params() - tied.count_params() == 2 * 20 * 8
    assert apart.get_layer("logits").kernel.shape == (8, 20)


# --- Images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "size"), [((6, 4, 3), 2), ((9, 9, 1), 3), ((4, 4, 2), 4)])
def test_patches_are_a_convolution(rng, shape, size):  # L35
    images = rng.normal(size=(2, *shape)).astype("float32")
    layer = PatchEmbedding(size, 7)
    patches = layer(images)
    rows, columns, channels = shape
    assert patches.shape == (2, rows * columns // size**2, 7)
    convolution = keras.layers.Conv2D(7, size, strides=size)
    convolution.build((None, *shape))
    kernel, bias = rng.normal(size=(size * size * channels, 7)), rng.normal(size=7)
    layer.projection.kernel.assign(kernel)
    layer.projection.bias.assign(bias)
    convolution.kernel.assign(kernel.reshape(size, size, channels, 7))
    convolution.bias.assign(bias)
    expected = np.array(convolution(images)).reshape(2, -1, 7)
    assert_close(layer(images), expected, 1e-4)
    if len(patches[0]) > 1:
        assert np.abs(np.array(layer(images))[:, ::-1] - expected).max() > 0.1


def test_published_size_gives_196_patches():  # L35
    assert PatchEmbedding(16, 4)(keras.Input((224, 224, 3))).shape == (None, 196, 4)
    assert find_preset("vit-b-16").num_patches == 196


@pytest.mark.parametrize("shape", [(6, 5, 3), (5, 6, 3), (7, 7, 1)])
def test_patches_that_do_not_fit_are_refused(shape):  # L35
    with pytest.raises(ValueError, match=f"Images of {shape[0]} x {shape[1]} pixels can't be cut"):
        PatchEmbedding(2, 4)(np.zeros((1, *shape), "float32"))
    with pytest.raises(InputError, match="image_size=30 and patch_size=16"):
        models.VisionTransformerConfig(image_size=30)


def test_class_token_stands_in_front(rng):
    layer = ClassToken()
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    y = np.array(layer(x))
    assert_close(y[:, 1:], x)
    assert_close(y[:, 0], np.repeat(layer.get_weights()[0][0], 2, axis=0))


@pytest.mark.parametrize(("positions", "changes"), [("none", False), ("learned", True)])
def test_shuffled_patches_change_nothing_without_positions(rng, positions, changes):  # M04
    config = dataclasses.replace(CASES["VisionTransformer"].config, positions=positions)
    model = models.VisionTransformer(config)
    if changes:
        table = model.get_layer("positions").table
        table.assign(rng.normal(size=table.shape))
    images = rng.normal(size=(2, 6, 6, 1)).astype("float32")
    patches = images.reshape(2, 3, 2, 3, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(2, 9, 2, 2, 1)
    shuffled = patches[:, rng.permutation(9)]
    shuffled = shuffled.reshape(2, 3, 3, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 6, 1)
    assert np.abs(shuffled - images).max() > 1
    one, two = (np.array(model({"images": x})) for x in (images, shuffled))
    assert bool(np.abs(one - two).max() > 1e-3) is changes
    if not changes:
        assert_close(one, two)


# --- Losses of the heads --------------------------------------------------------------------------


def test_labels_may_be_one_a_row_and_zero(rng):
    logits = rng.normal(size=(4, 3)).astype("float32")
    labels = np.array([0, 2, -1, 1])
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -(log_p[0, 0] + log_p[1, 2] + log_p[3, 1])
    total, count = kt.training.token_cross_entropy(labels, logits, ignore_id=-1)
    assert (float(total), float(count)) == (pytest.approx(expected, abs=1e-5), 3)
    with tf.GradientTape() as tape:
        x = tf.constant(logits)
        tape.watch(x)
        total, _ = kt.training.token_cross_entropy(labels, x, ignore_id=-1)
    gradient = np.array(tape.gradient(total, x))
    soft = np.exp(log_p) - np.eye(3)[[0, 2, 0, 1]]
    assert_close(gradient, np.where((labels >= 0)[:, None], soft, 0))


def test_places_that_can_not_be_the_answer_leave_the_loss_a_number():
    lowest = float(np.finfo("float32").min)
    logits = np.array([[lowest, 1.0, 2.0, lowest]], "float32")
    total, _ = kt.training.token_cross_entropy(np.array([2]), logits, ignore_id=-1)
    assert float(total) == pytest.approx(np.log(1 + np.exp(-1)), abs=1e-6)


def test_losses_of_yes_or_no_are_saved():
    loss = BinaryCrossEntropy(ignore_id=-7)
    again = BinaryCrossEntropy.from_config(loss.get_config())
    labels, logits = np.array([[1, 0, -7]]), np.array([[0.0, 2.0, 99.0]])
    expected = (np.log(2) + np.log(1 + np.exp(2))) / 2
    assert float(again(labels, logits)) == pytest.approx(expected, abs=1e-6)
    assert float(loss.count(labels)) == 2
    assert float(loss(np.array([[-7]]), np.array([[1.0]]))) == 0


# --- Two devices: last, so that the process has its time ------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name not in LIKE_ANOTHER])
def test_two_devices_make_the_step_of_one(trained, mirrored, name):
    model, before, history = trained(name)
    assert mirrored["replicas"] == 2
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    assert mirrored[f"{name} loss"] == pytest.approx(history["loss"][0], abs=1e-5)
    assert_close(mirrored[f"{name} weights"], weights, 1e-5)
    assert np.abs(weights - np.concatenate([w.ravel() for w in before])).max() > 1e-3


def test_a_loss_of_keras_own_step_is_a_mean_too():
    # Its scalar is divided by the number of replicas only if it has an axis.
    assert CrossEntropy().call(np.array([[1]]), np.zeros((1, 1, 3), "float32")).shape == (1,)
    assert CrossEntropy()(np.array([[1]]), np.zeros((1, 1, 3), "float32")).shape == ()
