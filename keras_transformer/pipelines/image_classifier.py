"""Pictures to labels: decoding, scaling and a `VisionTransformer` in one graph.

Shapes: B batch, h height, w width, c channels, C labels.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from keras_transformer.artefacts.artefact import SAVED_MODEL
from keras_transformer.errors import InputError
from keras_transformer.models.vision_transformer import VisionTransformer
from keras_transformer.pipelines.arguments import check_model
from keras_transformer.pipelines.images import MEAN, STD, decode_images, prepare_pixels
from keras_transformer.pipelines.servable import (
    Call,
    LiteFile,
    Servable,
    check_labels,
    likeliest,
    strings,
)
from keras_transformer.typing import Strings, Tensor, Tensors


class ImageClassifier(Servable):
    """A picture to one of C labels.

    The SavedModel takes the bytes of pictures, or pixels; the `.tflite`, which has no decoder,
    takes pixels alone.

    Args:
        model: A `VisionTransformer` with classes.
        labels: Names of the labels, in the order of the model's logits.
        image_mean: See `images.prepare_pixels`.
        image_std: See `images.prepare_pixels`.

    Raises:
        InputError: If there are not as many labels as logits, or the model has no classes or other
            channels than 1 or 3.

    Example:
        classifier = ImageClassifier(model, ["cat", "dog"])
        classifier.call("serving_default", image=[open("cat.jpg", "rb").read()])["label"]
    """

    model_class = VisionTransformer
    tokenizer = None
    task = "image-classification"
    gives = "label"
    answers: ClassVar[dict[str, str]] = {"serving_default": "label", "pixels": "label"}

    def __init__(
        self,
        model: VisionTransformer,
        labels: Sequence[str] | None = None,
        image_mean: float | Sequence[float] = MEAN,
        image_std: float | Sequence[float] = STD,
    ) -> None:
        check_model(model, self.model_class, type(self).__name__)
        config = model.config
        if not config.num_classes:
            raise InputError("The model has no classes (num_classes), so it can't name any.")
        for name, values in (("image_mean", image_mean), ("image_std", image_std)):
            try:
                fits = np.asarray(values, np.float32).shape in ((), (1,), (config.channels,))
            except (TypeError, ValueError):
                fits = False
            if not fits:
                raise InputError(
                    f"{name} is {values!r}; it has to be a number, or one for each of the "
                    f"{config.channels} channels."
                )
        self.labels = check_labels(labels, model)
        self.model = model
        self.image_mean = image_mean
        self.image_std = image_std
        super().__init__()

    def _all_graphs(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        config = self.model.config
        shape = [None, config.image_size, config.image_size, config.channels]
        pixels = tf.TensorSpec(shape, tf.float32, name="pixels")
        return {
            "serving_default": (self.read_images, strings("image")),
            "pixels": (self.read_pixels, {"pixels": pixels}),
        }

    @property
    def description(self) -> str:
        """The purpose of the model in a sentence."""
        return f"Says of a picture which of {', '.join(self.labels)} it shows."

    @property
    def lite_files(self) -> dict[str, LiteFile]:
        """The `.tflite` files; see `Servable.lite_files`."""
        return {"": LiteFile("pixels", ["pixels"])}

    def calls(self, texts: Sequence[str]) -> dict[str, Call]:
        """Return what each kind of file is asked: a noisy picture for each text."""
        config, size = self.model.config, self.model.config.image_size
        random = np.random.default_rng(zlib.crc32(" ".join(texts).encode()))
        # Few large squares beside noise, so that pictures differ in more than their grain.
        squares = random.uniform(0, 255, (len(texts), 2, 2, config.channels))
        noise = random.normal(0, 20, (len(texts), size, size, config.channels))
        drawn = tf.image.resize(squares, [size, size]) + noise
        drawn = tf.cast(tf.clip_by_value(drawn, 0, 255), tf.uint8)
        images = [tf.io.encode_png(one).numpy() for one in drawn]
        return {
            SAVED_MODEL: Call("serving_default", {"image": images}),
            "": Call("pixels", {"pixels": drawn.numpy().astype("float32")}),
        }

    def read_images(self, image: Strings) -> Tensors:
        """Classify pictures in the graph.

        Args:
            image: String tensor `(B,)`, the bytes of PNG, JPEG, BMP or GIF.

        Returns:
            As `read_pixels`.
        """
        config = self.model.config
        return self.read_pixels(decode_images(image, config.image_size, config.channels))

    def read_pixels(self, pixels: Tensor) -> Tensors:
        """Classify pictures that were decoded and resized elsewhere.

        Args:
            pixels: Float32 tensor `(B, h, w, c)` from 0 to 255, of the model's height, width and
                channels. They need not be whole numbers, as resized ones are not.

        Returns:
            Dict of `label`, string `(B,)`; `probability`, float32 `(B,)`, of that label; and
            `probabilities`, float32 `(B, C)`, of all of them in their order.
        """
        images = prepare_pixels(pixels, self.image_mean, self.image_std)
        logits = self.model({"images": images}, training=False)
        label, probability, probabilities = likeliest(logits, self.labels)
        return {"label": label, "probability": probability, "probabilities": probabilities}
