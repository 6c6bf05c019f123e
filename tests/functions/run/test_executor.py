"""Running functions: which code belongs to a snapshot, what a failure tells, and the tokens of calls and results."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tinyvex import errors
from tinyvex.functions.result.result_body import Body
from tinyvex.functions.run.call import Call, error_token, identity_key, request_digest
from tinyvex.functions.run.executor import APPS_KEPT, Executor
from tinyvex.functions.schema.document import Location
from tinyvex.runtime import Runtime
from tinyvex.storage.engine.time_limit import Stopped


def executor(*, reveal: bool = False) -> Executor:
    """One that runs nothing here."""
    first: Any = SimpleNamespace(name="first")
    store: Any = SimpleNamespace(last_ts=10)
    return Executor(store, Runtime(), first, reveal=reveal)


def app(name: str) -> Any:
    """Stands for an app."""
    return SimpleNamespace(name=name)


def test_code_is_part_of_the_snapshot() -> None:
    """Executions before a code change use the old code, those at it and later the new one."""
    running = executor()
    running.switch(app("second"), 20)
    assert [running.app_at(ts).name for ts in (10, 19, 20, 21)] == ["first", "first", "second", "second"]  # type: ignore[attr-defined]


def test_a_switch_can_be_taken_back() -> None:
    """When its commit failed, the old code goes on."""
    running = executor()
    running.switch(app("second"), 20)
    running.unswitch(20)
    assert running.app_at(30) is running.app
    assert running.app.name == "first"  # type: ignore[attr-defined]


def test_only_the_last_few_apps_are_kept() -> None:
    """A developer saves often."""
    running = executor()
    for ts in range(20, 40):
        running.switch(app(str(ts)), ts)
    assert len(running._apps) == APPS_KEPT


def test_an_unexpected_exception_tells_nothing_of_itself() -> None:
    """The client hears that it failed; the log has the rest."""
    error = executor().to_error(ValueError("a secret"), Call("m:f", b"{}"))
    assert isinstance(error, errors.FunctionFailed)
    assert "secret" not in error.message
    assert error.data == {}


def test_dev_mode_reveals_the_exception(tmp_path: Path) -> None:
    """With its text and its traceback."""
    error = executor(reveal=True).to_error(ValueError("a mistake"), Call("m:f", b"{}"))
    assert "a mistake" in error.message
    assert "ValueError" in error.data["traceback"]


@pytest.mark.parametrize(
    ("reveal", "raised", "told"),
    [
        (True, errors.UnknownIndex("no such index"), True),
        (True, errors.AppError("no"), False),
        (False, errors.UnknownIndex("no such index"), False),
    ],
    ids=["dev mode", "meant for the client", "serving"],
)
def test_dev_mode_tells_the_line_that_asked_for_what_is_impossible(
    reveal: bool, raised: errors.TinyvexError, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of Tinyvex itself have no traceback that anybody sees."""
    try:
        raise raised
    except errors.TinyvexError as error:
        line = sys.exc_info()[2].tb_lineno  # type: ignore[union-attr]
        executor(reveal=reveal).to_error(error, Call("m:f", b"{}"))
    message = f"m:f failed at {Location(__file__, line)}: no such index (UnknownIndex)"
    assert caplog.messages == ([message] if told else [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no", "no"),
        ({"kind": "exists"}, "the function refused: {'kind': 'exists'}"),
        (["x" * 500], f"the function refused: ['{'x' * 198}…"),
    ],
    ids=["text", "object", "long"],
)
def test_what_an_app_refuses_with_can_be_read(data: object, message: str) -> None:
    """In the message too, for people; a long one is cut there."""
    assert str(errors.AppError(data)) == message


def test_dev_mode_tells_the_line_that_was_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """Where a loop never ended; the client hears of the time limit alone."""

    def loop(_ctx: object) -> None:
        raise Stopped

    line = loop.__code__.co_firstlineno + 1
    spec: Any = SimpleNamespace(path="m:f", function=loop)
    with pytest.raises(Stopped):
        executor(reveal=True)._run(spec, Any, {})  # type: ignore[arg-type]
    assert caplog.messages == [f"m:f was stopped at {Location(__file__, line)}"]


def test_dev_mode_does_not_watch_the_systems_own_functions(caplog: pytest.LogCaptureFixture) -> None:
    """A module of Tinyvex that one of them imports is no file that a developer opened."""
    reading = executor(reveal=True)
    for path in ("_system:tables", "m:opens"):
        with caplog.at_level("WARNING", "tinyvex.functions"):
            reading._run(SimpleNamespace(path=path, function=lambda _ctx: Path(__file__).open().close()), Any, {})  # type: ignore[arg-type]
    assert [message.split()[0] for message in caplog.messages] == ["m:opens"]


def test_an_error_lets_go_of_its_frames() -> None:
    """Results are kept, and frames hold transactions."""
    try:
        raise errors.AppError("no")
    except errors.AppError as raised:
        error = executor().to_error(raised, Call("m:f", b"{}"))
    assert error.__traceback__ is None


@pytest.mark.parametrize(
    "other",
    [Call("m:g", b"{}"), Call("m:f", b'{"a":1}'), Call("m:f", b"{}", {"name": "a"})],
    ids=["path", "args", "who"],
)
def test_a_digest_tells_calls_apart(other: Call) -> None:
    """By function, arguments and identity."""
    assert request_digest(Call("m:f", b"{}")) != request_digest(other)


def test_equal_identities_have_one_key() -> None:
    """Whatever the order of their claims; nobody is not the empty identity."""
    assert identity_key({"a": 1, "b": 2}) == identity_key({"b": 2, "a": 1})
    assert identity_key(None) != identity_key({})


def test_errors_and_values_have_different_hashes() -> None:
    """Also where their text is the same."""
    assert Body((b'"no"',)).token != error_token(errors.AppError("no"))
    assert error_token(errors.AppError({"n": 1})) != error_token(errors.AppError({"n": 2}))


def test_a_query_that_could_not_run_says_nothing_about_the_identity() -> None:
    """One refused for want of room must not make every identity's query one of its own."""

    def refuse(*_: object, **__: object) -> None:
        raise errors.Overloaded("too many")

    running = executor()
    running.store.read_nowait = refuse  # type: ignore[method-assign]
    outcomes: list[Any] = []
    running.query_nowait(Call("m:f", b"{}"), outcomes.append)
    assert isinstance(outcomes[0].error, errors.Overloaded)
    assert not outcomes[0].read_auth
