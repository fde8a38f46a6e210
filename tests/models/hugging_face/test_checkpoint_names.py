"""Tests of models.hugging_face: what tensors are called, and tables that are there twice."""

import numpy as np
import pytest
from fixtures_checkpoints import change, copy, loaded, refused, rewrite, tensors_of

from keras_transformer.errors import InputError
from keras_transformer.models import from_hugging_face

__all__ = ["copy", "loaded"]

BASES = {
    "bert-masked-lm": "bert.",
    "roberta-classifier": "roberta.",
    "electra-classifier": "electra.",
    "gpt2": "transformer.",
    "gpt2-untied": "transformer.",
    "t5-v1.1": "",
    "bart": "model.",
    "marian": "model.",
    "vit": "vit.",
}


def renamed(folder, change_name):
    rewrite(folder, {change_name(name): x for name, x in tensors_of(folder).items()})


def assert_same(folder, model):
    found = from_hugging_face(folder)
    for ours, theirs in zip(model.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


WRAPPED = [(name, "without") for name in BASES if BASES[name]]
WRAPPED += [
    (name, "module.") for name in ("bert-masked-lm", "gpt2-untied", "t5-v1.1", "bart", "vit")
]


@pytest.mark.parametrize(("name", "wrapper"), WRAPPED)
def test_names_may_have_another_prefix_or_none(copy, loaded, name, wrapper):
    folder = copy(name)
    if wrapper == "without":
        renamed(folder, lambda key: key.removeprefix(BASES[name]))
    else:
        renamed(folder, lambda key: f"{wrapper}{key}")
    assert_same(folder, loaded(name))


@pytest.mark.parametrize("name", ["bert-masked-lm", "electra", "vit"])
def test_norms_may_have_the_names_of_before(copy, loaded, name):
    folder = copy(name)

    def old(key):
        if "norm" not in key.lower():
            return key
        return key.replace(".weight", ".gamma").replace(".bias", ".beta")

    renamed(folder, old)
    assert any(key.endswith("gamma") for key in tensors_of(folder))
    assert_same(folder, loaded(name))
    tensors = tensors_of(folder)
    gamma = next(key for key in tensors if key.endswith(".gamma"))
    rewrite(folder, {**tensors, gamma.replace("gamma", "weight"): tensors[gamma]})
    refused(folder, "under two names")


TABLES = {  # a table for logits, and the one that it may be a copy of
    "bert-masked-lm": ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    "roberta-masked-lm": ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
    "gpt2": ("lm_head.weight", "transformer.wte.weight"),
    "bart": ("lm_head.weight", "model.shared.weight"),
    "marian": ("model.decoder.embed_tokens.weight", "model.shared.weight"),
    "t5": ("decoder.embed_tokens.weight", "shared.weight"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_copy_of_a_table_is_left_out_and_another_one_is_kept(copy, loaded, name):
    folder = copy(name)
    twin, table = TABLES[name]
    tensors = tensors_of(folder)
    rewrite(folder, {**tensors, twin: tensors[table]})
    assert_same(folder, loaded(name))
    rewrite(folder, {**tensors, twin: tensors[table] + np.float16(1)})
    model = from_hugging_face(folder)
    assert not model.config.tie_embeddings
    more = model.count_params() - loaded(name).count_params()
    assert more == tensors[table].size * (1 if name.endswith(("lm", "gpt2")) else 2)


@pytest.mark.parametrize("name", ["bert-masked-lm", "roberta-masked-lm", "gpt2", "bart", "t5-v1.1"])
def test_a_table_that_is_said_to_be_there_is_missed(copy, name):
    folder = copy(name)
    change(folder, tie_word_embeddings=False)
    rewrite(folder, {k: v for k, v in tensors_of(folder).items() if k != "lm_head.weight"})
    assert "missing: " in refused(folder, "decoder.weight|lm_head.weight")


def test_the_bias_that_is_used_is_taken(copy):
    folder = copy("bert-masked-lm")
    tensors = tensors_of(folder)
    bias = tensors["cls.predictions.bias"]
    rewrite(folder, {**tensors, "cls.predictions.decoder.bias": bias + np.float16(1)})
    found = from_hugging_face(folder).get_layer("logits_bias").get_weights()[0]
    np.testing.assert_array_equal(found, bias + np.float16(1))


@pytest.mark.parametrize("head", [None, "Bert", "SequenceClassifier", "SentenceEncoder"])
def test_a_tensor_that_nobody_knows_is_never_dropped(copy, head):
    folder = copy("bert-masked-lm")
    rewrite(folder, {**tensors_of(folder), "adapter.0.weight": np.zeros(3, "float32")})
    with pytest.raises(InputError, match=r"left over: adapter\.0\.weight"):
        from_hugging_face(folder, head=head)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("bert-classifier", "classifier.weight"),
        ("bert-classifier", "bert.pooler.dense.weight"),
        ("electra-classifier", "classifier.dense.weight"),
        ("roberta-classifier", "classifier.out_proj.bias"),
        ("bert-answers", "qa_outputs.weight"),
        ("bert-masked-lm", "cls.predictions.transform.dense.weight"),
        ("vit", "classifier.bias"),
    ],
)
def test_a_head_that_the_file_is_said_to_have_has_to_be_there(copy, name, tensor):
    folder = copy(name)
    rewrite(folder, {k: v for k, v in tensors_of(folder).items() if k != tensor})
    refused(folder, f"missing: .*{tensor}")


def test_positions_of_roberta_begin_behind_its_padding(copy, loaded):
    folder = copy("roberta-masked-lm")
    change(folder, pad_token_id=0)
    longer = from_hugging_face(folder)
    assert longer.config.max_length == loaded("roberta-masked-lm").config.max_length + 1
    positions = "roberta.embeddings.position_embeddings.weight"
    np.testing.assert_array_equal(
        longer.get_layer("positions").get_weights()[0], tensors_of(folder)[positions][1:]
    )
