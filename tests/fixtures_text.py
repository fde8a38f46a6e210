"""Running a tokeniser as it runs on a phone: converted to TFLite, in LiteRT."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from keras_transformer.export import runtime
from keras_transformer.export.tflite.convert import convert

TEXT = tf.TensorSpec([None], tf.string)
IDS = tf.TensorSpec([None, None], tf.int32)


def saved(tokenizer, folder):
    """Both directions as a SavedModel; returns its folder."""

    @tf.function(input_signature=[TEXT])
    def tokenize(text):
        ids = tokenizer.tokenize(text)
        return {"ids": ids.to_tensor(shape=[None, None]), "counts": ids.row_lengths()}

    @tf.function(input_signature=[IDS])
    def detokenize(ids):
        return {"text": tokenizer.detokenize(ids)}

    module = tf.Module()
    module.tokenize, module.detokenize = tokenize, detokenize
    signatures = {"tokenize": tokenize, "detokenize": detokenize}
    tf.saved_model.save(module, str(folder), signatures)
    return folder


def lite(tokenizer, folder):
    """Both directions in LiteRT; only custom ops that the tokeniser names may be in the file."""
    content = convert(
        saved(tokenizer, folder), ["tokenize", "detokenize"], frozenset(tokenizer.custom_ops)
    )
    path = folder / "tokenizer.tflite"
    path.write_bytes(content)
    interpreter = runtime.interpreter(path)
    forth = interpreter.get_signature_runner("tokenize")
    back = interpreter.get_signature_runner("detokenize")

    def tokenize(texts):
        rows = [text.encode() if isinstance(text, str) else text for text in texts]
        found = forth(text=np.array(rows, dtype=object))
        return [
            ids[:count].tolist() for ids, count in zip(found["ids"], found["counts"], strict=True)
        ]

    def detokenize(rows):
        width = max(map(len, rows), default=0)
        ids = np.full(
            [len(rows), width],
            -1 if tokenizer.padding_id is None else tokenizer.padding_id,
            np.int32,
        )
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        return list(back(ids=ids)["text"])

    return SimpleNamespace(tokenize=tokenize, detokenize=detokenize, content=content)
