"""Where commands write: the terminal, a file, a bar that moves."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, Task


def make_console() -> Console:
    """Return standard error, where everything is said but what was asked for."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def make_printer() -> Console:
    """Return standard output, for tables and other answers."""
    return Console(soft_wrap=True, highlight=False)


@contextlib.contextmanager
def output_file(name: str) -> Iterator[TextIO]:
    """Open a file that gets its name when all of it is written, or standard output for -."""
    if name == "-":
        yield sys.stdout
        return
    from keras_transformer.files import replacing

    with replacing(Path(name)) as new, new.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def progress(title: str, console: Console) -> "Progress":
    """Return a bar that shows lines done, lines a second and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class LineRate(ProgressColumn):
        def render(self, task: "Task") -> Text:
            return Text(f"{task.completed / (task.elapsed or 1):,.1f}/s")

    return Progress(
        title,
        BarColumn(),
        MofNCompleteColumn(),
        "lines",
        LineRate(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def warn_of_cut(console: Console, truncated: Sequence[int], done: int) -> None:
    """Name the lines that were longer than the model takes."""
    if truncated:
        some = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
        console.print(
            f"warning: {len(truncated):,} of {done:,} lines were longer than the model takes and "
            f"were cut: {some}",
            style="yellow",
        )
