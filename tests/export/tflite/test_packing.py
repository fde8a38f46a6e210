"""Tests of keras_transformer.export.tflite.packing: fewer bytes, and nothing else."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from fixtures_export import exported, trained

from keras_transformer.export.tflite.packing import pack

__all__ = ["exported", "trained"]


def unpacked(content):
    return schema.ModelT.InitFromPackedBuf(content, 0)


def model_of(tensors, buffers):
    """A model of one operator that reads all tensors: (name, buffer, quantisation scales)."""
    graph = schema.SubGraphT()
    reader = schema.OperatorT()
    reader.inputs, reader.outputs = np.arange(len(tensors), dtype="int32"), np.array([1], "int32")
    graph.tensors, graph.operators = [], [reader]
    graph.inputs, graph.outputs = np.array([0], "int32"), np.array([1], "int32")
    for name, buffer, scales in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.buffer, tensor.shape = name, buffer, np.array([7, 3], "int32")
        tensor.quantization = schema.QuantizationParametersT()
        if scales is not None:
            tensor.quantization.scale = scales
        graph.tensors.append(tensor)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [graph], []
    for content in buffers:
        buffer = schema.BufferT()
        buffer.data = content
        model.buffers.append(buffer)
    return model


def test_what_does_nothing_is_left_out():
    weights, other = np.arange(5, dtype="uint8"), np.arange(6, dtype="uint8")
    scales = np.linspace(0.1, 0.2, 1000, dtype="float32")
    tensors = [
        ("in", 1, None), ("out", 2, None), ("w", 3, scales), ("v", 4, scales), ("x", 5, None)
    ]  # fmt: skip
    model = model_of(tensors, [None, None, np.zeros(0, "uint8"), weights, other, None])
    entry = schema.MetadataT()
    entry.name, entry.buffer = "about", 4
    model.metadata = [entry]
    content = pack(model)
    assert len(content) < scales.nbytes + 800  # they are there once
    found = unpacked(content)
    places = [tensor.buffer for tensor in found.subgraphs[0].tensors]
    assert places == [0, 0, 1, 2, 0]
    assert len(found.buffers) == 3
    assert found.buffers[0].data is None
    assert found.metadata[0].buffer == 2
    np.testing.assert_array_equal(found.buffers[1].data, weights)
    np.testing.assert_array_equal(found.buffers[2].data, other)
    tensors = found.subgraphs[0].tensors
    assert [tensor.name for tensor in tensors] == [b"in", b"out", b"", b"", b""]
    assert all(list(tensor.shape) == [7, 3] for tensor in tensors)
    for tensor in tensors[2:4]:
        np.testing.assert_array_equal(tensor.quantization.scale, scales)


def test_arrays_of_equal_bytes_and_other_types_stay_apart():
    """1.0 as float32 and 1065353216 as int32 are the same four bytes."""
    model = model_of([("in", 0, np.ones(2, "float32")), ("out", 0, None)], [None])
    model.subgraphs[0].tensors[1].shape = np.full(2, 0x3F800000, "int32")
    tensors = unpacked(pack(model)).subgraphs[0].tensors
    assert list(tensors[0].quantization.scale) == [1, 1]
    assert list(tensors[1].shape) == [0x3F800000] * 2


def by_the_generated_code(content):
    """The same file written by the schema's own code, with nothing changed."""
    builder = flatbuffers.Builder(len(content))
    builder.Finish(unpacked(content).Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", ["model.tflite", "model.int8.tflite", "model.int8.ids.tflite"])
def test_everything_that_counts_is_kept(exported, name):
    """Files come packed; written by the generated code and packed again they are the same."""
    content = (exported.folder / name).read_bytes()
    whole = by_the_generated_code(content)
    again = pack(unpacked(whole))
    assert pack(unpacked(again)) == again  # nothing is left to pack
    assert len(again) < 0.9 * len(whole)
    before, after = unpacked(whole), unpacked(again)
    assert len(after.subgraphs) == len(before.subgraphs)
    for old, new in zip(before.subgraphs, after.subgraphs, strict=True):
        for side in ("inputs", "outputs"):
            np.testing.assert_array_equal(getattr(old, side), getattr(new, side))
        assert [o.opcodeIndex for o in old.operators] == [o.opcodeIndex for o in new.operators]
        for a, b in zip(old.tensors, new.tensors, strict=True):
            assert a.type == b.type
            np.testing.assert_array_equal(a.shape, b.shape)
            np.testing.assert_array_equal(
                before.buffers[a.buffer].data, after.buffers[b.buffer].data
            )
    signatures = [
        [
            (
                signature.signatureKey,
                signature.subgraphIndex,
                [(x.name, x.tensorIndex) for x in (*signature.inputs, *signature.outputs)],
            )
            for signature in model.signatureDefs
        ]
        for model in (before, after)
    ]
    assert signatures[0]
    assert signatures[0] == signatures[1]


def test_a_packed_file_gives_the_same_numbers(exported):
    content = (exported.folder / "model.ids.tflite").read_bytes()
    ids = np.array([[5, 6, 7], [9, 0, 0]], "int32")
    outputs = [
        Interpreter(model_content=file).get_signature_runner("ids")(ids=ids)
        for file in (by_the_generated_code(content), pack(unpacked(content)))
    ]
    assert outputs[0].keys() == outputs[1].keys()
    assert all(np.array_equal(outputs[0][name], outputs[1][name]) for name in outputs[0])
