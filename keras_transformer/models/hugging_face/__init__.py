"""Reading checkpoints of Hugging Face: `config.json` and `model.safetensors` in a local folder.

Every weight of the model is paired with a tensor of the file, and what is missing or left over is
named. Pickles are refused: loading one may run any code. Each family's pairs are in a file of their
own, which says where the same function is written otherwise there, and the weights are converted.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import WEIGHTS, assign, read_json, read_tensors
from keras_transformer.models.config import KindError
from keras_transformer.models.heads import SequenceClassifier, TokenClassifier
from keras_transformer.models.hugging_face import bart, encoders, gpt2, t5, vit
from keras_transformer.models.hugging_face.pieces import label_names
from keras_transformer.models.hugging_face.sentence_transformers import Package, read_package
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.vision_transformer import VisionTransformer
from keras_transformer.typing import DType


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint's folder.

    Args:
        model: The model, with the file's weights.
        labels: Names of a classifier's labels, or None.
        config: The content of `config.json`.
        folder: Where `config.json` was.
        package: What sentence-transformers wrote beside it, or None.
    """

    model: ConfiguredModel
    labels: list[str] | None
    config: dict[str, Any]
    folder: Path
    package: Package | None = None


def from_hugging_face(
    folder: Path | str, head: str | None = None, dtype: DType = None
) -> ConfiguredModel:
    """Make a model of a published checkpoint.

    Args:
        folder: A local folder with `config.json` and `model.safetensors` of BERT, RoBERTa, ELECTRA,
            GPT-2, T5, BART, Marian or ViT.
        head: Name of the class to make, such as "Bert" or "SequenceClassifier", where the
            checkpoint's own is not wanted. A head that the checkpoint lacks begins untrained.
        dtype: A dtype policy.

    Returns:
        The model. Its class follows from the checkpoint: `Bert`, `MaskedLanguageModel`,
        `SequenceClassifier`, `TokenClassifier`, `QuestionAnswerer`, `SentenceEncoder`, `Electra`,
        `Gpt`, `T5`, `Bart` or `VisionTransformer`.

    Raises:
        InputError: If the folder holds no such checkpoint, its type is unknown, it is damaged or a
            pickle, or weights are missing, left over or of another shape; the message names them.

    Example:
        model = kt.models.from_hugging_face("all-MiniLM-L6-v2")
    """
    return read_checkpoint(folder, head, dtype).model


def read_checkpoint(folder: Path | str, head: str | None = None, dtype: DType = None) -> Checkpoint:
    """Read a checkpoint with its labels and settings; arguments as for `from_hugging_face`."""
    package = read_package(Path(folder))
    folder = Path(folder) if package is None else package.folder
    published = read_json(folder / "config.json")
    kind = published.get("model_type")
    if not isinstance(kind, str) or kind not in READERS:
        raise InputError(
            f"{folder / 'config.json'} is of the unknown type {kind!r}; supported are "
            f"{', '.join(READERS)}."
        )
    if package is not None and kind not in encoders.FIELDS:
        raise InputError(
            f"{folder} holds a sentence encoder of the type {kind!r}, which is not "
            f"supported; supported are {', '.join(encoders.FIELDS)}."
        )
    FIELDS[kind].check(published, folder / "config.json")
    tensors = _named_as_now(read_tensors(folder), folder)
    tensors |= {} if package is None else package.tensors
    try:
        model, weights, ignored = READERS[kind](published, tensors, package, head, dtype)
        labels = _labels(published, model)
    except KindError as error:
        raise InputError(f"{folder / 'config.json'} makes no model: {error}") from None
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{folder / 'config.json'} has no {error}.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'config.json'} makes no model: {error}") from None
    if head is not None and type(model).__name__ != head:
        raise InputError(
            f"A checkpoint of the type {kind!r} makes a {type(model).__name__}, not a {head}."
        )
    assign(weights, tensors, ignored, f"{folder / WEIGHTS} does not fit its config.json")
    return Checkpoint(model, labels, published, folder, package)


def _named_as_now(tensors: Mapping[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Give the weights of norms their name of today: files of TensorFlow's time have another."""
    renamed: dict[str, Any] = {}
    for name, tensor in tensors.items():
        new = name
        for old, now in ((".gamma", ".weight"), (".beta", ".bias")):
            new = new.removesuffix(old) + now if new.endswith(old) else new
        if new in renamed or (new != name and new in tensors):
            raise InputError(f"{folder / WEIGHTS} has {new} under two names.")
        renamed[new] = tensor
    return renamed


def _labels(published: dict[str, Any], model: ConfiguredModel) -> list[str] | None:
    if not isinstance(model, (SequenceClassifier, TokenClassifier, VisionTransformer)):
        return None
    return label_names(published, None)


READERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(encoders.FIELDS, encoders.read_encoder),
    **dict.fromkeys(gpt2.FIELDS, gpt2.read_gpt2),
    **dict.fromkeys(t5.FIELDS, t5.read_t5),
    **dict.fromkeys(bart.FIELDS, bart.read_bart),
    **dict.fromkeys(vit.FIELDS, vit.read_vit),
}
FIELDS = {**encoders.FIELDS, **gpt2.FIELDS, **t5.FIELDS, **bart.FIELDS, **vit.FIELDS}
