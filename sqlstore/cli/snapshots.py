"""`sqlstore snapshot`, `snapshots`, `drop-snapshot` and `diff`: states of a store under names."""

from __future__ import annotations

import argparse
from typing import Any

from sqlstore.cli import output, table
from sqlstore.copies import Snapshot
from sqlstore.diff import Diff
from sqlstore.store import open as open_store


def snapshot(options: argparse.Namespace) -> int:
    """Take a snapshot."""
    with open_store(options.store, "a") as store:
        store.snapshot(options.name, note=options.note)
        taken = next(one for one in store.snapshots() if one.name == options.name)
    if options.json:
        output.write_json(_facts(taken))
    else:
        name = output.printable(taken.name)
        output.say(f"snapshot {name} shows the store up to commit {taken.commit:,}")
    return 0


def snapshots(options: argparse.Namespace) -> int:
    """List the snapshots."""
    with open_store(options.store) as store:
        known = [_facts(one) for one in store.snapshots()]
    if options.json:
        output.write_json(known)
    elif known:
        output.say(*table.listing(known, elastic=("note",)))
    else:
        output.say("there are no snapshots")
    return 0


def _facts(one: Snapshot) -> dict[str, Any]:
    return {"name": one.name, "commit": one.commit, "taken": one.taken_at, "note": one.note}


def drop_snapshot(options: argparse.Namespace) -> int:
    """Drop a snapshot."""
    with open_store(options.store, "a") as store:
        store.drop_snapshot(options.name)
    if options.json:
        output.write_json({"dropped": options.name})
    else:
        output.say(f"snapshot {output.printable(options.name)} was dropped")
    return 0


def diff(options: argparse.Namespace) -> int:
    """Show what differs between two snapshots, or between one and now."""
    with open_store(options.store) as store:
        found = store.diff(options.before, options.after)
        document = _document(found)
        text = str(found)
    if options.json:
        output.write_json(document)
    else:
        output.say(*map(output.printable, text.split("\n")))
    return 0


def _document(found: Diff) -> dict[str, Any]:
    return {
        "before": found.before,
        "after": found.after,
        "added": found.added.ids.tolist(),
        "deleted": found.deleted.ids.tolist(),
        "changed": {name: ids.tolist() for name, ids in found.changed.items()},
        "columns_added": list(found.columns_added),
        "columns_dropped": list(found.columns_dropped),
        "columns_renamed": dict(found.columns_renamed),
    }
