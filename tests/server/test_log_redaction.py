"""What a log record says, and what none does."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from tinyvex.server.log_redaction import FIELDS, describe, message_of, traceback_of


def record(message: str = "hello", *arguments: Any, name: str = "app", of: Any = None, **extra: Any):
    """One as `logging` makes it; `of` the exception that is being handled, as `sys.exc_info` tells it."""
    made = logging.LogRecord(name, logging.WARNING, "app.py", 1, message, arguments, of)
    vars(made).update(extra)
    return made


def failed(text: str) -> logging.LogRecord:
    """A record of an exception with this text."""
    try:
        raise KeyError(text)
    except KeyError:
        return record("failed", of=sys.exc_info())


def test_a_record_is_described() -> None:
    """Time, level, logger and message; no traceback where nothing failed."""
    found = describe(record("%s came", "Ada"), reveal=False)
    assert (found["level"], found["logger"], found["message"]) == ("warning", "app", "Ada came")
    assert str(found["time"]).endswith("Z")
    assert "traceback" not in found


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_told_where_it_is_there(field: str) -> None:
    """And what else a record carries is not."""
    assert describe(record(**{field: 7}, args_of_the_call="secret"), reveal=False)[field] == 7
    assert "secret" not in json.dumps(describe(record(args_of_the_call="secret"), reveal=False))


@pytest.mark.parametrize("reveal", [True, False])
def test_an_exceptions_text_is_for_developers(reveal: bool) -> None:
    """Which and where it was is told to all."""
    found = describe(failed("s-e-c-r-e-t"), reveal=reveal)
    assert found["error"] == "KeyError"
    assert "test_log_redaction.py" in str(found["traceback"])
    assert ("s-e-c-r-e-t" in str(found["traceback"])) == reveal


def test_what_asyncio_quotes_is_cut() -> None:
    """It tells what a callback was called with."""
    said = record("Exception in callback f(b'secret')", name="asyncio")
    assert message_of(said, reveal=False) == "Exception in callback f"
    assert "secret" in message_of(said, reveal=True)


def test_a_record_without_an_exception_has_no_traceback() -> None:
    """Also where `exc_info` was asked for outside of a handler."""
    assert traceback_of(record(of=sys.exc_info()), reveal=True) is None
