"""What `import sqlstore` offers: its names, their documentation, and every error."""

from __future__ import annotations

import ast
import builtins
import copy
import datetime as dt
import errno
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import sqlstore
from sqlstore import errors

PUBLIC = {name: getattr(sqlstore, name) for name in sqlstore.__all__ if name != "__version__"}
ERRORS = [getattr(sqlstore, name) for name in errors.__all__]
CLASSES = {name: it for name, it in PUBLIC.items() if inspect.isclass(it)}


def test_the_public_names_are_those_that_are_listed_in_order() -> None:
    visible = {
        name
        for name, value in vars(sqlstore).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert visible | {"__version__"} == set(sqlstore.__all__)
    assert sorted(sqlstore.__all__) == list(sqlstore.__all__)
    assert sorted(errors.__all__) == list(errors.__all__)


def test_the_list_can_be_read_by_type_checkers() -> None:
    source = Path(inspect.getfile(sqlstore)).read_text(encoding="utf-8")
    lists = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and [target.id for target in node.targets if isinstance(target, ast.Name)] == ["__all__"]
    ]
    assert lists == [list(sqlstore.__all__)]


def test_a_star_import_takes_no_name_of_python_but_open() -> None:
    assert {name for name in sqlstore.__all__ if hasattr(builtins, name)} == {"open"}


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", sqlstore.__version__)


def members() -> list[Any]:
    """Return every public class, function, method and property, with a name for each."""
    found: list[tuple[str, Any]] = [(name, it) for name, it in PUBLIC.items() if callable(it)]
    for name, kind in CLASSES.items():
        found += [
            (f"{name}.{attribute}", value)
            for attribute, value in vars(kind).items()
            if not attribute.startswith("_")
            and (inspect.isroutine(value) or isinstance(value, property) or hasattr(value, "func"))
        ]
    return [pytest.param(it, id=name) for name, it in found]


@pytest.mark.parametrize("it", members())
def test_everything_public_says_what_it_is(it: Any) -> None:
    text = inspect.getdoc(it)

    assert text
    assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("it", members())
def test_a_parameter_that_is_described_is_there(it: Any) -> None:
    text = inspect.getdoc(it) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if section is None or isinstance(it, property):
        return
    described = {
        name.strip().lstrip("*")
        for line in re.findall(r"^\S.*$", section[1], re.MULTILINE)
        for name in line.split(",")
    }
    parameters = set(inspect.signature(it).parameters)
    assert described <= parameters | {"where"}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_person_sees_the_name_that_is_imported(name: str) -> None:
    it = PUBLIC[name]
    if inspect.isclass(it) and issubclass(it, Exception):
        assert it.__module__ == "sqlstore"
        assert it.__qualname__ == name
    elif callable(it):
        assert it.__module__.split(".")[0] == "sqlstore"


# Errors


def drawn() -> dict[str, tuple[str, str | None]]:
    """Return the tree in the text of `sqlstore.errors`: parent and built-in of every class."""
    tree: dict[str, tuple[str, str | None]] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b\s*(?:\((\w+)\))?", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        parents[depth:] = [match[2]]
        tree[match[2]] = (parents[depth - 1] if depth else "Exception", match[3])
    return tree


def test_the_tree_of_errors_is_as_drawn() -> None:
    actual = {}
    for kind in ERRORS:
        first, *others = kind.__bases__
        actual[kind.__name__] = (first.__name__, others[0].__name__ if others else None)
        assert len(others) <= 1
    assert actual == drawn()


def test_every_error_of_the_package_is_in_the_tree() -> None:
    def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    public = {kind for kind in below(sqlstore.SqlstoreError) if kind.__module__ == "sqlstore"}
    assert public | {sqlstore.SqlstoreError} == set(ERRORS)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_the_built_in_that_it_says(kind: type[sqlstore.SqlstoreError]) -> None:
    builtin = drawn()[kind.__name__][1]
    if builtin is not None:
        assert issubclass(kind, getattr(builtins, builtin))
    assert issubclass(kind, sqlstore.SqlstoreError)


def test_damage_is_not_swallowed_by_who_expects_a_wrong_value() -> None:
    for kind in ERRORS:
        if issubclass(kind, sqlstore.CorruptStoreError):
            assert not issubclass(kind, (ValueError, LookupError, OSError))


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_can_be_made_from_one_text(kind: type[sqlstore.SqlstoreError]) -> None:
    error = kind("what happened")

    assert str(error) == "what happened"
    assert error.args == ("what happened",)
    assert error.where == {}
    assert error.committed is None
    assert str(kind()) == ""
    assert type(kind(str(kind("a", record=1)))) is kind


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_says_where(kind: type[sqlstore.SqlstoreError]) -> None:
    error = kind("it is damaged", record=4711, field="image", chunk="000012-5f3a9c1e.chunk")

    assert str(error) == "it is damaged (record 4711, field image, chunk 000012-5f3a9c1e.chunk)"
    assert error.message == "it is damaged"
    assert error.where == {"record": 4711, "field": "image", "chunk": "000012-5f3a9c1e.chunk"}


def carried(error: sqlstore.SqlstoreError) -> list[Any]:
    """Return what arrives when an error is pickled or copied."""
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.loads(pickle.dumps(error, protocol)) for protocol in protocols]
    return [*pickled, copy.copy(error), copy.deepcopy(error)]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_can_be_carried_to_another_process(kind: type[sqlstore.SqlstoreError]) -> None:
    error = kind("what happened", record=np.int64(5), field="f")
    if isinstance(error, OSError):
        error.errno = errno.ENOSPC

    for one in carried(error):
        assert type(one) is kind
        assert str(one) == str(error) == "what happened (record 5, field f)"
        assert one.args == error.args
        assert one.where == error.where
        assert getattr(one, "errno", None) == getattr(error, "errno", None)


def test_an_error_takes_along_what_was_committed_and_what_was_noted() -> None:
    error = sqlstore.SchemaError("what happened")
    error.committed = np.array([1, 2])
    error.add_note("records 1 to 2 were committed")

    for one in carried(error):
        assert one.committed is not None
        assert one.committed.tolist() == [1, 2]
        assert one.__notes__ == ["records 1 to 2 were committed"]


def test_a_clean_report_is_true_and_holds_no_fault(tmp_path: Path) -> None:
    with sqlstore.create(tmp_path / "s", fields={"f": "bytes"}, metadata={"n": "int8"}) as store:
        store.extend([{"n": 1, "f": b"x"}])
        report = store.verify()
    assert isinstance(report, sqlstore.Report)
    assert report
    assert report.faults == []


# What people get wrong at first


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlstore.Store]:
    path = tmp_path_factory.mktemp("mistakes") / "store"
    metadata = {"label": "string", "width": "int32"}
    with sqlstore.create(path, fields={"jpg": "bytes"}, metadata=metadata) as opened:
        opened.extend({"label": f"l{i}", "width": i, "jpg": b"x" if i else None} for i in range(10))
        yield opened


MISTAKES: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda s: s.where("width > 1", "label = 'a'"), sqlstore.QueryError, 'one text: "a AND b"'),
    (lambda s: s.order_by("width", "label"), sqlstore.QueryError, 'one text: "a, b DESC"'),
    (lambda s: s.where("width IN :w", w=[1, 2]), sqlstore.QueryError, r"for IN, use .*\.in_\("),
    (lambda s: s.where("width = :w", w=np.arange(2)), sqlstore.QueryError, "for IN, use"),
    (lambda s: s.where("width = :w", {"w": 1}), sqlstore.QueryError, "one SQL text"),
    (lambda s: s.where("width = :w", params={"w": 1}, w=2), sqlstore.QueryError, ":w is bound tw"),
    (lambda s: s.order_by("width = :w", params={"w": 1}, w=2), sqlstore.QueryError, "bound twice"),
    (lambda s: s.sql("SELECT :w", {"w": 1}, w=2), sqlstore.QueryError, "bound twice"),
    (lambda s: s.where("jpg IS NOT NULL"), sqlstore.QueryError, "'jpg' is a field"),
    (lambda s: s.where('"JPG" = 1'), sqlstore.QueryError, "'jpg' is a field"),
    (lambda s: s.sql("SELECT r.jpg FROM records r"), sqlstore.QueryError, "'jpg' is a field"),
    (lambda s: s.where("ajpg = 1"), sqlstore.QueryError, "text goes in single quotes"),
    (lambda s: s.c.nope, AttributeError, "'nope'; they are id, label, width"),
    (lambda s: s.get("l1"), TypeError, r"not 'l1'.*get\(key="),
    (lambda s: s.batches("a"), TypeError, "as an integer"),
    (lambda s: s.limit("a"), TypeError, "as an integer"),
    (lambda s: s.select(["label", "jpg"]), TypeError, "one by one"),
]


@pytest.mark.parametrize(("mistake", "kind", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_told_with_what_to_write(
    store: sqlstore.Store,
    mistake: Callable[[Any], object],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        mistake(store)


def test_what_a_message_says_to_write_works(store: sqlstore.Store) -> None:
    with pytest.raises(sqlstore.QueryError) as caught:
        store.where("jpg IS NOT NULL")
    condition = str(caught.value).split("`")[1]
    assert store.where(condition).ids.tolist() == list(range(1, 10))
    assert store.where(store.c.width.in_([1, 2])).ids.tolist() == [1, 2]
    assert (list(store.c.keys()), store.c["label"].name) == (["id", "label", "width"], "label")


class Tensor:
    """Positions as PyTorch gives them: they have `__index__`, which is not for many of them."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.ndim = self._values.ndim

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._values

    def __index__(self) -> int:
        if self.ndim:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self._values)


def test_tensors_are_positions_as_arrays_are(store: sqlstore.Store) -> None:
    order = np.random.default_rng(0).permutation(10)
    kinds: list[Callable[[Any], Any]] = [Tensor, np.asarray]
    for make in kinds:
        assert store[make(order)].ids.tolist() == order.tolist()
        assert store[make(order > 6)].ids.tolist() == np.flatnonzero(order > 6).tolist()
        assert store[make([3])].ids.tolist() == [3]
        assert store[make(3)] == store[3]


DAY = dt.date(2024, 5, 1)
NAIVE = dt.datetime(2024, 5, 1)
ZONED = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
TIMES: dict[str, list[Any]] = {
    "date32": [DAY, np.datetime64("2024-05-01"), np.datetime64("2024-05")],
    "timestamp[us]": [NAIVE, np.datetime64("2024-05-01T00")],
    "timestamp[us, UTC]": [ZONED],
}


@pytest.mark.parametrize("there", [*([one] for one in TIMES), ["date32", "timestamp[us, UTC]"], []])
def test_a_time_of_another_kind_than_every_column_is_refused(
    tmp_path: Path, there: list[str]
) -> None:
    metadata = {"n": "int64", **{f"t{i}": kind for i, kind in enumerate(there)}}
    with sqlstore.create(tmp_path / "s", metadata=metadata) as store:
        store.extend([{f"t{i}": TIMES[kind][0] for i, kind in enumerate(there)}])
        for kind, values in TIMES.items():
            for value in values:
                for use in (
                    lambda value=value: store.where("n = :t", t=value),
                    lambda value=value: store.order_by("n = :t", t=value),
                    lambda value=value: store.sql("SELECT :t", t=value),
                ):
                    if kind in there or not there:
                        use()
                        continue
                    with pytest.raises(sqlstore.QueryError, match="column is compared with a "):
                        use()
        if "timestamp[us, UTC]" in there:
            with pytest.raises(sqlstore.QueryError, match=r"the datetime .* with a zone, such"):
                store.where("n = :t", t=NAIVE)
        assert len(store.where("n >= :t OR n IS NULL", t="2024-05-01")) == 1  # text is anything
