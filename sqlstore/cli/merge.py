"""`sqlstore merge`: several stores become one."""

from __future__ import annotations

import argparse

from sqlstore.cli import output
from sqlstore.merging.merge import merge as merge_stores


def merge(options: argparse.Namespace) -> int:
    """Append the records of stores to one, which is made if there is none."""
    done = merge_stores(
        options.store,
        *options.sources,
        add_missing=options.add_missing,
        on_duplicate=options.on_duplicate,
        in_parts=options.in_parts,
    )
    if options.json:
        output.write_json(
            {
                "records": len(done.ids),
                "skipped": done.skipped,
                "sources": [
                    {"path": str(path), "records": count}
                    for path, count in zip(options.sources, done.counts, strict=True)
                ],
            }
        )
    else:
        output.say(output.printable(f"{options.store}: {done}"))
    return 0
