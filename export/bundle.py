"""Exporting a run: every artefact, proven and then put in place in one move."""

import json
import shutil
from pathlib import Path

from rich.console import Console

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import parity
from keras_transformer.export.runtime import SIGNATURES
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite import TF_TEXT_OPS, convert
from keras_transformer.training.files import replacing
from keras_transformer.training.run_directory import RunDirectory
from keras_transformer.translator import Translator

SAVED_MODEL = Path("savedmodel")
VERSION = "1"
TFLITE = "model.tflite"
IDS_TFLITE = "model.ids.tflite"
VOCABULARY = "vocab.txt"
GENERATION = "generation.json"


def export_run(
    run: RunDirectory,
    output,
    overwrite: bool = False,
    console: Console | None = None,
    options: GenerationOptions | None = None,
    jit_compile: bool = False,
) -> dict[str, Path]:
    """Export a trained run to a folder.

        savedmodel/1/       for TensorFlow Serving: text -> text and score
        model.tflite        for phones, with tf.text's ops: text -> text
        model.ids.tflite    for runtimes without them: ids -> ids
        vocab.txt           the pieces that the ids stand for
        generation.json     the options that are part of all three

    Each artefact is run in a fresh process on the run's sample sentences, and has to write what the
    model writes, before anything appears in `output`.

    Args:
        run: The run directory.
        output: Folder to write.
        overwrite: Whether an earlier export in `output` may be replaced.
        console: Where progress is shown; standard error if None.
        options: How targets are generated: `GenerationOptions`; greedily if None.
        jit_compile: Whether XLA is to compile the SavedModel where it runs.

    Returns:
        The paths by name: `savedmodel`, `tflite` and `ids_tflite`.

    Raises:
        InputError: If the folder is not free, the run has no weights, or an artefact disagrees with
            the model or would hold an op that its runtime lacks.
    """
    console = console or Console(stderr=True)
    output = Path(output)
    check_free(output, overwrite)
    tokenizer = run.tokenizer()
    translator = Translator(run.load_model(), tokenizer, options)
    samples = run.samples()
    with replacing(output) as new, console.status("Exporting") as status:
        saved_model = new / SAVED_MODEL / VERSION
        status.update("Writing a SavedModel to convert")
        export_saved_model(translator, saved_model)
        tokenizer.save(new / VOCABULARY)
        values = {**translator.options.to_dict(), "jit_compile": jit_compile}
        (new / GENERATION).write_text(json.dumps(values, indent=2) + "\n")
        status.update("Converting to TFLite")
        text_signatures = ["serving_default", *sorted(SIGNATURES)]
        if translator.options.samples:
            text_signatures.append("sample")
        (new / TFLITE).write_bytes(convert(saved_model, text_signatures, TF_TEXT_OPS))
        (new / IDS_TFLITE).write_bytes(convert(saved_model, ["ids"], frozenset()))
        # LiteRT takes no graph that XLA is to compile, and a phone has no room for a second table.
        status.update("Writing the SavedModel as it will run")
        shutil.rmtree(saved_model)
        translator.model.transpose_output()
        export_saved_model(
            Translator(translator.model, tokenizer, options, jit_compile), saved_model
        )
        for artefact in (saved_model, new / TFLITE, new / IDS_TFLITE):
            name = artefact.relative_to(new)
            status.update(f"Running {name} in a fresh process")
            parity.check(artefact, translator, samples)
            console.print(
                f"{name}: {_size(artefact):.1f} MB, agrees with the model on {len(samples)} "
                f"sample sentences and {len(parity.EDGE_CASES)} edge cases"
            )
    return {
        "savedmodel": output / SAVED_MODEL,
        "tflite": output / TFLITE,
        "ids_tflite": output / IDS_TFLITE,
    }


def check_free(output: Path, overwrite: bool) -> None:
    """Make sure that an export may be written to `output`.

    Raises:
        InputError: If something is there that may not be replaced.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / SAVED_MODEL).is_dir():
        raise InputError(f"{output} exists and is not an export; choose another output folder.")
    if not overwrite:
        raise InputError(
            f"{output} holds an export already; replace it by --overwrite or choose another "
            "output folder."
        )


def _size(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6
