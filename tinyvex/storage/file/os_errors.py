"""Translate the operating system's errors about files to storage errors."""

from __future__ import annotations

import errno

from tinyvex.errors import DataFolderUnusable, DiskFull, StorageError

__all__ = ["is_disk_full", "translate_os_error"]

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""The disk has no room, or the user's share of it has none."""


def is_disk_full(error: OSError) -> bool:
    """Return whether a write failed because the disk or the user's share of it is full."""
    return error.errno in _FULL


def translate_os_error(error: OSError, sentence: str) -> StorageError:
    """
    Return the storage error for an error of the operating system: DiskFull or DataFolderUnusable.

    Args:
        error: the error.
        sentence: which file or folder cannot be used for what; the reason is appended.
    """
    if is_disk_full(error):
        return DiskFull(f"{sentence}: the disk is full; free some space, then retry")
    return DataFolderUnusable(f"{sentence}: {error.strerror or error}")
