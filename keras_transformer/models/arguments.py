"""Checks of a model's configuration: a wrong one is refused with what to write instead."""

import os
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_transformer.errors import InputError, no_such
from keras_transformer.models.config import StackConfig


def find_configuration(given: Any, owner: str, wanted: type[StackConfig]) -> StackConfig:
    """Return the configuration that is meant.

    Args:
        given: A configuration of the wanted class; its fields in a dict, whose `family` may be any
            that has a class of its own below the wanted one; or the name of a preset that has a
            vocabulary.
        owner: Name of the model's class, for messages.
        wanted: The class of configurations that the model takes.

    Raises:
        InputError: If it is anything else; the message says what to write.
    """
    if isinstance(given, wanted):
        return given
    article = "an" if wanted.__name__[0] in "AEIO" else "a"
    takes = f"{owner} takes {article} {wanted.__name__}"
    if isinstance(given, StackConfig):
        name = type(given).__name__
        raise InputError(f"{takes}; a {name} is for {name.removesuffix('Config')}.")
    if isinstance(given, Mapping):
        return _class_of(given.get("family"), takes, wanted).from_dict(dict(given))
    if isinstance(given, str) and (config := _preset(given, takes, wanted)) is not None:
        return config
    if isinstance(given, (str, os.PathLike)):
        raise InputError(_of_text(given, takes, wanted))
    if isinstance(given, keras.Model):
        raise InputError(_of_model(given, owner, takes, wanted))
    raise InputError(f"{takes}, or its fields as a dict; got {reprlib.repr(given)}.")


def _classes(wanted: type[StackConfig]) -> Iterator[type[StackConfig]]:
    """List a class of configurations and those that are derived of it."""
    yield wanted
    for cls in wanted.__subclasses__():
        yield from _classes(cls)


def _class_of(family: Any, takes: str, wanted: type[StackConfig]) -> type[StackConfig]:
    if family is None:
        return wanted
    for cls in _classes(wanted):
        if getattr(cls, "family", None) == family:
            return cls
    raise InputError(f"{takes}, but the family of this configuration is {family!r}.")


def _preset(name: str, takes: str, wanted: type[StackConfig]) -> StackConfig | None:
    """Return a preset as it is, if it is one and needs nothing more; None for any other text."""
    for cls in _classes(wanted):
        if name in cls.presets:
            if cls.is_complete(name):
                return cls.preset(name)
            raise InputError(
                f"The preset {name!r} needs to know how many pieces there are: write "
                f"{cls.__name__}.preset({name!r}, vocabulary_size=8000), with your number."
            )
    for cls in _classes(StackConfig):
        if name in cls.presets:
            raise InputError(f"{takes}, but {name!r} is a preset of {cls.__name__}.")
    return None


def _of_text(given: Any, takes: str, wanted: type[StackConfig]) -> str:
    if isinstance(given, str) and not os.path.exists(given) and not set(given) & {"/", "\\", "."}:
        names = (name for cls in _classes(wanted) for name in cls.presets)
        return f"{takes}. {no_such('preset', given, names)}"
    path = os.fspath(given)
    return (
        f"{takes}, and not the path {path!r}. A run or an export is loaded by "
        f"kt.load({path!r}), the weights of a published model by "
        "kt.models.from_hugging_face, and what Keras saved by keras.models.load_model."
    )


def _of_model(model: Any, owner: str, takes: str, wanted: type[StackConfig]) -> str:
    config, kind = getattr(model, "config", None), type(model).__name__
    if isinstance(config, wanted):
        return (
            f"{takes}, and not a model. Write {owner}(model.config) for a new model of the same "
            "sizes, with weights of its own."
        )
    if isinstance(config, StackConfig):
        return f"{takes}, and not a model; a {kind} has a {type(config).__name__}."
    return (
        f"{takes}, and not a model; a {kind} is none of this package. "
        "kt.models.from_keras_hub makes one of a backbone of KerasHub."
    )
