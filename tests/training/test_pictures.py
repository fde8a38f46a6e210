"""Tests of keras_transformer.training.pictures."""

import numpy as np
import pytest

from keras_transformer.training.pictures import CELL, DARKEST, WIDTH, attention_picture


def cells(picture, rows, columns):
    """The colour in the middle of each cell: (H, T, S, 3). Each head is known by its grey frame."""
    grey = np.all(picture == 128, axis=-1)
    width, height = columns * CELL + 2, rows * CELL + 2
    found = []
    for y, x in zip(*np.nonzero(grey), strict=True):
        top, side = grey[y, x : x + width], grey[y : y + height, x]
        if len(top) == width and len(side) == height and top.all() and side.all():
            middle = [
                picture[y + 1 + CELL // 2 : y + height : CELL, x + 1 + CELL // 2 + s * CELL]
                for s in range(columns)
            ]
            found.append(np.stack(middle, axis=1)[:rows])
    return np.array(found)


def test_each_cell_is_as_dark_as_its_weight():  # E07
    weights = np.array([[[1, 0, 0], [0, 0.5, 0.5]], [[0, 0, 1], [0.25, 0, 0.75]]])
    picture = attention_picture(weights, ["a", "b"], ["c", "d", "e"])
    assert picture.dtype == np.uint8
    colours = cells(picture, 2, 3)
    assert colours.shape == (2, 2, 3, 3)
    assert colours[0, 0].tolist() == [DARKEST.tolist(), [255] * 3, [255] * 3]
    expected = 255 - np.sqrt(weights)[..., np.newaxis] * (255 - DARKEST)
    np.testing.assert_allclose(colours, expected, atol=1)


def test_a_picture_has_room_for_heads_pieces_and_labels():
    def size(heads, rows, columns):
        return attention_picture(np.ones((heads, len(rows), len(columns))), rows, columns).shape

    one = size(1, ["a"] * 2, ["b"] * 30)
    assert size(1, ["a"] * 5, ["b"] * 30) == (one[0] + 3 * CELL, one[1], 3)
    assert size(1, ["a"] * 2, ["b"] * 34) == (one[0], one[1] + 4 * CELL, 3)
    longer = size(1, ["longer", "a"], ["much longer"] * 30)
    assert longer[0] > one[0]
    assert longer[1] > one[1]


@pytest.mark.parametrize(("heads", "columns"), [(3, 5), (8, 5), (8, 20), (3, 70)])
def test_heads_that_are_too_wide_go_below_each_other(heads, columns):
    weights = np.zeros((heads, 2, columns))
    weights[np.arange(heads), 0, np.arange(heads) % columns] = 1
    picture = attention_picture(weights, ["a", "b"], ["c"] * columns)
    assert picture.shape[1] <= max(WIDTH, columns * CELL + 50)
    dark = np.all(cells(picture, 2, columns) == DARKEST, axis=-1)
    np.testing.assert_array_equal(dark, weights == 1)  # in the order of the heads


LABELS = ["x" * 300, "Größe", "語", "мир", "👍", "##ing", "[UNK]", " ", ""]


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label[:10])
@pytest.mark.parametrize("has_fonts", [False, True])
def test_any_piece_can_be_a_label(label, has_fonts, monkeypatch):
    if not has_fonts:
        monkeypatch.setattr("keras_transformer.training.pictures.FONTS", ())
    picture = attention_picture(np.eye(2)[None], [label, "b"], ["c", label])
    (head,) = np.all(cells(picture, 2, 2) == DARKEST, axis=-1)
    np.testing.assert_array_equal(head, np.eye(2))


def test_labels_are_written():
    blank, written = (
        attention_picture(np.zeros((1, 1, 1)), [text], [text]) for text in ("   ", "MMM")
    )
    assert np.sum(written < 100) > np.sum(blank < 100)


def test_weights_of_padding_are_left_out():
    weights = np.zeros((1, 4, 5))
    weights[0, 2:] = 1
    picture = attention_picture(weights, ["a", "b"], ["c", "d", "e"])
    assert np.all(cells(picture, 2, 3) == 255)
