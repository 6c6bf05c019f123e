"""A network in memory: listeners by port, connections that delay, and can be cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

FIRST_PORT = 50_000


class MemoryTransport(asyncio.Transport):
    """
    An end of a connection.

    Bytes arrive at the other end in order, each write after its own delay at the earliest.
    """

    def __init__(self, network: Network, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.peer: MemoryTransport | None = None
        self._network = network
        self._closing = False
        self._lost = False
        self._arrives_at = 0.0
        self._reading = True
        self._held: list[bytes] = []
        self._high = network.buffer_bytes
        self._under_way = 0
        self._writing_paused = False

    # Called by protocols.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._lost or not data:
            return
        self._under_way += len(data)
        if self._under_way > self._high and not self._writing_paused:
            self._writing_paused = True
            self.protocol.pause_writing()
        self._later(self._arrive, bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = min(high, self._network.buffer_bytes) if high is not None else self._high

    def get_write_buffer_size(self) -> int:
        return self._under_way

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        while self._held and self._reading and not self._lost:
            self._deliver(self._held.pop(0))

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._later(self._end_peer)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._later(self._end_both)

    def abort(self) -> None:
        self._closing = True
        asyncio.get_running_loop().call_soon(self._end_both)

    # How bytes travel.

    def _later(self, callback: Callable[..., object], *args: object) -> None:
        loop = asyncio.get_running_loop()
        self._arrives_at = max(self._arrives_at, loop.time() + self._network.delay_seconds())
        # Timers with equal times need not run in order, so each arrives a little after the one before.
        self._arrives_at += 1e-7
        loop.call_at(self._arrives_at, callback, *args)

    def _arrive(self, data: bytes) -> None:
        peer = self.peer
        if self._lost or peer is None or peer._lost:
            return
        if peer._reading and not peer._held:
            peer._deliver(data)
        else:
            peer._held.append(data)

    def _deliver(self, data: bytes) -> None:
        self.protocol.data_received(data)
        if self.peer is not None:
            self.peer._taken(len(data))

    def _taken(self, size: int) -> None:
        """Release write-buffer space after the peer has read; unread bytes count against this end."""
        self._under_way -= size
        if self._writing_paused and self._under_way <= self._high // 4 and not self._lost:
            self._writing_paused = False
            self.protocol.resume_writing()

    def _end_peer(self) -> None:
        if self.peer is not None and not self.peer._lost and not self.peer.protocol.eof_received():
            self.peer.close()

    def _end_both(self) -> None:
        self.lose(None)
        if self.peer is not None:
            self.peer.lose(None)

    def lose(self, error: Exception | None) -> None:
        """Lose the connection at this end."""
        if not self._lost:
            self._lost = True
            self._network.transports.pop(self, None)
            self.protocol.connection_lost(error)


class MemoryListener:
    """A port that accepts connections."""

    def __init__(self, network: Network, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        self.port = port
        self.factory = factory
        self._network = network

    def close(self) -> None:
        self._network.listeners.pop(self.port, None)


class Network:
    """All listeners and connections of a world."""

    def __init__(self, source: random.Random, *, delay_seconds_max: float = 0.005) -> None:
        self.random = source
        self.delay_seconds_max = delay_seconds_max
        self.buffer_bytes = 64 << 10
        """Bytes in flight above which a writer is paused."""
        self.listeners: dict[int, MemoryListener] = {}
        self.transports: dict[MemoryTransport, None] = {}  # in the order of dialling, so that a seed repeats

    def delay_seconds(self) -> float:
        """Return the travel time of the next write."""
        return self.random.random() * self.delay_seconds_max

    def listen(self, factory: Callable[[], asyncio.Protocol], port: int) -> MemoryListener:
        """Accept connections on a port."""
        port = port or FIRST_PORT + len(self.listeners)
        if port in self.listeners:
            raise OSError(98, "Address already in use")
        self.listeners[port] = listener = MemoryListener(self, port, factory)
        return listener

    async def dial(
        self, factory: Callable[[], asyncio.Protocol], port: int
    ) -> tuple[MemoryTransport, asyncio.Protocol]:
        """Connect to a port."""
        await asyncio.sleep(self.delay_seconds())
        listener = self.listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = (MemoryTransport(self, make()) for make in (factory, listener.factory))
        ours.peer, theirs.peer = theirs, ours
        self.transports |= {ours: None, theirs: None}
        theirs.protocol.connection_made(theirs)
        ours.protocol.connection_made(ours)
        return ours, ours.protocol

    def cut(self, transport: MemoryTransport) -> None:
        """Lose a connection at both ends, with everything in flight."""
        for end in (transport, transport.peer):
            if end is not None:
                end.lose(ConnectionResetError(104, "Connection reset by peer"))

    def vanish(self, protocol: type[asyncio.Protocol]) -> bool:
        """Lose one end that speaks `protocol`, chosen by the seed; the other end gets no notice."""
        ends = [transport for transport in self.transports if isinstance(transport.protocol, protocol)]
        if ends:
            self.random.choice(ends).lose(ConnectionResetError(104, "Connection reset by peer"))
        return bool(ends)

    def cut_any(self) -> None:
        """Cut one connection, chosen by the seed."""
        if self.transports:
            self.cut(self.random.choice(list(self.transports)))

    def stall(self, protocol: type[asyncio.Protocol], seconds: float) -> bool:
        """Stop reading for a while at one end that speaks `protocol`, chosen by the seed."""
        ends = [transport for transport in self.transports if isinstance(transport.protocol, protocol)]
        if not ends:
            return False
        end = self.random.choice(ends)
        end.pause_reading()
        asyncio.get_running_loop().call_later(seconds, end.resume_reading)
        return True
