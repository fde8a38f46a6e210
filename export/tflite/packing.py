"""Writing a `.tflite` file in as few bytes as what it says needs.

The converter gives each of the ten thousand tensors of a search a long name, an empty buffer and an
empty record of quantisation, and writes the scales of int8 weights again for every graph that
uses them. None of it does anything when the file runs; of a small model in int8 it is a third.
"""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ALIGNMENT = 16  # of the content of buffers


def pack(model: schema.ModelT) -> bytes:
    """Write a TFLite model.

    Tensors inside a graph lose their names, which only debuggers show; inputs and outputs keep
    theirs. What is written alike in several places is written once, and what nothing reads is not
    written.

    Args:
        model: A `ModelT` of the schema's generated code; it is changed.

    Returns:
        The content of the file.
    """
    _drop_buffers(model)
    for graph in model.subgraphs:
        shown = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in shown:
                tensor.name = ""
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None
    builder = _Builder(sum(_size(buffer) for buffer in model.buffers) + (1 << 20))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _drop_buffers(model: schema.ModelT) -> None:
    """Drop what nothing reads, and give all without content the first buffer, which is empty."""
    users = list(model.metadata or [])
    for graph in model.subgraphs:
        read = {*graph.outputs, *(i for operator in graph.operators for i in operator.inputs)}
        for index, tensor in enumerate(graph.tensors):
            if index in read:
                users.append(tensor)
            else:
                tensor.buffer = 0
    used = {user.buffer for user in users}
    kept, places = model.buffers[:1], [0]
    for index, buffer in enumerate(model.buffers[1:], 1):
        keep = index in used and _size(buffer) > 0
        places.append(len(kept) if keep else 0)
        if keep:
            kept.append(buffer)
    model.buffers = kept
    for user in users:
        user.buffer = places[user.buffer]


def _size(buffer: schema.BufferT) -> int:
    return 0 if buffer.data is None else len(buffer.data)


class _Builder(flatbuffers.Builder):
    """Writes equal strings and arrays once.

    It aligns bytes to 16, as the format asks for and the generated code forgets.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._arrays: dict[Any, int] = {}  # places by content

    def CreateString(self, s: str | bytes, *args: Any) -> int:
        if s not in self._arrays:
            self._arrays[s] = super().CreateString(s, *args)
        return self._arrays[s]

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        content = x.astype(x.dtype.newbyteorder("<"), copy=False).tobytes()
        key = (x.dtype.str, content)
        if key not in self._arrays:
            self.StartVector(
                x.itemsize, x.size, ALIGNMENT if x.dtype == np.uint8 else x.dtype.alignment
            )
            self.head -= len(content)
            self.Bytes[self.head : self.head + len(content)] = content
            self._arrays[key] = self.EndVector()
        return self._arrays[key]
