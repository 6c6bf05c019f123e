"""
Logs go to stderr: for people one line per record and its traceback indented below, for programs one JSON object per line.

What a record says, and what no record says, is in `server.log_records`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import Literal, TypeAlias

from tinyvex.server.log_redaction import FIELDS, describe, message_of, traceback_of

__all__ = ["FIELDS", "FORMATS", "LEVELS", "Format", "log_to_stderr"]

LEVELS = ["debug", "info", "warning", "error"]
FORMATS = ["human", "json"]
Format: TypeAlias = Literal["human", "json"]


def log_to_stderr(level: str, log_format: Format = "human", *, reveal: bool = False) -> None:
    """
    Show records of `level` and above, from Tinyvex and from the app alike.

    Args:
        level: one of LEVELS.
        log_format: one of FORMATS.
        reveal: show the text of exceptions, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Objects(reveal=reveal) if log_format == "json" else _Lines(reveal=reveal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The file watcher reports every look it takes.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


class _Formatter(logging.Formatter):
    """What both have in common; `record.exc_text` is left alone, where formatters of other handlers keep theirs."""

    def __init__(self, *, reveal: bool) -> None:
        super().__init__()
        self._reveal = reveal


class _Lines(_Formatter):
    """Indents what follows the first line, so that one record is seen as one."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone()
        line = f"{time:%H:%M:%S} {record.levelname:<7} {record.name}: {message_of(record, reveal=self._reveal)}"
        trace = traceback_of(record, reveal=self._reveal)
        return (line if trace is None else f"{line}\n{trace}").replace("\n", "\n    ")


class _Objects(_Formatter):
    """One JSON object per record, in one line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(describe(record, reveal=self._reveal), default=str)
