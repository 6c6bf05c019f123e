"""
Encode commit records as bytes, and back.

::

    byte 0     format version
    byte 1…    MessagePack: [ts, [operation, …]]; an operation is [tag, field, …]

Tags and the order of fields are the format: changing either needs a new version. Nothing on the path of a commit encodes a
record; a follower does that after the commit, or a replicated log before it.
"""

from __future__ import annotations

import msgspec

from tinyvex.limits import COMMIT_RECORD_BYTES_MAX
from tinyvex.storage.log.commit_record import CommitRecord

__all__ = ["FORMAT", "RecordCodecError", "decode_record", "encode_record"]

FORMAT = 1

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CommitRecord)


class RecordCodecError(ValueError):
    """A record is too large to be encoded, or bytes are not a record that this version can read."""


def encode_record(record: CommitRecord) -> bytes:
    """
    Encode a commit record.

    Raises:
        RecordCodecError: it has more than COMMIT_RECORD_BYTES_MAX bytes.
    """
    buffer = bytearray((FORMAT,))
    _encoder.encode_into(record, buffer, 1)
    if len(buffer) > COMMIT_RECORD_BYTES_MAX:
        raise RecordCodecError(
            f"the commit record at {record.ts} has {len(buffer)} bytes; the limit is {COMMIT_RECORD_BYTES_MAX}"
        )
    return bytes(buffer)


def decode_record(data: bytes) -> CommitRecord:
    """
    Decode a commit record.

    Raises:
        RecordCodecError: the bytes are too many, of another version, or damaged.
    """
    if len(data) > COMMIT_RECORD_BYTES_MAX:
        raise RecordCodecError(f"a commit record of {len(data)} bytes; the limit is {COMMIT_RECORD_BYTES_MAX}")
    if not data:
        raise RecordCodecError("a commit record has at least one byte, its format version; this has none")
    if data[0] != FORMAT:
        raise RecordCodecError(
            f"a commit record of format {data[0]}; this version of Tinyvex reads format {FORMAT}: update it"
        )
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, RecursionError) as error:
        raise RecordCodecError(f"a commit record of {len(data)} bytes is damaged: {error}") from error
