"""`sqlstore import-folder` and `export-folder`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from sqlstore.cli import output
from sqlstore.cli.output import UsageError
from sqlstore.errors import ItemError
from sqlstore.ingest import export, folder
from sqlstore.ingest.folder import ENCODINGS
from sqlstore.ingest.report import FolderReport
from sqlstore.store import open as open_store

__all__ = ["COMPRESSIONS", "ENCODINGS", "export_folder", "import_folder"]

COMPRESSIONS: Final = ("lz4", "zstd", "gzip", "none")
_NAMED: Final = 5
"""How many paths a warning names; --json names all."""


def import_folder(options: argparse.Namespace) -> int:
    """Store the files of a folder; the exit code tells whether some failed and were skipped."""
    if not options.workers:
        raise UsageError("--workers is 1 or more")
    chosen: dict[str, Any] = {}
    if options.compression is not None:
        chosen["compression"] = None if options.compression == "none" else options.compression
    with _told_how_to_go_on(options.on_error):
        report = folder.import_folder(
            options.folder,
            options.store,
            workers=options.workers,
            on_error=options.on_error,
            metadata=options.metadata,
            pattern=options.pattern,
            exclude=options.exclude,
            hidden=options.hidden,
            encoding=options.field_encoding,
            **chosen,
        )
    for failed in report.failed:
        output.complain(str(failed))
    _warn(report)
    if options.json:
        output.write_json(asdict(report))
    else:
        output.say(output.printable(f"{options.store}: {report}"))
    return 0 if report else 1


@contextmanager
def _told_how_to_go_on(on_error: str) -> Iterator[None]:
    """Add to what ends an import what becomes of the files before, and of those behind."""
    try:
        yield
    except ItemError as error:
        skip = "; --on-error skip goes on after files that cannot be stored"
        raise UsageError(f"{error}{skip if on_error == 'raise' else ''}") from error
    except KeyboardInterrupt:
        output.show_warning("interrupted; what is stored stays, and the same command goes on")
        raise


def _warn(report: FolderReport) -> None:
    if not report.seen:
        output.show_warning("there was no file to import")
    for reason, paths in report.left_out.items():
        _warn_of(f"left out as {reason}", paths)
    _warn_of("changed since they were stored, and not stored again", report.changed)
    _warn_of("in the metadata, but not in the folder", report.unmatched)
    if report.without_row:
        output.show_warning(f"{output.counted(report.without_row, 'file')} without metadata")


def _warn_of(what: str, paths: list[str]) -> None:
    if paths:
        more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        output.show_warning(f"{what}: {', '.join(paths[:_NAMED])}{more}")


def export_folder(options: argparse.Namespace) -> int:
    """Write the files of an imported folder back."""
    with open_store(options.store) as store:
        if options.folder.resolve().is_relative_to(store.path.resolve()):
            raise UsageError(f"{options.folder} is inside the store; export to another folder")
        view = store if options.where is None else store.where(options.where)
        done = export.export_folder(view, options.folder, overwrite=options.overwrite)
    if options.json:
        output.write_json({"path": str(options.folder), "files": done.files, "bytes": done.n_bytes})
    else:
        files = output.counted(done.files, "file")
        output.say(
            output.printable(f"wrote {files} to {options.folder}: {output.sized(done.n_bytes)}")
        )
    return 0
