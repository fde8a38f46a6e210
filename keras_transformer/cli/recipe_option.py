"""The option `--recipe`: other defaults for a command's options."""

from typing import Annotated

import typer

from keras_transformer import recipes
from keras_transformer.errors import InputError


def _take_defaults(context: typer.Context, name: str | None) -> str | None:
    if name is not None:
        command = context.command
        values = recipes.load(name).get(command.name or "", {})
        known = {parameter.name for parameter in command.params}
        if unknown := sorted(values.keys() - known):
            raise InputError(
                f"The recipe {name} sets {unknown[0]!r}, which is no option of {command.name}."
            )
        context.default_map = values
    return name


# Eager, so that the defaults are there before other options look for theirs.
Recipe = Annotated[
    str | None,
    typer.Option(
        callback=_take_defaults,
        is_eager=True,
        help=f"Take options from a recipe: {', '.join(recipes.names())}, or a .toml file.",
    ),
]
