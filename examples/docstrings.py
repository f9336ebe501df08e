"""Keep the documentation strings of Python's own library, with what is known about each as JSON.

Run it with ``python examples/docstrings.py [STORE]`` (build/docstrings by default).
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import afresh

import sqlstore

LIBRARY = Path(sysconfig.get_path("stdlib"))
MODULES = ["base64", "bisect", "calendar", "csv", "fractions", "glob", "heapq", "json/decoder"]
MODULES += ["pathlib", "random", "shutil", "statistics", "tempfile", "textwrap", "zipfile"]


def main(argv: Sequence[str]) -> int:
    path = Path(argv[0] if argv else "build/docstrings")
    afresh.clear(path)
    store = sqlstore.create(
        path,
        fields={"text": sqlstore.Field("utf8", compression="zstd")},
        metadata={
            "name": "string",  # as in heapq.merge
            "module": sqlstore.Column("string", index=True),
            "kind": "string",
            "line": "int32",
            "about": "json",  # whatever differs from one to the next
        },
        key="name",
    )
    afresh.mark(path)
    with store:
        # A name can be defined twice, as in both branches of an `if`: the last one counts.
        found = {record["name"]: record for name in MODULES for record in documented(name)}
        store.extend(found.values())
        print(f"{len(store)} documentation strings of {len(MODULES)} modules")

        record = store.get(key="heapq.merge")
        print(f"{record['name']}, {record['kind']}: {record['text'].splitlines()[0]}")
        print(f"  about: {record['about']}")

        # JSON is a column like any other, and SQLite looks into it.
        print("Which functions of heapq and bisect take a key?")
        view = store.where(
            "module IN ('heapq', 'bisect') AND EXISTS "
            "(SELECT 1 FROM json_each(about, '$.arguments') WHERE value = 'key')"
        )
        for one in view.order_by("name"):
            print(f"  {one['name']:22} {', '.join(one['about']['arguments'])}")

        print("Which classes have the most methods?")
        grouped = store.sql(
            "SELECT module || '.' || json_extract(about, '$.class') AS class, count(*) AS methods "
            "FROM records WHERE kind = 'method' GROUP BY 1 ORDER BY methods DESC, class LIMIT 3"
        )
        for row in grouped.to_pylist():
            print(f"  {row['class']}: {row['methods']}")

        # Metadata chooses; then the texts themselves are read and searched.
        view = store.where("json_extract(about, '$.decorators[0]') = 'classmethod'")
        names = [one["name"] for one in view.select("name", "text") if "float" in one["text"]]
        print(f"{len(view)} class methods; those that speak of floats: {', '.join(names)}")
        size = store.sql("SELECT sum(length) AS stored, sum(raw_length) AS raw FROM blobs")
        print("bytes of text: {raw:,}, stored {stored:,}".format(**size.to_pylist()[0]))
    return 0


def documented(name: str) -> Iterator[dict[str, object]]:
    """Return a record for every function, class and method of a module that says what it is."""
    file = LIBRARY / f"{name}.py"
    file = file if file.is_file() else LIBRARY / name / "__init__.py"
    module = name.replace("/", ".")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    owners: list[ast.Module | ast.ClassDef] = [tree]
    owners += [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for owner in owners:
        for node in owner.body:
            record = described(node, owner.name if isinstance(owner, ast.ClassDef) else None)
            if record is not None:
                yield {**record, "module": module, "name": f"{module}.{record['name']}"}


def described(node: ast.stmt, owner: str | None) -> dict[str, object] | None:
    """Return what a definition says, and what it looks like; None if it says nothing."""
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return None
    text = ast.get_docstring(node)
    if text is None:
        return None
    about: dict[str, object] = {"decorators": [ast.unparse(one) for one in node.decorator_list]}
    if isinstance(node, ast.ClassDef):
        about["bases"] = [ast.unparse(base) for base in node.bases]
        return {
            "name": node.name,
            "kind": "class",
            "line": node.lineno,
            "text": text,
            "about": about,
        }
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    about["arguments"] = [argument.arg for argument in arguments]
    if owner is not None:
        about["class"] = owner
    name = node.name if owner is None else f"{owner}.{node.name}"
    kind = "function" if owner is None else "method"
    return {"name": name, "kind": kind, "line": node.lineno, "text": text, "about": about}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
