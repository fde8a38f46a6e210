"""What `footprint` compares: one random model in the form of every engine, in one folder."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import decode_peers as peers
import numpy as np
from results import PRECISIONS, Missing

PIECES, LENGTH = 8000, 32  # a random model never ends, so that all outputs have this length
SENTENCES = 20_000  # that the vocabulary is learned from
EXPORT, RUN = "export", "run"


def _named(name):
    return [name, *(f"{name}-{precision}" for precision in PRECISIONS)]


LITE = [*_named("tflite"), *_named("tflite-ids")]
OURS = ["savedmodel", "run folder", *LITE]
FILES = ["savedmodel", *LITE, *_named("ctranslate2"), "marian"]  # whose sizes are compared


def path_of(folder, name):
    """Return the file or folder of an artefact.

    Raises:
        Missing: If it could not be written.
    """
    if name == "savedmodel":
        return folder / EXPORT / "savedmodel" / "1"
    kind, *parts = name.split("-")
    if kind == "tflite":
        parts = [part for part in (*PRECISIONS, "ids") if part in parts]
        return folder / EXPORT / ".".join(["model", *parts, "tflite"])
    excuse = folder / f"{name}.missing"
    if excuse.exists():
        raise Missing(excuse.read_text())
    return folder / name


def prepare(folder, preset, batch):
    """Write a random model in every form, sources, and what the model makes of them.

    Args:
        folder: Where to.
        preset: Of the model.
        batch: Number of sources.
    """
    from decode_models import random_model
    from rich.console import Console

    from keras_transformer.decoding import GenerationOptions
    from keras_transformer.export import export_run
    from keras_transformer.pipelines.translator import Translator
    from keras_transformer.text import WordPieceTokenizer, learn_vocabulary
    from keras_transformer.training.data import spoken_english
    from keras_transformer.training.run.run_directory import RunDirectory

    examples = list(spoken_english.examples("train", SENTENCES))
    lines = [line for example in examples for line in (example.spoken, example.written)]
    tokenizer = WordPieceTokenizer(learn_vocabulary(lines, PIECES))
    texts = [example.spoken for example in spoken_english.examples("test", batch)]
    model = random_model(preset, len(tokenizer))
    # No training belongs to it, as to what `import` writes: export looks for no validation text.
    run = RunDirectory.create(folder / RUN, model.config, None, tokenizer, texts[:1], weights=model)
    options = GenerationOptions(max_length=LENGTH)
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere)
        # What int8 makes of random weights is nothing to be measured.
        export_run(run, folder / EXPORT, console, options, max_quality_loss=100)
    config = model.config.to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    weights = peers.plain_weights(model)
    np.savez(folder / "weights.npz", **weights)
    _write_peers(folder, weights, config)
    translator = Translator(model, tokenizer, options)
    ids = translator.call("tokenize", text=texts)["ids"]
    ids = np.where(ids == peers.END, peers.PADDING, ids)
    expected = {
        "text": [text.decode() for text in translator.call("serving_default", text=texts)["text"]],
        "ids": translator.call("ids", ids=ids)["ids"].tolist(),
    }
    sources = {"text": texts, "ids": ids.tolist()}
    (folder / "texts.json").write_text(json.dumps({"sources": sources, "expected": expected}))


def _write_peers(folder, weights, config):
    """Write what peers load; what fails here is missing there."""
    for name, quantization in zip(_named("ctranslate2"), (None, *PRECISIONS), strict=True):
        try:
            peers.write_ctranslate2(weights, config, folder / name, quantization)
        except (ImportError, KeyError) as error:
            _excuse(folder, name, error)
    try:
        peers.make_marian(weights, config).save_pretrained(folder / "marian")
    except (ImportError, ValueError) as error:
        _excuse(folder, "marian", error)


def _excuse(folder, name, error):
    (folder / f"{name}.missing").write_text(f"{error}")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
