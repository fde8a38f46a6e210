"""Making a run folder of a published checkpoint, its tokeniser included."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.gpt import GptConfig
from keras_transformer.models.heads import MaskedLanguageModel
from keras_transformer.models.hugging_face import Checkpoint, read_checkpoint
from keras_transformer.models.hugging_face.generation import notes_of_generation
from keras_transformer.models.hugging_face.preprocessor import read_preprocessor
from keras_transformer.models.hugging_face.scores import reads_pairs, scores_of
from keras_transformer.models.hugging_face.sentence_transformers import Package, read_max_length
from keras_transformer.models.vision_transformer import VisionTransformer
from keras_transformer.pipelines.tasks import TaskSettings, find_task, task_of
from keras_transformer.text import Tokenizer, hugging_face
from keras_transformer.text.masks import mask_name
from keras_transformer.training.run.run_directory import RunDirectory


def _tell(note: str) -> None:
    print(note, file=sys.stderr)


def import_checkpoint(
    folder: Path | str,
    output: Path | str,
    head: str | None = None,
    overwrite: bool = False,
    prompt: str | None = None,
    tell: Callable[[str], None] = _tell,
) -> RunDirectory:
    """Make a run of a checkpoint of Hugging Face in a local folder.

    Args:
        folder: Folder with `config.json`, `model.safetensors` and the files of the tokeniser; for
            images with `preprocessor_config.json` instead, where the pixels are not in [-1, 1].
        output: Folder of the run.
        head: Name of a model to make of it, such as "SentenceEncoder"; its own if None.
        overwrite: Whether a run in `output` may be replaced.
        prompt: Name of the prompt that a sentence encoder is to put before each text; the
            checkpoint's default if None, and "" for none.
        tell: Is given sentences to show, such as how the publisher's model writes text.

    Returns:
        The run directory. It has weights and no training.

    Raises:
        InputError: If the checkpoint or its tokeniser is missing, damaged or unknown, or there is
            no task for it.
    """
    folder = Path(folder)
    RunDirectory.check_free(output, overwrite)
    checkpoint = read_checkpoint(folder, head)
    folder = checkpoint.folder
    model, settings = checkpoint.model, _settings_of(checkpoint, prompt)
    if find_task(settings.task).writes_text:
        for note in notes_of_generation(folder, checkpoint.config, model.config):
            tell(note)
    if isinstance(model, VisionTransformer):
        return RunDirectory.create(
            output, model.config, None, None, [], overwrite, settings=settings, weights=model
        )
    tokenizer = read_tokenizer(folder, checkpoint.config)
    if len(tokenizer) > model.config.vocabulary_size:
        raise InputError(
            f"The tokeniser in {folder} has {len(tokenizer):,} pieces, but the model's table has "
            f"{model.config.vocabulary_size:,}. They are not from the same checkpoint."
        )
    if isinstance(model, MaskedLanguageModel):
        mask_name(tokenizer)  # which there has to be
    config = model.config
    if isinstance(config, BertConfig):  # the checkpoint does not say which ids are special
        ids = {name: getattr(tokenizer, name) for name in ("begin_id", "end_id", "mask_id")}
        config = dataclasses.replace(config, **ids)
    elif isinstance(config, GptConfig):  # its padding is what the tokeniser fills rows up with
        config = dataclasses.replace(config, padding_id=tokenizer.padding_id)
    return RunDirectory.create(
        output,
        config,
        None,
        tokenizer,
        [],
        overwrite,
        settings=settings,
        weights=model,
    )


def read_tokenizer(folder: Path, config: dict[str, Any]) -> Tokenizer:
    """Read the tokeniser that lies beside a checkpoint.

    Args:
        folder: Folder of the checkpoint.
        config: The content of its `config.json`.

    Raises:
        InputError: If there is none, or it is damaged.
    """
    try:
        return hugging_face.read_tokenizer(folder, config)
    except (OSError, ValueError) as error:
        raise InputError(f"The tokeniser in {folder} can't be read: {error}") from None


def _settings_of(checkpoint: Checkpoint, prompt: str | None) -> TaskSettings:
    """Find the task of a model by its class or, of those without a head, by its configuration."""
    model, folder, package = checkpoint.model, checkpoint.folder, checkpoint.package
    if isinstance(model, VisionTransformer) and model.config.num_classes:
        scaling = read_preprocessor(folder, model.config.image_size)
        return TaskSettings("image-classification", _labels(checkpoint), scaling)
    task = task_of(model)
    if task is None or task.name != "embedding":
        if prompt is not None:
            raise InputError(f"{folder} is not a sentence encoder, and only those have prompts.")
    else:
        longest = read_max_length(folder) if package is None else package.max_length
        return TaskSettings(task.name, (), {**model.given, **_prompts(package, prompt)}, longest)
    if isinstance(model, VisionTransformer):
        raise InputError(f"The model in {folder} has no classifier, so there is no task for it.")
    if task is not None and task.head is None:
        return TaskSettings(task.name)
    if task is not None:
        settings = {name: value for name, value in model.given.items() if name != "num_labels"}
        labels = _labels(checkpoint) if task.has_labels else ()
        if task.name != "classification":
            return TaskSettings(task.name, labels, settings)
        if scores := scores_of(checkpoint.config, package, len(labels)):
            settings["scores"] = scores
        if not reads_pairs(checkpoint.config, package, len(labels)):
            return TaskSettings(task.name, labels, settings)
        return TaskSettings(task.name, labels, {**settings, "pairs": True}, read_max_length(folder))
    raise InputError(
        f"A {type(model).__name__} has no task of its own; choose a --head such as "
        "SentenceEncoder or SequenceClassifier."
    )


def _prompts(package: Package | None, name: str | None) -> dict[str, Any]:
    """Return the settings of prompts of a sentence encoder."""
    prompts = {} if package is None else package.prompts
    if name and name not in prompts:
        known = ", ".join(prompts) or "none"
        raise InputError(f"There is no prompt {name!r}; the checkpoint has {known}.")
    if name is not None:
        text = prompts[name] if name else ""
    else:
        text = "" if package is None else package.prompt
    settings = {"prompt": text, "prompts": prompts}
    return {what: value for what, value in settings.items() if value}


def _labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names of labels; their numbers where the checkpoint does not name them."""
    return tuple(checkpoint.labels or map(str, range(checkpoint.model.output.shape[-1])))
