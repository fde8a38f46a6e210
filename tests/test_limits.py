"""Tests of what every file of the package keeps to: short files and functions, and types."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in ("keras_transformer", "training", "export")
    for path in (ROOT / folder).rglob("*.py")
)
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 80  # its docstring included


def functions_of(tree, in_class=False):
    """Yield all functions, each with whether its first argument is the object or the class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
            yield node, in_class and "staticmethod" not in decorators
            yield from functions_of(node)
        else:
            yield from functions_of(node, in_class or isinstance(node, ast.ClassDef))


def untyped(function, is_method):
    """Return what of a function has no annotation: names of arguments, and "return"."""
    args = function.args
    named = [*args.posonlyargs, *args.args][is_method:]
    rest = [one for one in (args.vararg, *args.kwonlyargs, args.kwarg) if one is not None]
    missing = [one.arg for one in (*named, *rest) if one.annotation is None]
    return [*missing, *(["return"] if function.returns is None else [])]


def lines_of(function):
    first = min([function.lineno, *(node.lineno for node in function.decorator_list)])
    return function.end_lineno - first + 1


def test_files_and_functions_are_short():
    long = []
    for path in FILES:
        text, name = path.read_text("utf-8"), path.relative_to(ROOT)
        if (count := len(text.splitlines())) > MOST_LINES_OF_A_FILE:
            long.append(f"{name} has {count} lines")
        long += [
            f"{name}: {function.name} has {lines_of(function)} lines"
            for function, _ in functions_of(ast.parse(text))
            if lines_of(function) > MOST_LINES_OF_A_FUNCTION
        ]
    assert len(FILES) > 200 and not long


def test_functions_say_the_types_of_their_arguments_and_of_what_they_return():
    found = {
        f"{path.relative_to(ROOT)}: {function.name}": missing
        for path in FILES
        for function, is_method in functions_of(ast.parse(path.read_text("utf-8")))
        if (missing := untyped(function, is_method))
    }
    assert not found


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("def f(a, /, b, *c, d, **e): ...", ["a", "b", "c", "d", "e", "return"]),
        ("def f(a: int, *, b: str = '') -> None: ...", []),
        ("async def f(a) -> None: ...", ["a"]),
        ("class A:\n def f(self): ...", ["return"]),
        ("class A:\n def f(self, other) -> None: ...", ["other"]),
        ("class A:\n def f(self, /, other) -> None: ...", ["other"]),
        ("class A:\n @staticmethod\n def f(a) -> None: ...", ["a"]),
        ("class A:\n @classmethod\n def f(cls) -> None: ...", []),
        ("def f() -> None:\n def g(x): ...", ["x", "return"]),
        ("f = lambda x: x", []),
    ],
)
def test_what_has_no_type_is_found(code, missing):
    found = [name for one in functions_of(ast.parse(code)) for name in untyped(*one)]
    assert found == missing
