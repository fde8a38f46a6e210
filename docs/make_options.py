"""Write options.md from the dataclasses that the command line is made of.

python docs/make_options.py
"""

import typing
from pathlib import Path

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.options import options_of
from keras_transformer.training.config import PANELS, TrainingConfig
from keras_transformer.training.plan import Call, ModelOptions, Plan

PAGE = Path(__file__).with_name("options.md")
HEAD = """# Options

Made by `python docs/make_options.py` from the dataclasses that hold them. A recipe or a file for
`--config` has them by the same names with `_` for `-`, in the table of its command, such as
`batch_tokens = 2048` below `[train]`.
"""


def page() -> str:
    """Return the page."""
    classes = (Call, Plan, TrainingConfig, ModelOptions)
    of_train = [one for of in classes for one in options_of(of).values()]
    parts = [HEAD, "## train\n"]
    for panel in PANELS:
        parts += [f"### {panel}\n", _table([one for one in of_train if one.panel == panel])]
    parts += [
        "## translate, generate, evaluate, export and serve\n",
        _table(options_of(GenerationOptions).values()),
    ]
    return "\n".join(parts)


def _table(options) -> str:
    rows = ["| Option | Values | Default | |", "|---|---|---|---|"]
    for one in options:
        default = "" if one.default is None else f"`{str(one.default).lower()}`"
        rows.append(f"| `{one.written}` | {_values(one.kind)} | {default} | {one.help} |")
    return "\n".join(rows) + "\n"


def _values(kind) -> str:
    kinds = [one for one in typing.get_args(kind) if one is not type(None)]
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in kinds)
    if typing.get_origin(kind) is list:
        return f"{_values(kinds[0])}, repeatable"
    names = {bool: "", int: "whole number", float: "number", str: "text", Path: "path"}
    return names[kind] if kind in names else _values(kinds[0])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
