"""Recipes: settings for a known text, one small TOML file each beside this one.

A recipe has a table for each command that it sets up, with the names of the command's options. What
is given on the command line goes before what the recipe says.
"""

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from keras_transformer.errors import InputError, no_such

SUFFIX = ".toml"


def names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    files = (file.name for file in resources.files(__name__).iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX))


def load(name: str) -> dict[str, dict[str, Any]]:
    """Read a recipe.

    Args:
        name: Name of a recipe of the package, or of a file that ends with .toml.

    Returns:
        For each command the values of its options.

    Raises:
        InputError: If there is no such recipe, or it can't be read.
    """
    if name.endswith(SUFFIX):
        file: Path | Traversable = Path(name)
        if not file.is_file():
            raise InputError(f"There is no file {name}.")
    elif name in names():
        file = resources.files(__name__) / f"{name}{SUFFIX}"
    else:
        raise no_such("recipe", name, names(), f", or give a file that ends with {SUFFIX}")
    try:
        recipe = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The recipe {name} can't be read: {error}") from None
    if loose := [key for key, value in recipe.items() if not isinstance(value, dict)]:
        raise InputError(
            f"The recipe {name} sets {loose[0]!r} outside of a table; put it below the name of a "
            "command, such as [train]."
        )
    return recipe
