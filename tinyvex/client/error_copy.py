"""Copies of errors that several callers raise (pure)."""

from __future__ import annotations

from tinyvex.errors import RemoteError, TinyvexError

__all__ = ["copy_error"]


def copy_error(error: TinyvexError) -> TinyvexError:
    """Return an equal error without a traceback: an instance raised twice would collect both tracebacks."""
    copy: TinyvexError
    if isinstance(error, RemoteError):
        copy = type(error)(
            error.message,
            number=error.number,
            name=error.name,
            details=error.data,
            fault=error.fault,
            retry=error.retry,
        )
    else:
        copy = type(error)(error.message, **error.data)
    copy.log_lines = error.log_lines
    return copy
