"""The command `keras-transformer`: its verbs, in groups.

Each verb loads what it needs when it runs, so that `--help` and errors in arguments answer at
once. Bad input is printed without a traceback, and exits with status 2.
"""

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from keras_transformer import __version__
from keras_transformer.cli.attention import attention
from keras_transformer.cli.costs import flops, memory, params
from keras_transformer.cli.demo import demo
from keras_transformer.cli.doctor import doctor
from keras_transformer.cli.evaluate import evaluate
from keras_transformer.cli.explain import explain
from keras_transformer.cli.export import export
from keras_transformer.cli.generate import generate
from keras_transformer.cli.help import Verb, Verbs
from keras_transformer.cli.import_run import import_
from keras_transformer.cli.read import answer, classify, embed, fill_mask, tag
from keras_transformer.cli.serve import serve
from keras_transformer.cli.terminal import make_console
from keras_transformer.cli.tokenizers import tokenizers
from keras_transformer.cli.train import train
from keras_transformer.cli.training_tools import average, data_service, tune
from keras_transformer.cli.translate import score, translate
from keras_transformer.cli.vocab import vocab
from keras_transformer.errors import InputError

# By group, each verb with an example of what is typed behind `keras-transformer`.
VERBS: dict[str, dict[Callable[..., Any], str]] = {
    "Start here": {
        demo: "demo --output runs/demo",
        doctor: "doctor",
    },
    "Train": {
        train: "train --source train.en --target train.de \\\n"
        "    --valid-split 0.02 --output runs/en-de",
        tune: "tune --source train.en --target train.de \\\n"
        "    --valid-source valid.en --valid-target valid.de \\\n"
        "    --grid learning_rate=1e-3,2e-3 --output runs/search",
        average: "average --model runs/en-de --output runs/en-de-mean",
        vocab: "vocab --input train.en --size 8000 --output vocab.txt",
        import_: "import bert-base-uncased --output runs/bert",
        data_service: "data-service --kind dispatcher --port 5050",
    },
    "Use a model": {
        translate: "translate --model runs/en-de --input test.en",
        generate: "generate --model runs/gpt --prompt 'Once upon a time'",
        embed: "embed --model runs/minilm --input lines.txt",
        classify: "classify --model runs/reviews --input reviews.txt",
        tag: "tag --model runs/names --input sentences.txt",
        answer: "answer --model runs/squad --question 'Who wrote it?' \\\n"
        "    --passage 'Ann wrote it.'",
        fill_mask: "fill-mask 'Paris is in [MASK].' --model runs/bert",
    },
    "Export and serve": {
        export: "export --model runs/en-de --output exported/en-de",
        serve: "serve --model exported/en-de",
    },
    "Look inside": {
        evaluate: "evaluate --model runs/en-de --source t.en --target t.de",
        score: "score --model runs/en-de --source test.en --target test.de",
        attention: "attention --model runs/en-de --text Two --output heads.png",
        explain: "explain positions",
    },
    "Tools": {
        params: "params --preset bert-base",
        flops: "flops --preset base --n 512",
        memory: "memory --preset base --vocab-size 37000",
        tokenizers: "tokenizers --input train.en",
    },
}

app = typer.Typer(
    name="keras-transformer",
    cls=Verbs,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"keras-transformer {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """From text files to a Transformer that runs anywhere."""


for group, verbs in VERBS.items():
    for verb, example in verbs.items():
        app.command(
            verb.__name__.rstrip("_").replace("_", "-"),
            cls=Verb,
            epilog=f"keras-transformer {example}",
            rich_help_panel=group,
        )(verb)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # as files are, whatever the locale says
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what could not be written is known now, and not after the end
    except InputError as error:
        _fail(error)
    except Exception as error:
        from keras_transformer.files import system_problem

        if (problem := system_problem(error)) is None:
            raise
        _fail(problem)


def _fail(message: str | InputError) -> None:
    make_console().print(f"error: {message}", style="red", markup=False, highlight=False)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try to write what is left once more, at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(2)


if __name__ == "__main__":
    main()
