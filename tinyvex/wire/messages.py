"""
Every message of the protocol, once.

The docstrings and descriptions here become the prose of `protocol/schema.json`.
JSON names are camelCase; `Raw` fields keep the sender's JSON undecoded.
A message type whose `jsonrpc` had a default would accept messages without it, so none has one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

__all__ = [
    "CAPABILITY_CHUNK",
    "CAPABILITY_PATCH",
    "ActionParams",
    "AuthErrorParams",
    "AuthenticateParams",
    "CallParams",
    "ClientRequest",
    "ConnectParams",
    "ConnectResult",
    "EmptyResult",
    "ErrorObject",
    "ErrorResponse",
    "Modification",
    "ModifyQuerySetParams",
    "QueryAdd",
    "QueryFailed",
    "QueryRemove",
    "QueryRemoved",
    "QueryUnchanged",
    "QueryUpdated",
    "ServerNotification",
    "StateVersion",
    "SuccessResponse",
    "TransitionChunkParams",
    "TransitionParams",
]

PROTOCOL_VERSION = 1
"""The protocol version this package speaks; see `protocol/CHANGELOG.md`."""

CAPABILITY_PATCH = "patch"
"""The client applies `QueryUpdated.patch`."""
CAPABILITY_CHUNK = "chunk"
"""The client puts `tinyvex/transitionChunk` together."""

Counter = Annotated[int, Meta(ge=0, le=2**32 - 1, description="a counter that only grows")]
Ts = Annotated[int, Meta(ge=0, lt=2**53, description="a commit timestamp, microseconds since the epoch")]
Path = Annotated[str, Meta(min_length=1, max_length=512, description="`package/module:function`, relative to the app")]
RequestKey: TypeAlias = int | str
"""A JSON-RPC id; it lives per socket."""


class _Params(Struct, rename="camel", kw_only=True, frozen=True):
    pass


class StateVersion(_Params, frozen=True):
    """A point in a connection's life: all three grow only, and start at 0 on every socket."""

    query_set: Counter
    identity: Counter
    ts: Ts


# Requests, client to server.


class ConnectParams(_Params, frozen=True):
    """The first request on a socket."""

    protocol_version: Annotated[int, Meta(ge=1, description="the newest version the client speaks")]
    session_id: Annotated[str, Meta(min_length=8, max_length=128, description="chosen once per client, kept always")]
    connection_count: Counter = 0
    last_close_reason: Annotated[str, Meta(max_length=256)] | None = None
    client_ts: Annotated[int, Meta(description="the client's clock, milliseconds since the epoch")] = 0
    max_observed_ts: Ts = 0
    observed_epoch: Annotated[str, Meta(max_length=128, description="in which `maxObservedTs` was seen")] | None = None
    capabilities: Annotated[
        list[str], Meta(max_length=32, description="optional features the client has: `patch`, `chunk`")
    ] = []
    token: Annotated[str, Meta(max_length=8192, description="client or admin token")] | None = None


class ConnectLimits(_Params, frozen=True):
    """What the server accepts on this connection."""

    message_bytes_max: int
    queries_max: int
    requests_max: int


class ConnectResult(_Params, omit_defaults=True, frozen=True):
    """The answer to `tinyvex/connect`."""

    protocol_version: int
    server_version: str
    database_id: str
    epoch: Annotated[str, Meta(description="changes when the database was restored: drop results and resume data")]
    last_ts: Ts
    client_clock_skew: Annotated[int, Meta(description="client's clock minus the server's, milliseconds")]
    limits: ConnectLimits
    heartbeat_ms: int
    token: Annotated[str, Meta(description="after `pairing:CODE` or `dashboard:CODE`: its own")] | UnsetType = UNSET


class Resume(_Params, frozen=True):
    """The result that the client still holds of a query."""

    ts: Ts
    hash: Annotated[str, Meta(max_length=128)]


class QueryAdd(_Params, tag_field="type", tag="Add", frozen=True):
    """Subscribe to a query."""

    query_id: Counter
    udf_path: Path
    args: Raw
    resume: Resume | None = None


class QueryRemove(_Params, tag_field="type", tag="Remove", frozen=True):
    """Unsubscribe."""

    query_id: Counter


class ModifyQuerySetParams(_Params, frozen=True):
    """Change the query set from `baseVersion`, which must be the last one sent, to `newVersion`."""

    base_version: Counter
    new_version: Counter
    modifications: Annotated[list[QueryAdd | QueryRemove], Meta(max_length=4096)]


class CallParams(_Params, frozen=True):
    """A mutation or action; (`sessionId`, `requestId`) makes a mutation happen once."""

    request_id: Counter
    udf_path: Path
    args: Raw


class ActionParams(CallParams, frozen=True):
    """An action: runs beside everything else, and is not repeated by the client."""


class QueryParams(_Params, frozen=True):
    """A query, once; at `ts` when given, else at the newest state."""

    udf_path: Path
    args: Raw
    ts: Ts | None = None


class AuthenticateParams(_Params, frozen=True):
    """Change who the connection speaks for; `baseVersion` is the identity version it continues from."""

    base_version: Counter
    kind: Literal["none", "admin", "user"]
    token: Annotated[str, Meta(max_length=8192, description="the admin token, or a user's JWT")] | None = None
    acting_as: Annotated[dict[str, Any], Meta(description="with the admin token: the identity")] | None = None


class PingParams(_Params, frozen=True):
    """Nothing."""


class _Request(Struct, kw_only=True, frozen=True, tag_field="method"):
    jsonrpc: Literal["2.0"]
    id: RequestKey


class Connect(_Request, tag="tinyvex/connect", frozen=True):
    """Client to server, first on every socket; answered with `ConnectResult`."""

    params: ConnectParams


class ModifyQuerySet(_Request, tag="tinyvex/modifyQuerySet", frozen=True):
    """Client to server; answered `{}`, then by a transition that reaches `newVersion`."""

    params: ModifyQuerySetParams


class Mutation(_Request, tag="tinyvex/mutation", frozen=True):
    """Client to server; answered with `MutationResult` when the commit is durable."""

    params: CallParams


class Action(_Request, tag="tinyvex/action", frozen=True):
    """Client to server; answered with `ActionResult`."""

    params: ActionParams


class Query(_Request, tag="tinyvex/query", frozen=True):
    """Client to server; answered with `MutationResult`, whose `ts` is the snapshot's."""

    params: QueryParams


class Authenticate(_Request, tag="tinyvex/authenticate", frozen=True):
    """Client to server; answered `{}`, then by a transition with the new identity version; or `tinyvex/authError`."""

    params: AuthenticateParams


class Ping(_Request, tag="tinyvex/ping", frozen=True):
    """Client to server; answered with `PingResult` before anything that was asked later."""

    params: PingParams = PingParams()


ClientRequest: TypeAlias = Connect | ModifyQuerySet | Mutation | Action | Query | Authenticate | Ping

# Answers, server to client.


class MutationResult(_Params, frozen=True):
    """What a mutation or one-shot query returned, at which `ts`."""

    value: Raw
    ts: Ts
    log_lines: list[str]


class ActionResult(_Params, frozen=True):
    """What an action returned."""

    value: Raw
    log_lines: list[str]


class EmptyResult(_Params, frozen=True):
    """The request was accepted; a transition brings what comes of it."""


class PingResult(_Params, frozen=True):
    """The server's clock, microseconds since the epoch."""

    server_ts: int


class ErrorData(_Params, omit_defaults=True, frozen=True):
    """For programs: the stable name, whose fault, whether to retry, and details by error."""

    name: str
    fault: Literal["client", "developer", "server", "operator"]
    retry: Literal["never", "after-fix", "now", "later"]
    retry_after_ms: int | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    path: Annotated[str, Meta(description="the wrong field, as `$.a[0].b`")] | UnsetType = UNSET
    app_data: Annotated[Raw, Meta(description="what the function gave AppError")] | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET


class ErrorObject(_Params, frozen=True):
    """A JSON-RPC error; `errors.json` lists the codes."""

    code: int
    message: str
    data: ErrorData


# Notifications, server to client.


class QueryUpdated(_Params, tag_field="type", tag="QueryUpdated", omit_defaults=True, frozen=True):
    """A query's new result: whole as `value`, or as `patch` from the one this client holds."""

    query_id: Counter
    hash: Annotated[str, Meta(description="a token for this result, to be sent back in `resume`, never computed")]
    value: Raw | UnsetType = UNSET
    patch: Annotated[Raw, Meta(description="JSON Patch (RFC 6902) on the encoded JSON")] | UnsetType = UNSET
    log_lines: list[str] = []


class QueryFailed(_Params, tag_field="type", tag="QueryFailed", omit_defaults=True, frozen=True):
    """The query raised, does not exist, or was given wrong arguments."""

    query_id: Counter
    error: ErrorObject
    log_lines: list[str] = []


class QueryUnchanged(_Params, tag_field="type", tag="QueryUnchanged", frozen=True):
    """The result offered in `resume` is still the right one."""

    query_id: Counter
    hash: str


class QueryRemoved(_Params, tag_field="type", tag="QueryRemoved", frozen=True):
    """The query left the query set."""

    query_id: Counter


Modification: TypeAlias = QueryUpdated | QueryFailed | QueryUnchanged | QueryRemoved


class TransitionParams(_Params, frozen=True):
    """All queries of the connection move from one version to the next, together."""

    start_version: StateVersion
    end_version: StateVersion
    modifications: list[Modification]
    server_ts: Annotated[int, Meta(description="the server's clock when it was sent, microseconds")] = 0


class TransitionChunkParams(_Params, frozen=True):
    """One part of a long transition: all of them, joined in order, are the text of its `tinyvex/transition` message."""

    transition_id: Annotated[int, Meta(ge=0, le=2**32 - 1, description="per socket, from 0, for each one in parts")]
    part_number: Annotated[int, Meta(ge=0, le=2**32 - 1, description="from 0")]
    parts_total: Annotated[int, Meta(ge=2, le=2**32 - 1)]
    bytes_total: Annotated[int, Meta(ge=2, lt=2**53, description="length of the whole message in UTF-8")]
    chunk: Annotated[str, Meta(min_length=1, description="the part: text, not JSON by itself")]


class AuthErrorParams(_Params, frozen=True):
    """`tinyvex/authenticate` was refused, or (where none was attempted) the user's token has expired."""

    error: ErrorObject
    base_version: Annotated[Counter, Meta(description="the identity version, from which the client continues")]
    auth_update_attempted: bool


class FatalErrorParams(_Params, frozen=True):
    """Why the server closes the connection; the close frame follows."""

    error: ErrorObject


class _Notification(Struct, kw_only=True, frozen=True, tag_field="method"):
    jsonrpc: Literal["2.0"]


class Transition(_Notification, tag="tinyvex/transition", frozen=True):
    """Server to client."""

    params: TransitionParams


class TransitionChunk(_Notification, tag="tinyvex/transitionChunk", frozen=True):
    """Server to client; other messages may come between the parts of one transition, but no other transition."""

    params: TransitionChunkParams


class ServerPing(_Notification, tag="tinyvex/ping", frozen=True):
    """Server to client, after a while without another message; needs no answer."""

    params: PingParams = PingParams()


class AuthError(_Notification, tag="tinyvex/authError", frozen=True):
    """Server to client."""

    params: AuthErrorParams


class FatalError(_Notification, tag="tinyvex/fatalError", frozen=True):
    """Server to client, last on the socket."""

    params: FatalErrorParams


ServerNotification: TypeAlias = Transition | TransitionChunk | ServerPing | AuthError | FatalError


class SuccessResponse(Struct, kw_only=True, frozen=True):
    """Server to client, once per request: what was asked for; its type depends on the request's method."""

    jsonrpc: Literal["2.0"]
    id: RequestKey
    result: Raw


class ErrorResponse(Struct, kw_only=True, frozen=True):
    """Server to client, once per request that failed; `id` is null when it could not be read."""

    jsonrpc: Literal["2.0"]
    id: RequestKey | None
    error: ErrorObject


class Envelope(Struct, kw_only=True, frozen=True):
    """Any JSON-RPC message, before its kind is known: responses have no method and need their request's type."""

    jsonrpc: Literal["2.0"]
    id: RequestKey | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


def encode_error(error: ErrorObject) -> bytes:
    """An error object as JSON."""
    return msgspec.json.encode(error)
