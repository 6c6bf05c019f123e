"""
Log records without the data of clients, for `cli.logs` and the dashboard.

Tinyvex logs no arguments, results or tokens. The text of an exception may quote them (`int(secret)` does), so outside dev
mode a traceback shows the place and the class of the exception but not its text. Messages that the app itself logs or
prints are not changed.
"""

from __future__ import annotations

import errno
import logging
import re
import sqlite3
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

__all__ = ["FIELDS", "describe", "message_of", "traceback_of"]

PACKAGE = str(Path(__file__).resolve().parents[1])

FIELDS = (
    "kind", "function", "request_id", "connection", "duration_ms", "waited_ms", "rows_read", "left_out", "error",
    "event", "address", "token_id",
)  # fmt: skip
"""The names that a record may carry as `extra`."""


def describe(record: logging.LogRecord, *, reveal: bool) -> dict[str, object]:
    """Return a record as an object: `time` (UTC), `level`, `logger`, `message`, its FIELDS, and its `traceback`."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    described: dict[str, object] = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message_of(record, reveal=reveal),
    }
    described |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
    trace = traceback_of(record, reveal=reveal)
    if trace is not None:
        assert record.exc_info
        described.setdefault("error", getattr(record.exc_info[0], "__name__", None))
        described["traceback"] = trace
    return described


def message_of(record: logging.LogRecord, *, reveal: bool) -> str:
    """Return the message of a record."""
    message = record.getMessage()
    if record.name == "asyncio" and not reveal:
        # asyncio quotes the arguments of a callback, as in "Exception in callback f(b'...')".
        return re.split(r"[(<\n]", message)[0].strip()
    return message


def traceback_of(record: logging.LogRecord, *, reveal: bool) -> str | None:
    """
    Return the traceback of a record's exception; None if it has none.

    Frames of Tinyvex above the app's own code are left out: they do not help to find the error.
    """
    if not record.exc_info or record.exc_info[1] is None:
        return None
    _, error, trace = record.exc_info
    own = trace
    while own is not None and own.tb_frame.f_code.co_filename.startswith(PACKAGE):
        own = own.tb_next
    if reveal:
        return "".join(traceback.format_exception(type(error), error, own or trace)).rstrip()
    return "".join(_without_texts(error, own or trace)).rstrip()


def _without_texts(error: BaseException, trace: TracebackType | None) -> Iterator[str]:
    """Yield a traceback as Python prints it, with the name of each exception but without its text."""
    chain = [(error, trace)]
    seen = {id(error)}
    while (cause := _cause(chain[-1][0])) is not None and id(cause) not in seen:
        seen.add(id(cause))
        chain.append((cause, cause.__traceback__))
    for number, (link, its_trace) in enumerate(reversed(chain)):
        if number:
            yield "\nWhile handling that exception, or because of it:\n\n"
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(its_trace)
        yield f"{_name(link)}\n"
        if isinstance(link, BaseExceptionGroup):
            for position, inner in enumerate(link.exceptions, 1):
                yield f"\n{position} of {len(link.exceptions)} in the group:\n\n"
                yield from _without_texts(inner, inner.__traceback__)


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _name(error: BaseException) -> str:
    """Return the class of an exception, and its error code if it has one; codes quote no data."""
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    code = None
    if isinstance(error, OSError) and isinstance(error.errno, int):
        code = errno.errorcode.get(error.errno)
    elif isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorname", None)
    return f"{name}: {code or 'its text is left out'}"
