"""The process that started this one, read before the other imports: a parent that ends during them is not missed."""

from __future__ import annotations

import os

__all__ = ["FIRST_PARENT"]

FIRST_PARENT = os.getppid()
"""The id of the parent process when the package was first imported."""
