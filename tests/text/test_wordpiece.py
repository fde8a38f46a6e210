"""Tests of keras_transformer.text.wordpiece."""

import random
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from keras_transformer.models import config
from keras_transformer.text import SPECIAL_TOKENS, WordPieceTokenizer, learn_vocabulary
from keras_transformer.text.wordpiece import split_at_white_space

EXACT = [
    "Hello, bushes.",
    '"Hello world!',
    "3.5 Männer",
    "猫が好き",
    "10\u00a0000",
    "a\u3000b",
    "a\u2028b\x85c\x1cd\ufeff",
    "e\u0301\u0323 o\u0308",
    "\N{GRINNING FACE}\N{ZERO WIDTH JOINER}\N{FIRE} 👩‍🚀",
    "",
]
LITERALS = ["[EOS]", "x[EOS]", "[PAD] [BOS]", "[MASK]", "##s", "a ##s##", "##", "#", "[CLS] ##es"]


def tokenizer_for(texts, *pieces):
    """Every character of the texts in both forms, and more pieces."""
    characters = sorted(set("".join(texts)) - set(" \t\n\v\f\r\0"))
    pieces = (*characters, *("##" + c for c in characters), *pieces)
    return WordPieceTokenizer([*SPECIAL_TOKENS, *dict.fromkeys(pieces)])


def pieces_of(tokenizer, *texts):
    rows = tokenizer.tokenize(tf.constant(texts, tf.string)).to_list()
    return [[tokenizer.vocabulary[i] for i in row] for row in rows]


def there_and_back(tokenizer, *texts):
    joined = tokenizer.detokenize(tokenizer.tokenize(tf.constant(texts, tf.string)))
    return [text.decode() for text in joined.numpy()]


def greedy_longest_match(vocabulary, text):
    """WordPiece in pure Python."""
    first = {p for p in vocabulary if p == "##" or not p.startswith("##")}
    first -= {"[PAD]", "[BOS]", "[EOS]"}
    rest = {p[2:] for p in vocabulary if p.startswith("##") and p != "##"}
    pieces = []
    for word in re.findall(r"[^ \t\n\v\f\r]+", text):
        cut, at = [], 0
        while at < len(word):
            known = rest if at else first
            ends = [e for e in range(len(word), at, -1) if word[at:e] in known]
            if not ends:
                cut = ["[UNK]"]
                break
            cut.append(("##" if at else "") + word[at : ends[0]])
            at = ends[0]
        pieces += cut
    return pieces


# --- Text comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EXACT)
def test_text_comes_back_exactly(text):  # K12
    tokenizer = tokenizer_for(EXACT, "##es", "bush", "Hello")
    assert there_and_back(tokenizer, text) == [text]
    assert "[UNK]" not in pieces_of(tokenizer, text)[0]


@pytest.mark.parametrize("text", EXACT)
def test_text_comes_back_in_a_graph(text):
    tokenizer = tokenizer_for(EXACT)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def back(texts):
        return tokenizer.detokenize(tokenizer.tokenize(texts).to_tensor(shape=[None, None]))

    assert back([text, "a"]).numpy().tolist() == [text.encode(), b"a"]


def test_bushes_are_cut_as_in_the_design():
    tokenizer = tokenizer_for(["Hello, bushes."], "bush", "##es", "Hello", "##,")
    assert pieces_of(tokenizer, "Hello, bushes.") == [["Hello", "##,", "bush", "##es", "##."]]


@pytest.mark.parametrize("white", [" ", "  ", "\t", "\n", "\v", "\f", "\r", " \r\n\t "])
def test_a_run_of_ascii_white_space_comes_back_as_one_space(white):
    tokenizer = tokenizer_for(["ab"])
    assert there_and_back(tokenizer, f"{white}a{white}b{white}", white) == ["a b", ""]


def test_special_tokens_are_left_out_of_the_text():
    tokenizer = tokenizer_for(["ab"])
    dense = tf.constant([[2, 4, 7, 3, 0], [3, 0, 0, 0, 0], [1, 5, 3, 4, 0]])
    expected = [b"ab", b"", b"[UNK] b a"]
    assert tokenizer.detokenize(dense).numpy().tolist() == expected
    ragged = tf.ragged.constant([[2, 4, 7, 3], [], [1, 5, 3, 4]], dtype=tf.int32)
    assert tokenizer.detokenize(ragged).numpy().tolist() == expected


def test_no_rows_give_no_rows():
    tokenizer = tokenizer_for(["ab"])
    assert tokenizer.tokenize(tf.constant([], tf.string)).to_list() == []
    assert tokenizer.detokenize(tf.zeros([0, 3], tf.int32)).shape == [0]
    assert tokenizer.detokenize(tf.zeros([2, 0], tf.int32)).numpy().tolist() == [b"", b""]


# --- Text is never mistaken for something else ----------------------------------------------------


@pytest.mark.parametrize("text", LITERALS)
def test_text_never_gives_a_special_id(text):  # K11
    tokenizer = tokenizer_for(LITERALS, "##s", "##es")
    ids = tokenizer.tokenize([text]).to_list()[0]
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert there_and_back(tokenizer, text) == [text]


def test_a_literal_unk_is_unknown_and_comes_back():  # K11
    tokenizer = tokenizer_for(["[UNK]x"])
    ids = tokenizer.tokenize(["x [UNK]"]).to_list()[0]
    assert ids[-1] == config.UNKNOWN_ID and config.UNKNOWN_ID not in ids[:-1]
    for text in ("[UNK]", "x [UNK] x", "[UNK]x", "x[UNK]"):
        assert there_and_back(tokenizer, text) == [text]


def test_a_literal_continuation_is_no_continuation():
    tokenizer = tokenizer_for(["a##s"], "##s")
    assert pieces_of(tokenizer, "##s a##s as") == [
        ["#", "###", "##s", "a", "###", "###", "##s", "a", "##s"]
    ]


def test_special_ids_are_those_of_the_model():  # K11
    tokenizer = tokenizer_for(["a"])
    ids = {name: tokenizer.vocabulary.index(name) for name in SPECIAL_TOKENS}
    assert ids == {
        "[PAD]": config.PADDING_ID,
        "[UNK]": config.UNKNOWN_ID,
        "[BOS]": config.BEGIN_ID,
        "[EOS]": config.END_ID,
    }
    assert config.PADDING_ID == 0


# --- Greedy longest match -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "word", "expected"),
    [
        (["play", "##ing"], "playing", ["play", "##ing"]),
        (["play", "##ing"], "played", ["[UNK]"]),
        (["play", "##ing"], "unplayable", ["[UNK]"]),
        (["play", "##ing"], "xyzabc", ["[UNK]"]),
        (["play", "##ing"], "ing", ["[UNK]"]),
        (["un", "##play", "##able"], "unplayable", ["un", "##play", "##able"]),
        # A mark at the end marks nothing: `un##` is the literal text.
        (["un##", "##play", "##able"], "unplayable", ["[UNK]"]),
        (["x", *(f"##{c}" for c in "yzabc")], "xyzabc", ["x", "##y", "##z", "##a", "##b", "##c"]),
        # Longest first, even where it ends in a corner.
        (["a", "ab", "##b", "##bc"], "abc", ["[UNK]"]),
        (["a", "ab", "##c", "##bc"], "abc", ["ab", "##c"]),
    ],
)
def test_words_are_cut_by_greedy_longest_match(pieces, word, expected):  # K05, W4
    assert pieces_of(WordPieceTokenizer([*SPECIAL_TOKENS, *pieces]), word) == [expected]


def test_without_some_pieces_text_is_cut_into_others():  # T18
    vocabulary = [*SPECIAL_TOKENS, "play", "##ing", "pl", "##ay", "##i", "##n", "##g"]
    tokenizer = WordPieceTokenizer(vocabulary)
    fewer = tokenizer.model_without({"play", "##ing"})
    assert pieces_of(tokenizer, "playing") == [["play", "##ing"]]
    ids = tokenizer.tokenize(["playing", "play ##ing"], fewer)
    assert [[vocabulary[i] for i in row] for row in ids.to_list()] == [
        ["pl", "##ay", "##i", "##n", "##g"],
        ["pl", "##ay", "[UNK]"],  # nor can a piece that is missing be written out
    ]
    assert tokenizer.detokenize(ids[:1]).numpy().tolist() == [b"playing"]


@pytest.mark.parametrize("seed", range(30))
def test_equals_the_oracle(seed):  # K05
    rng = random.Random(seed)
    characters = rng.choice(["ab", "abc#", "#a", "[]UNK", "aé猫😀", "ab\u00a0\u3000"])

    def word(longest):
        return "".join(rng.choices(characters, k=rng.randint(1, longest)))

    first = {w for w in (word(3) for _ in range(6)) if not w.startswith("##") and w != "[UNK]"}
    rest = {"##" + word(3) for _ in range(6)}
    vocabulary = [*SPECIAL_TOKENS, *sorted(first | rest | set(characters[: rng.randint(0, 2)]))]
    texts = [rng.choice([" ", "  ", "\t"]).join(word(9) for _ in range(8)) for _ in range(20)]
    assert pieces_of(WordPieceTokenizer(vocabulary), *texts) == [
        greedy_longest_match(vocabulary, text) for text in texts
    ]


def test_a_very_long_word_is_cut_to_its_end():
    tokenizer = tokenizer_for(["猫が"])
    text = "猫が" * 20_000
    assert pieces_of(tokenizer, text)[0][-2:] == ["##猫", "##が"]
    assert there_and_back(tokenizer, text) == [text]


# --- What can't be spelled ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a q b", "a [UNK] b"),
        ("aq", "[UNK]"),
        ("a\0b b", "[UNK] b"),
        ("\0", "[UNK]"),
        (b"a b\xff a", "a [UNK] a"),
        (b"\xc3", "[UNK]"),
        (b"a\xe7\x8c b", "[UNK] b"),
        (b"\xed\xa0\x80 a", "[UNK] a"),
        (b"\x80\x80 \xf4\x90\x80\x80", "[UNK] [UNK]"),
    ],
)
def test_what_is_unknown_makes_its_word_unknown_and_nothing_else(text, expected):  # K11
    tokenizer = tokenizer_for(["ab"])
    assert there_and_back(tokenizer, "ab ba", text, "b") == ["ab ba", expected, "b"]


def test_a_batch_gives_what_its_rows_give():  # T28
    rng = random.Random(0)
    tokenizer = tokenizer_for(EXACT, "##es", "Hello")
    texts = [*EXACT, *LITERALS, "q", b"\xff a", "a" * 300, *rng.choices(EXACT, k=20)]
    together = tokenizer.tokenize(tf.constant(texts, tf.string)).to_list()
    alone = [tokenizer.tokenize(tf.constant([text], tf.string)).to_list()[0] for text in texts]
    assert together == alone


def test_white_space_is_what_the_vocabulary_learner_takes_for_it():
    # The tokeniser of tf.text is cut down to ASCII by a private attribute: this pins it.
    whole = tf_text.WhitespaceTokenizer()
    assert isinstance(whole._config, bytes) and len(whole._config) > 16
    tokenizer = tokenizer_for(["ab"])
    every = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x3100))]
    texts = [f"a{c}b" for c in every]
    words = np.diff(split_at_white_space(texts, tokenizer._white_space).output_row_splits)
    splits = {c for c, count in zip(every, words, strict=True) if count == 2}
    assert splits == set("\t\n\v\f\r ")
    assert set(words) == {1, 2}
    wider = whole.tokenize(["a\u3000b"]).row_lengths().numpy().tolist()
    assert wider == [2], "tf.text no longer splits at wider white space: drop the work-around"


# --- Vocabularies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ([], "begins with"),
        (["a"], "this one with a"),
        (SPECIAL_TOKENS[:3], "begins with"),
        (["[UNK]", "[PAD]", "[BOS]", "[EOS]", "a"], "this one with \\[UNK\\] \\[PAD\\]"),
        ([*SPECIAL_TOKENS, "a", "b", "a"], "'a' is in the vocabulary twice"),
        ([*SPECIAL_TOKENS, "[EOS]"], "'\\[EOS\\]' is in the vocabulary twice"),
        ([*SPECIAL_TOKENS, ""], "piece 4 is ''"),
        *[
            ([*SPECIAL_TOKENS, "b", f"a{c}b"], f"piece 5 is {re.escape(repr(f'a{c}b'))}")
            for c in "\t\n\v\f\r \0"
        ],
    ],
)
def test_wrong_vocabularies_are_refused(vocabulary, message):
    with pytest.raises(ValueError, match=message):
        WordPieceTokenizer(vocabulary)


def test_a_saved_vocabulary_keeps_its_ids(tmp_path):  # K11
    pieces = ["a\u2028b", "##\x85", "\x1c", "##\u00a0", "##猫", "##", "###", "\ufeff"]
    tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, *pieces])
    tokenizer.save(tmp_path / "vocab.txt")
    loaded = WordPieceTokenizer.load(tmp_path / "vocab.txt")
    assert loaded.vocabulary == tokenizer.vocabulary
    assert len(loaded) == 12
    text = ["a\u2028b\x85", "\x1c\u00a0猫", "###"]
    assert loaded.tokenize(text).to_list() == tokenizer.tokenize(text).to_list()
    assert loaded.tokenize(text).to_list()[0] == [4, 5]


def test_a_vocabulary_with_windows_line_ends_is_read(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("".join(f"{p}\r\n" for p in [*SPECIAL_TOKENS, "a", "##b"]).encode())
    assert WordPieceTokenizer.load(path).vocabulary == [*SPECIAL_TOKENS, "a", "##b"]


@pytest.mark.parametrize(
    "content", [b"", b"a\nb\n", b"\xff\xfe", b"[PAD]\n[UNK]\n[BOS]\n[EOS]\n\n"]
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, content):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"vocab\.txt is not a WordPiece vocabulary"):
        WordPieceTokenizer.load(path)
    with pytest.raises(FileNotFoundError):
        WordPieceTokenizer.load(tmp_path / "missing.txt")


# --- Learned vocabularies -------------------------------------------------------------------------

SEEN = [
    "walked walking walker talk talks played playing player play jumped jumping jump",
    "she walked and talks while he played and jumped",
]
UNSEEN = ["talked", "talking", "talker", "plays", "walks", "walk", "jumper"]


def test_unseen_words_are_spelled_where_a_word_list_fails():  # K09
    words = set(" ".join(SEEN).split())
    assert not words & set(UNSEEN)
    tokenizer = WordPieceTokenizer(learn_vocabulary(SEEN, 80))
    assert not any("[UNK]" in row for row in pieces_of(tokenizer, *UNSEEN))
    assert there_and_back(tokenizer, *UNSEEN) == UNSEEN
    # The same check sees an unknown rate where the vocabulary is a list of words.
    word_list = WordPieceTokenizer([*SPECIAL_TOKENS, *sorted(words)])
    assert pieces_of(word_list, *UNSEEN) == [["[UNK]"]] * len(UNSEEN)


def test_affixes_are_shared():  # K13
    tokenizer = WordPieceTokenizer(learn_vocabulary(SEEN * 3, 56))
    assert "talked" not in " ".join(SEEN)
    assert pieces_of(tokenizer, "talked", "walked", "jumped") == [
        ["talk", "##ed"],
        ["walk", "##ed"],
        ["jump", "##ed"],
    ]


def test_chinese_falls_back_to_characters():  # K12
    tokenizer = WordPieceTokenizer(learn_vocabulary(["我喜欢猫", "他喜欢狗"], 100))
    (row,) = pieces_of(tokenizer, "狗喜欢我")
    assert row[0] == "狗" and row[-1] == "##我" and "[UNK]" not in row
    assert pieces_of(tokenizer, "鱼") == [["[UNK]"]]


@pytest.mark.parametrize("split_digits", [False, True])
def test_digits_stay_apart_only_if_asked(split_digits):
    texts = ["in 1984 and 1984 and 2984 it was 19"] * 3
    tokenizer = WordPieceTokenizer(learn_vocabulary(texts, 120, split_digits=split_digits))
    (row,) = pieces_of(tokenizer, "1984")
    assert (row == ["1", "##9", "##8", "##4"]) is split_digits
    # A number with digits that the text does not have can be spelled only then.
    assert ("[UNK]" in pieces_of(tokenizer, "70563")[0]) is not split_digits


def test_the_size_of_a_vocabulary_is_the_size_asked_for():  # K10
    texts = ["the cat sat on the mat", "the dog sat on the log"] * 5
    most = len(learn_vocabulary(texts, 30_000))
    alphabet = len(SPECIAL_TOKENS) + 2 * len(set("thecatsonmdgl"))
    assert most > alphabet + 5
    for size in (alphabet, alphabet + 1, most):
        assert len(WordPieceTokenizer(learn_vocabulary(texts, size))) == size


def test_the_two_scores_choose_different_first_merges():  # K04, W17
    texts = ["hug " * 10 + "pug " * 5 + "pun " * 12 + "bun " * 4 + "hugs " * 5]
    alphabet = len(SPECIAL_TOKENS) + 2 * len(set("hugpnbs"))
    assert learn_vocabulary(texts, alphabet + 1, score="likelihood")[-1] == "##gs"
    assert learn_vocabulary(texts, alphabet + 1, score="frequency")[-1] == "##ug"


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_what_is_no_id_is_written_as_an_unknown_piece(dtype):
    tokenizer = tokenizer_for(["ab"])
    (a,) = tokenizer.tokenize(["a"]).to_list()[0]
    wrong = [-1, len(tokenizer), len(tokenizer) + 500, 2**31 - 1, -(2**31)]
    texts = tokenizer.detokenize(tf.constant([[a, some, a] for some in wrong], dtype)).numpy()
    assert list(texts) == [b"a [UNK] a"] * len(wrong)
