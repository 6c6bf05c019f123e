"""Logs go to stderr, one line per record; a traceback follows indented."""

from __future__ import annotations

import logging
import sys

LEVELS = ["debug", "info", "warning", "error"]


def log_to_stderr(level: str) -> None:
    """Show records of `level` and above, from Tinyvex and from the app alike."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The file watcher reports every look it takes.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


class _Line(logging.Formatter):
    """Indents what follows the first line, so that one record is seen as one."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")
