"""The SavedModel: for TensorFlow Serving, and for any process with TensorFlow and tf.text."""

from pathlib import Path

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import tensorflow as tf

from keras_transformer.translator import Translator


def export_saved_model(translator: Translator, path: Path) -> None:
    """Write a SavedModel of one version.

    Signatures:

    - `serving_default`: `text` string `(B,)` -> `text` string `(B,)`, `score` float32 `(B,)`;
    - `ids`: `ids` int32 `(B, S)` -> `ids` int32 `(B, T)`, `score` float32 `(B,)`;
    - `tokenize`: `text` string `(B,)` -> `ids` int32 `(B, S)`, `truncated` bool `(B,)`.

    Args:
        translator: What to export.
        path: Folder of the version, such as `savedmodel/1`.
    """
    text = tf.TensorSpec([None], tf.string, name="text")
    ids = tf.TensorSpec([None, None], tf.int32, name="ids")
    servable = tf.Module()
    # The plain variables: Keras's own archive saves each of them twice, and dropout's seeds too.
    servable.weights = [weight.value for weight in translator.model.weights]
    signatures = {
        "serving_default": tf.function(translator.translate_text, input_signature=[text]),
        "ids": tf.function(translator.translate_ids, input_signature=[ids]),
        "tokenize": tf.function(translator.tokenize_text, input_signature=[text]),
    }
    tf.saved_model.save(
        servable,
        str(path),
        {name: function.get_concrete_function() for name, function in signatures.items()},
    )
