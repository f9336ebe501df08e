"""The command line: ``sqlstore info birds`` and its siblings; see `docs/cli.md`.

`main` turns everything that can be expected to go wrong into one line on stderr and an exit code.
What is not expected keeps its traceback: that is a bug, and the traceback says where.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from typing import Final

from sqlstore.cli import output
from sqlstore.cli.parser import build_parser
from sqlstore.errors import CorruptStoreError, SqlstoreError

__all__ = ["main"]

USER_ERROR: Final = 2
DAMAGE: Final = 3
INTERRUPTED: Final = 130  # what a shell reports for SIGINT
READER_GONE: Final = 141  # and for SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process.

    Parameters
    ----------
    argv
        The arguments, without the name of the program; those of the process by default.

    Returns
    -------
    int
        0 fine, 1 `verify` found faults, 2 the command could not be carried out, 3 the store is
        damaged, 130 interrupted, 141 nobody reads the output any more.
    """
    with warnings.catch_warnings():
        warnings.showwarning = output.show_warning
        code = _guarded(argv)
    output.finish()
    return code


def _guarded(argv: Sequence[str] | None) -> int:
    try:
        code = _run(argv)
        output.flush()  # what cannot be written is noticed here, while it can still be said
    except BrokenPipeError:
        return READER_GONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except CorruptStoreError as error:
        output.complain(str(error))
        return DAMAGE
    except (SqlstoreError, output.UsageError) as error:
        output.complain(str(error))
        return USER_ERROR
    except OSError as error:
        output.complain(_said_by_system(error))
        return USER_ERROR
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        options = build_parser().parse_args(argv)
    except SystemExit as done:  # argparse has shown help or the version, or said what is wrong
        return done.code if isinstance(done.code, int) else USER_ERROR
    return _call(options)


def _call(options: argparse.Namespace) -> int:
    code: int = options.run(options)
    return code


def _said_by_system(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
