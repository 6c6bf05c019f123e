"""
Log records without what clients said: what `cli.logs` prints and the dashboard shows.

No record has what clients sent or functions returned: no arguments, results or tokens.
An exception's text may quote them (`int(secret)` does), so a traceback shows where and which, and the text only in dev mode.
What the app itself logs or prints is as the app says it.
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
)  # fmt: skip
"""What a record may carry as `extra`."""


def describe(record: logging.LogRecord, *, reveal: bool) -> dict[str, object]:
    """A record as an object: `time` (UTC), `level`, `logger`, `message`, those of FIELDS it has, and its `traceback`."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    found: dict[str, object] = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message_of(record, reveal=reveal),
    }
    found |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
    trace = traceback_of(record, reveal=reveal)
    if trace is not None:
        assert record.exc_info
        found.setdefault("error", getattr(record.exc_info[0], "__name__", None))
        found["traceback"] = trace
    return found


def message_of(record: logging.LogRecord, *, reveal: bool) -> str:
    """What a record says."""
    message = record.getMessage()
    if record.name == "asyncio" and not reveal:
        # It quotes what a callback was called with, as in "Exception in callback f(b'...')".
        return re.split(r"[(<\n]", message)[0].strip()
    return message


def traceback_of(record: logging.LogRecord, *, reveal: bool) -> str | None:
    """
    What the record's exception is, and where it comes from; None where it has none.

    It begins where the app's own code does: how Tinyvex came to call it is of no help there.
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
    """A traceback as Python prints it, except that no exception says more than its name."""
    chain = [(error, trace)]
    seen = {id(error)}
    while (before := _before(chain[-1][0])) is not None and id(before) not in seen:
        seen.add(id(before))
        chain.append((before, before.__traceback__))
    for place, (link, its_trace) in enumerate(reversed(chain)):
        if place:
            yield "\nWhile that was handled, or because of it:\n\n"
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(its_trace)
        yield f"{_name(link)}\n"
        if isinstance(link, BaseExceptionGroup):
            for number, inner in enumerate(link.exceptions, 1):
                yield f"\n{number} of {len(link.exceptions)} in the group:\n\n"
                yield from _without_texts(inner, inner.__traceback__)


def _before(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _name(error: BaseException) -> str:
    """The class, and the code that the system or SQLite gave: those quote nothing."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    code = None
    if isinstance(error, OSError) and isinstance(error.errno, int):
        code = errno.errorcode.get(error.errno)
    elif isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorname", None)
    return f"{name}: {code or 'its text is left out'}"
