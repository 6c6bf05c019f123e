"""The type of progress reports of long work on a database file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the units done and their total; the total is 0 while it is not known. May be called from any thread."""
