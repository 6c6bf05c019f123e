"""Promise 8: a program is admitted by a code, keeps its own token, and is shut out when the token is revoked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import tinyvex as tv
from tests.support.http import request
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tinyvex.cli.main import run
from tinyvex.runtime import Runtime
from tinyvex.server.services.discovery import find_server

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server that requires a token."""
    with ServerProcess(APP, tmp_path / "data") as process:
        yield process


def pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return a code, as the command prints it."""
    capsys.readouterr()
    assert run(["pair", "--data", str(tmp_path / "data"), "--name", "phone"]) == 0
    return capsys.readouterr().out.strip()


async def dial(server: ServerProcess, token: str, session: str) -> tuple[RawClient, dict[str, Any]]:
    """Connect a client; return the server's answer to its token."""
    client = await RawClient.open(server.url.removesuffix("/sync"), Runtime())
    with anyio.fail_after(20):
        return client, await client.answer(client.connect(token=token, sessionId=session))


async def is_refused(server: ServerProcess, token: str) -> bool:
    """Return whether the token is refused; wait until the server has closed the socket."""
    client, answer = await dial(server, token, "session-of-a-stranger")
    with anyio.fail_after(20):
        assert await client.end() == 1008
    return "error" in answer


async def test_a_code_gives_a_token_that_outlives_the_server(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-88: the code is valid once; the token survives a restart, and only the first answer contains it."""
    code = pair(tmp_path, capsys)
    first, answer = await dial(server, f"pairing:{code}", "session-one")
    token = answer["result"]["token"]
    assert await is_refused(server, f"pairing:{code}")
    await anyio.to_thread.run_sync(server.kill)
    await anyio.to_thread.run_sync(server.start)
    again, answer = await dial(server, token, "session-one")
    assert "token" not in answer["result"]
    assert await is_refused(server, f"{token}x")
    first.cut(), again.cut()


async def test_a_revoked_token_ends_its_connections(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-89: revoking a token closes open connections and refuses new ones."""
    client, answer = await dial(server, f"pairing:{pair(tmp_path, capsys)}", "session-one")
    token = answer["result"]["token"]
    assert run(["tokens", "--data", str(tmp_path / "data"), "--revoke", "1"]) == 0
    with anyio.fail_after(20):
        last_word = await client.notification("fatalError")
        assert last_word["params"]["error"]["data"]["name"] == "Unauthenticated"
        assert await client.end() == 1008
    assert await is_refused(server, token)


async def test_the_python_client_keeps_using_its_token(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client uses its token across a restart of the server, and in its next process."""
    code = f"pairing:{pair(tmp_path, capsys)}"
    with anyio.fail_after(30):
        async with tv.connect(server.url, code) as client:
            await client.mutation("shelf:add", {"title": "A"})
            await anyio.to_thread.run_sync(server.kill)
            server.command += ["--port", str(server.ready["port"])]
            await anyio.to_thread.run_sync(server.start)
            await client.mutation("shelf:add", {"title": "B"})
            token = client.token
        assert token is not None
        assert token != code
        async with tv.connect(server.url, token) as client:
            assert await client.query("shelf:titles") == ["A", "B"]


def test_a_script_keeps_its_token_too(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blocking client also has its own token."""
    with tv.connect_blocking(server.url, f"pairing:{pair(tmp_path, capsys)}") as client:
        token = client.token
    assert token is not None
    with tv.connect_blocking(server.url, token) as client:
        assert client.query("shelf:titles") == []


async def test_a_code_survives_a_client_that_has_seen_more_than_the_database(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-88: a refusal for another reason than the code does not use it up, and no stranger learns that reason."""
    code = f"pairing:{pair(tmp_path, capsys)}"
    first, answer = await dial(server, server.ready["token"], "session-one")
    ahead = {"observedEpoch": answer["result"]["epoch"], "maxObservedTs": answer["result"]["lastTs"] + 10}
    for token, name in [("pairing:0000-0000", "Unauthenticated"), (code, "ObservedTsAhead")]:
        client = await RawClient.open(server.url.removesuffix("/sync"), Runtime())
        with anyio.fail_after(20):
            answer = await client.answer(client.connect(token=token, sessionId="session-two", **ahead))
        assert answer["error"]["data"]["name"] == name
        client.cut()
    second, answer = await dial(server, code, "session-two")
    assert "token" in answer["result"]
    first.cut(), second.cut()


async def test_a_token_that_expires_ends_its_connections(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S-89: the end that was given with the code holds for open connections and for new ones."""
    assert run(["pair", "--data", str(tmp_path / "data"), "--expires-in", "3s"]) == 0
    client, answer = await dial(server, f"pairing:{capsys.readouterr().out.strip()}", "session-one")
    with anyio.fail_after(20):
        assert (await client.notification("fatalError"))["params"]["error"]["data"]["name"] == "Unauthenticated"
        assert await client.end() == 1008
    assert await is_refused(server, answer["result"]["token"])


async def test_renewed_tokens_replace_the_old_ones(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Connections of the old tokens end, a paired client stays, and the discovery file has the new ones."""
    data = tmp_path / "data"
    old = find_server(data)
    assert old is not None
    assert old.token is not None
    clients = [(await dial(server, token, f"session-{token[:8]}"))[0] for token in (old.token, old.admin_token)]
    paired, _ = await dial(server, f"pairing:{pair(tmp_path, capsys)}", "session-paired")
    assert await anyio.to_thread.run_sync(run, ["tokens", "--data", str(data), "--renew"]) == 0
    with anyio.fail_after(20):
        for client in clients:
            assert await client.end() == 1008
        await paired.ask("ping")
    new = find_server(data)
    assert new is not None
    assert new.token is not None
    assert not {new.token, new.admin_token} & {old.token, old.admin_token}
    for token in (old.token, old.admin_token):
        assert await is_refused(server, token)
    for token in (new.token, new.admin_token):
        client, answer = await dial(server, token, f"session-{token[:8]}")
        assert "error" not in answer
        client.cut()
    paired.cut()


async def test_the_list_has_the_last_use(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the server has stopped; the token has no end."""
    client, _ = await dial(server, f"pairing:{pair(tmp_path, capsys)}", "session-one")
    client.cut()
    await anyio.to_thread.run_sync(server.terminate)
    assert run(["tokens", "--data", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert out.count("never") == 1, out


async def test_a_monitor_only_reads_metrics(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints the token alone, for a file; no client is admitted with it, and revoking it ends its rights."""
    capsys.readouterr()
    assert run(["tokens", "--monitor", "prometheus", "--data", str(tmp_path / "data")]) == 0
    token = capsys.readouterr().out.strip()

    def status(path: str) -> int:
        return request(server.ready["port"], path, Authorization=f"Bearer {token}")[0]

    assert status("/metrics") == 200
    assert status("/_dashboard/state") == 401
    assert await is_refused(server, token)
    assert run(["tokens", "--data", str(tmp_path / "data")]) == 0
    assert "monitor" in capsys.readouterr().out
    assert run(["tokens", "--revoke", "1", "--data", str(tmp_path / "data")]) == 0
    assert status("/metrics") == 401
