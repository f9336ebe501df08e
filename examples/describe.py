"""What is in a store: 1,797 handwritten digits, described as text and as a picture."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import sqlstore


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)
    first = dt.datetime(1998, 7, 1, 9, tzinfo=dt.UTC)
    with sqlstore.create(
        folder / "digits",
        fields={"image": "png", "strokes": "json"},
        metadata={
            "digit": "string",
            "ink": "float32",
            "columns": "int8",
            "scanned": "timestamp[us, UTC]",
            "even": "bool",
            "path": "string",
        },
    ) as store:
        store.extend(
            {
                "image": image,
                # In which columns each row has ink; a third was never traced.
                "strokes": [np.flatnonzero(row).tolist() for row in dark] if i % 3 else None,
                "digit": str(digit),
                "ink": image.mean() / 255,
                "columns": int(dark.any(axis=0).sum()),
                "scanned": first + dt.timedelta(minutes=20 * i + 600 * (i // 40)),
                "even": bool(digit % 2 == 0) if i % 10 else None,
                "path": f"{digit}/{i:04d}.png",
            }
            for i, (image, digit) in enumerate(zip(images, digits.target.tolist(), strict=True))
            for dark in [image > 120]
        )
        description = store.describe()
    print(description)
    description.plot(folder / "describe.png")
    print(f"\ndrawn: {folder / 'describe.png'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/describe"))
