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
    - `translate`: `text` string `(B,)` -> `text` string `(B, N)`, `score` float32 `(B, N)`, the N
      best, best first;
    - `complete`: `text` and `prefix` string `(B,)` -> as `translate`, but every text begins with
      its prefix;
    - `sample`, where the options sample: `text` string `(B,)` and `seed` int32 `(B,)` -> as
      `translate`;
    - `next_token`: `text` and `target` string `(B,)` -> `probabilities` float32 `(B, V)` of the
      token after what there is of the target;
    - `score`: `text` and `target` string `(B,)` -> `score` float32 `(B,)`, `tokens` int32 `(B,)`,
      `truncated` bool `(B,)`;
    - `align`: `text` and `target` string `(B,)` -> `source_ids` int32 `(B, S)`, `target_ids` int32
      `(B, T)`, `weights` float32 `(B, T, S)`;
    - `ids`: `ids` int32 `(B, S)` -> `ids` int32 `(B, T)`, `score` float32 `(B,)`;
    - `tokenize`: `text` string `(B,)` -> `ids` int32 `(B, S)`, `truncated` bool `(B,)`.

    The translator's options are part of the graph.

    Args:
        translator: What to export.
        path: Folder of the version, such as `savedmodel/1`.
    """
    text = tf.TensorSpec([None], tf.string, name="text")
    target = tf.TensorSpec([None], tf.string, name="target")
    prefix = tf.TensorSpec([None], tf.string, name="prefix")
    seed = tf.TensorSpec([None], tf.int32, name="seed")
    ids = tf.TensorSpec([None, None], tf.int32, name="ids")
    servable = tf.Module()
    # The plain variables: Keras's own archive saves each of them twice, and dropout's seeds too.
    model = translator.model
    kernels = [] if model.output_kernel is None else [model.output_kernel]
    servable.weights = [weight.value for weight in (*model.weights, *kernels)]
    signatures = {
        "serving_default": tf.function(translator.translate_text, input_signature=[text]),
        "translate": tf.function(translator.hypotheses, input_signature=[text]),
        "complete": tf.function(translator.complete, input_signature=[text, prefix]),
        "next_token": tf.function(translator.next_token, input_signature=[text, target]),
        "score": tf.function(translator.score_text, input_signature=[text, target]),
        "align": tf.function(translator.align_text, input_signature=[text, target]),
        "ids": tf.function(translator.translate_ids, input_signature=[ids]),
        "tokenize": tf.function(translator.tokenize_text, input_signature=[text]),
    }
    if translator.options.samples:
        signatures["sample"] = tf.function(translator.sample, input_signature=[text, seed])
    tf.saved_model.save(
        servable,
        str(path),
        {name: function.get_concrete_function() for name, function in signatures.items()},
    )
