"""The routes on the server's port, requested by a real client of a real process."""

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.to_thread
import pytest
from starlette.responses import Response

import tinyvex as tv
from tests.support.http import ADMIN, CLIENT, request, serving, shelf_server
from tests.support.process import ServerProcess
from tinyvex.client.identity import ActingAs
from tinyvex.server.access.origin_rules import AccessRules
from tinyvex.server.http.application import create_application
from tinyvex.server.http.responses import text_response
from tinyvex.server.options import ServerOptions
from tinyvex.server.server import Server
from tinyvex.server.services.background_service import BackgroundService, ServiceFailed
from tinyvex.server.services.service import Services
from tinyvex.storage.engine.store_statistics import Histogram
from tinyvex.sync.counters import Counters


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server whose additional name is `box.example`."""
    with shelf_server(tmp_path_factory.mktemp("data"), "--allow-host", "box.example") as process:
        yield process


def ask(server: ServerProcess, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    return request(server.ready["port"], path, method, **headers)


def test_health_reports_a_running_server(server: ServerProcess) -> None:
    """The response has status, version, last commit and database."""
    status, headers, text = ask(server, "/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    health = json.loads(text)
    assert (health["status"], health["version"]) == ("ok", tv.__version__)
    assert health["lastTs"] > 0
    assert health["databaseId"]


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nothing"])
def test_no_answer_is_for_other_pages(server: ServerProcess, path: str) -> None:
    """A browser neither guesses the type nor passes the response to a page of another origin."""
    headers = ask(server, path)[1]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz/more", "/sync2"])
def test_anything_else_is_not_found(server: ServerProcess, path: str) -> None:
    """An unknown path gets a plain 404."""
    assert ask(server, path)[::2] == (404, "Not found.\n")


def test_a_strange_host_is_refused(server: ServerProcess) -> None:
    """A name that an attacker's page was rebound from does not reach the server."""
    assert ask(server, "/healthz", Host="evil.example")[0] == 403


def test_an_allowed_host_is_answered(server: ServerProcess) -> None:
    """`--allow-host` adds a name."""
    assert ask(server, "/healthz", Host="box.example")[0] == 200


def test_a_strange_page_is_refused(server: ServerProcess) -> None:
    """A browser page of another origin may not even read."""
    assert ask(server, "/healthz", Origin="https://evil.example")[0] == 403


UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/sync", "/nothing"])
@pytest.mark.parametrize("stranger", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_strangers_are_refused_whatever_they_ask(server: ServerProcess, path: str, stranger: dict[str, str]) -> None:
    """Plain requests and upgrades get 403, before anything is disclosed."""
    assert ask(server, path, **stranger)[0] == 403
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    status, headers, text = ask(server, path, **UPGRADE, **key, **stranger)
    assert status == 403
    assert "Sec-WebSocket-Accept" not in headers
    assert server.ready["version"] not in text


def test_the_right_upgrade_is_accepted(server: ServerProcess) -> None:
    """The same request with the server's own names is accepted."""
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    origin = f"http://127.0.0.1:{server.ready['port']}"
    assert ask(server, "/sync", **UPGRADE, **key, Origin=origin)[0] == 101


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello \r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
    ids=["no host", "two hosts", "tls", "a long head"],
)
def test_a_strange_request_ends_its_connection_only(server: ServerProcess, head: bytes) -> None:
    """It never gets a 200, its connection ends, and the next one is served."""
    with socket.create_connection(("127.0.0.1", server.ready["port"]), timeout=10) as peer:
        peer.sendall(head)
        answer = b""
        while data := receive(peer):
            answer += data
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert ask(server, "/healthz")[0] == 200


def receive(peer: socket.socket) -> bytes:
    """Return the received bytes; nothing at the end, however it ends."""
    try:
        return peer.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/sync", "/_dashboard", "/_dashboard/state"])
def test_other_methods_are_405(server: ServerProcess, path: str, method: str) -> None:
    """The response lists the allowed methods."""
    status, headers, text = ask(server, path, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert text == f"{method} is not allowed here; allowed: GET, HEAD.\n"


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/_dashboard", "/_dashboard/main.js"])
def test_head_has_no_body(server: ServerProcess, path: str) -> None:
    """HEAD has the status and headers of GET, including Content-Length."""
    status, headers, text = ask(server, path, "HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 0


def test_a_request_for_the_websockets_path_needs_the_upgrade(server: ServerProcess) -> None:
    """The response is 426, with the protocol to upgrade to."""
    status, headers, _ = ask(server, "/sync")
    assert (status, headers["Upgrade"]) == (426, "websocket")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_posts_a_body_and_gets_an_answer(server: ServerProcess) -> None:
    """The response is 405 with a sentence, not a silently closed socket."""
    url = f"http://127.0.0.1:{server.ready['port']}/healthz"
    for options in (["-d", "some=form"], ["-X", "POST"], ["-T", __file__]):
        result = subprocess.run(["curl", "-sS", "-i", *options, url], capture_output=True, check=True)
        assert b"405 Method Not Allowed" in result.stdout
        assert b"Allow: GET, HEAD" in result.stdout


def test_a_keep_alive_client_gets_many_answers(server: ServerProcess) -> None:
    """One connection carries responses of any status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ready["port"], timeout=10)
    connection.connect()
    first = connection.sock
    for path, status in [("/healthz", 200), ("/metrics", 200), ("/nothing", 404), ("/_dashboard/state", 401)]:
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, connection.sock) == (status, first)
        response.read()
    connection.close()


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize(
    ("path", "token", "status", "has_details"),
    [
        ("/healthz", "", 200, False), ("/healthz", "wrong", 401, False), ("/healthz", CLIENT, 200, True),
        ("/healthz", ADMIN, 200, True), ("/metrics", "", 401, False), ("/metrics", "wrong", 401, False),
        ("/metrics", CLIENT, 200, True), ("/metrics", ADMIN, 200, True),
    ],
)  # fmt: skip
async def test_figures_are_for_callers_with_a_token(
    path: str, token: str, status: int, has_details: bool, listens_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user of the machine learns that the server is alive, and neither its tables nor how much it is used."""

    async def respond(*_: object) -> Response:
        return text_response("lastTs")

    monkeypatch.setattr("tinyvex.server.http.metrics.metrics_response", respond)
    store: Any = SimpleNamespace(last_ts=1, database_id="")
    dashboard: Any = SimpleNamespace(routes=list)
    application = create_application(store, Counters(), Histogram([1.0]), Services(), dashboard, dialects=[])
    async with serving(application, rules=AccessRules(listens_on=listens_on)) as served:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await anyio.to_thread.run_sync(lambda: request(served.port, path, **headers))
        assert (answer[0], "lastTs" in answer[2]) == (status, has_details)
        if (path, token) == ("/healthz", ""):
            assert json.loads(answer[2]) == {"status": "ok"}


async def test_failed_tokens_are_logged_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On HTTP and on WebSockets, with the reason and never with the token; the right tokens leave no line."""
    (tmp_path / "app.py").write_text("", "utf-8")
    async with Server(ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data", client_token=CLIENT)) as server:
        caplog.clear()

        async def get(path: str, token: str) -> None:
            headers = {"Authorization": f"Bearer {token}"}
            await anyio.to_thread.run_sync(lambda: request(server.port, path, **headers))

        for _ in range(3):
            for path in ("/healthz", "/metrics", "/_dashboard/state"):
                await get(path, "hush-hush-1")
            await get("/_dashboard/state", CLIENT)
            for token in ("hush-hush-2", "", "pairing:HUSH-HUSH", "dashboard:hush-hush"):
                with pytest.raises(tv.TinyvexError):
                    async with tv.connect(f"ws://127.0.0.1:{server.port}", token) as client:
                        await client.query("_system:tables")
        await get("/metrics", CLIENT)
        await get("/_dashboard/state", server.admin_token)
    refused = [message for message in caplog.messages if message.startswith("refused")]
    assert refused == [
        "refused a client at 127.0.0.1: the token is wrong",
        "refused a client at 127.0.0.1: the request requires the admin token",
        "refused a request: WebSocket: a token is required; the server prints it in its ready line.",
        "refused a client at 127.0.0.1: the code is wrong, used or expired; create another with `tinyvex pair`",
        "refused a client at 127.0.0.1: the link is wrong, used or expired; create another with `tinyvex dashboard`",
    ]
    assert "hush" not in caplog.text.lower()


async def test_a_guessed_admin_token_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client of the app that tries to act as an administrator leaves a line."""
    (tmp_path / "app.py").write_text("", "utf-8")
    async with Server(ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")) as server:
        auth: Any = partial(ActingAs, "hush-hush", {})
        async with tv.connect(f"ws://127.0.0.1:{server.port}", auth=auth) as client:
            await client.wait_connected()
            with pytest.raises(tv.TinyvexError):
                await client.query("_system:tables")
    assert "refused a client at 127.0.0.1: the admin token is wrong" in caplog.messages
    assert "hush" not in caplog.text


async def test_health_lists_the_services(tmp_path: Path) -> None:
    """Callers with a token get their states; only an administrator gets the sentence about a failure, which may have paths."""
    (tmp_path / "app.py").write_text("", "utf-8")

    class Failing(BackgroundService):
        name = "failing"

        async def run(self) -> None:
            raise ServiceFailed("/home/ada/data cannot be read")

    server = Server(ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data"))
    server.add_service(Failing())
    async with server:
        admin = {"Authorization": f"Bearer {server.admin_token}"}
        answers = [
            (await anyio.to_thread.run_sync(lambda headers=headers: request(server.port, "/healthz", **headers)))[2]
            for headers in ({}, admin)
        ]
    seen_by_all, seen_by_admin = (json.loads(answer)["services"] for answer in answers)
    assert seen_by_all["ticker"] == {"state": "ok"}
    assert seen_by_all["failing"] == {"state": "failing"}
    assert seen_by_admin["failing"] == {"state": "failing", "error": "/home/ada/data cannot be read"}
