"""
Remember across restarts which mutation held the interpreter until the watchdog ended the process.

Without this record a client would resend the mutation to the restarted server, which would end in the same way, again and again.

While a C call holds the interpreter lock, no Python code can write a record. It is therefore there before it is needed::

    DATA/running            first page     the mutation that is running: mapped memory, which the system keeps when the
                                           process ends, however it ends
                            after it       a stack trace, written by the watchdog's timer without the lock
    DATA/stuck-mutations    the mutations that are refused

At the next start `find_stuck` compares the two parts. A mutation is stuck if there is a trace and the innermost frame of
its thread is outside this package: in a C function that the app's code called. A frame in this package means that the
thread was waiting for the lock, which a query or an action held.
"""

from __future__ import annotations

import contextlib
import json
import logging
import mmap
import os
import re
import threading
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.limits import STUCK_MUTATIONS_MAX
from tinyvex.storage.file.atomic_file import atomic_file
from tinyvex.storage.file.data_folder import DataFolder

__all__ = ["RunningMutation", "RunningRecord", "StuckMutations", "find_stuck", "innermost_frame"]

log = logging.getLogger("tinyvex.functions")

_PAGE_BYTES = mmap.PAGESIZE
_SEPARATOR = "\x1f"
_PACKAGE = str(Path(__file__).resolve().parents[2])


_Entry: TypeAlias = tuple[str, int, str]
"""A line of the list: session id, request id, digest."""


class RunningMutation(NamedTuple):
    """
    A mutation that was running.

    Attributes:
        key: its key.
        path: the function's path.
        thread: the identifier of its thread.
    """

    key: IdempotencyKey
    path: str
    thread: int


class RunningRecord:
    """
    The file with the mutation that is running, and the watchdog's trace.

    Args:
        path: the file; it is created, and a former one is emptied.

    Attributes:
        descriptor: appends to the trace.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        os.ftruncate(self.descriptor, _PAGE_BYTES)
        self._page = mmap.mmap(self.descriptor, _PAGE_BYTES)

    def begin(self, key: IdempotencyKey, path: str) -> None:
        """Record that a mutation is running on this thread."""
        fields = (f"{threading.get_ident():x}", str(key.request_id), key.digest.hex(), path, key.session_id)
        encoded = f"{_SEPARATOR.join(fields)}\0".encode(errors="replace")
        if len(encoded) <= _PAGE_BYTES:
            self._page[: len(encoded)] = encoded

    def end(self) -> None:
        """Record that no mutation is running."""
        self._page[0] = 0

    def clear_trace(self) -> None:
        """Discard a trace: the process lives on."""
        if os.fstat(self.descriptor).st_size > _PAGE_BYTES:
            os.ftruncate(self.descriptor, _PAGE_BYTES)

    def close(self) -> None:
        """Close and delete the file: the process ends as requested. A thread that is stuck may still use the memory."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _decode(page: bytes) -> RunningMutation | None:
    fields = page.partition(b"\0")[0].decode(errors="replace").split(_SEPARATOR, 4)
    if len(fields) != 5:
        return None
    thread, request_id, digest, path, session_id = fields
    try:
        return RunningMutation(
            IdempotencyKey(session_id, int(request_id), bytes.fromhex(digest)), path, int(thread, 16)
        )
    except ValueError:
        return None


def innermost_frame(trace: str, thread: int) -> str | None:
    """Return the line of a stack trace that has the innermost frame of a thread, such as `File "app.py", line 7 in f`."""
    for block in re.split(r"^(?=(?:Current t|T)hread 0x)", trace, flags=re.MULTILINE):
        header = re.match(r"(?:Current t|T)hread 0x([0-9a-f]+)", block)
        if header is not None and int(header[1], 16) == thread:
            frame = re.search(r"^\s+(File .*)$", block, re.MULTILINE)
            return None if frame is None else frame[1]
    return None


def find_stuck(content: bytes) -> RunningMutation | None:
    """Return the mutation that held the interpreter when the process of this record ended; None if none did."""
    running = _decode(content[:_PAGE_BYTES])
    if running is None:
        return None
    frame = innermost_frame(content[_PAGE_BYTES:].decode(errors="replace"), running.thread)
    return None if frame is None or frame.startswith(f'File "{_PACKAGE}{os.sep}') else running


class StuckMutations:
    """
    The mutations that are refused; the caller owns the folder.

    Args:
        folder: the data folder; the record of the process before is evaluated.

    Attributes:
        keys: the keys of the mutations.
        record: the record of this process.
    """

    def __init__(self, folder: Path) -> None:
        paths = DataFolder(folder)
        self._path, running = paths.stuck_mutations, paths.running_mutation
        entries = self._load()
        stuck = self._find(running)
        if stuck is not None:
            key = stuck.key
            entries = [*entries, (key.session_id, key.request_id, key.digest.hex())][-STUCK_MUTATIONS_MAX:]
            self._save(entries)
        self.keys = frozenset(
            IdempotencyKey(session, number, bytes.fromhex(digest)) for session, number, digest in entries
        )
        self.record = RunningRecord(running)

    def _find(self, running: Path) -> RunningMutation | None:
        try:
            content = running.read_bytes()
        except FileNotFoundError:
            return None
        trace = content[_PAGE_BYTES:].decode(errors="replace")
        if trace:
            log.error("the watchdog found that no thread of the last process could run:\n%s", trace)
        stuck = find_stuck(content)
        if stuck is not None:
            log.critical(
                "mutation `%s` held the interpreter until the last process ended, at %s; this request is refused from now on",
                stuck.path, innermost_frame(trace, stuck.thread),
            )  # fmt: skip
        return stuck

    def _load(self) -> list[_Entry]:
        try:
            entries: list[_Entry] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError:
            log.error("`%s` is damaged; mutations that it listed run again if they are resent", self._path)
            return []
        return entries

    def _save(self, entries: list[_Entry]) -> None:
        with atomic_file(self._path, replace=True) as unfinished:
            unfinished.write_text(json.dumps(entries))
