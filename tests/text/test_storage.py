"""Tests of keras_transformer.text.storage, and of what all tokenisers have in common.

Also: text.tokenizer, text.spacing, text.batches.
"""

import json

import pytest
import tensorflow as tf
from fixtures_published import SENTENCEPIECE as MODEL
from fixtures_text import lite

from keras_transformer.text import (
    SPECIAL_TOKENS,
    BertTokenizer,
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    learn_byte_pairs,
    learn_characters,
    learn_vocabulary,
    learn_words,
    load_tokenizer,
    save_tokenizer,
)
from keras_transformer.text.added_tokens import AddedToken
from keras_transformer.text.spacing import Spacing

LINES = ["the cat sat on the mat", "the cats sat", "猫 é the"]
WITH_MASK = (*SPECIAL_TOKENS, "[MASK]")


def bert(lowercase):
    letters = sorted(set("".join(LINES)) - {" "})
    pieces = [*letters, *("##" + c for c in letters), "The"]
    return BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces], lowercase)


MAKERS = {
    "wordpiece": lambda: WordPieceTokenizer(learn_vocabulary(LINES, 60)),
    "wordpiece with a mask": lambda: WordPieceTokenizer(
        learn_vocabulary(LINES, 60, special_tokens=WITH_MASK)
    ),
    "bert": lambda: bert(True),
    "cased bert": lambda: bert(False),
    "bert with settings": lambda: BertTokenizer(
        ["<p>", "[UNK]", "<s>", "</s>", *"thecaonms", *(f"##{c}" for c in "thecaonms"), "the cat"],
        True,
        False,
        False,
        {"padding": "<p>", "unknown": "[UNK]", "begin": "<s>", "end": "</s>"},
        [AddedToken("the cat", normalized=True, rstrip=True)],
    ),
    "byte pairs": lambda: BytePairTokenizer(*learn_byte_pairs(LINES, 270)),
    "byte pairs with names": lambda: BytePairTokenizer(
        *learn_byte_pairs(LINES, 270, special_tokens=["<a>", "<b>"]), {"padding": "<b>"}
    ),
    "byte pairs with settings": lambda: BytePairTokenizer(
        *learn_byte_pairs(LINES, 270, special_tokens=["<a>", "<b>"]),
        {"padding": "<b>"},
        True,
        [AddedToken("<a>", lstrip=True)],
    ),
    "characters": lambda: CharacterTokenizer(learn_characters(["\n", *LINES])),
    "words": lambda: WordTokenizer(learn_words(LINES, 60, special_tokens=WITH_MASK)),
    "sentencepiece": lambda: SentencePieceTokenizer.from_files(MODEL),
    "mapped sentencepiece": lambda: SentencePieceTokenizer(
        MODEL.read_bytes(), ["<unk>", "▁the", "<pad>", "t", "e", "▁"]
    ),
    "sentencepiece with settings": lambda: SentencePieceTokenizer(
        MODEL.read_bytes(),
        None,
        {"padding": "<pad>"},
        [AddedToken("st")],
        "x",
        Spacing(*[True] * 3),
    ),
}
SPECIAL = ("padding_id", "unknown_id", "begin_id", "end_id", "mask_id")


@pytest.fixture(scope="module")
def made():
    return {name: make() for name, make in MAKERS.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_every_tokeniser_keeps_to_the_protocol(made, name):  # K11
    tokenizer = made[name]
    assert len(tokenizer) == len(tokenizer.vocabulary) == len(set(tokenizer.vocabulary))
    ids = tokenizer.tokenize(tf.constant(["the cat", "", "the"]))
    assert isinstance(ids, tf.RaggedTensor) and ids.dtype == tf.int32
    assert ids.shape.as_list() == [3, None] and ids.row_lengths().numpy()[1] == 0
    assert ids.row_splits.dtype == tf.int64
    special = [getattr(tokenizer, role) for role in SPECIAL]
    others = [i for i in special if i is not None and i != tokenizer.unknown_id]
    assert not set(others) & set(ids.values.numpy().tolist())
    assert max(ids.values.numpy()) < len(tokenizer)
    # Special tokens are not text.
    around = [[*others, *row, *others] for row in ids.to_list()]
    around = tf.ragged.constant(around, dtype=tf.int32, ragged_rank=1)
    joined = tokenizer.detokenize(ids)
    assert joined.shape == [3] and joined.dtype == tf.string
    assert tokenizer.detokenize(around).numpy().tolist() == joined.numpy().tolist()
    if "sentencepiece" not in name and name != "byte pairs with settings":
        assert joined.numpy().tolist() == [b"the cat", b"", b"the"]


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_saved_comes_back(made, name, tmp_path):  # K11
    tokenizer = made[name]
    folder = tmp_path / "a" / "folder"
    save_tokenizer(tokenizer, folder)
    loaded = load_tokenizer(folder)
    assert type(loaded) is type(tokenizer)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert [getattr(loaded, r) for r in SPECIAL] == [getattr(tokenizer, r) for r in SPECIAL]
    texts = ["The cats sat", "é 猫 x"]
    assert loaded.tokenize(texts).to_list() == tokenizer.tokenize(texts).to_list()
    (folder / "again").mkdir()
    save_tokenizer(loaded, folder / "again")
    for path in folder.glob("*.*"):
        assert (folder / "again" / path.name).read_bytes() == path.read_bytes()


def test_the_settings_matter(made):  # a check that the one above can fail
    texts = ["The cats"]
    one, other = (made[name].tokenize(texts).to_list() for name in ("bert", "cased bert"))
    assert one != other
    assert made["byte pairs with names"].padding_id == 1


def test_our_wordpiece_is_a_vocabulary_and_nothing_else(made, tmp_path):
    save_tokenizer(made["words"], tmp_path)
    save_tokenizer(made["wordpiece"], tmp_path)  # replaces it
    assert not (tmp_path / "tokenizer.json").exists()
    assert isinstance(load_tokenizer(tmp_path), WordPieceTokenizer)
    save_tokenizer(made["bert"], tmp_path)
    assert isinstance(load_tokenizer(tmp_path), BertTokenizer)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "utf-8"),
        (b"{", "does not name its kind"),
        (b"[]", "it is no JSON object"),
        (b"{}", "its kind is None; the kinds are bert, byte_pairs, characters, words"),
        (b'{"kind": "morse"}', "its kind is 'morse'"),
        (b'{"kind": ["bert"]}', r"its kind is \['bert'\]"),
        (b'{"kind": "bert"}', "its settings are none; those of bert are lowercase"),
        (b'{"kind": "bert", "lowercase": 1}', "lowercase is 1"),
        (b'{"model": {}, "version": "1.0"}', "it is Hugging Face's"),
        (b'{"kind": "bert", "lowercase": true, "strip_accents": 1}', "strip_accents is 1"),
        (b'{"kind": "bert", "lowercase": true, "spaces": ""}', "and maybe added_tokens, chinese"),
        (b'{"kind": "words", "size": 1}', "its settings are size; those of words are none"),
        (b'{"kind": "sentencepiece", "mapped": "no"}', "mapped is 'no'"),
        (b'{"kind": "byte_pairs", "special_tokens": ["a"]}', "special_tokens is"),
    ],
)
def test_damaged_settings_are_named(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"tokenizer\.json does not name its kind of tokeniser"
    ) as error:
        load_tokenizer(tmp_path)
    error.match(message)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("wordpiece", "vocab.txt"),
        ("bert", "vocab.txt"),
        ("byte pairs", "vocab.json"),
        ("byte pairs", "merges.txt"),
        ("characters", "characters.json"),
        ("words", "words.txt"),
        ("sentencepiece", "spiece.model"),
        ("mapped sentencepiece", "vocab.json"),
    ],
)
def test_a_damaged_or_missing_file_is_named(made, tmp_path, name, file):
    save_tokenizer(made[name], tmp_path)
    (tmp_path / file).write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        load_tokenizer(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "setting", "value", "message"),
    [
        ("bert with settings", "added_tokens", [{"content": "x"}], "'x' is not in the vocabulary"),
        ("bert with settings", "added_tokens", [{"content": "<s>"}], "'<s>' is a special one"),
        ("bert with settings", "added_tokens", ["x"], "'x' is not an added token"),
        (
            "bert with settings",
            "added_tokens",
            [{"content": "a", "lstrip": 1}],
            "not an added token",
        ),
        ("bert with settings", "added_tokens", [{"content": "a"}] * 2, "'a' is listed twice"),
        ("bert with settings", "special_tokens", {"start": "a"}, "special_tokens has 'start'"),
        ("bert with settings", "special_tokens", {"unknown": "a"}, "which token is for padding"),
        ("byte pairs with settings", "added_tokens", [{}], "{} is not an added token"),
        ("sentencepiece with settings", "spacing", {"collapse": True}, "spacing is"),
        ("sentencepiece with settings", "special_tokens", {"mask": "<m>"}, "'<m>' is not in"),
        ("sentencepiece with settings", "special_tokens", {"top": "a"}, "special_tokens has 'top'"),
    ],
)
def test_damaged_settings_of_a_kind_are_named(made, tmp_path, name, setting, value, message):
    save_tokenizer(made[name], tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), setting: value}), "utf-8")
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)


def test_special_tokens_that_are_no_pieces_are_named(made, tmp_path):
    save_tokenizer(made["byte pairs"], tmp_path)
    settings = {"kind": "byte_pairs", "special_tokens": {"mask": "<m>"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"vocab\.json .*'<m>' is not in the vocabulary"):
        load_tokenizer(tmp_path)


def test_a_mask_is_special_in_our_wordpiece(made, tmp_path):  # K11
    plain, masked = made["wordpiece"], made["wordpiece with a mask"]
    assert plain.mask_id is None and masked.mask_id == 4
    letters = learn_vocabulary(["[MASK] the"], 60, special_tokens=WITH_MASK)
    tokenizer = WordPieceTokenizer(letters)
    (ids,) = tokenizer.tokenize(["the [MASK]"]).to_list()
    assert tokenizer.mask_id == 4 and 4 not in ids and 1 not in ids
    phone = lite(tokenizer, tmp_path)
    assert phone.tokenize(["the [MASK]"]) == [ids]
    assert phone.detokenize([[2, *ids, 4, 3]]) == [b"the [MASK]"]
    # Anywhere else it is a piece like others.
    other = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "[MASK]"])
    assert other.mask_id is None
    assert other.tokenize(["[MASK]"]).to_list() == [[5]]
