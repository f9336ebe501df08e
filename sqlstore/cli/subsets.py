"""`sqlstore subsets` and `compare`: records of a store that were saved under names."""

from __future__ import annotations

import argparse
from typing import Any

from sqlstore.cli import output, table
from sqlstore.comparison import Comparison
from sqlstore.store import open as open_store
from sqlstore.subsets import Subset


def subsets(options: argparse.Namespace) -> int:
    """List the named subsets."""
    with open_store(options.store) as store:
        known = store.subsets()
    if options.json:
        output.write_json([_facts(one) for one in known])
    elif known:
        output.say(*table.listing([_shown(one) for one in known], elastic=("sql", "note")))
    else:
        output.say("there are no subsets")
    return 0


def _facts(one: Subset) -> dict[str, Any]:
    return {
        "name": one.name,
        "records": one.records,
        "deleted": one.deleted,
        "saved": one.saved_at,
        "sql": one.sql,
        "parameters": one.parameters,
        "note": one.note,
        "fingerprint": one.fingerprint,
        "content": one.content,
    }


def _shown(one: Subset) -> dict[str, Any]:
    hidden = ("parameters", "fingerprint", "content")
    return {name: value for name, value in _facts(one).items() if name not in hidden}


def compare(options: argparse.Namespace) -> int:
    """Show what two named subsets have in common."""
    with open_store(options.store) as store:
        found = store.compare(options.first, options.second)
    if options.json:
        output.write_json(_document(found))
    else:
        output.say(*map(output.printable, str(found).split("\n")))
    return 0


def _document(found: Comparison) -> dict[str, Any]:
    return {
        "first": found.first,
        "second": found.second,
        "only_first": found.only_first.ids.tolist(),
        "only_second": found.only_second.ids.tolist(),
        "both": found.both.ids.tolist(),
        "repeats": found.repeats.tolist(),
        "reordered": found.reordered,
        "deleted": found.deleted.tolist(),
        "first_changed": found.first_changed,
        "second_changed": found.second_changed,
    }
