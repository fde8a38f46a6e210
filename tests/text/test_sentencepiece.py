"""Tests of keras_transformer.text.sentencepiece.

Also: text.sentencepiece_model.
"""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from fixtures_text import lite, saved

from keras_transformer.text import SentencePieceTokenizer

FOLDER = Path(__file__).parents[1] / "golden"
MODEL = FOLDER / "sentencepiece.model"
GOLDEN = json.loads((FOLDER / "sentencepiece.json").read_text("utf-8"))
TEXTS, IDS, JOINED = (GOLDEN[name] for name in ("texts", "ids", "joined"))


@pytest.fixture(scope="module")
def tokenizer():
    return SentencePieceTokenizer.from_files(MODEL)


@pytest.fixture(scope="module")
def mapped(tokenizer, tmp_path_factory):
    """As Marian has it: other ids, which pieces of another language share."""
    pieces = ["</s>", "<unk>", "▁andere", "r", *sorted(tokenizer.vocabulary[3:-2]), "<pad>"]
    path = tmp_path_factory.mktemp("marian") / "vocab.json"
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    path.write_text(json.dumps(ids), "utf-8")
    return SentencePieceTokenizer.from_files(MODEL, path)


def joined(tokenizer, ids):
    rows = tf.ragged.constant(ids, dtype=tf.int32, ragged_rank=1)
    return [text.decode() for text in tokenizer.detokenize(rows).numpy()]


def test_ids_and_texts_are_those_of_the_reference(tokenizer):
    assert tokenizer.tokenize(tf.constant(TEXTS)).to_list() == IDS
    assert joined(tokenizer, IDS) == JOINED


@pytest.mark.parametrize("name", ["tokenizer", "mapped"])
def test_a_phone_does_what_the_graph_does(name, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    phone = lite(tokenizer, tmp_path)
    ids = tokenizer.tokenize(tf.constant(TEXTS)).to_list()
    assert phone.tokenize(TEXTS) == ids
    assert [text.decode() for text in phone.detokenize(ids)] == joined(tokenizer, ids)


def test_special_tokens_are_found(tokenizer, mapped):  # K11
    assert (tokenizer.padding_id, tokenizer.end_id, tokenizer.unknown_id) == (0, 1, 2)
    assert tokenizer.begin_id is tokenizer.mask_id is None
    assert len(tokenizer) == 58 and tokenizer.vocabulary[:3] == ["<pad>", "</s>", "<unk>"]
    assert (mapped.padding_id, mapped.end_id, mapped.unknown_id) == (len(mapped) - 1, 0, 1)


def test_a_mapping_gives_other_ids_to_the_same_pieces(tokenizer, mapped):
    missing = set(tokenizer.vocabulary) - set(mapped.vocabulary)
    assert missing
    plain = tokenizer.tokenize(tf.constant(TEXTS)).to_list()
    expected = [
        ["<unk>" if tokenizer.vocabulary[i] in missing else tokenizer.vocabulary[i] for i in row]
        for row in plain
    ]
    found = mapped.tokenize(tf.constant(TEXTS)).to_list()
    assert [[mapped.vocabulary[i] for i in row] for row in found] == expected
    # What the model does not know can still be written.
    assert joined(mapped, [[mapped.vocabulary.index("▁andere"), mapped.vocabulary.index("r")]]) == [
        "anderer"
    ]


def test_text_never_gives_a_special_id_but_unknown(tokenizer):  # K11
    (ids,) = tokenizer.tokenize(["</s> <pad>"]).to_list()
    assert not {0, 1} & set(ids)


def test_special_ids_are_left_out_and_wrong_ones_are_unknown(tokenizer):
    the, s = (tokenizer.vocabulary.index(piece) for piece in ("▁the", "s"))
    rows = [[the, s, 1, 0, 0, 0], [0, the, 2, -1, 58, s]]
    found = tokenizer.detokenize(tf.constant(rows)).numpy()
    assert [text.decode() for text in found] == ["thes", "the ⁇  ⁇  ⁇ s".replace("  ", "  ")]


def test_spaces_at_the_beginning_are_left_out(tokenizer):
    space, the = (tokenizer.vocabulary.index(piece) for piece in ("▁", "▁the"))
    rows = [[space, space, the, space, the], [0, space, 1, the], [space], []]
    assert joined(tokenizer, rows) == ["the  the", "the", "", ""]


def test_it_works_in_a_data_set_and_in_a_saved_model(tokenizer, tmp_path):
    batches = tf.data.Dataset.from_tensor_slices(TEXTS).batch(10).map(tokenizer.tokenize)
    assert [row for batch in batches for row in batch.to_list()] == IDS
    model = tf.saved_model.load(str(saved(tokenizer, tmp_path)))
    found = model.signatures["tokenize"](text=tf.constant(TEXTS))
    assert tf.RaggedTensor.from_tensor(found["ids"], lengths=found["counts"]).to_list() == IDS


# --- Files ----------------------------------------------------------------------------------------


def field(number, content):
    """A field of a protocol buffer: a number, or bytes of less than 128."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def piece(name, kind):
    score = bytes([2 << 3 | 5, 0, 0, 0, 0])
    return field(1, field(1, name.encode()) + score + field(3, kind))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no pieces"),
        (b"\xff", "it is damaged"),
        (b"hello, this is a text", "it is damaged"),
        (MODEL.read_bytes()[:200], "it is damaged"),
        (piece("a", 1)[:-3], "it is damaged"),
        (field(1, b""), "it is damaged"),
        (field(1, field(1, b"\xff")), "it is damaged"),
        (piece("a", 1) + field(2, field(3, 2)), "it is not a unigram model"),
        (piece("<0x00>", 6), "spells what is unknown in bytes"),
        (piece("a", 1), "the model has no unknown piece"),
        (piece("<unk>", 2) + piece("a", 1) * 2, "'a' is in the vocabulary twice"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path, content, message):
    path = tmp_path / "spiece.model"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"spiece\.model") as error:
        SentencePieceTokenizer.from_files(path)
    error.match(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "vocab"),
        ('{"a": 0, "a": 1}', "'a' twice"),
        ('{"a": 1}', "id 0 once"),
        ('{"a": 0}', "has no '<unk>'"),
    ],
)
def test_a_damaged_mapping_is_named(tmp_path, content, message):
    path = tmp_path / "vocab.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"vocab\.json") as error:
        SentencePieceTokenizer.from_files(MODEL, path)
    error.match(message)


@pytest.mark.parametrize("name", ["tokenizer", "mapped"])
def test_saved_files_keep_ids(name, request, tmp_path):  # K11
    tokenizer = request.getfixturevalue(name)
    tokenizer.save(tmp_path)
    loaded = SentencePieceTokenizer.load(tmp_path, **tokenizer.settings)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.tokenize(TEXTS).to_list() == tokenizer.tokenize(TEXTS).to_list()
