"""Exporting a model: every file made, proven, measured, and then put in place."""

import dataclasses
import inspect
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from keras_transformer.artefacts.artefact import SAVED_MODEL
from keras_transformer.decoding import GenerationOptions
from keras_transformer.errors import InputError, no_such, suggestion
from keras_transformer.export import tf_serving
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
from keras_transformer.export.model_card import card_of_run, model_card, name_languages
from keras_transformer.export.proof import EDGE_CASES
from keras_transformer.export.quality import Judge, Measured, Validation, judge_of, measure
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.write import write_tflite
from keras_transformer.export.validation import check_validation, validation_of
from keras_transformer.files import write_json
from keras_transformer.pipelines.servable import Servable
from keras_transformer.pipelines.tasks import Task, TaskSettings, find_task, make_servable, task_of
from keras_transformer.pipelines.text_writer import TextWriter
from keras_transformer.training.run.run_directory import RunDirectory

MAX_QUALITY_LOSS = 1.0
# Arguments of servables that are not of `settings`.
SERVABLE_ARGUMENTS = ("model", "tokenizer", "labels", "max_length", "options", "jit_compile")
FORMATS = (SAVED_MODEL, "tflite", "tflite-float16", "tflite-int8")


def export_run(
    run: RunDirectory,
    output: Path | str,
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
    that it does not write are removed. Each file is run in a fresh process on the run's validation
    text. In float32 it has to answer as the model does, and smaller files may lose little, before
    anything appears in `output`.

    Args:
        run: The run directory.
        output: Folder to write.
        console: Where progress is shown; standard error if None.
        options: How text is written: `GenerationOptions`; greedily if None.
        jit_compile: Whether XLA is to compile the SavedModel where it runs.
        name: The model's name; the run folder's if None.
        keep: How many versions stay; 0 for all.
        precisions: Which `.tflite` files are written: some of `PRECISIONS`. float32 always is.
        max_quality_loss: Most that a smaller file may lose: points of BLEU; of a language model,
            by how many per cent its perplexity may rise; of what gives labels or vectors, per cent
            of agreement with the model.
        source_language: Of the model card; the ending of the training text's file if None.
        target_language: Likewise.

    Returns:
        The paths by name: `savedmodel`, `tflite`, `ids_tflite`, and for other precisions
        `float16_tflite`, `float16_ids_tflite` and so on.

    Raises:
        InputError: If the folder is not free, the run has no weights, a file disagrees with the
            model or loses too much, or would hold an op that its runtime lacks; or if another
            process exports into the folder.
    """
    output, settings = Path(output), run.task_settings()
    check_free(output)
    name = tf_serving.check_name(name or run.path.absolute().name)
    _check_writes(find_task(settings.task), options, jit_compile, str(run.path))
    languages = name_languages(run, source_language, target_language)
    exporter = _Exporter(
        servable=run.servable(options),
        settings=settings,
        options=options,
        jit_compile=jit_compile,
        name=name,
        languages=languages,
        card=card_of_run(run),
        console=console,
    )
    precisions = [one for one in PRECISIONS if one in {"float32", *precisions}]
    return exporter.write(
        output, validation_of(run), precisions, max_quality_loss, keep, with_saved_model=True
    )


def export(
    model: Any,
    tokenizer: Any,
    folder: Path | str,
    *,
    validation: Sequence[str] | tuple[Sequence[str], Sequence[str]] | None = None,
    formats: Sequence[str] = FORMATS,
    options: GenerationOptions | None = None,
    jit_compile: bool = False,
    task: str | None = None,
    labels: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    name: str | None = None,
    keep: int = 0,
    max_quality_loss: float = MAX_QUALITY_LOSS,
    console: Console | None = None,
) -> dict[str, Path]:
    """Export a model that a Keras script has trained, with its tokeniser in the graph.

    The folder is that of `export_run`, and every file is proven in the same way.

    Args:
        model: A model of `kt.models`.
        tokenizer: The tokeniser that it was trained with; None for a model of images.
        folder: Folder to write.
        validation: Texts to measure files on; of what writes one text for another, texts and what
            is right for each as a tuple. Generated sentences if None.
        formats: What to write: some of "savedmodel", "tflite", "tflite-float16", "tflite-int8".
        options: How text is written: `GenerationOptions`; greedily if None.
        jit_compile: Whether XLA is to compile the SavedModel where it runs.
        task: Name of the task, such as "summarisation"; that of the model's class if None.
        labels: Names of the labels, in the order of the logits, for what gives labels.
        settings: Further arguments of what answers, such as `scores` of `TextClassifier`.
        max_length: Most tokens of a text; what the model takes if None.
        name: The model's name; the folder's if None.
        keep: How many versions stay; 0 for all.
        max_quality_loss: As of `export_run`.
        console: Where progress is shown; standard error if None.

    Returns:
        The paths by name, as `export_run`.

    Raises:
        InputError: If an argument is wrong, or as `export_run`.

    Example:
        kt.export.export(model, tokenizer, "exported", validation=(sources, targets))
        kt.load("exported/model.tflite")(["Two men."])
    """
    folder = Path(folder)
    check_free(folder)
    name = tf_serving.check_name(name or folder.absolute().name)
    _check_formats(formats)
    found = _task_for(model, task)
    _check_writes(found, options, jit_compile, "The model")
    made = TaskSettings(found.name, tuple(labels), dict(settings or {}), max_length)
    _check_settings(found, made)
    exporter = _Exporter(
        servable=make_servable(model, tokenizer, made, options),
        settings=made,
        options=options,
        jit_compile=jit_compile,
        name=name,
        languages=(None, None),
        card={},
        console=console,
    )
    precisions = [p for p in PRECISIONS if f"tflite-{p}".removesuffix("-float32") in formats]
    return exporter.write(
        folder,
        check_validation(validation, found.servable),
        precisions,
        max_quality_loss,
        keep,
        with_saved_model=SAVED_MODEL in formats,
    )


def _task_for(model: Any, task: str | None) -> Task:
    """Return the task that is asked for, or else the model's own."""
    found = find_task(task) if task else task_of(model)
    if found is None:
        raise InputError(
            f"A {type(model).__name__} has no task of its own: give a model of kt.models, where it "
            "is an encoder one with a head."
        )
    return found


def _check_formats(formats: Sequence[str]) -> None:
    """Refuse unknown formats, and none."""
    if isinstance(formats, str) or not formats:
        raise InputError(
            f"formats is {formats!r}; give a list of some of {', '.join(map(repr, FORMATS))}."
        )
    for one in formats:
        if one not in FORMATS:
            raise no_such("format", one, FORMATS)


def _check_settings(task: Task, settings: TaskSettings) -> None:
    """Refuse what would be dropped: arguments that what answers does not take."""
    taken = inspect.signature(task.servable).parameters
    for name in ("labels", "max_length"):
        if getattr(settings, name) and name not in taken:
            raise InputError(f"A model for {task.name} takes no {name}; leave it out.")
    own = [name for name in taken if name not in SERVABLE_ARGUMENTS]
    for name in settings.settings:
        if task.writes_text or name not in own:
            near = suggestion(name, own)
            raise InputError(f"settings has no {name!r} for {task.name}; leave it out.{near}")


def _check_writes(
    task: Task, options: GenerationOptions | None, jit_compile: bool, what: str
) -> None:
    """Refuse options of generation where no text is written."""
    if not task.writes_text and (options is not None or jit_compile):
        raise InputError(
            f"{what} writes no text: leave out --jit-compile and the options of generation."
        )


@dataclasses.dataclass(frozen=True)
class _Exporter:
    """An export: the servable, and what its model card says."""

    servable: Servable
    settings: TaskSettings
    options: GenerationOptions | None
    jit_compile: bool
    name: str
    languages: tuple[str | None, str | None]
    card: dict[str, Any]  # of the run
    console: Console | None

    def write(
        self,
        output: Path,
        validation: Validation,
        precisions: Sequence[str],
        max_quality_loss: float,
        keep: int,
        *,
        with_saved_model: bool,
    ) -> dict[str, Path]:
        """Write, prove and measure everything, and put it in place."""
        console = self.console or Console(stderr=True)
        servable = self._described(self.servable)
        with writing_export(output) as scratch, console.status("Exporting") as status:
            inside = write_tokenizer(servable.tokenizer, scratch)
            generation = {}
            if isinstance(servable, TextWriter):
                generation = {**servable.options.to_dict(), "jit_compile": self.jit_compile}
                write_json(scratch / GENERATION, generation)
                inside.append(GENERATION)
            readable = [file for file in inside if is_text(scratch / file)]
            lite = write_tflite(servable, scratch, self.name, precisions, status.update, readable)
            files = {path: kind for path, (kind, _) in lite.items()}
            status.update("Writing the SavedModel")
            saved_model = scratch / SAVED_MODEL
            if with_saved_model:
                files = {saved_model: SAVED_MODEL, **files}
                self._write_saved_model(servable, saved_model)
            status.update("Running every file in a fresh process")
            judge = judge_of(servable, validation)
            measured = measure(judge, files, max_quality_loss)
            card = model_card(self.name, servable, self.card, saved_model)
            card |= {"languages": dict(zip(("source", "target"), self.languages, strict=True))}
            card |= {"generation": generation, "labels": list(self.settings.labels)}
            card["files"] = [one.to_dict() for one in measured]
            card["quality"] = judge.reference
            write_json(scratch / CARD, card)
            if with_saved_model:
                for file in (*inside, CARD):
                    shutil.copy(scratch / file, saved_model / EXTRA)
                self._write_serving(servable, judge, scratch)
            version = put_in_place(scratch, output, [path.name for path in lite])
        removed = prune(output / SAVED_MODEL, keep)
        _report(console, output, version, measured, judge, removed)
        paths = {key: output / path.name for path, (_, key) in lite.items()}
        return {"savedmodel": output / SAVED_MODEL, **paths} if with_saved_model else paths

    def _write_saved_model(self, servable: Servable, path: Path) -> None:
        """Write the SavedModel: LiteRT takes no graph for XLA, and phones no second table."""
        if not isinstance(servable, TextWriter):
            export_saved_model(servable, path)
            return
        model: Any = servable.model
        with model.transposed_output():  # a script may train the model further
            of_servers = make_servable(
                model, servable.tokenizer, self.settings, self.options, self.jit_compile
            )
            export_saved_model(self._described(of_servers), path)

    def _described(self, servable: Any) -> Servable:
        """Name the languages, where they are known."""
        if all(self.languages):
            source, target = self.languages
            servable.description = f"Writes {target} for {source}: text in, text out."
        return servable

    def _write_serving(self, servable: Any, judge: Judge, scratch: Path) -> None:
        """Write what TensorFlow Serving reads."""
        if servable.inputs("serving_default").keys() == {"text"}:
            texts = tf_serving.warmup_texts(servable.tokenizer, judge.texts, servable.max_length)
            signatures = ("serving_default", "translate")
            some = [one for one in signatures if one in servable.signatures]
            tf_serving.write_warmup(scratch / SAVED_MODEL, self.name, texts, some)
        for file, text in tf_serving.configuration(self.name, self.jit_compile).items():
            (scratch / file).write_text(text, "utf-8")


def _report(
    console: Console,
    output: Path,
    version: Path | None,
    measured: Sequence[Measured],
    judge: Judge,
    removed: Sequence[int],
) -> None:
    """Show what was written."""
    table = Table(
        "file", "MB", f"{judge.what}/s", judge.measure, judge.loses, title=judge.reference
    )
    for one in measured:
        saved = one.file == SAVED_MODEL and version is not None
        table.add_row(
            f"{SAVED_MODEL}/{version.name}" if saved and version else one.file,
            f"{one.bytes / 1e6:.2f}",
            f"{one.texts_per_second:,.0f}",
            f"{one.quality:.2f}",
            f"{one.quality_loss:.2f}",
        )
    console.print(table)
    written = f"version {version.name}; " if version else ""
    edge_cases = sum(text in EDGE_CASES for text in judge.texts)
    console.print(
        f"{output}: {written}all in float32 agree with the model on "
        f"{len(judge.texts) - edge_cases} {judge.what} and {edge_cases} edge cases"
    )
    if removed:
        console.print(f"Removed versions {', '.join(map(str, removed))}")
