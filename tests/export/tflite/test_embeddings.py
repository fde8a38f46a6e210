"""Tests of keras_transformer.export.tflite.embeddings: one table in int8, widened by rows."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from fixtures_export import exported, trained

from keras_transformer.export.tflite import convert as tflite
from keras_transformer.export.tflite.convert import convert, ops_of
from keras_transformer.export.tflite.embeddings import look_up_rows
from keras_transformer.export.tflite.packing import pack
from keras_transformer.layers import TokenEmbedding

__all__ = ["exported", "trained"]

Operator = schema.BuiltinOperator

V, D = 300, 32
IDS = np.array([[1, 2, 299], [4, 4, 0]], "int32")


def embed(layer, ids):
    return layer(ids)


def model_of(more):
    """Return a layer, and a function of ids: rows of its table, and `more`, summed over a loop."""
    layer = TokenEmbedding(V, D)
    layer.build()
    rows = np.random.default_rng(0).normal(size=(V, D)) * np.linspace(0.1, 5, V)[:, None]
    layer.table.assign(rows)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def function(ids):
        def step(i, total):
            return i + 1, total + more(layer, (ids + i) % V)

        def less_than_five(i, total):
            return i < 5

        begin = tf.constant(1), more(layer, ids)
        total = tf.while_loop(less_than_five, step, begin)[1]
        return {"vectors": layer(ids), "more": total}

    return layer, function


def converted(folder, more):
    layer, function = model_of(more)
    servable = tf.Module()
    servable.weights = [layer.table.value]
    tf.saved_model.save(servable, str(folder), signatures=function)
    content = convert(folder, ["serving_default"], frozenset(), "int8")
    return keras.ops.convert_to_numpy(layer.table), function, content


def run(content):
    return Interpreter(model_content=content).get_signature_runner()(ids=IDS)


def rounded(rows, scales):
    return np.round(rows / scales) * scales


def tables(content):
    """Return the numbers of the buffers that hold a table in int8."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    sizes = [0 if buffer.data is None else len(buffer.data) for buffer in model.buffers]
    return [i for i, size in enumerate(sizes) if size == V * D]


def test_a_tied_table_is_there_once_and_each_row_has_its_scale(tmp_path):
    def logits(layer, ids):
        return layer(layer(ids), reverse=True)

    table, function, content = converted(tmp_path, logits)
    assert len(tables(content)) == 1
    ops = ops_of(content)
    assert ops["EMBEDDING_LOOKUP"] >= 2
    assert ops["GATHER"] == ops["DEQUANTIZE"] == 0
    outputs = run(content)
    rows = table[IDS]
    expected = rounded(rows, np.abs(rows).max(-1, keepdims=True) / 127) * D**0.5
    np.testing.assert_allclose(outputs["vectors"], expected, rtol=1e-5, atol=1e-6)
    expected = function(tf.constant(IDS))["more"].numpy()
    np.testing.assert_allclose(outputs["more"], expected, atol=0.02 * np.abs(expected).max())


def test_a_table_that_gives_no_logits_is_looked_up_by_its_one_scale(tmp_path):
    table, _, content = converted(tmp_path, embed)
    assert len(tables(content)) == 1
    assert ops_of(content)["GATHER"] == ops_of(content)["DEQUANTIZE"] == 0
    table = rounded(table, np.abs(table).max() / 127) * D**0.5
    outputs = run(content)
    np.testing.assert_allclose(outputs["vectors"], table[IDS], rtol=1e-5, atol=1e-6)
    expected = sum(table[(IDS + i) % V] for i in [0, 1, 2, 3, 4])
    np.testing.assert_allclose(outputs["more"], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """What the converter makes of a table in a loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite, "look_up_rows", lambda model: None)
        return converted(tmp_path_factory.mktemp("model"), embed)[2]


def of_kind(model, kind):
    return [
        (graph, operator)
        for graph in model.subgraphs
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == kind
    ]


def columns(model):
    of_kind(model, Operator.GATHER)[0][1].builtinOptions.axis = 1


def ids_of_a_batch(model):
    graph, gather = of_kind(model, Operator.GATHER)[0]
    graph.tensors[gather.inputs[1]].shape = np.array([1, 1], "int32")


def wide_ids(model):
    graph, gather = of_kind(model, Operator.GATHER)[0]
    graph.tensors[gather.inputs[1]].type = schema.TensorType.INT64


def read_as_a_whole(model):
    graph, widening = of_kind(model, Operator.DEQUANTIZE)[0]
    other = next(x for g, x in of_kind(model, Operator.RESHAPE) if g is graph)
    other.inputs = np.array([widening.outputs[0], other.inputs[1]])


def an_output(model):
    graph, widening = of_kind(model, Operator.DEQUANTIZE)[0]
    graph.outputs = np.append(graph.outputs, widening.outputs[0])


def read_after_the_loop(model):
    graph, widening = of_kind(model, Operator.DEQUANTIZE)[0]
    loop = of_kind(model, Operator.WHILE)[0][1]
    after = loop.outputs[list(loop.inputs).index(widening.outputs[0])]
    graph.outputs = np.append(graph.outputs, after)


def changed_in_the_loop(model):
    widening = of_kind(model, Operator.DEQUANTIZE)[0][1]
    loop = of_kind(model, Operator.WHILE)[0][1]
    body = model.subgraphs[loop.builtinOptions.bodySubgraphIndex]
    body.outputs = body.outputs.copy()
    body.outputs[list(loop.inputs).index(widening.outputs[0])] = len(body.tensors) - 1


OTHER_USES = [
    columns,
    ids_of_a_batch,
    wide_ids,
    read_as_a_whole,
    an_output,
    read_after_the_loop,
    changed_in_the_loop,
]


@pytest.mark.parametrize("change", OTHER_USES)
def test_a_table_that_is_used_in_another_way_stays_as_it_is(untouched, change):
    model = schema.ModelT.InitFromPackedBuf(untouched, 0)
    change(model)
    before = pack(copy.deepcopy(model))
    look_up_rows(model)
    assert pack(model) == before


def test_without_another_use_it_does_not(untouched):
    model = schema.ModelT.InitFromPackedBuf(untouched, 0)
    before = ops_of(untouched)
    assert before["DEQUANTIZE"] == 1 and before["GATHER"] == 2
    look_up_rows(model)
    assert ops_of(pack(model))["EMBEDDING_LOOKUP"] == 2


@pytest.mark.parametrize(
    ("said", "needed"), [("2.17.0", "2.18.0"), ("2.3.0", "2.18.0"), ("2.20.1", "2.20.1")]
)
def test_the_file_says_what_runtime_it_needs(untouched, said, needed):
    model = schema.ModelT.InitFromPackedBuf(untouched, 0)
    entry = next(x for x in model.metadata if x.name == b"min_runtime_version")
    model.buffers[entry.buffer].data = np.frombuffer(said.encode().ljust(16, b"\0"), np.uint8)
    look_up_rows(model)
    assert bytes(model.buffers[entry.buffer].data) == needed.encode().ljust(16, b"\0")


def test_the_files_of_an_export_widen_no_table(exported, trained):
    for name in ("model.int8.tflite", "model.int8.ids.tflite"):
        content = (exported.folder / name).read_bytes()
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        size = [len(trained.run.tokenizer()), trained.run.model_config().d_model]
        for graph, widening in of_kind(model, Operator.DEQUANTIZE):
            assert list(graph.tensors[widening.inputs[0]].shape) != size
        assert ops_of(content)["EMBEDDING_LOOKUP"] > 0
