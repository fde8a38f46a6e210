"""The commands of language models: generate."""

from pathlib import Path
from typing import Annotated

import typer

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.cli.checks import check_file_free, check_files_exist, check_model_exists
from keras_transformer.cli.options import (
    BatchTokens,
    JitCompile,
    Model,
    Output,
    Stream,
    with_generation_options,
)
from keras_transformer.cli.terminal import make_console, output_file, progress
from keras_transformer.errors import InputError


@with_generation_options
def generate(
    model: Model,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What the text begins with; repeatable.")
    ] = None,
    input: Annotated[
        str | None, typer.Option(help="File of prompts, one a line, or - for standard input.")
    ] = None,
    output: Output = "-",
    stream: Stream = False,
    batch_tokens: BatchTokens = 1024,
    jit_compile: JitCompile = False,
    options: GenerationOptions | None = None,
) -> None:
    """Continue prompts with a language model.

    Each text is written with its prompt. `--max-length` counts the tokens that follow, 50 if it is
    not given.
    """
    check_model_exists(model)
    if (prompt is None) == (input is None):
        raise InputError("Give prompts by --prompt or by --input, but not by both.")
    if input not in (None, "-"):
        check_files_exist(Path(str(input)))
    if output != "-":
        check_file_free(Path(output), overwrite=True)
    if stream and output != "-":
        raise InputError("--stream writes to standard output; leave out --output.")
    from keras_transformer.artefacts.bulk import measure, translate
    from keras_transformer.export.runtime import load
    from keras_transformer.files import read_lines

    runtime = load(model, options, jit_compile, gives="text")
    if "align" in runtime.signatures:
        raise InputError(f"{model} turns one text into another; use translate.")
    prompts = list(prompt or ()) if input is None else list(read_lines(input))
    if too_long := measure(runtime, prompts)[1]:
        raise InputError(
            f"Prompt {too_long[0] + 1} is longer than the model's context; shorten it: "
            f"{prompts[too_long[0]][:60]!r}"
        )
    if stream:
        for one in prompts:
            for piece in runtime.stream(one):
                print(piece, end="", flush=True)
            print(flush=True)
        return
    console = make_console()
    with output_file(output) as file, progress("Generating", console) as show:
        task = show.add_task("", total=len(prompts))
        result = translate(runtime, prompts, batch_tokens, lambda n: show.update(task, advance=n))
        for some in result.hypotheses:
            file.writelines(f"{text}\n" for text, _ in some)
