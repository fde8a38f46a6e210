"""Tests of keras_transformer.models.keras_hub, with stand-ins for KerasHub's backbones.

`tests/golden/make_keras_hub.py` made what they hold, and what the real ones compute.
"""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keras_transformer.errors import InputError
from keras_transformer.models import from_keras_hub

GOLDEN = Path(__file__).parents[1] / "golden" / "keras_hub"
CLASSES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "gpt2": "Gpt",
    "t5": "T5",
    "t5-v1.1": "T5",
    "bart": "Bart",
    "vit": "VisionTransformer",
}


class Backbone:
    """What a backbone shows of itself: its configuration, and its weights by path.

    Args:
        name: Name of a golden file.
        change: Function that may change the configuration and the pairs of path and value.
    """

    def __new__(cls, name, change=None):
        with np.load(GOLDEN / f"{name}.npz") as file:
            kind = str(file["kind"])
        return object.__new__(type(kind, (cls,), {}))

    def __init__(self, name, change=None):
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.config = json.loads(str(file["config"]))
            keys = sorted(key for key in file.files if key.startswith("weight_"))
            pairs = [
                (str(path), file[key].astype("float32"))
                for path, key in zip(file["paths"], keys, strict=True)
            ]
        if change is not None:
            pairs = change(self.config, pairs) or pairs
        self.weights = [SimpleNamespace(path=path) for path, _ in pairs]
        self.values = [value for _, value in pairs]

    def get_config(self):
        return self.config

    def get_weights(self):
        return self.values


def reference(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return tuple(
            {key.removeprefix(side): file[key] for key in file.files if key.startswith(side)}
            for side in ("input_", "output_")
        )


def differences(model, name):
    inputs, expected = reference(name)
    inputs = {k: v.astype("float32" if k == "images" else "int32") for k, v in inputs.items()}
    outputs = model(inputs, training=False)
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    assert set(outputs) == set(expected)
    for key, wanted in expected.items():
        assert np.abs(wanted).max() > 0.5
        difference = np.abs(np.array(outputs[key]) - wanted)
        if key == "sequence":  # what a model makes of padding is open
            difference = difference[inputs["token_ids"] != model.config.padding_id]
        yield difference.max()


@pytest.mark.parametrize("name", CLASSES)
def test_every_backbone_computes_what_it_did(name):
    model = from_keras_hub(Backbone(name))
    assert type(model).__name__ == CLASSES[name]
    assert max(differences(model, name)) < 1e-4
    # The negative control: every weight that was taken over counts.
    weights = model.get_weights()
    changed = weights.copy()
    i = len(weights) // 2
    changed[i] = weights[i] + np.linspace(0, 1, weights[i].size).reshape(weights[i].shape)
    model.set_weights(changed)
    assert max(differences(model, name)) > 1e-3


@pytest.mark.parametrize("name", CLASSES)
def test_every_weight_is_taken_over(name):
    model = from_keras_hub(Backbone(name))
    total = sum(value.size for value in Backbone(name).get_weights())
    twice = 40 * 16 if name == "t5-v1.1" else 0  # one table there, of source and target here
    assert model.count_params() == total + twice


def test_missing_left_over_and_misshapen_weights_are_named():
    def change(config, pairs):
        pairs = [(path, value) for path, value in pairs if path != "pooled_dense/bias"]
        return [
            (path, value[:-1] if path == "token_embedding/embeddings" else value)
            for path, value in [*pairs, ("extra/kernel", np.zeros(3))]
        ]

    with pytest.raises(InputError) as error:
        from_keras_hub(Backbone("bert", change))
    assert str(error.value) == (
        "The weights of BertBackbone do not fit its configuration; missing: pooled_dense/bias; "
        "left over: extra/kernel; token_embedding/embeddings has shape (39, 16), which does not "
        "make (40, 16)."
    )


@pytest.mark.parametrize("kernel", ["query/kernel", "attention_output/kernel"])
def test_kernels_of_heads_have_three_axes(kernel):
    def flat(config, pairs):
        return [
            (path, value.reshape(16, 16) if path.endswith(kernel) else value)
            for path, value in pairs
        ]

    with pytest.raises(InputError, match=rf"{kernel} has shape \(16, 16\), which does not make"):
        from_keras_hub(Backbone("gpt2", flat))


def test_norms_of_t5_are_told_apart_whatever_their_numbers():
    def renumbered(config, pairs):
        count = itertools.count(95)
        return [
            (f"{path.split('/')[0]}/t5_layer_norm_{next(count)}/weight", v)
            if "t5_layer_norm" in path
            else (path, v)
            for path, v in pairs
        ]

    assert max(differences(from_keras_hub(Backbone("t5", renumbered)), "t5")) < 1e-4


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vit", {"use_class_token": False}, "ViTBackbone with use_class_token=False is unknown"),
        ("vit", {"use_mlp_bias": False}, "ViTBackbone with use_mlp_bias=False is unknown"),
        ("vit", {"image_shape": [8, 4, 3]}, "have to be squares, got 8 x 4"),
        ("vit", {"patch_size": [4, 2]}, r"have to be squares, got 8 x 8 and \[4, 2\]"),
        ("t5", {"activation": "mish"}, "The activation 'mish' is unknown; supported are relu"),
        ("t5", {"activation": {"name": "x"}}, "The activation 'x' is unknown"),
        ("bert", {"num_heads": 3}, "d_model=16 and num_heads=3"),
    ],
)
def test_settings_that_ours_has_not_are_named(name, settings, message):
    with pytest.raises(InputError, match=message):
        from_keras_hub(Backbone(name, lambda config, pairs: config.update(settings)))


def test_settings_that_are_needed_are_named():
    with pytest.raises(InputError, match="configuration of GPT2Backbone has no 'hidden_dim'"):
        from_keras_hub(Backbone("gpt2", lambda config, pairs: config.pop("hidden_dim") and None))


def test_what_is_no_backbone_is_named():
    with pytest.raises(InputError, match="A SimpleNamespace is not a known backbone; supported"):
        from_keras_hub(SimpleNamespace())


def test_a_subclass_of_a_backbone_is_one_and_a_dtype_is_kept():
    backbone = Backbone("bert")
    backbone.__class__ = type("Mine", (type(backbone),), {})
    model = from_keras_hub(backbone, dtype="mixed_bfloat16")
    assert type(model).__name__ == "Bert"
    assert model.compute_dtype == "bfloat16"
