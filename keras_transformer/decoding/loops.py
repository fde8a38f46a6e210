"""While loops whose tensors may change shape from one turn to the next, where the backend can."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_transformer.layers.caches import writing_slices
from keras_transformer.typing import Nested, Tensor

# JAX compiles a loop for shapes that stay the same.
SHAPES_MAY_CHANGE = keras.backend.backend() == "tensorflow"


def while_loop(condition: Callable[..., Any], body: Callable[..., Any], state: Nested) -> Any:
    """Repeat `state = body(state)` while `condition(state)`.

    Args:
        condition: Function of the state that returns a boolean scalar.
        body: Function of the state that returns the next one, of the same structure.
        state: Tensors, nested at will. Where `SHAPES_MAY_CHANGE`, the axes 0 and 2 of every tensor
            may be of another size in each turn.

    Returns:
        The last state.
    """
    if not SHAPES_MAY_CHANGE:
        # Keras takes a tuple of loop variables.
        return ops.while_loop(condition, lambda state: (body(state),), (state,))[0]
    import tensorflow as tf

    def invariant(tensor: Tensor) -> Any:
        dimensions = tensor.shape.as_list()
        return tf.TensorShape([None if i in (0, 2) else d for i, d in enumerate(dimensions)])

    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    return tf.while_loop(
        condition,
        lambda state: (body(state),),
        (state,),
        shape_invariants=(tf.nest.map_structure(invariant, state),),
    )[0]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that XLA compiles, once for each combination of shapes."""
    import tensorflow as tf

    def traced(*args: Any) -> Any:
        with writing_slices():
            return function(*args)

    return tf.function(traced, jit_compile=True, reduce_retracing=True, autograph=False)
