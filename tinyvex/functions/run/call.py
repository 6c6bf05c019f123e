"""What is asked of a function, what comes of it, and the tokens by which both are told apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyvex import errors, limits
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.app.function_spec import FunctionSpec
    from tinyvex.functions.result.result_body import Body
    from tinyvex.functions.transaction.context import Identity
    from tinyvex.functions.transaction.range_cache import CachedRanges
    from tinyvex.functions.transaction.read_set import ReadSet
    from tinyvex.storage.log.catalog import Catalog

__all__ = [
    "Call",
    "IdempotencyKey",
    "MutationOutcome",
    "QueryOutcome",
    "encode_result",
    "error_token",
    "identity_key",
    "is_whole",
    "request_digest",
    "result_body",
    "session_key",
]


@dataclass(frozen=True, slots=True)
class Call:
    """What to run, and for whom."""

    path: str
    args: bytes
    """One JSON object."""
    identity: Identity = None
    admin: bool = False
    """Internal functions are allowed."""
    request_id: str = ""
    """Under which the log has the traceback of a failure."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The key under which a mutation happens once, and the digest of what was asked."""

    session_id: str
    request_id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """A query's result at a snapshot: a value or an error, and what it depended on."""

    ts: int
    body: Body | None
    error: errors.TinyvexError | None
    reads: ReadSet
    log_lines: tuple[str, ...] = ()
    read_auth: bool = False
    read_now: bool = False
    journal: str | None = None
    """Where the first page of a paginated query ends."""
    volatile: bool = False
    """It failed for a reason outside the database; any commit makes it worth another try."""
    kept: CachedRanges | None = None
    """What its scans found, for the next execution of the same live query."""
    rows_read: int = 0
    """Rows fetched from the database."""
    rows_applied: int = 0
    """Rows taken from the log's tail instead."""

    @property
    def value(self) -> bytes:
        """The result as canonical JSON; nothing where it failed."""
        return b"" if self.body is None else self.body.json()

    @property
    def hash(self) -> str:
        """The token under which two outcomes count as the same."""
        return self.body.token if self.body is not None else error_token(self.error)


@dataclass(frozen=True, slots=True)
class MutationOutcome:
    """What a mutation returned and when it committed."""

    value: bytes
    ts: int
    log_lines: tuple[str, ...] = ()
    replayed: bool = False
    rows_read: int | None = field(default=None, compare=False)
    """Rows fetched from the database; None where nothing ran."""


def encode_result(spec: FunctionSpec, result: Any, catalog: Catalog) -> bytes:
    """
    A function's result as canonical JSON.

    Raises:
        InvalidResult: it does not fit the annotation, is no value, or is too large.
    """
    value = spec.encode_result(result, catalog)
    _check_size(spec, len(value))
    return value


def result_body(spec: FunctionSpec, result: Any, catalog: Catalog) -> Body:
    """A function's result as canonical JSON in pieces; raises as `encode_result`."""
    body = spec.result_body(result, catalog)
    _check_size(spec, body.size)
    return body


def _check_size(spec: FunctionSpec, size: int) -> None:
    if size > limits.RESULT_BYTES_MAX:
        raise errors.InvalidResult(
            f"{spec.path} returned {size} bytes; the limit is {limits.RESULT_BYTES_MAX}; paginate or take fewer"
        )


def error_token(error: errors.TinyvexError | None) -> str:
    """The token under which two failures count as the same."""
    assert error is not None
    text = f"{error.number}\0{error.message}\0".encode(errors="backslashreplace")
    return "!" + hashlib.blake2b(text + _app_data(error), digest_size=16).hexdigest()


def _app_data(error: errors.TinyvexError) -> bytes:
    try:
        return codec.encode(getattr(error, "app_data", None))
    except errors.TinyvexError as refused:  # nor will it be told: it is no value
        return str(refused).encode(errors="backslashreplace")


def is_whole(error: errors.TinyvexError) -> bool:
    """Whether it has all that is told of an error: one of the app's own classes may have left something out."""
    return (
        hasattr(error, "number")
        and hasattr(error, "fault")
        and isinstance(getattr(error, "message", None), str)
        and isinstance(getattr(error, "data", None), dict)
    )


def identity_key(identity: Identity) -> bytes:
    """An identity as canonical JSON; `null` for nobody."""
    return b"null" if identity is None else codec.encode(dict(identity))


def session_key(identity: Identity) -> bytes:
    """
    Whose sessions and exactly-once records an identity may use.

    That is decided by its issuer and subject, so that a renewed token is the same user's;
    by everything it says where it has no subject, as an administrator may make it.
    """
    if identity is None or identity.get("subject") is None:
        return identity_key(identity)
    return identity_key({"issuer": identity.get("issuer"), "subject": identity["subject"]})


def request_digest(call: Call) -> bytes:
    """What a request id stands for: reusing it for anything else is an error."""
    parts = (call.path.encode(), call.args, session_key(call.identity))
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()
