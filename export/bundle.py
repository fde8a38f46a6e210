"""Exporting a run: every artefact proven, its quality measured, and then put in place."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.artefacts.artefact import SAVED_MODEL
from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import parity, tf_serving
from keras_transformer.export.folder import (
    CARD,
    EXTRA,
    GENERATION,
    PRECISIONS,
    check_free,
    is_text,
    prune,
    put_in_place,
    write_tokenizer,
    writing_export,
)
from keras_transformer.export.model_card import model_card
from keras_transformer.export.quality import measure, validation_of
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.write import write_tflite
from keras_transformer.files import (
    write_json,
)
from keras_transformer.pipelines.tasks import WRITE, make_servable
from keras_transformer.training.run.run_directory import RunDirectory

VALIDATION_LINES = 200
MAX_QUALITY_LOSS = 1.0


def export_run(
    run: RunDirectory,
    output,
    console: Console | None = None,
    options: GenerationOptions | None = None,
    *,
    jit_compile: bool = False,
    name: str | None = None,
    keep: int = 0,
    precisions: Sequence[str] = PRECISIONS,
    max_quality_loss: float = MAX_QUALITY_LOSS,
    source_language: str | None = None,
    target_language: str | None = None,
) -> dict[str, Path]:
    """Export a trained run to a folder.

        savedmodel/1/            for TensorFlow Serving: text -> text and score, and much more
        models.config ...        what starts a server with it; see `tf_serving`
        model.tflite             for phones, with tf.text's ops: text -> text
        model.ids.tflite         for runtimes without them: ids -> ids
        model.float16.tflite     both with smaller weights, and in int8
        vocab.txt                the pieces that the ids stand for; of other tokenisers their files
        generation.json          the options that are part of all of them
        model_card.json          what the model is, and how good each file is

    Another export into the same folder adds the next version, and replaces the other files; those
    that it does not write are removed. Each artefact is run in a fresh process on the run's
    validation text. In float32 it has to write what the model writes, and smaller files may lose
    little, before anything appears in `output`.

    Args:
        run: The run directory.
        output: Folder to write.
        console: Where progress is shown; standard error if None.
        options: How targets are generated: `GenerationOptions`; greedily if None.
        jit_compile: Whether XLA is to compile the SavedModel where it runs.
        name: The model's name; the run folder's if None.
        keep: How many versions stay; 0 for all.
        precisions: Which `.tflite` files are written: some of `PRECISIONS`. float32 always is.
        max_quality_loss: Most points of BLEU that a `.tflite` may lose against float32; of a
            language model, by how many per cent its perplexity may rise.
        source_language: Of the model card; the ending of the training text's file if None.
        target_language: Likewise.

    Returns:
        The paths by name: `savedmodel`, `tflite`, `ids_tflite`, and for other precisions
        `float16_tflite`, `float16_ids_tflite` and so on.

    Raises:
        InputError: If the folder is not free, the run has no weights, an artefact disagrees with
            the model or loses too much, or would hold an op that its runtime lacks; or if another
            process exports into the folder.
    """
    console = console or Console(stderr=True)
    output = Path(output)
    check_free(output)
    name = tf_serving.check_name(name or run.path.absolute().name)
    if run.head().task not in WRITE:
        from keras_transformer.export.encoder_bundle import export_encoder

        if options is not None or jit_compile:
            raise InputError(
                f"{run.path} writes no text: leave out --jit-compile and the options of generation."
            )
        return export_encoder(run, output, name, console, keep, precisions, max_quality_loss)
    translator = run.servable(options)
    tokenizer, validation = translator.tokenizer, validation_of(run, translator)
    wanted = [p for p in PRECISIONS if p in {"float32", *precisions}]
    with (
        writing_export(output) as scratch,
        console.status("Exporting") as status,
    ):
        values = {**translator.options.to_dict(), "jit_compile": jit_compile}
        inside = write_tokenizer(tokenizer, scratch)
        write_json(scratch / GENERATION, values)
        readable = [file for file in (*inside, GENERATION) if is_text(scratch / file)]
        lite = write_tflite(translator, scratch, name, wanted, status, readable)
        # LiteRT takes no graph that XLA is to compile, and a phone has no room for a second
        # copy of the table.
        status.update("Writing the SavedModel")
        translator.model.transpose_output()
        saved_model = scratch / SAVED_MODEL
        model, head = translator.model, run.head()
        export_saved_model(make_servable(model, tokenizer, head, options, jit_compile), saved_model)
        status.update("Running every file in a fresh process")
        artefacts = [saved_model, *lite.values()]
        measured = measure(translator, validation, artefacts, max_quality_loss)

        languages = source_language, target_language
        card = model_card(run, name, languages, saved_model, values)
        card["files"] = [some.to_dict() for some in measured]
        card["quality"] = validation.reference
        write_json(scratch / CARD, card)
        extra = saved_model / EXTRA
        extra.mkdir()
        for file in (*inside, GENERATION, CARD):
            shutil.copy(scratch / file, extra)
        tf_serving.write_warmup(
            saved_model,
            name,
            tf_serving.warmup_texts(tokenizer, validation.sources, translator.max_length),
        )
        for file, text in tf_serving.configuration(name, jit_compile).items():
            (scratch / file).write_text(text, "utf-8")
        version = put_in_place(scratch, output, lite)
    removed = prune(output / SAVED_MODEL, keep)
    _report(console, output, version, measured, validation, removed)
    return {
        "savedmodel": output / SAVED_MODEL,
        **{key: output / path.name for key, path in lite.items()},
    }


def _report(console, output, version, measured, validation, removed):
    lost = "BLEU lost" if validation.measure == "BLEU" else "% perplexity gained"
    table = Table("file", "MB", "sentences/s", validation.measure, lost)
    table.title = validation.reference
    for one in measured:
        table.add_row(
            f"{SAVED_MODEL}/{version.name}" if one.file == SAVED_MODEL else one.file,
            f"{one.bytes / 1e6:.2f}",
            f"{one.texts_per_second:,.0f}",
            f"{one.quality:.2f}",
            f"{one.quality_loss:.2f}",
        )
    console.print(table)
    console.print(
        f"{output}: version {version.name}; all in float32 agree with the model on "
        f"{len(validation.sources)} sentences and {len(parity.EDGE_CASES)} edge cases"
    )
    if removed:
        console.print(f"Removed versions {', '.join(map(str, removed))}")
