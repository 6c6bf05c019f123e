"""The call of a function, and the outcome of a query or a mutation."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec import Struct

from tinyvex import errors
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.result.result_body import Body
    from tinyvex.functions.transaction.execution import Identity
    from tinyvex.functions.transaction.range_cache import CachedRanges
    from tinyvex.functions.transaction.read_set import ReadSet

__all__ = ["Call", "MutationOutcome", "QueryOutcome", "error_token"]


class Call(Struct, frozen=True, gc=False):
    """
    A function to run, its arguments and its caller.

    Attributes:
        path: the function's path.
        args: one JSON object.
        identity: the caller; None for an anonymous one.
        admin: whether internal functions are allowed.
        request_id: the id under which the log has the traceback of a failure.
        client: pays for the execution (`fair_shares.py`); empty for the system's own calls.
    """

    path: str
    args: bytes
    identity: Identity = None
    admin: bool = False
    request_id: str = ""
    client: str = ""


class QueryOutcome(Struct, frozen=True):
    """
    A query's result at a snapshot, a value or an error, and its dependencies.

    Attributes:
        ts: the snapshot.
        body: the value; None if the query failed.
        error: the failure; None if the query returned.
        reads: the keys it observed.
        log_lines: its log.
        read_auth: whether it accessed `ctx.auth`.
        read_now: whether it accessed `ctx.now`.
        journal: the end of the first page of a paginated query.
        volatile: whether it failed for a reason outside the database; any commit is then a reason to retry.
        cached_ranges: the results of its scans, for the next execution of the same live query.
        rows_read: rows fetched from the database.
        rows_applied: rows taken from recent commits instead.
    """

    ts: int
    body: Body | None
    error: errors.TinyvexError | None
    reads: ReadSet
    log_lines: tuple[str, ...] = ()
    read_auth: bool = False
    read_now: bool = False
    journal: str | None = None
    volatile: bool = False
    cached_ranges: CachedRanges | None = None
    rows_read: int = 0
    rows_applied: int = 0

    @property
    def value(self) -> bytes:
        """The result as canonical JSON; empty if the query failed."""
        return b"" if self.body is None else self.body.json()

    def size(self) -> int:
        """Return the bytes of the result as JSON."""
        return 0 if self.body is None else self.body.size

    @property
    def hash(self) -> str:
        """The token that two outcomes share if they are the same to a client."""
        return self.body.token if self.body is not None else error_token(self.error)


class MutationOutcome(Struct, frozen=True):
    """
    A committed mutation's result.

    Attributes:
        value: the returned value, as canonical JSON.
        ts: the commit's timestamp.
        log_lines: its log.
        replayed: whether this is the stored result of an earlier run.
        rows_read: rows fetched from the database; None if nothing ran.
    """

    value: bytes
    ts: int
    log_lines: tuple[str, ...] = ()
    replayed: bool = False
    rows_read: int | None = None


def error_token(error: errors.TinyvexError | None) -> str:
    """Return the token that two failures share if they are the same to a client."""
    assert error is not None
    text = f"{error.number}\0{error.message}\0".encode(errors="backslashreplace")
    return "!" + hashlib.blake2b(text + _app_data(error), digest_size=16).hexdigest()


def _app_data(error: errors.TinyvexError) -> bytes:
    try:
        return codec.encode(getattr(error, "app_data", None))
    except errors.TinyvexError as invalid:  # the data is not a value, so it is not sent either
        return str(invalid).encode(errors="backslashreplace")
