"""The benchmark of decoding measures what it says, and compares before it measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("granular", reason="granular comes with the extra `bench`")

from benchmarks import encodings


def test_every_kind_is_measured_with_every_number_of_threads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--rounds", "1", "--records", "6", "--sizes", "20"]
    assert encodings.main(["--folder", str(tmp_path), *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1:-1] for line in lines if " x " in line]
    assert [row[0].split(",")[0].strip() for row in rows[:: len(encodings.THREADS)]] == [
        *encodings.KINDS
    ]
    assert all(float(cell) > 0 for row in rows for cell in row[1:])


def test_other_values_are_noticed() -> None:
    openers: dict[str, Any] = {
        encodings.OURS: lambda: lambda i: [i],
        encodings.THEIRS: lambda: lambda i: [i + i // 3],
    }
    encodings.check(openers, 3)
    with pytest.raises(ValueError, match="record 3 differs"):
        encodings.check(openers, 4)
