"""Tests of keras_transformer.models.checkpoints: files of tensors, whole and damaged."""

import json
import struct

import numpy as np
import pytest
from fixtures_checkpoints import (
    CHECKPOINTS,
    copy,
    loaded,
    packed,
    refused,
    rewrite,
    tensors_of,
)

from keras_transformer.errors import InputError
from keras_transformer.models import from_hugging_face
from keras_transformer.models.checkpoints import read_safetensors

__all__ = ["copy", "loaded"]


def test_bfloat16_is_read(copy, loaded):
    folder = copy("bert")
    tensors = tensors_of(folder)
    rewrite(
        folder,
        {
            k: (v.astype("float32").view("uint32") >> 16).astype("uint16")
            for k, v in tensors.items()
        },
    )
    model = from_hugging_face(folder)
    for new, old in zip(model.get_weights(), loaded("bert").get_weights(), strict=True):
        # Cut to 8 bits: too small by less than 2^-7 of it.
        assert np.all(np.abs(new) <= np.abs(old))
        assert np.all(np.abs(old - new) <= np.abs(old) * 2**-7)
    assert model.get_weights()[0].dtype == "float32"


def test_our_reader_agrees_with_numpy_for_every_dtype(tmp_path):
    values = {
        "F64": np.array([1.5, -2.25]),
        "F32": np.array([[1.5], [-2.25]], "float32"),
        "F16": np.array([0.5], "float16"),
        "I64": np.array([-(2**40)]),
        "I32": np.array([-7], "int32"),
        "I16": np.array([-300], "int16"),
        "I8": np.array([-5], "int8"),
        "U64": np.array([2**63], "uint64"),
        "U32": np.array([2**31], "uint32"),
        "U16": np.array([2**15], "uint16"),
        "U8": np.array([[200, 3]], "uint8"),
        "BOOL": np.array([True, False]),
    }
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for kind, value in values.items():
        header[kind] = {
            "dtype": kind,
            "shape": list(value.shape),
            "data_offsets": [place, place + value.nbytes],
        }
        place += value.nbytes
    header["scalar"] = {"dtype": "BF16", "shape": [], "data_offsets": [place, place + 2]}
    header["none"] = {"dtype": "F32", "shape": [0, 3], "data_offsets": [place + 2, place + 2]}
    data = b"".join(value.tobytes() for value in values.values()) + b"\xc0\xbf"
    (tmp_path / "x").write_bytes(packed(header, data))
    found = read_safetensors(tmp_path / "x")
    for kind, value in values.items():
        np.testing.assert_array_equal(found[kind], value)
        assert found[kind].dtype == value.dtype
    assert found["scalar"].shape == () and found["scalar"] == -1.5
    assert found["none"].shape == (0, 3)
    (tmp_path / "x").write_bytes(packed({}))
    assert read_safetensors(tmp_path / "x") == {}


# --- Shards ---------------------------------------------------------------------------------------


def shards(folder):
    tensors = tensors_of(folder)
    places = {}
    for i, part in enumerate(np.array_split(sorted(tensors), 3)):
        name = f"model-{i + 1:05}-of-00003.safetensors"
        rewrite(folder, {key: tensors[key] for key in part}, name)
        places |= dict.fromkeys(map(str, part), name)
    (folder / "model.safetensors").unlink()
    return places


def index(folder, places):
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": places}), "utf-8")


def test_several_files_are_one_checkpoint(copy, loaded):
    folder = copy("bert")
    index(folder, shards(folder))
    model = from_hugging_face(folder)
    for new, old in zip(model.get_weights(), loaded("bert").get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_bad_shards_are_named(copy):
    folder = copy("bert")
    places = shards(folder)
    first = next(iter(places))
    for wrong, message in (
        ({**places, "more": places[first]}, "model-00001-.* lacks what .*index.json says: more"),
        ({**places, first: "gone"}, "There is no file .*gone, which .*index.json names"),
        ({**places, first: "../x"}, "names a file outside of its folder: '../x'"),
        ({**places, first: 5}, "has no weight_map"),
        ("all", "has no weight_map"),
    ):
        index(folder, wrong)
        refused(folder, message)
    index(folder, places)
    (folder / places[first]).unlink()
    refused(folder, "There is no file .*model-00001-of-00003.safetensors")


# --- Damaged files --------------------------------------------------------------------------------


def test_a_file_that_is_cut_off_is_refused(copy):
    folder = copy()
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) - 1)
    for place in places:
        path.write_bytes(whole[:place])
        refused(folder, "model.safetensors can't be read, it is damaged or cut off")
    path.write_bytes(whole + b"\0")
    refused(folder, "1 bytes at its end belong to no tensor")


def entry(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(end=16)}, r"a of shape \[2\] can't be the bytes 0 to 16"),
        ({"a": entry(end=2**63, shape=(2**61,))}, "can't be the bytes"),
        ({"a": entry(shape=(2**40, 2**40))}, "can't be the bytes"),
        ({"a": entry(begin=8, end=0)}, "can't be the bytes 8 to 0"),
        ({"a": entry(end=4, shape=(1,))}, "4 bytes at its end belong to no tensor"),
        ({"a": entry(4, 8, (1,))}, "the bytes 0 to 4 are open"),
        ({"a": entry(), "b": entry()}, "the bytes 0 to 8 are open"),
        ({"a": entry(shape=(-2,))}, r"a has the shape \[-2\]"),
        ({"a": entry(shape=(True, 2))}, "a has the shape"),
        ({"a": entry(shape=(2.0,))}, "a has the shape"),
        ({"a": {**entry(), "shape": 2}}, "a has the shape 2"),
        ({"a": {**entry(), "data_offsets": [0]}}, r"at \[0\]"),
        ({"a": entry(dtype="F8_E4M3", shape=(8,))}, "a is of the unknown dtype 'F8_E4M3'"),
        ({"a": entry(dtype=["F32"])}, "a is of the unknown dtype"),
        ({"a": {"dtype": "F32"}}, "a has no dtype, shape and data_offsets"),
        ({"a": 5}, "a has no dtype, shape and data_offsets"),
        (b"[]", "its header is not a JSON object"),
        (b'{"a": {}, "a": {}}', "a name is there twice"),
        (b"\xff\xff", "can't decode"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed(header, bytes(8)))
    with pytest.raises(InputError, match=message):
        read_safetensors(path)
    path.write_bytes(packed({"a": entry()}, bytes(8)))
    assert read_safetensors(path)["a"].tolist() == [0, 0]


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 200])
def test_a_header_that_is_too_long_is_refused(tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + bytes(100))
    with pytest.raises(InputError, match="its header can't have"):
        read_safetensors(path)


def test_flipped_bytes_give_an_error_that_is_meant_or_a_file_that_fits(tmp_path, rng):
    whole = (CHECKPOINTS / "bert-classifier" / "model.safetensors").read_bytes()
    original = read_safetensors(CHECKPOINTS / "bert-classifier" / "model.safetensors")
    header = 8 + int.from_bytes(whole[:8], "little")
    path = tmp_path / "model.safetensors"
    clean = 0
    for trial in range(600):
        spoiled = bytearray(whole)
        for place in rng.integers(0, header, 1 + trial % 3):
            spoiled[place] = rng.integers(256) if trial % 2 else spoiled[place] ^ (1 << trial % 8)
        path.write_bytes(spoiled)
        try:
            found = read_safetensors(path)
        except InputError:
            continue
        clean += 1  # a letter of a name, or a type of the same size
        assert len(found) == len(original)
        assert sum(tensor.size for tensor in found.values()) <= len(whole)
    assert 20 < clean < 500
