"""
The Tinyvex dialect between a connection and a session; the session scripts in `protocol/vectors/` cover the messages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tinyvex import errors
from tinyvex.dialects.dialect import Split
from tinyvex.dialects.tinyvex.dialect import TinyvexDialect
from tinyvex.sync import commands, events
from tinyvex.sync.session import SessionOpened
from tinyvex.wire.transition_chunks import Piece, Splitter


class FakeOutlet:
    """A connection that records its messages, and a session that records its commands."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.splits: list[Split | None] = []
        self.failed: list[errors.TinyvexError] = []
        self.opened: list[commands.OpenSession] = []
        self.received: list[tuple[commands.Command, int]] = []
        self.refusal: errors.TinyvexError | None = None

    def open_session(self, command: commands.OpenSession, peer: events.Peer) -> SessionOpened:
        if self.refusal is not None:
            raise self.refusal
        self.opened.append(command)
        session: Any = SimpleNamespace(receive=lambda command, size: self.received.append((command, size)))
        return SessionOpened(session, "database", "epoch", 9, 5_000_000, None)

    def send(self, message: bytes) -> None:
        self.sent.append(json.loads(message))

    def send_transition(self, pieces: Sequence[Piece], split: Split | None) -> None:
        self.send(b"".join(map(bytes, pieces)))
        self.splits.append(split)

    def is_full(self) -> bool:
        return False

    def fail(self, error: errors.TinyvexError) -> None:
        self.failed.append(error)

    def run_action(self, action: Any) -> None:
        """Unused."""


def frame(method: str, rpc_id: int, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": rpc_id, "method": f"tinyvex/{method}", "params": params}).encode()


def connected(*capabilities: str) -> tuple[TinyvexDialect, FakeOutlet]:
    outlet = FakeOutlet()
    dialect = TinyvexDialect(outlet)
    dialect.receive(frame("connect", 1, protocolVersion=1, sessionId="session-1", capabilities=list(capabilities)))
    [welcome] = outlet.sent
    assert welcome["result"]["epoch"] == "epoch"
    outlet.sent.clear()
    return dialect, outlet


def test_connect_opens_the_session() -> None:
    """With the capabilities that the core needs to know."""
    _, outlet = connected("patch")
    assert outlet.opened == [commands.OpenSession("session-1", takes_patches=True)]


def test_a_request_becomes_a_command_of_the_session() -> None:
    """With the length of its message."""
    dialect, outlet = connected()
    text = frame("ping", 7)
    dialect.receive(text)
    assert outlet.received == [(commands.ReadClock(7), len(text))]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (frame("ping", 1), "NotConnected"),
        (b"{", "ParseError"),
        (frame("connect", 1, protocolVersion=1, sessionId="short"), "InvalidParams"),
    ],
)
def test_other_messages_before_connect_are_refused(text: bytes, name: str) -> None:
    """The connection stays open."""
    outlet = FakeOutlet()
    TinyvexDialect(outlet).receive(text)
    assert [message["error"]["data"]["name"] for message in outlet.sent] == [name]
    assert not outlet.failed


def test_a_second_connect_is_refused() -> None:
    """The session stays open."""
    dialect, outlet = connected()
    dialect.receive(frame("connect", 2, protocolVersion=1, sessionId="session-2"))
    assert [(message["id"], message["error"]["data"]["name"]) for message in outlet.sent] == [(2, "AlreadyConnected")]
    assert not outlet.failed


def test_a_refused_client_gets_an_answer_before_the_connection_fails() -> None:
    """The error is fatal: the answer, then the farewell."""
    outlet = FakeOutlet()
    outlet.refusal = errors.Unauthenticated("the token is wrong")
    TinyvexDialect(outlet).receive(frame("connect", 1, protocolVersion=1, sessionId="session-1"))
    assert [message["error"]["data"]["name"] for message in outlet.sent] == ["Unauthenticated"]
    assert outlet.failed == ([outlet.refusal] if outlet.refusal.fatal else [])


EVENTS: dict[str, tuple[events.Event, dict[str, Any]]] = {
    "accepted": (events.Accepted(3), {"id": 3, "result": {}}),
    "a mutation or query": (
        events.Done("k", b"[1]", 9, ("line",)),
        {"id": "k", "result": {"value": [1], "ts": 9, "logLines": ["line"]}},
    ),
    "an action": (events.Done(3, b"null", None), {"id": 3, "result": {"value": None, "logLines": []}}),
    "the clock": (events.ClockRead(3, 8), {"id": 3, "result": {"serverTs": 8}}),
}


@pytest.mark.parametrize("name", EVENTS)
def test_an_answer_is_a_response_to_its_request(name: str) -> None:
    """The correlation is the JSON-RPC id."""
    dialect, outlet = connected()
    event, message = EVENTS[name]
    dialect.emit(event)
    assert outlet.sent == [{"jsonrpc": "2.0", **message}]


def test_a_refusal_names_the_execution_in_the_log() -> None:
    """As `requestId`."""
    dialect, outlet = connected()
    dialect.emit(events.Refused(3, errors.FunctionFailed("no"), "session-7"))
    [message] = outlet.sent
    assert (message["id"], message["error"]["data"]["requestId"]) == (3, "session-7")


def test_a_refused_identity_is_a_notification() -> None:
    """With the version from which the client continues."""
    dialect, outlet = connected()
    dialect.emit(events.IdentityRefused(errors.Unauthenticated("no"), 4, attempted=False))
    [message] = outlet.sent
    assert message["method"] == "tinyvex/authError"
    assert (message["params"]["baseVersion"], message["params"]["authUpdateAttempted"]) == (4, False)


def test_a_fatal_event_fails_the_connection() -> None:
    """The connection asks for the farewell and sends it."""
    dialect, outlet = connected()
    error = errors.Overloaded("full")
    dialect.emit(events.Fatal(error))
    assert outlet.failed == [error]
    farewell = dialect.farewell(error)
    assert json.loads(farewell.message)["params"]["error"]["data"]["name"] == "Overloaded"
    assert (farewell.close_code, farewell.close_reason) == (1013, "Overloaded")


def test_an_error_without_a_code_of_its_own_closes_with_a_policy_violation() -> None:
    """SPEC section 11."""
    dialect, _ = connected()
    assert dialect.farewell(errors.SessionReplaced("newer")).close_code == 1008


@pytest.mark.parametrize("capabilities", [(), ("chunk",)])
def test_long_transitions_go_in_chunks_to_clients_that_accept_them(capabilities: tuple[str, ...]) -> None:
    """S-79: and to no others."""
    dialect, outlet = connected(*capabilities)
    version = events.SyncVersion(0, 0, 0)
    dialect.emit(events.StateTransition(version, version, 1, []))
    assert outlet.splits == [Splitter if "chunk" in capabilities else None]
    assert outlet.sent[0]["method"] == "tinyvex/transition"
