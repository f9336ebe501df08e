"""`sqlstore compact`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sqlstore.cli import main
from tests.compacted import chunk_files, contents, new_store


def test_it_says_what_it_would_do_and_does_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store"
    with new_store(path) as store:
        store.where("n % 2 = 0").delete()
        expected = contents(store)
        before = chunk_files(path)
        assert main(["compact", str(path), "--dry-run"]) == 0
        assert "to rewrite" in capsys.readouterr().out
        assert main(["compact", str(path), "--dry-run", "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert (plan["done"], chunk_files(path)) == (False, before)
        assert {chunk["name"]: chunk["size"] for chunk in plan["chunks"]} == before
        assert main(["compact", str(path), "--min-garbage", "0.2"]) == 0
        out = capsys.readouterr().out
        assert out.index("to rewrite") < out.index("rewrote")
        assert sum(chunk_files(path).values()) < sum(before.values())
        assert main(["compact", str(path)]) == 0
        assert capsys.readouterr().out.count("nothing to gain") == 1
        assert contents(store) == expected
        assert main(["info", str(path), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["chunks"] == len(chunk_files(path))
        assert facts["bytes"] == sum(chunk_files(path).values())


@pytest.mark.parametrize("share", ["2", "-0.5", "nan", "half"])
def test_a_share_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: str
) -> None:
    new_store(tmp_path / "store", 3).close()
    try:
        code = main(["compact", str(tmp_path / "store"), "--min-garbage", share])
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    assert (
        f"argument --min-garbage: '{share}' is not a share from 0 to 1" in capsys.readouterr().err
    )
