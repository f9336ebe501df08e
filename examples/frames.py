"""Keep clips as sequences of frames, and read only the frames that are asked for.

Run it with ``python examples/frames.py [STORE]`` (build/clips by default). The clips are made by
moving over two photographs that come with scikit-learn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import afresh
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

import sqlstore

Frame = NDArray[np.uint8]

HEIGHT, WIDTH, FRAMES = 48, 64, 120


def main(argv: Sequence[str]) -> int:
    path = Path(argv[0] if argv else "build/clips")
    afresh.clear(path)
    store = sqlstore.create(
        path,
        fields={"frames": sqlstore.Field("png[]", compression=None), "words": "utf8[]"},
        metadata={"title": "string"},
    )
    afresh.mark(path)
    with store:
        store.extend(clips())
        for position, clip in enumerate(store.select("title")):
            there = store.available(position)
            print(f"{clip['title']}: {there}")

        # A mask says what to read: of the frames these ten, of the title all.
        part = store.read(0, {"frames": range(32, 42), "title": True})
        print(f"{part['title']}: {len(part['frames'])} frames of {part['frames'][0].shape}")

        # They are the frames that were stored, whichever way they are asked for.
        panned = list(pan(load_sample_image("china.jpg")))
        every_tenth = store.read(0, {"frames": slice(None, None, 10)})["frames"]
        first_and_last = store.read(0, {"frames": [0, -1]})["frames"]
        assert np.array_equal(part["frames"], panned[32:42])
        assert np.array_equal(every_tenth, panned[::10])
        assert np.array_equal(first_and_last, [panned[0], panned[-1]])
        print(f"every tenth: {len(every_tenth)} frames; first and last: {len(first_and_last)}")

        # Nothing else is read: the PNG files of ten frames, out of the bytes of the whole clip.
        files = store.raw_items(0, "frames", range(32, 42)) or []
        assert all(file.startswith(b"\x89PNG") for file in files)
        whole = store.sql("SELECT length FROM blobs ORDER BY record, field LIMIT 1").to_pylist()
        print(f"bytes of these frames {sum(map(len, files)):,}, of the clip {whole[0]['length']:,}")

        # What a clip has none of is False; a sequence without items is there, and empty.
        silent = store.where("title = 'a still'")
        print(f"{silent.available(0)}; words: {silent[0]['words']}")
        try:
            store.read(0, {"frames": [FRAMES]})
        except IndexError as error:
            print(f"IndexError: {error}")
    return 0


def clips() -> Iterator[dict[str, object]]:
    """Return two clips, and a record of a clip without frames."""
    words = ["a", "pagoda", "by", "the", "water"]
    yield {"frames": pan(load_sample_image("china.jpg")), "words": words, "title": "pagoda"}
    yield {"frames": pan(load_sample_image("flower.jpg")), "words": ["dahlia"], "title": "dahlia"}
    yield {"words": [], "title": "a still"}


def pan(photo: Frame) -> Iterator[Frame]:
    """Move over a photograph, from its upper left to its lower right."""
    bottom, right = photo.shape[0] - HEIGHT, photo.shape[1] - WIDTH
    for number in range(FRAMES):
        top, left = bottom * number // (FRAMES - 1), right * number // (FRAMES - 1)
        yield photo[top : top + HEIGHT, left : left + WIDTH]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
