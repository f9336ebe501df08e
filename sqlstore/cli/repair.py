"""`sqlstore repair`: make a damaged store whole again."""

from __future__ import annotations

import argparse

from sqlstore.cli import output
from sqlstore.maintenance.repair import repair as repair_store


def repair(options: argparse.Namespace) -> int:
    """Repair a store, and say what is lost."""
    done = repair_store(
        options.store,
        dry_run=options.dry_run,
        drop_snapshots=options.drop_snapshots,
        accept_lost_edits=options.accept_lost_edits,
    )
    if options.json:
        output.write_json(done.as_dict())
    else:
        output.say(*map(output.printable, str(done).split("\n")))
    return 0 if done else 1
