"""Transitions on the wire: assembled from fragments that all connections share, and equal to what msgspec encodes."""

from __future__ import annotations

import sys

import msgspec
import pytest

from tinyvex import errors, limits
from tinyvex.dialects.tinyvex import encoding
from tinyvex.dialects.tinyvex.encoding import transition_pieces
from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.functions.run.call import QueryOutcome
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.sync.events import (
    Failure,
    FullValue,
    Patch,
    QueryChange,
    Removed,
    StateTransition,
    SyncVersion,
    Unchanged,
)
from tinyvex.sync.results import Result, Version
from tinyvex.wire import codec, messages
from tinyvex.wire.error_objects import to_object


def result(value: bytes | Body | errors.TinyvexError, *log_lines: str, token: str | None = None) -> Result:
    """A result of a live query."""
    error = value if isinstance(value, errors.TinyvexError) else None
    body = None if isinstance(value, errors.TinyvexError) else Body((value,)) if isinstance(value, bytes) else value
    outcome = QueryOutcome(5, body, error, ReadSet(), log_lines)
    return Result.of(outcome, None, Version(token or outcome.hash, body), "q1")


def rows(count: int) -> Body:
    """A long result of rows."""
    made = []
    for number in range(count):
        name = number.to_bytes(16, "big")
        made.append(StoredDocument(name, name, 1, b'{"_id":"%d","text":"%s"}' % (number, b"x" * 300)))
    return Body([RowsPart(ChunkedRows.of(made), 7, reverse=False)])


def transition(*changes: QueryChange) -> StateTransition:
    return StateTransition(SyncVersion(0, 0, 0), SyncVersion(1, 2, 9), 11, list(changes))


def text(*changes: QueryChange) -> bytes:
    return b"".join(map(bytes, transition_pieces(transition(*changes))))


def decoded(*changes: QueryChange) -> messages.TransitionParams:
    message = codec.decode_server_message(text(*changes))
    assert isinstance(message, messages.Transition)
    return message.params


def test_an_assembled_transition_is_the_one_that_msgspec_reads() -> None:
    """Versions, clock and every kind of change arrive."""
    error = errors.FunctionFailed("no")
    params = decoded(
        FullValue(1, result(b"[1]", token='h"')),
        FullValue(2, result(b"null", "line", token="h")),
        Failure(3, result(error, "line")),
        Removed(4),
        Unchanged(5, result(b"1", token="h")),
        Patch(6, result(b"[2]", token="new"), b"[]"),
    )
    assert params.start_version == messages.StateVersion(query_set=0, identity=0, ts=0)
    assert params.end_version == messages.StateVersion(query_set=1, identity=2, ts=9)
    assert params.server_ts == 11
    assert params.modifications == [
        messages.QueryUpdated(query_id=1, hash='h"', value=msgspec.Raw(b"[1]")),
        messages.QueryUpdated(query_id=2, hash="h", value=msgspec.Raw(b"null"), log_lines=["line"]),
        messages.QueryFailed(query_id=3, error=to_object(error, request_id="q1"), log_lines=["line"]),
        messages.QueryRemoved(query_id=4),
        messages.QueryUnchanged(query_id=5, hash="h"),
        messages.QueryUpdated(query_id=6, hash="new", patch=msgspec.Raw(b"[]")),
    ]


def test_an_empty_transition_is_one() -> None:
    """It only moves the version."""
    assert decoded().modifications == []


@pytest.mark.parametrize("change", [FullValue(1, result(b"1")), Failure(1, result(errors.AppError("no")))])
def test_log_lines_are_left_out_if_there_are_none(change: QueryChange) -> None:
    """A change without log lines does not mention them."""
    assert b"logLines" not in text(change)


def test_a_result_is_encoded_once_for_all_connections() -> None:
    """Every connection's message contains the same fragment."""
    shared, failed = result(b"[1]"), result(errors.AppError("no"))
    text(FullValue(1, shared)), text(Patch(1, shared, b"[]")), text(Failure(1, failed))
    before = dict(shared.fragments), dict(failed.fragments)
    text(FullValue(2, shared)), text(Patch(3, shared, b"[]")), text(Failure(2, failed))
    for fragments, cached in zip(before, (shared.fragments, failed.fragments), strict=True):
        assert all(cached[key] is fragment for key, fragment in fragments.items())
    assert before[0].keys() == {encoding.HEAD, encoding.VALUE}
    assert before[1].keys() == {encoding.FAILURE}


def test_a_long_value_stays_in_pieces() -> None:
    """No copy of it is cached or made; the text of a chunk is made when it is sent."""
    long = result(rows(2_000))
    pieces = transition_pieces(transition(FullValue(1, long)))
    chunks = [piece for piece in pieces if not isinstance(piece, bytes)]
    assert sum(map(len, chunks)) > long.body().size * 0.9
    assert all(sys.getsizeof(chunk) < 100 for chunk in chunks)
    assert encoding.VALUE not in long.fragments
    [change] = decoded(FullValue(1, long)).modifications
    assert isinstance(change, messages.QueryUpdated)
    assert change.value == msgspec.Raw(long.body().json())


def test_results_that_are_too_long_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single result has its own limit."""
    monkeypatch.setattr(limits, "TRANSITION_BYTES_MAX", 300)
    value = FullValue(1, result(b'"%b"' % (b"x" * 200)))
    text(value)
    with pytest.raises(errors.MessageTooLarge):
        text(value, FullValue(2, value.result))
