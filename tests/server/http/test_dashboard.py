"""The routes below /_dashboard: the page for every program of this machine, data for administrators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import tinyvex as tv
from tests.support.dashboard import APP, admin_token, get
from tests.support.library import Book
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tinyvex import limits
from tinyvex.cli.main import run
from tinyvex.client.blocking import connect_blocking
from tinyvex.functions.schema.json_schema import json_schema
from tinyvex.runtime import Runtime

FILES = ["", "/", "/main.js", "/base.css", "/icon.svg"]
GUARDED = ["/app", "/link", "/state"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server of the library with a watching client."""
    with (
        ServerProcess(APP, tmp_path_factory.mktemp("data")) as process,
        connect_blocking(process.url, process.ready["token"]) as client,
        client.subscribe("library:titles", {"kind": "novel"}) as titles,
    ):
        assert next(titles) == []
        client.mutation("library:add", {"title": "Emma"})
        assert next(titles) == ["Emma"]
        yield process


def state(server: ServerProcess, query: str = "") -> dict[str, Any]:
    """Return the state that an administrator receives."""
    status, headers, text = get(server, f"/_dashboard/state{query}", admin_token(server))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    return dict(json.loads(text))


def new_code(server: ServerProcess) -> str:
    """Return the code of a link."""
    return str(json.loads(get(server, "/_dashboard/link", admin_token(server))[2])["code"])


@pytest.mark.parametrize("path", FILES)
def test_the_page_is_served_with_a_strict_policy(server: ServerProcess, path: str) -> None:
    """The policy allows only its own files, no inline code, no framing, no caching and no type guessing."""
    status, headers, _ = get(server, f"/_dashboard{path}")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"):
        assert rule in policy
    for rule in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("", "text/html"), ("/main.js", "text/javascript"), ("/base.css", "text/css"), ("/icon.svg", "image/svg+xml")],
)
def test_files_have_their_types(server: ServerProcess, path: str, content_type: str) -> None:
    """Browsers refuse modules of another type."""
    assert get(server, f"/_dashboard{path}")[1]["Content-Type"].partition(";")[0] == content_type


@pytest.mark.parametrize(
    "path", ["/nothing", "/../server.json", "/..%2fserver%2fserver.py", "/__init__.py", "//main.js", "/main.js/", "s"]
)
def test_nothing_else_is_served(server: ServerProcess, path: str) -> None:
    """A name is looked up among the page's files, never in a folder."""
    assert get(server, f"/_dashboard{path}")[0] == 404


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("token", [None, "", "guessed", "client's"])
def test_data_is_for_administrators(server: ServerProcess, path: str, token: str | None) -> None:
    """Neither a missing token nor a client token gives access; the sentence names what is missing."""
    shown = server.ready["token"] if token == "client's" else token
    status, headers, text = get(server, f"/_dashboard{path}", shown)
    sentences = {"client's": "This requires the admin token.\n", "guessed": "The token is wrong.\n"}
    required = "A token is required: send the header `Authorization: Bearer TOKEN`.\n"
    assert (status, text) == (401, sentences.get(token or "", required))
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", [*FILES, *GUARDED])
@pytest.mark.parametrize("stranger", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_strangers_are_refused(server: ServerProcess, path: str, stranger: dict[str, str]) -> None:
    """Foreign pages are refused with any token."""
    assert get(server, f"/_dashboard{path}", admin_token(server), **stranger)[0] == 403


async def connect(server: ServerProcess, token: str) -> tuple[RawClient, dict[str, Any]]:
    """Connect with this token; return the client and the answer."""
    client = await RawClient.open(server.url, Runtime())
    with anyio.fail_after(20):
        return client, await client.answer(client.connect(token=token, sessionId=f"session-{token[-8:]}"))


async def test_a_code_is_exchanged_for_a_token(server: ServerProcess) -> None:
    """S-90: the code admits an administrator once; its token is valid for connections and state, and for no link."""
    code = new_code(server)
    first, answer = await connect(server, f"dashboard:{code}")
    token = answer["result"]["token"]
    add = {"type": "Add", "queryId": 0, "udfPath": "_system:tables", "args": {}}
    await first.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
    transition = await first.notification("transition")
    assert transition["params"]["modifications"][0]["value"] == ["books", "readers"]
    again, answer = await connect(server, f"dashboard:{code}")
    assert answer["error"]["data"]["name"] == "Unauthenticated"
    other, answer = await connect(server, token)
    assert "token" not in answer["result"]
    assert get(server, "/_dashboard/state", token)[0] == 200
    assert get(server, "/_dashboard/link", token)[0] == 401
    for client in (first, again, other):
        client.cut()


@pytest.mark.parametrize("token", ["dashboard:", "dashboard:guessed"])
async def test_a_wrong_code_is_refused_as_a_wrong_token(server: ServerProcess, token: str) -> None:
    """S-90: the connection ends."""
    client, answer = await connect(server, token)
    assert answer["error"]["data"]["name"] == "Unauthenticated"
    with anyio.fail_after(20):
        assert await client.end() == 1008


def test_the_state_describes_the_server(server: ServerProcess) -> None:
    """The state has version, app, durability and start time."""
    served = state(server)["server"]
    assert (served["version"], served["app"], served["durability"]) == (tv.__version__, "library.py", "full")
    assert 0 < served["startedAt"] <= served["now"]


def test_the_app_is_returned_as_declared(server: ServerProcess) -> None:
    """The response has the tables' fields in the order of the code, their indexes, and the functions' docstrings."""
    app = json.loads(get(server, "/_dashboard/app", admin_token(server))[2])
    assert app["tables"]["books"] == {
        "fields": ["title", "kind", "pages", "tags"],
        "indexes": {"by_title": ["title"]},
        "schema": json_schema(Book),
    }
    assert app["functions"]["library:titles"] == "Return the titles, sorted."


def test_the_state_lists_connections(server: ServerProcess) -> None:
    """The list has connected clients with their costs."""
    (connection,) = [each for each in state(server)["connections"] if each["queries"] == 1]
    assert (connection["admin"], connection["name"], connection["subject"], connection["requests"]) == (
        False,
        None,
        None,
        0,
    )
    assert connection["bytesReceived"] > 0
    assert connection["bytesSent"] > 0


async def test_a_connection_has_its_name_and_subject(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """The entry has the name of the pairing token, and the subject of the identity."""
    data = server.command[server.command.index("--data") + 1]
    assert run(["pair", "--data", data, "--name", "phone"]) == 0
    paired, _ = await connect(server, f"pairing:{capsys.readouterr().out.strip()}")
    acting, _ = await connect(server, admin_token(server))
    claims = {"subject": "ada", "issuer": None}
    await acting.ask("authenticate", baseVersion=0, kind="admin", token=admin_token(server), actingAs=claims)
    connections = {(each["name"], each["subject"], each["admin"]) for each in state(server)["connections"]}
    assert {("phone", None, False), (None, "ada", True)} <= connections
    paired.cut(), acting.cut()


def test_the_state_lists_live_queries(server: ServerProcess) -> None:
    """The list has arguments, subscribers, runs and the duration of the last one."""
    (live_query,) = [each for each in state(server)["liveQueries"] if each["path"] == "library:titles"]
    assert (live_query["arguments"], live_query["subscribers"], live_query["error"]) == ('{"kind":"novel"}', 1, None)
    assert (live_query["recomputations"], live_query["unchanged"]) == (2, 0)
    assert 0 < live_query["seconds"] < limits.FUNCTION_SECONDS
    assert live_query["bytes"] == len('["Emma"]')


def test_the_state_has_the_log(server: ServerProcess) -> None:
    """The state has the app's records, and after a number only newer ones."""
    activity = state(server)["activity"]
    assert [record["logger"] for record in activity["records"] if record["message"] == "a book came"] == ["library"]
    assert state(server, f"?after={activity['number']}")["activity"]["records"] == []


@pytest.mark.parametrize(
    "query", ["?after=", "?after=x", "?after=-1", "?after=" + "9" * 5000, "?after=%C2%B2", "?&&=", "?"]
)
def test_an_invalid_number_counts_as_none(server: ServerProcess, query: str) -> None:
    """An invalid number returns everything."""
    assert state(server, query)["activity"]["records"]


@pytest.mark.parametrize("letter", ["x", "é", "€"])
async def test_long_arguments_are_cut(server: ServerProcess, letter: str) -> None:
    """The page only needs to distinguish live queries."""
    client, _ = await connect(server, server.ready["token"])
    add = {"type": "Add", "queryId": 0, "udfPath": "library:titles", "args": {"kind": letter * 5000}}
    await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
    longest = max((each["arguments"] for each in state(server)["liveQueries"]), key=len)
    assert longest.startswith('{"kind":"' + letter)
    assert longest.endswith("…")
    assert len(longest) <= limits.DASHBOARD_ARGUMENTS_LENGTH_MAX + 1
    client.cut()


def test_secrets_are_not_disclosed(server: ServerProcess) -> None:
    """The state contains neither tokens nor codes nor arguments."""
    code = new_code(server)
    text = json.dumps(state(server))
    for secret in (code, server.ready["token"], admin_token(server), "Emma"):
        assert secret not in text
