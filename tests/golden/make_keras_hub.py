"""Make the tiny backbones that `tests/models/test_keras_hub.py` compares with, and their outputs.

Needs keras-hub: python tests/golden/make_keras_hub.py

Weights are random, rounded to a grid of 1/512 so that they compress well, and kept in half
precision; KerasHub computes with the same numbers in float32.
"""

import json
from pathlib import Path

import keras
import keras_hub
import numpy as np
from keras_hub.src.utils.keras_utils import gelu_approximate

HERE = Path(__file__).parent / "keras_hub"
V, D = 40, 16
IDS = np.array([[5, 9, 20, 31, 7, 6], [8, 33, 12, 1, 1, 1]])  # 1 is padding in some, 0 in others
TARGET = np.array([[2, 4, 17, 30, 9], [2, 11, 6, 25, 8]])


def main():
    HERE.mkdir(exist_ok=True)
    hub = keras_hub.models
    sizes = {"vocabulary_size": V, "num_layers": 2, "num_heads": 2, "hidden_dim": D}
    sizes["intermediate_dim"] = 24
    text = {**sizes, "max_sequence_length": 12}
    rng = np.random.default_rng(0)
    models = {
        "bert": (hub.BertBackbone(**text), 0),
        "roberta": (hub.RobertaBackbone(**text), 1),
        "gpt2": (hub.GPT2Backbone(**text), None),
        "t5": (hub.T5Backbone(**sizes, key_value_dim=6, use_gated_activation=False), 0),
        "t5-v1.1": (
            hub.T5Backbone(**sizes, activation=gelu_approximate, tie_embedding_weights=False),
            0,
        ),
        "bart": (hub.BartBackbone(**text), 1),
        "vit": (hub.ViTBackbone((8, 8, 3), 4, 2, 2, D, 24), None),
    }
    for name, (backbone, padding) in models.items():
        values = []
        for weight in backbone.weights:
            noise = rng.normal(size=weight.shape) * (0.3 if len(weight.shape) > 1 else 0.2)
            gain = weight.path.endswith(("gamma", "norm/weight")) or "t5_layer_norm" in weight.path
            values.append(np.round((noise + gain) * 512) / 512)
        backbone.set_weights(values)
        inputs, outputs = run(name, backbone, padding)
        config = backbone.get_config()
        config.pop("dtype")
        if callable(config.get("activation")):
            config["activation"] = keras.activations.serialize(config["activation"])
        np.savez_compressed(
            HERE / f"{name}.npz",
            kind=type(backbone).__name__,
            config=json.dumps(config),
            paths=np.array([weight.path for weight in backbone.weights]),
            **{f"weight_{i:03}": value.astype("float16") for i, value in enumerate(values)},
            **{f"input_{key}": value for key, value in inputs.items()},
            **{f"output_{key}": np.array(value, "float32") for key, value in outputs.items()},
        )


def run(name, backbone, padding):
    """Return inputs by our names, and outputs by ours."""
    if name == "vit":
        images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).round(3).astype("float32")
        return {"images": images}, {"logits": backbone(images)[:, 0]}
    if name == "gpt2":
        ids = IDS[:, :3]
        states = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
        logits = backbone.token_embedding(states, reverse=True)
        return {"token_ids": ids}, {"logits": logits}
    ids = np.where(IDS == 1, padding, IDS)
    mask = (ids != padding).astype("int32")
    if name in ("bert", "roberta"):
        inputs = {"token_ids": ids}
        if name == "bert":
            inputs["segment_ids"] = np.array([[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]])
        found = backbone({**inputs, "padding_mask": mask})
        if name == "roberta":
            return inputs, {"sequence": found}
        return inputs, {"sequence": found["sequence_output"], "pooled": found["pooled_output"]}
    states = backbone(
        {
            "encoder_token_ids": ids,
            "encoder_padding_mask": mask,
            "decoder_token_ids": TARGET,
            "decoder_padding_mask": np.ones_like(TARGET),
        }
    )["decoder_sequence_output"]
    if name == "t5":  # the first T5 divides what it ties; KerasHub has no task that would
        states = states * D**-0.5
    logits = backbone.token_embedding(states, reverse=True)
    return {"source_ids": ids, "target_ids": TARGET}, {"logits": logits}


if __name__ == "__main__":
    main()
