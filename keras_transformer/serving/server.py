"""The local server as a process: both ports, new versions, and an end in good order."""

import asyncio
import contextlib
import signal
import socket
import sys

import uvicorn

from keras_transformer.errors import InputError
from keras_transformer.serving.grpc_service import make_server
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.log import log, set_up
from keras_transformer.serving.metrics import Metrics
from keras_transformer.serving.rest import LOOPBACK, make_app
from keras_transformer.serving.service import Service
from keras_transformer.serving.versions import Model

GRACE_SECONDS = 10


def serve(
    model: Model,
    metrics: Metrics,
    host: str = "127.0.0.1",
    rest_port: int = 8501,
    grpc_port: int = 8500,
    limits: Limits | None = None,
    poll_seconds: float = 2.0,
) -> None:
    """Serve a model until the process is told to end.

    Args:
        model: The `Model`.
        metrics: The server's `Metrics`.
        host: Address to listen at.
        rest_port: Port of REST and the page; 0 for a free one.
        grpc_port: Port of gRPC; likewise.
        limits: The server's `Limits`.
        poll_seconds: How often new versions are looked for.

    Raises:
        InputError: If a port is taken, or no version can be loaded.
    """
    set_up()
    asyncio.run(
        _serve(model, metrics, host, rest_port, grpc_port, limits or Limits(), poll_seconds)
    )


async def _serve(model, metrics, host, rest_port, grpc_port, limits, poll_seconds):
    service = Service(model, limits, metrics)
    # Ports first: loading takes long, and a port that is taken is known at once.
    listener = _listen(host, rest_port)
    remote = make_server(service)
    try:
        grpc_port = remote.add_insecure_port(f"{_bracketed(host)}:{grpc_port}")
    except RuntimeError:
        grpc_port = 0
    if not grpc_port:
        listener.close()
        raise InputError(f"Nothing can listen at {host} on the gRPC port; choose another.")
    await model.update()
    if not model.versions:
        listener.close()
        await service.close()
        failed = "; ".join(status.error for status in model.statuses.values() if status.error)
        raise InputError(f"{model.path} holds no version that can be loaded. {failed}")

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    service.batcher.start()
    web = _Web(
        uvicorn.Config(
            make_app(service, host in LOOPBACK or host == "::1"),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_SECONDS,
            h11_max_incomplete_event_size=64 * 1024,
        )
    )
    answering = asyncio.create_task(web.serve([listener]))
    await remote.start()
    await remote.set_health(True)
    watching = asyncio.create_task(model.watch(poll_seconds))
    rest_port = listener.getsockname()[1]
    log.info("ready", model=model.name, versions=model.versions, rest=rest_port, grpc=grpc_port)
    print(
        f"{model.name} is served at http://{_bracketed(host)}:{rest_port}/ (REST and page) and "
        f"grpc://{_bracketed(host)}:{grpc_port}",
        file=sys.stderr,
        flush=True,
    )
    await stopping.wait()

    # No new requests; those that are there are answered.
    log.info("stopping")
    await remote.set_health(False)
    watching.cancel()
    web.should_exit = True
    await asyncio.gather(remote.stop(GRACE_SECONDS), answering)
    service.closing = True
    await service.close()
    log.info("stopped")


class _Web(uvicorn.Server):
    """A web server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


def _listen(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"Nothing can listen at {host} on port {port}: {error}.") from None
    return listener


def _bracketed(host):
    return f"[{host}]" if ":" in host else host
