"""Activation recomputation: trade a second forward pass for memory."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_transformer.typing import Tensor


def recompute(layer: keras.layers.Layer) -> Callable[..., Any]:
    """Wrap a layer so that its activations are computed again for the gradient, not kept.

    Only the layer's inputs stay in memory until the backward pass, which first runs the layer once
    more. What the layer drops out is the same both times: its random state goes in as a value and
    not as something that has moved on since.

    Args:
        layer: A built layer that returns one tensor and whose `call` takes `training`.

    Returns:
        A function with the arguments of the layer. Gradients reach every floating-point tensor
        among them.

    Reference: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """

    def call(*args: Any, **kwargs: Any) -> Tensor:
        arguments = keras.tree.flatten((args, kwargs))
        is_input = [ops.is_tensor(x) and keras.backend.is_float_dtype(x.dtype) for x in arguments]
        states = layer.non_trainable_variables
        before = [ops.copy(state) for state in states]

        @keras.remat
        def run(*inputs: Tensor) -> Tensor:
            remaining = iter(inputs)
            mixed = [
                next(remaining) if given else x
                for given, x in zip(is_input, arguments, strict=True)
            ]
            args_, kwargs_ = keras.tree.pack_sequence_as((args, kwargs), mixed)
            with keras.StatelessScope(list(zip(states, before, strict=True))):
                return layer(*args_, **kwargs_, training=True)  # later there's no outer call to ask

        outputs = run(*(x for given, x in zip(is_input, arguments, strict=True) if given))
        for state, value in zip(states, before, strict=True):
            state.assign(value + ops.convert_to_tensor([0, 1], state.dtype))  # drawn from once
        return outputs

    return call
