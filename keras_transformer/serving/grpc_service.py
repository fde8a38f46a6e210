"""gRPC: TensorFlow Serving's PredictionService and ModelService, and gRPC's own health checks."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from keras_transformer._quiet import quiet_stderr
from keras_transformer.artefacts.artefact import Spec
from keras_transformer.serving.limits import Limits
from keras_transformer.serving.versions import ServedVersion

with quiet_stderr():
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import error_codes_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        predict_pb2,
    )

from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.service import DEFAULT_SIGNATURE, Service

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
UNSUPPORTED = {
    PREDICTION_SERVICE: ("Classify", "Regress", "MultiInference"),
    MODEL_SERVICE: ("HandleReloadConfigRequest",),
}
PREDICT_METHOD = "tensorflow/serving/predict"


def make_server(service: Service) -> grpc.aio.Server:
    """Make the server, without a port."""
    limits = service.limits
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_concurrent_streams", limits.requests),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
        ],
        maximum_concurrent_rpcs=limits.requests,
    )
    methods = {
        PREDICTION_SERVICE: {"Predict": _predict, "GetModelMetadata": _get_model_metadata},
        MODEL_SERVICE: {"GetModelStatus": _get_model_status},
    }
    for name, some in methods.items():
        handlers = {method: _handler(service, method, answer) for method, answer in some.items()}
        handlers |= {method: _handler(service, method, None) for method in UNSUPPORTED[name]}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    health_service = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    server.set_health = lambda ready: health_service.set(
        "",
        health_pb2.HealthCheckResponse.SERVING
        if ready
        else health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    return server


def _handler(
    service: Service, method: str, answer: Callable[..., Any] | None
) -> grpc.RpcMethodHandler:
    """Wrap a function of the service and the request's bytes."""

    async def handle(content: bytes, context: Any) -> Any:
        try:
            with service.request("grpc", method):
                if answer is None:
                    raise RequestError("UNIMPLEMENTED", f"This server has no {method}.")
                return await answer(service, content, context)
        except RequestError as error:
            await context.abort(getattr(grpc.StatusCode, error.code), error.message)

    # The request is parsed in the handler: gRPC itself would call wrong bytes an internal error.
    return grpc.unary_unary_rpc_method_handler(
        handle, response_serializer=lambda message: message.SerializeToString()
    )


async def _predict(service: Service, content: bytes, context: Any) -> predict_pb2.PredictResponse:
    request = _parse(predict_pb2.PredictRequest, content)
    servable = _servable(service, request.model_spec)
    signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
    takes, gives = servable.specs(signature)
    if unknown := set(request.output_filter) - set(gives):
        raise RequestError(
            "INVALID_ARGUMENT", f"The signature gives no {', '.join(sorted(unknown))}."
        )
    inputs = {
        name: _array(name, tensor, takes.get(name), service.limits)
        for name, tensor in request.inputs.items()
    }
    outputs = await service.predict(servable, signature, inputs, context.time_remaining())
    response = predict_pb2.PredictResponse()
    response.model_spec.name = service.model.name
    response.model_spec.signature_name = signature
    response.model_spec.version.value = servable.version
    for name in request.output_filter or outputs:
        response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
    return response


async def _get_model_metadata(
    service: Service, content: bytes, context: Any
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    request = _parse(get_model_metadata_pb2.GetModelMetadataRequest, content)
    servable = _servable(service, request.model_spec)
    if not request.metadata_field:
        raise RequestError("INVALID_ARGUMENT", "GetModelMetadataRequest names no metadata_field.")
    if other := set(request.metadata_field) - {"signature_def"}:
        raise RequestError(
            "INVALID_ARGUMENT", f"Metadata field {sorted(other)[0]!r} is not supported."
        )
    return _metadata(service, servable)


async def _get_model_status(
    service: Service, content: bytes, context: Any
) -> get_model_status_pb2.GetModelStatusResponse:
    request = _parse(get_model_status_pb2.GetModelStatusRequest, content)
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    if spec.WhichOneof("version_choice") == "version_label":
        version = _servable(service, spec).version
    return _status(service, spec.name, version)


def _parse(kind: Any, content: bytes) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError:
        raise RequestError("INVALID_ARGUMENT", f"The request is no {kind.__name__}.") from None


def _servable(service: Service, spec: Any) -> ServedVersion:
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    label = spec.version_label if choice == "version_label" else None
    return service.servable(spec.name, version, label)


def _array(name: str, tensor: Any, spec: Spec | None, limits: Limits) -> np.ndarray:
    """Make an array of a tensor, not larger than the tensor's own content."""
    if spec is None:
        return np.zeros(0)  # refused by its name
    if tensor.dtype != tf.as_dtype(spec.dtype).as_datatype_enum:
        known = tensor.dtype in types_pb2.DataType.values()
        got = types_pb2.DataType.Name(tensor.dtype) if known else tensor.dtype
        raise RequestError(
            "INVALID_ARGUMENT", f"Input {name!r} has to hold values of {spec.dtype}, got {got}."
        )
    sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
    count = 1
    for size in sizes:
        count *= max(size, 0)
    # One value may stand for many: a small message must not become a large array.
    if min(sizes, default=0) < 0 or count > limits.body_bytes // 4:
        raise RequestError("INVALID_ARGUMENT", f"Input {name!r} has an impossible shape {sizes}.")
    try:
        return tf.make_ndarray(tensor)
    except (ValueError, TypeError):
        raise RequestError(
            "INVALID_ARGUMENT", f"Input {name!r} has not the values for its shape {sizes}."
        ) from None


# --- What both protocols tell of a model ----------------------------------------------------------


def metadata_of(service: Service, servable: ServedVersion) -> dict[str, Any]:
    """Return the signatures of a version as JSON, in TensorFlow Serving's form."""
    message = _metadata(service, servable)
    fields = MessageToDict(message, preserving_proto_field_name=True)
    fields["metadata"]["signature_def"].pop("@type")
    return fields


def status_of(service: Service, name: str, version: int | None = None) -> dict[str, Any]:
    """Return the state of the versions as JSON, in TensorFlow Serving's form."""
    return MessageToDict(
        _status(service, name, version),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def _metadata(
    service: Service, servable: ServedVersion
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = service.model.name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name in sorted(servable.model.signatures):
        signature = signatures.signature_def[name]
        signature.method_name = PREDICT_METHOD
        sides = signature.inputs, signature.outputs
        for infos, specs in zip(sides, servable.specs(name), strict=True):
            for tensor, spec in specs.items():
                infos[tensor].name = f"{name}_{tensor}:0"
                infos[tensor].dtype = tf.as_dtype(spec.dtype).as_datatype_enum
                infos[tensor].tensor_shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
    response.metadata["signature_def"].Pack(signatures)
    return response


def _status(
    service: Service, name: str, version: int | None
) -> get_model_status_pb2.GetModelStatusResponse:
    if name != service.model.name:
        raise RequestError("NOT_FOUND", f"Could not find any versions of model {name[:200]!r}.")
    statuses = service.model.statuses
    if version is not None:
        if version not in statuses:
            raise RequestError("NOT_FOUND", f"Could not find version {version} of model {name}.")
        statuses = {version: statuses[version]}
    response = get_model_status_pb2.GetModelStatusResponse()
    for number in sorted(statuses, reverse=True):
        one = response.model_version_status.add()
        one.version = number
        states = get_model_status_pb2.ModelVersionStatus.State
        one.state = states.Value(statuses[number].state)
        if statuses[number].error:
            one.status.error_code = error_codes_pb2.UNKNOWN
            one.status.error_message = statuses[number].error
        else:
            one.status.error_code = error_codes_pb2.OK
    return response
