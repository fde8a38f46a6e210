"""Sample weights, labels of -100 and masks: in our models, in plain Keras ones, in every metric."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fixtures_families import in_float64

from keras_transformer.models import Bert, BertConfig, Gpt, GptConfig, SequenceClassifier
from keras_transformer.training import (
    BinaryCrossEntropy,
    CrossEntropy,
    Perplexity,
    TokenAccuracy,
    TokenCrossEntropy,
)

V, B, T = 7, 6, 4
RNG = np.random.default_rng(0)
X = RNG.integers(1, V, (B, T)).astype("int32")
Y = RNG.integers(0, V, (B, T)).astype("int32")
ROWS = RNG.uniform(0.1, 3, B).astype("float32")  # a weight a row
TOKENS = RNG.uniform(0.1, 3, (B, T)).astype("float32")  # a weight a token
WEIGHTS = {"none": None, "rows": ROWS, "tokens": TOKENS}
SIZES = {"num_layers": 1, "num_heads": 1, "d_model": 4, "d_ff": 4, "max_length": 8}
STILL = {"dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0}


def plain(mask=False):
    """A model of somebody else's."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.layers.Embedding(V, 8, mask_zero=mask), keras.layers.Dense(V)])


def ours():
    keras.utils.set_random_seed(1)
    return Gpt(GptConfig(V, **SIZES, **STILL))


def inputs(model, x=X):
    return {"token_ids": x} if isinstance(model, Gpt) else x


def oracle(model, weights, x=X, y=Y, seen=None):
    """The weighted sums over the weighted count: cross-entropy and hits, by NumPy."""
    logits = np.array(model(inputs(model, x)), "float64")
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(shares, y[..., None], -1)[..., 0]
    counts = (y != 0) * (np.ones_like(y) if seen is None else seen)
    if weights is not None:
        counts = counts * (weights[:, None] if weights.ndim == 1 else weights)
    hits = logits.argmax(-1) == y
    return (losses * counts).sum() / counts.sum(), (hits * counts).sum() / counts.sum()


@pytest.mark.parametrize("make", [ours, plain], ids=["ours", "plain"])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_evaluation_is_the_weighted_sum_over_the_weighted_count(make, kind):
    model, weights = make(), WEIGHTS[kind]
    model.compile(
        "sgd",
        loss=CrossEntropy(),
        metrics=[TokenAccuracy("unweighted")],
        weighted_metrics=[TokenCrossEntropy(name="nats"), Perplexity(), TokenAccuracy("hits")],
    )
    # All of the batch at once: Keras takes the mean over batches of other models' losses.
    found = model.evaluate(inputs(model), Y, B, sample_weight=weights, verbose=0, return_dict=True)
    loss, hits = oracle(model, weights)
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["nats"] == pytest.approx(loss, rel=1e-5)
    assert found["perplexity"] == pytest.approx(np.exp(loss), rel=1e-5)
    assert found["hits"] == pytest.approx(hits, rel=1e-5)
    # Keras gives `metrics` no weights of a plain model, and ours are Keras's metrics.
    assert found["unweighted"] == pytest.approx(oracle(model, None)[1], rel=1e-5)
    if kind != "none":
        assert abs(loss - oracle(model, None)[0]) > 1e-4
        after = model.fit(
            inputs(model),
            Y,
            B,
            verbose=0,
            validation_data=(inputs(model), Y, weights),
        ).history
        wanted = oracle(model, weights)
        assert after["val_loss"][0] == pytest.approx(wanted[0], rel=1e-5)
        assert after["val_hits"][0] == pytest.approx(wanted[1], rel=1e-5)


def test_ours_count_over_batches_of_any_size():
    model = ours()
    model.compile("sgd", loss=CrossEntropy())
    for size in (1, 4):
        loss = model.evaluate(inputs(model), Y, size, sample_weight=TOKENS, verbose=0)
        assert loss == pytest.approx(oracle(model, TOKENS)[0], rel=1e-5)


@pytest.mark.parametrize("make", [ours, plain], ids=["ours", "plain"])
def test_a_row_of_weight_0_is_a_row_that_is_not_there(make):
    kept = np.array([0, 2, 3, 5])
    weights = np.zeros(B, "float32")
    weights[kept] = 0.5
    trained = []
    untrained = make()
    untrained(inputs(untrained))
    for x, y, w in ((X, Y, weights), (X[kept], Y[kept], None)):
        model = make()
        model.compile(keras.optimizers.SGD(0.5), loss=CrossEntropy())
        model.fit(inputs(model, x), y, B, sample_weight=w, shuffle=False, verbose=0)
        trained.append(model.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    moved = zip(trained[0], untrained.get_weights(), strict=True)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in moved)


def test_weights_are_split_with_the_batch():
    results = []
    for accumulate in (1, 3):
        model = ours()
        model.compile(keras.optimizers.SGD(0.5), loss=CrossEntropy(), accumulate=accumulate)
        history = model.fit(
            inputs(model), Y, B, sample_weight=TOKENS, shuffle=False, verbose=0
        ).history
        results.append((model.get_weights(), history["loss"], history["tokens"]))
    for a, b in zip(*(weights for weights, *_ in results), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert results[0][1] == pytest.approx(results[1][1])
    assert results[0][2][0] == pytest.approx((TOKENS * (Y != 0)).sum())


@pytest.mark.parametrize("kind", WEIGHTS)
def test_what_keras_masks_counts_for_nothing(kind):
    model, weights = plain(mask=True), WEIGHTS[kind]
    x = X.copy()
    x[0, 2:] = x[3, 1:] = 0
    model.compile("sgd", loss=CrossEntropy(), weighted_metrics=[TokenCrossEntropy(name="nats")])
    found = model.evaluate(x, Y, B, sample_weight=weights, verbose=0, return_dict=True)
    wanted = oracle(model, weights, x, seen=x != 0)[0]
    assert found["loss"] == pytest.approx(wanted, rel=1e-5)
    assert abs(wanted - oracle(model, weights, x)[0]) > 1e-3


def test_a_classifier_has_a_weight_a_row():
    keras.utils.set_random_seed(1)
    model = SequenceClassifier(BertConfig(V, **SIZES, **STILL, begin_id=2, end_id=3), num_labels=3)
    model.compile("sgd", loss=CrossEntropy(ignore_id=-1))
    x = {"token_ids": X, "segment_ids": np.zeros_like(X)}
    y = np.array([0, 2, 1, 0, -1, 2])
    logits = np.array(model(x), "float64")
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    real = y >= 0
    wanted = -(shares[np.arange(B), y] * ROWS)[real].sum() / ROWS[real].sum()
    found = model.evaluate(x, y, B, sample_weight=ROWS, verbose=0)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_yes_or_no_is_weighted_as_well():
    labels = np.array([[1, 0, -1], [0, 1, 1]])
    logits = np.array([[2.0, 1, 9], [0, -1, 3]], "float32")
    weights = np.array([[1.0, 2, 5], [0.5, 3, 1]], "float32")
    losses = np.log1p(np.exp(logits)) - logits * (labels == 1)
    real = weights * (labels >= 0)
    loss = BinaryCrossEntropy()(labels, logits, sample_weight=weights)
    assert float(loss) == pytest.approx((losses * real).sum() / real.sum(), rel=1e-5)


# --- Labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignore_id", [0, -1])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_labels_of_minus_100_count_for_nothing(ignore_id, jit_compile):
    y = np.where(RNG.uniform(size=Y.shape) < 0.3, -100, Y)
    for loss in (CrossEntropy(ignore_id=ignore_id), BinaryCrossEntropy(ignore_id=ignore_id)):
        binary = isinstance(loss, BinaryCrossEntropy)
        labels = np.where(y > 0, y % 2 if binary else y, y)
        logits = RNG.normal(size=labels.shape if binary else (*labels.shape, V)).astype("float32")
        compute = tf.function(lambda a, b, loss=loss: loss(a, b), jit_compile=jit_compile)
        other = np.where(labels == -100, ignore_id, labels)
        assert float(compute(labels, logits)) == pytest.approx(float(compute(other, logits)))
        assert float(loss.count(labels)) == (other != ignore_id).sum()
    for metric in (TokenAccuracy, TokenCrossEntropy, Perplexity):
        first, second = metric(ignore_id=ignore_id), metric(ignore_id=ignore_id)
        logits = RNG.normal(size=(*y.shape, V)).astype("float32")
        first.update_state(y, logits)
        second.update_state(np.where(y == -100, ignore_id, y), logits)
        assert float(first.result()) == pytest.approx(float(second.result()))


@pytest.mark.parametrize("label", [-2, V, V + 10])
def test_other_labels_outside_of_the_table_are_not_counted_silently(label):
    y = Y.copy()
    y[1, 1] = label
    logits = RNG.normal(size=(*Y.shape, V)).astype("float32")
    compiled = tf.function(CrossEntropy(), jit_compile=True)
    assert np.isfinite(float(compiled(Y, logits)))
    assert np.isnan(float(compiled(y, logits)))
    if label < 0:  # Keras counts it from the end of the table
        assert np.isnan(float(CrossEntropy()(y, logits)))
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match=str(label)):
            CrossEntropy()(y, logits)


# --- Another default of floats --------------------------------------------------------------------


def test_bert_trains_where_keras_computes_in_float64():
    with in_float64():
        model = Bert(BertConfig(V, **SIZES, begin_id=2, end_id=3))
        model.compile("sgd", loss={"pooled": CrossEntropy(ignore_id=-1)})
        x = {"token_ids": X, "segment_ids": np.zeros_like(X)}
        history = model.fit(x, {"pooled": np.arange(B) % 4}, verbose=0).history
        assert np.isfinite(history["loss"]).all()
