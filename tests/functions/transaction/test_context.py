"""Contexts: identity, time, randomness, logs, and calls from actions."""

from collections.abc import Callable
from typing import Any

import pytest

import tinyvex as tv
from tinyvex.errors import FunctionNotFound, InvalidArguments, WrongFunctionKind
from tinyvex.functions.transaction.execution import Execution
from tinyvex.testing import FIRST_NOW, Database


@tv.table("things")
class Thing(tv.Document):
    name: str


@tv.query
def count(ctx: tv.QueryCtx) -> int:
    return ctx.db.query(Thing).count()


@tv.query
def names(ctx: tv.QueryCtx, prefix: str = "") -> list[str]:
    return [thing.name for thing in ctx.db.query(Thing) if thing.name.startswith(prefix)]


@tv.internal_mutation
def add(ctx: tv.MutationCtx, name: str) -> tv.Id[Thing]:
    return ctx.db.insert(Thing(name=name))


@tv.action
async def add_twice(ctx: tv.ActionCtx, name: str) -> int:
    await ctx.run_mutation(add, name=name)
    await ctx.run_mutation(add, name)
    return await ctx.run_query(count)


def execution_of(db: Database, work: Callable[[tv.QueryCtx], object]) -> Execution:
    """Run a query and return its execution."""
    found: list[Execution] = []

    def run(ctx: tv.QueryCtx) -> None:
        work(ctx)
        found.append(ctx._execution)

    db.query(run)
    return found[0]


def test_auth() -> None:
    """The context has the identity, and records the access."""
    with Database(identity={"name": "Ann"}) as db:
        assert db.query(lambda ctx: ctx.auth["name"]) == "Ann"
        assert execution_of(db, lambda ctx: ctx.auth is None).read_auth
        assert not execution_of(db, lambda ctx: ctx.now).read_auth


def test_now_of_a_query() -> None:
    """A query's time is its snapshot's; the access is recorded."""
    with Database() as db:
        db.mutation(add, name="a")
        assert db.query(lambda ctx: ctx.now) == FIRST_NOW
        assert execution_of(db, lambda ctx: ctx.now).read_now
        assert not execution_of(db, lambda ctx: ctx.auth).read_now


def test_now_of_a_mutation() -> None:
    """A mutation's time is its commit's, later than every earlier one."""
    with Database() as db:
        first, second = (db.mutation(lambda ctx: (ctx.now, ctx.db.insert(Thing(name="a")))[0]) for _ in range(2))
        assert (first, second) == (FIRST_NOW, FIRST_NOW + 1)


def test_random_numbers_repeat() -> None:
    """The same query with the same arguments draws the same numbers; other arguments give others."""

    def draw(ctx: tv.QueryCtx, seed: int) -> float:
        return ctx.random.random()

    with Database() as db:
        assert db.query(draw, 1) == db.query(draw, 1) != db.query(draw, 2)


def test_random_numbers_of_mutations_differ() -> None:
    """Each mutation draws numbers of its own."""
    with Database() as db:
        drawn = [db.mutation(lambda ctx: (ctx.db.insert(Thing(name="a")), ctx.random.random())[1]) for _ in range(2)]
        assert drawn[0] != drawn[1]


def test_log_lines() -> None:
    """Values are joined as by `print`."""
    with Database() as db:
        db.query(lambda ctx: ctx.log("one", 2, {"three": 3}))
        assert db.log_lines == ["[INFO] one 2 {'three': 3}"]


# Actions.


def test_actions_run_queries_and_mutations() -> None:
    """Each is a transaction of its own; internal ones are allowed."""
    with Database() as db:
        assert db.action(add_twice, name="a") == 2


def test_actions_run_by_path() -> None:
    """A function can be named by its path."""

    async def by_path(ctx: tv.ActionCtx, path: str) -> Any:
        return await ctx.run_query(path, prefix="a")

    with Database() as db:
        db.mutation(add, name="abc")
        assert db.action(by_path, path=f"{__name__.replace('.', '/')}:names") == ["abc"]


def test_actions_run_actions() -> None:
    """An action runs another action."""

    async def outer(ctx: tv.ActionCtx) -> int:
        return await ctx.run_action(add_twice, "a") + ctx.now

    with Database() as db:
        assert db.action(outer) == 2 + FIRST_NOW


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda ctx: ctx.run_query(add, name="a"), WrongFunctionKind),
        (lambda ctx: ctx.run_query("nothing:here"), FunctionNotFound),
        (lambda ctx: ctx.run_mutation(test_auth), FunctionNotFound),
        (lambda ctx: ctx.run_mutation(add, name=3), InvalidArguments),
        (lambda ctx: ctx.run_mutation(add), InvalidArguments),
    ],
)
def test_wrong_calls(call: Any, error: type[Exception]) -> None:
    """A call that cannot be made raises in the action."""

    async def calling(ctx: tv.ActionCtx) -> None:
        with pytest.raises(error):
            await call(ctx)

    with Database() as db:
        db.query(count)
        db.action(calling)


@pytest.mark.parametrize("name", ["insert", "patch", "replace", "delete"])
def test_a_query_cannot_write(name: str) -> None:
    """The error names mutations, not a missing attribute."""

    def work(ctx: tv.QueryCtx) -> None:
        with pytest.raises(AttributeError, match=f"a query cannot write; make it a mutation .* to use `ctx.db.{name}`"):
            getattr(ctx.db, name)
        assert not hasattr(ctx.db, "another")

    with Database(Thing) as db:
        execution_of(db, work)


def test_an_action_has_no_database() -> None:
    """It has no transaction; the error names `run_query` and `run_mutation`."""
    ctx: Any = tv.ActionCtx.__new__(tv.ActionCtx)
    with pytest.raises(AttributeError, match=r"await ctx\.run_query"):
        _ = ctx.db
    assert not hasattr(ctx, "another")
