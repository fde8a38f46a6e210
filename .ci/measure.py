"""Measure the package: lines by folder, long files and functions, imports inside functions.

python .ci/measure.py [CHECKOUT]    # this checkout, or another one
"""

import ast
import sys
from collections import Counter
from pathlib import Path

ROOTS = ("keras_transformer", "training", "export")
LONG_FILE, LONG_FUNCTION, LONGEST_FUNCTION = 400, 60, 80
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)


def folder_of(path: Path) -> str:
    """Return a folder of the first two levels; loose files count for the root."""
    return "/".join(path.parts[:2]) if len(path.parts) > 2 else path.parts[0]


def main(checkout: Path) -> None:
    """Print everything that is measured."""
    lines: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for path in sorted(p for root in ROOTS for p in (checkout / root).rglob("*.py")):
        text = path.read_text("utf-8")
        count, folder = text.count("\n"), folder_of(path.relative_to(checkout))
        lines[folder] += count
        found[f"files above {LONG_FILE} lines"] += count > LONG_FILE
        for function in (node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS)):
            size = (function.end_lineno or 0) - function.lineno + 1
            found[f"functions above {LONG_FUNCTION} lines"] += size > LONG_FUNCTION
            found[f"functions above {LONGEST_FUNCTION} lines"] += size > LONGEST_FUNCTION
            late = sum(isinstance(node, IMPORTS) for node in ast.walk(function))
            where = "the command" if "cli" in folder else "everything else"
            found[f"imports inside functions, {where}"] += late
    for folder, count in lines.most_common():
        print(f"{count:7,}  {folder}")
    print(f"{lines.total():7,}  in all\n")
    for what, count in sorted(found.items()):
        print(f"{count:7,}  {what}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
