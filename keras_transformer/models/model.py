"""The base of this package's models: `keras.Model`, with an exact training step on TensorFlow."""

from typing import Any, Self

import keras

from keras_transformer.models.arguments import find_configuration
from keras_transformer.models.config import StackConfig
from keras_transformer.typing import Config, DType, Nested

if keras.backend.backend() == "tensorflow":
    from keras_transformer.models.train_step import Model
else:
    from keras import Model  # type: ignore[no-redef]  # without the exact step

__all__ = ["ConfiguredModel", "Model"]


class ConfiguredModel(Model):
    """A functional model that its configuration rebuilds.

    Subclasses set `config_class`, and pass the graph's inputs and outputs on. A model whose encoder
    takes heads also sets `graph_class`, the `EncoderGraph` that they are put on.

    Args:
        config: The configuration.
        inputs: Inputs of the graph.
        outputs: Outputs of the graph.
        dtype_policy: Of the layers.
        **kwargs: `name` and `trainable`.
    """

    config_class: type[StackConfig]
    graph_class: Any = None

    def __init__(
        self,
        config: StackConfig,
        inputs: Nested,
        outputs: Nested,
        dtype_policy: DType,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, **kwargs)
        self.config: Any = config  # of `config_class`
        self.dtype_policy = dtype_policy

    @classmethod
    def make_config(cls, config: Any) -> Any:
        """Return a configuration, given as such, as its fields in a dict or as a preset's name.

        Raises:
            InputError: If it is none of these, or of another family.
        """
        return find_configuration(config, cls.__name__, cls.config_class)

    def get_config(self) -> Config:
        """Return the configuration as plain values."""
        return {
            "config": self.config.to_dict(),
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None) -> Self:
        """Rebuild the model from `get_config`."""
        dtype = config.get("dtype")
        if isinstance(dtype, dict):
            config = {**config, "dtype": keras.dtype_policies.deserialize(dtype)}
        return cls(**config)
