"""`sqlstore describe`: what is in the columns and fields of a store."""

from __future__ import annotations

import argparse

from sqlstore.cli import output
from sqlstore.store import open as open_store


def describe(options: argparse.Namespace) -> int:
    """Show what is in the records of a store, or in some of them."""
    with open_store(options.store) as store:
        view = store if options.where is None else store.where(options.where)
        description = view.describe()
    if options.plot is not None:
        description.plot(options.plot)
    if options.json:
        output.write_json(description.to_dict())
    else:
        output.say(str(description))
    return 0
