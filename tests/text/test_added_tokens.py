"""Tests of keras_transformer.text.added_tokens: what is found in a text before it is cut.

Also: text.byte_trie, text.between.
"""

import re

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_transformer.errors import InputError
from keras_transformer.text import BertTokenizer, BytePairTokenizer, learn_byte_pairs
from keras_transformer.text.added_tokens import AddedToken, AddedTokens
from keras_transformer.text.byte_trie import ByteTrie
from keras_transformer.text.masks import tokenize_with_masks
from keras_transformer.text.word_pieces import check_words, word_pieces

TOKENS = [
    *(AddedToken("ab"), AddedToken("abc"), AddedToken("b", single_word=True), AddedToken("é")),
    *(AddedToken("<", lstrip=True), AddedToken(">", rstrip=True), AddedToken("<>")),
    *(AddedToken("_", leading=True), AddedToken("猫 ", lstrip=True, rstrip=True)),
]
IDS = {token.content: 1000 + i for i, token in enumerate(TOKENS)}


def bytes_of(text):
    """A cutter whose pieces are bytes."""
    values = tf.strings.unicode_split(text, "UTF-8")
    numbers = [[byte for c in row for byte in c] for row in values.to_list()]
    return tf.ragged.constant(numbers, dtype=tf.int32, ragged_rank=1)


def oracle(text):
    """The rules one by one: leftmost, then longest, then what is around."""
    ids, place, taken = [], 0, 0
    word, white = re.compile(r"\w"), re.compile(r"\s*")
    while place < len(text):
        here = [t for t in TOKENS if text.startswith(t.content, place)]
        here = [t for t in here if not t.leading or place == 0]
        token = max(here, key=lambda t: len(t.content), default=None)
        if token is None:
            place += 1
            continue
        begin, place = place, place + len(token.content)
        before, after = text[:begin][-1:], text[place : place + 1]
        if token.single_word and (word.match(before) or word.match(after)):
            continue
        end = place
        if token.rstrip:
            end = white.match(text, place).end()
        if token.lstrip:
            begin = len(text[:begin].rstrip())
        begin = max(begin, taken)
        ids += [*text[taken:begin].encode(), IDS[token.content]]
        taken = max(end, begin)
    return [*ids, *text[taken:].encode()]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("abc<>_é猫 \u3000\tx1"), max_size=12), max_size=5))
def test_tokens_are_found_as_by_the_rules_one_by_one(texts):
    found = AddedTokens(TOKENS, IDS).cut(tf.constant(texts, tf.string), bytes_of)
    assert found.to_list() == [oracle(text) for text in texts]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("ab\xff", min_size=1, max_size=4), min_size=1), st.text("ab\xff"))
def test_a_tree_of_bytes_finds_the_longest_at_each_place(patterns, text):
    patterns, text = [p.encode("latin-1") for p in patterns], text.encode("latin-1")
    values = tf.constant(list(text), tf.int32)
    found = ByteTrie(patterns).find(values, tf.zeros_like(values))
    expected = []
    for place in range(len(text)):
        here = [p for p in patterns if text.startswith(p, place)]
        if here:
            longest = max(here, key=len)
            expected.append((place, len(longest), patterns.index(longest)))
    assert list(zip(*(x.numpy().tolist() for x in found), strict=True)) == expected


def test_many_tokens_are_no_larger_graph():
    def size(count):
        tokens = [AddedToken(f"<{i}>") for i in range(count)]
        added = AddedTokens(tokens, {t.content: i for i, t in enumerate(tokens)})
        byte_ids = BytePairTokenizer(*learn_byte_pairs(["a"], 256, special_tokens=[]))
        function = tf.function(
            lambda text: added.cut(text, byte_ids.tokenize),
            input_signature=[tf.TensorSpec([None], tf.string)],
        )
        return len(function.get_concrete_function().graph.get_operations())

    assert size(500) == size(2)


def byte_pairs(*tokens, **settings):
    names = ["<s>", "<mask>", *(token.content for token in tokens)]
    pieces, merges = learn_byte_pairs(["a dog, a cat"] * 3, 280, special_tokens=names)
    return BytePairTokenizer(pieces, merges, added_tokens=tokens, **settings)


def test_masks_are_found_beside_added_tokens():
    tokenizer = byte_pairs(AddedToken("<x>", rstrip=True))
    (ids,) = tokenize_with_masks(tokenizer, ["a <mask><x>  cat <x>"]).to_list()
    names = [tokenizer.vocabulary[i] for i in ids]
    assert [n for n in names if n.startswith("<")] == ["<mask>", "<x>", "<x>"]
    assert tokenizer.mask_id not in tokenizer.tokenize(["<mask>"]).values.numpy()


@pytest.mark.parametrize("front", [False, True])
def test_words_have_their_pieces_where_tokens_take_white_space(front):
    tokenizer = byte_pairs(AddedToken("<x>", lstrip=True, rstrip=True), add_prefix_space=front)
    text = "a  <x> dog<x>, \u3000cat <x>"
    pieces = word_pieces(tokenizer, tf.constant([text, "", "  a", "<x>"]))
    assert pieces.words.to_list()[0] == [word.encode() for word in text.split(" ") if word]
    assert pieces.ids.to_list() == tokenizer.tokenize([text, "", "  a", "<x>"]).to_list()
    ids, sizes = tokenizer.tokenize_with_sizes(tf.constant([text, "", "  a", "<x>"]))
    sums = tf.reduce_sum(tf.RaggedTensor.from_row_splits(sizes, ids.row_splits), axis=1)
    assert sums.numpy().tolist() == [len(text.encode()), 0, 3, 3]


def test_tokens_that_span_words_have_no_words():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    check_words(BertTokenizer([*special, "ab"], added_tokens=[AddedToken("ab")]))
    for token in (AddedToken("a b"), AddedToken(" a"), AddedToken("a", leading=True)):
        with pytest.raises(InputError, match="pieces that span words"):
            check_words(BertTokenizer([*special, token.content], added_tokens=[token]))


@pytest.mark.parametrize("content", ["", "a\0", "a\nb"])
def test_tokens_that_no_file_can_hold_are_refused(content):
    with pytest.raises(ValueError, match="an added token is"):
        AddedToken(content)


def test_a_token_of_which_nothing_is_left_is_refused():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u200b"]
    with pytest.raises(ValueError, match="nothing is left"):
        BertTokenizer(special, added_tokens=[AddedToken("\u200b", normalized=True)])
