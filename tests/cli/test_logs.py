"""Log records on stderr, and what they never contain."""

import errno
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tinyvex.cli import main
from tinyvex.cli.logs import FIELDS, LOG_FORMATS, log_to_stderr
from tinyvex.client.error_copy import copy_error


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_records_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, name and message are on one line; stdout has nothing."""
    log_to_stderr("info")
    logging.getLogger("app").info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("INFO    app: hello\n")


def test_lower_levels_are_omitted(capsys: pytest.CaptureFixture[str]) -> None:
    """`--log-level warning` omits informational records."""
    log_to_stderr("warning")
    logging.getLogger("app").info("hello")
    assert capsys.readouterr().err == ""


def test_a_traceback_begins_in_the_app(capsys: pytest.CaptureFixture[str]) -> None:
    """Frames of Tinyvex that call the app are omitted; frames below the app are included."""

    def app() -> None:
        copy_error(None)  # type: ignore[arg-type]

    log_to_stderr("info")
    within: dict[str, Callable[[Callable[[], None]], None]] = {}
    exec(compile("def call(app): app()", main.__file__, "exec"), within)
    try:
        within["call"](app)
    except AttributeError as error:
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        logging.getLogger("app").exception("failed")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines() if "File" in line] == [
        "app",
        "copy_error",
    ]


def test_a_traceback_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """All lines of a record after the first are indented."""
    log_to_stderr("info")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("app").exception("failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("app: failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def objects(captured: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the records on stderr, one per line."""
    return [json.loads(line) for line in captured.readouterr().err.splitlines()]


def test_json_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages and tracebacks may have several lines."""
    log_to_stderr("info", "json")
    logging.getLogger("app").warning("one\ntwo")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("app").exception("failed")
    first, second = objects(capsys)
    assert (first["level"], first["logger"], first["message"]) == ("warning", "app", "one\ntwo")
    assert second["error"] == "ValueError"
    assert "test_logs.py" in second["traceback"]


def test_the_time_is_utc_with_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    """The time is in the format of ISO 8601."""
    log_to_stderr("info", "json")
    logging.getLogger("app").info("hello")
    (record,) = objects(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])


def test_json_has_the_fields_of_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the attributes in FIELDS are included."""
    log_to_stderr("info", "json")
    extra = {name: f"the {name}" for name in FIELDS}
    logging.getLogger("app").info("hello", extra={**extra, "arguments": "a secret"})
    (record,) = objects(capsys)
    assert set(record) == {"time", "level", "logger", "message", *FIELDS}
    assert {name: record[name] for name in FIELDS} == extra


SECRET = "hush" + "-hush"
"""Put together here, so that no line of source that a traceback shows has it."""


def chained() -> BaseException:
    """An exception with a cause and a group, all of which quote their input."""
    try:
        try:
            int(SECRET)
        except ValueError as error:
            raise ExceptionGroup(SECRET, [KeyError(SECRET)]) from error
    except ExceptionGroup as group:
        group.add_note(SECRET)
        return group
    raise AssertionError


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_texts_of_exceptions_are_omitted(capsys: pytest.CaptureFixture[str], log_format: Any) -> None:
    """Causes, groups and notes lose their texts; types and locations remain."""
    log_to_stderr("info", log_format)
    logging.getLogger("app").error("failed", exc_info=chained())
    shown = capsys.readouterr().err
    assert SECRET not in shown
    assert [name for name in ("ValueError", "ExceptionGroup", "KeyError", "test_logs.py") if name not in shown] == []


def test_dev_mode_shows_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """The developer of the app sees everything."""
    log_to_stderr("info", reveal=True)
    logging.getLogger("app").error("failed", exc_info=chained())
    assert "ValueError: invalid literal for int() with base 10: 'hush-hush'" in capsys.readouterr().err


def test_the_rendering_of_another_handler_is_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    """Python's formatter caches the whole traceback in the record."""
    log_to_stderr("info")
    record = logging.LogRecord("app", logging.ERROR, "", 1, "failed", None, (ValueError, ValueError(SECRET), None))
    assert SECRET in logging.Formatter().format(record)
    logging.getLogger("app").handle(record)
    assert SECRET not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(errno.ENOSPC, "a secret", "a secret"), "ENOSPC"), (OSError("a secret"), None)],
)
def test_error_codes_of_the_system_are_shown(
    capsys: pytest.CaptureFixture[str], error: OSError, code: str | None
) -> None:
    """They quote no data, and tell an operator what failed."""
    log_to_stderr("info")
    logging.getLogger("app").error("failed", exc_info=error)
    shown = capsys.readouterr().err
    assert "secret" not in shown
    assert f"{type(error).__name__}: {code or 'its text is left out'}" in shown


def test_error_codes_of_sqlite_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """They have the names that SQLite uses."""
    log_to_stderr("info")
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("SELECT secret")
    except sqlite3.Error:
        logging.getLogger("app").exception("failed")
    connection.close()
    assert "sqlite3.OperationalError: SQLITE_ERROR" in capsys.readouterr().err


def test_records_of_the_event_loop_quote_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """asyncio logs the arguments of callbacks."""
    log_to_stderr("info", "json")
    logging.getLogger("asyncio").error("Exception in callback Connection.data_received(b'a secret')\nhandle: <...>")
    (record,) = objects(capsys)
    assert record["message"] == "Exception in callback Connection.data_received"
