"""
A server of counters that speaks the protocol: enough to test a client against, and small enough to read.

Functions: `counters:get {name}` (query; 0 for an unused name), `counters:add {name, by}` (mutation),
`counters:fail` (fails, of any kind), `counters:slow` (an action that answers when `finish_actions` is called),
`counters:echo {value}` (query or action).
`FakeSession` is pure: messages in, messages out, in the order that the test chooses.
`Endpoint` puts it behind a WebSocket on any asyncio transport.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

FIRST_TS = 1000


def error_object(name: str, message: str = "no", *, retry: str = "never", **data: Any) -> dict[str, Any]:
    return {"code": 1, "message": message, "data": {"name": name, "fault": "client", "retry": retry, **data}}


class FakeServer:
    """The database, and the sessions connected to it."""

    def __init__(self, epoch: str = "first") -> None:
        self.epoch = epoch
        self.database_id = "fake"
        self.ts = FIRST_TS
        self.counters: dict[str, int] = {}
        self.history: list[dict[str, int]] = [{}]
        """The counters at every ts from FIRST_TS on."""
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        self.sessions: list[FakeSession] = []
        self.refusal: dict[str, Any] | None = None
        """The error that answers `tinyvex/connect`, instead of a greeting."""
        self.requests_max = 100
        self.queries_max = 100
        self.message_bytes_max = 1 << 20

    def commit(self, name: str, by: int) -> int:
        """Add to a counter; return the ts."""
        self.counters = {**self.counters, name: self.counters.get(name, 0) + by}
        self.history.append(self.counters)
        self.ts += 1
        return self.ts

    def at(self, ts: int) -> dict[str, int]:
        """Return the counters at a timestamp."""
        return self.history[ts - FIRST_TS]

    def restore(self, epoch: str) -> None:
        """Start a new epoch."""
        self.epoch = epoch
        self.ts = FIRST_TS
        self.counters, self.history, self.records = {}, [{}], {}

    def connect(self) -> FakeSession:
        session = FakeSession(self)
        self.sessions.append(session)
        return session


class FakeSession:
    """The protocol state of one socket; its messages are appended to `out`."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.out: list[str] = []
        self.heard: list[dict[str, Any]] = []
        self.version = {"querySet": 0, "identity": 0, "ts": 0}
        self.query_set = 0
        self.queries: dict[int, tuple[str, dict[str, Any]]] = {}
        self.told: dict[int, str] = {}
        self.removed: list[int] = []
        self.owed = False
        self.must_reach = 0
        self.actions: list[tuple[int, Any]] = []
        self.session_id = ""
        self.holds_transitions = False

    # Sending.

    def say(self, **message: Any) -> None:
        self.out.append(json.dumps({"jsonrpc": "2.0", **message}))

    def answer(self, rpc_id: int, result: Any) -> None:
        self.say(id=rpc_id, result=result)

    def refuse(self, rpc_id: int | None, error: dict[str, Any]) -> None:
        self.say(id=rpc_id, error=error)

    def fatal(self, error: dict[str, Any]) -> None:
        self.say(method="tinyvex/fatalError", params={"error": error})

    def finish_actions(self) -> None:
        """Answer every pending action."""
        for rpc_id, value in self.actions:
            self.answer(rpc_id, {"value": value, "logLines": []})
        self.actions.clear()

    def turn(self, ts: int | None = None) -> None:
        """Send at most one pending transition, to `ts` or the newest state."""
        end = {"querySet": self.query_set, "identity": 0, "ts": self.server.ts if ts is None else ts}
        modifications: list[dict[str, Any]] = [{"type": "QueryRemoved", "queryId": one} for one in self.removed]
        for query_id, (path, args) in self.queries.items():
            text, modification = self._result(query_id, path, args, self.server.at(end["ts"]))
            if self.told.get(query_id) != text:
                offered = self.told.get(query_id, "").removeprefix("offered ")
                self.told[query_id] = text
                if offered == text:
                    modification = {"type": "QueryUnchanged", "queryId": query_id, "hash": text}
                modifications.append(modification)
        owed = self.owed or self.version["querySet"] != end["querySet"] or self.version["ts"] < self.must_reach
        if not modifications and not owed:
            return
        self.owed = False
        self.removed = []
        params = {"startVersion": self.version, "endVersion": end, "modifications": modifications, "serverTs": 1}
        self.version = end
        self.say(method="tinyvex/transition", params=params)

    def _result(
        self, query_id: int, path: str, args: dict[str, Any], counters: dict[str, int]
    ) -> tuple[str, dict[str, Any]]:
        if path == "counters:fail":
            error = error_object("FunctionFailed", f"failed {counters.get('failures', 0)}")
            return error["message"], {"type": "QueryFailed", "queryId": query_id, "error": error}
        value = args["value"] if path == "counters:echo" else counters.get(args["name"], 0)
        text = hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]
        return text, {"type": "QueryUpdated", "queryId": query_id, "hash": text, "value": value}

    # Receiving.

    def receive(self, text: str | bytes) -> None:
        """Handle one message; answers are sent immediately, transitions by `turn`."""
        message = json.loads(text)
        self.heard.append(message)
        method = message["method"].removeprefix("tinyvex/")
        getattr(self, f"_{method}")(message["id"], message["params"])

    def _connect(self, rpc_id: int, params: dict[str, Any]) -> None:
        server = self.server
        self.session_id = params["sessionId"]
        if server.refusal is not None:
            self.refuse(rpc_id, server.refusal)
            return
        if params["observedEpoch"] == server.epoch and params["maxObservedTs"] > server.ts:
            self.fatal(error_object("ObservedTsAhead"))
            return
        limits = {
            "messageBytesMax": server.message_bytes_max,
            "queriesMax": server.queries_max,
            "requestsMax": server.requests_max,
        }
        self.answer(
            rpc_id,
            {
                "protocolVersion": 1,
                "serverVersion": "fake",
                "databaseId": server.database_id,
                "epoch": server.epoch,
                "lastTs": server.ts,
                "clientClockSkew": 0,
                "limits": limits,
                "heartbeatMs": 5000,
            },
        )

    def _modifyQuerySet(self, rpc_id: int, params: dict[str, Any]) -> None:  # noqa: N802 - named as the method is
        assert params["baseVersion"] == self.query_set
        assert params["newVersion"] > params["baseVersion"]
        self.query_set = params["newVersion"]
        for change in params["modifications"]:
            query_id = change["queryId"]
            if change["type"] == "Add":
                assert query_id not in self.queries
                self.queries[query_id] = change["udfPath"], change["args"]
                if change["resume"] is not None:
                    self.told[query_id] = "offered " + change["resume"]["hash"]
            else:
                del self.queries[query_id]
                self.told.pop(query_id, None)
                self.removed.append(query_id)
        self.answer(rpc_id, {})

    def _mutation(self, rpc_id: int, params: dict[str, Any]) -> None:
        self.owed = True
        if params["udfPath"] == "counters:fail":
            self.refuse(rpc_id, error_object("AppError", "refused", appData={"why": "because"}))
            return
        key = self.session_id, params["requestId"]
        if key not in self.server.records:
            ts = self.server.commit(params["args"]["name"], params["args"]["by"])
            value = self.server.counters[params["args"]["name"]]
            self.server.records[key] = {"value": value, "ts": ts, "logLines": []}
        self.must_reach = max(self.must_reach, self.server.records[key]["ts"])
        self.answer(rpc_id, self.server.records[key])

    def _action(self, rpc_id: int, params: dict[str, Any]) -> None:
        if params["udfPath"] == "counters:fail":
            self.refuse(rpc_id, error_object("FunctionFailed"))
        elif params["udfPath"] == "counters:slow":
            self.actions.append((rpc_id, "done"))
        else:
            self.answer(rpc_id, {"value": params["args"]["value"], "logLines": []})

    def _query(self, rpc_id: int, params: dict[str, Any]) -> None:
        if params["udfPath"] == "counters:slow":
            self.actions.append((rpc_id, "done"))
            return
        ts = self.server.ts if params["ts"] is None else params["ts"]
        _, modification = self._result(0, params["udfPath"], params["args"], self.server.at(ts))
        if "error" in modification:
            self.refuse(rpc_id, modification["error"])
        else:
            self.answer(rpc_id, {"value": modification["value"], "ts": ts, "logLines": ["a line"]})


class Endpoint(asyncio.Protocol):
    """
    A `FakeSession` behind a WebSocket.

    Args:
        server: the database.
        on_session: called with each new endpoint.
    """

    def __init__(self, server: FakeServer, on_session: Callable[[Endpoint], object] = lambda _: None) -> None:
        self.session = server.connect()
        self.transport: asyncio.Transport
        self.websocket = ServerProtocol()
        self.lost = False
        self.status: int | None = None
        """An HTTP status to refuse the handshake with."""
        self.headers: dict[str, str] = {}
        self.is_deaf = False
        """Input stays unread, and nothing is answered."""
        on_session(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        self.websocket.receive_data(data)
        for event in self.websocket.events_received():
            if isinstance(event, Request):
                if self.status is None:
                    self.websocket.send_response(self.websocket.accept(event))
                else:
                    response = self.websocket.reject(self.status, "no")
                    response.headers.update(self.headers)
                    self.websocket.send_response(response)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.session.receive(bytes(event.data))
                if not self.session.holds_transitions:
                    self.session.turn()
        self.flush()

    def turn(self) -> None:
        """Send a transition if one is due."""
        self.session.turn()
        self.flush()

    def send_text(self, text: str) -> None:
        """Send any text."""
        self.session.out.append(text)
        self.flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake."""
        self.websocket.send_close(code, reason)
        self.flush()

    def flush(self) -> None:
        for text in self.session.out:
            if self.websocket.state is State.OPEN:
                self.websocket.send_text(text.encode())
        self.session.out.clear()
        for data in self.websocket.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()

    def eof_received(self) -> None:
        self.websocket.receive_eof()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
