"""When pending data is written, and the bounds on a client that does not read."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from tests.support.loop import run_virtual
from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.transport.fair_queue import FairQueue
from tinyvex.server.transport.outbox import text_frame
from tinyvex.server.transport.sender import Sender
from tinyvex.server.transport.unread_total import UnreadTotal
from tinyvex.sync.counters import Counters
from tinyvex.wire.transition_chunks import Splitter

LONG = [b"x" * 100] * 10
LONG_PIECE = b"y" * 1000
PART_BYTES = 250
PARTS = 4


class Pipe(asyncio.Transport):
    """A transport whose peer reads when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.unread = 0
        self.reading = True
        self.aborted = False
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == limits.OUTBOX_BYTES_HIGH

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


class Host:
    """The state that senders share."""

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.runtime.bind(asyncio.get_running_loop())
        self.counters = Counters()
        self.fair_queue = FairQueue(self.runtime)
        self.unread = UnreadTotal()
        self.reliefs = 0

    def relieve_memory(self) -> None:
        self.reliefs += 1


class World:
    """A sender, its transport, and the number of times it was drained."""

    def __init__(self, host: Host | None = None) -> None:
        self.pipe = Pipe()
        self.drained = 0
        self.host = host or Host()
        self.closed: list[str] = []
        self.holds: list[bool] = []
        self.sender = Sender(self.host, self.pipe, PART_BYTES, self._drained, self.closed.append, self.holds.append)

    def _drained(self) -> None:
        self.drained += 1

    def transition(self, pieces: list[bytes] = LONG) -> None:
        self.sender.put_transition(pieces, Splitter)


def play(scenario: Callable[[World], Any]) -> None:
    async def main() -> None:
        await scenario(World())

    run_virtual(main())


async def turns(count: int) -> None:
    """Let the loop turn a few times."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_a_turn_queues_leaves_in_one_write() -> None:
    """The write happens at the end of the turn."""

    async def scenario(world: World) -> None:
        for frame in (b"a", b"b", b"c"):
            world.sender.put(frame)
        assert world.pipe.writes == []
        await turns(1)
        assert world.pipe.writes == [b"abc"]
        assert world.host.counters.bytes_sent == 3

    play(scenario)


def test_a_socket_that_fills_before_the_write_is_waited_for() -> None:
    """A frame of the connection's own may fill it in the same turn."""

    async def scenario(world: World) -> None:
        world.sender.put(b"a")
        world.sender.socket_filled()
        await turns(2)
        assert world.pipe.writes == []
        world.sender.socket_drained()
        await turns(1)
        assert world.pipe.writes == [b"a"]

    play(scenario)


def test_a_long_message_is_written_in_slices() -> None:
    """One slice leaves in each turn, and a full socket stops it between two."""

    async def scenario(world: World) -> None:
        size = 3 * limits.OUTBOX_BYTES_HIGH
        world.sender.put_pieces([b"x" * size])
        await turns(1)
        world.sender.socket_filled()
        await turns(3)
        assert [len(data) for data in world.pipe.writes] == [limits.OUTBOX_BYTES_HIGH]
        world.sender.socket_drained()
        await turns(5)
        assert sum(map(len, world.pipe.writes)) == size + 10
        assert max(map(len, world.pipe.writes)) == limits.OUTBOX_BYTES_HIGH

    play(scenario)


def test_a_long_message_is_completed_before_the_last_one() -> None:
    """Its frame cannot be interrupted: the last message and the end wait for it, everything else is discarded."""

    async def scenario(world: World) -> None:
        size = 3 * limits.OUTBOX_BYTES_HIGH
        world.sender.put_pieces([b"x" * size])
        world.sender.put(b"discarded")
        await turns(1)
        world.sender.socket_filled()
        world.sender.close(b"last")
        world.sender.write_last(b"close frame")
        world.sender.end_writing()
        assert len(world.pipe.writes) == 1
        assert not world.pipe.closed
        world.sender.socket_drained()
        await turns(5)
        assert world.pipe.closed
        written = b"".join(world.pipe.writes)
        assert len(written) == size + 10 + len(b"lastclose frame")
        assert written.endswith(b"xlastclose frame")

    play(scenario)


def test_the_queries_of_a_client_are_held_while_the_server_does_not_read_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both begin and end together."""
    monkeypatch.setattr(limits, "RESPONSES_UNSENT_BYTES_MAX", 100)

    async def scenario(world: World) -> None:
        world.sender.socket_filled()
        world.sender.put(b"x" * 101)
        assert (world.pipe.reading, world.holds) == (False, [True])
        world.sender.socket_drained()
        await turns(1)
        assert (world.pipe.reading, world.holds) == (True, [True, False])

    play(scenario)


def test_a_part_is_made_in_a_turn_of_its_own() -> None:
    """Two clients get their chunks alternately, and the loop is free after each."""

    async def scenario(one: World) -> None:
        other = World(one.host)
        one.transition()
        other.transition()
        counts = []
        for _ in range(2 * PARTS + 2):
            await turns(1)
            counts.append((len(one.pipe.writes), len(other.pipe.writes)))
        assert counts[:4] == [(1, 0), (1, 1), (2, 1), (2, 2)]
        assert counts[-1] == (PARTS, PARTS)

    play(scenario)


def test_no_part_is_made_for_a_full_socket() -> None:
    """The rest remains pieces that others share."""

    async def scenario(world: World) -> None:
        world.transition()
        await turns(1)
        world.sender.socket_filled()
        await turns(10)
        assert len(world.pipe.writes) == 1
        assert world.sender.waiting_bytes == 0
        world.sender.socket_drained()
        await turns(10)
        assert len(world.pipe.writes) == PARTS

    play(scenario)


def test_a_response_leaves_before_the_next_part() -> None:
    """This includes one queued after the chunk was scheduled."""

    async def scenario(world: World) -> None:
        world.transition()
        await turns(1)
        world.sender.put(text_frame(b"response"))
        await turns(10)
        assert world.pipe.writes[1] == text_frame(b"response")
        assert len(world.pipe.writes) == PARTS + 1

    play(scenario)


def test_a_transition_is_waited_for_until_its_last_part_is_written() -> None:
    """Two transitions fill the sender; its host is notified when there is room."""

    async def scenario(world: World) -> None:
        world.transition()
        world.transition()
        assert world.sender.is_full()
        await turns(PARTS - 1)
        assert world.sender.is_full()
        assert world.drained == 0
        await turns(1)
        assert not world.sender.is_full()
        assert world.drained == 1

    play(scenario)


def test_reading_stops_until_the_client_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops above one bound, and resumes below half of it."""
    monkeypatch.setattr(limits, "RESPONSES_UNSENT_BYTES_MAX", 100)
    monkeypatch.setattr(limits, "OUTBOX_BYTES_HIGH", 10)

    async def scenario(world: World) -> None:
        world.sender.socket_filled()
        for _ in range(11):
            world.sender.put(b"x" * 10)
        assert not world.pipe.reading
        world.sender.socket_drained()
        while not world.pipe.reading:
            await turns(1)
        assert world.sender.waiting_bytes == 50

    play(scenario)


def test_a_client_that_reads_a_little_is_not_stuck() -> None:
    """The time counts from the last byte read."""

    async def scenario(world: World) -> None:
        now = world.host.runtime.monotonic()
        world.pipe.write(b"x" * 100)
        world.sender.socket_filled()
        assert world.sender.unread_seconds(now + 50) > 49
        world.pipe.unread -= 1
        assert world.sender.unread_seconds(now + 60) == 0
        assert world.sender.unread_seconds(now + 70) == pytest.approx(10)
        world.sender.socket_drained()
        assert world.sender.unread_seconds(now + 900) == 0

    play(scenario)


def test_closing_ends_a_transition_in_parts_where_it_is() -> None:
    """Ready frames leave, then the last message, and nothing after it."""

    async def scenario(world: World) -> None:
        world.transition()
        await turns(1)
        world.sender.put(b"ready")
        world.sender.close(b"last")
        world.sender.put(b"late")
        await turns(10)
        assert world.pipe.writes[1:] == [b"ready", b"last"]
        assert not world.sender.is_full()

    play(scenario)


def test_closing_a_full_socket_writes_only_the_last_word() -> None:
    """Pending data is dropped."""

    async def scenario(world: World) -> None:
        world.sender.socket_filled()
        world.sender.put(b"ready")
        world.sender.close(b"last")
        assert world.pipe.writes == [b"last"]
        assert world.sender.waiting_bytes == 0

    play(scenario)


def test_a_part_that_cannot_be_made_ends_the_connection() -> None:
    """Its client would wait forever; the loop gets the reason."""

    async def scenario(world: World) -> None:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(type(context["exception"]).__name__))
        world.transition([b"\xff" * 600])
        await turns(2)
        assert world.pipe.aborted
        assert told == ["UnicodeDecodeError"]

    play(scenario)


def test_the_parts_are_what_the_client_puts_together() -> None:
    """Each chunk is one text frame with a notification."""

    async def scenario(world: World) -> None:
        world.transition()
        await turns(PARTS)
        heads = [write[:4] for write in world.pipe.writes]
        assert all(head[:2] == b"\x81\x7e" for head in heads)
        messages = [cast("dict[str, Any]", msgspec.json.decode(write[4:])) for write in world.pipe.writes]
        assert "".join(message["params"]["chunk"] for message in messages).encode() == b"".join(LONG)

    play(scenario)


def test_what_waits_counts_until_the_client_has_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer counts in the outbox and in the transport's buffer, and no longer once it was read."""
    monkeypatch.setattr(limits, "UNREAD_COUNTED_BYTES", 100)

    async def scenario(world: World) -> None:
        world.sender.put(b"x" * 500)
        assert world.host.unread.bytes == 500
        await turns(1)
        assert (world.pipe.unread, world.host.unread.bytes) == (500, 500)
        world.pipe.unread = 0
        world.sender.socket_drained()
        await turns(1)
        assert world.host.unread.bytes == 0

    play(scenario)


def test_a_transition_for_several_clients_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pieces are shared; they count until the last client's last chunk is made."""
    monkeypatch.setattr(limits, "UNREAD_COUNTED_BYTES", 500)

    async def scenario(one: World) -> None:
        other = World(one.host)
        for world in (one, other):
            world.sender.socket_filled()
            world.transition([LONG_PIECE, LONG_PIECE])
        assert one.host.unread.bytes == len(LONG_PIECE)
        one.sender.socket_drained()
        await turns(20)
        assert one.host.unread.bytes == len(LONG_PIECE)
        other.sender.end()
        assert one.host.unread.bytes == 0

    play(scenario)


def test_a_client_asks_for_relief_above_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that exceeds the bound of all clients together asks for a client to be closed."""
    monkeypatch.setattr(limits, "UNREAD_COUNTED_BYTES", 100)
    monkeypatch.setattr(limits, "UNREAD_BYTES_MAX", 1000)

    async def scenario(world: World) -> None:
        world.sender.put(b"x" * 900)
        assert world.host.reliefs == 0
        world.sender.put(b"x" * 200)
        assert world.host.reliefs == 1

    play(scenario)


def test_a_client_that_is_closed_for_its_memory_is_written_nothing_more() -> None:
    """Its answers are released, not copied into the transport's buffer first."""

    async def scenario(world: World) -> None:
        world.sender.put(b"x" * 500)
        world.sender.end()
        await turns(2)
        assert (world.pipe.writes, world.sender.waiting_bytes) == ([], 0)

    play(scenario)


async def test_a_client_that_is_closed_as_it_reads_is_lost_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real socket: asyncio reports the loss twice, the second time as an error, if a callback of it closes the socket."""
    monkeypatch.setattr(limits, "UNREAD_COUNTED_BYTES", 100)
    loop = asyncio.get_running_loop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    host, filled, lost = Host(), asyncio.Event(), asyncio.Event()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            host.relieve_memory = transport.abort  # type: ignore[method-assign]
            self.sender = Sender(host, transport, PART_BYTES, lambda: None, lambda _: None, lambda _: None)

        def pause_writing(self) -> None:
            self.sender.socket_filled()
            filled.set()

        def resume_writing(self) -> None:
            self.sender.socket_drained()

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with peer:
        peer.setblocking(False)
        _, server = await loop.create_connection(Server, sock=ours)
        for _ in range(100):
            server.sender.put(b"x" * 100_000)
        await filled.wait()
        monkeypatch.setattr(limits, "UNREAD_BYTES_MAX", 0)
        async with asyncio.timeout(10):
            while not lost.is_set():
                await loop.sock_recv(peer, 1 << 20)
        await turns(5)
    assert errors == []
