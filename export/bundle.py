"""Exporting a run: every artefact proven, its quality measured, and then put in place."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from keras_transformer import _backend  # noqa: F401  (first: it keeps the start-up quiet)
from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError
from keras_transformer.export import parity, tf_serving
from keras_transformer.export.model_card import model_card
from keras_transformer.export.quality import measure, validation_of
from keras_transformer.export.runtime import CARD, EXTRA, PIECES
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import PRECISIONS, TF_TEXT_OPS, convert
from keras_transformer.export.tflite.metadata import add_metadata
from keras_transformer.layers.caches import writing_slices
from keras_transformer.pipelines.servable import SAVED_MODEL
from keras_transformer.pipelines.tasks import WRITE, make_servable
from keras_transformer.text import save_tokenizer
from keras_transformer.training.files import (
    naming_problems,
    replacing,
    scratch_folder,
    write_json,
)
from keras_transformer.training.run.locks import locked
from keras_transformer.training.run.run_directory import RunDirectory

VOCABULARY = "vocab.txt"
GENERATION = "generation.json"
VALIDATION_LINES = 200
MAX_QUALITY_LOSS = 1.0
KINDS = ("", "ids")  # of `.tflite` files, by their names; see `Servable.lite_files`


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
    removed = tf_serving.prune(output / SAVED_MODEL, keep)
    _report(console, output, version, measured, validation, removed)
    return {
        "savedmodel": output / SAVED_MODEL,
        **{key: output / path.name for key, path in lite.items()},
    }


def check_free(output: Path) -> None:
    """Make sure that an export may be written to `output`.

    Raises:
        InputError: If something is there that is no export.
    """
    if output.is_file():
        raise InputError(f"{output} is a file; give the name of a folder.")
    if not output.exists() or not any(output.iterdir()) or (output / SAVED_MODEL).is_dir():
        return
    raise InputError(f"{output} exists and is not an export; choose another output folder.")


@contextlib.contextmanager
def writing_export(output: Path) -> Iterator[Path]:
    """Give a folder beside an export's to prepare it in, while nobody else writes the export.

    Raises:
        InputError: If another process exports into the folder, or the disk is full.
    """
    with (
        locked(output, "exporting"),
        naming_problems(output),
        scratch_folder(output.parent) as scratch,
    ):
        yield scratch


def write_tflite(servable, folder, name, precisions, status, inside) -> dict[str, Path]:
    """Write every `.tflite` file of a servable into a folder.

    Args:
        servable: What is exported.
        folder: Where to write, and where the files are that go inside.
        name: Name of the model.
        precisions: Some of `PRECISIONS`.
        status: Is told what is being done.
        inside: Names of text files of the folder that are put into each `.tflite`.

    Returns:
        The paths by name.
    """
    files = {file: (folder / file).read_text("utf-8") for file in inside}
    paths = {}
    for kind, file in servable.lite_files.items():
        signatures, ops = file.signatures, file.custom_ops
        if ops:
            ops |= TF_TEXT_OPS
        status.update("Writing a SavedModel to convert")
        graph = folder / "to-convert"
        with writing_slices():
            export_saved_model(servable, graph, signatures)
        for precision in precisions:
            path = folder / _lite_name(kind, precision)
            status.update(f"Converting to {path.name}")
            content = convert(graph, signatures, ops, precision)
            description = f"From {file.takes}, {precision}"
            told = servable.tensors
            path.write_bytes(add_metadata(content, name, description, files, told))
            paths[path.name.removeprefix("model.").replace(".", "_")] = path
        shutil.rmtree(graph)
    return paths


def put_in_place(scratch: Path, output: Path, lite: dict[str, Path]) -> Path:
    """Move what was written to where it belongs, and remove `.tflite` files that are no more.

    Args:
        scratch: The folder with `savedmodel` and files.
        output: The folder of the export.
        lite: The `.tflite` files that were written.

    Returns:
        The folder of the SavedModel's version.
    """
    version = tf_serving.publish(scratch / SAVED_MODEL, output / SAVED_MODEL)
    for path in sorted(p for p in scratch.iterdir() if p.is_file()):
        with replacing(output / path.name) as new:
            shutil.move(path, new)
    for file in {_lite_name(*one) for one in product(KINDS, PRECISIONS)}:
        if file not in {path.name for path in lite.values()}:
            (output / file).unlink(missing_ok=True)  # of the version before
    return version


def _lite_name(kind, precision):
    parts = "model", precision if precision != "float32" else "", kind, "tflite"
    return ".".join(part for part in parts if part)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def _report(console, output, version, measured, validation, removed):
    table = Table("file", "MB", "sentences/s", validation.measure, "loss")
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


def write_tokenizer(tokenizer, folder: Path) -> list[str]:
    """Write the files of a tokeniser, if there is one, and return their names.

    Where none of them is a list of pieces, `pieces.json` is: an alignment has to name them.
    """
    if tokenizer is None:
        return []
    before = set(folder.iterdir())
    save_tokenizer(tokenizer, folder)
    if not (folder / VOCABULARY).is_file():
        write_json(folder / PIECES, tokenizer.vocabulary)
    return sorted(path.name for path in {*folder.iterdir()} - before)


def is_text(path: Path) -> bool:
    """Say whether a file is UTF-8."""
    try:
        path.read_text("utf-8")
        return True
    except UnicodeDecodeError:
        return False
