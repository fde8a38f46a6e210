"""Options of commands: those that several share, and those that dataclasses have."""

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.options import options_of

CONTEXT = "context"  # the argument of a command that typer fills in
Model = Annotated[Path, typer.Option(help="A run folder, a SavedModel folder or a .tflite file.")]
Input = Annotated[str, typer.Option(help="Text file, or - for standard input.")]
Output = Annotated[str, typer.Option(help="File to write, or - for standard output.")]
Batch = Annotated[int, typer.Option(help="Number of texts at once.", min=1)]
BatchTokens = Annotated[
    int, typer.Option(help="Source tokens translated at once, padding included.", min=1)
]
JitCompile = Annotated[
    bool, typer.Option("--jit-compile", help="Compile the model of a run by XLA.")
]
Stream = Annotated[bool, typer.Option("--stream", help="Show text while it is written.")]


def with_options(
    **groups: type | tuple[type, Sequence[str]],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that dataclasses have.

    Args:
        **groups: By an argument of the command, a dataclass, or one and the names of the fields
            that are wanted. The argument gets the fields that were given, on the command line or by
            a recipe, by their names.
    """
    asked = {
        group: options_of(*(of if isinstance(of, tuple) else (of,))) for group, of in groups.items()
    }

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command).parameters.values()
        needs_context = any(p.name == CONTEXT for p in own)

        @functools.wraps(command)
        def wrapped(**arguments: Any) -> Any:
            context = arguments[CONTEXT]
            if not needs_context:
                del arguments[CONTEXT]
            for group, options in asked.items():
                values = {field: arguments.pop(one.name) for field, one in options.items()}
                arguments[group] = {
                    field: value
                    for field, value in values.items()
                    if _was_given(context, options[field].name) and value not in ([], ())
                }
            return command(**arguments)

        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name not in groups]
        if not needs_context:
            context = inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY)
            parameters.append(context.replace(annotation=typer.Context))
        for one in (one for options in asked.values() for one in options.values()):
            how = typer.Option(*one.flags, help=one.help, rich_help_panel=one.panel)
            parameter = inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY)
            kind: Any = Annotated[one.kind, how]
            parameters.append(parameter.replace(default=one.default, annotation=kind))
        # Functions may have one; `functools.wraps` is typed as if not.
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapped

    return decorate


def _was_given(context: typer.Context, name: str) -> bool:
    """Return whether an option was given, on the command line or by a recipe."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def with_generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each field of `GenerationOptions`.

    The command gets them together as `options`: None where none was given.
    """

    @functools.wraps(command)
    def wrapped(*, options: dict[str, Any], **arguments: Any) -> Any:
        return command(**arguments, options=GenerationOptions(**options) if options else None)

    return with_options(options=GenerationOptions)(wrapped)
