"""Logs go to stderr, one line per record; a traceback follows indented."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import TracebackType

PACKAGE = str(Path(__file__).resolve().parents[1])
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

LEVELS = ["debug", "info", "warning", "error"]


def log_to_stderr(level: str) -> None:
    """Show records of `level` and above, from Tinyvex and from the app alike."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The file watcher reports every look it takes.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


class _Line(logging.Formatter):
    """
    Indents what follows the first line, so that one record is seen as one.

    A traceback begins where the app's own code does: how Tinyvex came to call it is of no help there.
    """

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - logging's name
        kind, error, trace = ei
        own = trace
        while own is not None and own.tb_frame.f_code.co_filename.startswith(PACKAGE):
            own = own.tb_next
        if kind is None or error is None or own is None:
            return super().formatException(ei)
        return super().formatException((kind, error, own))

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")
