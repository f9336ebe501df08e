"""Store the 1,797 handwritten digits of scikit-learn, ask for some with SQL, and read them back.

Run it with ``python examples/digits.py [FOLDER]``, or as ``make demo``. It makes a store and a
picture in the folder (build/demo by default), and may be run again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import afresh
import contact_sheet
import next_steps
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import sqlstore

Grey = NDArray[np.uint8]

CONDITION = "split = 'test' AND ink < :ink"
ORDER = "label, ink"
THIN = 62.5
SHADES = " .:-=+*#%"  # for grey levels 0 to 240, in steps of 27
BY_LABEL = (
    "SELECT label, count(*) AS digits, round(avg(ink), 1) AS mean_ink, max(ink) AS most_ink "
    "FROM records GROUP BY label ORDER BY label"
)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Handwritten digits in a store.")
    parser.add_argument("folder", nargs="?", default="build/demo", type=Path, help="to write into")
    folder: Path = parser.parse_args(argv).folder
    path, picture = folder / "digits", folder / "contact-sheet.png"
    afresh.clear(path, picture)

    images, labels = source()
    with create(path) as store:
        afresh.mark(path)
        taken = fill(store, images, labels)
        ask(store)
        thin = choose(store)
        compare(thin, images, labels)
        columns(thin)
        measure(store, taken)
        check(store)
        draw(thin, len(store), picture)
        step("Your turn")
        next_steps.show(store, BY_LABEL)
    return 0


def step(title: str) -> None:
    print(f"\n── {title} {'─' * (74 - len(title))}\n")


def source() -> tuple[Grey, NDArray[np.int64]]:
    """Return the images and their labels; grey levels 0 to 16 become 0 to 240, exactly."""
    step("The digits")
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)
    if not np.array_equal(images / 15, digits.images):
        raise RuntimeError("the grey levels of the source are not whole numbers")
    height, width = images.shape[1:]
    print(
        f"{len(images):,} images of {height} x {width} pixels, written by hand, with labels 0 to 9."
    )
    print("They come with scikit-learn, so nothing is downloaded.")
    return images, digits.target


def create(path: Path) -> sqlstore.Store:
    step("A store for them")
    store = sqlstore.create(
        path,
        fields={"image": sqlstore.Field("png", compression=None)},  # PNG is compressed already
        metadata={
            "number": "int32",  # which one it is in the source
            "label": sqlstore.Column("int8", index=True, nullable=False),
            "split": "string",  # the first half is for training, as in scikit-learn's own example
            "ink": "float32",  # mean grey level: 0 is empty paper
        },
        key="number",
    )
    print(f"{path} is a folder: the images go to its chunks/,")
    print("what is known about them to index.sqlite, where a row has")
    for column in store.schema.columns.values():
        print(f"  {column.name:8} {column.type}")
    return store


def records(images: Grey, labels: NDArray[np.int64]) -> Iterator[dict[str, object]]:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield {
            "image": image,
            "number": number,
            "label": int(label),
            "split": "train" if number < len(images) // 2 else "test",
            "ink": float(image.mean()),
        }


def fill(store: sqlstore.Store, images: Grey, labels: NDArray[np.int64]) -> float:
    """Append everything in one commit and return how many seconds that took."""
    began = time.perf_counter()
    ids = store.extend(records(images, labels))
    taken = time.perf_counter() - began
    print(f"\nstore.extend(records) committed the ids {ids[0]} to {ids[-1]}: now they are durable.")
    return taken


def ask(store: sqlstore.Store) -> None:
    step("Ask with SQL")
    print(BY_LABEL.replace(" FROM", "\nFROM") + "\n")
    print(store.sql(BY_LABEL).to_pandas().to_string(index=False))


def choose(store: sqlstore.Store) -> sqlstore.View:
    step("Choose some")
    thin = store.where(CONDITION, ink=THIN).order_by(ORDER)
    print("Which digits of the test half were written with the least ink?\n")
    print(f'store.where("{CONDITION}", ink={THIN}).order_by("{ORDER}")\n')
    print(f"{len(thin)} of {len(store):,} digits. So far no image has been read.")
    return thin


def compare(thin: sqlstore.View, images: Grey, labels: NDArray[np.int64]) -> None:
    """Read every image of the view and hold it against the source."""
    for digit in thin:
        number = digit["number"]
        if not np.array_equal(digit["image"], images[number]) or digit["label"] != labels[number]:
            raise RuntimeError(f"digit {number} is not what was stored")
    print(f"Now all {len(thin)} have been, and every image equals its source, pixel by pixel.")
    print("This is the first of them:\n")
    for row in thin[0]["image"]:
        print("    " + "".join(SHADES[value // 27] * 2 for value in row).rstrip())


def columns(thin: sqlstore.View) -> None:
    step("Take the metadata out")
    table = thin.to_arrow()
    print(f"thin.to_arrow() is a pyarrow.Table of {table.num_rows} rows, in the types declared:")
    print(f"\n{table.schema}\n\nthin.to_pandas().head():\n")
    print(thin.to_pandas().head().to_string())


def measure(store: sqlstore.Store, written: float) -> None:
    step("How fast that was")
    positions = np.random.default_rng(0).permutation(len(store))[:1000].tolist()
    single = median(lambda position: store[position], positions)
    raw = median(lambda position: store.raw(position, "image"), positions)
    chosen = median(lambda _: list(store.where(CONDITION, ink=THIN)), range(20))
    count = len(store.where(CONDITION, ink=THIN))
    figures = [
        ("write all: make the PNGs, sync to the disk", f"{written * 1e3:.0f} ms", "once"),
        ("read a record at random, image decoded", f"{single * 1e6:.0f} µs", "median of 1,000"),
        ("read the bytes of a PNG at random", f"{raw * 1e6:.1f} µs", "median of 1,000"),
        (f"filter, read and decode {count} records", f"{chosen * 1e3:.1f} ms", "median of 20"),
    ]
    print("On this machine, from a warm file cache, with every checksum verified:\n")
    for what, figure, how in figures:
        print(f"  {what:45} {figure:>8}   ({how})")


def median(work: Callable[[int], object], arguments: Iterable[int]) -> float:
    """Return the median of the seconds that each call took."""
    taken = []
    for argument in arguments:
        began = time.perf_counter()
        work(argument)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def check(store: sqlstore.Store) -> None:
    step("Check everything")
    report = store.verify()
    print(f"store.verify(): {report}")
    if not report:
        raise RuntimeError("a store that was just made has faults")


def draw(thin: sqlstore.View, total: int, picture: Path) -> None:
    step("See for yourself")
    digits = list(thin)
    captions = [f"{digit['label']}  ·  ink {digit['ink']:.0f}" for digit in digits]
    title = f"{CONDITION.replace(':ink', str(THIN))}   ·   {len(digits)} of {total:,} digits"
    contact_sheet.draw(picture, [digit["image"] for digit in digits], captions, title)
    print(f"These {len(digits)} digits in one picture: {picture}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
