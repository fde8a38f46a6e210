"""Training of classifiers of pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_transformer._tensorflow import tf
from keras_transformer.models.vision_transformer import VisionTransformerConfig
from keras_transformer.pipelines.images import decode_images, prepare_pixels
from keras_transformer.training.data.corpus_size import CorpusSize
from keras_transformer.training.data.records import ImageFolder, RecordSource
from keras_transformer.training.tasks.classification import LabelTask
from keras_transformer.training.tasks.task import describe_labels
from keras_transformer.typing import Ids, Strings, Tensors


class ImageClassification(LabelTask):
    """Pictures in one folder a label."""

    preset = "vit-tiny"
    columns = ("path", "label")
    unit = "pictures"
    length_of = ()  # all are of one size
    model: VisionTransformerConfig

    @classmethod
    def open(cls, path: Path) -> ImageFolder:
        """Return the pictures of a folder."""
        return ImageFolder(path)

    @classmethod
    def find_labels(cls, records: Any) -> list[str]:
        """Return the names of the folders."""
        return records.labels

    @classmethod
    def find_samples(cls, records: RecordSource) -> list[str]:
        """Return nothing: pictures are no text."""
        return []

    @classmethod
    def model_fields(cls, labels: Sequence[str]) -> dict[str, Any]:
        """Return the number of classes."""
        return {"num_classes": len(labels)}

    def featurize(self, columns: dict[str, Strings]) -> tuple[Tensors, Ids]:
        """Read and decode pictures, and number their labels."""
        model = self.model
        files = tf.map_fn(tf.io.read_file, columns["path"])
        pixels = decode_images(files, model.image_size, model.channels)
        inputs = {"images": prepare_pixels(pixels, **self.settings.settings)}
        return inputs, self.label_ids(columns["label"])

    def describe(self, size: CorpusSize) -> list[str]:
        """Describe how many pictures there are."""
        lines = [f"{size.examples:,} pictures, {size.batches:,} batches"]
        return lines + describe_labels(size.labels)

    def width(self, inputs: Tensors) -> int:
        """Return the length of the sequence of patches."""
        return self.model.num_patches + 1

    def summary(self, inputs: Tensors) -> str:
        """Describe how many pictures a batch has."""
        return f"{inputs['images'].shape[0]} pictures"
