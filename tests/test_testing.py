"""`tv.testing.Database`, for users' tests of their functions."""

import asyncio
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

import tinyvex as tv
from tinyvex.errors import InvalidArguments, InvalidResult, UnknownTable, WrongFunctionKind
from tinyvex.testing import FIRST_NOW

CHAT = Path(__file__).resolve().parent.parent / "examples" / "chat" / "app.py"


@tv.table("letters", indexes={"by_channel": ["channel"]})
class Message(tv.Document):
    channel: str
    body: str


@tv.query
def recent(ctx: tv.QueryCtx, channel: str, limit: int = 50) -> tv.Rows[Message]:
    return ctx.db.query(Message).with_index("by_channel", channel=channel).order("desc").take(limit)


@tv.mutation
def send(ctx: tv.MutationCtx, channel: str, body: str) -> tv.Id[Message]:
    ctx.log("sending")
    return ctx.db.insert(Message(channel=channel, body=body))


@tv.query
def wrong_result(ctx: tv.QueryCtx) -> int:
    return "3"  # type: ignore[return-value]


@tv.action
async def post(ctx: tv.ActionCtx, body: str) -> str:
    await asyncio.to_thread(str)
    message = await ctx.run_mutation(send, channel="general", body=body)
    ctx.log("posted")
    return message


def test_three_lines() -> None:
    """A test needs nothing but the functions."""
    with tv.testing.Database() as db:
        db.mutation(send, channel="general", body="Hello")
        assert [message.body for message in db.query(recent, channel="general")] == ["Hello"]


def test_results_are_typed() -> None:
    """A result has the annotated type, as another function would receive it."""
    with tv.testing.Database() as db:
        message = db.mutation(send, "general", "Hello")
        rows = db.query(recent, channel="general")
        assert isinstance(rows, tv.Rows)
        assert isinstance(rows[0], Message)
        assert rows[0].id == message


def test_databases_are_separate() -> None:
    """Each database is empty at first."""
    with tv.testing.Database() as one, tv.testing.Database() as two:
        one.mutation(send, "general", "Hello")
        assert two.query(recent, "general") == []


def test_actions() -> None:
    """An action runs to its end; its writes are visible afterwards."""
    with tv.testing.Database() as db:
        message = db.action(post, body="Hello")
        assert db.log_lines == ["[INFO] sending", "[INFO] posted"]
        assert db.query(recent, "general")[0].id == message
        assert db.log_lines == []


async def test_actions_inside_a_running_loop() -> None:
    """An action also runs in an asynchronous test."""
    with tv.testing.Database() as db:
        assert db.action(post, body="Hello") == db.query(recent, "general")[0].id


async def test_failing_actions_inside_a_running_loop() -> None:
    """The exception reaches the test."""

    async def failing(ctx: tv.ActionCtx) -> None:
        raise tv.AppError("no")

    with tv.testing.Database() as db, pytest.raises(tv.AppError):
        db.action(failing)


def test_arguments_are_checked() -> None:
    """Arguments are validated like a client's."""
    with tv.testing.Database() as db, pytest.raises(InvalidArguments, match=r"\$\.channel: expected str, got int"):
        db.query(recent, channel=3)  # type: ignore[arg-type]


def test_results_are_checked() -> None:
    """Results are validated as on a server."""
    with tv.testing.Database() as db, pytest.raises(InvalidResult, match="expected int, got str"):
        db.query(wrong_result)


def test_kinds_are_checked() -> None:
    """A mutation cannot be run as a query."""
    with tv.testing.Database() as db, pytest.raises(WrongFunctionKind):
        db.query(send, "general", "Hello")  # type: ignore[arg-type]


def test_exceptions_arrive_unchanged() -> None:
    """The test receives the function's exception; nothing was written."""

    def failing(ctx: tv.MutationCtx) -> None:
        send(ctx, "general", "Hello")
        raise ZeroDivisionError

    with tv.testing.Database() as db:
        with pytest.raises(ZeroDivisionError):
            db.mutation(failing)
        assert db.query(recent, "general") == []


def test_undecorated_functions() -> None:
    """A test can inspect and fill the database with functions of its own."""
    with tv.testing.Database() as db:
        db.mutation(lambda ctx: ctx.db.insert(Message(channel="general", body="Hello")))
        assert db.query(lambda ctx: ctx.db.query(Message).count()) == 1


def test_time_stands_still() -> None:
    """The clock shows what the test has set; each mutation is still later than the one before."""
    with tv.testing.Database() as db:
        db.mutation(send, "general", "one")
        db.mutation(send, "general", "two")
        db.now += 3_600_000_000
        db.mutation(send, "general", "three")
        times = [round(message.creation_time * 1000) - FIRST_NOW for message in reversed(db.query(recent, "general"))]
        assert times == [0, 1, 3_600_000_000]


def test_runs_repeat() -> None:
    """Two runs make the same ids."""

    def once() -> str:
        with tv.testing.Database() as db:
            return db.mutation(send, "general", "Hello")

    assert once() == once()


def test_identity_can_change() -> None:
    """The identity is an attribute."""
    with tv.testing.Database() as db:
        assert db.query(lambda ctx: ctx.auth) is None
        db.identity = {"name": "Ann"}
        assert db.query(lambda ctx: ctx.auth) == {"name": "Ann"}


def test_log_lines() -> None:
    """The log lines of the last function are available."""
    with tv.testing.Database() as db:
        db.mutation(send, "general", "Hello")
        assert db.log_lines == ["[INFO] sending"]


def test_an_app_by_path() -> None:
    """A whole app can be loaded; its functions are then known by path."""

    async def add(ctx: tv.ActionCtx) -> int:
        await ctx.run_mutation("app:create_channel", name="general")
        return len(await ctx.run_query("app:channels"))

    with tv.testing.Database(CHAT) as db:
        assert db.action(add) == 1


def test_tables_of_other_modules() -> None:
    """Classes and modules that functions do not lead to are passed to the constructor."""
    other = ModuleType("other")
    exec("import tinyvex as tv\nnotes = tv.table('notes')", vars(other))
    sys.modules["other"] = other

    def count(ctx: tv.QueryCtx) -> int:
        return ctx.db.query("notes").count()

    try:
        with tv.testing.Database(other) as db:
            assert db.query(count) == 0
        with tv.testing.Database() as db, pytest.raises(UnknownTable):
            db.query(count)
    finally:
        del sys.modules["other"]


def test_no_threads_are_left() -> None:
    """A database in memory starts no threads of its own."""
    before = threading.active_count()
    with tv.testing.Database() as db:
        db.mutation(send, "general", "Hello")
        assert threading.active_count() == before
