"""The engines that decode, each in a process of its own.

Each returns `ready(source, beam, shortest, longest)`, which returns the call to time and what makes
rows of ids of its result.
"""

import itertools
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import decode_peers as peers
import numpy as np
from contenders import THREADS, contend, limit_tensorflow
from decode_limits import with_limit
from results import Missing

EXTRA_LENGTH = 50  # a translation may be this much longer than its source, as ours may
TURN = 0.3  # seconds of calls in a turn, at least


def _ours(folder, name, load):
    loaded = {}

    def ready(source, beam, shortest, longest):
        path = folder / name.format(beam)
        if not path.exists():
            raise Missing(f"there is no {path.name}")
        if beam not in loaded:
            loaded[beam] = load(path)
        ids = np.where(source == peers.END, peers.PADDING, source).astype("int32")
        return lambda: loaded[beam](ids), lambda outputs: outputs[0].tolist()

    return ready


def with_savedmodel(folder, config):
    """Decode with our SavedModel."""
    limit_tensorflow()
    return _ours(folder, "savedmodel-{}", load_ours)


def with_savedmodel_xla(folder, config):
    """Decode with our SavedModel, compiled by XLA."""
    limit_tensorflow()
    return _ours(folder, "savedmodel-xla-{}", load_ours)


def _on_one_or_two_threads(load):
    """Decode with one thread or with two, whichever is faster in a cell.

    A second thread may cost more than it brings: CTranslate2 in int8 was ten times slower with two
    on some machines.

    Args:
        load: Makes an engine that has so many threads.
    """
    engines = [load(threads) for threads in (1, THREADS)]

    def ready(*cell):
        return min((engine(*cell) for engine in engines), key=lambda made: _warm_seconds(made[0]))

    return ready


def _warm_seconds(call):
    for _ in range(2):
        call()
    count, begin = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begin) < TURN / 3 or not count:
        call()
        count += 1
    return seconds / count


def with_tflite(folder, config, precision="float32"):
    """Decode with our `.tflite` in LiteRT; int8 quantises activations while it runs."""

    def on(threads):
        def load(path):
            from ai_edge_litert.interpreter import Interpreter

            runner = Interpreter(str(path), num_threads=threads).get_signature_runner("ids")

            def call(ids):
                outputs = runner(ids=ids)
                return outputs["ids"], outputs["score"]

            return call

        return _ours(folder, precision + "-{}.tflite", load)

    return _on_one_or_two_threads(on)


def with_tflite_int8(folder, config):
    """Decode with our `.tflite`, weights in int8."""
    return with_tflite(folder, config, "int8")


def with_ctranslate2(folder, config, precision="float32"):
    """Decode with CTranslate2."""

    def on(threads):
        return peers.load_ctranslate2(folder / "ctranslate2", threads, precision)

    return _on_one_or_two_threads(on)


def with_ctranslate2_int8(folder, config):
    """Decode with CTranslate2, weights in int8."""
    return with_ctranslate2(folder, config, "int8")


def with_marian(folder, config):
    """Decode with MarianMTModel of transformers, on PyTorch."""
    import torch

    torch.set_num_threads(THREADS)
    with np.load(folder / "weights.npz") as weights:
        return peers.ready_marian(peers.make_marian(dict(weights), config))


def with_recompute_all(folder, config):
    """Decode greedily with the training graph: everything again for each token."""
    limit_tensorflow()
    import tensorflow as tf

    model = load_model(folder)
    ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[ids, ids, tf.TensorSpec([None])])
    def following(source, target, never):
        logits = model({"source_ids": source, "target_ids": target}, training=False)[:, -1]
        return tf.argmax(logits + never, axis=-1, output_type=tf.int32)

    def ready(source, beam, shortest, longest):
        if beam > 1:
            raise Missing("greedy only")
        source = source.astype("int32")
        forbidden = np.zeros((2, config["vocabulary_size"]), "float32")
        forbidden[:, [peers.PADDING, peers.BEGIN]] = -1e9
        forbidden[0, peers.END] = -1e9

        def call():
            target = np.full((len(source), 1), peers.BEGIN, "int32")
            ended = np.zeros(len(source), bool)
            while target.shape[1] <= longest and not ended.all():
                never = forbidden[int(target.shape[1] > shortest)]
                chosen = following(source, target, never).numpy()
                target = np.concatenate([target, chosen[:, None]], axis=1)
                ended |= chosen == peers.END
            return target

        return call, lambda target: target[:, 1:].tolist()

    return ready


def load_ours(folder):
    """Load what `export_ours` wrote: a function from ids without ends to ids and scores."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["ids"]

    def call(ids):
        outputs = signature(ids=tf.constant(ids))
        return outputs["ids"].numpy(), outputs["score"].numpy()

    call.owner = loaded  # a signature alone does not keep the variables
    return call


def load_model(folder):
    """Load the Keras model."""
    import keras

    import keras_transformer.models  # noqa: F401  (registers the classes)

    return keras.saving.load_model(folder / "model.keras", compile=False)


ENGINES = {
    "savedmodel-xla": with_savedmodel_xla,
    "savedmodel": with_savedmodel,
    "tflite": with_tflite,
    "tflite-int8": with_tflite_int8,
    "ctranslate2": with_ctranslate2,
    "ctranslate2-int8": with_ctranslate2_int8,
    "marian": with_marian,
    "recompute-all": with_recompute_all,
}
OURS = ("savedmodel-xla", "savedmodel", "tflite", "tflite-int8")
FLOAT32 = ("savedmodel-xla", "savedmodel", "tflite", "ctranslate2", "marian", "recompute-all")


def _calls(ready, folder, config, job, beam):
    with np.load(folder / f"{job}.npz") as file:
        batches = [file[name] for name in file.files]
    calls = []
    for source in batches:
        longest = config["length"] or min(source.shape[1] + EXTRA_LENGTH, config["max_length"])
        calls.append(ready(source, beam, config["length"] or 0, longest))
    return calls


def _outputs(calls):
    begin = time.perf_counter()
    rows = [row for call, rows_of in calls for row in rows_of(call())]
    while time.perf_counter() - begin < 2 * TURN:  # so that it is warm for the first turn
        for call, _ in calls:
            call()
    return {"rows": [strip(row) for row in rows]}


def _time(calls):
    count, begin = 0, time.perf_counter()
    while (seconds := time.perf_counter() - begin) < TURN or not count:
        for call, _ in calls:
            call()
        count += 1
    return {"seconds": seconds / count}


def strip(row):
    """Return the tokens before the end token or the padding."""
    return list(itertools.takewhile(lambda i: i not in (peers.END, peers.PADDING), map(int, row)))


def make(name, folder):
    """Load an engine, for `contend`."""
    config = json.loads((folder / "config.json").read_text())
    if name == "limit":
        measure = with_limit(folder, config)
        return {}, lambda asked: measure()
    ready = ENGINES[name](folder, config)
    made = {}

    def answer(asked):
        cell = asked["job"], asked["beam"]
        if cell not in made:
            made[cell] = _calls(ready, folder, config, *cell)
        return (_time if asked["do"] == "time" else _outputs)(made[cell])

    return {}, answer


if __name__ == "__main__":
    contend(lambda: make(sys.argv[1], Path(sys.argv[2])))
