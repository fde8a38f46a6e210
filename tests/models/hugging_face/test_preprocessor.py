"""Tests of models.hugging_face.preprocessor: how published pictures become numbers."""

import json

import numpy as np
import pytest

from keras_transformer.errors import InputError
from keras_transformer.models.hugging_face.preprocessor import read_preprocessor
from keras_transformer.pipelines.images import prepare_pixels

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype("float32")
MEAN, STD = [0.1, 0.2, 0.3], [0.9, 0.8, 0.7]


def write(folder, **fields):
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))


CASES = [
    ({}, PIXELS / 127.5 - 1),
    ({"image_mean": MEAN, "image_std": STD}, (PIXELS / 255 - MEAN) / STD),
    (
        {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255},
        (PIXELS / 255 - MEAN) / STD,
    ),
    ({"do_normalize": False}, PIXELS / 255),
    ({"do_normalize": False, "image_mean": MEAN}, PIXELS / 255),
    ({"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}, PIXELS / 127.5 - 1),
    ({"do_rescale": False, "image_mean": 127.5, "image_std": 127.5}, PIXELS / 127.5 - 1),
    ({"do_rescale": False, "do_normalize": False}, PIXELS),
    ({"do_normalize": False, "rescale_factor": 0.5}, PIXELS / 2),
    ({"size": 8, "resample": 2, "do_resize": True, "do_convert_rgb": None}, PIXELS / 127.5 - 1),
    ({"size": {"height": 8, "width": 8}, "crop_size": 4}, PIXELS / 127.5 - 1),
    ({"image_processor_type": "ViTImageProcessor", "do_center_crop": False}, PIXELS / 127.5 - 1),
]


@pytest.mark.parametrize(("fields", "wanted"), CASES, ids=lambda x: str(x)[:40])
def test_pixels_become_what_the_file_says(tmp_path, fields, wanted):
    write(tmp_path, **fields)
    found = prepare_pixels(PIXELS, **read_preprocessor(tmp_path, 8))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_without_a_file_pixels_are_between_minus_one_and_one(tmp_path):
    assert read_preprocessor(tmp_path, 8) == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"do_center_crop": True}, "do_center_crop=True, which cuts the edges off"),
        ({"resample": 3}, "resample=3, which resizes pictures by another filter"),
        ({"resample": 0}, "resample=0"),
        ({"do_pad": True}, "do_pad=True"),
        ({"offset": True}, "offset=True"),
        ({"size": 9}, "size=9, but the model takes pictures of 8 x 8"),
        ({"size": {"shortest_edge": 8}}, "shortest_edge"),
        ({"size": {"height": 8, "width": 9}}, "'width': 9"),
        ({"image_mean": "half"}, "image_mean='half', which has to be numbers"),
        ({"rescale_factor": [1, "x"]}, "rescale_factor="),
    ],
    ids=str,
)
def test_what_is_not_built_is_refused_by_name(tmp_path, fields, message):
    write(tmp_path, **fields)
    with pytest.raises(InputError, match=message):
        read_preprocessor(tmp_path, 8)
