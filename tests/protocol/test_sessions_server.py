"""The session vectors, played against the real server over a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.sessions import Mismatch, Symbols, read, sessions
from tests.support.tokens import OTHER_SECRET, claims, secret_options, signed
from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server, ServerOptions

APP = Path(__file__).resolve().parents[1] / "support" / "accounts.py"
PATIENCE_SECONDS = 10.0
LIMITS = {
    "queriesMax": "QUERIES_PER_CONNECTION_MAX",
    "requestsMax": "REQUESTS_PER_CONNECTION_MAX",
    "messageBytesMax": "MESSAGE_BYTES_MAX",
    "idleSeconds": "IDLE_SECONDS",
    "pingSeconds": "PING_SECONDS",
    "handshakeSeconds": "HANDSHAKE_SECONDS",
}
ZERO = {"querySet": 0, "identity": 0, "ts": 0}


class Socket:
    """A socket of the script, and the rules for every transition on it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.version: dict[str, int] = ZERO
        self.results: dict[int, Any] = {}
        self.heard: list[str] = []

    async def next_message(self, *, pings: bool = False) -> dict[str, Any]:
        """Return the next message that is not a ping."""
        while True:
            async with asyncio.timeout(PATIENCE_SECONDS):
                text = await self.connection.recv()
            assert isinstance(text, str), "S-1: text frames only"
            self.heard.append(text)
            message: dict[str, Any] = json.loads(text)
            if message.get("method") == "tinyvex/transition":
                self.check_transition(message["params"])
            if pings or message.get("method") != "tinyvex/ping":
                return message

    def check_transition(self, params: dict[str, Any]) -> None:
        """S-29, S-30, S-34 and S-35 hold for every transition of every session."""
        start, end = params["startVersion"], params["endVersion"]
        assert start == self.version, "S-29"
        assert all(start[part] <= end[part] for part in ZERO), "S-30"
        ids = [modification["queryId"] for modification in params["modifications"]]
        assert len(ids) == len(set(ids)), "S-34"
        for modification in params["modifications"]:
            if modification["type"] == "QueryUpdated":
                assert "value" in modification, "S-35: the script's client does not list `patch`"
                assert "patch" not in modification, "S-35"
                self.results[modification["queryId"]] = modification["value"]
        self.version = end


def user_tokens(now_us: int) -> dict[str, str]:
    """Return the tokens that vectors name."""
    return {
        "$userToken": signed(claims(now_us)),
        "$renewedToken": signed(claims(now_us, lasts=7200)),
        "$otherToken": signed(claims(now_us, subject="bob")),
        "$expiredToken": signed(claims(now_us, lasts=-3600)),
        "$forgedToken": signed(claims(now_us), OTHER_SECRET),
    }


class Script:
    """A vector being played."""

    def __init__(self, vector: dict[str, Any], data: Path) -> None:
        self.symbols = Symbols(vector["bind"])
        self.options = ServerOptions(
            app=APP, data=data, client_token=vector["bind"].get("$clientToken"), auth=secret_options(data.parent)
        )
        self.symbols.bound |= user_tokens(Runtime().now_us())
        self.sockets: dict[str, Socket] = {}
        self.server: Server

    async def play(self, steps: list[dict[str, Any]]) -> None:
        """Play every step, on one server or several in succession."""
        remaining = steps
        while remaining:
            async with Server(self.options) as self.server:
                self.symbols.bound["$adminToken"] = self.server.admin_token
                remaining = await self._play_on_server(remaining)

    async def _play_on_server(self, steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for index, step in enumerate(steps):
            if step.get("server") == "restart":
                return steps[index + 1 :]
            try:
                await self.step(step)
            except (Mismatch, TimeoutError, websockets.ConnectionClosed) as error:
                raise AssertionError(f"step {step}: {error!r}") from error
        await self._check_no_more_messages()
        return []

    async def step(self, step: dict[str, Any]) -> None:
        """Play one step."""
        name = step.get("socket", "a")
        match step:
            case {"open": True}:
                url = f"{self.server.url}/sync"
                self.sockets[name] = Socket(await websockets.connect(url, compression=None, ping_interval=None))
            case {"cut": True}:
                self.sockets.pop(name).connection.transport.abort()
            case {"close": {"by": "server", "code": code}}:
                await self._closed(self.sockets.pop(name), code)
            case {"server": "stop"}:
                await self.server.stop()
            case {"order": parts}:
                self.symbols.check_order(parts)
            case {"never": text}:
                assert text not in "".join(self.sockets[name].heard)
            case {"ping": True}:
                message = await self.sockets[name].next_message(pings=True)
                assert message["method"] == "tinyvex/ping"
            case {"from": "client"}:
                await self._say(self.sockets[name], step)
            case {"from": "server"}:
                await self._hear(self.sockets[name], step)
            case {"then": _}:
                pass  # what a client shows
            case _:
                raise AssertionError("an unknown step")

    async def _say(self, socket: Socket, step: dict[str, Any]) -> None:
        if "message" in step:
            await socket.connection.send(json.dumps(self.symbols.fill(step["message"])))
        elif "text" in step:
            await socket.connection.send(step["text"])
        else:
            await socket.connection.send(base64.b64decode(step["binary"]))

    async def _hear(self, socket: Socket, step: dict[str, Any]) -> None:
        if "message" in step:
            self.symbols.match(step["message"], await socket.next_message())
        elif "responses" in step:
            for pattern in step["responses"]:
                while "id" not in (message := await socket.next_message()):
                    assert message["method"] == "tinyvex/transition"
                self.symbols.match(pattern, message)
        else:
            until = self.symbols.fill(step["settle"]["ts"])
            await socket.next_message()  # S-44: at least one, after the last response
            while socket.version["ts"] < until:
                await socket.next_message()
            for query_id, value in step["settle"].get("results", {}).items():
                self.symbols.match(value, socket.results.get(int(query_id)))

    async def _closed(self, socket: Socket, code: int) -> None:
        with pytest.raises(websockets.ConnectionClosed):
            await socket.next_message()
        assert socket.connection.close_code == code

    async def _check_no_more_messages(self) -> None:
        """Check that the vector contains every message of the server (S-6, S-33)."""
        for socket in self.sockets.values():
            await socket.connection.send('{"jsonrpc":"2.0","id":"the end","method":"tinyvex/ping","params":{}}')
            message = await socket.next_message()
            assert message.get("id") == "the end", f"the server said more than the vector: {message}"
            await socket.connection.close()


@pytest.mark.parametrize("name", sessions("server"))
async def test_session(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends what the vector states."""
    vector = read(name)
    for limit, value in vector.get("limits", {}).items():
        monkeypatch.setattr(limits, LIMITS[limit], value)
    await Script(vector, tmp_path / "data").play(vector["steps"])
