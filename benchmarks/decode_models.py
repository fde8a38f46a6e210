"""What is decoded: a model in every engine's form, and sources, in one folder.

A process of its own writes them, which gives back the memory that the exports took.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import decode_peers as peers
import numpy as np

VOCABULARY, SOURCE, LENGTH = 8000, 24, 32  # tokens of source and output, the end not among them
TEXT_BATCH = 32
TFLITE = {"tflite": "float32", "tflite-int8": "int8"}  # engines, and the precision of their weights


def export_ours(model, folder, beam, length, jit_compile=False):
    """Write the SavedModel of a model from ids to ids.

    Args:
        model: A `Transformer`.
        folder: Folder to write.
        beam: Number of beams; 1 is greedy search.
        length: Exact number of tokens of every output, or None for real ends.
        jit_compile: Whether XLA compiles it where it runs.
    """
    import tensorflow as tf

    import keras_transformer as kt
    from keras_transformer.text.framing import cut_and_end

    options = kt.decoding.GenerationOptions(
        beam_size=beam, length_penalty=0.0, min_length=length or 0, max_length=length
    )

    def translate(ids):
        source = cut_and_end(
            ids, model.config.max_length, model.config.end_id, model.config.padding_id
        )
        target, score = kt.decoding.generate(model, source, options, jit_compile=jit_compile)
        return {"ids": target, "score": score}

    servable = tf.Module()
    kernels = [] if model.output_kernel is None else [model.output_kernel]
    servable.weights = [weight.value for weight in (*model.weights, *kernels)]
    ids = tf.TensorSpec([None, None], tf.int32, name="ids")
    function = tf.function(translate, input_signature=[ids])
    tf.saved_model.save(servable, str(folder), {"ids": function.get_concrete_function()})


def random_model(preset, vocabulary_size=VOCABULARY):
    """Make a model whose outputs vary from row to row and from token to token.

    With its own initial values a model repeats one token, the same for many rows. So queries and
    keys are doubled, which makes attention choose, and values and outputs multiplied by 0.7, for
    attention makes positions alike; both maps of the feed-forward networks are quadrupled, so that
    a position's own token counts, and the second has its mean over the hidden units taken out:
    these are all positive and would add the same vector everywhere. Larger factors amplify
    rounding until engines part. The special tokens' vectors are a tenth as long, so that none of
    them is ever the likeliest.
    """
    import keras

    import keras_transformer as kt

    keras.utils.set_random_seed(1)
    config = kt.models.TransformerConfig.preset(preset, vocabulary_size, max_length=128)
    model = kt.models.Transformer(config)
    for stack in ("encoder", "decoder"):
        for block in model.get_layer(stack).blocks:
            for attention in peers.ATTENTIONS[stack]:
                sublayer = getattr(block, attention).sublayer
                for name, factor in (("query", 2), ("key", 2), ("value", 0.7), ("output", 0.7)):
                    kernel = getattr(sublayer, f"{name}_projection").kernel
                    kernel.assign(factor * kernel)
            network = block.feed_forward.sublayer
            contract = keras.ops.convert_to_numpy(network.contract.kernel)
            network.expand.kernel.assign(4 * network.expand.kernel)
            network.contract.kernel.assign(4 * (contract - contract.mean(axis=0)))
    table = keras.ops.convert_to_numpy(model.get_layer("embedding").table)
    table[: peers.END + 1] *= 0.1
    model.get_layer("embedding").table.assign(table)
    return model


def prepare(folder, engines, beams, preset=None, batches=(), run=None, source=None):
    """Write the model for every engine, and the sources, into a folder.

    Args:
        folder: Where to.
        engines: Names of the engines.
        beams: Numbers of beams.
        preset: Of a random model,
        batches: whose sources come in batches of so many rows;
        run: or else a trained run folder,
        source: whose sources are the lines of this file.
    """
    import keras

    from keras_transformer.export.tflite.convert import convert
    from keras_transformer.layers.caches import writing_slices

    if run:
        from keras_transformer.training.run.run_directory import RunDirectory

        opened = RunDirectory.open(run)
        model = opened.load_model()
        jobs = {"text": text_batches(opened.tokenizer(), model, source)}
        length = None
    else:
        model = random_model(preset)
        rows = np.random.default_rng(0).integers(4, VOCABULARY, (max(batches), SOURCE))
        rows = np.pad(rows, ((0, 0), (0, 1)), constant_values=peers.END)
        jobs = {f"batch {batch}": [rows[:batch]] for batch in batches}
        length = LENGTH
    keras.saving.save_model(model, folder / "model.keras")
    config = model.config.to_dict()
    (folder / "config.json").write_text(json.dumps({**config, "length": length}))
    weights = peers.plain_weights(model)
    np.savez(folder / "weights.npz", **weights)
    for name, batches in jobs.items():
        np.savez(folder / f"{name}.npz", *batches)
    if any(name.startswith("ctranslate2") for name in engines):
        with contextlib.suppress(ImportError, KeyError):  # the engine itself will say so
            peers.write_ctranslate2(weights, config, folder / "ctranslate2")
    precisions = [precision for name, precision in TFLITE.items() if name in engines]
    for beam in beams:
        saved_model = folder / f"savedmodel-{beam}"
        if precisions:
            with writing_slices():
                export_ours(model, saved_model, beam, length)
        for precision in precisions:
            content = convert(saved_model, ["ids"], frozenset(), precision)
            (folder / f"{precision}-{beam}.tflite").write_bytes(content)
    model.transpose_output()  # as `keras-transformer export` does for SavedModels
    for beam in beams:
        export_ours(model, folder / f"savedmodel-{beam}", beam, length)
        if "savedmodel-xla" in engines:
            export_ours(model, folder / f"savedmodel-xla-{beam}", beam, length, jit_compile=True)


def text_batches(tokenizer, model, source):
    """Cut the lines of a file into ids, ended, in batches of similar length."""
    from keras_transformer.pipelines.translator import Translator

    lines = [line for line in Path(source).read_text("utf-8").split("\n") if line.strip()]
    ids, _ = Translator(model, tokenizer).tokenize(lines)
    rows = [[*row[row != 0][: model.config.max_length - 1], peers.END] for row in ids]
    rows.sort(key=len)
    batches = []
    for start in range(0, len(rows), TEXT_BATCH):
        some = rows[start : start + TEXT_BATCH]
        width = max(map(len, some))
        batches.append(np.array([[*row, *[0] * (width - len(row))] for row in some]))
    return batches


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), **json.loads(sys.argv[2]))
