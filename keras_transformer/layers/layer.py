"""The base of this package's layers: they say the shape of their output without being run."""

from collections.abc import Callable
from typing import Any

import keras

from keras_transformer.typing import Nested, Shape


class Layer(keras.layers.Layer):
    """A Keras layer that says the shape of its output, for which wrappers ask.

    Most layers of a Transformer keep the shape of their first input, and so does this one; the
    others override `compute_output_shape`, which needs no weights. It is the shape of a plain call;
    what options such as `return_attention` add is in `compute_output_spec`.
    """

    def compute_output_shape(self, inputs_shape: Shape, *_: Any, **__: Any) -> Any:
        """Return the shape of the output: that of the first input."""
        return tuple(inputs_shape)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Find shapes and dtypes by running the layer once on nothing.

        Keras would otherwise take the shape from `compute_output_shape` and make all outputs floats
        of the compute dtype, where masks, ids and biases are not.
        """
        return keras.Operation.compute_output_spec(self, *args, **kwargs)


def shapes_of(compute_output_spec: Callable[..., Any], *shapes: Nested) -> Any:
    """Return the shapes of outputs whose shapes and dtypes a function returns.

    Args:
        compute_output_spec: The method of a layer; it reads nothing but shapes of its arguments.
        *shapes: Of its arguments: tuples, in lists where tensors are in lists.

    Returns:
        Shapes, nested as the outputs are.
    """
    specs = keras.tree.map_shape_structure(keras.KerasTensor, shapes)
    return keras.tree.map_structure(lambda spec: tuple(spec.shape), compute_output_spec(*specs))
