"""
The last use of each paired token, for `tinyvex tokens`.

The server holds it in memory and writes it every TOKEN_USES_SECONDS and when it stops. So it has a file of its own: a use
neither rewrites the tokens nor waits for their lock, and if the file is lost, only the times are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from tinyvex import limits
from tinyvex.errors import StorageError
from tinyvex.storage.file.private_file import read_private, write_private_file

__all__ = ["TokenUses", "read_token_uses"]


class TokenUses:
    """
    The last uses, by the ids of tokens.

    Args:
        path: the file.
        now_us: the clock, in microseconds since the epoch.
    """

    def __init__(self, path: Path, now_us: Callable[[], int]) -> None:
        self._path = path
        self._now_us = now_us
        self._used_us: dict[str, int] = {}  # since the last write
        self._write_from_us: int | None = None

    def note(self, token_id: str) -> None:
        """Note that a token is in use now."""
        self._used_us[token_id] = self._now_us()

    def write_if_due(self, token_ids: Collection[str]) -> None:
        """Write the uses of these tokens, if there are new ones and the last write is TOKEN_USES_SECONDS ago."""
        if self._used_us and (self._write_from_us is None or self._now_us() >= self._write_from_us):
            self.write(token_ids)

    def write(self, token_ids: Collection[str]) -> None:
        """Write the uses of these tokens. If the folder cannot be written, the next attempt has them too."""
        if not self._used_us:
            return
        self._write_from_us = self._now_us() + int(limits.TOKEN_USES_SECONDS * 1e6)
        uses = read_token_uses(self._path) | self._used_us
        uses = {token_id: used_us for token_id, used_us in uses.items() if token_id in token_ids}
        try:
            write_private_file(self._path, msgspec.json.encode(uses))
        except StorageError:
            return
        self._used_us.clear()


def read_token_uses(path: Path) -> dict[str, int]:
    """Return the last use of each token in microseconds since the epoch; empty if the file is missing or unreadable."""
    try:
        return msgspec.json.decode(read_private(path), type=dict[str, int])
    except (OSError, msgspec.MsgspecError, StorageError):
        return {}
