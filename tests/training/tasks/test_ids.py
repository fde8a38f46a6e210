"""What a model is trained on is what it is asked with: equal ids, for every task with text.

Also: training.data.parallel_text.
"""

import numpy as np
import pytest
import tensorflow as tf
from fixtures_servables import CASES, LABELS, PIECES, make_config, settings_of

from keras_transformer.pipelines.tasks import TASKS, find_task, make_model, make_servable
from keras_transformer.text import BertTokenizer, WordPieceTokenizer
from keras_transformer.training.config import TrainingConfig
from keras_transformer.training.tasks.registry import find_training

LONG = "two men . " * 9  # longer than the model reads
TEXTS = ["two men.", "a b c", "bad  men . "]
COLUMNS = {
    "translation": ("source", "target"),
    "summarisation": ("document", "summary"),
    "classification": ("text", "label"),
    "token-classification": ("words", "labels"),
    "masked-lm": ("text",),
    "question-answering": ("question", "passage", "first", "last"),
    "causal-lm": ("text",),
}
# A model may begin its sources, and may have other special ids than this package's.
VARIANTS = {"plain": {}, "begun": {"source_begin_id": 2}, "other ids": {"begin_id": 4, "end_id": 2}}
BERT_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES[5:]]
WITHOUT_TRAINING = {"embedding"}
WITHOUT_TEXT = {"image-classification"}


def columns_of(task, texts):
    """Return the columns of examples that are made of texts."""
    of_label = [LABELS[0]] * len(texts)
    made = {
        "label": of_label,
        "labels": [" ".join(LABELS[:1] * len(text.split())) for text in texts],
        "question": ["who", *texts[1:]],
        "first": ["0"] * len(texts),
        "last": ["0"] * len(texts),
    }
    names = COLUMNS[task]
    return {name: tf.constant(made.get(name, texts)) for name in names}


def make_both(task, variant="plain", tokenizer=None):
    """Return the training of a task and what answers, of the same model."""
    config = make_config(task)
    if VARIANTS[variant]:
        config = type(config)(**{**config.__dict__, **VARIANTS[variant]})
    tokenizer, settings = tokenizer or WordPieceTokenizer(PIECES), settings_of(task)
    model = make_model(config, settings)
    fields = TrainingConfig("s", "t", "vs", "vt", 9, 0.1, 2, max_length=16, batch_tokens=64)
    training = find_training(task)(config, settings, fields, tokenizer)
    return training, make_servable(model, tokenizer, settings)


def rows(ids, padding):
    """Return rows without their padding."""
    ids = ids.to_tensor(padding) if isinstance(ids, tf.RaggedTensor) else ids
    return [[int(x) for x in row if x != padding] for row in np.array(ids)]


def asked(servable, monkeypatch, method, *texts):
    """Return the inputs that the model gets when texts are read."""
    seen = []

    def run_model(token_ids, segment_ids=None, **more):
        seen.append((token_ids, segment_ids))
        return type(servable).run_model(servable, token_ids, segment_ids, **more)

    monkeypatch.setattr(servable, "run_model", run_model)
    getattr(servable, method)(*texts)
    return seen[0]


def test_every_task_is_here():
    assert set(COLUMNS) | WITHOUT_TRAINING | WITHOUT_TEXT == {task.name for task in TASKS.values()}
    assert set(CASES) - {"translation, samples"} <= set(COLUMNS) | WITHOUT_TRAINING | WITHOUT_TEXT
    assert all(find_task(task).has_text for task in COLUMNS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", ["translation", "summarisation"])
def test_sources_and_targets(task, variant):
    training, servable = make_both(task, variant)
    inputs, labels = training.featurize(columns_of(task, TEXTS))
    text, padding = tf.constant(TEXTS), training.model.padding_id
    source, target = servable._pair(text, text)
    assert rows(inputs["source_ids"], padding) == rows(source, padding)
    assert rows(labels, padding) == rows(target, padding)
    assert rows(inputs["target_ids"], padding) == rows(servable._begun(text), padding)
    begin = [] if training.model.source_begin_id is None else [training.model.source_begin_id]
    assert rows(source, padding)[1] == [
        *begin,
        *training.tokenizer.tokenize(TEXTS).to_list()[1],
        training.model.end_id,
    ]


@pytest.mark.parametrize("kind", ["wordpiece", "bert"])
@pytest.mark.parametrize("task", ["classification", "token-classification", "masked-lm"])
def test_texts_of_encoders(task, kind, monkeypatch):
    tokenizer = BertTokenizer(BERT_PIECES) if kind == "bert" else None
    training, servable = make_both(task, tokenizer=tokenizer)
    texts = [*TEXTS, LONG]  # cut alike
    inputs, _ = training.featurize(columns_of(task, texts))
    token_ids, segment_ids = asked(servable, monkeypatch, "read_text", tf.constant(texts))
    assert segment_ids is None  # all zeros
    padding = training.model.padding_id
    trained = rows(inputs["token_ids"], padding)
    assert trained == rows(token_ids, padding)
    assert [len(row) for row in trained][-1] == 16
    assert not np.any(inputs["segment_ids"].values)


def test_questions_and_passages(monkeypatch):
    training, servable = make_both("question-answering")
    columns = columns_of("question-answering", TEXTS)
    inputs, _ = training.featurize(columns)
    texts = columns["question"], columns["passage"]
    token_ids, segment_ids = asked(servable, monkeypatch, "answer_question", *texts)
    padding = training.model.padding_id
    assert rows(inputs["token_ids"], padding) == rows(token_ids, padding)
    ends = np.cumsum(np.array(segment_ids), axis=1)[:, -1]
    assert [sum(row) for row in inputs["segment_ids"].to_list()] == ends.tolist()


def test_running_text(tmp_path):
    training, servable = make_both("causal-lm")
    (tmp_path / "a.txt").write_text("two men.\n")
    object.__setattr__(training.config, "data", str(tmp_path / "a.txt"))
    stream = training.stream("training")
    prompt = rows(servable._framed(servable._pieces(tf.constant(["two men."]))), 0)[0]
    assert np.array(stream.ids)[: len(prompt)].tolist() == prompt


@pytest.mark.parametrize("task", [task for task in COLUMNS if task != "causal-lm"])
def test_text_without_pieces_is_left_out(task):
    training, _ = make_both(task, tokenizer=BertTokenizer(BERT_PIECES))
    columns = columns_of(task, ["two men", "two men"])
    name = "question" if task == "question-answering" else COLUMNS[task][0]
    columns[name] = tf.constant(["two men", "\x00\x01"])  # not blank; the tokeniser leaves it out
    inputs, _ = training.featurize(columns)
    lengths = [inputs[name].row_lengths().numpy() for name in training.length_of]
    pieces = training.tokenizer.tokenize(columns[name]).row_lengths().numpy()
    assert pieces[0] > 0 and pieces[1] == 0
    assert (np.min(lengths, axis=0) > 0).tolist() == [True, False]
