"""The families of models by name, for configurations that are read from JSON.

A package of one's own adds a family by an entry point; see `keras_transformer.extensions`.
"""

from typing import Any

from keras_transformer.errors import InputError, no_such
from keras_transformer.extensions import Table
from keras_transformer.models.bart import Bart
from keras_transformer.models.bert import Bert, EncoderGraph
from keras_transformer.models.config import StackConfig
from keras_transformer.models.electra import Electra
from keras_transformer.models.gpt import Gpt
from keras_transformer.models.model import ConfiguredModel
from keras_transformer.models.roberta import Roberta
from keras_transformer.models.t5 import T5
from keras_transformer.models.transformer import Transformer
from keras_transformer.models.vision_transformer import VisionTransformer
from keras_transformer.typing import DType

FAMILIES: Table[type[ConfiguredModel]] = Table(
    "keras_transformer.families",
    "family",
    ConfiguredModel,
    {
        cls.config_class.family: cls
        for cls in (Transformer, T5, Bart, Bert, Roberta, Electra, Gpt, VisionTransformer)
    },
)
"""The classes of models by the `family` of their configuration.

`register` adds one for this process; an entry point in the group `keras_transformer.families`
adds one for every process.
"""


def config_from_dict(fields: dict[str, Any]) -> StackConfig:
    """Rebuild the configuration of any family; without `family` it is a Transformer's.

    Raises:
        InputError: If the family or a field is unknown, or a field is missing.
    """
    family = fields.get("family", "transformer")
    if family not in FAMILIES:
        raise no_such("family", family, FAMILIES)
    return FAMILIES[family].config_class.from_dict(fields)


def make_encoder_graph(config: StackConfig, dtype: DType = None, **kwargs: Any) -> EncoderGraph:
    """Return the graph of a family's encoder, which heads are put on.

    Args:
        config: The configuration of an encoder-only model.
        dtype: A dtype policy.
        **kwargs: What else `EncoderGraph` takes.

    Raises:
        InputError: If the family has no such graph.
    """
    graph_class = FAMILIES[config.family].graph_class
    if graph_class is None:
        raise InputError(
            f"Heads need an encoder, and the family {config.family!r} has none: its model sets no "
            "graph_class."
        )
    return graph_class(config, dtype, **kwargs)


def find_preset(name: str, vocabulary_size: int | None = None, **changes: Any) -> StackConfig:
    """Return a preset of any family by its name.

    Args:
        name: Such as "tiny", "bert-base", "gpt2" or "vit-b-16".
        vocabulary_size: Number of tokens V; the published one if None.
        **changes: Fields to set otherwise than the preset does.

    Raises:
        InputError: If there is no such preset.
    """
    return config_of_preset(name).preset(name, vocabulary_size, **changes)


def config_of_preset(name: str) -> type[StackConfig]:
    """Return the configuration's class that has a preset.

    Raises:
        InputError: If there is no such preset.
    """
    for cls in FAMILIES.values():
        if name in cls.config_class.presets:
            return cls.config_class
    choices = (name for cls in FAMILIES.values() for name in cls.config_class.presets)
    raise no_such("preset", name, choices)
