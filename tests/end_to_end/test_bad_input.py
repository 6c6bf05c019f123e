"""
Bad input gets a stable error, other clients are unaffected, and nothing is lost; on the real server, or a real process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from tests.support.process import ENVIRONMENT, START_SECONDS, ServerProcess
from tests.support.raw import RawClient
from tinyvex import errors, limits
from tinyvex.client.blocking import connect_blocking
from tinyvex.errors import RemoteError
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server, ServerOptions
from tinyvex.storage.maintenance.check import check_folder

PATIENCE_SECONDS = 20.0
LIMIT_SECONDS = 0.3

APP = """
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

@tv.table("people")
class Person(tv.Document):
    name: str

anything = tv.table("anything")

def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value

@tv.query
def count(ctx: tv.QueryCtx) -> int:
    return ctx.db.query(Note).count() + ctx.db.query(Person).count() + ctx.db.query("anything").count()

@tv.query
def echo(ctx: tv.QueryCtx, value: object) -> object:
    return value

@tv.query
def find(ctx: tv.QueryCtx, note: tv.Id[Note]) -> Note | None:
    return ctx.db.get(note)

@tv.query
def find_untyped(ctx: tv.QueryCtx, text: str) -> object:
    return ctx.db.get(text)

@tv.query
def deep(ctx: tv.QueryCtx) -> object:
    return nested(65)

@tv.query
def unserialisable(ctx: tv.QueryCtx) -> object:
    return object()

@tv.query
def not_what_it_says(ctx: tv.QueryCtx) -> int:
    return "three"

@tv.query
def raising(ctx: tv.QueryCtx) -> int:
    return {}["the secret"]

@tv.mutation
def add_note(ctx: tv.MutationCtx, size: int = 1) -> tv.Id[Note]:
    return ctx.db.insert(Note(text="x" * size))

@tv.mutation
def add_person(ctx: tv.MutationCtx) -> tv.Id[Person]:
    return ctx.db.insert(Person(name="Ada"))

@tv.mutation
def add_large(ctx: tv.MutationCtx) -> tv.Id[Note]:
    ctx.db.insert(Note(text="one that fits"))
    return ctx.db.insert(Note(text="x" * (1 << 20)))

@tv.mutation
def add_deep(ctx: tv.MutationCtx) -> str:
    ctx.db.insert(Note(text="one that fits"))
    return ctx.db.insert("anything", {"value": nested(65)})

@tv.mutation
def add_with_id(ctx: tv.MutationCtx, text: str) -> tv.Id[Note]:
    ctx.db.insert(Note(text="one that fits"))
    return ctx.db.insert(Note(text="another"), id=text)

@tv.mutation
def delete(ctx: tv.MutationCtx, note: tv.Id[Note]) -> None:
    ctx.db.delete(note)

@tv.mutation
def add_and_raise(ctx: tv.MutationCtx) -> int:
    ctx.db.insert(Note(text="one that fits"))
    return {}["the secret"]

@tv.mutation
def add_and_return(ctx: tv.MutationCtx) -> object:
    ctx.db.insert(Note(text="one that fits"))
    return {1, 2}

@tv.mutation
def add_and_lie(ctx: tv.MutationCtx) -> int:
    ctx.db.insert(Note(text="one that fits"))
    return "three"

@tv.action
async def act_and_raise(ctx: tv.ActionCtx) -> int:
    return {}["the secret"]

@tv.action
async def act_and_return(ctx: tv.ActionCtx) -> object:
    return object()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server on a thread of its own with its own loop, as in its own process."""
    folder = tmp_path_factory.mktemp("bad-input")
    (folder / "app.py").write_text(APP)
    options = ServerOptions(app=folder / "app.py", data=folder / "data")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Server(options)) as running:
        yield running
    assert check_folder(folder / "data") == []


@asynccontextmanager
async def client_of(server: Server) -> AsyncIterator[RawClient]:
    """Open a connected client with its own session; the whole test has a deadline."""
    with anyio.fail_after(PATIENCE_SECONDS):
        client = await RawClient.open(server.url, Runtime())
        try:
            assert "result" in await client.answer(client.connect(sessionId=uuid.uuid4().hex))
            yield client
        finally:
            client.cut()
            await client.end()


async def value_of(client: RawClient, path: str, **args: Any) -> Any:
    """Return a query's result."""
    answer = await client.ask("query", udfPath=path, args=args)
    return answer["result"]["value"]


async def call(client: RawClient, kind: str, path: str, **args: Any) -> dict[str, Any]:
    """Return the answer to a call."""
    number = {} if kind == "query" else {"requestId": client._next_id}
    return await client.ask(kind, udfPath=path, args=args, **number)


def refused(answer: dict[str, Any]) -> tuple[str, str | None]:
    """Return name and path of an error answer."""
    data = answer["error"]["data"]
    return data["name"], data.get("path")


# Mistakes of callers and functions.

NO_ID = "neither-number-nor-id"

WRONG: list[tuple[str, str, dict[str, Any], str, str | None]] = [
    ("mutation", "app:add_large", {}, "ValueTooLarge", None),
    ("mutation", "app:add_deep", {}, "ValueTooLarge", None),
    ("query", "app:deep", {}, "InvalidResult", None),
    ("query", "app:find", {"note": NO_ID}, "InvalidArguments", "$.note"),
    ("mutation", "app:delete", {"note": NO_ID}, "InvalidArguments", "$.note"),
    ("query", "app:find_untyped", {"text": NO_ID}, "InvalidId", None),
    ("mutation", "app:add_with_id", {"text": NO_ID}, "InvalidId", None),
    ("query", "app:raising", {}, "FunctionFailed", None),
    ("mutation", "app:add_and_raise", {}, "FunctionFailed", None),
    ("action", "app:act_and_raise", {}, "FunctionFailed", None),
    ("query", "app:unserialisable", {}, "InvalidResult", None),
    ("mutation", "app:add_and_return", {}, "InvalidResult", None),
    ("action", "app:act_and_return", {}, "InvalidResult", None),
    ("query", "app:not_what_it_says", {}, "InvalidResult", "$"),
    ("mutation", "app:add_and_lie", {}, "InvalidResult", "$"),
    ("mutation", "app:count", {}, "WrongFunctionKind", None),
    ("action", "app:count", {}, "WrongFunctionKind", None),
    ("mutation", "app:nothing", {}, "FunctionNotFound", None),
    ("action", "app:nothing", {}, "FunctionNotFound", None),
    ("mutation", "app:add_note", {"size": "large"}, "InvalidArguments", "$.size"),
]


@pytest.mark.parametrize(("kind", "path", "args", "name", "place"), WRONG, ids=[f"{w[1]}-{w[3]}" for w in WRONG])
async def test_a_failed_call_writes_nothing_and_the_connection_continues(
    server: Server, kind: str, path: str, args: dict[str, Any], name: str, place: str | None
) -> None:
    """The error has its stable name and, if applicable, its path; the same socket answers the next request."""
    async with client_of(server) as client:
        before = await value_of(client, "app:count")
        answer = await call(client, kind, path, **args)
        assert refused(answer)[0] == name
        if place is not None:
            assert refused(answer)[1] == place
        assert "the secret" not in json.dumps(answer)
        assert await value_of(client, "app:count") == before


@pytest.mark.parametrize(
    ("kind", "path", "argument", "name"),
    [
        ("query", "app:find", "note", "InvalidArguments"),
        ("mutation", "app:delete", "note", "InvalidArguments"),
        ("mutation", "app:add_with_id", "text", "WrongTable"),
    ],
)
async def test_an_id_of_another_table_is_refused(
    server: Server, kind: str, path: str, argument: str, name: str
) -> None:
    """The id is refused as an argument and inside the function; its document remains."""
    async with client_of(server) as client:
        person = (await call(client, "mutation", "app:add_person"))["result"]["value"]
        before = await value_of(client, "app:count")
        assert refused(await call(client, kind, path, **{argument: person}))[0] == name
        assert await value_of(client, "app:count") == before


@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
async def test_arguments_nested_too_deep_are_refused(server: Server, depth: int) -> None:
    """One level too many, or enough to overflow a careless decoder's stack, is refused; the connection continues."""
    async with client_of(server) as client:
        text = (
            '{"jsonrpc":"2.0","id":"deep","method":"tinyvex/query","params":{"udfPath":"app:echo","args":{"value":%s}}}'
        )
        client.send_text(text % ("[" * depth + "]" * depth))
        answer = await client.message(lambda message: message.get("id", 0) in ("deep", None))
        assert refused(answer)[0] in ("InvalidArguments", "InvalidParams")
        assert await value_of(client, "app:echo", value=[1]) == [1]


async def test_live_queries_fail_one_by_one(server: Server) -> None:
    """In one change of the query set each bad query is its own `QueryFailed`, and the good one has its value."""
    async with client_of(server) as client:
        asked = [(path, args, name) for kind, path, args, name, _ in WRONG if kind == "query"]
        asked.append(("app:echo", {"value": "good"}, ""))
        adds = [
            {"type": "Add", "queryId": number, "udfPath": path, "args": args}
            for number, (path, args, _) in enumerate(asked)
        ]
        client.send("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)
        transition = await client.notification("transition")
        changes = {change["queryId"]: change for change in transition["params"]["modifications"]}
        names = [changes[number].get("error", {}).get("data", {}).get("name", "") for number in range(len(asked))]
        assert names == [name for _, _, name in asked]
        assert changes[len(asked) - 1]["value"] == "good"


async def test_an_announced_huge_frame_is_refused_early(server: Server) -> None:
    """At the real limit, MessageTooLarge and 1009 follow the frame's head, before any of its bytes arrive."""
    async with client_of(server) as client, client_of(server) as other:
        assert client._transport is not None
        size = limits.MESSAGE_BYTES_MAX + 1
        client._transport.write(b"\x81\xff" + size.to_bytes(8, "big") + b"\x00\x00\x00\x00" + b"x" * 100)
        assert await client.end() == 1009
        assert client.messages[-1]["params"]["error"]["data"]["name"] == "MessageTooLarge"
        assert await value_of(other, "app:echo", value=1) == 1


# Functions that never return.

STUCK_APP = """
import time

import stage
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

def spin():
    while not stage.released.is_set():
        pass

def swallow():
    while not stage.released.is_set():
        try:
            spin()
        except BaseException:
            pass

def wait():
    stage.released.wait()

def sleep():
    time.sleep(0 if stage.released.is_set() else 5)

WAYS = {way.__name__: way for way in (spin, swallow, wait, sleep)}

@tv.query
def texts(ctx: tv.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note)]

@tv.mutation
def add(ctx: tv.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))

@tv.query
def stuck_query(ctx: tv.QueryCtx, way: str) -> str:
    ctx.db.query(Note).collect()
    stage.entered.set()
    WAYS[way]()
    return "done"

@tv.mutation
def stuck_mutation(ctx: tv.MutationCtx, way: str) -> str:
    ctx.db.insert(Note(text="of the stuck one"))
    stage.entered.set()
    WAYS[way]()
    return "done"
"""


class Stage(ModuleType):
    """The state shared by a test and its app's functions; the app imports it."""

    def __init__(self) -> None:
        super().__init__("stage")
        self.entered = threading.Event()
        """Set while a function is stuck."""
        self.released = threading.Event()
        """Set to release stuck functions."""

    async def reached(self) -> None:
        """Wait until a function is stuck."""
        assert await asyncio.to_thread(self.entered.wait, PATIENCE_SECONDS)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Provide the point at which functions get stuck; release them at the end, so that their threads end."""
    monkeypatch.setattr("tinyvex.storage.engine.time_limit.FUNCTION_GRACE_SECONDS", 0.1)
    made = Stage()
    monkeypatch.setitem(sys.modules, "stage", made)
    yield made
    made.released.set()


@contextmanager
def serving_stuck(folder: Path, function_seconds: float) -> Iterator[Server]:
    """Run a server on a thread of its own, whose functions get stuck."""
    (folder / "app.py").write_text(STUCK_APP)
    options = ServerOptions(app=folder / "app.py", data=folder / "data", function_seconds=function_seconds)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Server(options)) as running:
        yield running


WAYS_TO_BE_STUCK = ["spin", "swallow", "wait", "sleep"]


@pytest.mark.parametrize("way", ["spin", "wait"])
async def test_while_a_mutation_runs_others_are_served(stage: Stage, tmp_path: Path, way: str) -> None:
    """While a mutation runs, pings and queries of other clients are answered; only mutations wait."""
    with serving_stuck(tmp_path, 60) as server:
        async with client_of(server) as one, client_of(server) as other:
            stuck = one.send("mutation", requestId=1, udfPath="app:stuck_mutation", args={"way": way})
            await stage.reached()
            for _ in range(3):
                assert "result" in await other.ask("ping")
                assert await value_of(other, "app:texts") == []
            waiting = other.send("mutation", requestId=1, udfPath="app:add", args={"text": "later"})
            stage.released.set()
            assert (await one.answer(stuck))["result"]["value"] == "done"
            assert "result" in await other.answer(waiting)


@pytest.mark.parametrize("way", ["spin", "wait"])
async def test_while_a_query_runs_others_are_served(stage: Stage, tmp_path: Path, way: str) -> None:
    """While a query runs, other clients' mutations commit and their live queries advance."""
    with serving_stuck(tmp_path, 60) as server:
        async with client_of(server) as one, client_of(server) as other:
            stuck = one.send("query", udfPath="app:stuck_query", args={"way": way})
            await stage.reached()
            add = {"type": "Add", "queryId": 0, "udfPath": "app:texts", "args": {}}
            await other.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
            assert "result" in await call(other, "mutation", "app:add", text="new")
            await other.message(lambda message: values_in(message) == [["new"]])
            assert "result" in await other.ask("ping")
            stage.released.set()
            assert (await one.answer(stuck))["result"]["value"] == "done"


def values_in(message: dict[str, Any]) -> list[Any]:
    """Return the values in a transition."""
    if message.get("method") != "tinyvex/transition":
        return []
    return [change.get("value") for change in message["params"]["modifications"]]


@pytest.mark.parametrize("way", WAYS_TO_BE_STUCK)
async def test_a_mutation_that_never_returns_is_abandoned(stage: Stage, tmp_path: Path, way: str) -> None:
    """The caller gets TimeLimitExceeded, nothing is written, and a waiting mutation of another client commits."""
    with serving_stuck(tmp_path, LIMIT_SECONDS) as server:
        async with client_of(server) as one, client_of(server) as other:
            stuck = one.send("mutation", requestId=1, udfPath="app:stuck_mutation", args={"way": way})
            await stage.reached()
            waiting = other.send("mutation", requestId=1, udfPath="app:add", args={"text": "of the other"})
            assert refused(await one.answer(stuck))[0] == "TimeLimitExceeded"
            assert "result" in await other.answer(waiting)
            assert await value_of(one, "app:texts") == ["of the other"]
    assert check_folder(tmp_path / "data") == []


@pytest.mark.parametrize("way", WAYS_TO_BE_STUCK)
async def test_queries_that_never_return_are_abandoned(stage: Stage, tmp_path: Path, way: str) -> None:
    """The callers get TimeLimitExceeded; although every reader was occupied, other queries are answered."""
    with serving_stuck(tmp_path, LIMIT_SECONDS) as server:
        async with client_of(server) as one, client_of(server) as other:
            stuck = [
                one.send("query", udfPath="app:stuck_query", args={"way": way}) for _ in range(limits.READER_THREADS)
            ]
            await stage.reached()
            waiting = other.send("query", udfPath="app:texts", args={})
            assert (await other.answer(waiting))["result"]["value"] == []
            assert [refused(await one.answer(number))[0] for number in stuck] == ["TimeLimitExceeded"] * len(stuck)


async def test_a_live_query_that_never_returns_fails_alone(stage: Stage, tmp_path: Path) -> None:
    """
    The connection's other query arrives with the failure; when the stuck query returns at the next commit, so does its
    value.
    """
    with serving_stuck(tmp_path, LIMIT_SECONDS) as server:
        async with client_of(server) as client:
            adds = [
                {"type": "Add", "queryId": 0, "udfPath": "app:stuck_query", "args": {"way": "spin"}},
                {"type": "Add", "queryId": 1, "udfPath": "app:texts", "args": {}},
            ]
            client.send("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)
            transition = await client.notification("transition")
            stuck, good = sorted(transition["params"]["modifications"], key=lambda change: change["queryId"])
            assert stuck["error"]["data"]["name"] == "TimeLimitExceeded"
            assert good["value"] == []
            stage.released.set()
            await call(client, "mutation", "app:add", text="new")
            await client.message(lambda message: "done" in values_in(message))


# The data folder.

FILES_APP = """
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

@tv.table("others")
class Other(tv.Document):
    text: str

@tv.mutation
def add(ctx: tv.MutationCtx, number: int, size: int) -> int:
    ctx.db.insert(Note(text=f"{number} " + "x" * size))
    return number

@tv.mutation
def add_other(ctx: tv.MutationCtx) -> None:
    ctx.db.insert(Other(text="one"))

@tv.query
def numbers(ctx: tv.QueryCtx) -> list[int]:
    return [int(note.text.split()[0]) for note in ctx.db.query(Note)]

@tv.query
def others(ctx: tv.QueryCtx) -> int:
    return len(ctx.db.query(Other).collect())
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(FILES_APP)
    return path


def without_privileges() -> None:
    """Drop CAP_DAC_OVERRIDE in a child process, so that permissions also bind root (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails without the capability


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that is expected to end."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=START_SECONDS, env=ENVIRONMENT, check=False, **options
    )


def serve(app: Path, data: Path) -> list[str]:
    return [sys.executable, "-m", "tinyvex", "serve", str(app), "--data", str(data), "--no-token"]


def fill(app: Path, data: Path, count: int) -> None:
    """Create a closed database with notes of 10,000 bytes and one other document."""
    with ServerProcess(app, data, "--no-token") as server:
        with connect_blocking(server.url) as client:
            for number in range(count):
                client.mutation("app:add", {"number": number, "size": 10_000})
            client.mutation("app:add_other")
        assert server.terminate() == 0


needs_binding_permissions = pytest.mark.skipif(
    sys.platform == "win32" or (sys.platform != "linux" and os.geteuid() == 0),
    reason="permissions must bind: neither Windows, nor root where it cannot give that up",
)


@needs_binding_permissions
def test_a_read_only_folder(app: Path, tmp_path: Path) -> None:
    """Exit code 22; the files are unchanged, and with the permission restored the server starts with all data."""
    data = tmp_path / "data"
    fill(app, data, 3)
    files = {path.name: path.read_bytes() for path in data.iterdir()}
    for path in data.iterdir():
        path.chmod(0o400)
    data.chmod(0o500)
    ended = run(serve(app, data), preexec_fn=without_privileges)
    assert (ended.returncode, ended.stdout) == (errors.DataFolderUnusable.exit_code, ""), ended.stderr
    assert "DataFolderUnusable" in ended.stderr
    assert {path.name: path.read_bytes() for path in data.iterdir()} == files
    data.chmod(0o700)
    for path in data.iterdir():
        path.chmod(0o600)
    with ServerProcess(app, data, "--no-token") as server, connect_blocking(server.url) as client:
        assert client.query("app:numbers") == [0, 1, 2]


@needs_binding_permissions
def test_a_folder_that_cannot_be_made(app: Path, tmp_path: Path) -> None:
    """Exit code 22, with the path."""
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o500)
    ended = run(serve(app, parent / "data"), preexec_fn=without_privileges)
    assert (ended.returncode, ended.stdout) == (errors.DataFolderUnusable.exit_code, ""), ended.stderr
    assert str(parent / "data") in ended.stderr
    assert list(parent.iterdir()) == []


class SmallDisk:
    """A file system of a few MB, visible only to the processes started in it; it vanishes with the last of them."""

    SCRIPT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec cat'

    def __init__(self, folder: Path, size_bytes: int) -> None:
        folder.mkdir()
        self.folder = folder
        options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
        self.holder = subprocess.Popen(
            ["unshare", *options, "sh", "-c", self.SCRIPT, "sh", str(size_bytes), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.holder.stdout is not None
        self.mounted = self.holder.stdout.readline() == "mounted\n"
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--mount", *user, "--"]
        self.seen_from_outside = Path(f"/proc/{self.holder.pid}/root") / folder.relative_to("/")

    def fill(self, name: str = "filler", *, leave_pages: int = 0) -> Path:
        """Write a file until only this much of the disk is free."""
        path = self.seen_from_outside / name
        with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        os.truncate(path, path.stat().st_size - leave_pages * 4096)
        return path

    def close(self) -> None:
        self.holder.communicate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("needs unshare and nsenter (util-linux) to make a small file system")
    disk = SmallDisk(tmp_path / "disk", 4 << 20)
    try:
        if not disk.mounted:
            pytest.skip("this user may not mount a file system of their own here")
        yield disk
    finally:
        disk.close()


def test_a_full_disk_while_serving(app: Path, small_disk: SmallDisk, tmp_path: Path) -> None:
    """A write that does not fit gets DiskFull; the process continues, and every acknowledged write is present."""
    data = small_disk.folder / "data"
    server = ServerProcess(app, data, "--no-token")
    server.command = [*small_disk.enter, *server.command]
    with server, connect_blocking(server.url) as client:
        acknowledged = [client.mutation("app:add", {"number": 0, "size": 1})]
        filler = small_disk.fill()
        with pytest.raises(RemoteError) as refused:
            for number in range(1, 10):
                # One by one, not through `extend`: those before the error count.
                acknowledged.append(client.mutation("app:add", {"number": number, "size": 500_000}))  # noqa: PERF401
        assert refused.value.name == "DiskFull"
        assert client.query("app:numbers") == acknowledged
        filler.unlink()
        acknowledged.append(client.mutation("app:add", {"number": 10, "size": 500_000}))
        assert client.query("app:numbers") == acknowledged
        assert server.terminate() == 0
    shutil.copytree(small_disk.seen_from_outside / "data", tmp_path / "copy")
    assert check_folder(tmp_path / "copy") == []
    with ServerProcess(app, tmp_path / "copy", "--no-token") as again, connect_blocking(again.url) as client:
        assert client.query("app:numbers") == acknowledged


@pytest.mark.parametrize("pages_left", [20, 100], ids=["without room to record calls", "with room"])
def test_a_disk_that_is_full_before_the_first_call(app: Path, small_disk: SmallDisk, pages_left: int) -> None:
    """The process answers queries, refuses writes and runs on, although its record of running calls is mapped memory."""
    server = ServerProcess(app, small_disk.folder / "data", "--no-token")
    server.command = [*small_disk.enter, *server.command]
    with server:
        with connect_blocking(server.url) as client:
            client.mutation("app:add", {"number": 0, "size": 1})
        assert server.terminate() == 0
        filler = small_disk.fill(leave_pages=pages_left)
        server.start()
        rest = small_disk.fill("rest")
        with connect_blocking(server.url) as client:
            assert client.query("app:numbers") == [0]
            with pytest.raises(RemoteError, match="the disk is full"):
                client.mutation("app:add", {"number": 1, "size": 500_000})
            filler.unlink()
            rest.unlink()
            assert client.mutation("app:add", {"number": 2, "size": 500_000}) == 2
        assert server.terminate() == 0


def test_a_full_disk_at_the_start(app: Path, small_disk: SmallDisk) -> None:
    """Exit code 23 without room for a new database; with room, the next start succeeds."""
    filler = small_disk.fill(leave_pages=1)
    data = small_disk.folder / "data"
    ended = run([*small_disk.enter, *serve(app, data)])
    assert (ended.returncode, ended.stdout) == (errors.DiskFull.exit_code, ""), ended.stderr
    assert "DiskFull" in ended.stderr
    filler.unlink()
    server = ServerProcess(app, data, "--no-token")
    server.command = [*small_disk.enter, *server.command]
    with server, connect_blocking(server.url) as client:
        assert client.mutation("app:add", {"number": 1, "size": 1}) == 1


@pytest.mark.parametrize("pages_left", [1, 30, -1])
def test_a_truncated_file(app: Path, tmp_path: Path, pages_left: int) -> None:
    """Exit code 24; the rest of the file is not modified."""
    data = tmp_path / "data"
    fill(app, data, 20)
    path = data / "data.sqlite3"
    left = path.read_bytes()[: pages_left * 4096]
    path.write_bytes(left)
    ended = run(serve(app, data))
    assert (ended.returncode, ended.stdout) == (errors.FileDamaged.exit_code, ""), ended.stderr
    assert "FileDamaged" in ended.stderr
    assert path.read_bytes() == left


def test_a_file_damaged_where_only_some_queries_look(app: Path, tmp_path: Path) -> None:
    """Queries of the damaged part fail with FileDamaged every time; the process continues to serve other tables."""
    data = tmp_path / "data"
    fill(app, data, 20)
    path = data / "data.sqlite3"
    content = path.read_bytes()
    place = content.index(b"7 xxxxxxxx") // 4096 * 4096
    path.write_bytes(content[:place] + b"\x55" * 8192 + content[place + 8192 :])
    with ServerProcess(app, data, "--no-token") as server, connect_blocking(server.url) as client:
        for _ in range(2):
            with pytest.raises(RemoteError) as damaged:
                client.query("app:numbers")
            assert damaged.value.name == "FileDamaged"
            assert client.query("app:others") == 1
    assert check_folder(data) != []


def test_a_file_of_a_newer_version_is_not_touched(app: Path, tmp_path: Path) -> None:
    """Exit code 25; every byte stays, and the version that wrote it finds all data."""
    data = tmp_path / "data"
    fill(app, data, 3)
    path = data / "data.sqlite3"
    version = set_version(path, 1_000_000)
    before = path.read_bytes()
    ended = run(serve(app, data))
    assert (ended.returncode, ended.stdout) == (errors.FileTooNew.exit_code, ""), ended.stderr
    assert path.read_bytes() == before
    set_version(path, version)
    with ServerProcess(app, data, "--no-token") as server, connect_blocking(server.url) as client:
        assert client.query("app:numbers") == [0, 1, 2]


def set_version(path: Path, version: int) -> int:
    """Write the file's version; return the previous one."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (before,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version}")
    return int(before)


def test_a_locked_folder_names_its_holder_and_leaves_it_alone(app: Path, tmp_path: Path) -> None:
    """Exit code 21 with the process id; the owner's client notices nothing."""
    data = tmp_path / "data"
    with ServerProcess(app, data, "--no-token") as server, connect_blocking(server.url) as client:
        client.mutation("app:add", {"number": 0, "size": 1})
        ended = run(serve(app, data))
        assert (ended.returncode, ended.stdout) == (errors.DataFolderLocked.exit_code, ""), ended.stderr
        assert str(server.process.pid) in ended.stderr
        client.mutation("app:add", {"number": 1, "size": 1})
        assert client.query("app:numbers") == [0, 1]
