"""What textbooks claim of pre-training, measured on texts that tiny models learn in seconds.

How many tokens to hide, and more seeds, are in `experiments/pretraining.py`. At the end, why
pre-training became attention's: what has to wait for what, without a clock.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from oracles import largest_difference
from recurrent import longest_chain

from keras_transformer.layers import Encoder, SinusoidalPositions, TokenEmbedding
from keras_transformer.models import Bert, BertConfig, MaskedLanguageModel, SequenceClassifier
from keras_transformer.training import CrossEntropy, mask_tokens
from keras_transformer.training.transfer import transfer_weights

PADDING, UNKNOWN, CLS, SEP, MASK, FIRST = range(6)
SPECIAL = [PADDING, UNKNOWN, CLS, SEP]
LENGTH = 12  # of all texts, without [CLS] and [SEP]


def fit(model, inputs, labels, learning_rate=3e-3):
    """Train on each example once."""
    loss = CrossEntropy(ignore_id=-1)
    model.compile(keras.optimizers.Adam(learning_rate), loss=loss, jit_compile=False)
    model.fit(inputs, labels, batch_size=64, shuffle=False, verbose=0)


# Hiding by attention alone

SYMBOLS = 16


def reader():
    """An encoder that sees ids, and may attend where it is told to."""
    ids, seen = keras.Input((LENGTH,), dtype="int32"), keras.Input((1, LENGTH), dtype="bool")
    x = SinusoidalPositions(LENGTH)(TokenEmbedding(SYMBOLS + 1, 32)(ids))
    x = Encoder(1, num_heads=2, d_model=32, d_ff=64)(x, attention_mask=seen)
    return keras.Model([ids, seen], keras.layers.Dense(SYMBOLS)(x))


def random_text(seed, rows):
    """Symbols that nothing can predict, and three places of each row that are to be hidden."""
    rng = np.random.default_rng(seed)
    hidden = rng.permuted(np.tile(np.arange(LENGTH) < 3, (rows, 1)), axis=1)
    return rng.integers(0, SYMBOLS, (rows, LENGTH)).astype("int32"), hidden


def test_hiding_by_attention_alone_hides_nothing_from_the_token_itself():  # C52, W47
    ids, hidden = random_text(1, 64 * 120)
    labels, seen = np.where(hidden, ids, -1), ~hidden[:, None]
    model = reader()
    fit(model, [ids, seen], labels)
    ids, hidden = random_text(2, 200)
    logits = model.predict_on_batch([ids, ~hidden[:, None]])
    assert np.mean(logits.argmax(-1)[hidden] == ids[hidden]) > 0.99

    # It is its own residual path that tells: no other place gets to know of a hidden symbol.
    changed = np.where(hidden, (ids + 1) % SYMBOLS, ids)
    other = model.predict_on_batch([changed, ~hidden[:, None]])
    assert largest_difference(logits[~hidden], other[~hidden]) == 0
    assert np.mean(other.argmax(-1)[hidden] == changed[hidden]) > 0.99


def test_what_the_mask_replaces_can_not_be_copied():  # C52: what BERT does instead
    ids, hidden = random_text(1, 64 * 120)
    model = reader()
    everywhere = np.ones((len(ids), 1, LENGTH), bool)
    fit(model, [np.where(hidden, SYMBOLS, ids), everywhere], np.where(hidden, ids, -1))
    ids, hidden = random_text(2, 200)
    logits = model.predict_on_batch([np.where(hidden, SYMBOLS, ids), everywhere[:200]])
    assert np.mean(logits.argmax(-1)[hidden] == ids[hidden]) < 0.15  # by chance 0.06


# Random replacement

WORDS = 20  # of the language that repeats itself


def config(vocabulary_size, length):
    return BertConfig(
        vocabulary_size=vocabulary_size,
        num_layers=2,
        num_heads=2,
        d_model=32,
        d_ff=64,
        max_length=length,
        num_segments=0,
        dropout=0.0,
        embedding_dropout=0.0,
        attention_dropout=0.0,
        begin_id=CLS,
        end_id=SEP,
        mask_id=MASK,
    )


def framed(words):
    """Put [CLS] before and [SEP] behind."""
    return np.pad(words, ((0, 0), (1, 1)), constant_values=((0, 0), (CLS, SEP))).astype("int32")


def repeating_text(seed, rows):
    """Two random words, six times over: what is hidden stands elsewhere as well."""
    words = np.random.default_rng(seed).integers(FIRST, FIRST + WORDS, (rows, 2))
    return framed(np.tile(words, (1, LENGTH // 2)))


def hide(ids, vocabulary_size, seed=(0, 0)):
    options = {"mask_id": MASK, "vocabulary_size": vocabulary_size, "special_ids": SPECIAL}
    out = {name: x.numpy() for name, x in mask_tokens(ids, seed, **options).items()}
    return out, out.pop("labels")


def seen_at(inputs):
    """The tokens that the model sees at the places that it is asked about."""
    return np.take_along_axis(inputs["token_ids"], inputs["places"], axis=1)


@pytest.mark.parametrize("replaces", [True, False])
def test_who_may_be_lied_to_looks_at_the_context(replaces):  # C59
    """A model that has seen random tokens corrects them; one that has not believes them."""
    ids = repeating_text(1, 64 * 300)
    inputs, labels = hide(ids, FIRST + WORDS)
    if not replaces:  # what was random is as it was: 80% masks and 20% that stay
        inputs["token_ids"] = np.where(inputs["token_ids"] == MASK, MASK, ids)
    model = MaskedLanguageModel(config(FIRST + WORDS, LENGTH + 2))
    fit(model, inputs, labels)
    inputs, labels = hide(repeating_text(2, 2000), FIRST + WORDS, (0, 1))
    found, seen = model.predict_on_batch(inputs).argmax(-1), seen_at(inputs)
    masked, random = seen == MASK, (seen != MASK) & (seen != labels)
    assert 300 < np.count_nonzero(random) < 500
    right, believed = (np.mean(found[random] == x[random]) for x in (labels, seen))
    assert np.mean(found[masked] == labels[masked]) > 0.9
    if replaces:
        assert right > 0.9  # by chance 0.05
    else:
        assert believed > 0.5 > right


def test_tokens_that_were_not_chosen_count_for_nothing():  # C59
    inputs, labels = hide(repeating_text(1, 8), FIRST + WORDS)
    model = MaskedLanguageModel(config(FIRST + WORDS, LENGTH + 2))
    loss = CrossEntropy(ignore_id=-1)
    everywhere = np.tile(np.arange(LENGTH + 2, dtype="int32"), (8, 1))
    of_all = np.full_like(everywhere, -1)
    np.put_along_axis(of_all, inputs["places"], labels, axis=1)
    logits = model({**inputs, "places": everywhere})
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(of_all, logits)
    assert float(value) == pytest.approx(float(loss(labels, model(inputs))), rel=1e-5)
    gradient = tape.gradient(value, logits).numpy()
    assert not np.any(gradient[of_all < 0])  # exactly 0
    assert np.all(np.abs(gradient[of_all >= 0]).max(axis=-1) > 1e-3)


# Fine-tuning

NOUNS, ADJECTIVES = 6, 20  # how many nouns, and adjectives of each polarity
POLAR = config(FIRST + NOUNS + 2 * ADJECTIVES, LENGTH + 2)


def reviews(seed, rows, adjectives=range(ADJECTIVES)):
    """Clauses of a noun and two adjectives, which are all good or all bad; and which they are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    words = rng.choice(adjectives, (rows, LENGTH)) + ADJECTIVES * labels[:, None] + NOUNS
    words[:, ::3] = rng.integers(0, NOUNS, (rows, LENGTH // 3))
    return framed(FIRST + words), labels


@pytest.fixture(scope="module")
def pretrained():
    """A masked language model of reviews without labels."""
    keras.utils.set_random_seed(0)
    model = MaskedLanguageModel(POLAR)
    fit(model, *hide(reviews(1, 64 * 300)[0], POLAR.vocabulary_size))
    return model


# Labelled reviews have four of the adjectives; it is the others that are asked about.
LABELLED, ASKED = reviews(2, 64, range(4)), reviews(3, 500, range(4, ADJECTIVES))


def fine_tune(start, labelled, asked, steps):
    """Learn from labelled reviews, and return the model and its accuracy after every 2 steps."""
    keras.utils.set_random_seed(0)
    model = SequenceClassifier(POLAR, num_labels=2)
    if start is not None:
        transfer_weights(start, model)
    loss = CrossEntropy(ignore_id=-1)
    model.compile(keras.optimizers.Adam(5e-4), loss=loss, jit_compile=False)
    (ids, labels), (others, answers) = labelled, asked
    found = []
    for _ in range(steps // 2):
        for _ in range(2):
            model.train_on_batch({"token_ids": ids}, labels)
        found.append(np.mean(model.predict_on_batch({"token_ids": others}).argmax(-1) == answers))
    return model, found


@pytest.fixture(scope="module")
def fine_tuned(pretrained):
    return fine_tune(pretrained, LABELLED, ASKED, 20)


def test_fine_tuning_knows_words_that_no_label_has_shown(fine_tuned):  # T23
    assert fine_tuned[1][-1] > 0.95
    assert max(fine_tune(None, LABELLED, ASKED, 40)[1]) < 0.85


def test_fine_tuning_takes_fewer_steps_than_training_from_scratch(pretrained):  # T23
    """Even where the labels show all of the words."""
    steps = []
    for start in (pretrained, None):
        _, found = fine_tune(start, reviews(2, 64), reviews(3, 500), 60)
        steps.append(next(2 * i for i, share in enumerate(found, 1) if share > 0.95))
    assert steps[1] >= 2 * steps[0]


def probe(model, fitted, asked):
    """How well a linear map of a vector tells good from bad: of [CLS], the mean, a first word."""
    encoder = Bert(POLAR)
    transfer_weights(model, encoder)
    vectors = []
    for ids, _ in (fitted, asked):
        states = encoder({"token_ids": ids})["sequence"].numpy()
        vectors.append((states[:, 0], states[:, 1:-1].mean(axis=1), states[:, 1]))
    found = []
    for a, b in zip(*vectors, strict=True):
        center = a.mean(axis=0)
        gram = (a - center).T @ (a - center) + np.eye(len(center))  # ridge regression
        weights = np.linalg.solve(gram, (a - center).T @ (2 * fitted[1] - 1))
        found.append(np.mean(((b - center) @ weights > 0) == asked[1]))
    return dict(zip(("[CLS]", "mean", "first word"), found, strict=True))


def test_fine_tuning_makes_cls_a_vector_of_the_text(fine_tuned):  # C49, W26
    """Of the vectors before fine-tuning nothing is claimed."""
    found = probe(fine_tuned[0], LABELLED, ASKED)
    assert found["[CLS]"] > 0.95
    assert found["[CLS]"] >= found["first word"] - 0.01
    untrained = probe(SequenceClassifier(POLAR, num_labels=2), LABELLED, ASKED)
    assert untrained["[CLS]"] < 0.85  # it is no matter of the probe


# Attention and recurrence


def test_products_that_wait_for_one_another_grow_with_length_in_recurrence_alone():  # C32, E05
    short, long = (
        {name: longest_chain(name, length) for name in ("keras_transformer", "LSTM", "GRU")}
        for length in (4, 12)
    )
    # A layer: a product for Q, K and V, one each for scores, values and output, two in the network.
    # The last product makes the labels.
    assert short["keras_transformer"] == long["keras_transformer"] == 2 * 6 + 1
    for name, layers in (("LSTM", 3), ("GRU", 4)):
        assert (short[name], long[name]) == (4 * layers + 1, 12 * layers + 1)
