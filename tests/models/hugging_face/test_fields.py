"""Tests of models.hugging_face.fields: no setting of a published file is dropped silently."""

import json
import re
from pathlib import Path

import pytest
from fixtures_checkpoints import CHECKPOINTS, change, copy, loaded, refused

from keras_transformer.errors import InputError
from keras_transformer.models import from_hugging_face
from keras_transformer.models.hugging_face import FIELDS, generation
from keras_transformer.models.hugging_face.fields import Fields, Only

__all__ = ["copy", "loaded"]

PUBLISHED = json.loads((Path(__file__).parents[2] / "golden" / "published_fields.json").read_text())
FOLDERS = {kind: kind for kind in FIELDS} | {"roberta": "roberta-masked-lm"}


@pytest.mark.parametrize("kind", FIELDS)
def test_every_field_that_transformers_has_is_known(kind):
    known = FIELDS[kind]
    for name in PUBLISHED[kind]:
        assert name in known.understood or name in known.harmless or name in known.only, name
    known.check(PUBLISHED[kind], "defaults")


def test_every_field_of_generation_is_known():
    generation.FIELDS.check(PUBLISHED["generation"], "defaults")
    known = generation.FIELDS.understood | generation.FIELDS.harmless
    assert set(PUBLISHED["generation"]) <= known


EVERYWHERE = {
    "add_cross_attention": True,
    "adapters": {"adapters": {"a": "pfeiffer"}},
    "auto_map": {"AutoModel": "modeling.Own"},
    "cross_attention_hidden_size": 8,
    "is_decoder": True,
    "new_field": 0,
    "position_embedding_type": "relative_key",
    "pruned_heads": {"0": [1]},
    "quantization_config": {"bits": 4},
    "rope_scaling": {"type": "linear"},
    "tie_encoder_decoder": True,
}
OF_FAMILY = {
    "bert": {"directionality": "uni", "pooler_type": "mean", "embedding_size": 8},
    "roberta": {"is_encoder_decoder": True, "embedding_size": 8},
    "electra": {"position_embedding_type": "relative_key_query", "directionality": "uni"},
    "gpt2": {"is_encoder_decoder": True, "position_embedding_type": "rotary"},
    "t5": {"is_encoder_decoder": False, "is_gated_act": True, "dense_act_fn": "silu"},
    "bart": {
        "normalize_before": True,
        "add_final_layer_norm": True,
        "normalize_embedding": False,
        "static_position_embeddings": True,
        "extra_pos_embeddings": 0,
        "decoder_ffn_dim": 25,
        "decoder_attention_heads": 4,
    },
    "marian": {
        "share_encoder_decoder_embeddings": False,
        "decoder_vocab_size": 41,
        "normalize_embedding": True,
        "static_position_embeddings": False,
    },
    "vit": {"qkv_bias": False, "problem_type": "multi_label_classification"},
}
REFUSED = [
    (kind, name, value)
    for kind in FIELDS
    for name, value in {
        **(EVERYWHERE if kind in ("bert", "bart") else {}),
        **OF_FAMILY[kind],
    }.items()
]


@pytest.mark.parametrize(("kind", "name", "value"), REFUSED, ids=str)
def test_a_field_that_changes_the_model_is_refused_by_name(copy, kind, name, value):
    folder = copy(FOLDERS[kind])
    change(folder, **{name: value})
    refused(folder, re.escape(name))


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("bert", "BertForMultipleChoice"),
        ("bert", "BertLMHeadModel"),
        ("bert", "JinaBertModel"),
        ("roberta", "RobertaForCausalLM"),
        ("electra", "ElectraForMultipleChoice"),
        ("electra", "ElectraModel"),
        ("gpt2", "GPT2ForSequenceClassification"),
        ("t5", "T5ForSequenceClassification"),
        ("t5", "T5EncoderModel"),
        ("bart", "BartForSequenceClassification"),
        ("marian", "MarianForCausalLM"),
        ("vit", "ViTForMaskedImageModeling"),
    ],
)
def test_a_head_that_is_not_built_is_refused_by_name(copy, kind, architecture):
    folder = copy(FOLDERS[kind])
    change(folder, architectures=[architecture])
    refused(folder, architecture)


HARMLESS = {
    "_name_or_path": "x",
    "bos_token_id": 7,
    "chunk_size_feed_forward": 4,
    "classifier_dropout": 0.4,
    "do_sample": True,
    "gradient_checkpointing": True,
    "initializer_range": 0.5,
    "max_length": 99,
    "output_past": True,
    "adapters": {"adapters": {}, "config_map": {}},
    "language": "english",
    "name": "Roberta",
    "pruned_heads": {},
    "quantization_config": None,
    "task_specific_params": {"summarization": {"prefix": "x"}},
    "tokenizer_class": "BertTokenizer",
    "torch_dtype": "float16",
    "torchscript": True,
    "transformers_version": "1.0",
    "use_cache": False,
    "xla_device": True,
}


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_of_training_and_of_other_programs_change_nothing(copy, loaded, kind):
    folder = copy(FOLDERS[kind])
    change(folder, **HARMLESS)
    weights = from_hugging_face(folder).get_weights()
    own = loaded(FOLDERS[kind]).get_weights()
    assert all((a == b).all() for a, b in zip(weights, own, strict=True))


def test_values_are_told_apart_by_their_type():
    fields = Fields(understood={"a"}, harmless={"b"}, only={"c": Only((1, "x"), "changes it")})
    fields.check({"a": 5, "b": [5], "c": 1, "d": False, "e": None, "f": [], "g": "", "h": {}}, "F")
    fields.check({"c": "x"}, "F")
    for wrong in ({"c": True}, {"c": 2}, {"c": False}, {"d": 0}, {"d": True}, {"e": "x"}):
        (name,) = wrong
        with pytest.raises(InputError, match=f"^F says {name}="):
            fields.check(wrong, "F")
    joined = fields | Fields(only={"c": Only((2,), "changes it")})
    joined.check({"a": 5, "c": 2}, "F")


def test_several_ends_of_a_text_are_refused(copy):
    folder = copy("gpt2")
    change(folder, eos_token_id=[3, 4])
    refused(folder, r"eos_token_id=\[3, 4\]")
    change(folder, eos_token_id=[3])
    assert from_hugging_face(folder).config.end_id == 3
    assert (CHECKPOINTS / "gpt2").is_dir()
