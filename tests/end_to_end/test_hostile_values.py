"""A value that no call can use fails that call only: on each method of the client, and in each request on the wire."""

import asyncio
import decimal
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tests.support.raw import RawClient
from tinyvex.client.blocking import BlockingClient, connect_blocking
from tinyvex.client.client import Client
from tinyvex.errors import Unauthenticated
from tinyvex.runtime import Runtime

PATIENCE_SECONDS = 20.0
HALF = "\ud83d"

APP = """
from typing import Any
import tinyvex as tv

@tv.query
def query(ctx: tv.QueryCtx, value: Any = None) -> Any:
    return value

@tv.mutation
def mutation(ctx: tv.MutationCtx, value: Any = None) -> Any:
    return value

@tv.action
async def action(ctx: tv.ActionCtx, value: Any = None) -> Any:
    return value
"""


def nested(depth: int) -> object:
    """Return a list inside a list, and so on."""
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> object:
    """Return a list that contains itself."""
    value: list[object] = []
    value.append(value)
    return value


class Broken(Mapping[str, Any]):
    """A mapping whose every method raises."""

    def __getitem__(self, key: str) -> Any:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError

    def __len__(self) -> int:
        raise ZeroDivisionError


HOSTILE: dict[str, Any] = {
    "half of a pair": HALF,
    "the other half": "\ude00",
    "a list of halves": [HALF],
    "half of a key": {HALF: 1},
    "a number of 5000 digits": 10**5000,
    "its opposite": -(10**5000),
    "2^53": 2**53,
    "-1": -1,
    "a fraction": 1.5,
    "NaN": math.nan,
    "infinity": math.inf,
    "a truth value": True,
    "text of nothing": "",
    "the character 0": "\0",
    "a path without a function": "app:nothing",
    "a long text": "x" * 70_000,
    "bytes": b"\xff",
    "an object": object(),
    "a function": len,
    "a class": int,
    "a set": {1},
    "a generator": (number for number in range(3)),
    "no number": decimal.Decimal("NaN"),
    "a deep list": nested(100),
    "a deeper list": nested(2_000),
    "an endless list": endless(),
    "a key that is no text": {1: 2},
    "a reserved key": {"$integer": 1},
    "a broken mapping": Broken(),
}

METHODS = ["query", "mutation", "action", "subscribe"]

POSITIONS: dict[str, Callable[[str, Any], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "path": lambda _, value: ((value,), {}),
    "arguments": lambda path, value: ((path, value), {}),
    "argument": lambda path, value: ((path, {"value": value}), {}),
    "name of an argument": lambda path, value: ((path, {value: 1}), {}),
    "type": lambda path, value: ((path, {"value": 1}), {"type": value}),
    "at": lambda path, value: ((path, {"value": 1}), {"at": value}),
    "optimistic update": lambda path, value: ((path, {"value": 1}), {"optimistic": value}),
    "optimistic result": lambda path, value: (
        (path, {"value": 1}), {"optimistic": lambda store: store.set("app:query", {"value": 1}, value)},
    ),
    "optimistic path": lambda path, value: (
        (path, {"value": 1}), {"optimistic": lambda store: store.set(value, {"value": 1}, 2)},
    ),
}  # fmt: skip

ONLY = {
    "at": ["query"],
    "optimistic update": ["mutation"],
    "optimistic result": ["mutation"],
    "optimistic path": ["mutation"],
}

CALLS = [(method, position) for position in POSITIONS for method in METHODS if method in ONLY.get(position, METHODS)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP, "utf-8")
    with ServerProcess(folder / "app.py", folder / "data", "--no-token") as process:
        yield process


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    async with asyncio.timeout(PATIENCE_SECONDS), tv.connect(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def blocking(server: ServerProcess) -> Iterator[BlockingClient]:
    with connect_blocking(server.url) as client:
        yield client


def path_of(method: str) -> str:
    """Return the function that a method of the client calls."""
    return "app:query" if method == "subscribe" else f"app:{method}"


@pytest.mark.parametrize(("method", "position"), CALLS)
async def test_the_client_survives_every_call(client: Client, method: str, position: str) -> None:
    """Whatever the call does, the client answers the next one, and its subscription goes on."""
    for name, value in HOSTILE.items():
        with suppress(Exception):
            arguments, options = POSITIONS[position](path_of(method), value)
            call = getattr(client, method)(*arguments, **options)
            await (anext(call) if method == "subscribe" else call)
        assert await client.query("app:query", {"value": 7}) == 7, f"after {name}"
    async with client.subscribe("app:query", {"value": 8}) as values:
        assert await anext(values) == 8


@pytest.mark.parametrize(("method", "position"), CALLS)
def test_the_blocking_client_survives_every_call(blocking: BlockingClient, method: str, position: str) -> None:
    """The same without `await`."""
    for name, value in HOSTILE.items():
        with suppress(Exception):
            arguments, options = POSITIONS[position](path_of(method), value)
            call = getattr(blocking, method)(*arguments, **options)
            if method == "subscribe":
                next(call)
        assert blocking.query("app:query", {"value": 7}) == 7, f"after {name}"


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((f"app:{HALF}",), {}, "InvalidParams: the function path has a lone surrogate"),
        (("app:query", {"value": HALF}), {}, r"InvalidValue: .*lone surrogate.*`\$\.value`"),
        (("app:query", {"value": 10**5000}), {}, r"InvalidValue: an integer of 16,610 bits is too large.*`\$\.value`"),
        (("app:query",), {"at": 10**5000}, "InvalidParams: `at` is a timestamp in microseconds since 1970"),
        (("app:query",), {"at": -1}, "InvalidParams: `at` is a timestamp"),
    ],
)
async def test_the_error_names_the_cause(
    client: Client, arguments: tuple[Any, ...], options: dict[str, Any], error: str
) -> None:
    """And the path of the wrong part."""
    with pytest.raises(tv.TinyvexError) as refused:
        await client.query(*arguments, **options)
    assert_matches(f"{refused.value.name}: {refused.value}", error)


def assert_matches(text: str, pattern: str) -> None:
    """Assert that a pattern occurs."""
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(text)


@pytest.mark.parametrize("token", [HALF, f"a.{HALF}.b"])
async def test_a_token_of_a_user_that_cannot_be_sent(client: Client, token: str) -> None:
    """Calls of that user raise the reason, and the client continues without the user."""
    client.set_auth(lambda: token)
    with pytest.raises(Unauthenticated, match="lone surrogate"):
        await client.query("app:query", {"value": 7})
    assert "lone surrogate" in str(client.connection_state.auth_error)
    client.set_auth(None)
    assert await client.query("app:query", {"value": 7}) == 7


def test_a_token_that_cannot_be_sent() -> None:
    """It is refused before the client connects."""
    with pytest.raises(ValueError, match="lone surrogate"):
        tv.connect("ws://127.0.0.1:1", HALF)


# The wire.

FRAGMENTS = {
    "half of a pair": r'"\ud83d"',
    "the other half": r'"\ude00"',
    "half of a key": r'{"\ud83d":1}',
    "a number of 400 digits": "1" + "0" * 400,
    "a number of 5000 digits": "1" + "0" * 5_000,
    "a large exponent": "1e400",
    "half of an integer": r'{"$integer":"\ud83d"}',
    "a reserved key": '{"$x":1}',
    "a deep list": "[" * 100 + "]" * 100,
    "a deeper list": "[" * 3_000 + "]" * 3_000,
    "a duplicate key": '{"a":1,"a":2}',
    "the character 0": r'"\u0000"',
    "half of a pair behind a long text": r'["%s","\ud83d"]' % ("x" * 100_000),
    "half of a pair before a long text": r'["\ud83d","%s"]' % ("x" * 100_000),
    "a large exponent in a long text": '["%s",1e400]' % ("x" * 100_000),
}

REQUESTS = {
    "an argument of a mutation": ("mutation", '{"requestId":%d,"udfPath":"app:mutation","args":{"value":%s}}'),
    "the id of a mutation": ("mutation", '{"x":%d,"requestId":%s,"udfPath":"app:mutation","args":{}}'),
    "an argument of an action": ("action", '{"requestId":%d,"udfPath":"app:action","args":{"value":%s}}'),
    "an argument of a query": ("query", '{"x":%d,"udfPath":"app:query","args":{"value":%s}}'),
    "the arguments of a query": ("query", '{"x":%d,"udfPath":"app:query","args":%s}'),
    "the path of a query": ("query", '{"x":%d,"udfPath":%s,"args":{}}'),
    "the ts of a query": ("query", '{"x":%d,"udfPath":"app:query","args":{},"ts":%s}'),
    "a user's token": ("authenticate", '{"x":%d,"baseVersion":0,"kind":"user","token":%s}'),
    "claims": ("authenticate", '{"x":%d,"baseVersion":0,"kind":"admin","token":"x","actingAs":{"subject":%s}}'),
    "a ping": ("ping", '{"x":%d,"y":%s}'),
    "a second greeting": ("connect", '{"x":%d,"protocolVersion":1,"sessionId":%s}'),
    "a modification": ("modifyQuerySet", '{"x":%d,"baseVersion":0,"newVersion":1,"modifications":[%s]}'),
    "an argument of a live query": (
        "modifyQuerySet",
        '{"baseVersion":0,"newVersion":%d,"modifications":[{"type":"Add","queryId":0,"udfPath":"app:query","args":{"value":%s}}]}',
    ),
}


@pytest.mark.parametrize("request_name", REQUESTS)
async def test_every_request_is_answered_by_its_id(server: ServerProcess, request_name: str) -> None:
    """Its caller learns of the error, and the connection lives on; a client that got no answer would wait forever."""
    method, params = REQUESTS[request_name]
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    async with asyncio.timeout(PATIENCE_SECONDS):
        for name, fragment in FRAGMENTS.items():
            raw = await RawClient.open(server.url, runtime)
            try:
                assert (await raw.ask("connect", protocolVersion=1, sessionId="session-of-the-test"))["id"] == 1
                filled = params % (7, fragment)
                raw.send_text(f'{{"jsonrpc":"2.0","id":1234,"method":"tinyvex/{method}","params":{filled}}}')
                answer = await raw.message(lambda message: message.get("id", 1) != 1)
                assert answer["id"] == 1234, f"{name}: {json.dumps(answer)[:300]}"
                assert "result" in await raw.ask("ping"), name
            finally:
                raw.cut()
                await raw.end()
