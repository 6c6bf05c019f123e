"""
The messages of the protocol.

These types are the source of `protocol/schema.json`, and their docstrings and descriptions are its prose.
JSON names are camelCase. A `Raw` field holds the sender's JSON undecoded. `jsonrpc` has no default, because a default
would make the decoder accept messages without it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from tinyvex.limits import IDEMPOTENCY_KEY_LENGTH_MAX

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
    "MutationParams",
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
"""The protocol version of this package; see `protocol/CHANGELOG.md`."""

CAPABILITY_PATCH = "patch"
"""The client applies `QueryUpdated.patch`."""
CAPABILITY_CHUNK = "chunk"
"""The client joins `tinyvex/transitionChunk` messages."""

Counter = Annotated[int, Meta(ge=0, le=2**32 - 1, description="a counter that never decreases")]
Ts = Annotated[int, Meta(ge=0, lt=2**53, description="a commit timestamp in microseconds since the epoch")]
Path = Annotated[str, Meta(min_length=1, max_length=512, description="`package/module:function`, relative to the app")]
RequestKey: TypeAlias = int | str
"""A JSON-RPC id; unique within a socket."""


class _Params(Struct, rename="camel", kw_only=True, frozen=True):
    pass


class StateVersion(_Params, frozen=True):
    """The version of a connection's state. No component ever decreases; all start at 0 on every socket."""

    query_set: Counter
    identity: Counter
    ts: Ts


# Requests, client to server.


class ConnectParams(_Params, frozen=True):
    """The first request on a socket."""

    protocol_version: Annotated[int, Meta(ge=1, description="the newest version that the client supports")]
    session_id: Annotated[
        str, Meta(min_length=8, max_length=128, description="chosen once per client, the same on every socket")
    ]
    connection_count: Counter = 0
    last_close_reason: Annotated[str, Meta(max_length=256)] | None = None
    client_ts: Annotated[int, Meta(description="the client's clock in milliseconds since the epoch")] = 0
    max_observed_ts: Ts = 0
    observed_epoch: Annotated[str, Meta(max_length=128, description="the epoch of `maxObservedTs`")] | None = None
    capabilities: Annotated[
        list[str], Meta(max_length=32, description="optional features that the client supports: `patch`, `chunk`")
    ] = []
    token: Annotated[str, Meta(max_length=8192, description="client or admin token")] | None = None


class ConnectLimits(_Params, frozen=True):
    """The server's limits for this connection."""

    message_bytes_max: int
    queries_max: int
    requests_max: int


class ConnectResult(_Params, omit_defaults=True, frozen=True):
    """The result of `tinyvex/connect`."""

    protocol_version: int
    server_version: str
    database_id: str
    epoch: Annotated[str, Meta(description="changes when the database is restored: discard results and resume data")]
    last_ts: Ts
    client_clock_skew: Annotated[int, Meta(description="the client's clock minus the server's, in milliseconds")]
    limits: ConnectLimits
    heartbeat_ms: int
    token: (
        Annotated[str, Meta(description="the client's own token, after `pairing:CODE` or `dashboard:CODE`")] | UnsetType
    ) = UNSET


class Resume(_Params, frozen=True):
    """The result of a query that the client has cached."""

    ts: Ts
    hash: Annotated[str, Meta(max_length=128)]


class QueryAdd(_Params, tag_field="type", tag="Add", frozen=True):
    """Add a query to the query set."""

    query_id: Counter
    udf_path: Path
    args: Raw
    resume: Resume | None = None


class QueryRemove(_Params, tag_field="type", tag="Remove", frozen=True):
    """Remove a query from the query set."""

    query_id: Counter


class ModifyQuerySetParams(_Params, frozen=True):
    """The change of the query set from `baseVersion`, which must be the last version sent, to `newVersion`."""

    base_version: Counter
    new_version: Counter
    modifications: Annotated[list[QueryAdd | QueryRemove], Meta(max_length=4096)]


class CallParams(_Params, frozen=True):
    """The call of a mutation or action."""

    request_id: Counter
    udf_path: Path
    args: Raw


class MutationParams(CallParams, omit_defaults=True, frozen=True):
    """The call of a mutation, which runs once per (`sessionId`, `requestId`), or per `idempotencyKey` of a user."""

    acknowledged_below: Annotated[
        Counter,
        Meta(description="the client will never again send a mutation of this session with a lower `requestId`"),
    ] = 0
    idempotency_key: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=IDEMPOTENCY_KEY_LENGTH_MAX,
                description="the name under which the user's mutation runs once, in every session",
            ),
        ]
        | None
    ) = None


class ActionParams(CallParams, frozen=True):
    """The call of an action. Actions run concurrently with everything else, and the client never repeats one."""


class QueryParams(_Params, frozen=True):
    """A one-shot query of the snapshot at `ts`, or of the newest one."""

    udf_path: Path
    args: Raw
    ts: Ts | None = None


class AuthenticateParams(_Params, frozen=True):
    """The new identity of the connection; `baseVersion` is the current identity version."""

    base_version: Counter
    kind: Literal["none", "admin", "user"]
    token: Annotated[str, Meta(max_length=8192, description="the admin token, or a user's JWT")] | None = None
    acting_as: (
        Annotated[dict[str, Any], Meta(description="the identity to act as; with the admin token only")] | None
    ) = None


class PingParams(_Params, frozen=True):
    """Empty."""


class _RequestMessage(Struct, kw_only=True, frozen=True, tag_field="method"):
    jsonrpc: Literal["2.0"]
    id: RequestKey


class Connect(_RequestMessage, tag="tinyvex/connect", frozen=True):
    """Client to server, first on every socket. Answered with `ConnectResult`."""

    params: ConnectParams


class ModifyQuerySet(_RequestMessage, tag="tinyvex/modifyQuerySet", frozen=True):
    """Client to server. Answered with `{}`, then followed by a transition that reaches `newVersion`."""

    params: ModifyQuerySetParams


class Mutation(_RequestMessage, tag="tinyvex/mutation", frozen=True):
    """Client to server. Answered with `MutationResult` once the commit is durable."""

    params: MutationParams


class Action(_RequestMessage, tag="tinyvex/action", frozen=True):
    """Client to server. Answered with `ActionResult`."""

    params: ActionParams


class Query(_RequestMessage, tag="tinyvex/query", frozen=True):
    """Client to server. Answered with `MutationResult`, where `ts` is the snapshot's."""

    params: QueryParams


class Authenticate(_RequestMessage, tag="tinyvex/authenticate", frozen=True):
    """Client to server. Answered with `{}` and a transition to the new identity version, or an error and `tinyvex/authError`."""

    params: AuthenticateParams


class Ping(_RequestMessage, tag="tinyvex/ping", frozen=True):
    """Client to server. Answered with `PingResult`, before any later request."""

    params: PingParams = PingParams()


ClientRequest: TypeAlias = Connect | ModifyQuerySet | Mutation | Action | Query | Authenticate | Ping

# Results, server to client.


class MutationResult(_Params, frozen=True):
    """The result of a mutation or one-shot query, and the `ts` of its commit or snapshot."""

    value: Raw
    ts: Ts
    log_lines: list[str]


class ActionResult(_Params, frozen=True):
    """The result of an action."""

    value: Raw
    log_lines: list[str]


class EmptyResult(_Params, frozen=True):
    """The request was accepted; its effect arrives with a transition."""


class PingResult(_Params, frozen=True):
    """The server's clock in microseconds since the epoch."""

    server_ts: int


class ErrorData(_Params, omit_defaults=True, frozen=True):
    """The machine-readable part of an error: stable name, fault, retry hint, and details that depend on the error."""

    name: str
    fault: Literal["client", "developer", "server", "operator"]
    retry: Literal["never", "after-fix", "now", "later"]
    retry_after_ms: int | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    path: Annotated[str, Meta(description="the invalid field, as `$.a[0].b`")] | UnsetType = UNSET
    app_data: Annotated[Raw, Meta(description="the data that the function passed to AppError")] | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET
    log_lines: Annotated[list[str], Meta(description="lines that the failed function logged")] | UnsetType = UNSET


class ErrorObject(_Params, frozen=True):
    """A JSON-RPC error. `errors.json` lists the codes."""

    code: int
    message: str
    data: ErrorData


# Notifications, server to client.


class QueryUpdated(_Params, tag_field="type", tag="QueryUpdated", omit_defaults=True, frozen=True):
    """The new result of a query: as `value`, or as `patch` to the result sent before."""

    query_id: Counter
    hash: Annotated[
        str, Meta(description="a token for this result; clients return it in `resume` and never compute it")
    ]
    value: Raw | UnsetType = UNSET
    patch: Annotated[Raw, Meta(description="JSON Patch (RFC 6902) on the encoded JSON")] | UnsetType = UNSET
    log_lines: list[str] = []


class QueryFailed(_Params, tag_field="type", tag="QueryFailed", omit_defaults=True, frozen=True):
    """The query raised an error, does not exist, or received invalid arguments."""

    query_id: Counter
    error: ErrorObject
    log_lines: list[str] = []


class QueryUnchanged(_Params, tag_field="type", tag="QueryUnchanged", frozen=True):
    """The result offered in `resume` is current."""

    query_id: Counter
    hash: str


class QueryRemoved(_Params, tag_field="type", tag="QueryRemoved", frozen=True):
    """The query left the query set."""

    query_id: Counter


Modification: TypeAlias = QueryUpdated | QueryFailed | QueryUnchanged | QueryRemoved


class TransitionParams(_Params, frozen=True):
    """The step of all queries of the connection from one version to the next."""

    start_version: StateVersion
    end_version: StateVersion
    modifications: list[Modification]
    server_ts: Annotated[int, Meta(description="the server's clock at sending, in microseconds since the epoch")] = 0


class TransitionChunkParams(_Params, frozen=True):
    """A chunk of a long transition. All chunks, joined in order, are the text of its `tinyvex/transition` message."""

    transition_id: Annotated[
        int, Meta(ge=0, le=2**32 - 1, description="counts the chunked transitions of a socket, from 0")
    ]
    part_number: Annotated[int, Meta(ge=0, le=2**32 - 1, description="counts the chunks of a transition, from 0")]
    parts_total: Annotated[int, Meta(ge=2, le=2**32 - 1)]
    bytes_total: Annotated[int, Meta(ge=2, lt=2**53, description="length of the joined message in UTF-8")]
    chunk: Annotated[str, Meta(min_length=1, description="the chunk: text, which is not JSON by itself")]


class AuthErrorParams(_Params, frozen=True):
    """`tinyvex/authenticate` was refused; or, if `authUpdateAttempted` is false, the user's token has expired."""

    error: ErrorObject
    base_version: Annotated[Counter, Meta(description="the identity version that the client continues from")]
    auth_update_attempted: bool


class FatalErrorParams(_Params, frozen=True):
    """The reason why the server closes the connection; the close frame follows."""

    error: ErrorObject


class _Notification(Struct, kw_only=True, frozen=True, tag_field="method"):
    jsonrpc: Literal["2.0"]


class Transition(_Notification, tag="tinyvex/transition", frozen=True):
    """Server to client."""

    params: TransitionParams


class TransitionChunk(_Notification, tag="tinyvex/transitionChunk", frozen=True):
    """Server to client. Other messages may arrive between the chunks of a transition, but no other transition."""

    params: TransitionChunkParams


class ServerPing(_Notification, tag="tinyvex/ping", frozen=True):
    """Server to client, after a period without another message. Not answered."""

    params: PingParams = PingParams()


class AuthError(_Notification, tag="tinyvex/authError", frozen=True):
    """Server to client."""

    params: AuthErrorParams


class FatalError(_Notification, tag="tinyvex/fatalError", frozen=True):
    """Server to client, the last message on the socket."""

    params: FatalErrorParams


ServerNotification: TypeAlias = Transition | TransitionChunk | ServerPing | AuthError | FatalError


class SuccessResponse(Struct, kw_only=True, frozen=True):
    """Server to client, once per request that succeeded. The type of `result` depends on the request's method."""

    jsonrpc: Literal["2.0"]
    id: RequestKey
    result: Raw


class ErrorResponse(Struct, kw_only=True, frozen=True):
    """Server to client, once per request that failed. `id` is null if it could not be read."""

    jsonrpc: Literal["2.0"]
    id: RequestKey | None
    error: ErrorObject


class Envelope(Struct, kw_only=True, frozen=True):
    """Any JSON-RPC message before its type is known: a response has no method, and its request determines its type."""

    jsonrpc: Literal["2.0"]
    id: RequestKey | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET
