"""The local server as a process: both ports, new versions, and an end in good order."""

import asyncio
import contextlib
import dataclasses
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from keras_transformer._quiet import quiet_stderr
from keras_transformer.errors import InputError
from keras_transformer.serving.grpc_service import make_server
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.log import log, set_up
from keras_transformer.serving.metrics import Metrics
from keras_transformer.serving.rest import LOOPBACK, make_app
from keras_transformer.serving.service import Service
from keras_transformer.serving.versions import Model

GRACE_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str = "127.0.0.1"
    rest_port: int = 8501  # 0 for a free one
    grpc_port: int = 8500

    @property
    def rest(self) -> str:
        """The address for clients of REST."""
        return f"http://{_bracketed(self.host)}:{self.rest_port}"

    @property
    def grpc(self) -> str:
        """The address for clients of gRPC."""
        return f"grpc://{_bracketed(self.host)}:{self.grpc_port}"


def serve(model: Model, address: Address, limits: Limits, poll_seconds: float) -> None:
    """Serve a model until the process is told to end, by SIGINT or SIGTERM.

    Args:
        model: The `Model`.
        address: Where to listen.
        limits: The server's `Limits`.
        poll_seconds: How often new versions are looked for.

    Raises:
        InputError: If a port is taken, or no version can be loaded.
    """
    set_up()

    async def until_told() -> None:
        told = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        async with running(model, address, limits, poll_seconds) as at:
            print(
                f"{model.name} is served at {at.rest} (REST, and a page to try it) and {at.grpc}",
                file=sys.stderr,
                flush=True,
            )
            await told.wait()

    asyncio.run(until_told())


@contextlib.asynccontextmanager
async def running(
    model: Model,
    address: Address,
    limits: Limits,
    poll_seconds: float = 2.0,
    metrics: Metrics | None = None,
) -> AsyncIterator[Address]:
    """Serve a model inside the block, and answer what has arrived by its end.

    Arguments are those of `serve`, and the `Metrics` if they are to be seen. Yields the `Address`
    with the ports that are in use.
    """
    service = Service(model, limits, metrics or Metrics())
    # Ports first: loading takes long, and a port that is taken is known at once.
    listener = _listen(address.host, address.rest_port)
    try:
        remote = make_server(service)
        grpc_port = _add_port(remote, address.host, address.grpc_port)
        await model.update()
        if not model.versions:
            failed = " ".join(status.error for status in model.statuses.values())
            raise InputError(f"{model.path} holds no version that can be served. {failed}")
    except BaseException:
        listener.close()
        await service.close()
        raise

    service.batcher.start()
    web = _Web(
        uvicorn.Config(
            make_app(service, address.host in LOOPBACK or address.host == "::1"),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    answering = asyncio.create_task(web.serve([listener]))
    await remote.start()
    await remote.set_health(True)
    watching = asyncio.create_task(model.watch(poll_seconds))
    at = Address(address.host, listener.getsockname()[1], grpc_port)
    log.info("ready", model=model.name, versions=model.versions, rest=at.rest, grpc=at.grpc)
    try:
        yield at
    finally:
        log.info("stopping")
        watching.cancel()
        await remote.set_health(False)
        web.should_exit = True  # no new connections; those that are there are answered
        await asyncio.gather(remote.stop(GRACE_SECONDS), answering)
        service.closing = True
        await service.close()
        log.info("stopped")


class _Web(uvicorn.Server):
    """A web server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends an answer's last part at once only on sockets that are known to be of TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"Nothing can listen at {host} on port {port}: {error}.") from None
    return listener


def _add_port(remote: Any, host: str, port: int) -> int:
    try:
        with quiet_stderr():  # gRPC's own line about a port that is taken
            port = remote.add_insecure_port(f"{_bracketed(host)}:{port}")
    except RuntimeError:
        port = 0
    if not port:
        raise InputError(f"Nothing can listen at {host} on the port for gRPC; choose another.")
    return port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
