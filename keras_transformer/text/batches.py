"""One text or many: what every tokeniser makes of a tensor of another rank.

tf.text's ops read beyond a string tensor that is no vector, which ends the process. So no tokeniser
hands them anything else.
"""

import functools
from collections.abc import Callable
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError
from keras_transformer.typing import Ids, Ragged, Strings


def takes_texts(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of a tokeniser, from strings `(B,)` to ragged ids, take one text as well.

    A scalar gives what its only row would be, as tf.text has it: an int32 vector `(S,)`. So
    `TextLineDataset(path).map(tokenizer.tokenize)` gives the ids of each line.

    Raises (the method):
        InputError: If the text is of rank 2 or higher, or is no text. Where a graph is traced for
            any rank, it is the graph that fails.
    """

    @tf.autograph.experimental.do_not_convert  # it would hide the kind of an error
    @functools.wraps(method)
    def tokenize(self: Any, text: Any, *args: Any, **kwargs: Any) -> Ragged:
        text = as_strings(text)
        if text.shape.rank == 0:
            return method(self, tf.expand_dims(text, 0), *args, **kwargs).values
        return method(self, text, *args, **kwargs)

    return tokenize


def as_strings(text: Any) -> Strings:
    """Return a string tensor that is a vector or a scalar.

    Raises:
        InputError: If it is of a higher rank, or is no text.
    """
    try:
        text = tf.convert_to_tensor(text, tf.string)
    except (TypeError, ValueError) as error:
        raise InputError(f"A tokeniser takes texts, a string tensor (B,): {error}") from None
    if text.shape.rank is None:
        return tf.ensure_shape(text, [None])
    if text.shape.rank > 1:
        raise InputError(
            f"A tokeniser takes one text or a batch (B,), got rank {text.shape.rank}, shape "
            f"{tuple(text.shape)}. Flatten it with tf.reshape(text, [-1])."
        )
    return text


def as_batch(text: Any) -> Strings:
    """Return a string tensor `(B,)`.

    Raises:
        InputError: If it is of another rank, or is no text.
    """
    text = as_strings(text)
    if text.shape.rank == 0:
        raise InputError("This takes a batch of texts (B,), got one text; put it in a list.")
    return text


def takes_ids(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of a tokeniser, from ids `(B, T)` to strings `(B,)`, take one row as well.

    A vector gives the text of its only row, a scalar string.

    Raises (the method):
        InputError: If the ids are of another rank.
    """

    @tf.autograph.experimental.do_not_convert  # it would hide the kind of an error
    @functools.wraps(method)
    def detokenize(self: Any, ids: Ids) -> Strings:
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.convert_to_tensor(ids)
        if ids.shape.rank is None:
            ids = tf.ensure_shape(ids, [None, None])
        if ids.shape.rank == 1:
            return method(self, tf.expand_dims(ids, 0))[0]
        if ids.shape.rank != 2:
            raise InputError(
                f"detokenize takes the ids of one text (T,) or of a batch (B, T), got rank "
                f"{ids.shape.rank}, shape {tuple(ids.shape)}."
            )
        return method(self, ids)

    return detokenize
