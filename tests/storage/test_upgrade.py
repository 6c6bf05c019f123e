"""Files of every released format open, are sound, return the same data, and can be written."""

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.make import APP, HERE, SECOND_US, make, results, stepped_runtime
from tests.support.raw import RawClient
from tinyvex.server.server import Server, ServerOptions
from tinyvex.storage.file.pragmas import FORMAT_VERSION
from tinyvex.storage.maintenance.check import check_folder

FIXTURES = sorted(HERE.glob("format-*.sqlite3"))


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def fixture(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def expected(fixture: Path) -> dict[str, Any]:
    contents: dict[str, Any] = json.loads(fixture.with_suffix(".json").read_text("utf-8"))
    return contents


@pytest.fixture
def data(fixture: Path, tmp_path: Path) -> Path:
    """Create a data folder with a copy of the file."""
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copyfile(fixture, folder / "data.sqlite3")
    return folder


@asynccontextmanager
async def served(data: Path, expected: dict[str, Any]) -> AsyncIterator[tuple[Server, RawClient]]:
    """Serve the folder an hour after its last commit, with a client that continues the session."""
    runtime = stepped_runtime(expected["calls"][-1]["answer"]["ts"] + 3600 * SECOND_US)
    async with Server(ServerOptions(app=APP, data=data), runtime) as server:
        client = await RawClient.open(server.url, runtime)
        await client.answer(client.connect(sessionId=expected["session"]))
        yield server, client
        client.cut()


def test_every_format_has_its_file() -> None:
    """Every format has a file; `tests/fixtures/make.py` creates a new one."""
    assert [path.stem for path in FIXTURES] == sorted(f"format-{number}" for number in range(1, FORMAT_VERSION + 1))


def test_a_file_is_of_its_format(fixture: Path) -> None:
    """No newer version has rewritten the file."""
    connection = sqlite3.connect(f"{fixture.as_uri()}?mode=ro&immutable=1", uri=True)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    assert fixture.stem == f"format-{version}"


async def test_it_is_the_same_database(data: Path, expected: dict[str, Any]) -> None:
    """Connected clients continue: identity and epoch are unchanged."""
    async with served(data, expected) as (server, _):
        assert (server.store.database_id, server.store.epoch) == (expected["database"], expected["epoch"])


async def test_it_is_whole(data: Path, expected: dict[str, Any]) -> None:
    """The storage invariants hold once it is open."""
    async with served(data, expected):
        pass
    assert check_folder(data) == []


async def test_its_documents_are_there(data: Path, expected: dict[str, Any]) -> None:
    """Every query returns its last result, from tables and from indexes."""
    async with served(data, expected) as (_, client):
        assert await results(client) == expected["calls"][-1]["results"]


async def test_its_history_is_there(data: Path, expected: dict[str, Any]) -> None:
    """At each commit's timestamp every query returns its result of that time, including documents deleted since."""
    async with served(data, expected) as (_, client):
        for call in expected["calls"]:
            assert await results(client, call["answer"]["ts"]) == call["results"]


async def test_its_mutations_happened_once(data: Path, expected: dict[str, Any]) -> None:
    """A resent mutation returns its first answer and changes nothing."""
    async with served(data, expected) as (_, client):
        for call in expected["calls"]:
            assert (await client.ask("mutation", **call["params"]))["result"] == call["answer"]
        assert await results(client) == expected["calls"][-1]["results"]


async def test_it_can_be_written(data: Path, expected: dict[str, Any]) -> None:
    """New data survives another start, the rest is unchanged, and the file is sound."""
    async with served(data, expected) as (_, client):
        added = {"requestId": len(expected["calls"]), "udfPath": "app:add", "args": {"kind": "a", "n": 6}}
        answer = (await client.ask("mutation", **added))["result"]
        before = expected["calls"][-1]
        assert answer["ts"] > before["answer"]["ts"]
    async with served(data, expected) as (_, client):
        assert (await results(client))[1] == sorted([*before["results"][1], 6])
        assert await results(client, before["answer"]["ts"]) == before["results"]
        assert (await client.ask("mutation", **added))["result"] == answer
    assert check_folder(data) == []


async def test_the_script_still_makes_the_newest(tmp_path: Path) -> None:
    """The script creates the same contents as when the file was made."""
    made = json.loads(json.dumps(await make(tmp_path)))
    assert made == json.loads((HERE / f"format-{FORMAT_VERSION}.json").read_text("utf-8"))
