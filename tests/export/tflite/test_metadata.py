"""Tests of keras_transformer.export.tflite.metadata, read by the format's slots alone."""

import json
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from fixtures_export import LITE, exported, trained
from flatbuffers.table import Table

from keras_transformer.export import runtime
from keras_transformer.export.tflite.metadata import READ, TENSORS, add_metadata, read_file

__all__ = ["exported", "trained"]

TEXT_FILES = ["model.tflite", "model.float16.tflite", "model.int8.tflite"]


# --- A reader -------------------------------------------------------------------------------------

# The tables of TensorFlow Lite Support's metadata_schema.fbs, by the slots of their fields.
MODEL = {"name": 0, "description": 1, "graphs": 3, "files": 6, "min_parser_version": 7}
GRAPH = {"name": 0, "inputs": 2, "outputs": 3}
TENSOR = {"name": 0, "description": 1}
FILE = {"name": 0, "type": 2}
# That of the `.tflite` file itself.
LITE_MODEL = {"version": 0, "subgraphs": 2, "description": 3, "buffers": 4, "metadata": 6}
LITE_METADATA = {"name": 0, "buffer": 1}
LITE_BUFFER = {"data": 0}


class Reader:
    """A table of a flatbuffer."""

    def __init__(self, content, position=None):
        self.content = content
        start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0)
        self.table = Table(content, start if position is None else position)

    def at(self, slot):
        offset = self.table.Offset(4 + 2 * slot)
        return self.table.Pos + offset if offset else None

    def text(self, slot):
        place = self.at(slot)
        return None if place is None else self.table.String(place).decode()

    def number(self, slot, kind):
        place = self.at(slot)
        return 0 if place is None else self.table.Get(kind, place)

    def _vector(self, slot):
        place = self.at(slot)
        if place is None:
            return 0, 0
        offset = place - self.table.Pos
        return self.table.Vector(offset), self.table.VectorLen(offset)

    def tables(self, slot):
        start, count = self._vector(slot)
        places = [start + 4 * i for i in range(count)]
        return [Reader(self.content, self.table.Indirect(place)) for place in places]

    def bytes(self, slot):
        """Return where an array of bytes begins, and the bytes."""
        start, count = self._vector(slot)
        return start, bytes(self.content[start : start + count])


INT8, UINT32 = flatbuffers.number_types.Int8Flags, flatbuffers.number_types.Uint32Flags


def metadata_of(content):
    """Return the metadata inside a `.tflite` file as plain values."""
    lite = Reader(content)
    (entry,) = [
        one
        for one in lite.tables(LITE_MODEL["metadata"])
        if one.text(LITE_METADATA["name"]) == "TFLITE_METADATA"
    ]
    buffers = lite.tables(LITE_MODEL["buffers"])
    _, described = buffers[entry.number(LITE_METADATA["buffer"], UINT32)].bytes(LITE_BUFFER["data"])
    assert described[4:8] == b"M001"
    root = Reader(described)
    return {
        "name": root.text(MODEL["name"]),
        "description": root.text(MODEL["description"]),
        "min_parser_version": root.text(MODEL["min_parser_version"]),
        "files": [
            (file.text(FILE["name"]), file.number(FILE["type"], INT8))
            for file in root.tables(MODEL["files"])
        ],
        "graphs": [
            {
                "name": graph.text(GRAPH["name"]),
                **{
                    side: [
                        (tensor.text(TENSOR["name"]), tensor.text(TENSOR["description"]))
                        for tensor in graph.tables(GRAPH[side])
                    ]
                    for side in ("inputs", "outputs")
                },
            }
            for graph in root.tables(MODEL["graphs"])
        ],
    }


# --- What is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LITE))
def test_every_file_says_what_it_is(exported, name):
    found = metadata_of((exported.folder / name).read_bytes())
    kind = "From pieces" if ".ids." in name else "From text"
    precision = next((p for p in ("float16", "int8") if p in name), "float32")
    assert found["name"] == "capitals"
    assert found["description"] == f"{kind}, {precision}"
    assert found["min_parser_version"] == "1.0.0"
    # 5 is a vocabulary.
    assert found["files"] == [("vocab.txt", 5), ("generation.json", 0), ("task.json", 0)]


@pytest.mark.parametrize("name", ["model.tflite", "model.int8.tflite", "model.ids.tflite"])
def test_the_tensors_of_each_signature_are_described_in_the_order_of_its_graph(exported, name):
    content = (exported.folder / name).read_bytes()
    found = metadata_of(content)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graphs = {graph["name"]: graph for graph in found["graphs"] if graph["name"]}
    assert graphs.keys() == {d.signatureKey.decode() for d in model.signatureDefs}
    for definition in model.signatureDefs:
        key = definition.signatureKey.decode()
        assert found["graphs"][definition.subgraphIndex] == graphs[key]
        graph = model.subgraphs[definition.subgraphIndex]
        for side, order, named in (
            ("inputs", graph.inputs, definition.inputs),
            ("outputs", graph.outputs, definition.outputs),
        ):
            described = [tensor for tensor, _ in graphs[key][side]]
            names = {}
            for tensor in named:
                names.setdefault(tensor.tensorIndex, set()).add(tensor.name.decode())
            assert sorted(described) == sorted(tensor.name.decode() for tensor in named)
            assert len(described) == len(order)
            for index, own in zip(order, described, strict=True):
                assert own in names[index]
            assert all(text for _, text in graphs[key][side])


def test_what_a_tensor_holds_is_told(exported):
    found = metadata_of((exported.folder / "model.tflite").read_bytes())
    graphs = {graph["name"]: graph for graph in found["graphs"]}
    assert graphs["translate"]["inputs"] == [("text", "Text, UTF-8.")]
    assert dict(graphs["complete"]["inputs"])["prefix"] == TENSORS["prefix"]
    assert dict(graphs["stream_step"]["inputs"])["rows_done"] == "Part of the state of a search."
    named = {name for g in found["graphs"] for name, _ in g["inputs"] + g["outputs"]}
    # A seed is there if the options sample, the rest where a model writes no text.
    assert named >= TENSORS.keys() - READ.keys() - {"seed"}


@pytest.mark.parametrize("name", sorted(LITE))
def test_unzip_finds_the_vocabulary_and_the_options(exported, name):
    path = exported.folder / name
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        inside = {file: archive.read(file).decode() for file in archive.namelist()}
    for file in ("vocab.txt", "generation.json"):
        assert (
            inside.pop(file) == (exported.folder / file).read_text("utf-8") == read_file(path, file)
        )
    assert json.loads(inside.pop("task.json")) == {
        "task": "translation",
        "gives": "text",
        "description": "Writes capital for small: text in, text out.",
    }
    assert inside == {}
    with pytest.raises(KeyError):
        read_file(path, "labels.txt")


def test_a_file_without_an_archive_holds_no_vocabulary(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"TFL3" * 99)
    with pytest.raises(KeyError):
        read_file(tmp_path / "x.tflite", "vocab.txt")


def unaligned(content):
    """Return where arrays begin that do not begin at a multiple of 16 bytes."""
    buffers = Reader(content).tables(LITE_MODEL["buffers"])
    arrays = [buffer.bytes(LITE_BUFFER["data"]) for buffer in buffers]
    starts = [start for start, array in arrays if array]
    assert len(starts) > 10
    return [start for start in starts if start % 16]


@pytest.mark.parametrize("name", sorted(LITE))
def test_arrays_are_aligned_as_the_format_asks(exported, name):
    assert not unaligned((exported.folder / name).read_bytes())


# --- What it does to a file -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(exported):
    """A `.tflite` file without metadata, written by the schema's own code."""
    content = exported.paths["ids_tflite"].read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    kept = [entry for entry in model.metadata if entry.name != b"TFLITE_METADATA"]
    assert len(kept) == len(model.metadata) - 1
    model.buffers.pop()  # metadata comes last
    model.metadata = kept
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


FILES = {"vocab.txt": "[PAD]\nnaïve\n", "other.txt": ""}


def test_a_file_with_metadata_does_what_it_did(plain):
    described = add_metadata(plain, "it", "For a test", FILES)
    ids = np.array([[5, 6, 7], [9, 0, 0]], "int32")
    outputs = [
        Interpreter(model_content=content).get_signature_runner("ids")(ids=ids)
        for content in (plain, described)
    ]
    assert outputs[0].keys() == outputs[1].keys()
    assert all(np.array_equal(outputs[0][name], outputs[1][name]) for name in outputs[0])
    assert unaligned(plain) and not unaligned(described)
    found = metadata_of(described)
    assert (found["name"], found["description"]) == ("it", "For a test")
    assert found["files"] == [("vocab.txt", 5), ("other.txt", 0)]


def test_the_same_input_gives_the_same_bytes(plain, monkeypatch):
    once = add_metadata(plain, "it", "For a test", FILES)
    # Whatever the time is.
    monkeypatch.setattr(zipfile.time, "time", lambda: 2e9)
    monkeypatch.setattr(zipfile.time, "localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    assert add_metadata(plain, "it", "For a test", FILES) == once
    assert add_metadata(plain, "it", "For another", FILES) != once


@pytest.mark.parametrize("name", TEXT_FILES)
def test_the_file_alone_knows_its_vocabulary(exported, trained, name, tmp_path):
    alone = tmp_path / "alone.tflite"
    alone.write_bytes((exported.folder / name).read_bytes())
    assert runtime.load(alone).vocabulary == trained.run.tokenizer().vocabulary
