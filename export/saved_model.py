"""The SavedModel: for TensorFlow Serving, and for any process with TensorFlow and tf.text."""

from pathlib import Path

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)

# isort: split

import keras
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
    archive = keras.export.ExportArchive()
    archive.track(translator.model)
    archive.add_endpoint("serving_default", translator.translate_text, [text])
    archive.add_endpoint("ids", translator.translate_ids, [ids])
    archive.add_endpoint("tokenize", translator.tokenize_text, [text])
    archive.write_out(str(path), verbose=False)
