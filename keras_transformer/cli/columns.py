"""Texts and labels in lines of output, which they may not break."""

import re

_LINE_ENDS = re.compile("\r\n|[\n\r]")
_SEPARATORS = re.compile("\r\n|[\n\r\t]")


def as_line(text: str) -> str:
    """Return a text for a line of its own: each line break in it becomes a space."""
    return _LINE_ENDS.sub(" ", text)


def as_cell(text: str) -> str:
    """Return a text for a column: each tab and line break in it becomes a space."""
    return _SEPARATORS.sub(" ", text)
