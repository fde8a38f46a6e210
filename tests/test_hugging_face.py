from pathlib import Path

import numpy as np
import pytest

from keras_transformer.models import from_hugging_face

CHECKPOINTS = Path(__file__).parent / "golden" / "checkpoints"
CLASSES = {
    "bert": "Bert",
    "bert-masked-lm": "MaskedLanguageModel",
    "bert-classifier": "SequenceClassifier",
    "bert-tokens": "TokenClassifier",
    "bert-answers": "QuestionAnswerer",
    "roberta-masked-lm": "MaskedLanguageModel",
    "roberta-classifier": "SequenceClassifier",
    "electra": "Electra",
    "gpt2": "Gpt",
    "t5": "T5",
    "t5-v1.1": "T5",
    "bart": "Bart",
    "marian": "Bart",
    "vit": "VisionTransformer",
}


def reference(name):
    with np.load(CHECKPOINTS / name / "reference.npz") as file:
        sides: tuple[dict, dict] = ({}, {})
        for key in file.files:
            side, _, field = key.partition("_")
            sides[side == "output"][field] = file[key]
    return sides


def outputs_of(model, inputs):
    inputs = {k: v.astype("float32" if k == "images" else "int32") for k, v in inputs.items()}
    if "places" in model.input:
        ids = inputs["token_ids"]
        inputs["places"] = np.tile(np.arange(ids.shape[1], dtype="int32"), (len(ids), 1))
    outputs = model(inputs, training=False)
    return outputs if isinstance(outputs, dict) else {"logits": outputs}


def real_positions(model, inputs, array):
    """Take what padding gives out of an array `(B, S, ...)`: what a model makes of it is open."""
    ids = inputs.get("token_ids")
    if ids is None or array.shape[:2] != ids.shape:
        return array
    return array[ids != model.config.padding_id]


@pytest.mark.parametrize("name", CLASSES)
def test_every_family_computes_what_its_reference_does(name):
    model = from_hugging_face(CHECKPOINTS / name)
    assert type(model).__name__ == CLASSES[name]
    inputs, expected = reference(name)
    got = outputs_of(model, inputs)
    assert set(got) == set(expected)
    for key, wanted in expected.items():
        array = np.array(got[key])
        if name == "bert-answers":  # ours leaves out places where no answer can be
            passage = (inputs["segment_ids"] == 1) & (inputs["token_ids"] != 0)
            array, wanted = (x.transpose(0, 2, 1)[passage] for x in (array, wanted))
        array, wanted = (real_positions(model, inputs, x) for x in (array, wanted))
        assert np.abs(wanted).max() > 0.5
        np.testing.assert_allclose(array, wanted, atol=1e-4)
