"""The examples that `docs/examples.md` shows are as they are there, and print what it says."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sqlstore

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
OUTPUT = re.compile(
    r"^```sh\npython examples/(?P<name>\w+)\.py\n```\n(?:(?!```).)*?^```text\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SHOWN = {match["name"]: match["text"].splitlines() for match in OUTPUT.finditer(PAGE)}


def settled(line: str) -> str:
    """Return a line without the numbers that differ from one machine to the next."""
    varies = re.search(r"bytes| ms$|^epoch|^\d+ documentation|^  \w+\.\w+: \d+$", line)
    return re.sub(r"\d[\d.,]*", "#", line) if varies else line


def check(name: str, output: str) -> None:
    assert list(map(settled, output.splitlines())) == list(map(settled, SHOWN[name]))


def run_here(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example in the process of the test, which has imported everything already."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert caught.value.code == 0


def test_the_page_shows_what_every_new_user_asks_for() -> None:
    assert list(SHOWN) == ["masks", "docstrings", "frames", "torch_digits"]


def test_every_program_is_named_on_the_page() -> None:
    programs = {path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert programs == set(re.findall(r"\[`examples/(\w+\.py)`\]", PAGE))


@pytest.mark.parametrize("name", SHOWN)
def test_a_small_example_is_small(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 120


def test_what_is_quoted_stands_in_the_program() -> None:
    section: dict[str, str] = {}
    for part in PAGE.split("\n## ")[1:]:
        name = re.search(r"\[`examples/(\w+\.py)`\]", part)
        assert name is not None
        lines = (EXAMPLES / name[1]).read_text(encoding="utf-8").splitlines()
        program = "\n".join(line.strip() for line in lines)
        for quoted in re.findall(r"^```py\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
            section[name[1]] = quoted
            assert "\n".join(line.strip() for line in quoted.strip().splitlines()) in program
    assert set(section) == {f"{name}.py" for name in SHOWN}


def test_masks_prints_what_is_shown_and_draws_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("masks", tmp_path, monkeypatch)
    check("masks", capsys.readouterr().out)
    drawn, shown = (
        np.asarray(Image.open(path)).astype(int)
        for path in (tmp_path / "build/masks/masks.png", ROOT / "docs" / "masks.png")
    )
    # Another version of the JPEG library may decode the photographs a little differently.
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 1
    with sqlstore.open(tmp_path / "build/masks/pieces") as store:
        for record in store:
            assert record["covered"] == np.float32(record["mask"].mean())
        assert store.verify()


def test_docstrings_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("docstrings", tmp_path, monkeypatch)
    output = capsys.readouterr().out
    if sys.version_info[:2] == (3, 11):  # whose library it is
        check("docstrings", output)
    with sqlstore.open(tmp_path / "build/docstrings") as store:
        import heapq

        record = store.get(key="heapq.nlargest")
        assert record["text"].split() == (heapq.nlargest.__doc__ or "").split()
        assert record["about"] == {"decorators": [], "arguments": ["n", "iterable", "key"]}
        assert store.verify()


def test_frames_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("frames", tmp_path, monkeypatch)
    check("frames", capsys.readouterr().out)
    with sqlstore.open(tmp_path / "build/clips") as store:
        assert store.verify()


def test_torch_digits_prints_what_is_shown_and_learns(tmp_path: Path) -> None:
    done = subprocess.run(  # a process of its own, as it forks workers
        [sys.executable, str(EXAMPLES / "torch_digits.py")],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    check("torch_digits", done.stdout)
    accuracy = re.findall(r"accuracy ([\d.]+)%", done.stdout)
    assert float(accuracy[-1]) > 90
