"""Commit records as bytes: every operation survives a round trip, and anything else is refused with a reason."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.records import OPERATIONS, commit_records
from tinyvex.storage.log import operations, record_codec
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.record_codec import RecordCodecError, decode_record, encode_record

RECORD = CommitRecord(7, (operations.SetNumbers(10_001, 101, 102),))


@given(commit_records)
def test_a_record_survives_encoding(record: CommitRecord) -> None:
    """All operations survive, in order, each with its own type."""
    decoded = decode_record(encode_record(record))
    assert decoded == record
    assert list(map(type, decoded.operations)) == list(map(type, record.operations))


def test_every_operation_is_generated() -> None:
    """A new operation needs a strategy, so that the test above covers it."""
    structs = [
        each for each in vars(operations).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)
    ]
    assert set(OPERATIONS) == {each for each in structs if each.__struct_config__.tag is not None}


def test_no_two_operations_have_one_tag() -> None:
    """The tag distinguishes the operations in the encoded form."""
    tags = [operation.__struct_config__.tag for operation in OPERATIONS]
    assert len(set(tags)) == len(tags)


def test_the_encoded_form_is_fixed() -> None:
    """A change of these bytes needs another format version."""
    write = operations.Write(101, bytes(16), b"{}", None, (), ((5, b"k"),), ())
    record = CommitRecord(7, (operations.WriteDocuments((write,)),))
    expected = [7, [["write", [[101, bytes(16), b"{}", None, [], [[5, b"k"]], []]]]]]
    assert encode_record(record) == b"\x01" + msgspec.msgpack.encode(expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "at least one byte"),
        (b"\x02", "format 2; this version of Tinyvex reads format 1"),
        (b"\x01", "is damaged"),
        (encode_record(RECORD)[:-1], "is damaged"),
        (encode_record(RECORD) + b"\0", "is damaged"),
        (b"\x01" + msgspec.msgpack.encode([7, [["unknown"]]]), "is damaged: Invalid value 'unknown'"),
        (b"\x01" + msgspec.msgpack.encode({"ts": 7}), "is damaged: Expected `array`"),
    ],
    ids=["nothing", "version", "version alone", "cut off", "trailing", "unknown operation", "another structure"],
)
def test_other_bytes_are_refused(data: bytes, reason: str) -> None:
    """The error names the defect."""
    with pytest.raises(RecordCodecError, match=reason):
        decode_record(data)


@given(st.binary(max_size=200))
@example(b"\x01" + b"\x91" * 5000)
def test_garbage_never_raises_anything_else(garbage: bytes) -> None:
    """For any bytes, the result is a record or one kind of error."""
    for data in (garbage, b"\x01" + garbage):
        with contextlib.suppress(RecordCodecError):
            decode_record(data)


def test_a_record_above_the_limit_is_neither_written_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record at the limit is accepted."""
    data = encode_record(RECORD)
    monkeypatch.setattr(record_codec, "COMMIT_RECORD_BYTES_MAX", len(data))
    assert decode_record(encode_record(RECORD)) == RECORD
    monkeypatch.setattr(record_codec, "COMMIT_RECORD_BYTES_MAX", len(data) - 1)
    with pytest.raises(RecordCodecError, match="the limit is"):
        encode_record(RECORD)
    with pytest.raises(RecordCodecError, match="the limit is"):
        decode_record(data)
