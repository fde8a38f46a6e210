"""Tests of keras_transformer.text.byte_pairs and of its learner.

Also: text.byte_pair_files, text.byte_pair_learner, text.pair_table, text.byte_pair_words,
text.byte_alphabet, text.unique_words.
"""

import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fixtures_text import lite, saved
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_transformer.text import code_points
from keras_transformer.text.byte_alphabet import BYTES, CHARACTERS, spell
from keras_transformer.text.byte_pair_learner import learn_byte_pairs, split_words
from keras_transformer.text.byte_pair_words import character_kinds, word_begins
from keras_transformer.text.byte_pairs import BytePairTokenizer
from keras_transformer.text.learner import SPECIAL_TOKENS
from keras_transformer.text.pair_table import PairTable

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "byte_pair_tokens.json").read_text("utf-8")
)
LOW = ["low low low low low lower lower newest newest newest newest newest newest widest widest"]
LIMIT = 1_000  # more than any vocabulary here can have


@pytest.fixture(scope="module")
def golden():
    return BytePairTokenizer(GOLDEN["vocabulary"], GOLDEN["merges"])


@pytest.fixture(scope="module")
def learned():
    return BytePairTokenizer(*learn_byte_pairs(LOW * 2 + ["猫が好き 猫が好き"], 300))


@pytest.fixture(scope="module")
def on_a_phone(golden, tmp_path_factory):
    return lite(golden, tmp_path_factory.mktemp("byte_pairs"))


def ids_of(tokenizer, *texts):
    return tokenizer.tokenize(tf.constant(texts, tf.string)).to_list()


def pieces_of(tokenizer, *texts):
    return [[tokenizer.vocabulary[i] for i in row] for row in ids_of(tokenizer, *texts)]


def there_and_back(tokenizer, *texts):
    ids = tokenizer.tokenize(tf.constant(texts, tf.string))
    return tokenizer.detokenize(ids).numpy().tolist()


def merged_by_hand(merges, word):
    """BPE of a word in pure Python: the first merge, at its leftmost place, again and again."""
    ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
    pieces = list(word)
    while True:
        found = [(ranks.get(pair, LIMIT), i) for i, pair in enumerate(pairwise(pieces))]
        rank, i = min(found, default=(LIMIT, 0))
        if rank == LIMIT:
            return pieces
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


# --- The ids of the reference ---------------------------------------------------------------------


def test_ids_are_those_of_the_reference(golden):  # K07
    assert ids_of(golden, *GOLDEN["texts"]) == GOLDEN["ids"]
    assert there_and_back(golden, *GOLDEN["texts"]) == [t.encode() for t in GOLDEN["texts"]]


def test_ids_are_those_of_the_reference_on_a_phone(golden, on_a_phone):
    assert on_a_phone.tokenize(GOLDEN["texts"]) == GOLDEN["ids"]
    assert [on_a_phone.tokenize([text])[0] for text in GOLDEN["texts"][:80]] == GOLDEN["ids"][:80]
    assert on_a_phone.detokenize(GOLDEN["ids"]) == [t.encode() for t in GOLDEN["texts"]]


def test_words_are_those_of_the_reference():
    # Words are cut twice over: in Python for learning, and in the graph.
    for text, ids in zip(GOLDEN["texts"], GOLDEN["ids"], strict=True):
        words = [merged_by_hand(GOLDEN["merges"], spell(w.encode())) for w in split_words(text)]
        assert [piece for word in words for piece in word] == [GOLDEN["vocabulary"][i] for i in ids]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I'm 12, they said.", ["I", "'m", " 12", ",", " they", " said", "."]),
        ("it's'll", ["it", "'s", "'ll"]),
        ("'really", ["'re", "ally"]),
        ("''s 's\n's", ["''", "s", " '", "s", "\n", "'s"]),
        ("a  b\n\nc ", ["a", " ", " b", "\n", "\n", "c", " "]),
        ("'", ["'"]),
        ("'d", ["'d"]),
        ("x'", ["x", "'"]),
        ("x'l", ["x", "'", "l"]),
        ("x'r", ["x", "'", "r"]),
        ("x'S", ["x", "'", "S"]),
        ("\u00a0a\u3000", ["\u00a0", "a", "\u3000"]),
        ("a1é猫½!?", ["a", "1", "é猫", "½", "!?"]),
        ("", []),
    ],
)
def test_words_of_the_known_examples(text, words):
    assert split_words(text) == words
    found = code_points.characters(tf.constant(["s'", text, "e's"]))
    begins = np.flatnonzero(word_begins(found, character_kinds()).numpy()).tolist()
    pieces = ["s", "'", *words, "e", "'s"]
    starts = np.cumsum([0, *(len(p.encode()) for p in pieces)])[:-1].tolist()
    assert begins == starts


@pytest.mark.parametrize("seed", range(12))
def test_merging_equals_the_oracle(seed):
    # Merges in any order, as no learner would give them: what is merged may have come from another
    # pair, and equal pairs overlap.
    rng = random.Random(seed)
    letters = "abc"[: rng.randint(1, 3)]
    merges = {}
    pieces = list(letters)
    for _ in range(12):
        pair = rng.choice(pieces), rng.choice(pieces)
        merges[pair] = None
        pieces.append("".join(pair))
    merges = list(merges)
    vocabulary = list(dict.fromkeys([*CHARACTERS, *pieces]))
    words = ["".join(rng.choices(letters, k=rng.randint(1, 14))) for _ in range(60)]
    expected = [merged_by_hand(merges, word) for word in words]
    assert pieces_of(BytePairTokenizer(vocabulary, merges), *words) == expected


def test_what_came_from_another_pair_is_merged_in_its_turn():
    # abc is first made by `a bc` where two of it stand side by side. `abc a` ranks before that.
    merges = [("b", "c"), ("a", "b"), ("ab", "c"), ("abc", "a"), ("a", "bc")]
    vocabulary = list(dict.fromkeys([*CHARACTERS, *("".join(pair) for pair in merges)]))
    tokenizer = BytePairTokenizer(vocabulary, merges)
    assert merged_by_hand(merges, "abcabc") == ["abca", "bc"]
    assert pieces_of(tokenizer, "abcabc") == [["abca", "bc"]]


# --- Text comes back ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
@example([b"", b"\x80", b"\xc3", b"\xa9", b"a\xff'\xe7\x8c", b"\0", b" \n "])
def test_every_string_of_bytes_comes_back(golden, learned, texts):  # K07, K12
    for tokenizer in (golden, learned):
        assert there_and_back(tokenizer, *texts) == texts


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_a_phone_does_what_the_graph_does(golden, on_a_phone, texts):
    ids = ids_of(golden, *texts)
    assert on_a_phone.tokenize(texts) == ids
    assert on_a_phone.detokenize(ids) == texts


def test_halves_of_characters_and_spaces_are_joined_as_they_are(golden, on_a_phone):
    ids = {piece: i for i, piece in enumerate(golden.vocabulary)}
    first, second = (ids[c] for c in spell("é".encode()))
    space, newline = ids["Ġ"], ids["Ċ"]
    rows = [[first, second], [space, first], [second], [newline, space, newline], [space]]
    expected = ["é".encode(), b" \xc3", b"\xa9", b"\n \n", b" "]
    assert golden.detokenize(tf.ragged.constant(rows, dtype=tf.int32)).numpy().tolist() == expected
    assert on_a_phone.detokenize(rows) == expected


def test_nothing_is_unknown(learned):  # K09, K12
    texts = ["猫が好き", "unheard-of", "\N{FIRE}", b"\xff"]
    assert not any(learned.unknown_id in row for row in ids_of(learned, *texts))
    assert learned.unknown_id == 1


def test_unseen_words_are_built_of_known_pieces(learned):  # K07, K09
    assert "lowest" not in " ".join(LOW)
    assert pieces_of(learned, " lowest") == [["Ġlow", "est"]]


def test_special_ids_are_left_out_and_wrong_ones_are_unknown(learned, golden):
    (a,) = ids_of(learned, "a")[0]
    rows = [[2, a, a, 3, 0, 0], [a, 1, -1, len(learned), a, 3]]
    expected = [b"aa", b"a[UNK][UNK][UNK]a"]
    assert learned.detokenize(tf.constant(rows)).numpy().tolist() == expected
    assert learned.detokenize(tf.constant(rows, tf.int64)).numpy().tolist() == expected
    end = golden.end_id
    assert golden.vocabulary[end] == "<|endoftext|>" and golden.unknown_id is None
    row = golden.tokenize(["x y"]).to_list()[0]
    wrong = tf.constant([[end, *row, -1, len(golden), end]])
    assert golden.detokenize(wrong).numpy().tolist() == [b"x y"]


def test_text_never_gives_a_special_id(learned, golden):  # K11
    assert min(ids_of(learned, "[EOS] [PAD][BOS] [UNK]")[0]) >= len(SPECIAL_TOKENS)
    assert golden.end_id not in ids_of(golden, "<|endoftext|>")[0]
    assert there_and_back(golden, "<|endoftext|>") == [b"<|endoftext|>"]


# --- Batches --------------------------------------------------------------------------------------


def test_a_batch_gives_what_its_rows_give(golden):
    rows = [
        *GOLDEN["texts"][:40],
        b"\xc3",
        b"\xa9'",
        "",
        b"'",
        b"s",
        " ",
        "x",
        b"\xe7",
        b"\x8c\xab",
    ]
    together = ids_of(golden, *rows)
    assert together == [ids_of(golden, row)[0] for row in rows]
    assert ids_of(golden) == [] and ids_of(golden, "", "") == [[], []]


def test_words_with_one_hash_are_told_apart(golden, monkeypatch):
    # Powers repeat after 64 letters, so that these two have the same hash.
    one, other = "b" + "a" * 64, "a" * 64 + "b"
    expected = [merged_by_hand(GOLDEN["merges"], word) for word in (one, other)]
    assert expected[0] != expected[1]
    assert pieces_of(golden, one, other) == expected
    hashes = []
    unique = tf.unique

    def spy(values):
        hashes.append(values.numpy())
        return unique(values)

    monkeypatch.setattr(tf, "unique", spy)
    pieces_of(golden, one, other)
    assert hashes[0][0] == hashes[0][1]


def test_a_very_long_word_is_cut_to_its_end(golden):
    text = "the" * 1000
    (pieces,) = pieces_of(golden, text)
    assert "".join(pieces) == text and "the" in pieces


def test_it_works_in_a_data_set_and_in_a_saved_model(golden, tmp_path):
    texts, ids = GOLDEN["texts"][:64], GOLDEN["ids"][:64]
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(10).map(golden.tokenize)
    assert [row for batch in batches for row in batch.to_list()] == ids
    model = tf.saved_model.load(str(saved(golden, tmp_path)))
    found = model.signatures["tokenize"](text=tf.constant(texts))
    assert tf.RaggedTensor.from_tensor(found["ids"], lengths=found["counts"]).to_list() == ids


# --- Learning -------------------------------------------------------------------------------------


def test_the_most_frequent_pair_is_merged_first():  # K06
    vocabulary, merges = learn_byte_pairs(LOW, 268)
    # s t (8), then e st (8: newest, widest), then w est... are counted by hand.
    assert merges[:3] == [("e", "s"), ("es", "t"), ("l", "o")]
    assert vocabulary[:4] == [*SPECIAL_TOKENS] and vocabulary[4:260] == CHARACTERS
    assert vocabulary[260:] == ["".join(pair) for pair in merges]


def test_the_size_of_a_vocabulary_is_the_size_asked_for():  # K10
    most = len(learn_byte_pairs(LOW, LIMIT)[0])
    assert 270 < most < LIMIT
    for size in (260, 261, most):
        vocabulary, merges = learn_byte_pairs(LOW, size)
        assert len(vocabulary) == size and len(merges) == size - 260


def test_byte_pairs_and_word_pieces_begin_with_other_merges():  # K06, W17
    texts = ["hug " * 10 + "pug " * 5 + "pun " * 12 + "bun " * 4 + "hugs " * 5]
    assert learn_byte_pairs(texts, 261)[1] == [("u", "g")]
    # tests/text/test_learner.py has ##gs as the first piece of WordPiece.


def reference_merges(words, count):
    corpus = [(list(word), n) for word, n in words.items()]
    merges = []
    for _ in range(count):
        pairs = {}
        for pieces, n in corpus:
            for pair in pairwise(pieces):
                pairs[pair] = pairs.get(pair, 0) + n
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        for pieces, _ in corpus:
            i = 0
            while i < len(pieces) - 1:
                if tuple(pieces[i : i + 2]) == best:
                    pieces[i : i + 2] = ["".join(best)]
                i += 1
    return merges


@pytest.mark.parametrize("seed", range(10))
def test_learning_equals_the_reference(seed):  # K06
    rng = random.Random(seed)
    letters = rng.choice(["ab", "abé", "#a", "a猫 "])
    texts = ["".join(rng.choices(letters, k=rng.randint(1, 30))) for _ in range(20)]
    words = {}
    for text in texts:
        for word in split_words(text):
            word = spell(word.encode())
            words[word] = words.get(word, 0) + 1
    assert learn_byte_pairs(texts, 300)[1] == reference_merges(words, 40)


@pytest.mark.parametrize(
    ("texts", "size", "options", "message"),
    [
        (["ab"], 259, {}, r"vocabulary_size is 259, but 260 entries are needed: 4 special"),
        (["ab"], 2_000_000, {}, "vocabulary_size is 2000000; the most"),
        ([""], 300, {}, "texts holds nothing"),
        (["ab"], 300, {"special_tokens": ["[A]", "[A]"]}, r"holds '\[A\]', which is there already"),
        (["ab"], 300, {"special_tokens": ["a"]}, "holds 'a', which is there already"),
        (["ab"], 300, {"min_frequency": 0}, "min_frequency is 0"),
        (["ab"], 300, {"max_words": 0}, "max_words is 0"),
    ],
)
def test_wrong_arguments(texts, size, options, message):
    with pytest.raises(ValueError, match=message):
        learn_byte_pairs(texts, size, **options)
    with pytest.raises(TypeError):
        learn_byte_pairs(["a"])  # a size is required


def test_no_learned_piece_is_a_special_token():
    vocabulary, _ = learn_byte_pairs(["[EOS]x"] * 5, LIMIT, special_tokens=["[EOS", "[PAD]"])
    assert vocabulary.count("[EOS") == 1


def test_one_string_is_refused():
    with pytest.raises(TypeError, match="texts is one string"):
        learn_byte_pairs("a line", 300)


# --- Files ----------------------------------------------------------------------------------------

ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", *CHARACTERS, "ab", "<mask>"]


def write(folder, vocabulary, merges="#version: 0.2\na b\n"):
    if not isinstance(vocabulary, str):
        vocabulary = json.dumps({piece: i for i, piece in enumerate(vocabulary)})
    (folder / "vocab.json").write_text(vocabulary, "utf-8")
    (folder / "merges.txt").write_text(merges, "utf-8")
    return folder / "vocab.json", folder / "merges.txt"


def test_files_of_roberta_and_of_gpt_2(tmp_path):  # K11
    tokenizer = BytePairTokenizer.from_files(*write(tmp_path, ROBERTA))
    assert (tokenizer.begin_id, tokenizer.padding_id, tokenizer.end_id) == (0, 1, 2)
    assert tokenizer.unknown_id == 3 and tokenizer.mask_id == len(ROBERTA) - 1
    assert pieces_of(tokenizer, "abab") == [["ab", "ab"]]
    files = write(tmp_path, [*CHARACTERS, "ab", "<|endoftext|>"], "a b\r\n")
    tokenizer = BytePairTokenizer.from_files(*files)
    assert tokenizer.begin_id == tokenizer.end_id == 257
    assert tokenizer.padding_id is tokenizer.unknown_id is tokenizer.mask_id is None
    assert tokenizer.merges == [("a", "b")]


def test_saved_files_keep_ids(golden, tmp_path):  # K11
    golden.save(tmp_path)
    loaded = BytePairTokenizer.load(tmp_path)
    assert loaded.vocabulary == golden.vocabulary and loaded.merges == golden.merges
    assert ids_of(loaded, *GOLDEN["texts"]) == GOLDEN["ids"]


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ("{", "", r"vocab\.json is not a vocabulary"),
        ("[1]", "", r"vocab\.json .* number for each piece"),
        ('{"a": 0, "a": 1}', "", r"vocab\.json .* 'a' twice"),
        ('{"a": 0, "b": 2}', "", r"vocab\.json .* id 1 once, and 'b' has 2"),
        ('{"a": 0, "b": 0}', "", r"vocab\.json .* id 1 once, and 'b' has 0"),
        ('{"a": true}', "", r"vocab\.json .* number for each piece"),
        (CHARACTERS[1:], "", r"vocab\.json .*byte 0x00 has no piece: there is no 'Ā'"),
        ([*CHARACTERS, "猫"], "", r"piece 256 is '猫', which is neither"),
        ([*CHARACTERS, ""], "", "piece 256 is ''"),
        (CHARACTERS, "#version\na b", r"merges\.txt: merge 0 is 'a b', but 'ab' is not a piece"),
        (CHARACTERS, "a b c", r"merges\.txt is not a list of merges: line 1 is 'a b c'"),
        ([*CHARACTERS, "ab"], "a b\na b", "merge 1 is 'a b', which repeats an earlier one"),
    ],
)
def test_damaged_files_are_named(tmp_path, vocabulary, merges, message):
    with pytest.raises(ValueError, match=message):
        BytePairTokenizer.from_files(*write(tmp_path, vocabulary, merges))


def test_files_that_are_not_utf_8_are_named(tmp_path):
    files = write(tmp_path, CHARACTERS)
    for path, name in zip(files, (r"vocab\.json is not", r"merges\.txt is no"), strict=True):
        content = path.read_bytes()
        path.write_bytes(b"\xff")
        with pytest.raises(ValueError, match=name):
            BytePairTokenizer.from_files(*files)
        path.write_bytes(content)


def test_wrong_special_tokens_are_refused():
    with pytest.raises(ValueError, match=r"'\[X\]' is not in the vocabulary"):
        BytePairTokenizer(CHARACTERS, [], {"mask": "[X]"})
    with pytest.raises(ValueError, match="special_tokens has 'start'; the roles are padding"):
        BytePairTokenizer(CHARACTERS, [], {"start": "a"})
    with pytest.raises(ValueError, match="'a' is in the vocabulary twice"):
        BytePairTokenizer([*CHARACTERS, "a"], [])


# --- The parts ------------------------------------------------------------------------------------


def test_the_alphabet_is_that_of_gpt_2():
    assert len(BYTES) == 256 and all(c.isprintable() and not c.isspace() for c in CHARACTERS)
    assert spell(b" \n\0a~\x7f\xa0\xff") == "ĠĊĀa~ġłÿ"


@pytest.mark.parametrize("seed", range(5))
def test_ranks_of_pairs_are_found_and_of_no_others(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 40))
    every = [(a, b) for a in range(size) for b in range(size)]
    chosen = rng.choice(len(every), len(every) // 4, replace=False)
    pairs = PairTable([(*every[i], 7) for i in chosen], size)
    left, right = (tf.constant([pair[i] for pair in every], tf.int32) for i in (0, 1))
    expected = np.full(len(every), pairs.none)
    expected[chosen] = np.arange(len(chosen))
    found = pairs.ranks(left, right, tf.ones([len(every)], tf.bool))
    np.testing.assert_array_equal(found, expected)
    assert (pairs.ranks(left, right, tf.zeros([len(every)], tf.bool)).numpy() == pairs.none).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=4))
@example(
    ["aé猫\U0001f680".encode(), b"", b"\xc3\xa9\xa9", b"a\x80", b"\xed\xa0\x80\xf4\x90\x80\x80"]
)
@example([b"\xe0\x80\x80\xc0\x80", b"\xe7\x8c", b"\xab", b"\xf0\x9f"])
def test_bytes_are_decoded(texts):
    found = code_points.characters(tf.constant(texts, tf.string))
    assert bytes(found.bytes.numpy().tolist()) == b"".join(texts)
    lengths = found.rows.numpy()
    starts = {}
    for text, start in zip(texts, lengths, strict=False):
        if not text:
            continue
        try:
            valid = text.decode()
        except UnicodeDecodeError:
            continue
        place = int(start)
        for i, character in enumerate(valid):
            starts[place] = (ord(character), i == 0)
            place += len(character.encode())
    rows = zip(found.places.numpy(), found.codes.numpy(), found.first.numpy(), strict=True)
    seen = {int(place): (int(code), bool(first)) for place, code, first in rows}
    assert starts.items() <= seen.items()
    bad = [t for t in texts if b"\xff" in t or b"\xed\xa0" in t or b"\xe0\x80" in t]
    assert not bad or code_points.CODE_POINTS in found.codes.numpy()
