"""The `.tflite` files: one from text to text, one from ids to ids for runtimes without tf.text."""

from collections import Counter
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from keras_transformer import text  # noqa: F401  (registers tf.text's ops)
from keras_transformer._tensorflow import tf
from keras_transformer.errors import InputError, no_such
from keras_transformer.export.tflite.embeddings import look_up_rows
from keras_transformer.export.tflite.packing import pack

# isort: split

from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.lite.python.lite import TFLiteSavedModelConverterV2

# The custom ops of tf.text that LiteRT has kernels for. No other may be in a file: the converter
# would let an op without a kernel through, and the file would fail on the phone.
TF_TEXT_OPS = frozenset(
    {
        "FastWordpieceTokenizeWithOffsets",
        "TFText>FastWordpieceDetokenize",
        "TFText>WhitespaceTokenizeWithOffsetsV2",
        "RaggedTensorToTensor",
    }
)


def convert(
    saved_model: Path,
    signatures: list[str],
    custom_ops: frozenset[str],
    precision: str = "float32",
) -> bytes:
    """Convert signatures of a SavedModel to a TFLite flatbuffer.

    Args:
        saved_model: Folder of the version.
        signatures: Names of the signatures to keep.
        custom_ops: The custom ops that may be in the file; all else are TFLite's own.
        precision: One of `PRECISIONS`: how weights are kept. In float16 they are widened before
            they are used; in int8 the products are computed with integers, and activations are
            rounded to the range that each of them has.

    Returns:
        The content of the `.tflite` file.

    Raises:
        InputError: If a signature does not exist, or if the file would hold an op that the runtime
            lacks.
    """
    converter = _Converter(str(saved_model), {tf.saved_model.SERVING}, signatures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = True  # all of them, so that those not allowed can be named
    # What it tells of the conversion takes it seconds; the model card tells more.
    converter.exclude_conversion_metadata = True
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    content = converter.convert()
    if foreign := sorted(custom_ops_of(content) - custom_ops):
        raise InputError(
            f"The .tflite would need {', '.join(foreign)}, which LiteRT does not have; it was not "
            "written."
        )
    if precision == "int8":
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        look_up_rows(model)
        content = pack(model)
    return content


class _Converter(TFLiteSavedModelConverterV2):
    """The converter of `TFLiteConverter.from_saved_model`, which makes the same files faster.

    That one loads the model three times in Python: to look up the signatures, to count its ops, and
    to find the lines of code that messages name. The conversion itself reads the folder. A test
    pins what this takes of TensorFlow.
    """

    def convert(self) -> bytes:
        """Convert the model, as the base does."""
        saved = SavedModel.FromString(Path(self.saved_model_dir, "saved_model.pb").read_bytes())
        graph = saved.meta_graphs[0]
        for name in self._saved_model_exported_names:
            if name not in graph.signature_def:  # it would be left out
                raise no_such("signature", name, sorted(graph.signature_def))
        return self._convert_from_saved_model(graph.graph_def)


def ops_of(content: bytes) -> Counter[str]:
    """Count the operators of a TFLite file by name; a custom op has the prefix `custom:`."""
    model = schema.Model.GetRootAs(content)  # read in place: unpacking the whole takes seconds
    builtin = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    codes = map(model.OperatorCodes, range(model.OperatorCodesLength()))
    names = [
        f"custom:{code.CustomCode().decode()}"
        if code.CustomCode()
        else builtin[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        for code in codes
    ]
    graphs = map(model.Subgraphs, range(model.SubgraphsLength()))
    return Counter(
        names[graph.Operators(i).OpcodeIndex()]
        for graph in graphs
        for i in range(graph.OperatorsLength())
    )


def custom_ops_of(content: bytes) -> set[str]:
    """Return the names of the custom ops in a TFLite file, Flex ops included."""
    ops = ops_of(content)
    return {name.removeprefix("custom:") for name in ops if name.startswith("custom:")}
