"""Store MNIST, or what else comes as IDX files of images and labels, and read all of it back.

Run it with ``python examples/mnist.py DIR [STORE]``. DIR holds files such as
``t10k-images-idx3-ubyte.gz`` and ``t10k-labels-idx1-ubyte.gz``; a pair of which only one half is
there is left out. The store (build/mnist by default) is made anew on every run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import afresh
import contact_sheet
import idx
import next_steps
import numpy as np
from numpy.typing import NDArray

import sqlstore

SPLITS = {"train": "train", "t10k": "test"}  # what the files call them, and what everyone else does
BY_LABEL = "SELECT label, count(*) AS images FROM records GROUP BY label ORDER BY label"
BOLDEST = """id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY label ORDER BY ink DESC) AS place FROM records
    ) WHERE place <= 10
)"""


@dataclass(frozen=True)
class Pair:
    """The images of one split and what is seen on them."""

    split: str
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="MNIST in a store.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the IDX files are")
    parser.add_argument("store", metavar="STORE", nargs="?", default="build/mnist", type=Path)
    arguments = parser.parse_args(argv)
    path: Path = arguments.store
    picture = path.with_name(f"{path.name}-contact-sheet.png")
    try:
        pairs = list(complete_pairs(arguments.folder))
    except idx.IdxError as error:
        raise SystemExit(f"mnist.py: {error}") from error
    if not pairs:
        raise SystemExit(f"mnist.py: {arguments.folder} holds no images together with their labels")

    afresh.clear(path, picture)
    with create(path) as store:
        afresh.mark(path)
        fill(store, pairs)
        count(store, pairs)
        compare(store, pairs)
        report = store.verify()
        print(f"verify: {report}")
        draw(store, picture)
        print()
        next_steps.show(store, BY_LABEL)
    return 0 if report else 1


def complete_pairs(folder: Path) -> Iterator[Pair]:
    """Read the images and labels of every split of which both are there."""
    for prefix, split in SPLITS.items():
        images = find(folder, f"{prefix}-images-idx3-ubyte")
        labels = find(folder, f"{prefix}-labels-idx1-ubyte")
        if images is None or labels is None:
            missing = [what for what, file in (("images", images), ("labels", labels)) if not file]
            print(f"{split}: skipped, its {' and '.join(missing)} are not in {folder}")
            continue
        pair = Pair(split, idx.read(images), idx.read(labels))
        if pair.images.ndim != 3 or pair.labels.shape != pair.images.shape[:1]:
            raise idx.IdxError(
                f"{images.name} of shape {pair.images.shape} and {labels.name} of shape "
                f"{pair.labels.shape} do not belong together"
            )
        number, height, width = pair.images.shape
        print(f"{split}: {number:,} images of {height} x {width} pixels")
        yield pair


def find(folder: Path, name: str) -> Path | None:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    return None


def create(path: Path) -> sqlstore.Store:
    return sqlstore.create(
        path,
        fields={"image": sqlstore.Field("png", compression=None)},  # PNG is compressed already
        metadata={
            "name": "string",  # split and position in the file, as in test/00042
            "split": sqlstore.Column("string", nullable=False),
            "number": "int32",
            "label": sqlstore.Column("uint8", index=True, nullable=False),
            "ink": "float32",  # mean grey level, 0 to 255
        },
        key="name",
    )


def records(pair: Pair) -> Iterator[dict[str, object]]:
    inks = pair.images.mean(axis=(1, 2)).astype(np.float32)
    for number, image in enumerate(pair.images):
        yield {
            "image": image,
            "name": f"{pair.split}/{number:05}",
            "split": pair.split,
            "number": number,
            "label": int(pair.labels[number]),
            "ink": float(inks[number]),
        }


def fill(store: sqlstore.Store, pairs: Sequence[Pair]) -> None:
    began = time.perf_counter()
    with store.writer() as writer:
        for pair in pairs:
            writer.extend(records(pair))
    taken = time.perf_counter() - began
    print(f"\nwrote {len(store):,} records in {taken:.2f} s, the making of the PNGs included:")
    print(f"{len(store) / taken:,.0f} records a second")


def count(store: sqlstore.Store, pairs: Sequence[Pair]) -> None:
    """Count the labels with SQL and hold that against the source."""
    counted = store.sql(BY_LABEL).to_pydict()
    source = np.bincount(np.concatenate([pair.labels for pair in pairs]))
    if counted["label"] != np.flatnonzero(source).tolist():
        raise RuntimeError(f"the labels {counted['label']} are not those of the source")
    if counted["images"] != source[source > 0].tolist():
        raise RuntimeError(f"the counts {counted['images']} are not those of the source")
    print(f"\n{BY_LABEL}")
    print("labels:", *counted["label"])
    print("images:", *counted["images"])


def compare(store: sqlstore.Store, pairs: Sequence[Pair]) -> None:
    """Read everything back, in order, and compare every image and label with the source."""
    began = time.perf_counter()
    stored = iter(store)
    for pair in pairs:
        for number, image in enumerate(pair.images):
            record = next(stored)
            here = record["split"], record["number"], record["label"]
            if here != (pair.split, number, pair.labels[number]):
                raise RuntimeError(f"{record['name']} has come back as {here}")
            if not np.array_equal(record["image"], image):
                raise RuntimeError(f"the image of {record['name']} is not what was stored")
    taken = time.perf_counter() - began
    print(f"\nread all {len(store):,} back in {taken:.2f} s, {len(store) / taken:,.0f} a second;")
    print("every image equals its source, pixel by pixel")


def draw(store: sqlstore.Store, picture: Path) -> None:
    """Draw the ten images of every label that have the most ink."""
    boldest = list(store.where(BOLDEST).order_by("label, ink DESC").limit(100))
    captions = [f"{record['label']}  ·  ink {record['ink']:.0f}" for record in boldest]
    title = f"The ten boldest of every label   ·   {len(boldest)} of {len(store):,} images"
    contact_sheet.draw(picture, [record["image"] for record in boldest], captions, title)
    print(f"the ten boldest of every label: {picture}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
