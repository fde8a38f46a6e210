"""Tests of keras_transformer.serving.versions: what is loaded, replaced and let go of."""

import asyncio
import gc
import os
import threading
import weakref

import pytest
from fixtures_serving import Capitals, Loaded, server, until

from keras_transformer.errors import InputError
from keras_transformer.serving import versions
from keras_transformer.serving.errors import RequestError
from keras_transformer.serving.versions import Model

PREDICT = "/v1/models/caps:predict"


@pytest.fixture(autouse=True, scope="module")
def _frozen():
    """Hide TensorFlow from the collector, which looks through everything after each version."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Broken(Capitals):
    """A model that can be loaded, but not called."""

    def call(self, signature, **inputs):
        raise RuntimeError("broken")


def text_of(answer):
    status, body = answer
    assert status == 200, body
    return body["predictions"][0]["text"]


# --- New versions ---------------------------------------------------------------------------------


def test_a_new_version_takes_over_and_no_request_is_lost():
    model = Loaded({1: Capitals(mark="1 ", seconds=0.002)})
    answers, told = [], threading.Event()
    with server(model) as served:

        def ask(number):
            i = 0
            while not told.is_set():
                i += 1
                answer = text_of(served.call(PREDICT, {"instances": [f"c{number} r{i}"]}))
                answers.append((int(answer[0]), answer[2:] == f"C{number} R{i}"))

        threads = [threading.Thread(target=ask, args=[i]) for i in range(8)]
        for thread in threads:
            thread.start()
        for number in range(2, 7):
            until(lambda number=number: len(answers) > 20 * number)
            model.made = {**model.made, number: Capitals(mark=f"{number} ", seconds=0.002)}
            until(lambda number=number: model.versions == [number])
        until(lambda: answers[-1][0] == 6)
        told.set()
        for thread in threads:
            thread.join()
    assert all(right for _, right in answers)
    assert {version for version, _ in answers} == {1, 2, 3, 4, 5, 6}


def test_a_request_keeps_the_version_it_began_with():
    old, new = Capitals(mark="old "), Capitals(mark="new ")
    model = Loaded({1: old})
    with server(model) as served:
        old.free.clear()
        answers = []
        asked = threading.Thread(
            target=lambda: answers.append(served.call(PREDICT, {"instances": ["a"]}))
        )
        asked.start()
        until(lambda: old.batches[-1:] == [[b"a"]])
        model.made = {1: old, 2: new}
        until(lambda: model.versions == [2])
        assert model.statuses[1].state == "END"
        old.free.set()
        asked.join()
        assert text_of(answers[0]) == "old A"
        assert text_of(served.call(PREDICT, {"instances": ["a"]})) == "new A"
        assert served.call("/v1/models/caps/versions/1:predict", {"instances": ["a"]})[0] == 404


def test_a_version_that_is_replaced_is_let_go_of():
    first = Capitals()
    gone = weakref.ref(first)
    model = Loaded({1: first})
    with server(model) as served:
        served.call(PREDICT, {"instances": ["a"]})
        model.made = {2: Capitals()}
        until(lambda: model.versions == [2])
        del first
        served.call(PREDICT, {"instances": ["a"]})
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("bad", [Broken(), None])
def test_a_version_that_fails_leaves_the_old_one_in_place(bad):
    model = Loaded({1: Capitals(mark="1 ")})
    with server(model) as served:
        model.made = {**model.made, 2: bad}
        until(lambda: 2 in model.statuses and model.statuses[2].state == "END")
        assert text_of(served.call(PREDICT, {"instances": ["a"]})) == "1 A"
        status, body = served.call("/v1/models/caps/versions/2")
        (one,) = body["model_version_status"]
        assert (status, one["state"]) == (200, "END")
        assert one["status"] == {
            "error_code": "UNKNOWN",
            "error_message": "The version can't be loaded.",
        }
        # It is not tried again and again, but a third one is.
        model.made = {**model.made, 3: Capitals(mark="3 ")}
        until(lambda: model.versions == [3])
        assert text_of(served.call(PREDICT, {"instances": ["a"]})) == "3 A"


def test_versions_that_disappear_go_on_being_served_until_there_are_others():
    model = Loaded({3: Capitals(mark="3 ")})
    with server(model) as served:
        model.made = {}
        asyncio.run(asyncio.sleep(0.2))
        assert text_of(served.call(PREDICT, {"instances": ["a"]})) == "3 A"


def test_labels_keep_their_versions():
    made = {number: Capitals(mark=f"{number} ") for number in (1, 2, 3)}
    with server(Loaded(made, labels={"stable": 1})) as served:
        assert served.model.versions == [1, 3]
        path = "/v1/models/caps/labels/stable:predict"
        assert text_of(served.call(path, {"instances": ["a"]})) == "1 A"
        assert text_of(served.call(PREDICT, {"instances": ["a"]})) == "3 A"


@pytest.mark.parametrize("made", [{}, {1: Broken()}])
def test_a_server_without_any_version_does_not_start(made):
    with pytest.raises(InputError, match="no version that can be served"), server(Loaded(made)):
        pass


# --- What is found on disk ------------------------------------------------------------------------


@pytest.fixture
def loaded(monkeypatch):
    """The paths that were loaded, in order; a file that says `bad` can't be."""
    seen = []

    def load(path, options, jit_compile):
        seen.append(path)
        text = (path / "saved_model.pb" if path.is_dir() else path).read_text()
        if text == "bad":
            raise InputError("damaged")
        return Capitals(mark=text)

    monkeypatch.setattr(versions, "load", load)
    return seen


def write_version(base, number, text):
    (base / str(number)).mkdir(parents=True)
    (base / str(number) / "saved_model.pb").write_text(text)


def update(model):
    asyncio.run(model.update())
    return model.versions


def test_the_newest_versions_in_a_folder(tmp_path, loaded):
    for number in (1, 2, 10):
        write_version(tmp_path, number, f"{number}")
    (tmp_path / "half").mkdir()
    (tmp_path / "11").mkdir()  # without a model
    model = Model("caps", tmp_path, keep=2)
    assert update(model) == [2, 10]
    assert update(model) == [2, 10]
    assert len(loaded) == 2
    write_version(tmp_path, 12, "12")
    assert update(model) == [10, 12]
    assert [path.name for path in loaded] == ["2", "10", "12"]
    assert model.get().version == 12 and model.get(10).version == 10
    for number in (2, 11, 99):
        with pytest.raises(RequestError, match=f"has no version {number}"):
            model.get(number)


def test_a_damaged_version_is_tried_again_when_it_has_changed(tmp_path, loaded):
    write_version(tmp_path, 1, "1")
    write_version(tmp_path, 2, "bad")
    model = Model("caps", tmp_path, keep=2)
    assert update(model) == [1]
    assert update(model) == [1]
    assert [path.name for path in loaded] == ["1", "2"]
    (tmp_path / "2" / "saved_model.pb").write_text("good")
    assert update(model) == [1, 2]


def test_a_tflite_that_is_written_anew_is_the_next_version(tmp_path, loaded):
    path = tmp_path / "model.tflite"
    path.write_text("one ")
    model = Model("caps", path)
    assert update(model) == [1]
    assert update(model) == [1]
    (tmp_path / "new").write_text("two ")
    os.replace(tmp_path / "new", path)
    assert update(model) == [2]
    assert model.get().model.mark == "two "
    path.unlink()
    assert update(model) == [2]
