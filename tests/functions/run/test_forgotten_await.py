"""An action that forgets `await` fails with the line, instead of returning as if the call had been made."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
from pathlib import Path
from typing import Any

import pytest

import tinyvex as tv
from tinyvex import errors
from tinyvex.functions.run import forgotten_await
from tinyvex.functions.run.forgotten_await import call_action
from tinyvex.server.server import Server, ServerOptions
from tinyvex.testing import Database


@tv.mutation
def write(ctx: tv.MutationCtx) -> str:
    return "written"


async def helper() -> None:
    await asyncio.sleep(0)


@tv.action
async def forgets_a_mutation(ctx: tv.ActionCtx) -> None:
    ctx.run_mutation(write)  # type: ignore[unused-coroutine]


@tv.action
async def forgets_what_it_keeps(ctx: tv.ActionCtx) -> None:
    written = ctx.run_mutation(write)
    assert written


@tv.action
async def forgets_a_helper(ctx: tv.ActionCtx) -> None:
    helper()  # type: ignore[unused-coroutine]


@tv.action
async def returns_a_coroutine(ctx: tv.ActionCtx) -> Any:
    return ctx.run_mutation(write)


async def helper_that_forgets() -> None:
    helper()  # type: ignore[unused-coroutine]


@tv.action
async def forgets_in_a_task(ctx: tv.ActionCtx) -> None:
    await asyncio.gather(helper_that_forgets(), helper())


@tv.action
async def starts_tasks(ctx: tv.ActionCtx) -> list[str]:
    one = asyncio.create_task(ctx.run_mutation(write))
    return [await one, *await asyncio.gather(ctx.run_mutation(write), ctx.run_mutation(write))]


def line_of(function: Any, text: str) -> int:
    lines, first = inspect.getsourcelines(inspect.unwrap(function))
    return first + next(number for number, line in enumerate(lines) if text in line)


@pytest.mark.parametrize(
    ("action", "source", "text"),
    [
        (forgets_a_mutation, forgets_a_mutation, "ctx.run_mutation"),
        (forgets_what_it_keeps, forgets_what_it_keeps, "ctx.run_mutation"),
        (forgets_a_helper, forgets_a_helper, "helper()"),
        (returns_a_coroutine, returns_a_coroutine, "ctx.run_mutation"),
        (forgets_in_a_task, helper_that_forgets, " helper()"),
    ],
)
def test_an_action_that_forgets_await_fails_with_the_line(action: Any, source: Any, text: str) -> None:
    """Whatever coroutine it was, wherever it was created."""
    line = line_of(source, text)
    with Database() as db, pytest.raises(RuntimeError, match=rf"test_forgotten_await\.py:{line}: .*without `await`"):
        db.action(action)


def test_coroutines_that_run_as_tasks_are_awaited() -> None:
    """`create_task` and `gather` run them."""
    with Database() as db:
        assert db.action(starts_tasks) == ["written"] * 3


async def test_the_collector_attributes_nothing_to_the_running_action() -> None:
    """The coroutine may be an earlier action's."""

    async def collects(_: object) -> str:
        gc.collect()
        return "fine"

    ring: list[Any] = [helper()]
    ring.append(ring)
    del ring
    with pytest.warns(RuntimeWarning, match="never awaited"):
        assert await call_action(collects, None, {}) == "fine"


def test_a_collection_runs_no_python_code() -> None:
    """A function that is stopped at its time limit during one would not end: the collector drops exceptions."""
    with Database() as db:
        assert db.action(starts_tasks)
    assert forgotten_await._phases.move_to_end in gc.callbacks
    assert not [callback for callback in gc.callbacks if (callback.__module__ or "").startswith("tinyvex")]


async def test_a_task_that_outlives_its_action_is_reported_by_python() -> None:
    """The action has returned, so it can no longer fail."""
    go = asyncio.Event()

    async def forgets_later() -> None:
        await go.wait()
        helper()  # type: ignore[unused-coroutine]

    async def starts_a_task(_: object) -> asyncio.Task[None]:
        return asyncio.create_task(forgets_later())

    task = await call_action(starts_a_task, None, {})
    with pytest.warns(RuntimeWarning, match="'helper' was never awaited"):
        go.set()
        await task


async def test_an_action_that_fails_otherwise_keeps_its_error() -> None:
    """The forgotten call is often the reason, so it is a note of the error."""

    async def fails(_: object) -> None:
        helper()  # type: ignore[unused-coroutine]
        raise LookupError("missing")

    with pytest.raises(LookupError, match="^missing") as caught:
        await call_action(fails, None, {})
    assert (str(caught.value), len(caught.value.__notes__)) == ("missing", 1)
    assert "`helper` was called without `await`" in caught.value.__notes__[0]


async def test_the_log_has_the_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client learns only that the action failed: where the source lies is not its concern."""
    app = tmp_path / "app.py"
    app.write_text(
        "import tinyvex as tv\n\n"
        "@tv.mutation\ndef write(ctx: tv.MutationCtx) -> None: ...\n\n"
        "@tv.action\nasync def act(ctx: tv.ActionCtx) -> None:\n    ctx.run_mutation(write)\n"
    )
    with caplog.at_level(logging.ERROR):
        async with Server(ServerOptions(app=app, data=tmp_path / "data")) as server, tv.connect(server.url) as client:
            with pytest.raises(errors.RemoteError) as caught:
                await client.action("app:act")
    assert caught.value.name == "FunctionFailed"
    assert "app.py" not in str(caught.value)
    assert "app.py:8: `run_mutation` was called without `await`" in caplog.text
