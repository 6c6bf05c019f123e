"""Delivery of the lines that functions log with `ctx.log`, whether they return or fail."""

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.support.process import ServerProcess
from tinyvex.client.blocking import BlockingClient, connect_blocking
from tinyvex.errors import RemoteError

APP = """
import tinyvex as tv

@tv.query
def fail(ctx: tv.QueryCtx) -> str:
    ctx.log("query before")
    raise ValueError("no")

@tv.query
def succeed(ctx: tv.QueryCtx) -> str:
    ctx.log("query before")
    return "yes"

@tv.query
def wrong(ctx: tv.QueryCtx) -> int:
    ctx.log("query before")
    return "no number"

@tv.mutation
def fail_to_write(ctx: tv.MutationCtx) -> None:
    ctx.log("mutation before")
    raise tv.AppError("no")

@tv.mutation
def run_too_long(ctx: tv.MutationCtx) -> None:
    ctx.log("mutation before")
    while True:
        pass

@tv.action
async def fail_to_act(ctx: tv.ActionCtx) -> None:
    ctx.log("action before")
    await ctx.run_query(succeed)
    await ctx.run_mutation(fail_to_write)

@tv.action
async def act(ctx: tv.ActionCtx) -> None:
    ctx.log("action before")
    await ctx.run_query(succeed)
"""

QUERY, MUTATION, ACTION = "[INFO] query before", "[INFO] mutation before", "[INFO] action before"


def subscribe(client: BlockingClient, path: str) -> None:
    """Wait for the first result of a live query."""
    with client.subscribe(path) as results:
        next(results)


FAILING: dict[str, tuple[Callable[[BlockingClient, str], object], str, list[str]]] = {
    "a query": (BlockingClient.query, "fail", [QUERY]),
    "a live query": (subscribe, "fail", [QUERY]),
    "a query with a wrong result": (BlockingClient.query, "wrong", [QUERY]),
    "a mutation": (BlockingClient.mutation, "fail_to_write", [MUTATION]),
    "a mutation at its time limit": (BlockingClient.mutation, "run_too_long", [MUTATION]),
    "an action and the functions that it calls": (BlockingClient.action, "fail_to_act", [ACTION, QUERY, MUTATION]),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP, "utf-8")
    with ServerProcess(folder / "app.py", folder / "data", "--function-seconds", "0.3") as process:
        yield process


@pytest.mark.parametrize("case", FAILING)
def test_a_failed_function_delivers_its_log(server: ServerProcess, case: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error has the lines that were logged before it, and the client logs them; the server's own log has none."""
    call, name, lines = FAILING[case]
    caplog.set_level(logging.INFO, "tinyvex.client")
    with connect_blocking(server.url, server.ready["token"]) as client, pytest.raises(RemoteError) as failed:
        call(client, f"app:{name}")
    assert list(failed.value.log_lines) == lines
    assert [message for message in caplog.messages if "[INFO]" in message] == [f"app:{name}: {line}" for line in lines]
    assert b"before" not in b"".join(server.errors)


@pytest.mark.parametrize(
    ("call", "name", "lines"),
    [
        (BlockingClient.query, "succeed", [QUERY]),
        (subscribe, "succeed", [QUERY]),
        (BlockingClient.action, "act", [ACTION, QUERY]),
    ],
    ids=["a query", "a live query", "an action and the functions that it calls"],
)
def test_a_function_that_returns_delivers_its_log(
    server: ServerProcess,
    call: Callable[[BlockingClient, str], object],
    name: str,
    lines: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client logs the lines."""
    with caplog.at_level(logging.INFO, "tinyvex.client"), connect_blocking(server.url, server.ready["token"]) as client:
        call(client, f"app:{name}")
    assert [message for message in caplog.messages if "[INFO]" in message] == [f"app:{name}: {line}" for line in lines]
