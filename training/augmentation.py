"""Changing the input so that a model learns to do with less of it."""

import tensorflow as tf

from keras_transformer.models.config import BEGIN_ID, END_ID, PADDING_ID, UNKNOWN_ID


def token_dropout(ids, rate: float, seed):
    """Replace tokens by the unknown token, each with the same probability (word dropout).

    The model can no longer rely on a single word and has to look at the others. Padding, begin and
    end tokens stay.

    Args:
        ids: Integer tensor `(B, S)`.
        rate: The probability.
        seed: Two integers; the same seed gives the same result.

    Returns:
        Tensor like `ids`.

    Reference: Bowman et al. 2016, "Generating Sentences from a Continuous Space", on the decoder's
    input; Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent
    Neural Networks".
    """
    real = tf.reduce_all([tf.not_equal(ids, i) for i in (PADDING_ID, BEGIN_ID, END_ID)], axis=0)
    chosen = tf.random.stateless_uniform(tf.shape(ids), tf.stack(seed)) < rate
    return tf.where(tf.logical_and(real, chosen), tf.cast(UNKNOWN_ID, ids.dtype), ids)
