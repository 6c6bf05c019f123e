"""
Errors of functions as clients receive them.

An error of Tinyvex or an `AppError` is meant for the client and passes. Any other exception may contain anything,
secrets included: it is logged with its traceback, and the client receives `FunctionFailed` without details.
In dev mode the client receives the details too, and the log names the line of the app that caused an error of Tinyvex.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from tinyvex import errors
from tinyvex.functions.schema.document import Document
from tinyvex.functions.schema.location import Location
from tinyvex.values.suggestions import did_you_mean

if TYPE_CHECKING:
    from tinyvex.functions.run.call import Call

__all__ = ["Failures"]

log = logging.getLogger("tinyvex.functions")


class Failures(Struct, frozen=True):
    """
    Turns exceptions into the errors that clients receive.

    Attributes:
        reveal: whether errors contain messages and tracebacks of unexpected exceptions (dev mode).
    """

    reveal: bool

    def echo_of(self, call: Call) -> Callable[[str], None] | None:
        """Return the callback that receives a function's log lines; None outside dev mode, because lines are data."""
        if not self.reveal:
            return None
        return lambda line: log.info(
            "%s: %s", call.path, line, extra={"function": call.path, "request_id": call.request_id or None}
        )

    def to_error(self, raised: BaseException, call: Call) -> errors.TinyvexError:
        """Return the error that the client receives; an unexpected exception is logged and becomes `FunctionFailed`."""
        if isinstance(raised, errors.TinyvexError) and _is_complete(raised):
            if self.reveal and not isinstance(raised, errors.AppError):
                _log_location(raised, call)
            # Its frames hold the transaction and the function's variables, and results are retained.
            raised.__traceback__ = raised.__context__ = raised.__cause__ = None
            return raised
        hint = _hint(raised)
        if isinstance(raised, TypeError) and hint:
            raised.add_note(hint.removeprefix("; "))  # the log has it too
        log.error(
            "%s failed (request %s)", call.path, call.request_id or "-",
            exc_info=(type(raised), raised, raised.__traceback__),
            extra={"function": call.path, "request_id": call.request_id or None},
        )  # fmt: skip
        if not self.reveal:
            return errors.FunctionFailed(f"`{call.path}` failed; the server's log has the reason")
        summary = f"{type(raised).__name__}: {raised}{hint}" if hint else _last_line(raised)
        trace = "".join(traceback.format_exception(raised))
        return errors.FunctionFailed(f"`{call.path}` failed: {summary}", traceback=trace)


def _last_line(raised: BaseException) -> str:
    """Return the end of the exception's traceback; from Python 3.12 on it has a suggestion for a misspelt attribute."""
    return "".join(traceback.format_exception_only(raised)).strip()


def _hint(raised: BaseException) -> str:
    """Return the end of a message about a document: the field that was meant, or the way to change one."""
    if isinstance(raised, TypeError):
        from tinyvex.functions.run.construction_errors import explain_construction

        explained = explain_construction(raised)
        return "" if explained is None else f"; {explained}"
    if not isinstance(raised, AttributeError):
        return ""
    if isinstance(raised.obj, Document):
        return did_you_mean(raised.name or "", (name for name in raised.obj.__struct_fields__ if name[0] != "_"))
    if str(raised).startswith("immutable type"):
        return "; documents are frozen: change one with `ctx.db.patch(document.id, field=value)`"
    return ""


def _is_complete(error: errors.TinyvexError) -> bool:
    """Return whether an error has all that is sent of one: an app's own subclass may not have called `__init__`."""
    return (
        hasattr(error, "number")
        and hasattr(error, "fault")
        and isinstance(getattr(error, "message", None), str)
        and isinstance(getattr(error, "data", None), dict)
    )


def _log_location(error: errors.TinyvexError, call: Call) -> None:
    """Log the line of the app that asked for something impossible: these errors reach the developer without traceback."""
    location = Location.of_error(error)
    if location is not None:
        log.error(
            "%s failed at %s: %s (%s)", call.path, location, error, error.name,
            extra={"function": call.path, "request_id": call.request_id or None, "error": error.name},
        )  # fmt: skip
