"""
Write log records to stderr, as lines for people or as JSON objects for programs.

`server/log_redaction.py` decides what a record contains and what it must never contain.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import Literal, TypeAlias

from tinyvex.cli.terminal import visible
from tinyvex.server.log_redaction import FIELDS, describe, message_of, traceback_of

__all__ = ["FIELDS", "LOG_FORMATS", "LOG_LEVELS", "LogFormat", "log_to_stderr"]

LOG_LEVELS = ["debug", "info", "warning", "error"]
LOG_FORMATS = ["human", "json"]
LogFormat: TypeAlias = Literal["human", "json"]


def log_to_stderr(level: str, log_format: LogFormat = "human", *, reveal: bool = False) -> None:
    """
    Log the records of Tinyvex and of the app.

    Args:
        level: the lowest level to log; one of LOG_LEVELS.
        log_format: one of LOG_FORMATS.
        reveal: include the messages of exceptions, which may contain users' data.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(reveal=reveal) if log_format == "json" else _HumanFormatter(reveal=reveal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The file watcher logs every poll.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


class _RedactingFormatter(logging.Formatter):
    """Leaves `record.exc_text` unset, because the formatters of other handlers cache their own text in it."""

    def __init__(self, *, reveal: bool) -> None:
        super().__init__()
        self._reveal = reveal


class _HumanFormatter(_RedactingFormatter):
    """Indents every line after the first, so that a record reads as one."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone()
        line = f"{time:%H:%M:%S} {record.levelname:<7} {record.name}: {message_of(record, reveal=self._reveal)}"
        trace = traceback_of(record, reveal=self._reveal)
        return visible(line if trace is None else f"{line}\n{trace}").replace("\n", "\n    ")


class _JsonFormatter(_RedactingFormatter):
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(describe(record, reveal=self._reveal), default=str)
