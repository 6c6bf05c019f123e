"""
Open the source of an import once: a file, standard input, or a pipe.

An import reads its source twice: it counts the documents, then sends them. Both readings use one open file, so that a file
that is replaced in between is not mixed with another. A pipe can be read only once, so it is first copied into a temporary
file. The copy has no name; it ends with the process.
"""

from __future__ import annotations

import codecs
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tinyvex.cli.document_files import FileFormat, format_of
from tinyvex.cli.terminal import echo
from tinyvex.errors import DiskFull, ImportRefused
from tinyvex.storage.file.os_errors import is_disk_full

__all__ = ["STDIN", "ImportSource", "open_source", "sniff"]

STDIN = Path("-")
"""The argument that names standard input."""

SNIFFED_BYTES = 4096
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
"""The signatures of a zip with and without entries."""


class ImportSource(NamedTuple):
    """
    The open source of an import.

    Attributes:
        name: its name in messages.
        file: a seekable file at its beginning.
        format: the format that its suffix or its first bytes name; None if neither does.
        is_stdin: whether it is standard input, under whatever name.
    """

    name: str
    file: IO[bytes]
    format: FileFormat | None
    is_stdin: bool


@contextmanager
def open_source(path: Path) -> Iterator[ImportSource]:
    """
    Open a source and, if it cannot be read twice, copy it.

    Args:
        path: the file; STDIN for standard input.

    Raises:
        ImportRefused: it cannot be read.
        DiskFull: the disk has no room for the copy.
    """
    name = "stdin" if path == STDIN else path.name
    with ExitStack() as stack:
        try:
            original = stack.enter_context(_open(path))
            is_stdin = _is_stdin(original)
            if original.isatty():
                echo("Reading documents from the terminal; Ctrl-D ends the input.", err=True)
            file = original if _is_rereadable(original) else stack.enter_context(_copied(original))
            beginning = file.read(SNIFFED_BYTES)
            file.seek(0)
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull(
                    f"`{tempfile.gettempdir()}` has no room for the copy of `{name}`; free some space,"
                    " or set TMPDIR to a folder on another disk"
                ) from error
            raise ImportRefused(f"`{name}` cannot be read: {error.strerror or error}") from error
        yield ImportSource(name, file, format_of(path) or sniff(beginning), is_stdin)


def _open(path: Path) -> IO[bytes]:
    if path != STDIN:
        return path.open("rb")
    if sys.stdin is None:
        raise ImportRefused("standard input is closed; pass a file, or a pipe as standard input")
    return open(0, "rb", closefd=False)


def _is_rereadable(file: IO[bytes]) -> bool:
    """Return whether the documents begin at the beginning of a regular file; the shell may have read a part of stdin."""
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.tell() == 0


def _is_stdin(file: IO[bytes]) -> bool:
    """Return whether a file is the one that standard input reads, as `/dev/stdin` is."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.fstat(0))
    except OSError:  # standard input is closed
        return False


@contextmanager
def _copied(original: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(original, copy)
        copy.seek(0)
        yield copy


def sniff(beginning: bytes) -> FileFormat | None:
    """Return the format that the first bytes of a file show; None for CSV, which begins like any text."""
    if beginning.startswith(ZIP_STARTS):
        return "zip"
    text = beginning.removeprefix(codecs.BOM_UTF8).lstrip()
    return "json" if text.startswith(b"[") else "jsonl" if text.startswith(b"{") else None
