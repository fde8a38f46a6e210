"""Options: fields of frozen dataclasses that say what they are for.

The command line, recipes, `--set`, `--grid` and the page of options are made of such fields, so
that a name, a type, a default and an explanation are written once.
"""

import dataclasses
import types
import typing
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from keras_transformer.errors import InputError, suggestion


@dataclasses.dataclass(frozen=True)
class Option:
    """An option: the metadata of a field.

    Args:
        help: A sentence for people.
        panel: The part of `--help` that it is in.
        name: Its name in a recipe and, with dashes, on the command line; the field's if empty.
        flags: How it is written on the command line, where dashes in its name do not do.
        kind: Its type there, if it is not the field's.
        unset: Whether nothing is set if it is not given, so that its value depends on others.
        default: What is set if it is not given; see `options_of`.
    """

    help: str
    panel: str | None = None
    name: str = ""
    flags: tuple[str, ...] = ()
    kind: Any = None
    unset: bool = False
    default: Any = None

    @property
    def written(self) -> str:
        """The option as it is written on the command line."""
        return self.flags[0] if self.flags else f"--{self.name.replace('_', '-')}"


def option(
    help: str, default: Any = dataclasses.MISSING, panel: str | None = None, **more: Any
) -> Any:
    """Make a field of a dataclass that is an option; see `Option` for `panel` and `more`."""
    return dataclasses.field(default=default, metadata={"option": Option(help, panel, **more)})


def options_of(config: type, names: Collection[str] = ()) -> dict[str, Option]:
    """Return the options of a dataclass by their fields, with name, kind and default filled in.

    Args:
        config: The dataclass.
        names: The fields that are wanted; all of them if empty.
    """
    found = {}
    for field in dataclasses.fields(config):
        one = field.metadata.get("option")
        if one is None or (names and field.name not in names):
            continue
        kind: Any = one.kind or field.type
        default = None if one.unset else field.default
        if default is dataclasses.MISSING or default is None:
            kind, default = kind | None, None
        found[field.name] = dataclasses.replace(
            one, name=one.name or field.name, kind=kind, default=default
        )
    return found


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
    kinds = kinds_of(config)
    return {
        name: parse_value(option, name, kinds[name], text)
        for name, text in split_specs(option, specs, kinds)
    }


def kinds_of(config: type, but: Collection[str] = ()) -> dict[str, Any]:
    """Return the types of a dataclass's fields by their names, without those in `but`."""
    kinds = typing.get_type_hints(config)
    fields = {field.name for field in dataclasses.fields(config)}
    return {name: kind for name, kind in kinds.items() if name in fields and name not in but}


def split_specs(
    option: str, specs: Sequence[str], names: Collection[str], form: str = "NAME=VALUE"
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each specification.

    Raises:
        InputError: If one is of another form, or a name is unknown or given twice.
    """
    seen = set()
    for spec in specs:
        name, equals, text = spec.partition("=")
        if not equals or name not in names:
            raise InputError(
                f"{option} {spec} does not set a known field by {form}; the fields are "
                f"{', '.join(sorted(names))}.{suggestion(name, names) if name not in names else ''}"
            )
        if name in seen:
            raise InputError(f"{option} {name} is given twice.")
        seen.add(name)
        yield name, text.strip()


def parse_value(option: str, name: str, kind: Any, text: str) -> Any:
    """Read a value of a field.

    Args:
        option: The option that it was given by, for messages.
        name: Name of the field.
        kind: Its type.
        text: What was given.

    Raises:
        InputError: If it is not of that type.
    """
    or_none, of = "", typing.get_args(kind)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):  # such as int | None
        kind = next(one for one in of if one is not types.NoneType)
        if types.NoneType in of:
            or_none = " or none"
            if text.lower() == "none":
                return None
    if typing.get_origin(kind) is typing.Literal:
        choices = {str(choice): choice for choice in typing.get_args(kind)}
    elif kind is bool:
        choices, text = {"true": True, "false": False}, text.lower()
    else:
        try:
            return kind(text)
        except ValueError:
            raise InputError(
                f"{option} {name}: {text!r} is not of type {kind.__name__}{or_none}."
            ) from None
    if text not in choices:
        near = suggestion(text, choices)
        raise InputError(
            f"{option} {name}: {text!r} is not one of {', '.join(choices)}{or_none}.{near}"
        )
    return choices[text]
