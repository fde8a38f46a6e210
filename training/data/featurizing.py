"""From strings to what a task trains on: the columns of many examples -> inputs and labels.

Shapes: N examples at once, S length.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.training.data.batching import EXAMPLES_AT_ONCE
from keras_transformer.typing import Strings, Tensor, Tensors

# Columns by name, strings (N,) -> inputs by name and labels, ragged or dense, N rows each.
Featurize = Callable[[dict[str, Strings]], tuple[Tensors, Any]]


def featurized(
    examples: tf.data.Dataset,
    columns: Sequence[str],
    featurize: Featurize,
    length_of: Sequence[str],
) -> tf.data.Dataset:
    """Make inputs and labels of many examples at once, apart from those with a blank column.

    Args:
        examples: Data set of tuples of strings, one for each column.
        columns: The names of the columns.
        featurize: See `make_example_batches`.
        length_of: Likewise.

    Returns:
        Data set of the columns by name, strings `(N,)`; the number of rows with a blank column,
        which are left out everywhere else, an int64 scalar; inputs; labels.

    Raises:
        InputError: If `featurize` gives no input that decides the length.
    """

    def apply(*texts: Strings) -> tuple[Any, ...]:
        blank = tf.reduce_any([tf.equal(tf.strings.strip(text), "") for text in texts], axis=0)
        full = [tf.boolean_mask(text, tf.logical_not(blank)) for text in texts]
        named = dict(zip(columns, full, strict=True))
        return named, tf.math.count_nonzero(blank), *featurize(named)

    chunks = examples.batch(EXAMPLES_AT_ONCE).map(apply, num_parallel_calls=tf.data.AUTOTUNE)
    given = chunks.element_spec[2]
    if missing := [name for name in length_of if name not in given]:
        raise InputError(
            f"featurize gives no {missing[0]}, but {', '.join(given)}: say with length_of which of "
            "them decide the length of an example."
        )
    return chunks


def find_usable(
    inputs: Tensors, length_of: Sequence[str], max_length: int
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Find the examples to train on.

    Args:
        inputs: What `featurize` returned.
        length_of: The inputs that decide the length. Without any, all examples are `max_length`
            long.
        max_length: Most tokens in any of them.

    Returns:
        The length in each of these inputs, a list of int64 tensors `(N,)`; and three boolean
        tensors `(N,)`: usable, too long, and with an empty input.
    """
    lengths = [_row_lengths(inputs[name]) for name in length_of]
    if not lengths:
        rows = tf.shape(next(iter(inputs.values())), tf.int64)[:1]
        lengths = [tf.fill(rows, tf.constant(max_length, tf.int64))]
    empty = tf.equal(tf.reduce_min(lengths, axis=0), 0)
    too_long = tf.logical_and(tf.reduce_max(lengths, axis=0) > max_length, tf.logical_not(empty))
    return lengths, tf.logical_not(tf.logical_or(empty, too_long)), too_long, empty


def _row_lengths(rows: Tensor) -> Tensor:
    if isinstance(rows, tf.RaggedTensor):
        return tf.cast(rows.row_lengths(), tf.int64)
    shape = tf.shape(rows, tf.int64)
    return tf.fill(shape[:1], shape[1])
