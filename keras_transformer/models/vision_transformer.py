"""The Vision Transformer: an encoder over patches of an image.

Shapes: B batch, P patches, D width.

Reference: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words".
"""

import dataclasses
from typing import Any, ClassVar

import keras

from keras_transformer.errors import InputError
from keras_transformer.layers import Dropout, Encoder, LearnedPositions, Linear
from keras_transformer.layers.patches import ClassToken, PatchEmbedding
from keras_transformer.models.assembly import stack_arguments
from keras_transformer.models.config import Positions, StackConfig
from keras_transformer.models.model import ConfiguredModel


@dataclasses.dataclass(frozen=True)
class VisionTransformerConfig(StackConfig):
    """Everything that decides a Vision Transformer; the defaults are those of ViT-B/16.

    Of an image there is no vocabulary: `vocabulary_size` and the ids of special tokens mean
    nothing.
    """

    family = "vit"
    causal = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "vit-tiny": {
            "num_layers": 4,
            "num_heads": 4,
            "d_model": 64,
            "d_ff": 128,
            "image_size": 32,
            "patch_size": 4,
        },
        "vit-b-16": {"num_classes": 1000},
        "vit-l-16": {
            "num_classes": 1000,
            "num_layers": 24,
            "num_heads": 16,
            "d_model": 1024,
            "d_ff": 4096,
        },
    }

    vocabulary_size: int = 4
    num_layers: int = 12
    num_heads: int = 12
    d_model: int = 768
    d_ff: int = 3072
    activation: str = "gelu"
    norm_first: bool = True
    layer_norm_epsilon: float = 1e-6
    positions: Positions = "learned"  # or "none"
    image_size: int = 224  # height and width in pixels
    channels: int = 3
    patch_size: int = 16
    num_classes: int = 0  # 0: no head, the output is the class token's vector

    def __post_init__(self) -> None:
        """Refuse values that can't make a model."""
        super().__post_init__()
        for name in ("image_size", "channels", "patch_size"):
            self._check(name, getattr(self, name) >= 1, "must be at least 1")
        self._check("num_classes", self.num_classes >= 0, "must be positive, or 0 for no head")
        self._check("positions", self.positions in ("learned", "none"), "must be learned or none")
        if self.image_size % self.patch_size:
            raise InputError(
                f"image_size must be a multiple of patch_size, got image_size={self.image_size} "
                f"and patch_size={self.patch_size}."
            )

    @property
    def num_patches(self) -> int:
        """The number of patches P of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def longest(self) -> int:
        """The most positions of a sequence: the patches and the class token."""
        return self.num_patches + 1


@keras.saving.register_keras_serializable("keras_transformer")
class VisionTransformer(ConfiguredModel):
    """A Vision Transformer with a class token.

    Args:
        config: A `VisionTransformerConfig`, or its fields as a dict.
        **kwargs: `name`, `dtype` (a policy such as "mixed_bfloat16") and `trainable`.

    Call arguments:
        inputs: Dict of `images`, float `(B, height, width, channels)`, commonly in [-1, 1].

    Returns:
        Logits `(B, num_classes)`; without classes the class token's vector `(B, D)`.

    Example:
        config = kt.models.VisionTransformerConfig.preset("vit-tiny", num_classes=10)
        model = kt.models.VisionTransformer(config)
        model.compile("adam", loss=kt.training.CrossEntropy(ignore_id=-1))
        model.fit({"images": images}, labels)

    Reference: Dosovitskiy et al. 2021.
    """

    config_class = VisionTransformerConfig

    def __init__(self, config: Any, **kwargs: Any) -> None:
        config = self.make_config(config)
        dtype = kwargs.pop("dtype", None)
        shape = (config.image_size, config.image_size, config.channels)
        images = keras.Input(shape, dtype="float32", name="images")
        patches = PatchEmbedding(config.patch_size, config.d_model, dtype=dtype, name="patches")
        x = ClassToken(dtype=dtype, name="class_token")(patches(images))
        if config.positions == "learned":
            positions = LearnedPositions(config.num_patches + 1, dtype=dtype, name="positions")
            x = positions(x)
        x = Dropout(config.embedding_dropout, dtype=dtype, name="embedding_dropout")(x)
        encoder = Encoder(
            config.num_layers, name="encoder", **stack_arguments(config, False, dtype)
        )
        outputs = encoder(x)[:, 0]
        if config.num_classes:
            outputs = Linear(config.num_classes, dtype=dtype, name="logits")(outputs)
        super().__init__(
            config,
            {"images": images},
            outputs,
            encoder.dtype_policy,
            **{"name": config.family, **kwargs},
        )
