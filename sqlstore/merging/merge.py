"""Append the records of other stores, in a new store or in one that is there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from sqlstore import limits
from sqlstore.batch import Block, joined
from sqlstore.commit import Committer
from sqlstore.copied import Copied, DictionaryNumbers
from sqlstore.edits import change_schema, committing, see_newest
from sqlstore.encodings import Encodings
from sqlstore.errors import MergeError, SchemaError, SqlstoreError
from sqlstore.founding import check_free, founded
from sqlstore.log import files
from sqlstore.log.segment import HEADER_SIZE, CommitKind, Trailer
from sqlstore.merging import mapping
from sqlstore.merging.keys import without_duplicates
from sqlstore.merging.parts import Choices, Merged, OnDuplicate, Part
from sqlstore.opening import Mode, opening
from sqlstore.portions import portions
from sqlstore.progress import counted
from sqlstore.schema import Column, Schema, with_column
from sqlstore.source import Source
from sqlstore.staged import NumberTakenError, StagedAppend
from sqlstore.types import Ids, StrPath
from sqlstore.view import View

_AT_ONCE: Final = 4 * limits.COMMIT_RECORDS
_MOST_BYTES: Final = limits.MAX_CHUNK_BYTES
_ATTEMPTS: Final = 20
"""How often it is begun anew because others have committed dictionaries meanwhile."""
_Advance = Callable[[int], object]


def merge(
    dst: StrPath,
    *srcs: StrPath | View,
    add_missing: bool = False,
    on_duplicate: OnDuplicate = "raise",
    in_parts: bool = False,
) -> Merged:
    """Append the records of other stores to one, which is made if there is none.

    Stored bytes are copied as they are, once their checksums are right; the sources are only read.
    Records come in the order of the sources, and of each in the order of its ids. Fields and
    columns are found by name; what a source lacks is missing, and a column may be of a type that
    holds all values of the source's, such as int64 for int32. Everything is checked before anything
    is written.

    A new store is there when it is complete. In a store that is there already the records are one
    commit: it has all of them, or none.

    Parameters
    ----------
    dst
        The folder of the store. If it is new, it has the schema of the first source, with types as
        wide as the others need.
    *srcs
        Folders of stores, opened stores, or views, which give their records in their own order and
        only what they select.
    add_missing
        Add columns that the store lacks. In a new store, also fields. In one that is there, each
        column is a commit of its own before that of the records.
    on_duplicate
        Whether records whose key is there already, or comes before them, are refused (``"raise"``)
        or left out (``"skip"``).
    in_parts
        In a store that is there, make many commits, for more than fits into one. What was committed
        before an error stays; ``committed`` of the error has the ids.

    Returns
    -------
    Merged
        The new ids, and how many records each source has given.

    Raises
    ------
    MergeError
        A source is the target or a copy of it, is given twice, or there is more than fits into one
        commit: 2 GiB with all that belongs to it.
    SchemaError
        A source does not fit; it is named, with the field or column.
    DuplicateKeyError
        Two records have the same key; both are named.
    ChecksumError
        A value of a source is not what was written.
    """
    choices = Choices(add_missing, on_duplicate, in_parts)
    if not srcs:
        raise TypeError("merge() takes the target and at least one source")
    if isinstance(dst, View):
        raise TypeError("merge() takes the folder of the target, not an open store or a view")
    target = Path(dst).absolute()
    is_new = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    with ExitStack() as opened:
        parts = [_part(src, opened) for src in srcs]
        _refuse_same(target, parts)
        # A store as a whole is a folder or a `Store`; what is chosen of one is a plain view.
        wholes = [part for part, src in zip(parts, srcs, strict=True) if type(src) is not View]
        if is_new:
            _refuse_copies(wholes)
            return _into_new(target, parts, choices)
        files.check_has_chunks(target)
        into = _opened(target, "a", opened)
        _refuse_copies(wholes, into)
        return append(into, parts, choices)


def _part(src: StrPath | View, opened: ExitStack) -> Part:
    if not isinstance(src, View):
        if not isinstance(src, str | os.PathLike):
            raise TypeError(
                f"a source is a folder, an open store or a view, not {type(src).__name__}; several "
                "are given one by one, as merge(target, *sources)"
            )
        return part_of(Path(src), str(src), opened)
    source = src._source
    source.check_open()
    fields = {field.name: field for field in src._fields}
    columns = {column.name: column for column in src._columns}
    return Part(source, src._record_ids(), fields, columns, str(source.root))


def part_of(path: Path, name: str, opened: ExitStack) -> Part:
    """Return all records of the store in a folder, which is open until ``opened`` is left."""
    files.check_has_chunks(path)
    source = _opened(path.absolute(), "r", opened)
    source.rest()  # there may be thousands
    schema = source.schema
    return Part(source, source.ids(), schema.fields, schema.columns, name, is_ours=True)


def _opened(root: Path, mode: Mode, opened: ExitStack) -> Source:
    how = opening(root, None, "once", Encodings(None, allow_pickle=False), mode)
    return opened.enter_context(closing(Source.open(how)))


def _refuse_same(target: Path, parts: Sequence[Part]) -> None:
    real = Path(os.path.realpath(target))
    for part in parts:
        root = Path(os.path.realpath(part.source.root))
        if real == root:
            raise MergeError(f"{part.name} is the target itself")
        if real.is_relative_to(root):
            raise MergeError(f"{target} is inside the source {part.name}; take another folder")


def _refuse_copies(wholes: Sequence[Part], target: Source | None = None) -> None:
    """Raise if a store, or a copy of it, is there twice.

    Raises
    ------
    MergeError
        It is; so its records would be.
    """
    seen: dict[uuid.UUID, str] = {} if target is None else {target.store: str(target.root)}
    for part in wholes:
        store = part.source.store
        if store in seen:
            raise MergeError(
                f"{part.name} and {seen[store]} are the same store, or copies of it; of a copy "
                "that has gone on by itself, give a view of what is new"
            )
        seen[store] = part.name


def _into_new(target: Path, parts: Sequence[Part], choices: Choices) -> Merged:
    check_free(target)
    schema = mapping.united(parts, add_missing=choices.add_missing)
    kept = _kept(parts, schema, None, choices)
    chunk_size = parts[0].source.finder.identity.chunk_size
    with founded(target, schema, chunk_size) as folder, closing(Committer(folder)) as committer:
        commits: list[Trailer] = []
        _commit_in_parts(committer, schema, kept, commits.append)
    return _merged(parts, kept, commits)


def append(target: Source, parts: Sequence[Part], choices: Choices) -> Merged:
    """Append parts to a store that is there; see `merge`."""
    see_newest(target)
    schema = mapping.extended(target.schema, parts, add_missing=choices.add_missing)
    kept = _kept(parts, schema, target, choices)
    commits: list[Trailer] = []

    def acknowledge(trailer: Trailer) -> None:
        target.committed(trailer)
        commits.append(trailer)

    if choices.in_parts:
        _add_columns(target, schema)
        try:
            with committing(target) as committer:
                _check_planned(committer, schema)
                _commit_in_parts(committer, schema, kept, acknowledge)
        except BaseException as error:  # also of Ctrl-C
            ids = _ids(commits)
            if len(ids):
                error.add_note(f"records {ids[0]} to {ids[-1]} were committed")
            if isinstance(error, SqlstoreError):
                error.committed = ids
            raise
    else:
        _commit_at_once(target, schema, kept, acknowledge)
    return _merged(parts, kept, commits)


def _kept(
    parts: Sequence[Part], schema: Schema, target: Source | None, choices: Choices
) -> Sequence[Part]:
    if schema.key is None:
        return parts
    return without_duplicates(parts, schema.columns[schema.key], target, choices.on_duplicate)


def _add_columns(target: Source, schema: Schema) -> None:
    for name in [name for name in schema.columns if name not in target.schema.columns]:
        column = schema.columns[name]
        given = Column(column.type, index=column.index)
        change_schema(target, CommitKind.ADD_COLUMN, partial(with_column, name=name, given=given))


def _check_planned(committer: Committer, schema: Schema) -> None:
    """Raise if the store has another schema than what was checked against."""
    found = committer.schema
    if (found.fields, found.columns, found.key) != (schema.fields, schema.columns, schema.key):
        raise SchemaError("the schema of the target has changed meanwhile; merge again")


def _commit_in_parts(
    committer: Committer,
    schema: Schema,
    parts: Sequence[Part],
    acknowledge: Callable[[Trailer], None],
) -> None:
    dictionaries = DictionaryNumbers(committer)
    with counted(_count(parts), "merging", "records") as advance:
        for block in _blocks(parts, schema, dictionaries):
            dictionaries.commit(committer)
            committer.commit(StagedAppend(block, schema), acknowledge)
            advance(block.count)


def _commit_at_once(
    target: Source,
    schema: Schema,
    parts: Sequence[Part],
    acknowledge: Callable[[Trailer], None],
) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            _try_at_once(target, schema, parts, acknowledge)
        except NumberTakenError:  # values name dictionaries by numbers, which are others now
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


def _try_at_once(
    target: Source,
    schema: Schema,
    parts: Sequence[Part],
    acknowledge: Callable[[Trailer], None],
) -> None:
    with committing(target) as committer:
        dictionaries = DictionaryNumbers(committer)
        with counted(_count(parts), "merging", "records") as advance:
            blocks = list(_small_enough(_blocks(parts, schema, dictionaries), advance))
    staged = None
    if blocks:
        staged = StagedAppend(joined(blocks), schema)
        staged.lay_out(HEADER_SIZE)
        _refuse_large(staged.end)
    _add_columns(target, schema)
    if staged is not None:
        with committing(target) as committer:
            _check_planned(committer, schema)
            dictionaries.commit(committer)
            committer.commit(staged, acknowledge)


def _small_enough(blocks: Iterator[Block], advance: _Advance) -> Iterator[Block]:
    """Return blocks whose values fit into one commit."""
    n_bytes = 0
    for block in blocks:
        n_bytes += sum(int(one.values.length.sum(dtype=np.int64)) for one in block.fields.values())
        n_bytes += sum(array.nbytes for array in block.columns.values())
        _refuse_large(n_bytes)
        advance(block.count)
        yield block


def _refuse_large(n_bytes: int) -> None:
    if n_bytes > _MOST_BYTES:
        raise MergeError(
            f"{n_bytes} bytes or more do not go into one commit, which is below 2 GiB: merge the "
            "target too into a new store, or fewer records at once, or with in_parts=True"
        )


def _blocks(
    parts: Sequence[Part], schema: Schema, dictionaries: DictionaryNumbers
) -> Iterator[Block]:
    for part in parts:
        fields, columns = part.fields_of(schema), part.columns_of(schema)
        copied = Copied(part.source, fields, columns, schema, dictionaries)
        known = [field for field in fields if field is not None]
        for some in portions(part.source, part.ids, known, _AT_ONCE):
            yield copied.block(some)
        if part.is_ours:
            part.source.rest()


def _count(parts: Sequence[Part]) -> int:
    return sum(len(part.ids) for part in parts)


def _merged(parts: Sequence[Part], kept: Sequence[Part], commits: Sequence[Trailer]) -> Merged:
    counts = tuple(len(part.ids) for part in kept)
    return Merged(_ids(commits), counts, _count(parts) - sum(counts))


def _ids(commits: Sequence[Trailer]) -> Ids:
    ranges = [np.arange(one.first_record, one.first_record + one.records) for one in commits]
    return np.concatenate(ranges) if ranges else np.empty(0, np.int64)
