"""Activations that Keras has under no name of their own."""

from collections.abc import Callable
from typing import Any

import keras

from keras_transformer.typing import Tensor


@keras.saving.register_keras_serializable("keras_transformer")
def gelu_tanh(x: Tensor) -> Tensor:
    """Compute the tanh approximation of GELU, which GPT-2 and T5 v1.1 were trained with.

    Reference: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units".
    """
    return keras.activations.gelu(x, approximate=True)


def get_activation(name: Any) -> Callable[..., Any]:
    """Return an activation by its name, or the callable that was given.

    Raises:
        ValueError: If there is none of this name.
    """
    return gelu_tanh if name == "gelu_tanh" else keras.activations.get(name)
