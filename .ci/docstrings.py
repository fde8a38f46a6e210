"""Docstrings as the site shows them: call arguments become a list, examples become code."""

import re

import griffe

SECTION = re.compile(r"^(Call arguments|Example):[^\S\n]*\n((?:[ ]{4}.*\n|\n)+)", re.MULTILINE)
# Files are named as they are installed, and not as they lie in build/package.
griffe.Object.relative_filepath = griffe.Object.relative_package_filepath
ENTRY = re.compile(r"^(\*{0,2}\w+): ", re.MULTILINE)


class Sections(griffe.Extension):
    """Rewrites sections that Google's style does not have."""

    def on_instance(self, *, obj, **kwargs):
        """Rewrite the docstring of a module, a class, a function or an attribute."""
        if obj.docstring is not None:
            text = re.sub(r"[^\S\n]+$", "", obj.docstring.value, flags=re.MULTILINE) + "\n"
            obj.docstring.value = SECTION.sub(_rewritten, text).rstrip()


def _rewritten(match):
    title, body = match[1], re.sub(r"^ {4}", "", match[2], flags=re.MULTILINE).strip("\n")
    if title == "Example":
        return f"**Example**\n\n```python\n{body}\n```\n\n"
    body = re.sub(r"^ {4}", "  ", body, flags=re.MULTILINE)
    return f"**{title}**\n\n" + ENTRY.sub(r"- `\1`: ", body) + "\n\n"
