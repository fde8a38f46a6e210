"""Pictures for people."""

import math
import unicodedata
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_transformer.typing import Tensor

CELL = 18  # pixels a weight
FONT = 13
MARGIN = 6
WIDTH = 1100  # pixels; so wide is a picture at most, if no head is wider
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
DARKEST = np.array([8, 29, 88])  # the colour of weight 1; that of 0 is white

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


def attention_picture(weights: Tensor, rows: list[str], columns: list[str]) -> np.ndarray:
    """Draw the attention weights of all heads in a square; the darker, the more attention.

    Darkness grows with the square root of a weight, or else attention that is spread over a whole
    sentence could not be seen. Above each head stands its largest weight.

    Args:
        weights: Float array `(H, T, S)`, in [0, 1].
        rows: The T pieces that attend, written at the left.
        columns: The S pieces attended to, written above each head.

    Returns:
        Uint8 array (height, width, 3).
    """
    font, has_all = _font()
    if not has_all:
        rows, columns = [_ascii(text) for text in rows], [_ascii(text) for text in columns]
    weights = np.asarray(weights, "float32")[:, : len(rows), : len(columns)]
    height, width = len(rows) * CELL, len(columns) * CELL
    left = max(_width(font, text) for text in rows) + 2 * MARGIN
    above = max(_width(font, text) for text in columns) + 2 * MARGIN
    titles = [f"head {i + 1}: up to {head.max():.2f}" for i, head in enumerate(weights)]
    across = max(width, *(_width(font, title) for title in titles)) + 2 * MARGIN
    title = FONT + 2 * MARGIN
    down = title + above + height + MARGIN
    square = math.ceil(math.sqrt(len(weights)))  # TensorBoard shrinks what is wide
    beside = min(square, max(1, (WIDTH - left) // across))
    size = (left + beside * across, -(-len(weights) // beside) * down)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for head, matrix in enumerate(weights):
        x, y = left + head % beside * across, head // beside * down
        draw.text((x, y + MARGIN // 2), titles[head], "black", font)
        if head % beside == 0:
            for t, text in enumerate(rows):
                place = (left - MARGIN - _width(font, text), y + title + above + t * CELL)
                draw.text(place, text, "black", font)
        for s, text in enumerate(columns):
            label = Image.new("RGB", (above - MARGIN, CELL), "white")
            ImageDraw.Draw(label).text((0, 0), text, "black", font)
            picture.paste(label.rotate(90, expand=True), (x + s * CELL, y + title))
        shade = np.sqrt(np.clip(matrix, 0, 1))[..., np.newaxis]
        colours = np.uint8(np.round(255 - shade * (255 - DARKEST)))
        cells = Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)
        picture.paste(cells, (x, y + title + above))
        draw.rectangle(
            (x - 1, y + title + above - 1, x + width, y + title + above + height), outline="grey"
        )
    return np.asarray(picture)


def _font() -> tuple[Font, bool]:
    """Return a font, and whether it has more letters than ASCII's; that of Pillow has not."""
    for name in FONTS:
        try:
            return ImageFont.truetype(name, FONT), True
        except OSError:
            continue
    return ImageFont.load_default(FONT), False


def _ascii(text: str) -> str:
    """Leave accents out, and write other letters as numbers, so that pieces stay different."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", "backslashreplace").decode("ascii")


def _width(font: Font, text: str) -> int:
    return int(font.getlength(text))
