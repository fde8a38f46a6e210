"""Tests of keras_transformer.artefacts.artefact: what calling an artefact gives."""

import numpy as np
import pytest

from keras_transformer.artefacts.artefact import Artefact, Spec
from keras_transformer.errors import InputError

TEXTS = Spec("string", (None,))


class Echo(Artefact):
    """Answers by a function of its batch, and remembers the batches."""

    task, gives = "echo", "answer"

    def __init__(self, answer, takes=("text",), signature="serving_default"):
        self.answer, self.takes, self.batches = answer, takes, []
        self.signatures = frozenset({signature})

    def specs(self, signature):
        assert signature in self.signatures
        return dict.fromkeys(self.takes, TEXTS), {"answer": TEXTS}

    def call(self, signature, **inputs):
        assert signature in self.signatures
        self.batches.append([len(column) for column in inputs.values()])
        return {"answer": self.answer(**inputs), "other": None}


def strings(rows):
    return np.array([row.encode() for row in rows], object)


def test_texts_are_answered_in_their_order_whatever_their_lengths():
    artefact = Echo(lambda text: strings([one.upper() for one in text]))
    texts = ["a", "ccc ccc", "", "bb", "ü"]
    assert artefact(texts, batch_size=2) == ["A", "CCC CCC", "", "BB", "Ü"]
    assert artefact.batches == [[2], [2], [1]]
    assert artefact([]) == []


def test_texts_of_like_length_share_a_batch():
    widths = []

    def answer(text):
        widths.append([len(one) for one in text])
        return strings(text)

    Echo(answer)(["a" * n for n in (1, 9, 2, 8)], batch_size=2)
    assert widths == [[9, 8], [2, 1]]


def test_vectors_are_rows_of_an_array():
    artefact = Echo(lambda text: np.array([[len(one), 0.5] for one in text], "float32"))
    found = artefact(["aa", "b", "cccc"], batch_size=1)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, [[2, 0.5], [1, 0.5], [4, 0.5]])


def test_what_fills_up_a_row_is_left_out():
    def words(text):
        rows = [one.split() for one in text]
        width = max(map(len, rows))
        return np.array([strings(row + [""] * (width - len(row))) for row in rows], object)

    assert Echo(words)(["a b c", "d", ""]) == [["a", "b", "c"], ["d"], []]
    masks = np.array([[[b"x", b"y"], [b"", b""]]], object)
    assert Echo(lambda text: masks)(["t"]) == [[["x", "y"]]]


def test_several_columns_are_given_by_name():
    def join(question, passage):
        return strings([f"{q}{p}" for q, p in zip(question, passage, strict=True)])

    reader = Echo(join, ("question", "passage"))
    assert reader(passage=["1", "22"], question=["a", "b"]) == ["a1", "b22"]
    pair = Echo(lambda text, text_pair: strings(text), ("text", "text_pair"), "pair")
    assert pair(text=["a"], text_pair=["b"]) == ["a"]
    for wrong, message in (
        ((["a"],), "by name: 'passage', 'question'"),
        (({"question": ["a"]}), "with the same number of rows each; got 1 of question"),
        (({"question": ["a"], "passage": []}), "got 1 of question, 0 of passage"),
        ({}, "got nothing"),
        ({"question": "a", "passage": ["b"]}, "question must be a list, even of a single text"),
    ):
        with pytest.raises(InputError, match=message):
            reader(**wrong) if isinstance(wrong, dict) else reader(*wrong)
    single = Echo(lambda text: strings(text))
    with pytest.raises(InputError, match="The model takes 'text', with the same number of rows"):
        single(text=["a"], text_pair=["b"])
    with pytest.raises(InputError, match="text must be a list, even of a single text"):
        Echo(lambda text: text)("a")


def test_pictures_are_bytes_or_names_of_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"123")
    artefact = Echo(lambda image: strings([str(len(one)) for one in image]), ("image",))
    assert artefact([tmp_path / "a.png", str(tmp_path / "a.png"), b"12"]) == ["3", "3", "2"]
    with pytest.raises(InputError, match=r"b\.png can't be read: No such file or directory"):
        artefact([tmp_path / "b.png"])
