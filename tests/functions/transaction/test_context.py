"""Contexts: identity, time, randomness, logs, and calls from actions."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

import tinyvex as tv
from tinyvex.errors import FunctionNotFound, InvalidArguments, WrongFunctionKind
from tinyvex.functions.transaction.context_ended import ContextEnded
from tinyvex.functions.transaction.execution import Execution
from tinyvex.testing import FIRST_NOW, Database
from tinyvex.values.ids import DocumentId


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


# After the function has ended.


def outlived(db: Database, kind: str = "mutation") -> Any:
    """Return the context of a function that has ended, and everything that was taken from it."""
    kept: list[Any] = []

    def run(ctx: tv.MutationCtx) -> None:
        ctx.db.insert(Thing(name="one"))
        query = ctx.db.query(Thing)
        query.collect()
        kept.append((ctx, ctx.db, query))

    def read(ctx: tv.QueryCtx) -> None:
        kept.append((ctx, ctx.db, ctx.db.query(Thing)))

    if kind == "mutation":
        db.mutation(run)
    else:
        db.query(read)
    return kept[0]


USES_OF_A_CONTEXT: dict[str, Callable[[Any, Any, Any], object]] = {
    "ctx.db": lambda ctx, _db, _query: ctx.db,
    "ctx.now": lambda ctx, _db, _query: ctx.now,
    "ctx.auth": lambda ctx, _db, _query: ctx.auth,
    "ctx.random": lambda ctx, _db, _query: ctx.random,
    "ctx.log": lambda ctx, _db, _query: ctx.log("late"),
    "db.get": lambda _ctx, db, _query: db.get(THING),
    "db.query": lambda _ctx, db, _query: db.query(Thing).collect(),
    "collect": lambda _ctx, _db, query: query.collect(),
    "take": lambda _ctx, _db, query: query.take(1),
    "count": lambda _ctx, _db, query: query.count(),
    "paginate": lambda _ctx, _db, query: query.paginate(None, 1),
    "iteration": lambda _ctx, _db, query: list(query),
}
WRITES: dict[str, Callable[[Any], object]] = {
    "insert": lambda db: db.insert(Thing(name="late")),
    "patch": lambda db: db.patch(THING, name="late"),
    "replace": lambda db: db.replace(THING, Thing(name="late")),
    "delete": lambda db: db.delete(THING),
}
THING = DocumentId(10001, bytes(16)).text


@pytest.mark.parametrize("kind", ["query", "mutation"])
@pytest.mark.parametrize("use", USES_OF_A_CONTEXT)
def test_a_context_is_refused_after_its_function(kind: str, use: str) -> None:
    """Whatever reads through a context of a function that has ended raises."""
    with Database(Thing) as db, pytest.raises(ContextEnded, match="belongs to a function that has ended"):
        USES_OF_A_CONTEXT[use](*outlived(db, kind))


@pytest.mark.parametrize("write", WRITES)
def test_a_write_after_its_mutation_is_refused(write: str) -> None:
    """A write that would be lost raises instead of returning an id."""
    with Database(Thing) as db, pytest.raises(ContextEnded):
        WRITES[write](outlived(db)[1])


def test_a_write_from_a_thread_after_the_mutation_is_refused() -> None:
    """The thread that writes does not matter."""
    raised: list[BaseException] = []
    with Database(Thing) as db:
        _, kept, _ = outlived(db)

        def write() -> None:
            try:
                kept.insert(Thing(name="late"))
            except ContextEnded as error:
                raised.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(raised) == 1


def test_a_context_is_refused_after_its_function_raised() -> None:
    """A function that raises ends as well."""
    kept: list[tv.MutationCtx] = []

    def fail(ctx: tv.MutationCtx) -> None:
        kept.append(ctx)
        raise tv.AppError("full")

    with Database(Thing) as db:
        with pytest.raises(tv.AppError):
            db.mutation(fail)
        with pytest.raises(ContextEnded):
            kept[0].log("late")


def test_an_action_s_context_is_refused_after_it() -> None:
    """A coroutine that an action leaves behind cannot call functions."""
    kept: list[tv.ActionCtx] = []

    async def keep(ctx: tv.ActionCtx) -> None:
        kept.append(ctx)

    with Database(Thing) as db:
        db.action(keep)
        call = kept[0].run_query("test_context:count")
        with pytest.raises(ContextEnded):
            call.send(None)
