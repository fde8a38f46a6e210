"""Checks of a servable's arguments: a wrong one is named before it is used."""

import os
import reprlib
from typing import Any

from keras_transformer.errors import InputError
from keras_transformer.models.config import StackConfig
from keras_transformer.models.heads import EncoderHead
from keras_transformer.models.model import ConfiguredModel

TOKENIZER = ("tokenize", "detokenize", "vocabulary", "custom_ops")  # what each of ours has


def check_model(model: Any, wanted: type[ConfiguredModel], owner: str) -> None:
    """Make sure that a model is of the class that is needed.

    Args:
        model: What was given.
        wanted: The class.
        owner: Name of what is made of the model, for messages.

    Raises:
        InputError: If it is anything else; the message says what to write.
    """
    if isinstance(model, wanted):
        return
    kind = wanted.__name__
    takes = f"{owner} takes a {kind}"
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        raise InputError(
            f"{takes}, and not the path {path!r}. Write kt.load({path!r}) to load a run or "
            "an export, which answers by itself."
        )
    if isinstance(model, StackConfig):
        raise InputError(f"{takes}, and not its configuration; write {kind}(config).")
    if isinstance(model, ConfiguredModel):
        message = f"{takes}; got a {type(model).__name__}."
        if issubclass(wanted, EncoderHead) and isinstance(model.config, wanted.config_class):
            labels = ", num_labels=..." if "num_labels" in wanted.settings else ""
            message += f" Write {kind}(model{labels}) for a new head on its encoder."
        raise InputError(message)
    raise InputError(f"{takes}, a model of this package; got {reprlib.repr(model)}.")


def check_tokenizer(tokenizer: Any, owner: str) -> None:
    """Make sure that a tokeniser is one of this package's.

    Raises:
        InputError: If it is missing, or anything else; the message says what to write.
    """
    load = "kt.text.WordPieceTokenizer.load('runs/en-de/vocab.txt')"
    if tokenizer is None:
        raise InputError(
            f"{owner} needs the tokeniser that the model was trained with, such as {load}."
        )
    if isinstance(tokenizer, (str, os.PathLike)):
        raise InputError(
            f"{owner} takes a tokeniser, and not the path {os.fspath(tokenizer)!r}; load it first, "
            f"as {load} does."
        )
    if isinstance(tokenizer, type) or not all(hasattr(tokenizer, name) for name in TOKENIZER):
        raise InputError(f"{owner} takes a tokeniser of kt.text; got {reprlib.repr(tokenizer)}.")
