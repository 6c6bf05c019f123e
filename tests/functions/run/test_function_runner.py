"""Running one function on one snapshot: what dev mode observes of it."""

from pathlib import Path
from typing import Any

import pytest

import tinyvex as tv
from tests.support.storage import MemoryStore
from tinyvex import forks
from tinyvex.functions.app.function_spec import FunctionDeclaration, FunctionSpec
from tinyvex.functions.app.registry import App
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.code_switch import CodeSwitch
from tinyvex.functions.run.exactly_once import request_digest
from tinyvex.functions.run.failures import Failures
from tinyvex.functions.run.function_runner import FunctionRunner
from tinyvex.functions.run.stuck_calls import QueryKey, StuckCalls
from tinyvex.functions.schema.location import Location
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.range_cache import RangeCache
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.runtime import Runtime
from tinyvex.storage.engine.time_limit import Stopped


def loop(ctx: tv.QueryCtx) -> None:
    raise Stopped


def opens(ctx: tv.QueryCtx) -> None:
    Path(__file__).open().close()


def returns_much(ctx: tv.QueryCtx) -> str:
    return "x" * 8_000_000


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def run(store: MemoryStore, path: str, function: Any = None) -> Any:
    """Run a query in dev mode."""
    functions = [FunctionSpec(path, function, FunctionDeclaration("query", internal=False))] if function else []
    runner = FunctionRunner(Runtime(), CodeSwitch(App(functions, [])), Failures(reveal=True), audit=True)
    call = Call(path, b"{}", admin=True)
    return store.look(lambda snapshot: runner.query(call, snapshot, Execution(ReadSet())))


def test_dev_mode_logs_the_line_that_was_stopped(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """The client only learns of the time limit; the developer needs the line of the endless loop."""
    with pytest.raises(Stopped):
        run(store, "m:loop", loop)
    assert caplog.messages == [f"m:loop was stopped at {Location(__file__, loop.__code__.co_firstlineno + 1)}"]


def test_dev_mode_does_not_audit_the_systems_functions(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """A module of Tinyvex that one of them imports is not a file that the developer opened."""
    with caplog.at_level("WARNING", "tinyvex.functions"):
        assert run(store, "_system:functions").error is None
        assert run(store, "m:opens", opens).error is None
    assert [message.split()[0] for message in caplog.messages] == ["m:opens"]


@pytest.mark.parametrize("live", [False, True], ids=["one-shot", "live"])
def test_other_threads_may_run_while_a_long_result_is_encoded(store: MemoryStore, live: bool) -> None:
    """A mutation needs the interpreter lock after each of its statements, so it would wait for most of the encoding."""
    gave_way = []
    runtime = Runtime()
    runtime.give_way = lambda: gave_way.append(True)  # type: ignore[method-assign]
    spec = FunctionSpec("m:much", returns_much, FunctionDeclaration("query", internal=False))
    runner = FunctionRunner(runtime, CodeSwitch(App([spec], [])), Failures(reveal=True), audit=False)
    execution = Execution(ReadSet(), range_cache=RangeCache(None) if live else None)
    store.look(lambda snapshot: runner.query(Call("m:much", b"{}", admin=True), snapshot, execution))
    assert len(gave_way) >= 4


def test_a_query_is_recorded_by_its_code_and_its_request(store: MemoryStore, tmp_path: Path) -> None:
    """The process that follows refuses the same request until the code changes."""
    stuck = StuckCalls(tmp_path)
    began: list[Any] = []
    begin = stuck.record.begin
    stuck.record.begin = lambda key, path: began.append((key, path)) or begin(key, path)  # type: ignore[method-assign]
    app = App([FunctionSpec("m:opens", opens, FunctionDeclaration("query", internal=False))], [])
    runner = FunctionRunner(Runtime(), CodeSwitch(app), Failures(reveal=True), audit=False, stuck=stuck)
    call = Call("m:opens", b"{}", admin=True)
    assert store.look(lambda snapshot: runner.query(call, snapshot, Execution(ReadSet()))).error is None
    assert began == [(QueryKey(app.fingerprint, request_digest(call)), "m:opens")]
    stuck.close()


def test_a_child_process_ends_where_its_function_ends(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that forks returns twice, and the child must not continue as a second server."""
    ended: list[bool] = []
    monkeypatch.setattr(forks, "generation", forks.generation)
    monkeypatch.setattr(forks, "end_child", lambda: ended.append(True))

    def fork(ctx: tv.QueryCtx) -> None:
        forks.generation += 1  # as in the child

    run(store, "m:fork", fork)
    assert ended == [True]
