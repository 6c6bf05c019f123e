"""The content of log records, and the data that none contains."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from tinyvex.server.log_redaction import FIELDS, describe, message_of, traceback_of


def record(message: str = "hello", *arguments: Any, name: str = "app", exception: Any = None, **extra: Any):
    """Make a record as `logging` does; `exception` is the result of `sys.exc_info`."""
    made = logging.LogRecord(name, logging.WARNING, "app.py", 1, message, arguments, exception)
    vars(made).update(extra)
    return made


def failed(text: str) -> logging.LogRecord:
    """Make a record of an exception with this text."""
    try:
        raise KeyError(text)
    except KeyError:
        return record("failed", exception=sys.exc_info())


def test_a_record_is_described() -> None:
    """Time, level, logger and message; no traceback without an exception."""
    described = describe(record("%s came", "Ada"), reveal=False)
    assert (described["level"], described["logger"], described["message"]) == ("warning", "app", "Ada came")
    assert str(described["time"]).endswith("Z")
    assert "traceback" not in described


@pytest.mark.parametrize("field", FIELDS)
def test_a_known_field_is_included(field: str) -> None:
    """Other attributes of the record are not."""
    assert describe(record(**{field: 7}, args_of_the_call="secret"), reveal=False)[field] == 7
    assert "secret" not in json.dumps(describe(record(args_of_the_call="secret"), reveal=False))


@pytest.mark.parametrize("reveal", [True, False])
def test_an_exceptions_text_is_for_developers(reveal: bool) -> None:
    """Its class and its place are always included."""
    described = describe(failed("s-e-c-r-e-t"), reveal=reveal)
    assert described["error"] == "KeyError"
    assert "test_log_redaction.py" in str(described["traceback"])
    assert ("s-e-c-r-e-t" in str(described["traceback"])) == reveal


def test_the_arguments_that_asyncio_quotes_are_cut() -> None:
    """They are the data of a client."""
    quoting = record("Exception in callback f(b'secret')", name="asyncio")
    assert message_of(quoting, reveal=False) == "Exception in callback f"
    assert "secret" in message_of(quoting, reveal=True)


def test_a_record_without_an_exception_has_no_traceback() -> None:
    """Also if `exc_info` was requested outside an exception handler."""
    assert traceback_of(record(exception=sys.exc_info()), reveal=True) is None
