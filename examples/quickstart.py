"""The shortest complete program: create a store, append to it, filter it with SQL, read it back.

Run it with ``python examples/quickstart.py [STORE]``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import sqlstore


def main(argv: Sequence[str]) -> int:
    path = Path(argv[0]) if argv else Path(tempfile.mkdtemp()) / "waves"

    # Fields are what a record consists of; metadata is what you filter by.
    store = sqlstore.create(
        path,
        fields={"signal": "array", "note": "utf8"},
        metadata={"shape": "string", "hertz": sqlstore.Column("int32", index=True)},
    )

    # What the writer holds is committed at the end of the block, durably.
    seconds = np.arange(1_000) / 1_000
    with store.writer() as writer:
        for hertz in range(1, 101):
            wave = np.sin(2 * np.pi * hertz * seconds)
            note = f"{hertz} per second"
            writer.append({"signal": wave, "note": note, "shape": "sine", "hertz": hertz})
            writer.append({"signal": np.sign(wave), "shape": "square", "hertz": hertz})
    print(f"{len(store)} records in {path}")

    # SQL says which records; a view of them reads just those.
    fast = store.where("shape = :shape AND hertz > 90", shape="sine").order_by("hertz DESC")
    print(f"{len(fast)} fast sine waves, the fastest of them:")
    record = fast[0]
    print(f"  {record['note']}, {record['signal'].shape} values of {record['signal'].dtype}")

    # The metadata comes out as Arrow, of the whole store or of any view, and SQL can sum it up.
    print(fast.to_arrow().slice(0, 3).to_pylist())
    print(store.sql("SELECT shape, count(*) AS n FROM records GROUP BY shape").to_pylist())
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
