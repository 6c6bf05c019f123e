"""The sessions of a server: which connection carries one, and sign-in at a server that verifies no tokens."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from tests.support.http import SHELF
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex.server.options import AuthOptions
from tinyvex.server.server import Server, ServerOptions


def test_the_close_of_an_older_connection_leaves_the_session_to_the_newer_one(tmp_path: Path) -> None:
    """A third connection therefore replaces the second."""

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        async with Server(ServerOptions(app=SHELF, data=tmp_path / "data", port=4800), runtime) as server:
            clients = []
            for _ in range(3):
                clients.append(client := await RawClient.open(server.url, runtime))
                assert "result" in await client.answer(client.connect(sessionId="the-one-session"))
                for older in clients[:-1]:
                    with anyio.fail_after(5):
                        assert await older.end() == 1008
                    notice = await older.notification("fatalError")
                    assert notice["params"]["error"]["data"]["name"] == "SessionReplaced"
                while len(server.sessions.connections) > 1:
                    await runtime.sleep(0.1)
            assert list(server.sessions.by_id) == ["the-one-session"]
            clients[-1].cut()
            while server.sessions.connections:
                await runtime.sleep(0.1)
            assert not server.sessions.by_id

    run_virtual(main())


def test_signing_in_at_a_server_without_keys_names_the_options(tmp_path: Path) -> None:
    """The operator reads in the error what to start the server with."""

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        async with Server(ServerOptions(app=SHELF, data=tmp_path / "data", port=4800), runtime) as server:
            client = await RawClient.open(server.url, runtime)
            await client.answer(client.connect())
            refused = await client.ask("authenticate", baseVersion=0, kind="user", token="a-token")
            assert refused["error"]["data"]["name"] == "Unauthenticated"
            assert "--auth-secret-file" in refused["error"]["message"]

    run_virtual(main())


def test_a_refused_user_token_is_in_the_audit_trail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The record has the reason and the address, once a minute for each, and no part of the token."""

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        (tmp_path / "secret").write_bytes(b"s" * 32)
        auth = AuthOptions(secret_file=tmp_path / "secret")
        options = ServerOptions(app=SHELF, data=tmp_path / "data", port=4800, auth=auth)
        async with Server(options, runtime) as server:
            client = await RawClient.open(server.url, runtime)
            await client.answer(client.connect())
            for _ in range(3):
                refused = await client.ask("authenticate", baseVersion=0, kind="user", token="not-a.json-web.token")
                assert refused["error"]["data"]["name"] == "Unauthenticated"

    run_virtual(main())
    records = [record for record in caplog.records if getattr(record, "event", None) == "user-refused"]
    assert [(record.levelname, getattr(record, "kind", None)) for record in records] == [("WARNING", "audit")]
    assert records[0].getMessage().endswith(": the token is not a JSON Web Token")
    assert "json-web" not in caplog.text
