"""Draw small grey images side by side, each with a caption, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Grey = NDArray[np.uint8]

TILE = 84  # pixels; a multiple of 28, and what is left over for 8 x 8 images becomes margin
GAP = 14
CAPTION = 22
HEADING = 64
PAPER, INK, FAINT, CARD = 246, 20, 110, 255


def draw(path: Path, images: Sequence[Grey], captions: Sequence[str], title: str) -> None:
    """Write a PNG with the images ten in a row, dark on light, enlarged without blurring.

    Parameters
    ----------
    path
        The file to write; one that is there is replaced.
    images
        Arrays (H, W) of uint8, 0 for empty paper.
    captions
        What stands below each image.
    title
        What stands above them all.
    """
    columns = max(1, min(10, len(images)))
    rows = max(1, -(-len(images) // columns))
    width = max(GAP + columns * (TILE + GAP), round(_font(20).getlength(title)) + 2 * GAP)
    height = HEADING + rows * (TILE + CAPTION + GAP)
    sheet = Image.new("L", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, HEADING / 2), title, INK, _font(20), anchor="lm")
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left = GAP + place % columns * (TILE + GAP)
        top = HEADING + place // columns * (TILE + CAPTION + GAP)
        sheet.paste(_tile(image), (left, top))
        pen.text((left + TILE / 2, top + TILE + 4), caption, FAINT, _font(14), anchor="ma")
    sheet.save(path)


def _tile(image: Grey) -> Image.Image:
    """Return an image as dark ink on a card of `TILE` pixels, every pixel enlarged alike."""
    times = max(1, TILE // max(image.shape))
    large = Image.fromarray(CARD - np.kron(image, np.ones((times, times), np.uint8)))
    if max(large.size) > TILE:
        large.thumbnail((TILE, TILE))
    card = Image.new("L", (TILE, TILE), CARD)
    card.paste(large, ((TILE - large.width) // 2, (TILE - large.height) // 2))
    return card


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
