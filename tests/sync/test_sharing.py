"""
Sharing: one computation for many clients, no message for untouched ones, no result for another identity; on a real
server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from tests.support.raw import RawClient
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server, ServerOptions

PATIENCE_SECONDS = 30.0

APP = """
import tinyvex as tv

@tv.table("notes", indexes={"by_room": ["room"]})
class Note(tv.Document):
    room: str
    text: str

@tv.query
def texts(ctx: tv.QueryCtx, room: str) -> list[str]:
    return [note.text for note in ctx.db.query(Note).with_index("by_room", room=room)]

@tv.query
def some_texts(ctx: tv.QueryCtx, room: str, limit: int) -> list[str]:
    return texts(ctx, room)[:limit]

@tv.query
def rows(ctx: tv.QueryCtx, room: str) -> tv.Rows[Note]:
    return ctx.db.query(Note).with_index("by_room", room=room).collect()

@tv.query
def is_empty(ctx: tv.QueryCtx, room: str) -> bool:
    return ctx.db.query(Note).with_index("by_room", room=room).first() is None

@tv.query
def only(ctx: tv.QueryCtx, room: str) -> str:
    found = ctx.db.query(Note).with_index("by_room", room=room).take(2)
    if len(found) != 1:
        raise tv.AppError({"found": len(found)})
    return found[0].text

@tv.query
def mine(ctx: tv.QueryCtx) -> list[object]:
    name = "anonymous" if ctx.auth is None else ctx.auth["name"]
    return [name, [note.text for note in ctx.db.query(Note).with_index("by_room", room=name)]]

@tv.query
def mine_if_anything(ctx: tv.QueryCtx) -> list[object]:
    if ctx.db.query(Note).with_index("by_room", room="switch").first() is None:
        return ["for all"]
    return ["anonymous" if ctx.auth is None else ctx.auth["name"]]

@tv.mutation
def add(ctx: tv.MutationCtx, room: str, text: str = "") -> tv.Id[Note]:
    return ctx.db.insert(Note(room=room, text=text))

@tv.mutation
def rewrite(ctx: tv.MutationCtx, room: str, text: str) -> None:
    for note in ctx.db.query(Note).with_index("by_room", room=room).collect():
        ctx.db.patch(note.id, text=text)

@tv.mutation
def clear(ctx: tv.MutationCtx, room: str) -> None:
    for note in ctx.db.query(Note).with_index("by_room", room=room).collect():
        ctx.db.delete(note.id)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on a thread of its own."""
    (tmp_path / "app.py").write_text(APP)
    options = ServerOptions(app=tmp_path / "app.py", data=tmp_path / "data")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Server(options)) as running:
        yield running


class Person:
    """A client that records every result of each of its queries."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self.query_set = 0
        self.identity = 0
        self._requests = 0

    async def ask(self, method: str, **params: Any) -> Any:
        answer = await self.raw.ask(method, **params)
        assert "result" in answer, answer
        return answer["result"]

    async def change(self, *modifications: dict[str, Any]) -> None:
        """Change the query set and wait for its transition."""
        base, self.query_set = self.query_set, self.query_set + 1
        await self.ask("modifyQuerySet", baseVersion=base, newVersion=self.query_set, modifications=modifications)
        await self.reached("querySet", self.query_set)

    async def subscribe(self, query_id: int, path: str, **args: Any) -> None:
        await self.change({"type": "Add", "queryId": query_id, "udfPath": f"app:{path}", "args": args})

    async def mutate(self, path: str, **args: Any) -> int:
        """Run a mutation, wait for its transition, and return its `ts`."""
        self._requests += 1
        result = await self.ask("mutation", requestId=self._requests, udfPath=f"app:{path}", args=args)
        await self.reached("ts", result["ts"])
        return int(result["ts"])

    async def become(self, server: Server, name: str | None) -> None:
        """Act as a user; None for anonymous."""
        acting_as = None if name is None else {"name": name}
        base, self.identity = self.identity, self.identity + 1
        await self.ask("authenticate", baseVersion=base, kind="admin", token=server.admin_token, actingAs=acting_as)
        await self.reached("identity", self.identity)

    async def reached(self, part: str, number: int) -> None:
        """Wait until a transition has reached this version."""
        await self.raw.until(lambda: self.raw.ended or any(end[part] >= number for end in self.versions()))
        assert not self.raw.ended

    def transitions(self) -> list[dict[str, Any]]:
        return [message["params"] for message in self.raw.messages if message.get("method") == "tinyvex/transition"]

    def versions(self) -> list[dict[str, int]]:
        return [params["endVersion"] for params in self.transitions()]

    def results(self, query_id: int) -> list[Any]:
        """Return the values, and failures by name, in order."""
        changes = [change for params in self.transitions() for change in params["modifications"]]
        return [
            change["error"]["data"]["name"] if change["type"] == "QueryFailed" else change.get("value", change["type"])
            for change in changes
            if change["queryId"] == query_id
        ]


@asynccontextmanager
async def people(server: Server, count: int) -> AsyncIterator[list[Person]]:
    """Connected clients; every wait has a deadline."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with AsyncExitStack() as stack:
            names = []
            for number in range(count):
                raw = await RawClient.open(server.url, Runtime())
                stack.push_async_callback(raw.end)
                stack.callback(raw.cut)
                assert "result" in await raw.answer(raw.connect(sessionId=f"session-{number}"))
                names.append(Person(raw))
            yield names


# Computed once.


async def test_a_hundred_clients_cost_one_computation_per_commit(server: Server) -> None:
    """All clients receive the same value at the same version."""
    async with people(server, 100) as crowd:
        for person in crowd:
            await person.subscribe(0, "texts", room="a")
        assert server.counters.live_queries == 1
        before = server.counters.recomputations
        assert before == 1
        for number in range(1, 4):
            ts = await crowd[0].mutate("add", room="a", text=str(number))
            for person in crowd:
                await person.reached("ts", ts)
            assert server.counters.recomputations == before + number
        assert {tuple(map(tuple, person.results(0))) for person in crowd} == {((), ("1",), ("1", "2"), ("1", "2", "3"))}


async def test_arguments_written_differently_are_the_same_query(server: Server) -> None:
    """Spaces, escapes, the order of names, and 1.0 for 1: canonical arguments decide."""
    ways = ['{"room":"a","limit":1}', '{ "limit" : 1.0, "r\\u006fom" : "\\u0061" }']
    async with people(server, 2) as pair:
        for person, args in zip(pair, ways, strict=True):
            person.raw.send_text(SUBSCRIPTION.replace("ARGS", args))
            await person.reached("querySet", 1)
        assert server.counters.live_queries == 1


SUBSCRIPTION = (
    '{"jsonrpc":"2.0","id":1000,"method":"tinyvex/modifyQuerySet","params":{"baseVersion":0,"newVersion":1,'
    '"modifications":[{"type":"Add","queryId":0,"udfPath":"app:some_texts","args":ARGS}]}}'
)


# Subscribers of a commit.


async def test_a_commit_that_touches_nothing_sends_nothing(server: Server) -> None:
    """The commit lies outside the range that was read, so nothing is computed or sent."""
    async with people(server, 2) as (reader, writer):
        await reader.subscribe(0, "texts", room="a")
        before = (server.counters.recomputations, len(reader.raw.messages))
        for _ in range(5):
            await writer.mutate("add", room="b")
        await reader.ask("ping")
        assert (server.counters.recomputations, len(reader.raw.messages) - 1) == before


async def test_a_commit_that_changes_no_result_sends_nothing(server: Server) -> None:
    """The query is recomputed, because the commit touched its read set, but an equal result is not sent."""
    async with people(server, 2) as (reader, writer):
        await writer.mutate("add", room="a")
        await reader.subscribe(0, "is_empty", room="a")
        await reader.subscribe(1, "texts", room="b")
        before = server.counters.recomputations
        await writer.mutate("rewrite", room="a", text="other")
        await reader.reached("ts", await writer.mutate("add", room="b", text="news"))
        assert server.counters.recomputations == before + 2
        assert server.counters.recomputations_unchanged == 1
        assert (reader.results(0), reader.results(1)) == ([False], [[], ["news"]])


async def test_a_later_commit_in_the_same_range_sends_nothing(server: Server) -> None:
    """`first` reads one document; a later one is outside its read set."""
    async with people(server, 2) as (reader, writer):
        await writer.mutate("add", room="a")
        await reader.subscribe(0, "is_empty", room="a")
        before = len(reader.raw.messages)
        for _ in range(5):
            await writer.mutate("add", room="a")
        await reader.ask("ping")
        assert len(reader.raw.messages) == before + 1
        assert reader.results(0) == [False]


# The life of a query.


async def test_from_error_to_success_and_back(server: Server) -> None:
    """Each result is sent once, and a failing query stays live."""
    async with people(server, 1) as (person,):
        await person.subscribe(0, "only", room="a")
        await person.mutate("add", room="a", text="one")
        await person.mutate("add", room="a", text="two")
        await person.mutate("add", room="b")
        await person.mutate("clear", room="a")
        await person.mutate("add", room="a", text="three")
        assert person.results(0) == ["AppError", "one", "AppError", "AppError", "three"]


async def test_an_empty_result_is_a_result(server: Server) -> None:
    """It is sent first, and again when every document was deleted."""
    async with people(server, 1) as (person,):
        await person.subscribe(0, "rows", room="a")
        await person.mutate("add", room="a", text="one")
        await person.mutate("clear", room="a")
        empty, (row,), again = person.results(0)
        assert (empty, row["text"], again) == ([], "one", [])


async def test_a_query_added_and_removed_in_one_step(server: Server) -> None:
    """The version moves on, only its removal is sent, and no state is left."""
    add = {"type": "Add", "queryId": 0, "udfPath": "app:texts", "args": {"room": "a"}}
    async with people(server, 1) as (person,):
        await person.change(add, {"type": "Remove", "queryId": 0})
        assert person.results(0) in ([], ["QueryRemoved"])
        assert server.counters.live_queries == 0
        heard = len(person.transitions())
        await person.mutate("add", room="a")
        assert person.results(0) in ([], ["QueryRemoved"])
        assert len(person.transitions()) == heard + 1
        await person.change(add)
        assert person.results(0)[-1] == [""]


async def test_a_query_replaced_in_one_step(server: Server) -> None:
    """The same id with other arguments: only values of the new query follow."""
    async with people(server, 1) as (person,):
        await person.mutate("add", room="b", text="of b")
        await person.subscribe(0, "texts", room="a")
        await person.change(
            {"type": "Remove", "queryId": 0},
            {"type": "Add", "queryId": 0, "udfPath": "app:texts", "args": {"room": "b"}},
        )
        await person.mutate("add", room="a", text="of a")
        assert person.results(0)[0] == []
        assert person.results(0)[-1] == ["of b"]
        assert [""] not in person.results(0)
        assert server.counters.live_queries == 1


async def test_all_queries_of_a_connection_show_one_snapshot(server: Server) -> None:
    """Two queries over the same documents never differ, whatever commits between their computations."""
    async with people(server, 2) as (reader, writer):
        await reader.change(
            {"type": "Add", "queryId": 0, "udfPath": "app:texts", "args": {"room": "a"}},
            {"type": "Add", "queryId": 1, "udfPath": "app:rows", "args": {"room": "a"}},
        )
        for number in range(30):
            ts = await writer.mutate("add", room="a", text=str(number))
        await reader.reached("ts", ts)
        results: dict[int, list[Any]] = {}
        for params in reader.transitions():
            results |= {change["queryId"]: change["value"] for change in params["modifications"]}
            assert results[0] == [row["text"] for row in results[1]]
        assert len(results[0]) == 30


# Isolation of identities.


async def test_two_identities_never_see_each_others_result(server: Server) -> None:
    """
    For the same query with the same arguments, each identity receives its own result, at first and after every commit.
    """
    async with people(server, 3) as (ada, eve, anonymous):
        await ada.become(server, "ada")
        await eve.become(server, "eve")
        for person in (ada, eve, anonymous):
            await person.subscribe(0, "mine")
        for room in ("eve", "ada", "anonymous"):
            ts = await anonymous.mutate("add", room=room, text=f"for {room}")
        for person, name in ((ada, "ada"), (eve, "eve"), (anonymous, "anonymous")):
            await person.mutate("add", room="elsewhere")
            assert all(value[0] == name for value in person.results(0))
            await person.raw.until(lambda results=person.results: results(0)[-1][1] != [])
            assert person.results(0)[-1] == [name, [f"for {name}"]]
        assert ts
        assert server.counters.live_queries == 3


async def test_a_shared_query_splits_when_it_reads_the_identity(server: Server) -> None:
    """One result serves all identities until an execution reads the identity; from then on each has its own."""
    async with people(server, 4) as (ada, eve, other_eve, anonymous):
        await ada.become(server, "ada")
        await eve.become(server, "eve")
        await other_eve.become(server, "eve")
        await anonymous.become(server, None)
        everybody = {"ada": ada, "eve": eve, "other eve": other_eve, "anonymous": anonymous}
        for person in everybody.values():
            await person.subscribe(0, "mine_if_anything")
        assert server.counters.live_queries == 1
        ts = await anonymous.mutate("add", room="switch")
        for name, person in everybody.items():
            await person.reached("ts", ts)
            assert person.results(0) == [["for all"], [name.removeprefix("other ")]]
        assert server.counters.live_queries == 3


async def test_a_change_of_identity_takes_effect_immediately(server: Server) -> None:
    """The transition to the new identity contains its results, and no result of the old identity follows."""
    async with people(server, 2) as (person, writer):
        await person.subscribe(0, "mine")
        await person.become(server, "ada")
        ts = await writer.mutate("add", room="anonymous", text="of anonymous")
        ts = await writer.mutate("add", room="ada", text="of ada")
        await person.reached("ts", ts)
        assert person.results(0) == [["anonymous", []], ["ada", []], ["ada", ["of ada"]]]
        place = next(number for number, end in enumerate(person.versions()) if end["identity"] == 1)
        assert person.transitions()[place]["modifications"][0]["value"] == ["ada", []]


async def test_no_client_acts_as_another_without_the_admin_token(server: Server) -> None:
    """The request is refused, and the results stay those of the connection's identity."""
    async with people(server, 1) as (person,):
        await person.subscribe(0, "mine")
        ada = {"name": "ada"}
        answer = await person.raw.ask("authenticate", baseVersion=0, kind="admin", token="a guess", actingAs=ada)
        assert answer["error"]["data"]["name"] == "Unauthenticated"
        await person.mutate("add", room="ada", text="of ada")
        assert all(value[0] == "anonymous" for value in person.results(0))
