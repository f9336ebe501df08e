"""The commands, except for `export`: each takes the parsed options and returns an exit code."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sqlstore.cli import output, table
from sqlstore.cli.output import UsageError
from sqlstore.errors import CorruptStoreError
from sqlstore.maintenance.absorb import absorb as absorb_edits
from sqlstore.maintenance.migrate import migrate as migrate_store
from sqlstore.maintenance.rebuild import rebuild as rebuild_store
from sqlstore.maintenance.report import Report
from sqlstore.maintenance.verify import verify as verify_folder
from sqlstore.store import Store
from sqlstore.store import open as open_store
from sqlstore.version import __version__
from sqlstore.view import View

FINE: Final = 0
FAULTS: Final = 1
_ROWS_AT_ONCE: Final = 4096
_IDS_AT_ONCE: Final = 1000

_TOTALS: Final = """
SELECT uuid, format_version, library_version, sqlite_version() AS sqlite_version,
       (SELECT count(*) FROM chunks WHERE NOT retired) AS chunks,
       (SELECT coalesce(sum(size), 0) FROM chunks WHERE NOT retired) AS bytes,
       (SELECT count(*) FROM commits) AS commits
FROM store
"""


def info(options: argparse.Namespace) -> int:
    """Show what a store holds."""
    with open_store(options.store) as store:
        facts = _facts(store)
    if options.json:
        output.write_json(facts)
    else:
        output.say(*_told(facts))
    return FINE


def _facts(store: Store) -> dict[str, Any]:
    schema = store.schema
    totals = store.sql(_TOTALS).to_pylist()[0]
    return {
        "path": str(store.path),
        "uuid": totals["uuid"],
        "records": len(store),
        "key": schema.key,
        "fields": [
            {"name": field.name, "encoding": field.encoding, "compression": field.compression}
            for field in schema.fields.values()
        ],
        "columns": [
            {
                "name": column.name,
                "type": str(column.type),
                "nullable": column.nullable,
                "index": column.index or column.name == schema.key,
                "key": column.name == schema.key,
            }
            for column in schema.columns.values()
        ],
        "chunks": totals["chunks"],
        "bytes": totals["bytes"],
        "commits": totals["commits"],
        "created": store.created,
        "format_version": totals["format_version"],
        "created_by_sqlstore": totals["library_version"],
        "sqlstore_version": __version__,
        "sqlite_version": totals["sqlite_version"],
    }


def _told(facts: dict[str, Any]) -> list[str]:
    version = f"{facts['format_version']}, created by sqlstore {facts['created_by_sqlstore']}"
    lines = table.pairs(
        [
            ("store", facts["path"]),
            ("records", f"{facts['records']:,}"),
            ("key", facts["key"] or "none"),
            ("chunks", f"{facts['chunks']:,}"),
            ("size", output.sized(facts["bytes"])),
            ("commits", f"{facts['commits']:,}"),
            ("created", facts["created"].isoformat(sep=" ", timespec="seconds")),
            ("format", version),
            ("sqlstore", facts["sqlstore_version"]),
            ("SQLite", facts["sqlite_version"]),
        ]
    )
    for what in ("field", "column"):
        if entries := facts[f"{what}s"]:
            lines += ["", *_listed(entries, what)]
    return lines


def _listed(entries: list[dict[str, Any]], what: str) -> list[str]:
    """Return a table of fields or columns, headed by what they are."""
    headings = {**{name: name for name in entries[0]}, "name": what}
    return table.render(
        [
            table.TextColumn(heading, [_word(entry[name]) for entry in entries])
            for name, heading in headings.items()
        ]
    )


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return output.printable("none" if value is None else str(value))


def head(options: argparse.Namespace) -> int:
    """Show the metadata of the first records, and how large their values are."""
    with open_store(options.store) as store:
        schema = store.schema
        view: View = store if options.where is None else store.where(options.where)
        total = len(view)
        asked = dict.fromkeys(options.columns or (*schema.columns, *schema.fields))
        names = [name for name in asked if name != "id"]
        view = view.limit(options.n).select(*names)
        rows = view.to_arrow()
        ids = view.ids.tolist()
        for name in names:
            if name in schema.fields:
                sizes = _sizes(store, schema.fields[name].number, ids)
                rows = rows.append_column(name, pa.array(map(sizes.get, ids), pa.int64()))
    rows = rows.select(["id", *names])
    if options.json:
        columns = schema.columns.values()
        _write_rows(rows, json_columns={c.name for c in columns if c.kind.name == "json"})
    else:
        headings = [f"{n} bytes" if n in schema.fields else n for n in rows.column_names]
        _show(rows, headings, total, "record")
    return FINE


def _sizes(store: Store, field: int, ids: list[int]) -> dict[int, int]:
    """Return the size in bytes of the value of every record that has one."""
    sizes: dict[int, int] = {}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        group = ", ".join(map(str, ids[start : start + _IDS_AT_ONCE]))
        found = store.sql(
            f"SELECT record, raw_length FROM blobs WHERE field = {field} AND record IN ({group})"
        )
        sizes.update(zip(*(column.to_pylist() for column in found.columns), strict=True))
    return sizes


def sql(options: argparse.Namespace) -> int:
    """Show the result of an SQL statement."""
    with open_store(options.store) as store:
        rows = store.sql(options.sql)
    total = rows.num_rows
    rows = rows.slice(0, options.limit)
    if options.json:
        names = rows.column_names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(
                f"more than one column is named {', '.join(twice)}; name them apart with AS"
            )
        _write_rows(rows)
    else:
        _show(rows, rows.column_names, total, "row")
    return FINE


def _show(rows: pa.Table, headings: list[str], total: int, what: str) -> None:
    """Show a table, and below it how many rows it has out of how many."""
    columns = zip(headings, rows.columns, strict=True)
    output.say(*table.render([table.text_column(*column) for column in columns]))
    of = f"{rows.num_rows:,} of " if rows.num_rows < total else ""
    output.say("", of + output.counted(total, what))


def _write_rows(rows: pa.Table, json_columns: Collection[str] = ()) -> None:
    output.write_json_rows(rows.column_names, _python_rows(rows, json_columns))


def _python_rows(rows: pa.Table, json_columns: Collection[str]) -> Iterator[tuple[object, ...]]:
    for batch in rows.to_batches(_ROWS_AT_ONCE):
        columns = [
            map(_parsed, column.to_pylist()) if name in json_columns else column.to_pylist()
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        yield from zip(*columns, strict=True)


def _parsed(text: str | None) -> object:
    return None if text is None else json.loads(text)


def verify(options: argparse.Namespace) -> int:
    """Check a store; the exit code tells whether it has faults."""
    report = _report(options.store)
    if options.json:
        output.write_json(report.as_dict())
    else:
        output.say(*map(output.printable, str(report).split("\n")))
        if not report:
            hint = f"`sqlstore repair --dry-run {options.store}` says what can be saved"
            output.say(output.printable(hint))
    return FINE if report else FAULTS


def _report(path: Path) -> Report:
    try:
        with open_store(path) as store:
            return store.verify()
    except CorruptStoreError:
        # Too damaged to be opened: all the more reason to say everything that is wrong with it.
        return verify_folder(path.absolute())


def rebuild(options: argparse.Namespace) -> int:
    """Make the index anew."""
    records = rebuild_store(options.store)
    if options.json:
        output.write_json({"records": records})
    else:
        output.say(f"index.sqlite was made anew: {output.counted(records, 'record')}")
    return FINE


def absorb(options: argparse.Namespace) -> int:
    """Take into the log what other tools have changed in the index."""
    found = absorb_edits(options.store, dry_run=options.dry_run)
    if options.json:
        output.write_json({"updated": found.updated, "deleted": found.deleted})
    else:
        would = "would be " if options.dry_run else ""
        output.say(output.printable(f"{would}taken into the log: {found}"))
    return FINE


def migrate(options: argparse.Namespace) -> int:
    """Bring the index up to date."""
    done = migrate_store(options.store)
    backup = None if done.backup is None else str(done.backup)
    if options.json:
        output.write_json({"before": done.before, "after": done.after, "backup": backup})
    elif backup is None:
        output.say(f"nothing to do: the index is at revision {done.after}, the newest")
    else:
        output.say(
            f"index.sqlite went from revision {done.before} to {done.after}; "
            f"as it was, it is kept as {output.printable(backup)}"
        )
    return FINE
