"""Fields of configurations, read from the command line."""

import types
import typing
from collections.abc import Sequence
from typing import Any

from keras_transformer.errors import InputError


def parse_fields(option: str, config: type, specs: Sequence[str]) -> dict[str, Any]:
    """Read specifications such as `positions=rotary`.

    Args:
        option: The option that they were given by, for messages.
        config: A dataclass, whose fields they set.
        specs: One a field.

    Returns:
        The values by name.

    Raises:
        InputError: If a name is unknown or given twice, or a value is not of the field's type.
    """
    kinds = typing.get_type_hints(config)
    names = [name for name in kinds if name in config.__dataclass_fields__]  # type: ignore[attr-defined]
    fields: dict[str, Any] = {}
    for spec in specs:
        name, equals, text = spec.partition("=")
        if not equals or name not in names:
            raise InputError(
                f"{option} {spec} does not set a known field by NAME=VALUE; the fields are "
                f"{', '.join(sorted(names))}."
            )
        if name in fields:
            raise InputError(f"{option} {name} is given twice.")
        fields[name] = parse_field(option, name, kinds[name], text.strip())
    return fields


def parse_field(option: str, name: str, kind: Any, text: str) -> Any:
    """Read a value of a field.

    Args:
        option: The option that it was given by, for messages.
        name: Name of the field.
        kind: Its type.
        text: What was given.

    Raises:
        InputError: If it is not of that type.
    """
    if typing.get_origin(kind) is typing.Literal:
        choices = {str(choice): choice for choice in typing.get_args(kind)}
    elif kind is bool:
        choices = {"true": True, "false": False}
    elif isinstance(kind, types.UnionType):  # such as int | None
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        return None if text == "none" else parse_field(option, name, kinds[0], text)
    else:
        try:
            return kind(text)
        except ValueError:
            raise InputError(f"{option} {name}: {text!r} is not of type {kind.__name__}.") from None
    if text not in choices:
        raise InputError(f"{option} {name}: {text!r} is not one of {', '.join(choices)}.")
    return choices[text]
