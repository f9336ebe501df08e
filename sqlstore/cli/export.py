"""`sqlstore export`: the metadata as a file that other programs read."""

from __future__ import annotations

import argparse

from sqlstore.cli import output
from sqlstore.cli.output import UsageError
from sqlstore.export.tables import FORMATS, format_of
from sqlstore.store import open as open_store

__all__ = ["FORMATS", "export"]


def export(options: argparse.Namespace) -> int:
    """Write the metadata of a store, or of some of its records, to a file."""
    with open_store(options.store) as store:
        view = store if options.where is None else store.where(options.where)
        try:
            done = view.export(
                options.out, format=options.format, fields=options.fields, overwrite=options.force
            )
        except FileExistsError as error:
            place = options.out.absolute()
            raise UsageError(f"{place} is there already; --force replaces it") from error
    if options.json:
        output.write_json(
            {
                "path": str(options.out),
                "format": options.format or format_of(options.out),
                "records": done.records,
                "bytes": done.n_bytes,
            }
        )
    else:
        records = output.counted(done.records, "record")
        output.say(
            output.printable(f"wrote {records} to {options.out}: {output.sized(done.n_bytes)}")
        )
    return 0
