"""Log why requests are refused, each reason at most once a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tinyvex import limits

__all__ = ["RefusalLog"]

log = logging.getLogger("tinyvex.server")

LOG_SECONDS = 60.0


class RefusalLog:
    """
    The reasons that were logged in the last minute.

    A page that retries would otherwise fill the log. A reason contains the refused value, and a client can send another
    with each request, so lines and memory are bounded as well: by REFUSALS_LOGGED_MAX a minute.

    Args:
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._logged_at: dict[str, float] = {}  # oldest first

    def record(self, reason: str) -> None:
        """Log a reason, unless it was logged less than a minute ago."""
        now = self._monotonic()
        while self._logged_at and now - self._logged_at[oldest := next(iter(self._logged_at))] > LOG_SECONDS:
            del self._logged_at[oldest]
        if reason not in self._logged_at and len(self._logged_at) < limits.REFUSALS_LOGGED_MAX:
            self._logged_at[reason] = now
            log.warning("refused a request: %s", reason)
