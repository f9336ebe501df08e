"""Commands and options. `docs/cli.md` describes all of them, and a test holds it to that."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from sqlstore.cli import (
    commands,
    compact,
    describe,
    export,
    folders,
    merge,
    repair,
    snapshots,
    subsets,
)
from sqlstore.version import __version__

_EXIT_CODES: Final = """\
exit codes:
  0    everything is fine
  1    verify found faults, repair could not save all, or import-folder skipped files that failed
  2    wrong usage, or the command could not be carried out
  3    the store is damaged
  130  interrupted
  141  nobody reads the output any more
"""

_Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the same words as every other error of the command line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.format_usage()}sqlstore: error: {message}\n")


class _Commands:
    """Adds the commands one by one, each with what all of them take."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self, name: str, run: _Command, summary: str, details: str = "", *, reads: str = ""
    ) -> argparse.ArgumentParser:
        """Add a command; what it reads other than a store comes before the store."""
        command: argparse.ArgumentParser = self._commands.add_parser(
            name, help=summary, description=f"{_sentence(summary)} {details}", allow_abbrev=False
        )
        if reads:
            command.add_argument("folder", metavar="DIR", type=Path, help=reads)
        command.add_argument("store", metavar="STORE", type=Path, help="the folder of the store")
        command.add_argument(
            "--json", action="store_true", help="print one JSON document, for programs"
        )
        command.set_defaults(run=run)
        return command


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="sqlstore",
        description="Look at, check and mend a store of records.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sqlstore {__version__}")
    add = _Commands(parser)
    add.add("info", commands.info, "what a store holds: its schema, how many records, how large")
    _add_head(add)
    _add_sql(add)
    _add_describe(add)
    add.add(
        "verify",
        commands.verify,
        "check every stored byte, commit and index row",
        "Nothing is changed. The exit code is 1 if there are faults.",
    )
    add.add(
        "rebuild",
        commands.rebuild,
        "make index.sqlite anew from the chunk files",
        "The chunk files are not changed.",
    )
    _add_repair(add)
    absorb = add.add(
        "absorb",
        commands.absorb,
        "take into the log what other SQLite tools have changed in index.sqlite",
        "Values of metadata columns, and deleted records; anything else is refused.",
    )
    absorb.add_argument(
        "--dry-run", action="store_true", help="change nothing, and say what would be taken"
    )
    add.add(
        "migrate",
        commands.migrate,
        "bring the index of an older store up to date",
        "A copy of the index as it was is kept beside it.",
    )
    _add_subsets(add)
    _add_snapshots(add)
    _add_compact(add)
    _add_merge(add)
    _add_export(add)
    _add_import_folder(add)
    _add_export_folder(add)
    return parser


def _add_head(add: _Commands) -> None:
    head = add.add(
        "head",
        commands.head,
        "the metadata of the first records",
        "For every field, the size of its value in bytes.",
    )
    head.add_argument(
        "-n", type=_count, default=10, metavar="COUNT", help="how many records (default: 10)"
    )
    _add_where(head)
    head.add_argument(
        "--columns",
        type=_names,
        metavar="NAMES",
        help="only these metadata columns and fields, in this order, with commas between",
    )


def _add_sql(add: _Commands) -> None:
    sql = add.add(
        "sql",
        commands.sql,
        "the result of an SQL statement that only reads",
        "The table `records` has a row per record: `id` and every metadata column. A result column "
        "that is a metadata column keeps its declared type; a computed one is as SQLite has it: "
        "timestamps are microseconds and dates days since 1970, booleans 0 or 1.",
    )
    sql.add_argument("sql", metavar="SQL", help="one statement, in quotes")
    sql.add_argument(
        "--limit", type=_count, metavar="COUNT", help="show at most so many rows of the result"
    )


def _add_describe(add: _Commands) -> None:
    command = add.add(
        "describe",
        describe.describe,
        "what is in the columns and fields: counts, distributions and sizes",
    )
    _add_where(command)
    command.add_argument(
        "--plot", type=Path, metavar="FILE", help="also draw it, to a file such as birds.png"
    )


def _add_subsets(add: _Commands) -> None:
    add.add("subsets", subsets.subsets, "the named subsets that there are")
    command = add.add(
        "compare",
        subsets.compare,
        "what two named subsets have in common, and what only one of them has",
        "Also which members were deleted since, and whether the others are what they were.",
    )
    command.add_argument("first", metavar="A", help="the name of a subset")
    command.add_argument("second", metavar="B", help="that of another")


def _add_snapshots(add: _Commands) -> None:
    command = add.add(
        "snapshot",
        snapshots.snapshot,
        "keep the store as it is now under a name",
        "`sqlstore.open` shows it with `snapshot=NAME`, whatever comes later.",
    )
    _add_name(command)
    command.add_argument("--note", metavar="TEXT", help="what to say of it")
    add.add("snapshots", snapshots.snapshots, "the snapshots that there are")
    command = add.add(
        "diff", snapshots.diff, "what differs between two snapshots, or between one and now"
    )
    command.add_argument("before", metavar="A", help="the name of a snapshot")
    command.add_argument("after", metavar="B", nargs="?", help="that of another; by default, now")
    command = add.add(
        "drop-snapshot", snapshots.drop_snapshot, "forget a snapshot", "Records are not touched."
    )
    _add_name(command)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return share


def _add_compact(add: _Commands) -> None:
    command = add.add(
        "compact",
        compact.compact,
        "give back the bytes that nobody needs any more",
        "First it says what it would do. Ids, views and snapshots stay as they are, and others may "
        "read and write meanwhile.",
    )
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command.add_argument(
        "--min-garbage",
        metavar="SHARE",
        type=_share,
        default=0.25,
        help="rewrite a chunk from this share of garbage on, 0 to 1; by default 0.25",
    )


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the name of the snapshot")


def _add_export(add: _Commands) -> None:
    command = add.add(
        "export",
        export.export,
        "write the metadata to a Parquet, CSV or Arrow file",
        "The file appears under its name only when it is complete.",
    )
    command.add_argument("out", metavar="OUT", type=Path, help="the file to write")
    _add_where(command)
    command.add_argument(
        "--format",
        choices=tuple(export.FORMATS),
        help="what to write; the suffix of OUT tells by default",
    )
    command.add_argument(
        "--fields",
        type=_names,
        default=[],
        metavar="NAMES",
        help="also these fields, as stored bytes; not for CSV",
    )
    command.add_argument("--force", action="store_true", help="replace OUT if it is there already")


def _add_repair(add: _Commands) -> None:
    command = add.add(
        "repair",
        repair.repair,
        "make a damaged store whole again, and say what is lost",
        "Damaged chunk files are kept in the folder quarantine. The exit code is 1 if there are "
        "records, values, subsets or snapshots that are lost.",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="change nothing, and say what would be done"
    )
    command.add_argument(
        "--drop-snapshots",
        action="store_true",
        help="drop snapshots that need a damaged chunk file",
    )
    command.add_argument(
        "--accept-lost-edits",
        action="store_true",
        help="go on without edits that neither cache nor index know any more",
    )


def _add_merge(add: _Commands) -> None:
    command = add.add(
        "merge",
        merge.merge,
        "append the records of other stores, in a new store or in one that is there",
        "Bytes are copied as they are stored. All records are appended, or none.",
    )
    command.add_argument(
        "sources", metavar="SRC", type=Path, nargs="+", help="stores to copy from, in this order"
    )
    command.add_argument(
        "--add-missing",
        action="store_true",
        help="add columns that STORE lacks; where it is new, also fields",
    )
    command.add_argument(
        "--on-duplicate",
        choices=("raise", "skip"),
        default="raise",
        help="what becomes of records whose key is there already (default: raise)",
    )
    command.add_argument(
        "--in-parts",
        action="store_true",
        help="make many commits in a store that is there, for more than 2 GiB; those before an "
        "error stay",
    )


def _add_import_folder(add: _Commands) -> None:
    command = add.add(
        "import-folder",
        folders.import_folder,
        "store the files of a folder, or those that are not stored yet",
        "The store is made if there is none. What was interrupted goes on with the same command.",
        reads="the folder to import",
    )
    command.add_argument(
        "--workers", type=_count, default=1, metavar="COUNT", help="processes (default: 1)"
    )
    command.add_argument(
        "--metadata",
        type=Path,
        metavar="FILE",
        help="a CSV, TSV or Parquet file with a row per file",
    )
    command.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="stop at a file that cannot be stored (the default), or go on and say which",
    )
    command.add_argument("--pattern", metavar="GLOB", help="only files such as '*.jpg'")
    command.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="GLOB",
        help="no files or folders such as this; may be given many times",
    )
    command.add_argument("--hidden", action="store_true", help="also what begins with a dot")
    command.add_argument(
        "--field-encoding",
        choices=folders.ENCODINGS,
        help="what the files are; by default their suffixes tell",
    )
    command.add_argument(
        "--compression", choices=folders.COMPRESSIONS, help="lz4 by default, none for images"
    )


def _add_export_folder(add: _Commands) -> None:
    command = add.add(
        "export-folder",
        folders.export_folder,
        "write the files of an imported folder back",
        "Content and modified times are those that were stored.",
    )
    command.add_argument("folder", metavar="DIR", type=Path, help="where to")
    _add_where(command)
    command.add_argument("--overwrite", action="store_true", help="replace files that are there")


def _add_where(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--where", metavar="SQL", help="only records for which this SQL condition holds"
    )


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return count


def _names(text: str) -> list[str]:
    """Return the names in a list; one that has a comma in it stands in double quotes."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not names or not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names such as label,width")
    return names
