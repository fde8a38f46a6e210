"""Tests of keras_transformer.text.compression."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_transformer.text.compression import bpe_compress, bpe_decompress


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.text("ab", max_size=200).map(str.encode)))
@example(bytes(range(256)) * 2)
@example(b"aaaaaaaaaaaaaaaaaaaaaaa")
def test_compressed_data_comes_back(data):  # K08
    packed = bpe_compress(data)
    assert bpe_decompress(packed) == data
    assert len(packed) <= len(data) + 1


def test_repetitive_data_gets_shorter():  # K08
    data = b"the cat sat on the mat. " * 40
    assert len(bpe_compress(data)) < len(data) / 8
    assert bpe_compress(b"abababab") == bytes([1, 0]) + b"ab" + bytes([0] * 4)
    assert bpe_compress(b"ababab") == b"\0ababab"  # three pairs only pay for their entry
    noise = random.Random(0).randbytes(1000)
    assert bpe_compress(noise) == b"\0" + noise  # there is no unused byte


@pytest.mark.parametrize("data", [b"", b"\1", b"\2abcab"])
def test_what_is_no_compressed_data_is_refused(data):
    with pytest.raises(ValueError, match="ends within its table"):
        bpe_decompress(data)
