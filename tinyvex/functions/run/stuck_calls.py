"""
Remember across restarts which calls held the interpreter until the watchdog ended the process.

Without this record a client would send the call to the restarted server, which would end in the same way, again and again:
a mutation is resent, and a live query is subscribed again.

While a C call holds the interpreter lock, no Python code can write a record. It is therefore there before it is needed::

    DATA/running        first pages    the calls that are running, one a page: mapped memory, which the system keeps
                                       when the process ends, however it ends
                        after them     a stack trace, written by the watchdog's timer without the lock
    DATA/stuck-calls    the calls that are refused, and those that are suspected

At the next start `find_suspects` compares the two parts. A call is suspected if there is a trace and the innermost frame of
its thread is outside this package: in a C function that the app's code called, or in the app's code itself. A frame in
this package means that the thread was waiting for the lock, which another call held; one in `threading` or `selectors`, for
example, that it was waiting for something else.

A thread may also wait for the lock in the app's code, so a suspected call may be innocent. `choose_refused` decides:

1.  *One suspect* is refused.
2.  *Several, all queries and mutations*: only the queries are refused, because a query is refused for a time and a mutation
    for good. If it was the mutation, the next process ends too, without the refused queries, and then it is alone.
3.  *Among them an action, or a thread that runs no recorded call* (one of `asyncio.to_thread`, or of the app itself): no call
    is refused, because no client resends an action, so the next process is likely to live. If that one ends too, the calls
    that are suspected both times are treated as in 1 and 2; and a mutation is not refused if the same action is suspected
    both times.

A mutation is refused by its request id. A query is refused by its function, arguments and user, until the code changes
or the server is stopped as requested. An action is recorded by its function, and never refused.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import re
import threading
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from tinyvex.errors import MutationStuck, QueryStuck, StorageError
from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.limits import RUNNING_ACTIONS_RECORDED_MAX, RUNNING_CALLS_RECORDED_MAX, STUCK_CALLS_MAX
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.file.private_file import open_private, read_private, write_private_file

__all__ = [
    "ActionKey",
    "QueryKey",
    "RunningCall",
    "RunningRecord",
    "StuckCalls",
    "Suspects",
    "choose_refused",
    "find_suspects",
    "innermost_frames",
]

log = logging.getLogger("tinyvex.functions")

_PAGE_BYTES = mmap.PAGESIZE
_RECORD_BYTES = RUNNING_CALLS_RECORDED_MAX * _PAGE_BYTES
_SEPARATOR = "\x1f"
_PACKAGE = str(Path(__file__).resolve().parents[2])
_SUSPECTED = "suspected"
"""The first field of an entry of a call that is suspected and not refused."""
_WAITS_FOR_WORK = re.compile(
    r'File ".*[\\/](threading\.py|selectors\.py|queue\.py|asyncio[\\/]\w+\.py)"|File ".*[\\/]thread\.py", line \d+ in _worker'
)
"""The innermost frame of a thread that waits for an event, a lock, a socket or its next call."""


class QueryKey(NamedTuple):
    """
    The key under which a query is refused.

    Attributes:
        code: the fingerprint of the app.
        digest: the digest of the call; see `exactly_once.request_digest`.
    """

    code: str
    digest: bytes


class ActionKey(NamedTuple):
    """The key under which an action is suspected: its function's path."""

    path: str


Key: TypeAlias = IdempotencyKey | QueryKey | ActionKey


class RunningCall(NamedTuple):
    """
    A call that was running.

    Attributes:
        key: its key.
        path: the function's path.
        thread: the identifier of its thread.
    """

    key: Key
    path: str
    thread: int

    @property
    def kind(self) -> str:
        """`mutation`, `query` or `action`."""
        return {QueryKey: "query", ActionKey: "action"}.get(type(self.key), "mutation")


class Suspects(NamedTuple):
    """
    The calls of which one may have held the interpreter.

    Attributes:
        calls: the queries and mutations.
        actions: the actions.
        others: the number of other threads that may have held it.
    """

    calls: list[RunningCall]
    actions: list[RunningCall]
    others: int


class RunningRecord:
    """
    The file with the calls that are running, and the watchdog's trace.

    Args:
        path: the file; it is created, and a former one is emptied. If the disk has no room for it, calls are not recorded.

    Attributes:
        descriptor: appends to the trace.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        is_allocated = _allocate(path)
        self.descriptor = open_private(path, os.O_RDWR | os.O_APPEND)
        self._pages = mmap.mmap(self.descriptor if is_allocated else -1, _RECORD_BYTES)
        self._free = list(range(0, _RECORD_BYTES, _PAGE_BYTES))

    def begin(self, key: Key, path: str) -> int:
        """
        Record that a call is running on this thread; thread-safe.

        Returns:
            The number to pass to `end`; negative if the call is not recorded, because its names are too long or too many
            calls are running.
        """
        fields = (f"{threading.get_ident():x}", path, *_encode(key))
        encoded = f"{_SEPARATOR.join(fields)}\0".encode(errors="replace")
        reserved = RUNNING_CALLS_RECORDED_MAX - RUNNING_ACTIONS_RECORDED_MAX if isinstance(key, ActionKey) else 0
        if len(encoded) > _PAGE_BYTES or len(self._free) <= reserved:
            return -1
        try:
            start = self._free.pop()
        except IndexError:
            return -1
        self._pages[start : start + len(encoded)] = encoded
        return start

    def end(self, number: int) -> None:
        """Record that a call no longer runs; thread-safe."""
        if number >= 0:
            self._pages[number] = 0
            self._free.append(number)

    def clear_trace(self) -> None:
        """Discard a trace: the process lives on."""
        if os.fstat(self.descriptor).st_size > _RECORD_BYTES:
            os.ftruncate(self.descriptor, _RECORD_BYTES)

    def close(self) -> None:
        """
        Delete the file: the process ends as requested.

        The memory and the descriptor stay open, because a thread that is stuck may still use them.
        """
        with contextlib.suppress(OSError):
            self._path.unlink()


def _allocate(path: Path) -> bool:
    """
    Create the file with empty pages that have their place on the disk, or empty the pages of a former one.

    The system ends a process with SIGBUS that writes to a mapped page for which a full disk has no place.

    Returns:
        Whether the disk has room for all pages.
    """
    descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        has_room = os.write(descriptor, bytes(_RECORD_BYTES)) == _RECORD_BYTES
    except OSError:
        has_room = False
    try:
        os.ftruncate(descriptor, _RECORD_BYTES if has_room else 0)  # without the trace of a former process
        if not has_room:
            log.error("`%s` cannot be written; a call that ends this process will not be refused by the next", path)
            os.ftruncate(descriptor, _RECORD_BYTES)
    finally:
        os.close(descriptor)
    return has_room


def _encode(key: Key) -> tuple[str, ...]:
    if isinstance(key, ActionKey):
        return "action", key.path
    if isinstance(key, QueryKey):
        return "query", key.code, key.digest.hex()
    return "mutation", str(key.request_id), key.digest.hex(), key.session_id


def _decode(fields: list[str]) -> Key | None:
    """Return a key from its fields; None if they are damaged."""
    try:
        match fields:
            case "action", path:
                return ActionKey(path)
            case "query", code, digest:
                return QueryKey(code, bytes.fromhex(digest))
            case "mutation", request_id, digest, session_id:
                return IdempotencyKey(session_id, int(request_id), bytes.fromhex(digest))
    except ValueError:
        pass
    return None


def _decode_page(page: bytes) -> RunningCall | None:
    thread, _, rest = page.partition(b"\0")[0].decode(errors="replace").partition(_SEPARATOR)
    path, *fields = rest.split(_SEPARATOR, 4)
    key = _decode(fields)
    if key is None or not re.fullmatch("[0-9a-f]+", thread):
        return None
    return RunningCall(key, path, int(thread, 16))


def innermost_frames(trace: str) -> dict[int, str]:
    """
    Return the line of a stack trace that has a thread's innermost frame, such as `File "app.py", line 7 in f`.

    The thread of the command line is left out: it runs the event loop, and no function.
    """
    frames = {}
    for block in re.split(r"^(?=(?:Current t|T)hread 0x)", trace, flags=re.MULTILINE):
        header = re.match(r"(?:Current t|T)hread 0x([0-9a-f]+)", block)
        frame = re.search(r"^\s+(File .*)$", block, re.MULTILINE)
        if header is not None and frame is not None and f'File "{_PACKAGE}{os.sep}cli{os.sep}' not in block:
            frames[int(header[1], 16)] = frame[1]
    return frames


def find_suspects(content: bytes) -> Suspects:
    """Return the calls of a record that may have held the interpreter."""
    frames = innermost_frames(content[_RECORD_BYTES:].decode(errors="replace"))
    suspected = {
        thread
        for thread, frame in frames.items()
        if not frame.startswith(f'File "{_PACKAGE}{os.sep}') and not _WAITS_FOR_WORK.match(frame)
    }
    pages = [content[start : start + _PAGE_BYTES] for start in range(0, _RECORD_BYTES, _PAGE_BYTES)]
    running = [call for call in map(_decode_page, pages) if call is not None]
    calls = [call for call in running if not isinstance(call.key, ActionKey) and call.thread in suspected]
    actions = [call for call in running if isinstance(call.key, ActionKey)]
    others = suspected - {call.thread for call in calls}
    own = {call.thread for call in actions} & others
    if own == others:  # otherwise any action may have started the thread that has no call
        actions = [call for call in actions if call.thread in own]
    return Suspects(calls, actions, len(others - own))


def choose_refused(suspects: Suspects, before: Collection[Key]) -> list[RunningCall]:
    """
    Return the calls that are to be refused.

    Args:
        suspects: the suspects of the last process.
        before: the calls that were suspected before.
    """
    calls = suspects.calls
    if suspects.actions or suspects.others:
        calls = [call for call in calls if call.key in before]
    queries = [call for call in calls if isinstance(call.key, QueryKey)]
    if queries:
        return queries
    return [] if any(action.key in before for action in suspects.actions) else calls


class StuckCalls:
    """
    The calls that are refused; the caller owns the folder.

    Args:
        folder: the data folder; the record of the process before is evaluated.

    Attributes:
        keys: the keys of the calls.
        record: the record of this process.
    """

    def __init__(self, folder: Path) -> None:
        paths = DataFolder(folder)
        self._path = paths.stuck_calls
        entries = self._load()
        before = [key for key in map(_decode_suspected, entries) if key is not None]
        found = _find(paths.running_calls, before)
        if found:
            entries = [*(entry for entry in entries if entry not in found), *found][-STUCK_CALLS_MAX:]
            try:
                self._save(entries)
            except StorageError as error:  # a full disk, for example
                log.error("%s; the calls are refused only until this process ends", error.message)
        self.keys = frozenset(key for key in map(_decode, entries) if key is not None)
        self._entries = len(entries)
        self.record = RunningRecord(paths.running_calls)

    def refuse(self, key: IdempotencyKey | QueryKey, path: str) -> None:
        """
        Refuse a call that ended the process.

        Raises:
            MutationStuck: it is such a mutation.
            QueryStuck: it is such a query.
        """
        if not self.keys or key not in self.keys:  # in this order: an empty set would compute the hash of the key too
            return
        if isinstance(key, QueryKey):
            raise QueryStuck(
                f"`{path}` with these arguments held the interpreter until the watchdog ended the server, so it is not run "
                "again until its code changes or the server is stopped and started; the server's log names the line"
            )
        raise MutationStuck(
            f"request {key.request_id} of this session held the interpreter until the watchdog ended the server, so it is "
            "not run again; nothing was written, and the server's log names the line"
        )

    def close(self) -> None:
        """Delete the record, accept the refused queries again, and suspect no call: the process ends as requested."""
        self.record.close()
        mutations = [list(_encode(key)) for key in self.keys if not isinstance(key, QueryKey)]
        if len(mutations) < self._entries:
            with contextlib.suppress(StorageError):  # a full disk: they stay refused
                self._save(mutations)

    def _load(self) -> list[list[str]]:
        try:
            return msgspec.json.decode(read_private(self._path), type=list[list[str]])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError:
            log.error("`%s` is damaged; the calls that it listed run again if they are sent again", self._path)
            return []

    def _save(self, entries: list[list[str]]) -> None:
        write_private_file(self._path, msgspec.json.encode(entries), sync=True)


def _decode_suspected(entry: list[str]) -> Key | None:
    return _decode(entry[1:]) if entry[:1] == [_SUSPECTED] else None


def _find(path: Path, before: Collection[Key]) -> list[list[str]]:
    """Evaluate the record of the last process, log its suspects, and return the entries of the list for them."""
    try:
        content = read_private(path)
    except FileNotFoundError:
        return []
    trace = content[_RECORD_BYTES:].decode(errors="replace")
    if trace:
        log.error("the watchdog found that no thread of the last process could run:\n%s", trace)
    suspects = find_suspects(content)
    refused = choose_refused(suspects, before)
    is_certain = len(refused) == len(suspects.calls) + len(suspects.actions) + suspects.others == 1
    frames = innermost_frames(trace)
    entries = []
    for running in (*suspects.calls, *suspects.actions):
        if running in refused:
            entries.append(list(_encode(running.key)))
            consequence = f"this {'request' if running.kind == 'mutation' else 'call'} is refused from now on"
        else:
            entries.append([_SUSPECTED, *_encode(running.key)])
            consequence = "it is not refused now"
        frame = frames.get(running.thread, "an unknown line")
        location = "a line of a thread that it may have started" if _WAITS_FOR_WORK.match(frame) else frame
        log.critical(
            "%s `%s` %s the interpreter until the last process ended, at %s; %s",
            running.kind, running.path, "held" if is_certain else "may have held", location, consequence,
        )  # fmt: skip
    return entries
