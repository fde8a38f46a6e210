"""The command that serves a model."""

from typing import Annotated

import typer

from keras_transformer.artefacts.generation_options import GenerationOptions
from keras_transformer.cli.checks import check_model_exists
from keras_transformer.cli.options import JitCompile, Model, with_generation_options
from keras_transformer.errors import InputError


@with_generation_options
def serve(
    model: Model,
    name: Annotated[
        str | None,
        typer.Option(help="The model's name; that of its export or folder if not given."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    rest_port: Annotated[
        int, typer.Option(help="Port of REST and the page; 0 for a free one.", min=0, max=65535)
    ] = 8501,
    grpc_port: Annotated[
        int, typer.Option(help="Port of gRPC; 0 for a free one.", min=0, max=65535)
    ] = 8500,
    versions: Annotated[int, typer.Option(help="How many of the newest are served.", min=1)] = 1,
    label: Annotated[
        list[str] | None, typer.Option(help="A name for a version: stable=3; repeatable.")
    ] = None,
    poll_seconds: Annotated[
        float, typer.Option(help="Seconds between looks for new versions.", min=0.05)
    ] = 2.0,
    batch_size: Annotated[
        int, typer.Option(help="Maximum number of rows in one call of the model.")
    ] = 32,
    queue_rows: Annotated[int, typer.Option(help="Maximum number of rows that wait.")] = 1024,
    request_rows: Annotated[int, typer.Option(help="Maximum number of rows in one request.")] = 512,
    text_length: Annotated[
        int, typer.Option(help="Maximum number of characters in one text.")
    ] = 20_000,
    body_bytes: Annotated[int, typer.Option(help="Maximum number of bytes in one request.")] = 8
    * 2**20,
    requests: Annotated[int, typer.Option(help="Maximum number of requests at once.")] = 512,
    streams: Annotated[
        int, typer.Option(help="Maximum number of texts that are streamed at once.")
    ] = 4,
    seconds: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 30.0,
    jit_compile: JitCompile = False,
    options: GenerationOptions | None = None,
) -> None:
    """Serve a model by REST and gRPC, with a page to try it.

    The interfaces are TensorFlow Serving's. It is a local server; production is TensorFlow Serving.
    New versions in the folder are loaded while it runs.
    """
    check_model_exists(model)
    from keras_transformer.serving.limits import Limits

    limits = Limits(
        batch_size, queue_rows, request_rows, text_length, body_bytes, requests, streams, seconds
    )
    labels = dict(_label(one) for one in label or ())
    if len(labels) < len(label or ()):
        raise InputError("--label gives a name to two versions; give each name once.")
    from keras_transformer.export.folder import name_of
    from keras_transformer.export.runtime import check_model, check_options
    from keras_transformer.export.tf_serving import check_name
    from keras_transformer.serving.server import Address
    from keras_transformer.serving.server import serve as run
    from keras_transformer.serving.versions import Model as Versions

    check_model(model)
    check_options(model, options, jit_compile)
    name = check_name(name or name_of(model))
    served = Versions(name, model, options, jit_compile, versions, labels)
    run(served, Address(host, rest_port, grpc_port), limits, poll_seconds)


def _label(text: str) -> tuple[str, int]:
    name, _, version = text.partition("=")
    if not name or not version.isdecimal():
        raise InputError(f"--label {text!r} has to be like stable=3, a name and a version.")
    return name, int(version)
