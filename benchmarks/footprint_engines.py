"""The engines of `footprint`, each in a process of its own that loads only what it needs.

Each returns a function from sources to a list of outputs. Those from text to text take texts; the
others take ids, as no peer has a tokeniser inside.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import decode_peers as peers
import numpy as np
from contenders import THREADS, contend, limit_tensorflow
from footprint_models import LENGTH, RUN, path_of
from results import PRECISIONS, Missing

SAME = 0.9  # of the rows, as rounding may decide some; other weights would change all


def with_savedmodel(folder):
    """Translate text with our SavedModel, as any Python with TensorFlow would."""
    limit_tensorflow()
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (its ops are in the graph)

    loaded = tf.saved_model.load(str(path_of(folder, "savedmodel")))
    translate = loaded.signatures["serving_default"]

    def call(texts, loaded=loaded):  # a signature alone does not keep the variables
        return _texts(translate(text=tf.constant(texts))["text"].numpy())

    return call


def with_run(folder):
    """Translate text with the run folder, by this package."""
    limit_tensorflow()
    from keras_transformer.decoding import GenerationOptions
    from keras_transformer.export.runtime import load

    model = load(folder / RUN, GenerationOptions(max_length=LENGTH))
    return lambda texts: _texts(model.call("serving_default", text=texts)["text"])


def with_tflite(folder, name):
    """Translate text with our `.tflite` in LiteRT, with tf.text's ops."""
    import tensorflow_text
    from ai_edge_litert.interpreter import InterpreterWithCustomOps

    interpreter = InterpreterWithCustomOps(
        model_path=str(path_of(folder, name)),
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
        num_threads=1,
    )
    run = interpreter.get_signature_runner("serving_default")
    return lambda texts: _texts(run(text=np.array([x.encode() for x in texts], object))["text"])


def with_tflite_ids(folder, name):
    """Translate ids with our `.tflite` in LiteRT alone."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path_of(folder, name)), num_threads=1)
    run = interpreter.get_signature_runner("ids")
    return lambda ids: run(ids=np.array(ids, "int32"))["ids"].tolist()


def _texts(array):
    return [text.decode() if isinstance(text, bytes) else str(text) for text in array]


# Peers


def with_ctranslate2(folder, name):
    """Translate ids with CTranslate2."""
    path = path_of(folder, name)
    compute_type = "int8" if name.endswith("int8") else "float32"
    return _with_peer(peers.load_ctranslate2(path, 1, compute_type))


def with_marian(folder):
    """Translate ids with MarianMTModel of transformers, on PyTorch."""
    path = path_of(folder, "marian")
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    model = transformers.MarianMTModel.from_pretrained(path).eval()
    with np.load(folder / "weights.npz") as weights:  # of which only some are read
        peers.complete_marian(model, weights, json.loads((folder / "config.json").read_text()))
    return _with_peer(peers.ready_marian(model))


def _with_peer(ready):
    def call(ids):
        ended = [[*(i for i in row if i != peers.PADDING), peers.END] for row in ids]
        width = max(map(len, ended))
        source = np.array([row + [peers.PADDING] * (width - len(row)) for row in ended])
        translate, rows_of = ready(source, 1, 0, LENGTH)
        return rows_of(translate())

    return call


ENGINES = {  # what each takes, and what makes it
    "savedmodel": ("text", with_savedmodel),
    "run folder": ("text", with_run),
    "tflite": ("text", lambda folder: with_tflite(folder, "tflite")),
    "tflite-int8": ("text", lambda folder: with_tflite(folder, "tflite-int8")),
    "tflite-ids": ("ids", lambda folder: with_tflite_ids(folder, "tflite-ids")),
    "tflite-ids-int8": ("ids", lambda folder: with_tflite_ids(folder, "tflite-ids-int8")),
    "ctranslate2": ("ids", lambda folder: with_ctranslate2(folder, "ctranslate2")),
    "ctranslate2-int8": ("ids", lambda folder: with_ctranslate2(folder, "ctranslate2-int8")),
    "marian": ("ids", with_marian),
}


def make(name, folder):
    """Load an engine and translate one sentence, and more when asked, for `contend`."""
    kind, load = ENGINES[name]
    file = json.loads((folder / "texts.json").read_text())
    sources, expected = file["sources"][kind], file["expected"][kind]
    translate = load(folder)

    def check(count):
        rows = translate(sources[:count])
        same = sum(row == wanted for row, wanted in zip(rows, expected, strict=False))
        if not name.endswith(PRECISIONS) and same < SAME * count:
            raise Missing("it writes something else than our model")

    def answer(asked):
        check(len(sources))
        return {"peak": _peak()}

    check(1)
    return {}, answer


def _peak():
    """Return the most memory that this process ever had, in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    contend(lambda: make(sys.argv[1], Path(sys.argv[2])))
