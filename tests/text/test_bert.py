"""Tests of keras_transformer.text.bert and of the tables that it is built on.

Also: text.unicode, text.bert_learner, text.bert_characters, text.normalizing, text.joining.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fixtures_text import lite, saved
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_transformer.text import unicode
from keras_transformer.text.bert import BertTokenizer
from keras_transformer.text.joining import Joiner
from keras_transformer.text.normalizing import normalized, normalizer_model

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "bert_tokens.json").read_text("utf-8"))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CASES = [("uncased", True), ("cased", False)]


@pytest.fixture(scope="module")
def tokenizers():
    return {name: BertTokenizer(GOLDEN["vocabulary"], lower) for name, lower in CASES}


@pytest.fixture(scope="module")
def on_a_phone(tokenizers, tmp_path_factory):
    return lite(tokenizers["uncased"], tmp_path_factory.mktemp("bert"))


def pieces_of(tokenizer, *texts):
    rows = tokenizer.tokenize(tf.constant(texts, tf.string)).to_list()
    return [[tokenizer.vocabulary[i] for i in row] for row in rows]


# --- The ids of the reference ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_ids_are_those_of_the_reference(tokenizers, name):  # K11
    rows = tokenizers[name].tokenize(tf.constant(GOLDEN["texts"])).to_list()
    assert rows == GOLDEN[name]


def test_ids_are_those_of_the_reference_on_a_phone(on_a_phone):
    assert on_a_phone.tokenize(GOLDEN["texts"]) == GOLDEN["uncased"]
    alone = [on_a_phone.tokenize([text])[0] for text in GOLDEN["texts"]]
    assert alone == GOLDEN["uncased"]


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_every_character_does_what_it_does_in_the_reference(tokenizers, name):
    # Whether it is left out, splits words, is a word, loses its accents, or is unknown.
    texts = [f"a{chr(c)}b" for c in range(unicode.CODE_POINTS) if not 0xD800 <= c < 0xE000]
    ids = tokenizers[name].tokenize(tf.constant(texts))
    ends = ids.row_splits.numpy()[1:]
    marked = np.insert(ids.values.numpy(), ends, -1).astype("<i4")
    assert hashlib.sha256(marked.tobytes()).hexdigest() == GOLDEN[f"{name}_characters"]


@pytest.mark.parametrize("rules", GOLDEN["rules"])
def test_case_accents_and_chinese_characters_are_set_apart(rules):
    tokenizer = BertTokenizer(GOLDEN["vocabulary"], *(mark == "1" for mark in rules.split()))
    texts = [f"a{chr(c)}b" for c in range(0x3100)]
    texts += [f"a{chr(c)}b" for c in range(0x3100, 0x30000, 7) if not 0xD800 <= c < 0xE000]
    ids = tokenizer.tokenize(tf.constant([*GOLDEN["texts"], *texts]))
    marked = np.insert(ids.values.numpy(), ids.row_splits.numpy()[1:], -1).astype("<i4")
    assert hashlib.sha256(marked.tobytes()).hexdigest() == GOLDEN["rules"][rules]


def test_accents_stay_in_lower_case_if_they_are_to():
    tokenizer = BertTokenizer([*SPECIAL, "fur", "für", "猫", "##猫"], True, False, False)
    assert pieces_of(tokenizer, "Für", "猫猫") == [["für"], ["猫", "##猫"]]
    tokenizer = BertTokenizer([*SPECIAL, "Fur", "fur", "für"], False, True)
    assert pieces_of(tokenizer, "Für") == [["Fur"]]


def test_words_of_the_known_examples(tokenizers):
    uncased, cased = tokenizers["uncased"], tokenizers["cased"]
    assert pieces_of(uncased, "wörld, playing!") == [["wor", "##ld", ",", "play", "##ing", "!"]]
    assert pieces_of(cased, "wörld") == [["wörld"]]
    assert pieces_of(uncased, "I don't") == [["i", "don", "'", "t"]]
    assert pieces_of(uncased, "猫が好き") == [["猫", "か", "好", "[UNK]"]]
    assert pieces_of(uncased, "a\xadb", "a\u200bb", "a\0b") == [["a", "##b"]] * 3
    assert pieces_of(uncased, "a\u3000b", "a\u2028b") == [["a", "b"]] * 2


def test_text_never_gives_a_special_id_other_than_unknown(tokenizers):  # K11
    literal = " ".join(SPECIAL)
    for tokenizer in tokenizers.values():
        (ids,) = tokenizer.tokenize([literal]).to_list()
        assert not {0, 2, 3, 4} & set(ids)
    spelled = ["[", "s", "##e", "##p", "]"]
    assert pieces_of(tokenizers["uncased"], "[SEP]") == [spelled]


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f680"])
def test_a_word_of_more_than_a_hundred_characters_is_unknown(tokenizers, letter):
    letters = ["a", "é", "\U0001f680"]
    tokenizer = BertTokenizer([*SPECIAL, *letters, *("##" + c for c in letters)], lowercase=False)
    for count in (99, 100, 101, 102, 500):
        word = letter * count
        (before, *middle, after) = pieces_of(tokenizer, f"a {word} a")[0]
        assert (before, after) == ("a", "a")
        assert len(middle) == (count if count <= 100 else 1)
        assert (middle == ["[UNK]"]) is (count > 100)
    # Several in one batch, and beside words that are long in bytes only.
    texts = ["é" * 101, "a", "é" * 100 + " " + "é" * 101, "", "a " + "é" * 60]
    assert [len(row) for row in pieces_of(tokenizer, *texts)] == [1, 1, 101, 0, 61]


@pytest.mark.parametrize("text", [b"a\xff b", b"\xc3", b"\xed\xa0\x80 b", b"b \xf4\x90\x80\x80"])
def test_bytes_that_are_no_text_make_their_word_unknown(tokenizers, on_a_phone, text):
    expected = [["b" if word == b"b" else "[UNK]" for word in text.split()]]
    assert pieces_of(tokenizers["uncased"], text) == expected
    vocabulary = GOLDEN["vocabulary"]
    assert [[vocabulary[i] for i in row] for row in on_a_phone.tokenize([text])] == expected


# --- Back to text ---------------------------------------------------------------------------------


def test_pieces_are_joined_with_spaces_between_words(tokenizers, on_a_phone):
    tokenizer = tokenizers["uncased"]
    texts = ["Wörld, playing\tunplayable!", "猫が", "q[UNK]", ""]
    expected = ["world , playing unplayable !", "猫 か", "q [ unk ]", ""]
    rows = tokenizer.tokenize(texts)
    for ids in (rows, rows.to_tensor(default_value=tokenizer.padding_id)):
        assert [text.decode() for text in tokenizer.detokenize(ids).numpy()] == expected
    assert [text.decode() for text in on_a_phone.detokenize(rows.to_list())] == expected


def test_special_ids_are_left_out_and_wrong_ones_are_unknown(tokenizers, on_a_phone):
    tokenizer = tokenizers["uncased"]
    a = tokenizer.vocabulary.index("a")
    continued = tokenizer.vocabulary.index("##a")
    rows = [[2, a, continued, 3, 0, 0], [1, 4, a, -1, len(tokenizer), 2**31 - 1]]
    expected = [b"aa", b"[UNK] a [UNK] [UNK] [UNK]"]
    assert tokenizer.detokenize(tf.constant(rows)).numpy().tolist() == expected
    assert tokenizer.detokenize(tf.constant(rows, tf.int64)).numpy().tolist() == expected
    assert on_a_phone.detokenize(rows) == expected
    assert tokenizer.detokenize(tf.constant([[continued]])).numpy().tolist() == [b"##a"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_what_comes_back_is_cut_in_the_same_way(tokenizers, texts):
    tokenizer = tokenizers["uncased"]
    once = tokenizer.tokenize(tf.constant(texts, tf.string))
    known = [row for row in once.to_list() if tokenizer.unknown_id not in row]
    joined = tokenizer.detokenize(tf.ragged.constant(known, dtype=tf.int32, ragged_rank=1))
    again = tokenizer.tokenize(joined)
    assert again.to_list() == known


# --- In a graph -----------------------------------------------------------------------------------


def test_it_works_in_a_data_set_and_in_a_saved_model(tokenizers, tmp_path):
    tokenizer = tokenizers["uncased"]
    texts = GOLDEN["texts"][:64]
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(10).map(tokenizer.tokenize)
    assert [row for batch in batches for row in batch.to_list()] == GOLDEN["uncased"][:64]
    model = tf.saved_model.load(str(saved(tokenizer, tmp_path)))
    found = model.signatures["tokenize"](text=tf.constant(texts))
    rows = tf.RaggedTensor.from_tensor(found["ids"], lengths=found["counts"])
    assert rows.to_list() == GOLDEN["uncased"][:64]


# --- Vocabularies ---------------------------------------------------------------------------------


def test_special_tokens_are_found_by_name(tokenizers):  # K11
    tokenizer = BertTokenizer(["a", "[MASK]", "[SEP]", "[CLS]", "[UNK]", "[PAD]"])
    assert tokenizer.padding_id == 5 and tokenizer.unknown_id == 4
    assert (tokenizer.begin_id, tokenizer.end_id, tokenizer.mask_id) == (3, 2, 1)
    assert len(tokenizer) == 6
    assert tokenizer.tokenize(["a q a"]).to_list() == [[0, 4, 0]]


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ([], r"it has no \[PAD\]"),
        ([*SPECIAL[:2], *SPECIAL[3:], "a"], r"it has no \[CLS\]"),
        ([*SPECIAL, "a", "b", "a"], "pieces 5 and 7 are both 'a'"),
        ([*SPECIAL, ""], "piece 5 is ''"),
        ([*SPECIAL, "a\0"], r"piece 5 is 'a\\x00'"),
    ],
)
def test_wrong_vocabularies_are_refused(vocabulary, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        BertTokenizer(vocabulary)
    (tmp_path / "vocab.txt").write_text("".join(f"{p}\n" for p in vocabulary))
    with pytest.raises(ValueError, match=r"vocab\.txt is not a BERT vocabulary"):
        BertTokenizer.load(tmp_path / "vocab.txt")


def test_a_saved_vocabulary_keeps_its_ids(tokenizers, tmp_path):  # K11
    tokenizers["cased"].save(tmp_path / "vocab.txt")
    loaded = BertTokenizer.load(tmp_path / "vocab.txt", lowercase=False)
    assert loaded.vocabulary == GOLDEN["vocabulary"]
    assert loaded.tokenize(GOLDEN["texts"]).to_list() == GOLDEN["cased"]
    (tmp_path / "vocab.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"vocab\.txt is not a BERT vocabulary: .*utf-8"):
        BertTokenizer.load(tmp_path / "vocab.txt")


# --- The parts ------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.characters(exclude_categories=["Cs"]), st.text(max_size=15), max_size=30),
    st.text(),
)
def test_a_map_of_characters_replaces_each(mapping, text):
    strings = [b"", *(string.encode() for string in mapping.values())]
    choice = np.zeros(unicode.CODE_POINTS, np.int32)
    for i, character in enumerate(mapping):
        choice[ord(character)] = i + 1
    text = "".join(mapping) + text + "".join(mapping)[:3]
    made = normalized([text], normalizer_model(strings, choice))
    assert made.numpy()[0].decode() == "".join(mapping.get(c, c) for c in text)


def test_a_map_takes_strings_of_63_bytes_and_no_longer():
    choice = np.zeros(unicode.CODE_POINTS, np.int32)
    normalizer_model([b"", b"x" * 63], choice)
    with pytest.raises(ValueError, match="a string has 64 bytes; the most is 63"):
        normalizer_model([b"", b"x" * 64], choice)


def test_tables_hold_what_they_say():
    assert unicode.ranges("9-A D 20 10FFFF") == [(9, 10), (13, 13), (32, 32), (0x10FFFF, 0x10FFFF)]
    held = unicode.members("9-A D")
    assert np.flatnonzero(held).tolist() == [9, 10, 13]
    assert not (unicode.members(unicode.LETTERS) & unicode.members(unicode.NUMBERS)).any()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=5), st.booleans()), min_size=1, max_size=8),
    st.lists(st.lists(st.integers(-2, 9), max_size=6), min_size=1, max_size=4),
)
def test_pieces_are_joined_whatever_bytes_they_hold(pieces, rows):
    names = [name for name, _ in pieces]
    marks = [mark for _, mark in pieces]
    expected = []
    for row in rows:
        text = b""
        chosen = [i if 0 <= i < len(pieces) else 0 for i in row if i != 1]
        for place, i in enumerate(chosen):
            text += (b"" if marks[i] or not place else b" ") + names[i]
        expected.append(text)
    joiner = Joiner(names, marks, 0, [1])
    found = joiner.join(tf.ragged.constant(rows, dtype=tf.int32, ragged_rank=1)).numpy()
    assert found.tolist() == expected
