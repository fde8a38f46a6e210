"""Tests of keras_transformer.export.tflite.convert: the files of TensorFlow's own converter."""

import pytest
import tensorflow as tf

from keras_transformer.errors import InputError
from keras_transformer.export.tflite.convert import convert


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A SavedModel of two signatures that share a table."""
    module = tf.Module()
    module.table = tf.Variable(tf.random.stateless_normal((60, 40), (1, 2)))
    ids = tf.TensorSpec([None], tf.int32, "ids")
    look_up = tf.function(lambda ids: {"rows": tf.gather(module.table, ids)}, input_signature=[ids])
    score = tf.function(
        lambda ids: {"score": tf.gather(module.table, ids) @ tf.transpose(module.table)},
        input_signature=[ids],
    )
    path = tmp_path_factory.mktemp("saved") / "1"
    tf.saved_model.save(module, str(path), {"look_up": look_up, "score": score})
    return path


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_files_are_those_of_the_public_converter(saved, precision):
    names = ["look_up", "score"]
    public = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=names)
    public.exclude_conversion_metadata = True
    if precision == "float16":
        public.optimizations = [tf.lite.Optimize.DEFAULT]
        public.target_spec.supported_types = [tf.float16]
    assert convert(saved, names, frozenset(), precision) == public.convert()


def test_a_signature_that_does_not_exist_is_refused(saved):
    with pytest.raises(InputError, match="no signature 'other'"):
        convert(saved, ["look_up", "other"], frozenset())
