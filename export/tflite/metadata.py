"""TFLite metadata: what the signatures take and give, and the vocabulary, inside the file itself.

The format is TensorFlow Lite Support's: a flatbuffer in the model that describes it, and a zip
archive behind the model with the files that it names. Android's and iOS's tools read both, and
`unzip model.tflite vocab.txt` does too.

Its tables are written here by hand, because the package that generates them needs a protobuf that
TensorFlow does not run with.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_transformer.export.tflite.packing import pack

NAME = "TFLITE_METADATA"
VOCABULARY = "vocab.txt"
VOCABULARY_TYPE = 5  # AssociatedFileType.VOCABULARY
MIN_PARSER_VERSION = "1.0.0"

# What each tensor is, where a servable does not say otherwise. First those of models that write no
# text alone.
READ = {
    "embedding": "Vector of the text.",
    "label": "The likeliest label.",
    "probability": "Probability of that label.",
    "words": "Words of the text, padded with empty ones.",
    "labels": "The likeliest label of each word or piece, padded with empty ones.",
    "question": "A question, UTF-8.",
    "passage": "The text with its answer, UTF-8.",
    "answer": "Words of the passage.",
    "first_word": "Place of the answer's first word in the passage, from 0; -1 for none.",
    "last_word": "Place of its last word.",
    "segment_ids": "1 in the passage and the token behind it, otherwise 0.",
    "start": "Place of the answer's first piece among the ids.",
    "end": "Place of its last piece.",
    "filled": "The ids with the likeliest ones in the places of masks.",
    "pixels": "Pixels from 0 to 255, rows first.",
}
TENSORS = {
    "text": "Text, UTF-8.",
    "target": "Target text, UTF-8.",
    "prefix": "What the target begins with, UTF-8.",
    "seed": "Seed of the draws.",
    "score": "Log-probability, divided by the length penalty in beam search.",
    "tokens": "Number of tokens of the target, the end included.",
    "truncated": "Whether the text was longer than the model takes.",
    "probabilities": "Probabilities: of each piece of the vocabulary, or of what else is given.",
    "ids": "Numbers of pieces in the vocabulary, padded with 0.",
    "source_ids": "Pieces of the source with the end, padded with -1.",
    "target_ids": "Pieces of the target with the end, padded with -1.",
    "weights": "Attention of target pieces to source pieces.",
    **READ,
}
STATE = "Part of the state of a search."


def add_metadata(
    content: bytes,
    name: str,
    description: str,
    files: Mapping[str, str],
    tensors: Mapping[str, str] | None = None,
) -> bytes:
    """Describe a `.tflite` file inside itself.

    Args:
        content: The file.
        name: Name of the model.
        description: What it is for.
        files: Texts to put into the file by name; `vocab.txt` is marked as the vocabulary.
        tensors: What tensors are that mean something else here than elsewhere, by name.

    Returns:
        The file with metadata. It runs as before.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer = schema.BufferT()
    told = {**TENSORS, **(tensors or {})}
    buffer.data = np.frombuffer(_describe(model, name, description, files, told), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    whole = io.BytesIO(pack(model))
    with zipfile.ZipFile(whole, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text.encode("utf-8"))  # the same bytes always
    return whole.getvalue()


def read_file(path: Path | str, name: str) -> str:
    """Read a text that `add_metadata` put into a `.tflite` file.

    Raises:
        KeyError: If it is not there.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name).decode("utf-8")
    except zipfile.BadZipFile:
        raise KeyError(name) from None


def _describe(
    model: schema.ModelT, name: str, description: str, files: Iterable[str], told: Mapping[str, str]
) -> bytes:
    build = flatbuffers.Builder(4096)
    signatures = {d.subgraphIndex: d for d in model.signatureDefs or []}
    graphs = []
    for index in range(max(signatures, default=-1) + 1):
        signature = signatures.get(index)
        fields = {}
        if signature is not None:
            graph = model.subgraphs[index]
            sides = (graph.inputs, signature.inputs), (graph.outputs, signature.outputs)
            inputs, outputs = (_vector(build, _tensors(build, told, *side)) for side in sides)
            key = build.CreateString(signature.signatureKey)
            fields = {0: key, 2: inputs, 3: outputs}
        graphs.append(_table(build, fields, size=10))
    described = _vector(build, graphs)
    associated = _vector(build, [_file(build, file) for file in files])
    fields = {
        0: build.CreateString(name),
        1: build.CreateString(description),
        3: described,
        6: associated,
        7: build.CreateString(MIN_PARSER_VERSION),
    }
    build.Finish(_table(build, fields, size=8), file_identifier=b"M001")
    return bytes(build.Output())


def _tensors(
    build: flatbuffers.Builder,
    told: Mapping[str, str],
    indices: Iterable[int],
    named: Sequence[Any] | None,
) -> Iterator[int]:
    """Describe tensors in the order of the graph, which the signature's need not be."""
    names: dict[int, list[str]] = {}
    for tensor in named or []:  # equal outputs may share a tensor
        names.setdefault(tensor.tensorIndex, []).append(tensor.name.decode())
    for index in indices:
        name = names[index].pop(0)
        text = build.CreateString(told.get(name, STATE))
        yield _table(build, {0: build.CreateString(name), 1: text}, size=7)


def _file(build: flatbuffers.Builder, name: str) -> int:
    label = build.CreateString(name)
    build.StartObject(5)
    build.PrependUOffsetTRelativeSlot(0, label, 0)
    if name == VOCABULARY:
        build.PrependInt8Slot(2, VOCABULARY_TYPE, 0)
    return build.EndObject()


def _vector(build: flatbuffers.Builder, offsets: Iterable[int]) -> int:
    offsets = list(offsets)
    build.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        build.PrependUOffsetTRelative(offset)
    return build.EndVector()


def _table(build: flatbuffers.Builder, fields: Mapping[int, int], size: int) -> int:
    build.StartObject(size)
    for slot, offset in fields.items():
        build.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return build.EndObject()
