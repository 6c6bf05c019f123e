"""The messages of `invalid.json`, sent to the real server over a real socket."""

import asyncio
import json
from pathlib import Path

import websockets

from tests.protocol.test_sessions_server import APP, PATIENCE_SECONDS
from tests.protocol.test_vectors import text_of, vector
from tinyvex.server.server import Server, ServerOptions


async def test_all_on_one_connection(tmp_path: Path) -> None:
    """Each message is refused with its error, and the same connection answers the next one."""
    async with (
        Server(ServerOptions(app=APP, data=tmp_path / "data")) as server,
        websockets.connect(f"{server.url}/sync", compression=None) as socket,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await socket.send(
            '{"jsonrpc":"2.0","id":0,"method":"tinyvex/connect","params":{"protocolVersion":1,"sessionId":"a-session"}}'
        )
        assert "result" in json.loads(await socket.recv())
        for case in vector("invalid.json")["cases"]:
            await socket.send(text_of(case).decode())
            answer = json.loads(await socket.recv())
            assert (answer["error"]["data"]["name"], answer["id"]) == (case["error"], case["id"]), case
            assert answer["error"]["data"].get("path") == case.get("path", answer["error"]["data"].get("path"))
