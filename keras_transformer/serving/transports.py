"""How the client reaches a server: by REST, which needs no TensorFlow, or by gRPC."""

import base64
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from keras_transformer.serving.errors import CODES, ServerError


class Rest:
    """A connection by REST, with a session for each thread."""

    def __init__(self, address: str, model: str, version: int | None, label: str | None) -> None:
        place = f"/v1/models/{quote(model, safe='')}"
        if version is not None:
            place += f"/versions/{version}"
        if label is not None:
            place += f"/labels/{quote(label, safe='')}"
        self._url = address.rstrip("/") + place
        self._local = threading.local()  # a session is for one thread
        self._sessions: list[requests.Session] = []
        self._outputs: dict[str, str] = {}  # names of only outputs, by signature

    def predict(self, signature: str, inputs: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Call a signature; see `Client.predict`."""
        body = {
            "signature_name": signature,
            "inputs": {name: _to_json(values) for name, values in inputs.items()},
        }
        outputs = self._ask("POST", ":predict", timeout, body)["outputs"]
        if not isinstance(outputs, dict):  # a signature with one output answers without its name
            outputs = {self._only_output(signature, timeout): outputs}
        return outputs

    def _only_output(self, signature: str, timeout: float) -> str:
        if signature not in self._outputs:
            metadata = self._ask("GET", "/metadata", timeout)["metadata"]
            signatures = metadata["signature_def"]["signature_def"]
            (self._outputs[signature],) = signatures[signature]["outputs"]
        return self._outputs[signature]

    def status(self, timeout: float) -> dict[int, str]:
        """Return the state of each version."""
        versions = self._ask("GET", "", timeout)["model_version_status"]
        return {int(one["version"]): one["state"] for one in versions}

    def close(self) -> None:
        """Close what is open."""
        for session in self._sessions:
            session.close()

    def _ask(self, method: str, suffix: str, timeout: float, body: Any = None) -> Any:
        try:
            answer = self._session().request(method, self._url + suffix, json=body, timeout=timeout)
            values = answer.json()
        except requests.Timeout as error:
            raise ServerError("DEADLINE_EXCEEDED", f"No answer in time: {error}") from None
        except requests.JSONDecodeError:
            code = CODES.get(answer.status_code, "INTERNAL")
            raise ServerError(code, f"No JSON came, with status {answer.status_code}.") from None
        except requests.RequestException as error:  # refused, reset, or ended in the middle
            raise ServerError("UNAVAILABLE", str(error)) from None
        if answer.status_code != 200:
            code = CODES.get(answer.status_code, "INTERNAL")
            raise ServerError(code, str(values.get("error", values)))
        return values

    def _session(self) -> Any:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._sessions.append(self._local.session)
        return self._local.session


def _to_json(values: Any) -> Any:
    """Write text as it is, and bytes, or text that is no Unicode, in base 64."""
    if isinstance(values, list):
        return [_to_json(value) for value in values]
    if isinstance(values, str):
        try:
            values.encode("utf-8")
            return values
        except UnicodeEncodeError:
            values = values.encode("utf-8", "surrogatepass")
    if isinstance(values, bytes):
        return {"b64": base64.b64encode(values).decode("ascii")}
    return values


class Grpc:
    """A connection by gRPC."""

    def __init__(self, address: str, model: str, version: int | None, label: str | None) -> None:
        import grpc

        from keras_transformer._quiet import quiet_stderr

        with quiet_stderr():
            import tensorflow as tf
            from tensorflow_serving.apis import (
                get_model_status_pb2,
                model_service_pb2_grpc,
                predict_pb2,
                prediction_service_pb2_grpc,
            )

        self._grpc, self._tf = grpc, tf
        self._requests = predict_pb2.PredictRequest, get_model_status_pb2.GetModelStatusRequest
        self._channel = grpc.insecure_channel(
            urlsplit(address).netloc,
            options=[
                ("grpc.max_receive_message_length", -1),
                # A server that comes back is noticed at once; the pauses are ours.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._place = model, version, label

    def predict(self, signature: str, inputs: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Call a signature; see `Client.predict`."""
        request = self._fill(self._requests[0]())
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(self._tf.make_tensor_proto(_to_bytes(values)))
        response = self._ask(self._prediction.Predict, request, timeout)
        return {
            name: _to_text(self._tf.make_ndarray(tensor).tolist())
            for name, tensor in response.outputs.items()
        }

    def status(self, timeout: float) -> dict[int, str]:
        """Return the state of each version."""
        request = self._fill(self._requests[1]())
        response = self._ask(self._models.GetModelStatus, request, timeout)
        return {
            one.version: type(one).State.Name(one.state) for one in response.model_version_status
        }

    def close(self) -> None:
        """Close what is open."""
        self._channel.close()

    def _fill(self, request: Any) -> Any:
        model, version, label = self._place
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        return request

    def _ask(self, method: Callable[..., Any], request: Any, timeout: float) -> Any:
        try:
            return method(request, timeout=timeout)
        except self._grpc.RpcError as error:
            raise ServerError(error.code().name, error.details()) from None


def _to_bytes(values: Any) -> Any:
    if isinstance(values, list):
        return [_to_bytes(value) for value in values]
    return values.encode("utf-8", "surrogatepass") if isinstance(values, str) else values


def _to_text(values: Any) -> Any:
    if isinstance(values, list):
        return [_to_text(value) for value in values]
    return values.decode("utf-8", "replace") if isinstance(values, bytes) else values


# By the scheme of the address.
TRANSPORTS: dict[str, type[Rest] | type[Grpc]] = {"http": Rest, "https": Rest, "grpc": Grpc}
