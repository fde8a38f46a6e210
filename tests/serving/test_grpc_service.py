"""Tests of the local server's gRPC interface, by the official stubs."""

import threading

import grpc
import pytest
import tensorflow as tf
from fixtures_serving import Capitals, Loaded, server, until
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = get_model_metadata_pb2.GetModelMetadataRequest
STATUS = get_model_status_pb2.GetModelStatusRequest


@pytest.fixture(scope="module")
def served():
    versions = {1: Capitals(mark="1 "), 2: Capitals(mark="2 ")}
    limits = {"body_bytes": 4000, "text_length": 100, "request_rows": 50}
    with server(Loaded(versions, keep=2, labels={"stable": 1}), **limits) as running:
        channel = grpc.insecure_channel(running.at.grpc.removeprefix("grpc://"))
        running.channel = channel
        running.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        running.models = model_service_pb2_grpc.ModelServiceStub(channel)
        yield running
        channel.close()


def request(signature="", name="caps", version=None, label=None, **inputs):
    message = predict_pb2.PredictRequest()
    place(message.model_spec, name, version, label)
    message.model_spec.signature_name = signature
    for key, values in inputs.items():
        message.inputs[key].CopyFrom(tf.make_tensor_proto(values))
    return message


def place(spec, name="caps", version=None, label=None):
    spec.name = name
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def refused(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as error:
        call(*args, timeout=10, **kwargs)
    return error.value.code().name, error.value.details()


# --- What is answered -----------------------------------------------------------------------------


def test_predict(served):
    answer = served.prediction.Predict(request(text=["a", "é"]), timeout=10)
    assert answer.model_spec.name == "caps"
    assert answer.model_spec.version.value == 2
    assert answer.model_spec.signature_name == "serving_default"
    assert set(answer.outputs) == {"text", "score"}
    texts = tf.make_ndarray(answer.outputs["text"])
    assert [text.decode() for text in texts] == ["2 A", "2 é"]
    assert tf.make_ndarray(answer.outputs["score"]).tolist() == [-1.0, -2.0]
    assert answer.outputs["score"].dtype == types_pb2.DT_FLOAT


@pytest.mark.parametrize(
    ("where", "mark"), [({"version": 1}, b"1 "), ({"label": "stable"}, b"1 "), ({}, b"2 ")]
)
def test_versions_and_labels(served, where, mark):
    answer = served.prediction.Predict(request(text=["a"], **where), timeout=10)
    assert tf.make_ndarray(answer.outputs["text"]).tolist() == [mark + b"A"]


def test_only_the_outputs_that_are_asked_for(served):
    message = request(text=["a"])
    message.output_filter.append("score")
    assert set(served.prediction.Predict(message, timeout=10).outputs) == {"score"}


def test_metadata(served):
    message = METADATA(metadata_field=["signature_def"])
    place(message.model_spec)
    answer = served.prediction.GetModelMetadata(message, timeout=10)
    assert answer.model_spec.version.value == 2
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == Capitals.signatures
    score = signatures.signature_def["score"]
    assert set(score.inputs) == {"text", "target"}
    assert score.inputs["text"].dtype == types_pb2.DT_STRING
    assert [d.size for d in score.inputs["text"].tensor_shape.dim] == [-1]


def test_status(served):
    message = STATUS()
    place(message.model_spec)
    statuses = served.models.GetModelStatus(message, timeout=10).model_version_status
    assert [(one.version, one.state, one.status.error_code) for one in statuses] == [
        (2, type(statuses[0]).AVAILABLE, 0),
        (1, type(statuses[0]).AVAILABLE, 0),
    ]
    place(message.model_spec, label="stable")
    statuses = served.models.GetModelStatus(message, timeout=10).model_version_status
    assert [one.version for one in statuses] == [1]


def test_health(served):
    stub = health_pb2_grpc.HealthStub(served.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


# --- What is refused ------------------------------------------------------------------------------


def no_names():
    return request()


def wrong_type():
    return request(text=[1.0])


def unknown_type():
    message = request(text=["a"])
    message.inputs["text"].dtype = 999
    return message


def of_shape(*sizes, values=("a",)):
    message = request(text=list(values))
    tensor = message.inputs["text"]
    del tensor.tensor_shape.dim[:]
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    return message


def unknown_output():
    message = request(text=["a"])
    message.output_filter.append("other")
    return message


BAD = [
    (no_names(), "INVALID_ARGUMENT", "takes 'text', the request has nothing"),
    (request(other=["a"]), "INVALID_ARGUMENT", "takes 'text', the request has 'other'"),
    (wrong_type(), "INVALID_ARGUMENT", "values of string, got DT_FLOAT"),
    (unknown_type(), "INVALID_ARGUMENT", "values of string, got 999"),
    (request(text="a"), "INVALID_ARGUMENT", "needs shape (any), got ()"),
    (request(text=[["a"]]), "INVALID_ARGUMENT", "needs shape (any), got (1, 1)"),
    # A few bytes that claim to be a large array.
    (of_shape(10**12), "INVALID_ARGUMENT", "impossible shape"),
    (of_shape(10**6, 10**6), "INVALID_ARGUMENT", "impossible shape"),
    (of_shape(-1), "INVALID_ARGUMENT", "impossible shape"),
    (of_shape(1, values=("a", "b")), "INVALID_ARGUMENT", "not the values for its shape [1]"),
    (of_shape(51), "INVALID_ARGUMENT", "may have 50 rows, got 51"),
    (request(text=["x" * 101]), "INVALID_ARGUMENT", "100 characters"),
    (request("none", text=["a"]), "INVALID_ARGUMENT", "'none' not found in signature def"),
    (request("score", text=["a"], target=["b", "c"]), "INVALID_ARGUMENT", "same number of rows"),
    (unknown_output(), "INVALID_ARGUMENT", "gives no other"),
    (request(name="other", text=["a"]), "NOT_FOUND", "Servable not found"),
    (request(name="../etc", text=["a"]), "NOT_FOUND", "Servable not found"),
    (request(version=9, text=["a"]), "NOT_FOUND", "has no version 9"),
    (request(label="x", text=["a"]), "NOT_FOUND", "no label 'x'"),
    (request(text=["x" * 5000]), "RESOURCE_EXHAUSTED", "larger than max"),
]


@pytest.mark.parametrize(("message", "code", "words"), BAD)
def test_bad_requests_get_a_code_and_a_reason(served, message, code, words):
    found, details = refused(served.prediction.Predict, message)
    assert (found, words in details) == (code, True), details
    assert served.prediction.Predict(request(text=["a"]), timeout=10).outputs


def test_a_single_value_may_stand_for_all_rows(served):
    answer = served.prediction.Predict(of_shape(3), timeout=10)
    assert tf.make_ndarray(answer.outputs["text"]).tolist() == [b"2 A"] * 3


@pytest.mark.parametrize(
    "content", [b"\xff\xff", b"nonsense", request(text=["a"]).SerializeToString()[:-3]]
)
def test_bytes_that_are_no_message_are_the_clients_fault(served, content):
    call = served.channel.unary_unary(PREDICT)
    code, details = refused(call, content)
    assert (code, details) == ("INVALID_ARGUMENT", "The request is no PredictRequest.")


def test_what_this_server_does_not_do_is_said(served):
    classify = classification_pb2.ClassificationRequest()
    assert refused(served.prediction.Classify, classify)[0] == "UNIMPLEMENTED"
    reload = model_management_pb2.ReloadConfigRequest()
    assert refused(served.models.HandleReloadConfigRequest, reload)[0] == "UNIMPLEMENTED"
    assert refused(served.channel.unary_unary("/no.Service/No"), b"")[0] == "UNIMPLEMENTED"


def test_metadata_needs_a_field(served):
    message = METADATA()
    place(message.model_spec)
    assert refused(served.prediction.GetModelMetadata, message)[0] == "INVALID_ARGUMENT"
    message.metadata_field.append("other")
    code, details = refused(served.prediction.GetModelMetadata, message)
    assert code == "INVALID_ARGUMENT" and "'other' is not supported" in details


def test_status_of_what_is_not_there(served):
    message = STATUS()
    place(message.model_spec, name="other")
    assert refused(served.models.GetModelStatus, message)[0] == "NOT_FOUND"
    place(message.model_spec, version=7)
    assert refused(served.models.GetModelStatus, message)[0] == "NOT_FOUND"


def test_what_fails_inside_is_not_told(served):
    code, details = refused(served.prediction.Predict, request(text=["explode"]))
    assert (code, details) == ("INTERNAL", "The model failed; the log has more.")


# --- Load -----------------------------------------------------------------------------------------


def test_deadlines_and_back_pressure():
    model = Capitals()
    with server(Loaded({1: model}), queue_rows=1) as served:
        with grpc.insecure_channel(served.at.grpc.removeprefix("grpc://")) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            model.free.clear()
            busy = stub.Predict.future(request(text=["busy"]), timeout=10)
            until(lambda: model.batches[-1:] == [[b"busy"]])
            late = stub.Predict.future(request(text=["late"]), timeout=0.3)
            until(lambda: served.metrics.queue_rows._value.get() == 1)
            code, details = refused(stub.Predict, request(text=["more"]))
            assert code == "RESOURCE_EXHAUSTED" and "queue is full" in details
            assert late.code().name == "DEADLINE_EXCEEDED"
            until(lambda: served.metrics.queue_rows._value.get() == 0)  # it lets go of it too
            gone = stub.Predict.future(request(text=["gone"]), timeout=10)
            until(lambda: served.metrics.queue_rows._value.get() == 1)
            gone.cancel()
            until(lambda: served.metrics.queue_rows._value.get() == 0)
            model.free.set()
            assert tf.make_ndarray(busy.result().outputs["text"]).tolist() == [b"BUSY"]
        assert not any({b"late", b"gone"} & set(batch) for batch in model.batches)


def test_what_was_asked_is_answered_before_the_server_ends():
    model = Capitals()
    with (
        server(Loaded({1: model})) as served,
        grpc.insecure_channel(served.at.grpc.removeprefix("grpc://")) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        model.free.clear()
        last = stub.Predict.future(request(text=["last"]), timeout=10)
        until(lambda: model.batches[-1:] == [[b"last"]])
        served.stop()
        threading.Timer(0.3, model.free.set).start()
        assert tf.make_ndarray(last.result().outputs["text"]).tolist() == [b"LAST"]
        served.thread.join(10)
        assert refused(stub.Predict, request(text=["after"]))[0] == "UNAVAILABLE"
