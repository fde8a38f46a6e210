"""REST: TensorFlow Serving's interface, the page, events, health and metrics."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.grpc_service import metadata_of, status_of
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.service import DEFAULT_SIGNATURE, Service
from keras_transformer.serving.tensors import inputs_of_json, outputs_to_json
from keras_transformer.serving.versions import ServedVersion

PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


def make_app(service: Service, loopback: bool = True) -> FastAPI:
    """Make the application.

    Args:
        service: What answers.
        loopback: Whether only this machine is served. Then other names for it are refused, by
            which a web page elsewhere could reach it.
    """
    app = FastAPI(openapi_url=None)
    if loopback:
        app.add_middleware(_OnlyThisMachine)

    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> JSON:
        return _error(error.message, error.status)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSON:
        if request.url.path.startswith("/v1/") and error.status_code in (404, 405):
            message = f"Malformed request: {request.method} {request.url.path[:200]}"
            return _error(message, error.status_code)
        return _error(str(error.detail), error.status_code)

    _add_page(app, service)
    _add_monitoring(app, service)
    for place in ("", "/versions/{version}", "/labels/{label}"):
        _add_model(app, service, f"/v1/models/{{name}}{place}")
    return app


def _add_model(app: FastAPI, service: Service, path: str) -> None:
    """Add what can be asked of a model; `path` names it, its newest version, or another."""

    @app.post(path + ":predict")
    async def predict(request: Request) -> JSON:
        async with _answering(service, request, "predict") as (servable, body):
            signature = body.get("signature_name") or DEFAULT_SIGNATURE
            if not isinstance(signature, str):
                raise RequestError("INVALID_ARGUMENT", "'signature_name' has to be a string.")
            inputs, row_by_row = inputs_of_json(body, servable.specs(signature)[0])
            outputs = await _unless_gone(request, service.predict(servable, signature, inputs))
            return JSON(outputs_to_json(outputs, row_by_row))

    @app.post(path + ":attention")
    async def attention(request: Request) -> JSON:
        async with _answering(service, request, "attention") as (servable, body):
            text, target = _strings(body, "text", "target")
            answer = await _unless_gone(request, service.attention(servable, text, target))
            return JSON(answer)

    @app.post(path + ":stream")
    async def stream(request: Request) -> StreamingResponse:
        async def events() -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
            with service.request("rest", "stream"):
                servable = _servable(service, request)
                (text,) = _strings(await _body(request, service.limits), "text")
                async with contextlib.aclosing(service.stream(servable, text)) as some:
                    async for event in some:
                        yield event

        rest = events()
        first = await anext(rest)  # what is wrong with the request is said before the stream
        return StreamingResponse(
            _events(first, rest),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @app.get(path + "/metadata")
    async def metadata(request: Request) -> JSON:
        with service.request("rest", "metadata"):
            return JSON(metadata_of(service, _servable(service, request)))

    @app.get(path)
    async def status(request: Request) -> JSON:
        with service.request("rest", "status"):
            name, version, label = _place(request)
            if label is not None:
                version = service.servable(name, None, label).version
            return JSON(status_of(service, name, version))


def _add_page(app: FastAPI, service: Service) -> None:
    for name, file in {
        "/": "index.html",
        "/page.css": "page.css",
        "/page.js": "page.js",
        "/icon.svg": "icon.svg",
    }.items():
        app.get(name)(_file_sender(PAGE / file))

    @app.get("/info")
    async def info() -> JSON:
        servable = service.model.get()
        return JSON(
            {
                "name": service.model.name,
                "version": str(servable.version),
                "description": servable.model.description,
                "signatures": sorted(servable.model.signatures),
                "limits": {"text_length": service.limits.text_length},
            }
        )


def _file_sender(path: Path) -> Callable[..., Any]:
    async def send() -> FileResponse:
        return FileResponse(path, headers=PAGE_HEADERS)

    return send


def _add_monitoring(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def alive() -> JSON:
        return JSON({"status": "ok"})

    @app.get("/readyz")
    async def ready() -> JSON:
        answer = {"status": "ready" if service.ready else "not ready"}
        return JSON(answer, status_code=200 if service.ready else 503)

    @app.get("/metrics")
    @app.get("/monitoring/prometheus/metrics")
    async def metrics() -> Response:
        content, kind = service.metrics.text()
        return Response(content, media_type=kind)


class _OnlyThisMachine:
    """Refuses requests that came by another name."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "").rsplit(":", 1)[0]
            if host not in LOOPBACK and Headers(scope=scope).get("host") != "[::1]":
                answer = _error("This server answers by the name localhost.", 400)
                return await answer(scope, receive, send)
        return await self.app(scope, receive, send)


# --- Requests and answers -------------------------------------------------------------------------


class JSON(JSONResponse):
    """JSON in which a score may be minus infinity, which TensorFlow Serving writes so as well."""

    def render(self, content: Any) -> bytes:
        """Write UTF-8."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )


def _error(message: str, status: int) -> JSON:
    return JSON({"error": message}, status_code=status)


@contextlib.asynccontextmanager
async def _answering(
    service: Service, request: Request, method: str
) -> AsyncIterator[tuple[ServedVersion, dict[str, Any]]]:
    """Give the version that a request is for, and its body."""
    with service.request("rest", method):
        servable = _servable(service, request)
        yield servable, await _body(request, service.limits)


def _place(request: Request) -> tuple[str, int | None, str | None]:
    """Return the model's name, and the version or label if one is named."""
    named = request.path_params
    version = named.get("version")
    if version is not None:
        if not (version.isascii() and version.isdecimal() and len(version) < 19):
            raise RequestError("INVALID_ARGUMENT", f"{version[:50]!r} is no version.")
        version = int(version)
    return named["name"], version, named.get("label")


def _servable(service: Service, request: Request) -> ServedVersion:
    return service.servable(*_place(request))


async def _body(request: Request, limits: Limits) -> dict[str, Any]:
    """Read and parse a body, no more of it than allowed and no slower."""
    size = request.headers.get("content-length", "")
    if size.isdecimal() and int(size) > limits.body_bytes:
        raise _too_large(limits)
    content = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise RequestError("DEADLINE_EXCEEDED", "The request came too slowly.", 408) from None
    except ClientDisconnect:
        raise _gone() from None
    try:
        body = json.loads(bytes(content).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "" if isinstance(error, RecursionError) else f" {error}"
        raise RequestError(
            "INVALID_ARGUMENT",
            f"JSON Parse error:{reason[:200]}" if content else "The body is empty.",
        ) from None
    if not isinstance(body, dict):
        raise RequestError("INVALID_ARGUMENT", "The body has to be a JSON object.")
    return body


def _gone() -> RequestError:
    return RequestError("UNAVAILABLE", "The client has gone.", 499)


def _too_large(limits: Limits) -> RequestError:
    return RequestError(
        "INVALID_ARGUMENT", f"The body may have {limits.body_bytes} bytes, and has more.", 413
    )


def _strings(body: dict[str, Any], *names: str) -> list[str]:
    for name in names:
        if not isinstance(body.get(name), str):
            raise RequestError("INVALID_ARGUMENT", f"The body needs {name!r}, a string.")
    return [body[name] for name in names]


async def _unless_gone(request: Request, answer: Awaitable[Any]) -> Any:
    """Wait for an answer as long as the client does."""
    waiting = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise _gone()
        return await waiting
    finally:
        for task in (waiting, leaving):
            task.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(
    first: tuple[str, dict[str, Any]], rest: AsyncGenerator[tuple[str, dict[str, Any]], None]
) -> AsyncIterator[bytes]:
    """Write server-sent events. An error ends them."""
    async with contextlib.aclosing(rest):
        yield _event(*first)
        try:
            async for event in rest:
                yield _event(*event)
        except RequestError as error:
            yield _event("error", {"error": error.message})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode(
        "utf-8", "replace"
    )
