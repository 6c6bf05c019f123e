"""Rules that no script of messages can express: new code, slow readers, cut connections."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

import tinyvex as tv
from tests.protocol.test_sessions_server import PATIENCE_SECONDS, Socket
from tinyvex.server.server import Server, ServerOptions

APP = """
import tinyvex as tv

@tv.table("numbers")
class Number(tv.Document):
    number: int

@tv.query
def newest(ctx: tv.QueryCtx) -> dict[str, object]:
    found = ctx.db.query(Number).order("desc").first()
    return {"number": None if found is None else found.number, "padding": "PADDING" * PADDING_COUNT}

@tv.mutation
def put(ctx: tv.MutationCtx, number: int) -> None:
    ctx.db.insert(Number(number=number))
"""


def write_app(folder: Path, *, padding: str = "", padding_count: int = 0) -> Path:
    """Write the app, with the suffix that its query adds to every result."""
    path = folder / "numbers_app.py"
    path.write_text(APP.replace("PADDING_COUNT", str(padding_count)).replace("PADDING", padding))
    return path


async def subscribed(server: Server, session_id: str) -> Socket:
    """Open a socket whose client subscribes to `newest`."""
    connection = await websockets.connect(f"{server.url}/sync", compression=None, max_size=None)
    socket = Socket(connection)
    await say(connection, 0, "connect", protocolVersion=1, sessionId=session_id)
    await socket.next_message()
    add = {"type": "Add", "queryId": 0, "udfPath": "numbers_app:newest", "args": {}}
    await say(connection, 1, "modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
    await socket.next_message()
    await socket.next_message()
    return socket


async def say(connection: ClientConnection, request_id: int, method: str, **params: Any) -> None:
    """Send one request."""
    message = {"jsonrpc": "2.0", "id": request_id, "method": f"tinyvex/{method}", "params": params}
    await connection.send(json.dumps(message))


async def test_new_code_updates_every_live_query(tmp_path: Path) -> None:
    """S-38: a reload is a commit, and delivers the results of the new code."""
    app = write_app(tmp_path, padding="old", padding_count=1)
    async with Server(ServerOptions(app=app, data=tmp_path / "data")) as server:
        socket = await subscribed(server, "a-session")
        assert socket.results[0]["padding"] == "old"
        before = socket.version["ts"]
        write_app(tmp_path, padding="new", padding_count=1)
        await server.reload()
        await socket.next_message()
        assert socket.results[0]["padding"] == "new"
        assert socket.version["ts"] > before
        await socket.connection.close()


async def test_a_slow_reader_skips_to_the_newest_state(tmp_path: Path) -> None:
    """
    S-75: while one client does not read, others are served; then it receives few transitions, the last one newest.
    """
    app = write_app(tmp_path, padding="a piece of text ", padding_count=65_536)
    count = 60
    async with Server(ServerOptions(app=app, data=tmp_path / "data")) as server:
        slow = await subscribed(server, "slow-session")
        slow.connection.transport.pause_reading()
        async with tv.connect(server.url) as writer:
            for number in range(count):
                await writer.mutation("numbers_app:put", {"number": number})
        slow.connection.transport.resume_reading()
        transitions = 0
        while slow.results[0]["number"] != count - 1:
            await slow.next_message()
            transitions += 1
        assert transitions < count // 2
        await slow.connection.close()


async def test_a_client_reconnects_after_its_socket_was_cut(tmp_path: Path) -> None:
    """S-47, S-64: the client reconnects automatically, and a mutation called meanwhile succeeds."""
    app = write_app(tmp_path)
    async with Server(ServerOptions(app=app, data=tmp_path / "data")) as server, tv.connect(server.url) as client:
        await client.mutation("numbers_app:put", {"number": 1})
        for connection in list(server.sessions.connections.values()):
            connection.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await client.mutation("numbers_app:put", {"number": 2})
            newest = await client.query("numbers_app:newest", {})
        assert newest["number"] == 2
