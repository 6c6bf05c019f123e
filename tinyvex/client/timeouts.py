"""Time limits of calls, as the callers state them (pure)."""

from __future__ import annotations

import math

from tinyvex.client.pending_requests import CallKind
from tinyvex.errors import CallTimeout

__all__ = ["call_timeout", "check_timeout"]


def check_timeout(seconds: float | None) -> float | None:
    """
    Check a time limit.

    Returns:
        The seconds; None for no limit, which is also what `math.inf` means.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not a number of seconds (NaN).
    """
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(f"`timeout` is a number of seconds, not a {type(seconds).__name__}")
    if math.isnan(seconds):
        raise ValueError("`timeout` is a number of seconds, not NaN")
    return None if seconds == math.inf else float(seconds)


def call_timeout(kind: CallKind, path: str, seconds: float, *, was_sent: bool) -> CallTimeout:
    """Return the error of a call that was not answered in time."""
    if not was_sent:
        outcome = "it was not sent, and never runs"
    elif kind is CallKind.MUTATION:
        outcome = "it was sent, so it has run or will run once; its outcome is unknown"
    else:
        outcome = "it was sent, so it may have run; its outcome is unknown"
    return CallTimeout(
        f"{kind.value} `{path}` was not answered within {max(seconds, 0):g} seconds; {outcome}", wasSent=was_sent
    )
