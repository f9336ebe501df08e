"""Read the Arrow IPC stream that a segment table is, and refuse what this library never writes.

A stream may be made to take any amount of memory, or to lead Arrow anywhere: by compressed buffers,
by dictionaries, by rows that take no bytes, by offsets. So its messages are looked at first.
"""

from __future__ import annotations

import itertools
import re
import struct
from typing import Final

import pyarrow as pa

from sqlstore.errors import CorruptChunkError
from sqlstore.limits import ROWS_PER_BYTE

VALUE_TYPE: Final = pa.struct(
    [
        pa.field("offset", pa.uint32(), nullable=False),
        pa.field("length", pa.uint32(), nullable=False),
        pa.field("raw_length", pa.uint32(), nullable=False),
        pa.field("items", pa.uint32(), nullable=False),
        pa.field("crc", pa.uint32(), nullable=False),
        pa.field("compression", pa.uint8(), nullable=False),
    ]
)
_MESSAGES: Final = ("schema", "record batch")
_HEADER_SLOT: Final = 2  # of a message: version, type of the header, header
_COMPRESSION_SLOT: Final = 3  # of a record batch: length, nodes, buffers, compression
_VALUES: Final = re.compile(r"f[0-9]+")


def parse(data: bytes | pa.Buffer, name: str, offset: int) -> pa.RecordBatch:
    """Return the single record batch of a segment table.

    Parameters
    ----------
    name, offset
        The chunk and where the table begins in it, for the message of an error.

    Raises
    ------
    CorruptChunkError
        The bytes are not such a stream.
    """
    try:
        return _parsed(pa.py_buffer(data))
    except (pa.ArrowException, OSError, EOFError, ValueError, TypeError, struct.error) as error:
        raise CorruptChunkError(
            f"not a segment table: {error}", chunk=name, offset=offset
        ) from error


def _parsed(data: pa.Buffer) -> pa.RecordBatch:
    reader = pa.ipc.MessageReader.open_stream(data)
    messages = list(itertools.islice(reader, len(_MESSAGES) + 1))
    if tuple(message.type for message in messages) != _MESSAGES:
        raise ValueError("not one schema and one record batch")
    if _is_compressed(messages[1].metadata):
        raise ValueError("its buffers are compressed")
    batch = pa.ipc.read_record_batch(messages[1], pa.ipc.read_schema(messages[0]))
    if batch.num_rows > ROWS_PER_BYTE * data.size:
        raise ValueError(f"{batch.num_rows} rows in {data.size} bytes")
    if len(set(batch.schema.names)) != batch.num_columns:
        raise ValueError("two of its columns have one name")
    for field in batch.schema:
        if _VALUES.fullmatch(field.name) and not _says_where(field.type):
            raise ValueError(f"{field.name} is {field.type}, and does not say where values lie")
    batch.validate(full=True)  # Arrow would read anywhere in memory that offsets say
    return batch


def _says_where(kind: pa.DataType) -> bool:
    """Return whether this is the type of places of values; a checkpoint adds the chunk to each."""
    return pa.types.is_struct(kind) and list(kind)[: len(VALUE_TYPE)] == list(VALUE_TYPE)


def _is_compressed(metadata: pa.Buffer) -> bool:
    """Return whether the buffers of a record batch are compressed, from its flatbuffer."""
    data = memoryview(metadata)
    (message,) = struct.unpack_from("<I", data)
    slot = message + _slot(data, message, _HEADER_SLOT)
    batch = slot + struct.unpack_from("<I", data, slot)[0]
    return _slot(data, batch, _COMPRESSION_SLOT) != 0


def _slot(data: memoryview, table: int, number: int) -> int:
    """Return where a member of a flatbuffer table lies behind its beginning; 0 if it has none."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    at = 4 + 2 * number
    return int(struct.unpack_from("<H", data, vtable + at)[0]) if at < size else 0
