"""
Write an outbox to a transport, and hold back a client that does not read.

Everything that is queued in one loop iteration leaves in one write. A chunk of a long transition is made in an iteration
that it shares with no other chunk (`FairQueue`), when all ready frames have left and the socket has room.

`slow_clients` has the bounds and their reasons.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tinyvex import limits
from tinyvex.server.transport.outbox import Outbox
from tinyvex.server.transport.slow_clients import UnreadWatch, may_resume_reading

if TYPE_CHECKING:
    from tinyvex.dialects.dialect import Split
    from tinyvex.runtime import Runtime
    from tinyvex.server.transport.fair_queue import FairQueue
    from tinyvex.server.transport.unread_total import UnreadTotal
    from tinyvex.sync.counters import Counters
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Sender", "SenderHost"]


class SenderHost(Protocol):
    """The server, as its senders see it."""

    runtime: Runtime
    counters: Counters
    fair_queue: FairQueue
    unread: UnreadTotal

    def relieve_memory(self) -> None:
        """Close clients, because unread answers take too much memory together."""


class Sender:
    """
    The sending half of one connection.

    Args:
        host: clock, counters and queue.
        transport: the socket.
        chunk_bytes: a longer transition is sent in chunks.
        drained: called when `is_full` has become false.
        close: closes the client, for a reason.
        hold: called with True when the server stops reading from the client, and with False when it reads again.

    Attributes:
        sent_at: the time of the last write, by `Runtime.awake_seconds`.
        bytes_sent: the number of bytes written.
        socket_full: whether the transport's buffer is above its bound.
        reading_paused: whether the server reads nothing from the client until the client has read responses.
    """

    def __init__(
        self,
        host: SenderHost,
        transport: asyncio.Transport,
        chunk_bytes: int,
        drained: Callable[[], None],
        close: Callable[[str], None],
        hold: Callable[[bool], None],
    ) -> None:
        self._host = host
        self._transport = transport
        self._drained = drained
        self._outbox = Outbox(chunk_bytes)
        self._flush_scheduled = False
        self._chunk_scheduled = False
        self._closed = False
        self._ends_when_empty = False
        self._unread = UnreadWatch()
        self._close_client = close
        self._hold_calls = hold
        self._counted = False  # whether `host.unread` has a report of this client
        self._held: deque[Sequence[Piece]] = deque()  # those of `_outbox.split_pieces` that `host.unread` counts
        self.sent_at = host.runtime.awake_seconds()
        self.bytes_sent = 0
        self.socket_full = False
        self.reading_paused = False
        transport.set_write_buffer_limits(high=limits.OUTBOX_BYTES_HIGH)
        _bound_system_buffer(transport)

    # Queueing.

    def put(self, frame: bytes) -> None:
        """Queue a frame."""
        if not self._closed:
            self._outbox.put(frame)
            self._queued()

    def put_pieces(self, pieces: Sequence[Piece]) -> None:
        """Queue a message, the concatenation of pieces; a long one leaves in slices."""
        if not self._closed:
            self._outbox.put_pieces(pieces)
            self._queued()

    def put_transition(self, pieces: Sequence[Piece], split: Split | None) -> None:
        """Queue a transition; a long one is split into chunks, if the dialect can split it."""
        if not self._closed:
            before = len(self._outbox.split_pieces)
            self._outbox.put_transition(pieces, split)
            if len(self._outbox.split_pieces) > before:
                self._hold(pieces)
            self._queued()

    def is_full(self) -> bool:
        """Return whether so many transitions wait that no further one should be computed."""
        return self._outbox.transitions >= limits.TRANSITIONS_UNSENT_MAX

    @property
    def waiting_bytes(self) -> int:
        """The size of the frames that are ready."""
        return self._outbox.ready_bytes

    @property
    def must_wait(self) -> bool:
        """Return whether a frame that is written now would overtake others."""
        return self.socket_full or self._outbox.has_ready

    def close(self, last: bytes = b"") -> None:
        """
        Write the ready frames as far as the socket has room, then `last`; discard the rest.

        A long frame that has begun is completed first, as the client reads; see `write_last`.
        """
        if not self._closed:
            while self._outbox.has_ready and not self.socket_full and not self._outbox.is_inside_frame:
                self._write(partial(self._outbox.take_ready, limits.OUTBOX_BYTES_HIGH))
            self._outbox.clear_unbegun()
            self._closed = True
            self._release_pieces()
            if self._counted:
                self.recount()
            self._schedule()
        if last:
            self.write_last(last)

    def write_last(self, data: bytes) -> None:
        """Write a frame after `close`: now, or behind the long frame that must be completed."""
        if self._outbox.has_ready:
            self._outbox.put(data)
        else:
            self._transport.write(data)

    def end_writing(self) -> None:
        """Close the transport when everything from `write_last` is written."""
        if self._outbox.has_ready:
            self._ends_when_empty = True
        else:
            self._transport.close()

    # The socket.

    def socket_filled(self) -> None:
        """Stop writing: the transport's buffer is above its bound."""
        self.socket_full = True
        self._unread.begin(self._host.runtime.awake_seconds(), self._transport.get_write_buffer_size())

    def socket_drained(self) -> None:
        """
        Write again, in the next turn: the transport's buffer has room.

        A transport that is closed or aborted inside this call reports the end of the connection twice.
        """
        self.socket_full = False
        self._unread.end()
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._host.runtime.loop.call_soon(self._flush)

    def unread_seconds(self, now: float) -> float:
        """Return how long the client has read nothing although data waits."""
        return self._unread.seconds(now, self._transport.get_write_buffer_size())

    # What waits, as a part of what waits for all clients.

    def recount(self) -> None:
        """Report the bytes that wait, here and in the transport's buffer."""
        size = self._outbox.ready_bytes + self._transport.get_write_buffer_size()
        self._counted = size >= limits.UNREAD_COUNTED_BYTES
        self._host.unread.report(self, size if self._counted else 0)
        if self._host.unread.is_above():
            self._host.relieve_memory()

    def close_unread(self, reason: str) -> None:
        """Close the client and release what waits for it."""
        self._close_client(reason)

    def end(self) -> None:
        """Discard everything and report that nothing waits any more: the socket is closed, or about to be."""
        self._outbox.clear()
        self.close()
        self._counted = False
        self._host.unread.report(self, 0)
        self._drained = self._close_client = self._hold_calls = _ignore  # they refer to the connection

    def _hold(self, pieces: Sequence[Piece]) -> None:
        if sum(map(len, pieces)) >= limits.UNREAD_COUNTED_BYTES:
            self._held.append(pieces)
            self._host.unread.hold(self, pieces)
            if self._host.unread.is_above():
                self._host.relieve_memory()

    def _release_pieces(self) -> None:
        """Release the pieces of transitions whose last chunk was made."""
        split = self._outbox.split_pieces
        while self._held and all(pieces is not self._held[0] for pieces in split):
            self._host.unread.release(self, self._held.popleft())

    # Writing.

    def _queued(self) -> None:
        self._schedule()
        if self._outbox.ready_bytes > limits.RESPONSES_UNSENT_BYTES_MAX and not self.reading_paused:
            self.reading_paused = True
            self._transport.pause_reading()
            self._hold_calls(True)
        if self._outbox.ready_bytes > limits.UNREAD_COUNTED_BYTES:
            self.recount()

    def _schedule(self) -> None:
        """Schedule the next write; while the socket is full, `socket_drained` writes instead."""
        if self.socket_full or self._flush_scheduled:
            return
        if self._outbox.has_ready:
            self._flush_scheduled = True
            self._host.runtime.loop.call_soon(self._flush)
        elif self._outbox.has_chunk and not self._chunk_scheduled:
            self._chunk_scheduled = True
            self._host.fair_queue.submit(self._write_chunk)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._outbox.has_ready and not self.socket_full:
            self._write(partial(self._outbox.take_ready, limits.OUTBOX_BYTES_HIGH))
        elif self._counted:
            self.recount()
        self._schedule()
        if self._ends_when_empty and not self._outbox.has_ready:
            self._ends_when_empty = False
            self._transport.close()

    def _write_chunk(self) -> None:
        self._chunk_scheduled = False
        if self._outbox.has_chunk and not self.must_wait:
            try:
                self._write(self._outbox.take_chunk)
            except BaseException:
                self._transport.abort()  # the client would wait for the next chunk forever
                raise
            if self._held:
                self._release_pieces()
        self._schedule()

    def _write(self, take: Callable[[], bytes]) -> None:
        was_full = self.is_full()
        data = take()
        self.sent_at = self._host.runtime.awake_seconds()
        self.bytes_sent += len(data)
        self._host.counters.bytes_sent += len(data)
        self._transport.write(data)
        if self._counted:
            self.recount()
        if self.reading_paused and may_resume_reading(self._outbox.ready_bytes):
            self.reading_paused = False
            self._transport.resume_reading()
            self._hold_calls(False)
        if was_full and not self.is_full():
            self._drained()


def _ignore(*_: object) -> None:
    """Do nothing: the socket is closed."""


def _bound_system_buffer(transport: asyncio.Transport) -> None:
    """Bound the unsent bytes in the operating system's buffer, where megabytes of them would count as sent."""
    sock = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux, macOS
    if sock is not None and option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, limits.SYSTEM_BUFFER_BYTES)
