"""An app whose classes change with existing documents and watching clients: reads and indexes keep agreeing."""

import asyncio

import pytest

import tinyvex as tv
from tests.support.storage import Blocker
from tinyvex.server.options import ServerOptions
from tinyvex.server.server import Server
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.values.codec import decode

APP = """
from enum import Enum
from typing import Any, Literal

import msgspec

import tinyvex as tv


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Place(msgspec.Struct, frozen=True):
    floor: tv.Int64 = msgspec.field(default_factory=lambda: tv.Int64(1))
    room: str = "hall"


@tv.table("things", indexes=INDEXES)
class Thing(tv.Document):
    number: int
    FIELD


@tv.mutation
def add(ctx: tv.MutationCtx, number: int) -> None:
    ctx.db.insert(Thing(number=number))


@tv.query
def lost(ctx: tv.QueryCtx) -> list[int]:
    '''Those that the index does not find by what is read of them.'''
    found = []
    for thing in ctx.db.query(Thing):
        same = ctx.db.query(Thing).with_index("by_it", **{"PATH": thing.PATH})
        if thing.id not in [other.id for other in same]:
            found.append(thing.number)
    return found


@tv.query
def told(ctx: tv.QueryCtx) -> tv.Rows[Thing]:
    return ctx.db.query(Thing).collect()
"""

CHANGES = {
    "a new field": ("", 'it: str = "open"', "it"),
    "a new optional field": ("", "it: str | None = None", "it"),
    "a new enumeration": ("", "it: Colour = Colour.RED", "it"),
    "a new list": ("", "it: list[tv.Int64] = []", "it"),
    "a new struct": ("", "it: Place = msgspec.field(default_factory=Place)", "it.floor"),
    "a new Int64": ("it: int = 7", "it: tv.Int64 = tv.Int64(8)", "it"),
    "no Int64 any more": ("it: tv.Int64 = tv.Int64(7)", "it: int = 8", "it"),
    "a new kind of number": ("it: int = 7", "it: float = 0.5", "it"),
    "a new choice": ("it: str = 'a'", "it: Literal['a', 'b'] = 'b'", "it"),
    "what was anything": ("it: Any = 7", "it: tv.Int64 = tv.Int64(0)", "it"),
}


def write_app(folder, field, path, indexes):
    text = APP.replace("FIELD", field).replace("PATH", path).replace("INDEXES", repr(indexes))
    (folder / "app.py").write_text(text)


@pytest.mark.parametrize("indexed_before", [False, True])
@pytest.mark.parametrize("change", CHANGES)
async def test_indexes_agree_with_reads(change, indexed_before, tmp_path):
    """Indexes find documents older than the field, its type or the index; a watching client is updated."""
    before, after, path = CHANGES[change]
    indexes = {"by_it": [path]}
    write_app(tmp_path, before or "it: Any = tv.UNSET", path, indexes if before and indexed_before else {})
    if not before:  # a field that no document has
        write_app(tmp_path, "old: str = ''", path, {})
        after += "\n    old: str = ''"
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")
    async with asyncio.timeout(30), Server(options) as server, tv.connect(server.url) as client:
        watched = client.subscribe("app:told")
        for number in range(3):
            await client.mutation("app:add", {"number": number})
        if not before and indexed_before:  # the field first, the index later
            write_app(tmp_path, after, path, {})
            await server.reload()
        write_app(tmp_path, after, path, indexes)
        await server.reload()
        await client.mutation("app:add", {"number": 3})
        assert await client.query("app:lost") == []
        shown = await anext(watched)
        assert [document["number"] for document in shown] == [0, 1, 2, 3]
        assert all("it" in document for document in shown)
    assert check_folder(tmp_path / "data") == []


async def test_returning_to_the_older_class_names_the_obstacle(tmp_path):
    """A return to the older class is refused with the field that documents have by now; the last good code stays."""
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")
    write_app(tmp_path, "old: str = ''", "old", {})
    async with asyncio.timeout(30), Server(options) as server, tv.connect(server.url) as client:
        await client.mutation("app:add", {"number": 0})
        write_app(tmp_path, "it: str = 'open'\n    old: str = ''", "it", {"by_it": ["it"]})
        await server.reload()
        write_app(tmp_path, "old: str = ''", "old", {})
        with pytest.raises(tv.TinyvexError, match=r"\$\.it: unknown field"):
            await server.reload()
        assert await client.query("app:lost") == []


@pytest.mark.parametrize("cancelled_at", range(1, 6))
async def test_the_served_code_is_that_of_the_file_if_a_reload_is_cancelled(cancelled_at, tmp_path, monkeypatch):
    """A stopping server cancels the reload, but not a commit that is queued; mutations may run after it."""
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")
    write_app(tmp_path, "old: str = ''", "old", {})
    async with asyncio.timeout(30), Server(options) as server:
        write_app(tmp_path, "it: str = 'open'\n    old: str = ''", "it", {})
        write, waiting = server.store.write, []

        def queue(unit):
            waiting.append(unit)
            if len(waiting) != cancelled_at:
                return write(unit)
            blocker = Blocker(server.store)
            committed = write(unit)
            reload.cancel()
            reload.add_done_callback(lambda _: blocker.release.set())
            return committed

        monkeypatch.setattr(server.store, "write", queue)
        reload = asyncio.get_running_loop().create_task(server.reload())
        await asyncio.wait([reload])
        await write(lambda snapshot, ts: Outcome(None))  # what was queued is committed
        code = await server.store.read(lambda snapshot: snapshot.get(CODE_TABLET, CODE_INTERNAL))
        assert server.executor.app.fingerprint == decode(code.json)["fingerprint"]
