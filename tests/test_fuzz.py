"""Generated text through every artefact and the server, and what no server should be sent."""

import base64
import copy
import http.client
import json
import os
import random

import grpc
import hypothesis.strategies as st
import numpy as np
import pytest
from fixtures_run import WORDS, exported, trained
from fixtures_serving import server
from hypothesis import HealthCheck, Phase, given, settings
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from keras_transformer.export import runtime
from keras_transformer.serving.grpc_service import MODEL_SERVICE, PREDICTION_SERVICE
from keras_transformer.serving.versions import Model
from keras_transformer.text import SPECIAL_TOKENS

__all__ = ["exported", "trained"]

NAME = "capitals"
ROWS = 100
DEPTH = int(os.environ.get("FUZZ_DEPTH", "1"))  # 4 in the nightly run
LONGEST = 20_000
SCORE_TOLERANCE = 1e-3  # sums in batches of other sizes round differently


def examples(count):
    """The same ones each time, none of which is written down."""
    return settings(
        max_examples=count * DEPTH,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def models(exported):
    return {kind: runtime.load(exported.paths[kind]) for kind in ("savedmodel", "tflite")}


@pytest.fixture(scope="module")
def served(exported):
    with server(Model(NAME, exported.folder)) as running:
        yield running


# --- Any text -------------------------------------------------------------------------------------

CHARACTERS = st.characters(exclude_categories=())  # lone surrogates too
PIECES = st.one_of(
    st.text(CHARACTERS, min_size=1, max_size=4),
    st.sampled_from(["\0", "\x7f", "\ud800", "\udfff", "\u202e", "\u0301", "##"]),
    st.sampled_from([*SPECIAL_TOKENS, *WORDS, " ", "\t", "\n"]),
)
REPEATED = st.sampled_from((1,) * 12 + (10, 1000, LONGEST))
SEEDS = st.integers(0, 2**32)


@st.composite
def texts(draw, pieces=PIECES, empty=""):
    """Up to three pieces, maybe repeated up to the longest text that a server takes."""
    part = empty.join(draw(st.lists(pieces, max_size=3)))
    return (part * draw(REPEATED))[:LONGEST]


def generated(strategy, count):
    """Make many examples."""
    made = []

    @examples(count)
    @given(strategy)
    def keep(example):
        made.append(example)

    keep()
    return made


def test_any_text_gives_the_same_in_any_company_from_every_artefact(models, served):
    anything = st.one_of(texts(), texts(st.binary(min_size=1, max_size=6), b""))
    made = generated(anything, 2500)
    kinds = {
        "surrogates": lambda x: isinstance(x, str) and any("\ud800" <= c <= "\udfff" for c in x),
        "NULs": lambda x: isinstance(x, str) and "\0" in x,
        "no UTF-8": lambda x: isinstance(x, bytes) and x.decode("utf-8", "replace").encode() != x,
        "special tokens": lambda x: isinstance(x, str) and any(y in x for y in SPECIAL_TOKENS),
        "long": lambda x: len(x) == LONGEST,
    }
    assert len(set(made)) > 2000
    for name, kind in kinds.items():
        assert sum(map(kind, made)) > 25, name
    rng = random.Random(0)
    for i in range(0, len(made), ROWS):
        check_texts(models, served, made[i : i + ROWS], rng)


def check_texts(models, served, batch, rng):
    saved_model, lite = (models[kind] for kind in ("savedmodel", "tflite"))
    outputs = saved_model.call("serving_default", text=batch)

    order = rng.sample(range(len(batch)), len(batch))
    shuffled = [batch[i] for i in order]
    found = saved_model.call("serving_default", text=shuffled)
    assert_alike(found, {name: rows[order] for name, rows in outputs.items()}, shuffled)
    for i in order[:3]:
        alone = saved_model.call("serving_default", text=[batch[i]])
        assert_alike(alone, {name: rows[[i]] for name, rows in outputs.items()}, [batch[i]])

    assert_alike(lite.call("serving_default", text=batch), outputs, batch)

    instances = [
        {"b64": base64.b64encode(text).decode()} if isinstance(text, bytes) else text
        for text in batch
    ]
    status, answer = served.call(f"/v1/models/{NAME}:predict", {"inputs": instances})
    assert status == 200, answer
    written = [text.decode("utf-8", "replace") for text in outputs["text"]]
    assert_alike(answer["outputs"], {**outputs, "text": written}, batch)


def assert_alike(outputs, expected, batch):
    """The same texts with the same scores."""
    sides = (some[name] for name in ("text", "score") for some in (outputs, expected))
    for text, found, wanted, score, other in zip(batch, *sides, strict=True):
        assert found == wanted and abs(score - other) < SCORE_TOLERANCE, text


# --- What is no request ---------------------------------------------------------------------------

INTEGERS = st.integers(-3, 3) | st.integers(-(2**70), 2**70) | st.sampled_from([2**31, -(2**31)])
LEAVES = st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), st.text(CHARACTERS, max_size=5))
KEYS = st.one_of(st.sampled_from(["b64", "text", "target", "inputs"]), st.text(max_size=3))
VALUES = st.one_of(
    LEAVES,
    st.recursive(
        LEAVES,
        lambda some: st.lists(some, max_size=4) | st.dictionaries(KEYS, some, max_size=3),
        max_leaves=8,
    ),
)


@pytest.fixture(scope="module")
def requests():
    """Requests that are answered, by path: what they are made of is replaced."""
    pair = {"text": ["red cat", "tree"], "target": ["RED CAT", "SUN"]}
    predict = f"/v1/models/{NAME}:predict"
    return [
        (predict, {"instances": ["red cat", {"b64": "cmVk"}]}),
        (predict, {"instances": [{"text": "red cat"}, {"text": "tree"}]}),
        (predict, {"inputs": {"text": ["red cat", "tree"]}, "signature_name": "translate"}),
        (predict, {"inputs": pair, "signature_name": "score"}),
        (predict, {"inputs": pair, "signature_name": "next_token"}),
        (predict, {"inputs": {"ids": [[4, 5, 3], [6, 3, 0]]}, "signature_name": "ids"}),
        (f"/v1/models/{NAME}:attention", {"text": "red cat", "target": "RED"}),
    ]


def places(value, path=()):
    """Every place in a JSON value, as the keys that lead there."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def replaced(body, path, value):
    if not path:
        return value
    body = copy.deepcopy(body)
    inner = body
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return body


def ask(served, path, content):
    """Post bytes; what comes back is JSON."""
    connection = http.client.HTTPConnection(served.at.host, served.at.rest_port, timeout=20)
    try:
        connection.request("POST", path, content)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def assert_refused_or_answered(served, path, content):
    status, answer = ask(served, path, content)
    assert status == 200 or 400 <= status < 500, (path, content, answer)
    assert status == 200 or set(answer) == {"error"}
    return status


def assert_goes_on(served):
    path, body = f"/v1/models/{NAME}:predict", {"instances": ["red cat"]}
    assert served.call(path, body)[1]["predictions"][0]["text"] == "RED CAT"


def test_values_at_wrong_places_are_the_clients_fault(served, requests):
    statuses = []

    @examples(600)
    @given(st.sampled_from(range(len(requests))), SEEDS, VALUES)
    def check(which, seed, value):
        path, body = requests[which]
        keys = list(places(body))
        # As often near the root as in the depths of a long array.
        rng = random.Random(seed)
        depth = rng.randint(0, max(map(len, keys)))
        chosen = rng.choice([some for some in keys if len(some) == depth])
        content = json.dumps(replaced(body, chosen, value)).encode()
        statuses.append(assert_refused_or_answered(served, path, content))

    for path, body in requests:
        assert ask(served, path, json.dumps(body).encode())[0] == 200, body
    check()
    assert statuses.count(400) > 200 and statuses.count(200) > 8
    assert_goes_on(served)


@pytest.mark.parametrize("depth", [65, 600, 980, 100_000])
def test_deep_values_are_the_clients_fault(served, depth):
    for form in ('{"instances": [%s]}', '{"inputs": %s}', '{"inputs": {"text": %s}}'):
        for value in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            content = (form % value).encode()
            assert assert_refused_or_answered(served, f"/v1/models/{NAME}:predict", content) == 400
    assert_goes_on(served)


def test_a_wrong_state_of_a_search_is_the_clients_fault(models, served):
    """It is numbers alone, and comes from a client as well."""
    path = f"/v1/models/{NAME}:predict"
    rows = 24  # as many as there are slots
    state = models["savedmodel"].call("stream_start", text=["red cat"] * rows)
    state = {name: np.asarray(array) for name, array in state.items()}

    def step(state):
        inputs = {name: array.tolist() for name, array in state.items()}
        content = json.dumps({"signature_name": "stream_step", "inputs": inputs}).encode()
        return assert_refused_or_answered(served, path, content)

    assert step(state) == 200
    statuses = []
    for name, array in state.items():
        for number in (-1, 1, 500, 2**31 - 1, -(2**31) + 1):
            if array.dtype == "int32":
                statuses.append(step({**state, name: np.full_like(array, number)}))
        if array.ndim > 1:
            statuses.append(step({**state, name: np.repeat(array, 2, axis=-1)}))
            statuses.append(step({**state, name: array[..., :0]}))
    assert {200, 400} <= set(statuses)
    assert_goes_on(served)


def test_bytes_that_are_no_json_are_the_clients_fault(served, requests):
    @examples(120)
    @given(st.sampled_from(range(len(requests))), st.binary(max_size=60), SEEDS)
    def check(which, noise, seed):
        path, body = requests[which]
        whole = json.dumps(body).encode()
        at = random.Random(seed).randrange(len(whole))
        assert_refused_or_answered(served, path, noise)
        assert assert_refused_or_answered(served, path, whole[:at]) == 400
        assert_refused_or_answered(served, path, whole[:at] + noise + whole[at + len(noise) :])

    check()
    assert_goes_on(served)


def test_damaged_messages_are_the_clients_fault(served):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = NAME
    request.model_spec.signature_name = "score"
    for name in ("text", "target"):
        tensor = request.inputs[name]
        tensor.dtype = 7
        tensor.tensor_shape.dim.add().size = 2
        tensor.string_val.extend([b"red cat", b"tree"])
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = NAME
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = NAME
    calls = {
        f"/{PREDICTION_SERVICE}/Predict": request.SerializeToString(deterministic=True),
        f"/{PREDICTION_SERVICE}/GetModelMetadata": metadata.SerializeToString(),
        f"/{MODEL_SERVICE}/GetModelStatus": status.SerializeToString(),
    }
    refused = {"INVALID_ARGUMENT", "NOT_FOUND"}
    codes = []

    with grpc.insecure_channel(served.at.grpc.removeprefix("grpc://")) as channel:
        ask = {method: channel.unary_unary(method) for method in calls}

        def code_of(method, content):
            code = ask[method].future(content, timeout=20).code().name
            assert code in {"OK", *refused}, (method, content)
            codes.append(code)
            return code

        @examples(120)
        @given(st.sampled_from(sorted(calls)), st.binary(min_size=1, max_size=30), SEEDS)
        def check(method, noise, seed):
            whole = calls[method]
            at = random.Random(seed).randrange(len(whole))
            code_of(method, noise)
            code_of(method, whole[:at])
            code_of(method, whole[:at] + noise + whole[at + len(noise) :])
            code_of(method, whole[:at] + noise + whole[at:])

        for method, whole in calls.items():
            assert code_of(method, whole) == "OK"
            for end in range(len(whole)):
                assert code_of(method, whole[:end]) in refused
        check()
    assert codes.count("INVALID_ARGUMENT") > 200
    assert_goes_on(served)


def test_places_are_all_that_a_value_has():
    assert list(places({"a": [1, {"b": 2}]})) == [(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b")]
    assert replaced({"a": [1, 2]}, ("a", 1), None) == {"a": [1, None]}
