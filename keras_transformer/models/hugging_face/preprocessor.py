"""The scaling of pixels in `preprocessor_config.json`."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_transformer.errors import InputError
from keras_transformer.models.checkpoints import read_json
from keras_transformer.models.hugging_face.fields import Fields, Only

FILE = "preprocessor_config.json"
FIELDS = Fields(
    understood={
        "crop_size",
        "do_normalize",
        "do_rescale",
        "image_mean",
        "image_std",
        "rescale_factor",
        "size",
    },
    harmless={
        "_processor_class",
        "_valid_processor_keys",
        "data_format",
        "default_to_square",
        "device",
        "disable_grouping",
        "do_convert_rgb",  # pictures are decoded to the model's channels
        "do_resize",  # those of the model's size stay as they are, and others are refused there
        "feature_extractor_type",
        "image_processor_type",
        "input_data_format",
        "processor_class",
        "return_tensors",
    },
    only={
        "do_center_crop": Only((False,), "cuts the edges off"),
        "do_pad": Only((False,), "adds edges"),
        "resample": Only((2, "bilinear"), "resizes pictures by another filter"),
    },
)


def read_preprocessor(folder: Path, image_size: int) -> dict[str, Any]:
    """Read how pixels are scaled.

    Args:
        folder: Folder of the checkpoint.
        image_size: Height and width that the model takes.

    Returns:
        Arguments of `images.prepare_pixels`; none if there is no file, which is for [-1, 1].

    Raises:
        InputError: If a field is unknown, or says what is not supported.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    fields = read_json(path)
    FIELDS.check(fields, path)
    size = fields.get("size")
    sides = list(size.values()) if isinstance(size, dict) else [size]
    square = not isinstance(size, dict) or set(size) == {"height", "width"}
    if size is not None and not (square and set(map(str, sides)) == {str(image_size)}):
        raise InputError(
            f"{path} says size={size!r}, but the model takes pictures of {image_size} x "
            f"{image_size}; other ways to resize are not supported."
        )
    mean, std = _numbers(fields, "image_mean", path), _numbers(fields, "image_std", path)
    if not fields.get("do_normalize", True):
        mean, std = 0.0, 1.0
    factor = 255.0
    if not fields.get("do_rescale", True):
        factor *= 1.0
    else:
        factor *= float(_numbers(fields, "rescale_factor", path) or 1 / 255)
    if abs(factor - 1) < 1e-6:
        scaling = {"image_mean": mean, "image_std": std}
        return {name: value for name, value in scaling.items() if value is not None}
    # Ours divides by 255 first.
    mean, std = (0.5 if one is None else one for one in (mean, std))
    return {
        "image_mean": (np.asarray(mean) / factor).tolist(),
        "image_std": (np.asarray(std) / factor).tolist(),
    }


def _numbers(fields: dict[str, Any], name: str, path: Path | str) -> Any:
    value = fields.get(name)
    try:
        np.asarray(value if value is not None else 0, "float32")
    except (TypeError, ValueError):
        raise InputError(f"{path} says {name}={value!r}, which has to be numbers.") from None
    return value
