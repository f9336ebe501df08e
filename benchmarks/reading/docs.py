"""Putting the report into a page that somebody writes by hand: between two comments."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BEGIN = "<!-- python -m benchmarks.read writes from here -->"
END = "<!-- to here -->"


def put(page: Path, pieces: Iterable[str]) -> None:
    """Replace what stands between the comments, or begin a section at the end of the page.

    Raises
    ------
    ValueError
        One of the comments is there without the other.
    """
    text = page.read_text()
    if BEGIN not in text and END not in text:
        text = f"{text.rstrip()}\n\n## Reading\n\n{BEGIN}\n{END}\n"
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"{page} must have both {BEGIN!r} and, behind it, {END!r}")
    page.write_text("\n\n".join([before + BEGIN, *pieces, END + after]))
