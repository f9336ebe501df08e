"""A process that does with stores what people do, and notices what should not happen.

It reads requests from its standard input, one JSON object in a line, and answers each on its
standard output. Everything that it may do is done once to a plain store before the canary is set,
so that no module is imported later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final
from unittest import mock

import sqlstore
from sqlstore.compaction import plan
from tests.hostile import merged

MEMORY: Final = 1 << 30
"""Bytes of address space that a step may take beyond what the process has when it begins."""

GROUPS: Final = ("pread", "snapshot", "export", "merge", "append", "rebuild", "repair", "compact")
"""Groups of steps that take time; reading, asking and `verify` are always done."""

_CLEAR: Final = "5"  # resets the peak of the memory that is resident
_FORBIDDEN: Final = (
    "pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
    "subprocess.Popen", "socket.__new__", "socket.connect", "socket.bind", "ctypes.dlopen",
    "sqlite3.enable_load_extension", "sqlite3.load_extension", "urllib.Request",
)  # fmt: skip
_CHANGING: Final = (
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown",
    "os.link", "os.symlink", "os.utime", "shutil.rmtree",
)  # fmt: skip
_MOST_READ: Final = 12  # records; a store may say that it has any number of them


class Harm(BaseException):
    """Something was about to happen that a store must not be able to make happen."""


class Canary:
    """Raises, inside of what is about to happen, and remembers it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._inside: list[str] = []
        libraries = {sys.prefix, sys.base_prefix, str(Path(sqlstore.__file__).parent.parent)}
        libraries |= {entry for entry in sys.path if entry}
        self._libraries = [os.path.realpath(one) for one in libraries]
        mounts = f"/proc/{os.getpid()}/mounts"  # where a store lies
        self._readable = [*self._libraries, "/usr/share/zoneinfo", mounts]
        sys.addaudithook(self._heard)

    @contextlib.contextmanager
    def watching(self, *folders: str) -> Iterator[None]:
        """Allow files to be opened and changed below some folders only, inside the block."""
        self.seen, self._inside = [], [os.path.realpath(one) for one in folders]
        try:
            yield
        finally:
            self._inside = []

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._inside:
            return
        what = self._harm(event, args)
        if what is not None:
            self.seen.append(what)
            raise Harm(what)

    def _harm(self, event: str, args: tuple[Any, ...]) -> str | None:
        if event in _FORBIDDEN:
            return f"{event} {args!r:.200}"
        if event == "open":
            return self._opened(*args)
        if event == "sqlite3.connect":
            return self._connected(str(args[0]))
        if event in _CHANGING:
            paths = [one for one in args if isinstance(one, str | bytes | os.PathLike)]
            if event in ("os.remove", "os.rmdir") and args[1] >= 0:
                folder = Path(f"/proc/self/fd/{args[1]}").readlink()  # as `shutil.rmtree` does
                paths = [folder / os.fsdecode(one) for one in paths]
            outside = [one for one in paths if not self._is_below(one, self._inside)]
            return f"{event} {outside[0]!r}" if outside else None
        if event in ("exec", "compile", "marshal.loads"):
            # Cython compiles that, to show a line of its own in a traceback.
            is_known = event == "compile" and args[0] == b"_getframe()"
            return None if is_known or _is_of_a_library() else f"{event} {args!r:.200}"
        return None

    def _opened(self, path: Any, mode: str | None, flags: int) -> str | None:
        if isinstance(path, int):
            return None
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        allowed = self._inside if writes else [*self._inside, *self._readable]
        follows = not flags & os.O_NOFOLLOW
        return None if self._is_below(path, allowed, follows=follows) else f"open {path!r}"

    def _connected(self, name: str) -> str | None:
        path = name.removeprefix("file://").partition("?")[0]
        is_inside = path in (":memory:", "") or self._is_below(path, self._inside)
        return None if is_inside else f"sqlite3.connect {name!r}"

    def _is_below(self, path: Any, folders: list[str], *, follows: bool = False) -> bool:
        """Return whether a path leads into one of these folders, links on the way included."""
        given = Path(os.fsdecode(path))
        place = Path(os.path.realpath(given if follows else given.parent))
        place = place if follows else place / given.name
        return any(place.is_relative_to(one) for one in folders)


def _is_of_a_library() -> bool:
    """Return whether who asks is an import, or who parses literals, which runs nothing."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__", "")
        if (module, name) == ("ast", "parse") or module == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


class Exercise:
    """Does with one store what people do, step by step; every step is tried.

    Attributes
    ----------
    steps
        What each gave: ``"ok"`` with a fingerprint of it, or an error. What is no `SqlstoreError`
        begins with ``"WRONG"``.
    """

    def __init__(self, path: Path, out: Path) -> None:
        self._path = path
        self._out = out
        self.steps: dict[str, str] = {}
        self._snapshots = ["v1"]

    def run(self, groups: Sequence[str]) -> dict[str, str]:
        """Do everything, or without these groups of steps only what everybody does."""
        for io in ("mmap", "pread") if "pread" in groups else ("mmap",):
            store = self._step(f"open {io}", lambda io: sqlstore.open(self._path, io=io), io)
            if store is not None:
                with store:
                    self._read(store, io)
        for name in self._snapshots if "snapshot" in groups else ():
            self._step(f"snapshot {name!r}", self._as_it_was, name)
        if "export" in groups:
            store = self._step("export: open", lambda: sqlstore.open(self._path))
            if store is not None:
                with store:
                    self._export(store)
        self._step("verify", self._verified)
        if "merge" in groups:
            self._step("merge: new", merged.into_new, self._path, self._out)
            self._step("merge: old", merged.into_old, self._path, self._out)
            self._step("merge: add", merged.with_more_columns, self._path, self._out)
            self._step("merge: adopt", merged.adopted, self._path, self._out)
        self._change(groups)
        return self.steps

    def _change(self, groups: Sequence[str]) -> None:
        if "append" in groups:
            self._step("append", self._append)
        if "rebuild" in groups:
            self._step("rebuild", lambda: sqlstore.rebuild(self._path))
            self._step("rebuild: read again", self._reopened)
        if "repair" in groups:
            self._step("repair", lambda: sqlstore.repair(self._path).done)
            self._step("repair: read again", self._reopened)
        if "compact" in groups:
            self._step("compact", self._compacted)
            self._step("compact: read again", self._reopened)

    def _step(self, name: str, do: Callable[..., Any], *given: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = do(*given)
        except sqlstore.SqlstoreError as error:
            self.steps[name] = f"{type(error).__name__}: {error}"
        except (Exception, Harm) as error:  # noqa: BLE001 - that is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            self.steps[name] = f"WRONG {type(error).__name__}: {error} ({place})"
        else:
            self.steps.setdefault(name, f"ok {_mark(found)}")
            return found
        return None

    def _read(self, store: sqlstore.Store, io: str) -> None:
        fields = [field.name for field in store.schema.fields.values() if not field.is_sequence]
        count = self._step(f"{io}: len", lambda: len(store)) or 0
        few = range(min(count, _MOST_READ))
        some = self._step(f"{io}: take", lambda: store.take(list(few))) if count else None
        if some is not None:
            for position in few:
                self._step(f"{io}: record {position}", some.__getitem__, position)
                for name in fields:
                    self._step(f"{io}: raw {position} {name}", some.raw, position, name)
            for name in fields:
                self._step(f"{io}: blobs {name}", lambda name: some.blobs(name).to_pylist(), name)
            self._step(f"{io}: fetch", lambda: some.fetch(list(few)))
            self._step(f"{io}: to_arrow", lambda: some.to_arrow())
            self._step(f"{io}: pandas", lambda: some.to_pandas().to_dict())
        if io != "mmap":
            return
        self._step("where", lambda: store.where("n >= 0 AND label <> ''").ids.tolist())
        self._step("order_by", lambda: store.order_by("label DESC").limit(3).ids.tolist())
        self._step("sql", lambda: store.sql("SELECT count(*) AS n, max(n) AS m FROM records"))
        self._step("locations", lambda: store.sql("SELECT * FROM record_locations LIMIT 9"))
        self._step("get", lambda: store.get(key="p0")["path"])
        self._step("all as Arrow", lambda: store.to_arrow())
        self._step("fingerprint", lambda: store.content_fingerprint())
        self._step("describe", lambda: len(str(store.describe())) > 0)
        self._step("subsets", lambda: [str(one) for one in store.subsets()])
        self._step("subset", lambda: store.subset("half").ids.tolist())
        found = self._step("snapshots", lambda: [one.name for one in store.snapshots()])
        self._snapshots = found or ["v1"]

    def _as_it_was(self, name: str) -> object:
        with sqlstore.open(self._path, snapshot=name) as store:
            return len(store), store.to_arrow(), store[0]["f"]

    def _export(self, store: sqlstore.Store) -> None:
        out = self._out
        for suffix in ("parquet", "csv", "arrow"):
            target = out / f"all.{suffix}"
            self._step(f"export {suffix}", lambda to: store.export(to).records, target)
        self._step(
            "export webdataset",
            lambda: store.export_webdataset(str(out / "w-%06d.tar"), key="path").records,
        )
        self._step("export store", lambda: store.export_store(out / "copy").records)
        self._step("export folder", lambda: sqlstore.export_folder(store, out / "folder").records)

    def _verified(self) -> object:
        report = sqlstore.verify(self._path)
        if not report:
            raise sqlstore.CorruptStoreError("; ".join(str(fault) for fault in report.faults[:9]))
        return len(report.faults)

    def _append(self) -> object:
        with sqlstore.open(self._path, "a") as store:
            store.extend([{"path": "new", "n": 1, "f": b"new", "file": b"new"}])
            store.where("path = 'new'").update(n=2)
            return store[-1]["n"]

    def _compacted(self) -> object:
        """Compact whatever is not all live, even if that frees nothing."""
        with (
            mock.patch.object(plan, "LEAST_FREED", -sqlstore.GiB),
            sqlstore.open(self._path, "a") as store,
        ):
            return store.compact(min_garbage=0.0).done

    def _reopened(self) -> object:
        with sqlstore.open(self._path) as store:
            return len(store), store.to_arrow().combine_chunks()


def _mark(found: object) -> str:
    """Return a fingerprint of what a step has given."""
    if isinstance(found, sqlstore.View):
        return type(found).__name__
    return hashlib.sha256(repr(found).encode("utf-8", "replace")).hexdigest()[:12]


def _peak() -> int:
    """Return the most memory that was resident since it was last reset, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _begin_peak() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_CLEAR)
    return _peak()


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    plain = json.loads(sys.stdin.readline())
    Exercise(Path(plain["store"]), Path(plain["out"])).run(GROUPS)
    canary = Canary()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        before = _begin_peak()
        with canary.watching(request["store"], request["out"], request["cache"]):
            exercise = Exercise(Path(request["store"]), Path(request["out"]))
            steps = exercise.run(request["groups"])
        answer = {"steps": steps, "harm": canary.seen, "memory": _peak() - before}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
