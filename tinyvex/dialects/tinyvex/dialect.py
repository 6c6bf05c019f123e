"""
The Tinyvex protocol on one connection: JSON-RPC requests to commands, events to responses and notifications.

`protocol/SPEC.md` specifies the messages and the close codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, Raw, Struct

from tinyvex import errors, limits
from tinyvex.dialects.dialect import Farewell
from tinyvex.dialects.tinyvex.decoding import to_command, to_open_session
from tinyvex.dialects.tinyvex.encoding import transition_pieces
from tinyvex.sync.events import Accepted, ClockRead, Done, Event, Fatal, IdentityRefused, Refused, StateTransition
from tinyvex.version import __version__
from tinyvex.wire import codec, messages
from tinyvex.wire.error_objects import to_object
from tinyvex.wire.transition_chunks import Splitter

if TYPE_CHECKING:
    from tinyvex.dialects.dialect import Outlet, Split
    from tinyvex.sync.session import SessionOpened, SyncSession

__all__ = ["TinyvexDialect"]

CLOSE_CODES: dict[type[errors.TinyvexError], int] = {
    errors.BinaryFrame: 1003,
    errors.MessageTooLarge: 1009,
    errors.InternalError: 1011,
    errors.ServerStopping: 1012,
    errors.Overloaded: 1013,
    errors.IdleTimeout: 1000,
}
"""Close codes by error."""
POLICY_VIOLATION = 1008
"""The close code of all other errors."""


class TinyvexDialect:
    """A `Dialect` for its connection, and the `Peer` of its session."""

    __slots__ = ("_outlet", "_session", "_split", "is_full", "run_action")

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._session: SyncSession | None = None
        self._split: Split | None = None  # set if the client accepts chunks
        # The outlet's own methods, not wrappers around them: `is_full` is called several times for each delivery.
        self.is_full = outlet.is_full
        self.run_action = outlet.run_action

    # Receiving.

    def receive(self, text: bytes) -> None:
        """Handle one JSON-RPC request."""
        request_id = None
        try:
            request = codec.decode_request(text)
            request_id = request.id
            command = to_command(request)
            if self._session is None:
                if not isinstance(request, messages.Connect):
                    raise errors.NotConnected("the first request must be tinyvex/connect")
                self._connect(request)
            elif command is None:
                raise errors.AlreadyConnected("this socket is connected already")
            else:
                self._session.receive(command, len(text))
        except errors.TinyvexError as error:
            if request_id is None:
                request_id = getattr(error, "request_id", None)
            self._refuse(request_id, error)

    def _connect(self, request: messages.Connect) -> None:
        params = request.params
        if params.protocol_version < messages.PROTOCOL_VERSION:
            raise errors.UnsupportedVersion(
                f"the client speaks protocol version {params.protocol_version}; "
                f"the server needs {messages.PROTOCOL_VERSION}",
                supported=[messages.PROTOCOL_VERSION],
            )
        opened = self._outlet.open_session(to_open_session(params), self)
        self._session = opened.session
        self._split = Splitter if messages.CAPABILITY_CHUNK in params.capabilities else None
        self._outlet.send(codec.encode_response(request.id, _connect_result(opened, params)))

    def _refuse(self, request_id: messages.RequestKey | None, error: errors.TinyvexError) -> None:
        self._outlet.send(codec.encode_error_response(request_id, error))
        if error.fatal:
            self._outlet.fail(error)

    # Sending.

    def emit(self, event: Event) -> None:
        """
        Send an event.

        Raises:
            MessageTooLarge: a transition is too long; fatal.
        """
        if type(event) is StateTransition:  # first, because it is the most frequent one by far
            self._outlet.send_transition(transition_pieces(event), self._split)
            return
        match event:
            case Done(correlation=key):
                self._send_result(_request_key(key), event)
            case Accepted(correlation=key):
                self._outlet.send(codec.encode_response(_request_key(key), b"{}"))
            case Refused(correlation=key, error=error, log_id=log_id, log_lines=log_lines):
                self._outlet.send(codec.encode_error_response(_request_key(key), error, log_id, log_lines))
            case ClockRead(correlation=key, now_us=now_us):
                self._outlet.send(codec.encode_response(_request_key(key), messages.PingResult(server_ts=now_us)))
            case IdentityRefused():
                self._outlet.send(codec.encode_notification(_auth_error(event)))
            case Fatal(error=error):
                self._outlet.fail(error)

    def _send_result(self, key: messages.RequestKey, event: Done) -> None:
        if len(event.value) <= limits.CHUNK_BYTES:
            self._outlet.send(codec.encode_response(key, _call_result(event, Raw(event.value))))
        else:  # a long value is not copied
            head, tail = codec.encode_around_value(key, _call_result(event, Raw()))
            self._outlet.send_pieces((head, event.value, tail))

    def ping(self) -> bytes:
        """Return a `tinyvex/ping` notification."""
        return codec.encode_notification(messages.ServerPing(jsonrpc="2.0"))

    def farewell(self, error: errors.TinyvexError) -> Farewell:
        """Return `tinyvex/fatalError` and the close code of an error."""
        notice = messages.FatalError(jsonrpc="2.0", params=messages.FatalErrorParams(error=to_object(error)))
        code = CLOSE_CODES.get(type(error), POLICY_VIOLATION)
        return Farewell(codec.encode_notification(notice), code, error.name)


def _request_key(correlation: object) -> messages.RequestKey:
    assert isinstance(correlation, int | str), "commands carry the JSON-RPC id of their request"
    return correlation


def _call_result(event: Done, value: Raw) -> Struct:
    log_lines = list(event.log_lines)
    if event.ts is None:
        return messages.ActionResult(value=value, log_lines=log_lines)
    return messages.MutationResult(value=value, ts=event.ts, log_lines=log_lines)


def _auth_error(event: IdentityRefused) -> messages.AuthError:
    params = messages.AuthErrorParams(
        error=to_object(event.error), base_version=event.base_version, auth_update_attempted=event.attempted
    )
    return messages.AuthError(jsonrpc="2.0", params=params)


def _connect_result(opened: SessionOpened, params: messages.ConnectParams) -> messages.ConnectResult:
    return messages.ConnectResult(
        protocol_version=messages.PROTOCOL_VERSION,
        server_version=__version__,
        database_id=opened.database_id,
        epoch=opened.epoch,
        last_ts=opened.last_ts,
        client_clock_skew=params.client_ts - opened.now_us // 1000,
        limits=messages.ConnectLimits(
            message_bytes_max=limits.MESSAGE_BYTES_MAX,
            queries_max=limits.QUERIES_PER_CONNECTION_MAX,
            requests_max=limits.REQUESTS_PER_CONNECTION_MAX,
        ),
        heartbeat_ms=int(limits.HEARTBEAT_SECONDS * 1000),
        token=UNSET if opened.token is None else opened.token,
    )
