"""The engines that turn texts into vectors, each in a process of its own.

Each returns functions from a list of texts to an array `(B, D)` of vectors of length 1, one for
each number of threads that it may run with; cutting the texts into pieces is part of them.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import embeddings_models as forms
import numpy as np
from contenders import THREADS, contend, limit_tensorflow

TURN = 0.3  # seconds of calls in a turn, at least
TRIED = 16  # batches, to choose the number of threads by
MOST = 256  # tokens of a text, as the model's own settings say


def with_savedmodel(folder, model, threads=THREADS):
    """Embed with our SavedModel; how many threads TensorFlow has holds for a whole process."""
    limit_tensorflow(threads)
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the ops that are in the graph)

    (version,) = (folder / forms.EXPORT / "savedmodel").iterdir()
    loaded = tf.saved_model.load(str(version))
    embed = loaded.signatures["serving_default"]

    def call(texts):
        return embed(text=tf.constant(texts))["embedding"].numpy()

    call.owner = loaded  # a signature alone does not keep the variables
    return [call]


def with_savedmodel_one_thread(folder, model):
    """Embed with our SavedModel on one thread, which runs small graphs without handing over."""
    return with_savedmodel(folder, model, 1)


def with_tflite(folder, model, file="model.tflite"):
    """Embed with our `.tflite` in LiteRT."""
    import tensorflow_text
    from ai_edge_litert.interpreter import InterpreterWithCustomOps

    def on(threads):
        runner = InterpreterWithCustomOps(
            model_path=str(folder / forms.EXPORT / file),
            custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
            num_threads=threads,
        ).get_signature_runner("serving_default")
        return lambda texts: runner(text=np.array(texts, object))["embedding"]

    return [on(threads) for threads in {1, THREADS}]


def with_tflite_int8(folder, model):
    """Embed with our `.tflite`, weights in int8."""
    return with_tflite(folder, model, "model.int8.tflite")


def with_transformers(folder, model):
    """Embed with transformers on PyTorch: a fast tokeniser, the mean of the tokens, length 1."""
    import torch
    import transformers

    encoder = forms.load_torch(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(model))

    def on(threads):
        def call(texts):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                inputs = tokenizer(
                    texts, padding=True, truncation=True, max_length=MOST, return_tensors="pt"
                )
                sequence = encoder(**inputs).last_hidden_state
                weights = inputs["attention_mask"].unsqueeze(-1).float()
                mean = (sequence * weights).sum(1) / weights.sum(1)
                return torch.nn.functional.normalize(mean).numpy()

        return call

    return [on(threads) for threads in {1, THREADS}]


def with_onnxruntime(folder, model, form=forms.ONNX):
    """Embed with ONNX Runtime."""
    import onnxruntime

    path = forms.path_of(folder, forms.ONNX).with_name(form)
    cut = _tokenizer(model)

    def on(threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

        def call(texts):
            ids, mask = cut(texts)
            (sequence,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
            return _pool(sequence, mask)

        return call

    return [on(threads) for threads in {1, THREADS}]


def with_onnxruntime_int8(folder, model):
    """Embed with ONNX Runtime, weights in int8 and activations quantised while it runs."""
    return with_onnxruntime(folder, model, "model.int8.onnx")


def with_ctranslate2(folder, model, precision="float32"):
    """Embed with CTranslate2."""
    import ctranslate2

    path = forms.path_of(folder, forms.CTRANSLATE2)
    cut = _tokenizer(model)

    def on(threads):
        encoder = ctranslate2.Encoder(
            str(path), compute_type=precision, intra_threads=threads, inter_threads=1
        )

        def call(texts):
            ids, mask = cut(texts)
            rows = [row[:count] for row, count in zip(ids.tolist(), mask.sum(1), strict=True)]
            return _pool(np.array(encoder.forward_batch(rows).last_hidden_state), mask)

        return call

    return [on(threads) for threads in {1, THREADS}]


def with_ctranslate2_int8(folder, model):
    """Embed with CTranslate2, weights in int8."""
    return with_ctranslate2(folder, model, "int8")


def _tokenizer(model):
    """Return a function from texts to padded ids and their mask, by tokenizers itself."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(MOST)
    tokenizer.enable_padding()

    def cut(texts):
        rows = tokenizer.encode_batch(texts)
        return np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows])

    return cut


def _pool(sequence, mask):
    """Take the mean over real tokens, and make its length 1."""
    weights = mask[:, :, None].astype("float32")
    mean = (sequence * weights).sum(1) / weights.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


ENGINES = {
    "savedmodel": with_savedmodel,
    "savedmodel-one-thread": with_savedmodel_one_thread,
    "tflite": with_tflite,
    "tflite-int8": with_tflite_int8,
    "transformers": with_transformers,
    "onnxruntime": with_onnxruntime,
    "onnxruntime-int8": with_onnxruntime_int8,
    "ctranslate2": with_ctranslate2,
    "ctranslate2-int8": with_ctranslate2_int8,
}
OURS = ("savedmodel", "savedmodel-one-thread", "tflite", "tflite-int8")


def fastest(calls, batches, trials=4):
    """Return the call that takes the least time; they take turns, and the best turn counts."""
    best = [float("inf")] * len(calls)
    for trial in range(trials if len(calls) > 1 else 0):
        for i, call in enumerate(calls):
            if 2 * min(best) < best[i] < float("inf"):  # such as threads that wait for a processor
                continue
            begin = time.perf_counter()
            for texts in batches[:TRIED]:
                call(texts)
            if trial:  # the first makes kernels for new shapes
                best[i] = min(best[i], time.perf_counter() - begin)
    return calls[best.index(min(best))]


def make(name, folder, model):
    """Load an engine, for `contend`."""
    texts = json.loads((folder / forms.TEXTS).read_text())
    calls = ENGINES[name](folder, model)
    chosen = {}

    def answer(asked):
        size = asked["batch"]
        batches = [texts[i : i + size] for i in range(0, len(texts), size)]
        if asked["do"] == "embed":
            chosen[size] = fastest(calls, batches)
            return {"vectors": np.concatenate([chosen[size](b) for b in batches]).tolist()}
        count, begin = 0, time.perf_counter()
        while (seconds := time.perf_counter() - begin) < TURN or not count:
            for batch in batches:
                chosen[size](batch)
            count += 1
        return {"rate": count * len(texts) / seconds}

    return {}, answer


if __name__ == "__main__":
    contend(lambda: make(sys.argv[1], *map(Path, sys.argv[2:])))
