"""Making a run folder of a published checkpoint, its tokeniser included."""

import dataclasses
from pathlib import Path

from keras_transformer.errors import InputError
from keras_transformer.models.bert import BertConfig
from keras_transformer.models.heads import SentenceEncoder, SequenceClassifier
from keras_transformer.models.hugging_face import read_checkpoint, read_json
from keras_transformer.tasks import CAUSAL_LM, CLASSIFICATION, EMBEDDING, TRANSLATION, Head
from keras_transformer.text import BertTokenizer, BytePairTokenizer, SentencePieceTokenizer
from keras_transformer.training.run_directory import RunDirectory


def import_checkpoint(
    folder, output, head: str | None = None, overwrite: bool = False
) -> RunDirectory:
    """Make a run of a checkpoint of Hugging Face in a local folder.

    Args:
        folder: Folder with `config.json`, `model.safetensors` and the files of the tokeniser.
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
    model = checkpoint.model
    tokenizer = read_tokenizer(folder, checkpoint.config)
    if len(tokenizer) > model.config.vocabulary_size:
        raise InputError(
            f"The tokeniser in {folder} has {len(tokenizer):,} pieces, but the model's table has "
            f"{model.config.vocabulary_size:,}. They are not of one checkpoint."
        )
    config = model.config
    if isinstance(config, BertConfig):  # the checkpoint does not say which ids are special
        ids = {name: getattr(tokenizer, name) for name in ("begin_id", "end_id", "mask_id")}
        config = dataclasses.replace(config, **ids)
    return RunDirectory.create(
        output,
        config,
        None,
        tokenizer,
        [],
        overwrite,
        head=_head_of(checkpoint, folder),
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
        if (folder / "vocab.txt").is_file():
            return BertTokenizer.load(folder / "vocab.txt", lowercase=_lowercase(folder))
        if (folder / "merges.txt").is_file():
            return BytePairTokenizer.from_files(folder / "vocab.json", folder / "merges.txt")
        if (folder / "spiece.model").is_file():
            return SentencePieceTokenizer.from_files(folder / "spiece.model")
        if (folder / "source.spm").is_file():
            return SentencePieceTokenizer.from_files(folder / "source.spm", folder / "vocab.json")
    except (OSError, ValueError) as error:
        raise InputError(f"The tokeniser in {folder} can't be read: {error}") from None
    raise InputError(
        f"{folder} has no tokeniser: neither vocab.txt (WordPiece), merges.txt and vocab.json "
        "(byte pairs) nor spiece.model (SentencePiece)."
    )


def _lowercase(folder):
    path = folder / "tokenizer_config.json"
    return bool(read_json(path).get("do_lower_case", True)) if path.is_file() else True


def _head_of(checkpoint, folder):
    model = checkpoint.model
    if isinstance(model, SequenceClassifier):
        settings = {name: value for name, value in model.given.items() if name != "num_labels"}
        return Head(CLASSIFICATION, tuple(checkpoint.labels), settings)
    if isinstance(model, SentenceEncoder):
        path = folder / "sentence_bert_config.json"
        longest = read_json(path).get("max_seq_length") if path.is_file() else None
        return Head(EMBEDDING, (), dict(model.given), longest)
    if model.config.family == "gpt":
        return Head(CAUSAL_LM)
    if model.config.family in ("t5", "bart", "transformer"):
        return Head(TRANSLATION)
    raise InputError(
        f"A {type(model).__name__} has no task of its own yet; choose a --head such as "
        "SentenceEncoder or SequenceClassifier."
    )
