"""
Encode transitions as messages of the Tinyvex protocol.

A result goes to many connections, so whatever is the same for all of them is encoded once and cached in the fragments of
the shared `Result`. A message is assembled from fragments, never encoded as a whole:

    {"type":"QueryUpdated","queryId":7   ,"hash":"…","value":[…]}
    └── of this connection ──────────┘   └── fragment VALUE ────┘

A long value stays in the pieces that its `Body` has, so that a transition of many megabytes is not copied for each
connection: the connection sends it in chunks, and makes the text of a piece when it needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tinyvex import limits
from tinyvex.errors import MessageTooLarge
from tinyvex.sync.events import Failure, FullValue, Patch, Removed, StateTransition, Unchanged
from tinyvex.sync.results import Result
from tinyvex.wire.error_objects import to_object
from tinyvex.wire.transition_chunks import Piece

__all__ = ["transition_pieces"]

_encode = msgspec.json.encode

# Keys of `Result.fragments`.
HEAD = "tinyvex head"
VALUE = "tinyvex value"
FAILURE = "tinyvex failure"


def transition_pieces(transition: StateTransition) -> list[Piece]:
    """
    Return a `tinyvex/transition` message in pieces.

    Raises:
        MessageTooLarge: the results of several queries are too long together; a single one has its own limit.
    """
    start, end, changes = transition.start, transition.end, transition.changes
    pieces: list[Piece] = [
        b'{"jsonrpc":"2.0","method":"tinyvex/transition","params":{'
        b'"startVersion":{"querySet":%d,"identity":%d,"ts":%d},"endVersion":{"querySet":%d,"identity":%d,"ts":%d},'
        b'"serverTs":%d,"modifications":['
        % (
            start.query_set, start.identity, start.ts, end.query_set, end.identity, end.ts, transition.server_ts,
        )
    ]  # fmt: skip
    for position, change in enumerate(changes):
        if position:
            pieces.append(b",")
        _ENCODERS[type(change)](change, pieces)
    pieces.append(b"]}}")
    if len(changes) > 1:
        _check_size(pieces)
    return pieces


def _check_size(pieces: list[Piece]) -> None:
    size = sum(map(len, pieces))
    if size > limits.TRANSITION_BYTES_MAX:
        raise MessageTooLarge(
            f"the results of this connection's queries have {size:,} bytes together; "
            f"the limit is {limits.TRANSITION_BYTES_MAX:,}"
        )


def _add_patch(change: Patch, pieces: list[Piece]) -> None:
    result = change.result
    head = result.fragments.get(HEAD) or _head(result)
    pieces.append(b'{"type":"QueryUpdated","queryId":%d%b,"patch":%b}' % (change.query_id, head, change.operations))


def _add_value(change: FullValue, pieces: list[Piece]) -> None:
    result = change.result
    value = result.fragments.get(VALUE)
    if value is not None:
        pieces.append(b'{"type":"QueryUpdated","queryId":%d%b' % (change.query_id, value))
        return
    head, body = result.fragments.get(HEAD) or _head(result), result.body()
    if body.size > limits.CHUNK_BYTES:
        pieces.append(b'{"type":"QueryUpdated","queryId":%d%b,"value":' % (change.query_id, head))
        pieces += body.flat()
        pieces.append(b"}")
        return
    value = result.fragments[VALUE] = b'%b,"value":%b}' % (head, body.json())
    pieces.append(b'{"type":"QueryUpdated","queryId":%d%b' % (change.query_id, value))


def _add_failure(change: Failure, pieces: list[Piece]) -> None:
    result = change.result
    failure = result.fragments.get(FAILURE)
    if failure is None:
        assert result.error is not None
        error = to_object(result.error, request_id=result.request_id)
        failure = result.fragments[FAILURE] = b',"error":%b%b}' % (_encode(error), _log_lines(result))
    pieces.append(b'{"type":"QueryFailed","queryId":%d%b' % (change.query_id, failure))


def _add_unchanged(change: Unchanged, pieces: list[Piece]) -> None:
    token = _encode(change.result.hash)
    pieces.append(b'{"type":"QueryUnchanged","queryId":%d,"hash":%b}' % (change.query_id, token))


def _add_removed(change: Removed, pieces: list[Piece]) -> None:
    pieces.append(b'{"type":"QueryRemoved","queryId":%d}' % change.query_id)


_ENCODERS: dict[type, Callable[[Any, list[Piece]], None]] = {
    Patch: _add_patch,
    FullValue: _add_value,
    Failure: _add_failure,
    Unchanged: _add_unchanged,
    Removed: _add_removed,
}


def _head(result: Result) -> bytes:
    """Encode the fields that a value and a patch have in common."""
    head = result.fragments[HEAD] = b',"hash":%b%b' % (_encode(result.hash), _log_lines(result))
    return head


def _log_lines(result: Result) -> bytes:
    return b',"logLines":' + _encode(result.log_lines) if result.log_lines else b""
