"""What is wrong with a statement, and where: SQLite says the one, and not the other."""

from __future__ import annotations

import bisect
import difflib
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlstore.errors import QueryError
from sqlstore.index import sqltext
from sqlstore.index.sqltext import Token, excerpt
from sqlstore.index.statement import Statement
from sqlstore.schema import Schema

_SYNTAX: Final = re.compile(r'near "(?P<token>.*)": syntax error', re.DOTALL)
_UNRECOGNIZED: Final = re.compile(r'unrecognized token: "(?P<token>.*)"', re.DOTALL)
_NAMED: Final = re.compile(
    r"(?:no such (?P<what>column|table|function): |ambiguous column name: "
    r"|wrong number of arguments to function |misuse of (?:aggregate|window)(?: function)?:? )"
    r"(?P<name>[^()]+?)(?:\(\))?(?: - .*)?"
)
_INCOMPLETE: Final = "incomplete input"
_MOST_NAMES: Final = 20
_MOST_CHARACTERS: Final = 120
"""How much of a message is shown of what may be a name or a text of any length."""
_COLUMNS: Final = "SELECT name FROM pragma_table_info('records', 'main')"
_FUNCTIONS: Final = "SELECT DISTINCT name FROM pragma_function_list"


class Mistakes:
    """Explains the errors of one statement.

    Parameters
    ----------
    connection
        The connection that it was run on, restricted as it was then.
    schema
        What could have been meant.
    tables
        The names of tables that were joined, and of their columns.
    """

    def __init__(
        self, connection: sqlite3.Connection, schema: Schema, tables: Iterable[Sequence[str]]
    ) -> None:
        self._connection = connection
        self._schema = schema
        joined = [list(names) for names in tables]
        self._tables = ["records", "record_locations", *(names[0] for names in joined)]
        self._columns = ["id", *schema.columns, *(one for names in joined for one in names[1:])]

    def error(self, statement: Statement, message: str) -> QueryError:
        """Return an error that says where in its text a statement is wrong, and what was meant.

        Parameters
        ----------
        message
            What SQLite says.
        """
        text = statement.text
        if match := _SYNTAX.fullmatch(message):
            token = self._offending(statement, match["token"])
            if token is not None:
                place = excerpt(text, token.start, token.end)
                return QueryError(f"{_shortened(message)}, at {place}")
            message = _INCOMPLETE
        if message == _INCOMPLETE:
            end = len(text.rstrip())
            return QueryError(f"the SQL ends too early, at {excerpt(text, end, end)}")
        if match := _UNRECOGNIZED.fullmatch(message):
            return QueryError(f"this cannot be read{_where_begins(text, match['token'])}")
        if match := _NAMED.fullmatch(message):
            if match["what"] == "column" and self._is_gone(match["name"]):
                message = f"the column {match['name']} is not there any more; `refresh()` the store"
                return QueryError(f"{message}{_where(text, match['name'])}")
            what, meant, hint = _shortened(message), self._meant(match), self._hint(match)
            return QueryError(f"{what}{meant}{_where(text, match['name'])}{hint}")
        if message.startswith("cannot modify"):
            return QueryError(f"{_shortened(message)}; only statements that read are allowed here")
        return QueryError(_shortened(message))

    def _offending(self, statement: Statement, text: str) -> Token | None:
        """Return the first of some equal tokens with which the statement cannot go on.

        Up to the token before it, SQLite only misses the rest.
        """
        wanted = _unquoted(text)
        equal = [token for token in sqltext.tokens(statement.text) if token.name == wanted]

        def is_too_much(token: Token) -> bool:
            begun = sqltext.strict_quotes(statement.text[: token.end])
            return bool(_SYNTAX.fullmatch(self._compiled(f"{statement.head}{begun}")))

        first = bisect.bisect_left(equal, True, key=is_too_much)
        return equal[first] if first < len(equal) else None

    def _compiled(self, sql: str) -> str:
        """Return what SQLite says of a text, which is not run."""
        try:
            self._connection.execute(f"EXPLAIN {sql}").close()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return str(error)
        return ""

    def _is_gone(self, name: str) -> bool:
        """Return whether a metadata column was dropped or renamed since the store was opened."""
        there = self._connection.execute(_COLUMNS).fetchall()
        return name in self._schema.columns and (name,) not in there

    def _meant(self, match: re.Match[str]) -> str:
        name = match["name"].rpartition(".")[2]
        known = {"column": self._columns, "table": self._tables, None: []}.get(match["what"])
        if known is None:
            known = [one for (one,) in self._connection.execute(_FUNCTIONS)]
        by_folded = {one.casefold(): one for one in known}
        close = difflib.get_close_matches(name.casefold(), by_folded, n=1)
        return f"; did you mean {by_folded[close[0]]}?" if close else ""

    def _hint(self, match: re.Match[str]) -> str:
        """Return what to write for a column that SQLite says is not there."""
        if match["what"] != "column":
            return ""
        names = ["id", *self._schema.columns]
        more = ", ..." if len(names) > _MOST_NAMES else ""
        columns = f"; the metadata columns are {', '.join(names[:_MOST_NAMES])}{more}"
        name = match["name"].rpartition(".")[2].casefold()
        for field in self._schema.fields:
            if name == field.casefold():
                return (
                    f"; {field!r} is a field, and SQL knows only the metadata{columns}; the "
                    "records with a value of this field are those of `id IN (SELECT record FROM "
                    f"record_locations WHERE field = '{field}')`"
                )
        return f"{columns}; text goes in single quotes or is bound"


def unbound(statement: Statement) -> QueryError | None:
    """Return an error about the first value that a text asks for and is not given."""
    if not isinstance(statement.bound, Mapping):
        return None
    for token in sqltext.tokens(statement.text):
        place = excerpt(statement.text, token.start, token.end)
        if token.text == "?":
            return QueryError(f"a bound value needs a name: write :name, at {place}")
        if token.kind == "parameter" and token.text[1:] not in statement.bound:
            return QueryError(f"no value is given for {token.text}, at {place}")
    return None


def _where(text: str, name: str) -> str:
    """Return the place of the first word that is this name."""
    wanted = name.rpartition(".")[2].casefold()
    for token in sqltext.tokens(text):
        if token.kind in ("word", "quoted", "ticked", "boxed") and token.name.casefold() == wanted:
            return f", at {excerpt(text, token.start, token.end)}"
    return ""


def _where_begins(text: str, unread: str) -> str:
    """Return the place of what SQLite could not read; its end may lie behind the text."""
    for beginning in (unread, unread[:1]):
        for token in sqltext.tokens(text):
            if token.kind != "string" and text.startswith(beginning, token.start):
                return f", at {excerpt(text, token.start, token.start + 1)}"
    return ""


def _shortened(message: str) -> str:
    """Return what SQLite says as one line that is not too long."""
    line = " ".join(message.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}..."


def _unquoted(text: str) -> str:
    first = next(sqltext.tokens(text), None)
    return text if first is None or first.text != text else first.name
