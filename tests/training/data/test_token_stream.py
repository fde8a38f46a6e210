"""Tests of keras_transformer.training.data.token_stream."""

import gzip
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_transformer.errors import InputError
from keras_transformer.text import (
    BytePairTokenizer,
    CharacterTokenizer,
    WordPieceTokenizer,
    learn_byte_pairs,
    learn_characters,
    learn_vocabulary,
)
from keras_transformer.training.data import token_stream
from keras_transformer.training.data.token_stream import TokenStream, all_windows, windows

TEXT = "A sheep.\n\n  And its tail,\nwhich is\tshort. \n\n\nEnd\n"
CHARACTERS = CharacterTokenizer(learn_characters([TEXT]))
TOKENIZERS = {
    "characters": CHARACTERS,
    "byte pairs": BytePairTokenizer(*learn_byte_pairs([TEXT, "a\n\n\nb"] * 50, 300)),
    "wordpiece": WordPieceTokenizer(learn_vocabulary([TEXT] * 5, 60)),
}
END = 3


def text_of(ids):
    return CHARACTERS.detokenize(tf.constant(ids)[tf.newaxis])[0].numpy().decode()


def batches_of(data, count=None):
    found = itertools.islice(data.as_numpy_iterator(), count)
    return [(inputs["token_ids"], labels) for inputs, labels in found]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(x, y)
        for a, b in zip(one, other, strict=True)
        for x, y in zip(a, b, strict=True)
    )


# --- Reading --------------------------------------------------------------------------------------


def test_a_file_is_one_text_with_its_line_feeds(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    stream = TokenStream.from_files(path, CHARACTERS)
    assert (stream.ids.dtype, stream.ids.shape) == (np.dtype("int32"), (len(TEXT),))
    assert len(stream) == len(TEXT)
    assert text_of(stream.ids) == TEXT
    assert CHARACTERS.unknown_id not in stream.ids


def test_files_come_in_order_and_end_with_the_separator(tmp_path):
    (tmp_path / "b.txt").write_text("is")
    (tmp_path / "a.txt").write_bytes("\ufeffA\r\n".encode())  # no mark, and plain line feeds
    (tmp_path / "c.gz").write_bytes(gzip.compress(b"End\n"))
    (tmp_path / "d.gz").write_bytes(gzip.compress(b""))
    files = [tmp_path / "*.txt", str(tmp_path / "?.gz")]
    assert text_of(TokenStream.from_files(files, CHARACTERS).ids) == "A\nis\nEnd\n"
    ids = TokenStream.from_files(files, CHARACTERS, END).ids.tolist()
    parts = [
        list(part) for is_end, part in itertools.groupby(ids, lambda x: x == END) if not is_end
    ]
    assert [text_of(part) for part in parts] == ["A\n", "is\n", "End\n"]
    assert ids[-2:] == [END, END]  # the last file is empty
    texts = TokenStream.from_texts(["A\n", "is\n", "End\n", ""], CHARACTERS, END)
    assert texts.ids.tolist() == ids


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(text=st.text("ab .\n\t\u00a0\u2028", max_size=60))
@example(text=TEXT)
@example(text="a\n\n\nb \n\n b\n \na")
def test_parts_are_cut_into_the_tokens_of_the_whole(tmp_path_factory, kind, text):
    path, tokenizer = tmp_path_factory.mktemp("text") / "a", TOKENIZERS[kind]
    path.write_text(text, newline="\n")
    text = text if text.endswith("\n") or not text else text + "\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_stream, "CHARACTERS_AT_ONCE", 1)
        patch.setattr(token_stream, "TEXTS_AT_ONCE", 2)
        parts = list(token_stream._parts(path))
        ids = TokenStream.from_files(path, tokenizer, separator_id=1).ids if text.strip() else None
    assert "".join(parts) == text
    if ids is not None:
        whole = tokenizer.tokenize([text]).values.numpy().tolist()
        assert ids.tolist() == [*whole, 1]
        lines = text.split("\n")[:-1]
        assert len(parts) == 1 + sum(bool(line) and not line[-1].isspace() for line in lines)


def test_text_cut_elsewhere_gives_other_tokens():  # negative control of the test above
    def tokens(*parts):
        return TOKENIZERS["byte pairs"].tokenize(parts).values.numpy().tolist()

    whole = tokens("a\n\n\nb")
    assert tokens("a", "\n\n\nb") == whole
    assert tokens("a\n", "\n\nb") != whole


def test_progress_is_told(tmp_path):
    told = []
    stream = TokenStream.from_texts(["ab"] * 200, CHARACTERS, END, progress=told.append)
    assert len(told) == -(-400 // token_stream.TEXTS_AT_ONCE)
    assert told == sorted(set(told))
    assert told[-1] == len(stream) == 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"There is no file .*a\.txt"),
        (b"", "The text has 0 tokens; a language model needs at least 2"),
        (b"\xff", r"a\.txt, line 1: not UTF-8"),
    ],
)
def test_files_without_text_are_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        TokenStream.from_files(tmp_path / "a.txt", CHARACTERS)


def test_the_end_is_split_off():
    stream = TokenStream(np.arange(100, dtype=np.int32))
    for share, first in ((0.1, 90), (0.556, 44), (0.02, 98)):
        one, other = stream.split(share)
        assert (one.ids.tolist(), other.ids.tolist()) == ([*range(first)], [*range(first, 100)])
    for share in (0.0, 1.0, -1, float("nan")):
        with pytest.raises(InputError, match=f"between 0 and 1, got {share}"):
            stream.split(share)
    with pytest.raises(InputError, match="has 1 tokens"):
        stream.split(0.01)


# --- Windows --------------------------------------------------------------------------------------

STREAM = TokenStream(np.random.default_rng(0).permutation(500).astype("int32"))


def test_labels_are_the_next_tokens():  # T22
    data = windows(STREAM, 8, 3, seed=1)
    assert tf.nest.map_structure(lambda x: x.shape.as_list(), data.element_spec) == (
        {"token_ids": [3, 8]},
        [3, 8],
    )
    after = dict(itertools.pairwise(STREAM.ids.tolist()))  # every token occurs once
    for token_ids, labels in batches_of(data, 20):
        assert token_ids.dtype == labels.dtype == np.dtype("int32")
        assert np.array_equal(labels[:, :-1], token_ids[:, 1:])
        assert [[after[token] for token in row] for row in token_ids.tolist()] == labels.tolist()


def test_windows_begin_anywhere():
    place = {token: i for i, token in enumerate(STREAM.ids.tolist())}
    firsts = [
        place[row[0]] for ids, _ in batches_of(windows(STREAM, 490, 50, 1), 40) for row in ids
    ]
    counts = np.bincount(firsts)
    assert len(counts) == 10  # the last window's last label is the last token
    assert counts / 2000 == pytest.approx(0.1, abs=0.03)


def test_the_seed_and_the_number_of_a_batch_decide_it():  # a run can begin anywhere
    whole = batches_of(windows(STREAM, 8, 3, seed=1), 30)
    tf.random.set_seed(17)
    assert same(whole, batches_of(windows(STREAM, 8, 3, seed=1), 30))
    assert same(whole[13:], batches_of(windows(STREAM, 8, 3, seed=1, first_batch=13), 17))
    assert not same(whole, batches_of(windows(STREAM, 8, 3, seed=2), 30))
    assert len({ids.tobytes() for ids, _ in whole}) == 30


def test_workers_get_other_windows():
    made = [batches_of(windows(STREAM, 8, 3, 1, worker=(i, 2)), 10) for i in range(2)]
    together = [batch for pair in zip(*made, strict=True) for batch in pair]
    assert same(together, batches_of(windows(STREAM, 8, 3, 1), 20))
    later = batches_of(windows(STREAM, 8, 3, 1, first_batch=4, worker=(1, 2)), 6)
    assert same(later, made[1][4:])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 70), st.integers(1, 9))
def test_every_token_but_the_first_is_a_label_once(count, length, rows):
    stream = TokenStream(np.arange(100, 100 + count, dtype=np.int32))
    batches = batches_of(all_windows(stream, length, rows, padding_id=7))
    token_ids, labels = (np.concatenate(side) for side in zip(*batches, strict=True))
    assert {len(labels) for _, labels in batches[:-1]} <= {rows}
    assert labels.shape[1] == token_ids.shape[1] == length
    real = labels >= 0
    assert labels[real].tolist() == [*range(101, 100 + count)]
    assert np.array_equal(token_ids[real], labels[real] - 1)
    assert np.all(token_ids[~real] == 7) and np.all(labels[~real] == -1)
    assert (~real).sum() < length


def test_windows_longer_than_the_text_are_refused():
    stream = TokenStream(np.arange(5, dtype=np.int32))
    ((token_ids, labels),) = batches_of(windows(stream, 4, 1, 0), 1)
    assert (token_ids.tolist(), labels.tolist()) == ([[0, 1, 2, 3]], [[1, 2, 3, 4]])
    for length in (5, 6, 0, -1):
        with pytest.raises(InputError, match="has 5: choose a length from 1 to 4"):
            windows(stream, length, 1, 0)
    with pytest.raises(InputError, match="at least 1 token, got 0"):
        all_windows(stream, 0, 1)
