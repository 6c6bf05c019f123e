"""No log of `tinyvex serve` contains data from clients or functions, whatever goes wrong."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.logs import LOG_LEVELS
from tinyvex.client.blocking import BlockingClient, connect_blocking
from tinyvex.errors import RemoteError

SECRET = "hush-hush-7b1f"

APP = """
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

@tv.query
def echo(ctx: tv.QueryCtx, text: str) -> str:
    ctx.log(text)
    return text

@tv.query
def fail(ctx: tv.QueryCtx, text: str) -> str:
    try:
        int(text)
    except ValueError as error:
        raise KeyError(text) from error
    return text

@tv.query
def wrong(ctx: tv.QueryCtx, text: str) -> int:
    return text

@tv.mutation
def add(ctx: tv.MutationCtx, text: str) -> str:
    ctx.db.insert(Note(text=text))
    return text

@tv.mutation
def fail_to_add(ctx: tv.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))
    raise RuntimeError(text)

@tv.mutation
def refuse(ctx: tv.MutationCtx, text: str) -> None:
    raise tv.AppError(text)

@tv.action
async def act(ctx: tv.ActionCtx, text: str) -> str:
    await ctx.run_mutation(add, text=text)
    raise ExceptionGroup(text, [ValueError(text)])
"""

FAILING = ["fail", "fail_to_add", "act"]


def call_everything(client: BlockingClient) -> list[str]:
    """Call each function well or badly, with the secret; return the errors that the client received."""
    heard = []
    arguments = {"text": SECRET}
    with client.subscribe("app:echo", arguments) as texts:
        assert next(texts) == SECRET
    with contextlib.suppress(RemoteError), client.subscribe("app:fail", arguments) as texts:
        next(texts)
    client.mutation("app:add", arguments)
    for call, name in (
        (client.query, "fail"), (client.query, "wrong"), (client.query, SECRET), (client.mutation, "fail_to_add"),
        (client.mutation, "refuse"), (client.action, "act"),
    ):  # fmt: skip
        with pytest.raises(RemoteError) as refused:
            call(f"app:{name}", arguments)
        if name in FAILING:
            heard.append(f"{refused.value} {refused.value.data}")
    for bad in ({"text": [SECRET]}, {SECRET: 1}, {"text": SECRET, "more": SECRET}):
        with pytest.raises(RemoteError):
            client.query("app:echo", bad)
    return heard


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP, "utf-8")
    return path


@pytest.fixture(params=LOG_LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["human", "json"])
def server(app: Path, level: str, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    options = ["--log-level", level, "--log-format", request.param, "--slow-ms", "0"]
    with ServerProcess(app, app.parent / "data", *options) as process:
        yield process


def test_no_log_has_a_payload_or_a_token(server: ServerProcess) -> None:
    """At every level and in both formats the secret is absent, and failures are logged with their tracebacks."""
    with connect_blocking(server.url, server.ready["token"]) as client:
        heard = call_everything(client)
    with pytest.raises(RemoteError), connect_blocking(server.url, SECRET) as client:
        client.query("app:echo", {"text": "x"})
    assert server.terminate() == 0
    shown = b"".join(server.errors).decode()
    assert SECRET not in shown
    assert server.ready["token"] not in shown
    assert [name for name in FAILING if f"app:{name} failed" not in shown] == []
    assert [
        name for name in ("KeyError", "RuntimeError", "ExceptionGroup", "app.py", "in fail_to_add") if name not in shown
    ] == []
    assert SECRET not in "".join(heard)
    assert "Traceback" not in "".join(heard)


def test_json_lines_are_all_that_stderr_has(app: Path) -> None:
    """Each line is an object, and the lines of failures and slow calls name function and request."""
    with ServerProcess(app, app.parent / "data", "--log-format", "json", "--slow-ms", "0") as server:
        with connect_blocking(server.url, server.ready["token"]) as client:
            call_everything(client)
        server._end(signal.SIGTERM)
    records = [json.loads(line) for line in server.errors]
    failed = next(record for record in records if record.get("function") == "app:fail_to_add" and "traceback" in record)
    assert (failed["level"], failed["logger"], failed["error"]) == ("error", "tinyvex.functions", "RuntimeError")
    slow = next(record for record in records if record.get("function") == "app:add" and record.get("request_id"))
    assert (slow["level"], slow["kind"]) == ("warning", "mutation")
    assert slow["duration_ms"] >= 0
    assert slow["waited_ms"] >= 0
    assert failed["request_id"].split("-")[0] == slow["request_id"].split("-")[0]
