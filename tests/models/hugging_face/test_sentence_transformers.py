"""Tests of folders of sentence-transformers: modules in their order, prompts and lengths.

Also: models.hugging_face.pieces, text.prefix.
"""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from fixtures_checkpoints import CHECKPOINTS, copy, refused, rewrite, tensors_of
from fixtures_encoders import PIECES

from keras_transformer.errors import InputError
from keras_transformer.export import load
from keras_transformer.export.saved_model import export_saved_model
from keras_transformer.export.tflite.convert import TF_TEXT_OPS, convert
from keras_transformer.layers.caches import writing_slices
from keras_transformer.models import from_hugging_face
from keras_transformer.models.hugging_face.sentence_transformers import read_package
from keras_transformer.pipelines.sentence_embedder import SentenceEmbedder
from keras_transformer.text.prefix import prefixed
from keras_transformer.training.run.importing import import_checkpoint

__all__ = ["copy"]

NAME = "bert-sentences"
OLD, NEW = "sentence_transformers.models.", "sentence_transformers.sentence_transformer.modules."
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
FLAGS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
FLAGS = tuple(f"pooling_mode_{name}" for name in (*FLAGS, "lasttoken"))
REFERENCE = np.load(CHECKPOINTS / NAME / "reference.npz")
INPUTS = {name: REFERENCE[f"input_{name}"].astype("int32") for name in ("token_ids", "segment_ids")}
POOLED = dict(zip(MODES, np.split(REFERENCE["pooled"], len(MODES), axis=1), strict=True))


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def modules(folder, *named):
    """Write a list of modules: pairs of a type and a path."""
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (kind, path) in enumerate([(f"{OLD}Transformer", ""), *named])
    ]
    write(folder / "modules.json", entries)


def vectors(folder):
    return np.array(from_hugging_face(folder)(INPUTS, training=False))


SPELLINGS = {
    **{mode: ({"pooling_mode": mode, "embedding_dimension": 16}, [mode]) for mode in MODES},
    **{
        flag: ({**dict.fromkeys(FLAGS, False), flag: True, "word_embedding_dimension": 16}, [mode])
        for flag, mode in zip(FLAGS, MODES, strict=True)
    },
    "list": ({"pooling_mode": ["max", "cls"]}, ["max", "cls"]),
    "plus": ({"pooling_mode": "mean+max"}, ["mean", "max"]),
    "flags": ({FLAGS[2]: True, FLAGS[0]: True}, ["cls", "mean"]),  # in the order of old versions
    "both": ({"pooling_mode": "max", FLAGS[0]: True}, ["max"]),
    "nothing": ({"word_embedding_dimension": 16}, ["mean"]),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_pooling_in_every_spelling(copy, spelling):
    folder = copy(NAME)
    fields, kinds = SPELLINGS[spelling]
    write(folder / "Own name" / "config.json", {**fields, "include_prompt": True})
    modules(folder, (f"{NEW}pooling.Pooling", "Own name"))
    wanted = np.concatenate([POOLED[kind] for kind in kinds], axis=1)
    np.testing.assert_allclose(vectors(folder), wanted, atol=1e-5)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


DENSE, NORM, DROP = (f"{OLD}{name}" for name in ("Dense", "Normalize", "Dropout"))
ORDERS = {
    "nothing": ([], lambda x, dense: x),
    "norm": ([(NORM, "2")], lambda x, dense: unit(x)),
    "dense": ([(DENSE, "3_Dense")], lambda x, dense: dense(x)),
    "norm, dense": ([(NORM, "2"), (DENSE, "3_Dense")], lambda x, dense: dense(unit(x))),
    "dense, norm": ([(DENSE, "3_Dense"), (NORM, "2")], lambda x, dense: unit(dense(x))),
    "dropout": ([(DROP, "4"), (NORM, "2")], lambda x, dense: unit(x)),
}
ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": np.tanh,
    "torch.nn.modules.linear.Identity": lambda x: x,
    "torch.nn.modules.activation.ReLU": lambda x: np.maximum(x, 0),
    "torch.nn.modules.activation.GELU": lambda x: tf.nn.gelu(x).numpy(),
    None: lambda x: x,
}


@pytest.mark.parametrize("order", ORDERS)
def test_modules_are_taken_in_their_order(copy, order):
    folder = copy(NAME)
    some, compute = ORDERS[order]
    modules(folder, (f"{OLD}Pooling", "1_Pooling"), *some)
    kernel, bias = (tensors_of(folder / "3_Dense")[f"linear.{n}"] for n in ("weight", "bias"))
    wanted = compute(REFERENCE["pooled"], lambda x: np.tanh(x @ kernel.T + bias))
    np.testing.assert_allclose(vectors(folder), wanted, atol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_layer_has_its_activation(copy, activation, bias):
    folder = copy(NAME)
    modules(folder, (f"{OLD}Pooling", "1_Pooling"), (DENSE, "3_Dense"))
    tensors = tensors_of(folder / "3_Dense")
    if not bias:
        del tensors["linear.bias"]
        rewrite(folder / "3_Dense", tensors)
    fields = {"in_features": 96, "out_features": 8, "bias": bias}
    write(folder / "3_Dense" / "config.json", {**fields, "activation_function": activation})
    hidden = REFERENCE["pooled"] @ tensors["linear.weight"].T + tensors.get("linear.bias", 0)
    np.testing.assert_allclose(vectors(folder), ACTIVATIONS[activation](hidden), atol=1e-4)


def test_the_encoder_may_have_a_folder_of_its_own(copy, tmp_path):
    folder = copy(NAME)
    there = folder / "0_BERT"
    there.mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json"):
        shutil.move(folder / name, there / name)
    write(folder / "config.json", {"__version__": "0.2.5"})
    entries = json.loads((folder / "modules.json").read_text())
    entries[0] |= {"path": "0_BERT", "type": f"{OLD}BERT"}
    write(folder / "modules.json", entries[::-1])  # the numbers count
    np.testing.assert_allclose(vectors(folder), REFERENCE["output_logits"], atol=1e-5)
    (there / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    assert import_checkpoint(folder, tmp_path / "run").task_settings().task == "embedding"


def test_other_heads_leave_the_modules_out(copy):
    folder = copy(NAME)
    found = np.array(from_hugging_face(folder, "Bert")(INPUTS, training=False)["sequence"])
    np.testing.assert_allclose(found[:, 0], POOLED["cls"], atol=1e-5)


def test_a_sentence_encoder_of_another_family_is_refused(tmp_path):
    folder = shutil.copytree(CHECKPOINTS / "gpt2", tmp_path / "gpt2")
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "lasttoken"})
    modules(folder, (f"{OLD}Pooling", "1_Pooling"))
    refused(folder, "sentence encoder of the type 'gpt2'")


@pytest.mark.parametrize(
    "kind",
    [
        *(f"{OLD}{name}" for name in ("WordEmbeddings", "CNN", "LSTM", "WeightedLayerPooling")),
        f"{NEW}layer_norm.LayerNorm",
        "sentence_transformers.base.modules.router.Router",
        "sentence_transformers.sparse_encoder.modules.SpladePooling",
        "custom_code.Pooling",
        "Pooling",
        None,
    ],
)
def test_a_module_that_is_not_built_is_refused_by_name(copy, kind):
    folder = copy(NAME)
    modules(folder, (f"{OLD}Pooling", "1_Pooling"), (kind, "2"))
    refused(folder, re.escape(f"a module of the type {str(kind)!r}"))


FIELDS = [
    ("1_Pooling", {"pooling_mode": "median"}, "pooling_mode='median'"),
    ("1_Pooling", {"pooling_mode": []}, r"pooling_mode=\[\]"),
    ("1_Pooling", {"embedding_dimension": 20}, "pools vectors of 20"),
    ("1_Pooling", {"include_prompt": False}, "include_prompt=False.*passage, query"),
    ("1_Pooling", {"other": 3}, "other=3"),
    ("2_Normalize", {"module_input_name": "token_embeddings"}, "module_input_name"),
    ("3_Dense", {"use_residual": True}, "use_residual=True"),
    ("3_Dense", {"module_output_name": "other"}, "module_output_name"),
    ("3_Dense", {"activation_function": "os.system"}, "the activation 'os.system'"),
    ("3_Dense", {"activation_function": "torch.nn.modules.activation.Threshold"}, "Threshold"),
    ("3_Dense", {"activation_function": "builtins.Tanh"}, "'builtins.Tanh'"),
    ("3_Dense", {"bias": False}, "bias=False, but its weights"),
    ("3_Dense", {"out_features": 9}, r"dense_1\.linear\.weight has shape"),
    ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
    ("sentence_bert_config.json", {"query_length": 32}, "query_length=32"),
    ("sentence_bert_config.json", {"modality_config": {"text": {"method": "x"}}}, "'method': 'x'"),
    ("sentence_bert_config.json", {"max_seq_length": 1}, "allows 1 tokens"),
    ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "'SparseEncoder'"),
    ("config_sentence_transformers.json", {"truncate_dim": 4}, "truncate_dim=4"),
    ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "no such prompt"),
    ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "texts by name"),
]


@pytest.mark.parametrize(("place", "fields", "message"), FIELDS, ids=str)
def test_a_field_that_is_not_built_is_refused_by_name(copy, place, fields, message):
    folder = copy(NAME)
    path = folder / place if place.endswith("json") else folder / place / "config.json"
    write(path, {**json.loads(path.read_text("utf-8")), **fields})
    refused(folder, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "modules.json is damaged"),
        ("[]", "holds no list"),
        ("{}", "holds no list"),
        ("[1]", "without a path"),
        (json.dumps([{"path": "..", "type": f"{OLD}Transformer"}]), "outside of its own: '..'"),
        (json.dumps([{"path": "", "type": f"{OLD}Pooling"}]), "begin with its only Transformer"),
        (json.dumps([{"path": "", "type": f"{OLD}Transformer"}]), "needs one Pooling"),
        (json.dumps([{"path": "", "type": f"{OLD}Transformer", "kwargs": ["x"]}]), "kwargs="),
    ],
)
def test_a_damaged_list_of_modules_is_named(copy, content, message):
    folder = copy(NAME)
    (folder / "modules.json").write_text(content)
    refused(folder, message)


# --- Text -----------------------------------------------------------------------------------------


@pytest.fixture
def sentences(copy):
    folder = copy(NAME)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    return folder


TEXTS = ["c d e", "", "bed"]


def test_a_prompt_stands_before_each_text(sentences, tmp_path):
    run = import_checkpoint(sentences, tmp_path / "run", prompt="passage")
    servable = run.servable()
    plain = SentenceEmbedder(servable.model, servable.tokenizer, 10)
    found = servable.call("serving_default", text=TEXTS)["embedding"]
    by_hand = [f"c {one}" for one in TEXTS]
    wanted = plain.call("serving_default", text=by_hand)["embedding"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    without = plain.call("serving_default", text=TEXTS)["embedding"]
    assert np.abs(found - without).max() > 1e-3
    ids = servable.call("tokenize", text=TEXTS)["ids"]
    assert ids.tolist() == plain.call("tokenize", text=by_hand)["ids"].tolist()
    assert servable.max_length == 10
    assert servable.prompts == {"query": "a b ", "passage": "c "}


def test_prompts_and_poolings_are_in_the_tflite_too(sentences, tmp_path):
    servable = import_checkpoint(sentences, tmp_path / "run").servable()
    file = servable.lite_files[""]
    with writing_slices():
        export_saved_model(servable, tmp_path / "graph", file.signatures)
    ops = file.custom_ops | TF_TEXT_OPS
    content = convert(tmp_path / "graph", file.signatures, ops, "float32")
    (tmp_path / "model.tflite").write_bytes(content)
    lite = load(tmp_path / "model.tflite")
    for texts in (TEXTS, TEXTS[:1], ["a b c d e f g h i j a b c", "größe", ""]):
        found = lite.call("serving_default", text=np.array(texts, object))["embedding"]
        wanted = servable.call("serving_default", text=texts)["embedding"]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_prompt_is_chosen_by_its_name(sentences, tmp_path):
    prompts = {"query": "a b ", "passage": "c "}
    for name, wanted in ((None, {"prompt": "a b "}), ("", {})):
        head = import_checkpoint(
            sentences, tmp_path / "run", None, True, prompt=name
        ).task_settings()
        assert {k: head.settings[k] for k in head.settings if "prompt" in k} == {
            **wanted,
            "prompts": prompts,
        }
    with pytest.raises(InputError, match="no prompt 'other'; the checkpoint has passage, query"):
        import_checkpoint(sentences, tmp_path / "other", prompt="other")


def test_a_classifier_has_no_prompts(tmp_path):
    folder = CHECKPOINTS / "bert-classifier"
    with pytest.raises(InputError, match="is not a sentence encoder"):
        import_checkpoint(folder, tmp_path / "run", prompt="query")


@pytest.mark.parametrize("text", ["größe: ", "x", "\0 \n"])
def test_texts_are_joined_byte_by_byte(text):
    texts = ["", "a", "déjà vu\0", "", "\xff"]
    assert prefixed(tf.constant(texts), text).numpy().tolist() == [
        f"{text}{one}".encode() for one in texts
    ]
    assert prefixed(tf.constant([], tf.string), text).shape == (0,)


@pytest.mark.parametrize(
    ("own", "tokenizer", "wanted"),
    [
        ({"max_seq_length": 7}, {"model_max_length": 9}, 7),
        ({"max_seq_length": None}, {"model_max_length": 9}, 9),
        ({}, {"model_max_length": 9}, 9),
        ({}, {"model_max_length": 1e30}, None),
        ({}, {}, None),
        (None, {"model_max_length": 8}, 8),
    ],
    ids=str,
)
def test_the_greatest_length_is_found(sentences, own, tokenizer, wanted):
    path = sentences / "sentence_bert_config.json"
    path.unlink()
    if own is not None:
        write(path, own)
    write(sentences / "tokenizer_config.json", tokenizer)
    assert read_package(sentences).max_length == wanted
