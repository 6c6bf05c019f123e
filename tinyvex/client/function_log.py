"""The log of the functions that a client calls and subscribes to, as records of its own logging."""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["log_function_lines"]

logger = logging.getLogger(__name__)


def log_function_lines(path: str, lines: Iterable[str]) -> None:
    """Log the lines that the function at `path` wrote with `ctx.log`."""
    for line in lines:
        logger.info("%s: %s", path, line)
