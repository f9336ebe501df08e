"""Views of several stores in other processes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Final

import sqlstore
from sqlstore import Store

LOADER: Final = """
import os, pickle, sys
from pathlib import Path
from torch.utils.data import DataLoader, get_worker_info
import numpy as np

opened = []
sys.addaudithook(lambda event, _: opened.append(event) if event == "sqlite3.connect" else None)

def collate(records):
    assert get_worker_info() is not None and not opened
    return [record["n"] for record in records]

if __name__ == "__main__":
    view = pickle.loads(Path(sys.argv[1]).read_bytes())
    for method, count in (("fork", 2), ("spawn", 1)):
        how = {"num_workers": count, "multiprocessing_context": method}
        loader = DataLoader(view, 8, collate_fn=collate, **how)
        print([n for batch in loader for n in batch])
    shuffled = DataLoader(view, 8, shuffle=True, num_workers=1, collate_fn=collate)
    print(sorted(n for batch in shuffled for n in batch))
"""


def make(path: Path, numbers: range) -> Store:
    store = sqlstore.create(path, fields={"data": "bytes"}, metadata={"n": "int32"})
    store.extend({"data": b"%d" % n, "n": n} for n in numbers)
    return store


def test_a_torch_loader_reads_it_in_workers(tmp_path: Path) -> None:
    with make(tmp_path / "a", range(30)) as one, make(tmp_path / "b", range(100, 120)) as two:
        view = sqlstore.concat([one, two]).sample(45, seed=0)
        expected = [record["n"] for record in view]
        (tmp_path / "view").write_bytes(pickle.dumps(view))
    (tmp_path / "program.py").write_text(LOADER)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(tmp_path / "program.py"), str(tmp_path / "view")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fork, spawn, shuffled = (json.loads(line) for line in done.stdout.splitlines())
    assert fork == spawn == expected
    assert shuffled == sorted(expected)


def test_many_positions_travel_as_a_file(tmp_path: Path) -> None:
    """It lies in the cache of a store that has one, which one without records has not."""
    with make(tmp_path / "a", range(0)) as empty, make(tmp_path / "b", range(3000)) as store:
        mixed = sqlstore.concat([empty, store]).shuffle(0)
        pickled = pickle.dumps(mixed)
        assert len(pickled) < 5000
        again = pickle.loads(pickled)
        assert again.ids.tolist() == mixed.ids.tolist()
        assert again.fetch([0, -1]) == mixed.fetch([0, -1])
        assert pickle.loads(pickle.dumps(again[5:9])).ids.tolist() == mixed[5:9].ids.tolist()
