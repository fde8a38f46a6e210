"""Tests of keras_transformer.training.pictures."""

import numpy as np
import pytest

from keras_transformer.training.pictures import CELL, attention_picture


def origin(picture, heads, rows, columns):
    """The pixel where the first cell of the first head begins: a cell's width from the right."""
    height, width, _ = picture.shape
    left = width - heads * (columns * CELL + 12)
    above = height - rows * CELL - 6
    return above, left


def cells(picture, heads, rows, columns):
    """The colour in the middle of each cell: (H, T, S, 3)."""
    above, left = origin(picture, heads, rows, columns)
    return np.array(
        [
            [
                [
                    picture[
                        above + t * CELL + CELL // 2,
                        left + h * (columns * CELL + 12) + s * CELL + CELL // 2,
                    ]
                    for s in range(columns)
                ]
                for t in range(rows)
            ]
            for h in range(heads)
        ]
    )


def test_each_cell_is_as_dark_as_its_weight():  # E07
    weights = np.array([[[1, 0, 0], [0, 0.5, 0.5]], [[0, 0, 1], [0.25, 0, 0.75]]])
    picture = attention_picture(weights, ["a", "b"], ["c", "d", "e"])
    assert picture.dtype == np.uint8
    colours = cells(picture, 2, 2, 3)
    np.testing.assert_array_equal(colours[..., 2], 255)  # white to blue
    np.testing.assert_array_equal(colours[..., 0], colours[..., 1])
    np.testing.assert_allclose(colours[..., 0], 255 * (1 - weights), atol=1)


def test_a_picture_has_room_for_heads_pieces_and_labels():
    one = attention_picture(np.ones((1, 2, 3)), ["a", "a"], ["b"] * 3)
    assert attention_picture(np.ones((4, 2, 3)), ["a", "a"], ["b"] * 3).shape == (
        one.shape[0],
        one.shape[1] + 3 * (3 * CELL + 12),
        3,
    )
    more = attention_picture(np.ones((1, 5, 7)), ["a"] * 5, ["b"] * 7)
    assert more.shape == (one.shape[0] + 3 * CELL, one.shape[1] + 4 * CELL, 3)
    labels = attention_picture(np.ones((1, 2, 3)), ["longer", "a"], ["much longer"] * 3)
    assert labels.shape[0] > one.shape[0]
    assert labels.shape[1] > one.shape[1]


@pytest.mark.parametrize(
    "label", ["x" * 300, "Größe", "語", "мир", "👍", "##ing", "[UNK]", " ", ""]
)
def test_any_piece_can_be_a_label(label):
    picture = attention_picture(np.eye(2)[None], [label, "b"], ["c", label])
    assert picture.min() == 0
    colours = cells(picture, 1, 2, 2)[0, :, :, 0]
    assert colours.tolist() == [[0, 255], [255, 0]]


def test_labels_are_written():
    blank, written = (
        attention_picture(np.zeros((1, 1, 1)), [text], [text]) for text in ("   ", "MMM")
    )
    assert np.sum(written < 128) > np.sum(blank < 128)


def test_padding_of_the_weights_is_left_out():
    weights = np.zeros((1, 4, 5))
    weights[0, 2:] = 1
    picture = attention_picture(weights, ["a", "b"], ["c", "d", "e"])
    assert np.all(cells(picture, 1, 2, 3) == 255)
