"""The contexts of the system's own functions."""

from typing import Any

import pytest

import tinyvex as tv
from tests.support.storage import MemoryStore, insert, numbers, unit
from tinyvex import errors
from tinyvex.functions.app.function_spec import FunctionDeclaration, FunctionSpec
from tinyvex.functions.app.registry import App
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.code_switch import CodeSwitch
from tinyvex.functions.run.failures import Failures
from tinyvex.functions.run.function_runner import FunctionRunner
from tinyvex.functions.system.system_context import SystemFunctionSpec, SystemMutationCtx, SystemQueryCtx
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.runtime import Runtime
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import SetNumbers
from tinyvex.values.ids import DocumentId

NUMBERS = SetNumbers(next_table_number=20_000, next_tablet=30_000, next_index_id=40_000)


def look(ctx: SystemQueryCtx) -> list[Any]:
    return [ctx.snapshot.ts, sorted(ctx.app.functions)]


def observe(ctx: SystemQueryCtx, document: str) -> str:
    table, _ = ctx.observe_document(document)
    return table.name


def renumber(ctx: SystemMutationCtx) -> int:
    ctx.db.insert("items", {"n": 1})
    ctx.commit(CommitRecord(ctx.ts, (NUMBERS,)))
    ctx.commit(None)
    return ctx.ts


def renumber_twice(ctx: SystemMutationCtx) -> None:
    for _ in range(2):
        ctx.commit(CommitRecord(ctx.ts, (NUMBERS,)))


class World:
    """A store with the table `items`, and an app whose functions are the system's."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.declare({"items": {"by_n": ("n",)}})
        specs = [
            SystemFunctionSpec(f"m:{function.__name__}", function, FunctionDeclaration(kind, internal=True))
            for kind, functions in (("query", (look, observe)), ("mutation", (renumber, renumber_twice)))
            for function in functions
        ]  # type: ignore[misc]
        self.runner = FunctionRunner(Runtime(), CodeSwitch(App(specs, [])), Failures(reveal=False), audit=False)

    def query(self, path: str, args: bytes = b"{}") -> tuple[Any, ReadSet]:
        """Run a query; return its result and its reads."""
        execution = Execution(ReadSet())
        call = Call(path, args, admin=True)
        outcome = self.store.look(lambda snapshot: self.runner.query(call, snapshot, execution))
        assert outcome.error is None
        return outcome.value, outcome.reads

    def mutate(self, path: str) -> None:
        """Run a mutation and commit it."""
        self.store.run(lambda snapshot, ts: self.runner.mutation(Call(path, b"{}", admin=True), None, snapshot, ts))


def test_a_system_query_sees_snapshot_and_app() -> None:
    """Both are public members of its context."""
    world = World()
    value, _ = world.query("m:look")
    assert value == b'[%d,["m:look","m:observe","m:renumber","m:renumber_twice"]]' % world.store.last_ts


def test_an_observed_document_is_recorded_as_read() -> None:
    """The query runs again when the document changes."""
    world = World()
    stored = world.store.run(unit(insert({"n": 1})))
    table = world.store.look(lambda snapshot: snapshot.catalog.table("items"))
    text = DocumentId(table.number, stored.internal).text
    value, reads = world.query("m:observe", b'{"document":"%s"}' % text.encode())
    assert value == b'"items"'
    assert reads.overlaps(table.by_id, stored.internal)


def test_a_system_record_commits_along_with_the_documents() -> None:
    """One commit record has the writes of `ctx.db` and the operations of the system."""
    world = World()
    world.mutate("m:renumber")
    record = world.store.commits[-1]
    assert NUMBERS in record.operations
    assert len(record.writes) == 1
    assert world.store.look(numbers) == [1]


def test_a_mutation_commits_one_system_record() -> None:
    """A second one is a mistake of the function."""
    with pytest.raises(AssertionError, match="at most one record"):
        World().mutate("m:renumber_twice")


def test_a_users_function_cannot_ask_for_a_system_context() -> None:
    """An app that annotates it is refused when it is loaded."""

    def sly(ctx: SystemQueryCtx) -> None: ...

    with pytest.raises(errors.AppInvalid, match=r"`ctx: tv\.QueryCtx`, not `ctx: SystemQueryCtx`"):
        FunctionSpec("m:sly", sly, FunctionDeclaration("query", internal=False))


def test_a_system_function_can_share_helpers_with_users() -> None:
    """A system context is a user's context, too."""
    assert issubclass(SystemQueryCtx, tv.QueryCtx)
    assert issubclass(SystemMutationCtx, tv.MutationCtx)
