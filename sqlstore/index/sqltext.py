"""SQL as people write it: its tokens, and what is done to it before SQLite sees it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from sqlstore.errors import QueryError

_TOKENS: Final = re.compile(
    r"""(?P<space>\s+ | --[^\n]* | /\*.*?(?:\*/|\Z)) | (?P<string>'(?:[^']|'')*')
    | (?P<ticked>`(?:[^`]|``)*`) | (?P<boxed>\[[^\]]*\]) | (?P<quoted>"(?:[^"]|"")*")
    | (?P<bracket>[()]) | (?P<parameter>[:@$]\w+) | (?P<word>[^\W\d][\w$]*) | (?P<number>\d[\w.]*)
    | (?P<other>(?:(?!--)[<>=!|-])+ | .)""",
    re.DOTALL | re.VERBOSE,
)
_EQUALS: Final = {"=", "==", "!=", "<>", "is", "not"}
_AROUND: Final = 40
"""Characters of the text that an error shows on either side."""


class Token(NamedTuple):
    """A word, name, string, number, bracket, parameter or sign, and where it begins."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Return where it ends."""
        return self.start + len(self.text)

    @property
    def name(self) -> str:
        """Return what it says without its quotes."""
        mark = {"quoted": '"', "ticked": "`"}.get(self.kind)
        if mark:
            return self.text[1:-1].replace(mark * 2, mark)
        return self.text[1:-1] if self.kind == "boxed" else self.text


def tokens(sql: str) -> Iterator[Token]:
    """Return the tokens of a text, without comments and blanks."""
    for match in _TOKENS.finditer(sql):
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match[0], match.start())


def parameters(sql: str) -> set[str]:
    """Return the names of the parameters in a text, without their signs."""
    return {token.text[1:] for token in tokens(sql) if token.kind == "parameter"}


def strict_quotes(sql: str) -> str:
    """Make a quoted name that is no column an error.

    SQLite takes ``"label"`` for the string 'label' when no column has that name, so a misspelt name
    silently compares with itself. In backquotes it is only ever a name.
    """

    def backquoted(match: re.Match[str]) -> str:
        if match["quoted"] is None:
            return match[0]
        name = Token("quoted", match[0], 0).name.replace("`", "``")
        return f"`{name}`"

    return _TOKENS.sub(backquoted, sql)


def without_parameters(sql: str) -> str:
    """Return a text with NULL for its parameters."""
    return _TOKENS.sub(lambda match: "NULL" if match["parameter"] else match[0], sql)


def expression(text: str) -> str:
    """Return the text of an expression, made sure that it does not close the brackets around it.

    Raises
    ------
    QueryError
        It is empty, or its brackets or quotes do not match.
    """
    if not text.strip():
        raise QueryError("the expression is empty")
    open_brackets: list[Token] = []
    for token in tokens(text):
        if token.kind == "other" and token.text in ("'", '"', "`", "["):
            raise QueryError(f"a quote is not closed, at {excerpt(text, token.start, token.end)}")
        if token.text == "(":
            open_brackets.append(token)
        elif token.text == ")" and not open_brackets:
            raise QueryError(
                f"the brackets do not match, at {excerpt(text, token.start, token.end)}"
            )
        elif token.text == ")":
            open_brackets.pop()
    if open_brackets:
        last = open_brackets[-1]
        raise QueryError(f"the brackets do not match, at {excerpt(text, last.start, last.end)}")
    return strict_quotes(text)


def excerpt(text: str, start: int, end: int) -> str:
    """Return one line of a text in which a part is marked: ``label = 'owl' AND >>widht<< > 3``."""
    first, last = max(0, start - _AROUND), min(len(text), end + _AROUND)
    shown_end = min(end, start + _AROUND)
    before = ("..." if first else "") + text[first:start]
    after = text[end:last] + ("..." if last < len(text) else "")
    marked = text[start:shown_end] + ("..." if shown_end < end else "")
    return " ".join(f"{before}>>{marked}<<{after}".split())


def json_parameters(sql: str, columns: Iterable[str]) -> set[str]:
    """Return the parameters that stand where JSON does.

    Those are arguments of a function of JSON, such as ``json_each(:labels)``, and what a column of
    JSON is compared with. A parameter that also stands elsewhere is not among them.

    Parameters
    ----------
    columns
        The columns of JSON.
    """
    of_json = {name.casefold() for name in columns}
    found: dict[str, bool] = {}
    calls: list[str] = []
    there = list(tokens(sql))
    for at, token in enumerate(there):
        if token.text == "(":
            calls.append(there[at - 1].text.casefold() if at else "")
        elif token.text == ")" and calls:
            calls.pop()
        elif token.kind == "parameter":
            is_json = bool(calls) and calls[-1].startswith("json")
            is_json |= _compared_with(there[:at][::-1]) in of_json
            is_json |= _compared_with(there[at + 1 :]) in of_json
            name = token.text[1:]
            found[name] = found.get(name, True) and is_json
    return {name for name, is_json in found.items() if is_json}


def _compared_with(beside: list[Token]) -> str | None:
    """Return the name behind the signs of a comparison, if there are some."""
    signs = 0
    while signs < len(beside) and beside[signs].text.casefold() in _EQUALS:
        signs += 1
    if not signs or signs == len(beside):
        return None
    return beside[signs].name.casefold()
