"""The options `--recipe` and `--config`: other defaults for a command's options."""

from typing import Annotated, Any

import typer

from keras_transformer import recipes
from keras_transformer.errors import InputError, suggestion


def _take_defaults(context: typer.Context, parameter: typer.CallbackParam, name: str | None) -> Any:
    if name is not None:
        of_file = parameter.name == "config"
        if of_file and not name.endswith(recipes.SUFFIX):
            raise InputError(
                f"--config takes a file that ends with {recipes.SUFFIX}, got {name!r}; a recipe of "
                "the package is named by --recipe."
            )
        values = _check(name, recipes.load(name), context)
        before = context.default_map or {}
        # What a file says goes before what a recipe says, whichever is named first.
        context.default_map = {**before, **values} if of_file else {**values, **before}
    return name


def _check(name: str, tables: dict[str, Any], context: typer.Context) -> dict[str, Any]:
    """Refuse names that are none of a command or of an option; return this command's values."""
    group = context.parent.command if context.parent else None
    commands = dict(getattr(group, "commands", {context.command.name: context.command}))
    if unknown := sorted(tables.keys() - commands.keys()):
        raise InputError(
            f"The recipe {name} has a table [{unknown[0]}], which is not a command."
            f"{suggestion(unknown[0], commands)}"
        )
    found = {}
    for table, values in tables.items():
        # An option whose name Python keeps for itself, such as --set, has a parameter `set_`.
        known = {p.name.rstrip("_"): p.name for p in commands[table].params if not p.is_eager}
        for key, value in values.items():
            if key.rstrip("_") not in known:
                raise InputError(
                    f"The recipe {name} sets {key!r}, which is not an option of {table}."
                    f"{suggestion(key, known)}"
                )
            if table == context.command.name:
                found[known[key.rstrip("_")]] = value
    return found


# Eager, so that the defaults are there before other options look for theirs.
Recipe = Annotated[
    str | None,
    typer.Option(
        callback=_take_defaults,
        is_eager=True,
        help=f"Take options from a recipe: {', '.join(recipes.names())}, or a .toml file.",
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        callback=_take_defaults,
        is_eager=True,
        metavar="FILE.toml",
        help="Take options from a file of your own, as a recipe has them.",
    ),
]
