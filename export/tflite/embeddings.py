"""Embeddings in int8 `.tflite` files: rows are looked up in the table that gives the logits.

The converter keeps a copy of a tied table for the lookup alone, with one scale for all of it, and
the runtime widens that copy to float32 as a whole. EMBEDDING_LOOKUP widens the rows that are asked
for, and reads the copy of the logits, which has a scale for each row.
"""

import copy
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema

OPERATORS, TYPES = schema.BuiltinOperator, schema.TensorType
SCALE_A_ROW = 4  # the version of EMBEDDING_LOOKUP that takes one
RUNTIME = (2, 18, 0)  # the first that has it

# What reads a tensor: the graph that it is in, the operator, and the index of the tensor there.
Reader: TypeAlias = tuple[schema.SubGraphT, schema.OperatorT, int]


def look_up_rows(model: schema.ModelT) -> None:
    """Replace what gathers rows and widens them, or widens first, by lookups of rows in int8.

    A widened table stays as it is if anything but GATHER reads it, here or in a loop that it is
    passed to.

    Args:
        model: A `ModelT` of the schema's generated code; it is changed.
    """
    for graph in model.subgraphs:
        for widening in _operators(model, graph, OPERATORS.DEQUANTIZE):
            table, readers = _table_and_readers(model, graph, widening)
            if table is None or not all(_can_change(model, *reader) for reader in readers):
                continue
            table = _table_of_logits(model, table) or table
            for holder, operator, index in readers:
                _change(model, holder, operator, index, table)
                if widening.inputs[0] in operator.outputs:  # rows that were widened after
                    operator.outputs = widening.outputs
            graph.operators.remove(widening)
            _require_runtime(model)


def _table_and_readers(
    model: schema.ModelT, graph: schema.SubGraphT, widening: schema.OperatorT
) -> tuple[schema.TensorT | None, list[Reader]]:
    """Return the table that is widened, whole or some of its rows, and what reads it."""
    index = widening.inputs[0]
    if widening.outputs[0] in graph.outputs:
        return None, []
    if _is_table(model, graph.tensors[index]):
        return graph.tensors[index], list(_readers(model, graph, widening.outputs[0]))
    rows_are_shared = len(list(_readers(model, graph, index))) > 1 or index in graph.outputs
    for gather in _operators(model, graph, OPERATORS.GATHER):
        table = graph.tensors[gather.inputs[0]]
        if index in gather.outputs and _is_table(model, table) and not rows_are_shared:
            return table, [(graph, gather, gather.inputs[0])]
    return None, []


def _readers(model: schema.ModelT, graph: schema.SubGraphT, index: int) -> Iterator[Reader]:
    """Yield `(graph, operator, tensor)` for what reads a tensor, inside of loops first."""
    for operator in graph.operators:
        if index in operator.inputs:
            for inner, position in _inside(model, operator, index):
                yield from _readers(model, inner, inner.inputs[position])
            yield graph, operator, index


def _inside(
    model: schema.ModelT, operator: schema.OperatorT, index: int
) -> list[tuple[schema.SubGraphT, int]]:
    """Return where a loop passes a tensor on: its condition and its body, and the position."""
    if _kind(model, operator) != OPERATORS.WHILE:
        return []
    options = operator.builtinOptions
    graphs = (model.subgraphs[i] for i in (options.condSubgraphIndex, options.bodySubgraphIndex))
    position = list(operator.inputs).index(index)
    return [(graph, position) for graph in graphs]


def _can_change(
    model: schema.ModelT, graph: schema.SubGraphT, operator: schema.OperatorT, index: int
) -> bool:
    if list(operator.inputs).count(index) != 1:
        return False
    if inside := _inside(model, operator, index):
        body, position = inside[-1]
        passed = body.inputs[position]
        after = operator.outputs[position]
        return (
            body.outputs[position] == passed
            and list(body.outputs).count(passed) == 1
            and after not in graph.outputs
            and not any(after in other.inputs for other in graph.operators)
        )
    if _kind(model, operator) != OPERATORS.GATHER or operator.inputs[0] != index:
        return False
    ids = graph.tensors[operator.inputs[1]]
    return operator.builtinOptions.axis == 0 and ids.type == TYPES.INT32 and len(ids.shape) == 1


def _change(
    model: schema.ModelT,
    graph: schema.SubGraphT,
    operator: schema.OperatorT,
    index: int,
    table: schema.TensorT,
) -> None:
    if inside := _inside(model, operator, index):
        (condition, position), (body, _) = inside
        for holder in (operator, body):
            holder.inputs = np.delete(holder.inputs, position)
            holder.outputs = np.delete(holder.outputs, position)
        condition.inputs = np.delete(condition.inputs, position)
        return
    graph.tensors.append(copy.copy(table))
    operator.inputs = np.array([operator.inputs[1], len(graph.tensors) - 1], np.int32)
    operator.opcodeIndex = _code(model, OPERATORS.EMBEDDING_LOOKUP, SCALE_A_ROW)
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.NONE, None


def _require_runtime(model: schema.ModelT) -> None:
    """Raise the oldest version of the runtime that the file says it runs on."""
    for entry in model.metadata or []:
        if entry.name == b"min_runtime_version":
            buffer = model.buffers[entry.buffer]
            said = bytes(buffer.data).rstrip(b"\0").decode()
            newest = max(RUNTIME, tuple(int(part) for part in said.split(".")))
            text = ".".join(str(part) for part in newest).encode().ljust(16, b"\0")
            buffer.data = np.frombuffer(text, np.uint8)


def _table_of_logits(model: schema.ModelT, table: schema.TensorT) -> schema.TensorT | None:
    """Return the table with a scale for each row that holds what this one holds, or None."""
    expected, step = _widened(model, table), table.quantization.scale.max()
    for graph in model.subgraphs:
        for product in _operators(model, graph, OPERATORS.FULLY_CONNECTED):
            other = graph.tensors[product.inputs[1]]
            if (
                _is_table(model, other)
                and list(other.shape) == list(table.shape)
                and np.abs(_widened(model, other) - expected).max() <= step  # half by each rounding
            ):
                return other
    return None


def _widened(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray:
    rows = model.buffers[tensor.buffer].data.view(np.int8).reshape(tensor.shape)
    return rows * tensor.quantization.scale[:, None]  # one scale, or one for each row


def _is_table(model: schema.ModelT, tensor: schema.TensorT) -> bool:
    constant = model.buffers[tensor.buffer].data is not None
    return constant and tensor.type == TYPES.INT8 and len(tensor.shape) == 2


def _operators(model: schema.ModelT, graph: schema.SubGraphT, kind: int) -> list[schema.OperatorT]:
    return [operator for operator in graph.operators if _kind(model, operator) == kind]


def _kind(model: schema.ModelT, operator: schema.OperatorT) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _code(model: schema.ModelT, kind: int, version: int) -> int:
    """Return the index of an operator's code, which is added if the model has none."""
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == kind and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
