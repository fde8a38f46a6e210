"""How `--help` looks: plain text in which verbs and options stand in groups.

It is the same on a terminal, in a pipe and in a test, and needs no library that takes time to load.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from keras_transformer.errors import suggestion
from keras_transformer.training.config import PANELS


def _write_groups(
    formatter: Any, rows: Iterable[tuple[str, Any]], order: Sequence[str] = ()
) -> None:
    """Write rows, each below the name of its group."""
    groups: dict[str, list[Any]] = {group: [] for group in order}
    for group, row in rows:
        groups.setdefault(group, []).append(row)
    for group, some in groups.items():
        if not some:
            continue
        with formatter.section(group):
            formatter.write_dl(some)


class Verb(TyperCommand):
    """A command whose options stand in groups, and whose example stands at the end."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options."""
        rows = []
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                argument = parameter.param_type_name == "argument"
                group = getattr(parameter, "rich_help_panel", None) or "Options"
                rows.append(("Arguments" if argument else group, record))
        _write_groups(formatter, rows, ("Arguments", "Options", *PANELS))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example as it can be copied."""
        if self.epilog:
            formatter.write("\nExample:\n")
            formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; ask for the nearest name where one is on no list."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if found := re.search(r"'(.*)' is not one of ('.*')\.?$", error.message):
                given, choices = found.groups()
                error.message += suggestion(given, re.findall("'(.*?)'", choices))
            raise


class Verbs(TyperGroup):
    """Commands that stand in groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with the first sentence of its help."""
        limit = formatter.width - 6 - max(map(len, self.commands))
        rows = [
            (
                vars(command).get("rich_help_panel") or "Commands",
                (name, command.get_short_help_str(limit)),
            )
            for name, command in self.commands.items()
        ]
        _write_groups(formatter, rows)
