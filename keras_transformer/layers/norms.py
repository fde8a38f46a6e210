"""Normalisation: one place where a kind becomes a layer."""

import keras

from keras_transformer.typing import DType

NORMS = ("layer", "rms", "batch")


def make_norm(kind: str, epsilon: float, dtype: DType, name: str) -> keras.layers.Layer:
    """Make a layer that normalises `(B, T, D)`.

    Args:
        kind: "layer", mean 0 and variance 1 over the width of each token; "rms", which divides by
            the root of the mean square alone and has no offset; or "batch", over all tokens of a
            batch, the contrast: what it gives one sentence depends on those beside it.
        epsilon: Added to the variance or the mean square.
        dtype: A dtype policy.
        name: Name of the layer.

    Raises:
        ValueError: If there is no such kind.

    Reference: Ba et al. 2016 (layer); Zhang & Sennrich 2019 (RMS); Ioffe & Szegedy 2015 (batch).
    """
    if kind not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {kind!r}.")
    layer = {
        "layer": keras.layers.LayerNormalization,
        "rms": keras.layers.RMSNormalization,
        "batch": keras.layers.BatchNormalization,
    }[kind]
    return layer(epsilon=epsilon, dtype=dtype, name=name)
