"""
Writes what waits in an outbox to a transport, and holds the client back that does not read.

What a loop turn queues leaves in one write. A part of a long transition is made in a turn of its own (see `turns`),
when everything that was ready has left and the socket has room.

What a client that does not read costs, at most:

====================================================  ===========================================================
in the system's buffer, unsent                        SYSTEM_BUFFER_BYTES
in the transport's buffer                             OUTBOX_BYTES_HIGH and one message
responses and pongs in the outbox                     RESPONSES_UNSENT_BYTES_MAX, then nothing is read from it;
                                                      OUTBOX_BYTES_MAX with what it had asked before, then it is cut
transitions in the outbox                             TRANSITIONS_UNSENT_MAX, then none is computed for it;
                                                      in parts, they are references to results that others share
time                                                  SLOW_CONSUMER_SECONDS without reading a byte, then it is cut
====================================================  ===========================================================
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tinyvex import limits
from tinyvex.server.transport.outbox import Outbox
from tinyvex.server.transport.slow_clients import UnreadWatch

if TYPE_CHECKING:
    from tinyvex.dialects.dialect import Split
    from tinyvex.runtime import Runtime
    from tinyvex.server.transport.fair_queue import FairQueue
    from tinyvex.sync.counters import Counters
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Sender", "SenderHost"]


class SenderHost(Protocol):
    """What all senders share."""

    runtime: Runtime
    counters: Counters
    turns: FairQueue


class Sender:
    """
    The sending half of one connection.

    Attributes:
        sent_at: when something was last written, by the runtime's monotonic clock.
        bytes_sent: how much was written.
        socket_full: whether the transport's buffer is above its bound.
        reading_paused: whether nothing is read from the client until it has read itself.
    """

    def __init__(
        self, host: SenderHost, transport: asyncio.Transport, chunk_bytes: int, drained: Callable[[], None]
    ) -> None:
        """
        Args:
            host: clocks, counters and turns.
            transport: where frames go.
            chunk_bytes: a longer transition goes in parts.
            drained: called when `is_full` has become false.
        """
        self._host = host
        self._transport = transport
        self._drained = drained
        self._outbox = Outbox(chunk_bytes)
        self._flush_scheduled = False
        self._part_scheduled = False
        self._closed = False
        self._unread = UnreadWatch()
        self.sent_at = host.runtime.monotonic()
        self.bytes_sent = 0
        self.socket_full = False
        self.reading_paused = False
        transport.set_write_buffer_limits(high=limits.OUTBOX_BYTES_HIGH)
        _bound_system_buffer(transport)

    # What is to be sent.

    def put(self, frame: bytes) -> None:
        """Queue a frame."""
        if not self._closed:
            self._outbox.put(frame)
            self._queued()

    def put_transition(self, pieces: Sequence[Piece], split: Split | None) -> None:
        """Queue a transition; a long one is split into chunks, if the dialect can split it."""
        if not self._closed:
            self._outbox.put_transition(pieces, split)
            self._queued()

    def is_full(self) -> bool:
        """Whether so many transitions wait that no further one should be computed."""
        return self._outbox.transitions >= limits.TRANSITIONS_UNSENT_MAX

    @property
    def waiting_bytes(self) -> int:
        """Size of the frames that are made and wait."""
        return self._outbox.ready_bytes

    @property
    def must_wait(self) -> bool:
        """Whether a frame that is written now would overtake others."""
        return self.socket_full or self._outbox.has_ready

    def close(self, last: bytes = b"") -> None:
        """Write what is ready and then `last`, as far as there is room; a transition in parts ends where it is."""
        if not self._closed:
            while self._outbox.has_ready and not self.socket_full:
                self._write(partial(self._outbox.take_ready, limits.OUTBOX_BYTES_HIGH))
            self._outbox.clear()
            self._closed = True
        if last:
            self._transport.write(last)

    # The socket.

    def socket_filled(self) -> None:
        """The transport's buffer is above its bound."""
        self.socket_full = True
        self._unread.begin(self._host.runtime.monotonic(), self._transport.get_write_buffer_size())

    def socket_drained(self) -> None:
        """It has room again."""
        self.socket_full = False
        self._unread.end()
        self._flush()

    def unread_seconds(self, now: float) -> float:
        """Return how long the client has read nothing although bytes wait for it."""
        return self._unread.seconds(now, self._transport.get_write_buffer_size())

    # How it is sent.

    def _queued(self) -> None:
        self._schedule()
        if self._outbox.ready_bytes > limits.RESPONSES_UNSENT_BYTES_MAX and not self.reading_paused:
            self.reading_paused = True
            self._transport.pause_reading()

    def _schedule(self) -> None:
        """Write later what waits; while the socket is full, `socket_drained` comes instead."""
        if self.socket_full or self._flush_scheduled:
            return
        if self._outbox.has_ready:
            self._flush_scheduled = True
            self._host.runtime.loop.call_soon(self._flush)
        elif self._outbox.has_part and not self._part_scheduled:
            self._part_scheduled = True
            self._host.turns.ask(self._write_part)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._outbox.has_ready and not self.socket_full:
            self._write(partial(self._outbox.take_ready, limits.OUTBOX_BYTES_HIGH))
        self._schedule()

    def _write_part(self) -> None:
        self._part_scheduled = False
        if self._outbox.has_part and not self.must_wait:
            try:
                self._write(self._outbox.take_part)
            except BaseException:
                self._transport.abort()  # the client would wait for the next part for ever
                raise
        self._schedule()

    def _write(self, take: Callable[[], bytes]) -> None:
        was_full = self.is_full()
        data = take()
        self.sent_at = self._host.runtime.monotonic()
        self.bytes_sent += len(data)
        self._host.counters.bytes_sent += len(data)
        self._transport.write(data)
        if self.reading_paused and self._outbox.ready_bytes <= limits.RESPONSES_UNSENT_BYTES_MAX // 2:
            self.reading_paused = False
            self._transport.resume_reading()
        if was_full and not self.is_full():
            self._drained()


def _bound_system_buffer(transport: asyncio.Transport) -> None:
    """Keep what cannot be sent yet out of the system's buffer, where megabytes of it would count as sent."""
    sock = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux, macOS
    if sock is not None and option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, limits.SYSTEM_BUFFER_BYTES)
