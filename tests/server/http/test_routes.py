"""HTTP on the server's port: health, metrics, and nothing else."""

import asyncio
import http.client
import json
import random
import socket
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.lowlevel
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

import tinyvex as tv
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.client.blocking import connect_blocking
from tinyvex.server.access.dashboard_links import DashboardLinks
from tinyvex.server.access.origin_rules import AccessRules, Tokens
from tinyvex.server.access.pairing import Pairing
from tinyvex.server.access.token_auth import TokenAuth
from tinyvex.server.http import routes as http_module
from tinyvex.server.http.routes import Routes, text_response
from tinyvex.server.server import Server, ServerOptions
from tinyvex.sync.counters import Counters

APP = Path(__file__).resolve().parents[2] / "support" / "shelf.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has committed one mutation and has one live query."""
    with (
        ServerProcess(APP, tmp_path_factory.mktemp("data"), "--no-token", "--allow-host", "box.example") as process,
        connect_blocking(process.url) as client,
        client.subscribe("shelf:titles") as titles,
    ):
        assert next(titles) == []
        client.mutation("shelf:add", {"title": "Emma"})
        assert next(titles) == ["Emma"]
        yield process


def ask(server: ServerProcess, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.ready["port"], timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def metrics(server: ServerProcess) -> dict[str, float]:
    """The samples by name and labels, as Prometheus itself reads them."""
    status, headers, text = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        "".join([sample.name, *(f'{{{label}="{value}"}}' for label, value in sample.labels.items())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_health_says_that_it_is_alive(server: ServerProcess) -> None:
    """Status, version, last commit and database are there."""
    status, headers, text = ask(server, "/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    found = json.loads(text)
    assert (found["status"], found["version"]) == ("ok", tv.__version__)
    assert found["lastTs"] > 0
    assert found["databaseId"]


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nothing"])
def test_no_answer_is_for_other_pages(server: ServerProcess, path: str) -> None:
    """A browser neither guesses at its type nor gives it to a page of another origin in any form."""
    headers = ask(server, path)[1]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_metrics_count_what_happened(server: ServerProcess) -> None:
    """Connections, live queries, commits, their latency and group size are those of this server's short life."""
    found = metrics(server)
    assert found["tinyvex_connections"] >= 2  # the client's and the scrape's own
    assert found["tinyvex_live_queries"] == 1
    assert found["tinyvex_mutations_total"] == 1
    assert found["tinyvex_commits_total"] >= 1
    assert found["tinyvex_transitions_sent_total"] >= 2
    assert found["tinyvex_recomputations_total"] >= 2
    assert found["tinyvex_bytes_sent_total"] > 0
    assert found["tinyvex_wal_bytes"] > 0
    assert found['tinyvex_group_size_bucket{le="+Inf"}'] >= 1
    assert found['tinyvex_commit_seconds_bucket{le="+Inf"}'] >= 1
    assert found["tinyvex_commit_seconds_sum"] > 0


def test_every_metric_says_what_it_is(server: ServerProcess) -> None:
    """Each family has a type and a sentence, and a name of ours."""
    families = list(text_string_to_metric_families(ask(server, "/metrics")[2]))
    assert len(families) > 10
    for family in families:
        assert family.name.startswith("tinyvex_")
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.documentation


MOVE_UP = [
    "tinyvex_connections",
    "tinyvex_connections_total",
    "tinyvex_live_queries",
    "tinyvex_messages_received_total",
    "tinyvex_bytes_received_total",
    "tinyvex_bytes_sent_total",
    "tinyvex_transitions_sent_total",
    "tinyvex_recomputations_total",
    "tinyvex_mutations_total",
    "tinyvex_mutations_failed_total",
    "tinyvex_actions_total",
    "tinyvex_queries_total",
    "tinyvex_commits_total",
    "tinyvex_commit_seconds_count",
    "tinyvex_commit_seconds_sum",
    'tinyvex_commit_seconds_bucket{le="+Inf"}',
    "tinyvex_group_size_count",
    "tinyvex_group_size_sum",
    "tinyvex_wal_bytes",
    "tinyvex_last_ts",
]


def test_metrics_move(tmp_path: Path) -> None:
    """What a client does between two scrapes is in the second."""
    with ServerProcess(APP, tmp_path / "data", "--no-token") as server:
        before = metrics(server)
        with connect_blocking(server.url) as client, client.subscribe("shelf:titles") as titles:
            assert next(titles) == []
            client.mutation("shelf:add", {"title": "Emma"})
            assert next(titles) == ["Emma"]
            with client.subscribe("shelf:pages", {"title": "Emma"}) as pages:
                assert next(pages) == 100
                client.mutation("shelf:add", {"title": "Emma"})
                with pytest.raises(tv.TinyvexError):
                    next(pages)
            with pytest.raises(tv.TinyvexError):
                client.mutation("shelf:nothing")
            client.action("shelf:add_twice", {"title": "Persuasion"})
            client.query("shelf:titles")
            after = metrics(server)
    assert [name for name in MOVE_UP if not after[name] > before[name]] == []


def test_states_that_a_slow_client_goes_past_are_counted(tmp_path: Path) -> None:
    """While it does not read, others who watch the same query do."""

    async def scenario() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        async with Server(ServerOptions(app=APP, data=tmp_path / "data", port=4800), runtime) as server:
            slow, quick = [await watching(server, runtime, session_id) for session_id in ("a-slow-one", "a-quick-one")]
            assert server.counters.transitions_skipped == 0
            slow.pause()
            for number in range(30):
                args = {"title": f"{number:02} " * 10_000}
                answer = await quick.ask("mutation", requestId=number, udfPath="shelf:add", args=args)
                await quick.message(lambda message, ts=answer["result"]["ts"]: end_of(message) >= ts)
            assert server.counters.transitions_skipped > 10

    run_virtual(scenario())


async def watching(server: Server, runtime: WorldRuntime, session_id: str) -> RawClient:
    """A client that has the first result of a query."""
    client = await RawClient.open(server.url, runtime)
    await client.answer(client.connect(sessionId=session_id))
    add = {"type": "Add", "queryId": 0, "udfPath": "shelf:titles", "args": {}}
    await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
    await client.notification("transition")
    return client


def end_of(message: dict[str, object]) -> int:
    """The `ts` to which a message leads."""
    params = message.get("params")
    return int(params["endVersion"]["ts"]) if isinstance(params, dict) and "endVersion" in params else 0


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz/more", "/sync2"])
def test_anything_else_is_not_found(server: ServerProcess, path: str) -> None:
    """A plain 404."""
    assert ask(server, path)[::2] == (404, "Not found.\n")


def test_a_strange_host_is_refused(server: ServerProcess) -> None:
    """A name that an attacker's page was rebound from does not reach the server."""
    assert ask(server, "/healthz", Host="evil.example")[0] == 403


def test_an_allowed_host_is_answered(server: ServerProcess) -> None:
    """`--allow-host` adds a name."""
    assert ask(server, "/healthz", Host="box.example")[0] == 200


def test_a_strange_page_is_refused(server: ServerProcess) -> None:
    """A browser page of another origin may not even look."""
    assert ask(server, "/healthz", Origin="https://evil.example")[0] == 403


UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/sync", "/nothing"])
@pytest.mark.parametrize("stranger", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_strangers_are_refused_whatever_they_ask(server: ServerProcess, path: str, stranger: dict[str, str]) -> None:
    """403 for plain requests and for the upgrade, before anything is told."""
    assert ask(server, path, **stranger)[0] == 403
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    status, headers, text = ask(server, path, **UPGRADE, **key, **stranger)
    assert status == 403
    assert "Sec-WebSocket-Accept" not in headers
    assert server.ready["version"] not in text


def test_the_right_upgrade_is_accepted(server: ServerProcess) -> None:
    """The same request with the server's own names."""
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
    """No answer of ours is a 200, the connection ends, and the next one is served."""
    with socket.create_connection(("127.0.0.1", server.ready["port"]), timeout=10) as peer:
        peer.sendall(head)
        answer = b""
        while data := receive(peer):
            answer += data
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert ask(server, "/healthz")[0] == 200


def receive(peer: socket.socket) -> bytes:
    """What comes next; nothing at the end, however it ends."""
    try:
        return peer.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
@pytest.mark.parametrize(
    ("listens_on", "token", "status"),
    [
        ("127.0.0.1", None, 200), ("0.0.0.0", None, 401), ("0.0.0.0", "wrong", 401), ("0.0.0.0", "client", 200),
        ("0.0.0.0", "admin", 200),
    ],
)  # fmt: skip
def test_other_machines_need_a_token(
    path: str, listens_on: str, token: str | None, status: int, tmp_path: Path
) -> None:
    """On loopback whoever runs programs here may look; beyond it only who may connect."""
    pairing = Pairing(tmp_path, lambda: 0, lambda: "00")
    admission = TokenAuth(Tokens("admin", "client"), pairing, DashboardLinks(lambda: 0.0, lambda: "00"))
    store: Any = SimpleNamespace(last_ts=1, database_id="")
    routes = Routes(AccessRules(listens_on=listens_on), admission, None, Counters(), store)  # type: ignore[arg-type]
    headers = Headers(Host="127.0.0.1")
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    answer = routes.answer(Request(path, headers), 0)
    assert (answer.status_code if isinstance(answer, Response) else 200) == status
    assert answer is not None


def test_a_paired_client_may_look(tmp_path: Path) -> None:
    """Its token counts as the client token does; a code, and nothing at all, do not."""
    pairing = Pairing(tmp_path, lambda: 0, lambda: "0123456789abcdef" * 4)
    admission = TokenAuth(Tokens("admin", "client"), pairing, DashboardLinks(lambda: 0.0, lambda: "00"))
    redeemed = pairing.redeem(pairing.offer("phone"))
    assert redeemed is not None
    assert admission.knows(redeemed[1])
    assert not any(map(admission.knows, ["", "pairing:", f"pairing:{redeemed[1]}"]))


async def test_few_scrapes_go_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is answered 503 at once; when they are done, or were given up, there is room again."""
    may_end = asyncio.Event()

    async def metrics(*_: object) -> Response:
        await may_end.wait()
        return text_response(HTTPStatus.OK, "metrics\n")

    monkeypatch.setattr(http_module, "metrics", metrics)
    routes = Routes(AccessRules(), None, None, Counters(), None)  # type: ignore[arg-type]

    async def scrape() -> int:
        answer = routes.answer(Request("/metrics", Headers(Host="127.0.0.1")), 0)
        assert callable(answer)
        return (await answer()).status_code

    async with asyncio.TaskGroup() as group:
        first = [group.create_task(scrape()) for _ in range(limits.SCRAPES_MAX)]
        assert await group.create_task(scrape()) == 503
        first.pop().cancel()
        another = group.create_task(scrape())
        await anyio.lowlevel.checkpoint()
        may_end.set()
    assert [task.result() for task in [*first, another]] == [200] * limits.SCRAPES_MAX


async def test_a_look_at_the_file_goes_on_where_its_scrape_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library's thread makes it: left alone, that would answer a loop that is closed, and say so in a traceback."""
    begun, may_end = anyio.Event(), anyio.Event()
    ended = []

    async def inspect(_database: Path) -> Any:
        begun.set()
        await may_end.wait()
        ended.append(True)
        raise LookupError("nobody wants to know")

    async def scrape() -> None:
        with pytest.raises(LookupError):
            await http_module.metrics(Counters(), store)

    monkeypatch.setattr("tinyvex.storage.maintenance.table_statistics.inspect_file", inspect)
    store: Any = SimpleNamespace(folder=SimpleNamespace(database=Path("nowhere")))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scrape)
            await begun.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                may_end.set()
    assert ended == [True]
