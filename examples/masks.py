"""Keep pieces of two photographs with masks that say what is on them, and draw the ones asked for.

Run it with ``python examples/masks.py [FOLDER]``. It makes a store and a picture in the folder
(build/masks by default). The photographs, a flower and a pagoda, come with scikit-learn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import afresh
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

import sqlstore

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIDE = 61  # pixels of a piece: seven rows of ten in each photograph
GAP, GREY = 6, 235
RED = np.array([208, 52, 76], np.uint8)  # neither flower, nor sky, nor roofs are of this colour


def main(argv: Sequence[str]) -> int:
    folder = Path(argv[0] if argv else "build/masks")
    path, picture = folder / "pieces", folder / "masks.png"
    afresh.clear(path, picture)
    store = sqlstore.create(
        path,
        fields={
            "image": sqlstore.Field("png", compression=None),  # PNG is compressed already
            "mask": sqlstore.Field("array", compression="zstd"),  # bools, which zstd makes small
        },
        metadata={"photo": "string", "row": "int8", "column": "int8", "covered": "float32"},
    )
    afresh.mark(path)
    with store:
        store.extend(pieces("flower"))
        store.extend(pieces("china"))
        print(f"{len(store)} pieces of {SIDE} x {SIDE} pixels, each with a mask")
        for row in store.sql(
            "SELECT photo, count(*) AS pieces, round(100 * avg(covered)) AS percent FROM records "
            "WHERE covered > 0 GROUP BY photo ORDER BY photo"
        ).to_pylist():
            print(
                f"  {row['photo']}: on {row['pieces']} of them, {row['percent']:.0f} % of the area"
            )

        # Where the edge runs through: SQL chooses, and only these are read.
        edges = store.where("covered BETWEEN 0.2 AND 0.8")
        half = edges.order_by("abs(covered - 0.5)").limit(10).order_by("photo DESC, covered")
        print(f"{len(edges)} pieces have an edge in them; the 10 nearest to one half are")
        print("  " + ", ".join(f"{record['covered']:.0%}" for record in half))

        # A training loop wants arrays: images and masks of a batch as two of them.
        images, masks = half.stack("image"), half.stack("mask")
        print(f"images {images.shape} {images.dtype}, masks {masks.shape} {masks.dtype}")
        size = store.sql("SELECT field, sum(length) AS n FROM record_locations GROUP BY field")
        print("bytes:", ", ".join(f"{row['field']} {row['n']:,}" for row in size.to_pylist()))
    draw(images, masks, picture)
    print(f"drawn: {picture}")
    return 0


def photograph(name: str) -> tuple[Pixels, Mask]:
    """Return a photograph, and where it shows petals, or sky and water."""
    photo: Pixels = load_sample_image(f"{name}.jpg")
    red, _, blue = np.moveaxis(photo.astype(int), -1, 0)
    if name == "flower":
        return photo, (red > 110) & (red > 1.2 * blue)
    return photo, (blue > 130) & (blue > red)


def pieces(name: str) -> Iterator[dict[str, object]]:
    """Return records of a photograph, piece by piece."""
    photo, mask = photograph(name)
    for row in range(photo.shape[0] // SIDE):
        for column in range(photo.shape[1] // SIDE):
            place = np.s_[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            yield {
                "image": photo[place],
                "mask": mask[place],
                "photo": name,
                "row": row,
                "column": column,
                "covered": float(mask[place].mean()),
            }


def draw(images: Pixels, masks: Mask, picture: Path) -> None:
    """Draw the pieces above what their masks leave of them; the rest is red."""
    left = np.where(masks[..., None], images, RED)
    margins = (0, 0), (GAP, 0), (GAP, 0), (0, 0)
    rows = [np.hstack(list(np.pad(row, margins, constant_values=GREY))) for row in (images, left)]
    sheet = np.pad(np.vstack(rows), ((0, GAP), (0, GAP), (0, 0)), constant_values=GREY)
    Image.fromarray(sheet).save(picture)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
