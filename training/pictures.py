"""Pictures for people."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 18  # pixels a weight
FONT = 13
MARGIN = 6


def attention_picture(weights, rows: list[str], columns: list[str]) -> np.ndarray:
    """Draw the attention weights of all heads side by side; the darker, the more attention.

    Args:
        weights: Float array `(H, T, S)`, in [0, 1].
        rows: The T pieces that attend, written at the left.
        columns: The S pieces attended to, written above each head.

    Returns:
        Uint8 array (height, width, 3).
    """
    font = ImageFont.load_default(FONT)
    heads, height, width = len(weights), len(rows) * CELL, len(columns) * CELL
    left = max(_width(font, text) for text in rows) + 2 * MARGIN
    above = max(_width(font, text) for text in columns) + 2 * MARGIN
    title = FONT + 2 * MARGIN
    picture = Image.new(
        "RGB", (left + heads * (width + 2 * MARGIN), title + above + height + MARGIN), "white"
    )
    draw = ImageDraw.Draw(picture)
    for t, text in enumerate(rows):
        place = (left - MARGIN - _width(font, text), title + above + t * CELL)
        draw.text(place, text, "black", font)
    for head, matrix in enumerate(weights):
        x = left + head * (width + 2 * MARGIN)
        draw.text((x, MARGIN // 2), f"head {head + 1}", "black", font)
        for s, text in enumerate(columns):
            label = Image.new("RGB", (above - MARGIN, CELL), "white")
            ImageDraw.Draw(label).text((0, 0), text, "black", font)
            picture.paste(label.rotate(90, expand=True), (x + s * CELL, title))
        shade = np.uint8(255 * (1 - np.clip(matrix[: len(rows), : len(columns)], 0, 1)))
        colours = np.stack([shade, shade, np.full_like(shade, 255)], -1)  # white to blue
        cells = Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)
        picture.paste(cells, (x, title + above))
        draw.rectangle(
            (x - 1, title + above - 1, x + width, title + above + height), outline="grey"
        )
    return np.asarray(picture)


def _width(font, text):
    return int(font.getlength(text))
