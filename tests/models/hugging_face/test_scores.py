"""Tests of what classifiers' logits become: one label of several, several labels, a number."""

import json
import shutil

import numpy as np
import pytest
from fixtures_checkpoints import CHECKPOINTS, change, rewrite, tensors_of
from fixtures_encoders import PIECES

from keras_transformer.errors import InputError
from keras_transformer.models import BertConfig, SequenceClassifier
from keras_transformer.models.hugging_face import read_checkpoint
from keras_transformer.models.hugging_face.scores import scores_of
from keras_transformer.pipelines.tasks import TaskSettings
from keras_transformer.pipelines.text_classifier import TextClassifier
from keras_transformer.text import BertTokenizer
from keras_transformer.training.new_run import _Start
from keras_transformer.training.run.importing import import_checkpoint

TEXTS = ["a cab", "", "bed, fig. j"]
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path):
    there = tmp_path / "there"
    shutil.copytree(CHECKPOINTS / "bert-classifier", there)
    (there / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    return there


def with_labels(folder, count):
    """Leave the classifier so many labels."""
    tensors = tensors_of(folder)
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = np.ascontiguousarray(tensors[name][:count])
    rewrite(folder, tensors)
    change(folder, id2label={str(i): f"label {i}" for i in range(count)})


def logits_of(servable, texts):
    rows = [servable.tokenizer.tokenize([text]).to_list()[0] for text in texts]
    found = []
    for row in rows:
        ids = np.array([[2, *row, 3]], "int32")
        inputs = {"token_ids": ids, "segment_ids": np.zeros_like(ids)}
        found.append(np.array(servable.model(inputs, training=False))[0])
    return np.array(found)


SAID = [
    (3, {}, None),
    (3, {"problem_type": "single_label_classification"}, None),
    (3, {"problem_type": "multi_label_classification"}, "sigmoid"),
    (3, {"problem_type": "regression"}, "none"),
    (3, {"sentence_transformers": {"activation_fn": IDENTITY, "version": "4"}}, None),
    (3, {"sentence_transformers": {"activation_fn": SIGMOID}}, "sigmoid"),
    (1, {}, None),
    (1, {"problem_type": "single_label_classification"}, None),
    (1, {"problem_type": "multi_label_classification"}, "sigmoid"),
    (1, {"problem_type": "regression"}, "none"),
    (1, {"sbert_ce_default_activation_function": IDENTITY}, "none"),
    (1, {"sbert_ce_default_activation_function": SIGMOID}, "sigmoid"),
    (1, {"sentence_transformers": {"activation_fn": IDENTITY}}, "none"),
]


@pytest.mark.parametrize(("count", "fields", "scores"), SAID, ids=str)
def test_files_say_what_logits_become(count, fields, scores):
    assert scores_of(fields, None, count) == scores


@pytest.mark.parametrize(
    ("count", "problem", "become"),
    [
        (3, None, softmax),
        (3, "multi_label_classification", sigmoid),
        (1, None, sigmoid),
        (1, "regression", lambda x: x),
    ],
    ids=["one of several", "several", "score", "number"],
)
def test_logits_become_what_the_file_says(folder, tmp_path, count, problem, become):
    with_labels(folder, count)
    change(folder, problem_type=problem)
    servable = import_checkpoint(folder, tmp_path / "run").servable()
    logits = logits_of(servable, TEXTS)
    found = servable.call("serving_default", text=TEXTS)
    np.testing.assert_allclose(found["probabilities"], become(logits), atol=1e-5)
    np.testing.assert_allclose(found["probability"], become(logits).max(axis=1), atol=1e-5)
    assert found["label"].tolist() == [b"label %d" % i for i in logits.argmax(axis=1)]
    assert ("score" in found) == (count == 1)
    if count == 1:
        np.testing.assert_allclose(found["score"], become(logits)[:, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["bert-classifier", "roberta-classifier"])
def test_pairs_of_texts_are_scored_as_the_encoder_reads_them(folder, name):
    with_labels(folder, 1)
    model = read_checkpoint(folder).model
    if name.startswith("roberta"):  # one segment, and two ends between the texts
        fields = {**model.config.to_dict(), "num_segments": 1}
        model = SequenceClassifier(fields, num_labels=1)
    tokenizer = BertTokenizer.load(folder / "vocab.txt")
    servable = TextClassifier(model, tokenizer, ["fits"], pairs=True)
    firsts = ["a cab", "b", "a b c d e f g h i", "a b c d e f"]
    seconds = ["bed", "a b c d e f g h i j a b", "j i h g f e", "j i h g f e d c b a"]
    found = servable.call("pair", text=firsts, text_pair=seconds)
    ids = {piece: i for i, piece in enumerate(PIECES)}
    ends = ["[SEP]"] if name.startswith("bert") else ["[SEP]", "[SEP]"]
    room = 11 - len(ends) - 1  # of 12 tokens
    down = "jihgfedcba"  # of two that are too long the longer has one more, if one is left over
    half, rest = room // 2, room - room // 2
    rows = [
        (["a", "cab"], ["b", "##e", "##d"]),
        (["b"], [*"abcdefghij"][: room - 1]),
        ([*"abcdefghi"][:rest], [*down][:half]),
        ([*"abcdef"][:half], [*down][:rest]),
    ]
    for score, (first, second) in zip(found["score"], rows, strict=True):
        row = ["[CLS]", *first, *ends, *second, "[SEP]"]
        inputs = {"token_ids": np.array([[ids[piece] for piece in row]], "int32")}
        if name.startswith("bert"):
            begins = len(first) + 2
            inputs["segment_ids"] = np.array([[i >= begins for i in range(len(row))]], "int32")
        logit = np.array(model(inputs, training=False))[0, 0]
        np.testing.assert_allclose(score, sigmoid(logit), atol=1e-5)


def test_a_cross_encoder_of_sentence_transformers_is_a_classifier_of_pairs(folder, tmp_path):
    with_labels(folder, 1)
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    entries = [{"idx": 0, "name": "0", "path": "", "type": kind}]
    (folder / "modules.json").write_text(json.dumps(entries))
    package = {"model_type": "CrossEncoder", "activation_fn": IDENTITY, "prompts": {}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(package))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 8}')
    head = import_checkpoint(folder, tmp_path / "run").task_settings()
    assert (head.task, head.max_length) == ("classification", 8)
    assert head.settings == {"scores": "none", "pairs": True}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"problem_type": "ranking"}, "problem_type='ranking'"),
        ({"sentence_transformers": {"activation_fn": "os.system"}}, "'os.system'"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}},
            "others by .*Tanh.* is not supported",
        ),
        ({"sentence_transformers": {"other": 1}}, "other=1"),
        ({"id2label": {"0": "a", "1": "b"}}, "2 names in id2label, 3 rows of the classifier"),
        ({"num_labels": 5}, "3 names in id2label, 5 num_labels"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "1, 2, 3, not from 0 on"),
    ],
    ids=str,
)
def test_what_contradicts_itself_or_is_unknown_is_refused(folder, tmp_path, fields, message):
    change(folder, **fields)
    with pytest.raises(InputError, match=message):
        import_checkpoint(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fields", [{}, {"num_labels": 3}, {"id2label": None}], ids=str)
def test_labels_without_names_have_numbers(folder, tmp_path, fields):
    change(folder, remove=["id2label", "label2id"], **fields)
    if "id2label" in fields:
        change(folder, id2label=None)
    assert import_checkpoint(folder, tmp_path / "run").task_settings().labels == ("0", "1", "2")


def test_scores_that_there_are_not_are_refused(folder):
    checkpoint = read_checkpoint(folder)
    tokenizer = BertTokenizer.load(folder / "vocab.txt")
    with pytest.raises(InputError, match="scores must be one of softmax, sigmoid, none"):
        TextClassifier(checkpoint.model, tokenizer, ["a", "b", "c"], scores="tanh")


def test_a_single_number_is_learned_as_any_logits_are():
    tiny = {"num_layers": 1, "num_heads": 2, "d_model": 8, "d_ff": 8}
    model = SequenceClassifier(BertConfig(vocabulary_size=12, **tiny), num_labels=1)
    assert model.output.shape == (None, 1)
    with pytest.raises(InputError, match="num_labels must be at least 1, got 0"):
        SequenceClassifier(BertConfig(vocabulary_size=12, **tiny), num_labels=0)


def test_training_goes_on_with_one_label_of_several():
    settings = {"pooling": "mean", "scores": "sigmoid", "pairs": True}
    head = TaskSettings("classification", ("a", "b"), settings)
    start = _Start(None, None, None, head)  # type: ignore[arg-type]
    assert start.settings_for("classification") == {"pooling": "mean"}
