"""Making a run folder of a published checkpoint, its tokeniser included."""

import dataclasses
from pathlib import Path

from keras_transformer.errors import InputError
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.checkpoints import read_json
from keras_transformer.models.gpt import GptConfig
from keras_transformer.models.heads import MaskedLanguageModel
from keras_transformer.models.hugging_face import read_checkpoint
from keras_transformer.models.vision_transformer import VisionTransformer
from keras_transformer.tasks import (
    CAUSAL_LM,
    EMBEDDING,
    HEADS,
    IMAGE_CLASSIFICATION,
    LABEL,
    TRANSLATION,
    Head,
)
from keras_transformer.text import hugging_face
from keras_transformer.text.masks import mask_name
from keras_transformer.training.run_directory import RunDirectory


def import_checkpoint(
    folder, output, head: str | None = None, overwrite: bool = False
) -> RunDirectory:
    """Make a run of a checkpoint of Hugging Face in a local folder.

    Args:
        folder: Folder with `config.json`, `model.safetensors` and the files of the tokeniser; for
            images with `preprocessor_config.json` instead, where the pixels are not in [-1, 1].
        output: Folder of the run.
        head: Name of a model to make of it, such as "SentenceEncoder"; its own if None.
        overwrite: Whether a run in `output` may be replaced.

    Returns:
        The run directory. It has weights and no training.

    Raises:
        InputError: If the checkpoint or its tokeniser is missing, damaged or unknown, or there is
            no task for it.
    """
    folder = Path(folder)
    RunDirectory.check_free(output, overwrite)
    checkpoint = read_checkpoint(folder, head)
    model, model_head = checkpoint.model, _head_of(checkpoint, folder)
    if isinstance(model, VisionTransformer):
        return RunDirectory.create(
            output, model.config, None, None, [], overwrite, head=model_head, weights=model
        )
    tokenizer = read_tokenizer(folder, checkpoint.config)
    if len(tokenizer) > model.config.vocabulary_size:
        raise InputError(
            f"The tokeniser in {folder} has {len(tokenizer):,} pieces, but the model's table has "
            f"{model.config.vocabulary_size:,}. They are not of one checkpoint."
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
        head=model_head,
        weights=model,
    )


def read_tokenizer(folder: Path, config: dict):
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


def _head_of(checkpoint, folder):
    model = checkpoint.model
    if isinstance(model, VisionTransformer) and model.config.num_classes:
        return Head(IMAGE_CLASSIFICATION, _labels(checkpoint), _scaling(folder))
    task = next((task for task, cls in HEADS.items() if type(model) is cls), None)
    if task == EMBEDDING:
        path = folder / "sentence_bert_config.json"
        longest = read_json(path).get("max_seq_length") if path.is_file() else None
        return Head(EMBEDDING, (), dict(model.given), longest)
    if task is not None:
        settings = {name: value for name, value in model.given.items() if name != "num_labels"}
        return Head(task, _labels(checkpoint) if task in LABEL else (), settings)
    if model.config.family == "gpt":
        return Head(CAUSAL_LM)
    if model.config.family in ("t5", "bart", "transformer"):
        return Head(TRANSLATION)
    if isinstance(model, VisionTransformer):
        raise InputError(f"The model in {folder} has no classifier, so there is no task for it.")
    raise InputError(
        f"A {type(model).__name__} has no task of its own; choose a --head such as "
        "SentenceEncoder or SequenceClassifier."
    )


def _labels(checkpoint):
    """Return the names of labels; their numbers where the checkpoint does not name them."""
    return tuple(checkpoint.labels or map(str, range(checkpoint.model.output.shape[-1])))


def _scaling(folder):
    """Read how pixels are scaled; see `images.prepare_pixels`."""
    path = folder / "preprocessor_config.json"
    fields = read_json(path) if path.is_file() else {}
    if not fields.get("do_normalize", True):  # pixels from 0 to 1
        return {"image_mean": 0.0, "image_std": 1.0}
    return {name: fields[name] for name in ("image_mean", "image_std") if name in fields}
