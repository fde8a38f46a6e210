"""Tests of images and image_classifier, in Python and exported, and of `classify` on pictures.

Also: pipelines.images.
"""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from fixtures_encoders import CHECKPOINTS, LABELS, assert_same, exported_files
from typer.testing import CliRunner

from keras_transformer.cli.app import app
from keras_transformer.errors import InputError
from keras_transformer.export.tflite.convert import custom_ops_of
from keras_transformer.models import VisionTransformer, VisionTransformerConfig
from keras_transformer.pipelines.image_classifier import ImageClassifier
from keras_transformer.pipelines.images import decode_images, prepare_pixels, read_pictures
from keras_transformer.training.run.importing import import_checkpoint

SIZE = 8
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def published(folder, **preprocessor):
    """Make a folder of the published checkpoint with labels and a scale of its own."""
    shutil.copytree(CHECKPOINTS / "vit", folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): label for i, label in enumerate(LABELS)}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    there = published(folder / "there", image_mean=MEAN, image_std=STD, do_normalize=True)
    return import_checkpoint(there, folder / "run")


@pytest.fixture(scope="module")
def classifier(run):
    return run.servable()


@pytest.fixture(scope="module")
def colours():
    """Pictures as large as the model takes: uint8 `(4, 8, 8, 3)`."""
    return np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)


def png(pixels):
    return tf.io.encode_png(pixels).numpy()


def bmp(pixels):
    """Write a BMP by hand, as TensorFlow does not: rows from below, blue before red."""
    height, width, _ = pixels.shape
    head = b"BM" + (54 + pixels.size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    sizes = [(40, 4), (width, 4), (height, 4), (1, 2), (24, 2), (0, 4), (pixels.size, 4)]
    info = b"".join(number.to_bytes(size, "little") for number, size in sizes) + bytes(16)
    return head + info + pixels[::-1, :, ::-1].tobytes()


# --- Pixels ---------------------------------------------------------------------------------------


def test_pictures_of_every_format_become_pixels(colours):
    grey = colours[..., :1]
    files = [png(colours[0]), bmp(colours[1]), png(grey[2]), png(colours[3])]
    decoded = decode_images(tf.constant(files), SIZE).numpy()
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded[[0, 1, 3]], colours[[0, 1, 3]])
    np.testing.assert_array_equal(decoded[2], np.repeat(grey[2], 3, axis=-1))
    flat = np.full([16, 16, 3], 200, np.uint8)  # JPEG changes all but plain colours
    np.testing.assert_allclose(
        decode_images(tf.constant([tf.io.encode_jpeg(flat).numpy()]), SIZE), 200, atol=1
    )
    alpha = np.concatenate([colours[0], np.zeros_like(grey[0])], axis=-1)
    np.testing.assert_array_equal(decode_images(tf.constant([png(alpha)]), SIZE)[0], colours[0])


def test_grey_is_how_bright_colours_are(colours):
    files = [png(colours[0, ..., :1]), bmp(colours[1])]
    decoded = decode_images(tf.constant(files), SIZE, 1).numpy()
    np.testing.assert_array_equal(decoded[0], colours[0, ..., :1])
    bright = colours[1].astype(float) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(decoded[1, ..., 0], bright, atol=0.51)


def test_large_pictures_are_averaged_and_not_sampled():
    board = np.indices([4 * SIZE, 4 * SIZE]).sum(axis=0) % 2 * 255  # every other pixel is white
    files = [png(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))]
    np.testing.assert_allclose(decode_images(tf.constant(files), SIZE), 127.5, atol=4)


def test_pixels_are_scaled():
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(prepare_pixels(pixels).numpy().ravel(), [-1, -0.6, 1], atol=1e-6)
    scaled = prepare_pixels(pixels, MEAN, STD).numpy().ravel()
    np.testing.assert_allclose(scaled, [-0.4 / 0.2, -0.3 / 0.25, 0.4 / 0.3], atol=1e-6)


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"BM is no picture")
    with pytest.raises(InputError, match=r"a\.png is not a PNG, JPEG, BMP or GIF"):
        read_pictures([tmp_path / "a.png"], SIZE)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.png is not a PNG, JPEG, BMP or GIF"):
        read_pictures([tmp_path / "b.png"], SIZE)
    with pytest.raises(InputError, match=r"The picture .*c\.png can't be read"):
        read_pictures([tmp_path / "c.png"], SIZE)
    with pytest.raises(InputError, match="1 or 3 channels, and this model takes 4"):
        decode_images(tf.constant([b""]), SIZE, 4)


# --- The classifier -------------------------------------------------------------------------------


def test_a_classifier_sees_what_its_model_sees(run, classifier, colours):
    head = run.task_settings()
    assert (head.task, head.labels) == ("image-classification", tuple(LABELS))
    assert head.settings == {"image_mean": MEAN, "image_std": STD}
    assert not (run.path / "vocab.txt").exists()
    with pytest.raises(InputError, match="is for image-classification, and has no tokeniser"):
        run.tokenizer()
    outputs = classifier.call("serving_default", image=[png(one) for one in colours])
    images = (colours / 255 - MEAN) / STD
    logits = np.array(classifier.model({"images": images.astype("float32")}, training=False))
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["probabilities"], wanted, atol=1e-5)
    assert [x.decode() for x in outputs["label"]] == [LABELS[i] for i in wanted.argmax(axis=1)]
    np.testing.assert_allclose(outputs["probability"], wanted.max(axis=1), atol=1e-5)
    assert_same(classifier.call("pixels", pixels=colours.astype("float32")), outputs)


def test_every_artefact_sees_what_the_model_sees(run, classifier, colours, tmp_path):
    pixels = colours.astype("float32")
    wanted = classifier.call("pixels", pixels=pixels)
    files = exported_files(run, classifier, tmp_path / "exported")
    for _, artefact in files:
        assert_same(artefact.call("pixels", pixels=pixels), wanted)
    images = [png(one) for one in colours]
    assert_same(files[0][1].call("serving_default", image=images), wanted)
    content = (tmp_path / "exported" / "model.tflite").read_bytes()
    assert files[1][1].signatures == {"pixels"} and not custom_ops_of(content)
    assert not (tmp_path / "exported" / "model.ids.tflite").exists()
    card = json.loads((tmp_path / "exported" / "model_card.json").read_text("utf-8"))
    assert card["description"] == "Says of a picture which of good, bad, größer it shows."
    assert card["quality"].endswith("65 pictures")
    names = []
    for i, image in enumerate(images):
        names.append(tmp_path / f"{i}.png")
        names[-1].write_bytes(image)
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in names))
    printed = set()
    for model in (run.path, tmp_path / "exported", tmp_path / "exported" / "model.tflite"):
        command = ["classify", "--model", str(model), "--input", str(tmp_path / "names.txt")]
        result = CliRunner().invoke(app, [*command, "--batch", "3"])
        assert result.exit_code == 0
        printed.add(tuple(line.split("\t")[0] for line in result.stdout.splitlines()))
    assert printed == {tuple(label.decode() for label in wanted["label"])}
    (tmp_path / "names.txt").write_text(f"{names[0]}\n{tmp_path / 'nowhere.png'}\n")
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, InputError)
    assert "nowhere.png can't be read" in str(result.exception)


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({}, 2, "The model has 3 labels, but 2 are named."),
        ({"image_mean": [0.5, 0.5]}, 3, r"image_mean is \[0.5, 0.5\]; it has to be a number, or"),
        ({"image_std": "a"}, 3, "image_std is 'a'"),
    ],
)
def test_what_does_not_fit_is_refused(classifier, settings, labels, message):
    with pytest.raises(InputError, match=message):
        ImageClassifier(classifier.model, LABELS[:labels], **settings)


def test_a_model_without_classes_names_none(tmp_path):
    fields = {"num_layers": 1, "num_heads": 1, "d_model": 8, "d_ff": 8, "image_size": SIZE}
    model = VisionTransformer(VisionTransformerConfig(**fields, patch_size=4))
    with pytest.raises(InputError, match="has no classes"):
        ImageClassifier(model, LABELS)


def test_a_published_scale_may_be_missing_or_switched_off(tmp_path):
    there = published(tmp_path / "there", do_normalize=False)
    run = import_checkpoint(there, tmp_path / "run")
    assert run.task_settings().settings == {"image_mean": 0.0, "image_std": 1.0}
    (there / "preprocessor_config.json").unlink()
    assert import_checkpoint(there, tmp_path / "run", overwrite=True).task_settings().settings == {}
