"""
Count the frames of a write-ahead log, from its file.

The size of the file does not tell, because a restarted log overwrites the file from its beginning. All frames of
one log have the random salt of the file's header; frames of earlier logs have another one
(https://www.sqlite.org/fileformat2.html#the_write_ahead_log).

SQLite holds no locks on this file, so that opening and closing it alongside SQLite is safe.
"""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from tinyvex.storage.file.atomic_file import follow_links

__all__ = ["WalFile"]

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
SALT_BYTES = 8
FIRST_STEP = 128
"""Frames; about half of what is added between two counts."""


class WalFile:
    """
    The write-ahead log of a database file; used by the thread that writes it.

    Args:
        database: the database file; None if it is in memory, which has no log.

    Attributes:
        frames: the number of pages in the log when it was counted last.
        page_bytes: the size of a page.
    """

    def __init__(self, database: Path | None) -> None:
        self.frames = 0
        self.page_bytes = 4096
        self._path = None if database is None else Path(f"{follow_links(database)}-wal")
        self._salt = b""
        self._ended_salt: bytes | None = None  # of a log whose frames will be overwritten by the next commit

    def count(self) -> bool:
        """
        Count the frames, in a few microseconds; a rolled back transaction's may be among them.

        Returns:
            Whether another log has begun since the last count.

        Raises:
            OSError: the file cannot be read.
        """
        if self._path is None:
            return False
        try:
            file = FileIO(self._path)
        except FileNotFoundError:
            return self._begin(b"")
        with file:
            header = file.read(HEADER_BYTES) or b""
            self.page_bytes = int.from_bytes(header[8:12], "big") or self.page_bytes
            salt = header[16 : 16 + SALT_BYTES]
            if salt == self._ended_salt:
                self.frames = 0
                return False
            has_begun = salt != self._salt and self._begin(salt)
            self._count_from(file)
        return has_begun

    def restarted(self) -> None:
        """Note that the next commit begins another log: the frames in the file are all in the database."""
        self.count()
        self._ended_salt = self._salt
        self.frames = 0

    def _begin(self, salt: bytes) -> bool:
        self._salt, self._ended_salt = salt, None
        self.frames = 0
        return True

    def _count_from(self, file: FileIO) -> None:
        """Find the last frame with the log's salt, in steps that double, then by halves."""
        step = FIRST_STEP
        while self._has(file, self.frames + step):
            self.frames += step
            step *= 2
        while step > 1:
            step //= 2
            if self._has(file, self.frames + step):
                self.frames += step

    def _has(self, file: FileIO, number: int) -> bool:
        """Return whether the log has this many frames."""
        file.seek(HEADER_BYTES + (number - 1) * (FRAME_HEADER_BYTES + self.page_bytes) + 8)
        return bool(self._salt) and file.read(SALT_BYTES) == self._salt
