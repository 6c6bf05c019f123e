"""Differences between two versions of a result. (pure)"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tinyvex.functions.body import Body

__all__ = ["Difference", "diff"]


class Difference(NamedTuple):
    """A patch, and what it cost to find."""

    patch: bytes | None
    rows_opened: int = 0
    rows_decoded: int = 0


def diff(old: Body, new: Body) -> Difference:
    """Not made yet: the whole value is sent."""
    return Difference(None)
