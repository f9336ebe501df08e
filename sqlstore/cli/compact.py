"""`sqlstore compact`: give back the bytes of chunks that nobody needs any more."""

from __future__ import annotations

import argparse
from typing import Any

from sqlstore.cli import output
from sqlstore.compaction import Compaction
from sqlstore.store import open as open_store


def compact(options: argparse.Namespace) -> int:
    """Say what a compaction would do, then do it."""
    with open_store(options.store, "r" if options.dry_run else "a") as store:
        found = store.compact(min_garbage=options.min_garbage, dry_run=True)
        if not options.json:
            output.say(*str(found).split("\n"))
        if not options.dry_run:
            found = store.compact(min_garbage=options.min_garbage)
            if not options.json and found.of_fate("rewrite", "remove"):
                output.say(*str(found).split("\n"))
    if options.json:
        output.write_json(_document(found))
    return 0


def _document(found: Compaction) -> dict[str, Any]:
    chunks = [
        {
            "name": chunk.name,
            "size": chunk.size,
            "live": chunk.live,
            "snapshots": list(chunk.snapshots),
            "fate": chunk.fate,
        }
        for chunk in found.chunks
    ]
    return {"done": found.done, "copied": found.copied, "freed": found.freed, "chunks": chunks}
