"""The order in which messages leave a connection, without a socket."""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tinyvex.server.transport.outbox import Outbox, text_frame
from tinyvex.wire.transition_chunks import Splitter

CHUNK_BYTES = 16


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_text_frame_is_what_the_library_would_send(size: int) -> None:
    """The frames equal those of websockets, at every length encoding."""
    payload = b"x" * size
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def transition(number: int, size: int) -> list[bytes]:
    """Build a transition in pieces: its number, then padding."""
    return [b"%03d" % number, *[b"x"] * (size - 3)]


@dataclass
class Reader:
    """Reads frames as a client does: chunks are joined, and must not mix."""

    heard: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    rest: bytes = b""

    def read(self, data: bytes) -> None:
        frames = self.rest + data
        while len(frames) >= 2:
            size, head = frames[1], 2
            if size == 126:
                size, head = int.from_bytes(frames[2:4], "big"), 4
            if len(frames) < head + size:
                break
            self._message(frames[head : head + size])
            frames = frames[head + size :]
        self.rest = frames

    def _message(self, text: bytes) -> None:
        if not text.startswith(b"{"):
            self.heard.append(text.decode())
            assert not (text[:3].isdigit() and self.parts), "a transition came between the parts of another"
            return
        part = msgspec.json.decode(text)["params"]
        assert part["partNumber"] == len(self.parts)
        self.parts.append(part["chunk"])
        if len(self.parts) == part["partsTotal"]:
            self.heard.append("".join(self.parts))
            self.parts.clear()


def drain(outbox: Outbox, reader: Reader) -> None:
    while outbox.has_ready or outbox.has_chunk:
        reader.read(outbox.take_ready(100) if outbox.has_ready else outbox.take_chunk())


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("transition"), st.integers(3, 60)),
            st.tuples(st.just("response"), st.integers(1, 60)),
            st.tuples(st.just("response in pieces"), st.integers(1, 60)),
            st.tuples(st.just("write"), st.integers(1, 200)),
        ),
        max_size=40,
    ),
    st.booleans(),
)
def test_transitions_keep_their_order_and_so_does_the_rest(steps: list[tuple[str, int]], in_chunks: bool) -> None:
    """Nothing is lost at any pace of writing, and the sizes and counts are always right."""
    outbox, reader = Outbox(CHUNK_BYTES), Reader()
    transitions: list[str] = []
    responses: list[str] = []
    for kind, size in steps:
        if kind == "transition":
            pieces = transition(len(transitions), size)
            transitions.append(b"".join(pieces).decode())
            outbox.put_transition(pieces, Splitter if in_chunks else None)
        elif kind == "response":
            responses.append(f"r{len(responses)}" + "y" * size)
            outbox.put(text_frame(responses[-1].encode()))
        elif kind == "response in pieces":
            responses.append(f"r{len(responses)}" + "y" * size)
            outbox.put_pieces([responses[-1][:2].encode(), responses[-1][2:].encode()])
        elif outbox.has_ready:
            reader.read(outbox.take_ready(size))
            assert outbox.is_inside_frame == bool(reader.rest)
        elif outbox.has_chunk:
            reader.read(outbox.take_chunk())
        arrived = sum(text[0].isdigit() for text in reader.heard)
        assert outbox.transitions == len(transitions) - arrived
        assert outbox.has_ready == (outbox.ready_bytes > 0)
    drain(outbox, reader)
    assert [text for text in reader.heard if text[0].isdigit()] == transitions
    assert [text for text in reader.heard if text[0] == "r"] == responses
    assert (outbox.transitions, outbox.ready_bytes) == (0, 0)


def test_a_long_message_leaves_in_slices() -> None:
    """Each slice has at most the requested size; other frames wait until the last one was taken."""
    outbox, reader = Outbox(CHUNK_BYTES), Reader()
    outbox.put_pieces([b"r", b"x" * 99])
    outbox.put(text_frame(b"r1"))
    slices = []
    while outbox.has_ready:
        slices.append(outbox.take_ready(40))
        reader.read(slices[-1])
    assert [len(data) for data in slices] == [40, 40, 22, 4]
    assert reader.heard == ["r" + "x" * 99, "r1"]


def test_only_a_frame_that_has_begun_outlasts_the_others() -> None:
    """A WebSocket frame cannot be interrupted, so its rest stays; one that has not begun is discarded."""
    outbox, reader = Outbox(CHUNK_BYTES), Reader()
    outbox.put_pieces([b"r" * 100])
    outbox.put(text_frame(b"r1"))
    reader.read(outbox.take_ready(40))
    outbox.clear_unbegun()
    assert outbox.ready_bytes == 62
    drain(outbox, reader)
    assert reader.heard == ["r" * 100]
    outbox.put_pieces([b"r" * 100])
    outbox.clear_unbegun()
    assert (outbox.has_ready, outbox.ready_bytes) == (False, 0)


def test_a_response_goes_between_the_parts() -> None:
    """It waits only for the chunk that is already made."""
    outbox, reader = Outbox(CHUNK_BYTES), Reader()
    outbox.put_transition(transition(0, 3 * CHUNK_BYTES), Splitter)
    reader.read(outbox.take_chunk())
    outbox.put(text_frame(b"response"))
    assert outbox.has_ready
    reader.read(outbox.take_ready(100))
    assert reader.heard == ["response"]
    assert reader.parts
    drain(outbox, reader)
    assert len(reader.heard) == 2


def test_a_transition_in_parts_waits_until_its_last_part_is_taken() -> None:
    """Until then it counts as unsent."""
    outbox = Outbox(CHUNK_BYTES)
    outbox.put_transition(transition(0, 2 * CHUNK_BYTES), Splitter)
    outbox.take_chunk()
    assert (outbox.transitions, outbox.has_chunk) == (1, True)
    outbox.take_chunk()
    assert (outbox.transitions, outbox.has_chunk) == (0, False)


@pytest.mark.parametrize(("size", "in_chunks", "has_chunk"), [(16, True, False), (17, True, True), (17, False, False)])
def test_only_a_long_transition_goes_in_parts(size: int, in_chunks: bool, has_chunk: bool) -> None:
    """It must exceed a chunk, and the client must accept chunks."""
    outbox = Outbox(CHUNK_BYTES)
    outbox.put_transition(transition(0, size), Splitter if in_chunks else None)
    assert outbox.has_chunk == has_chunk


def test_a_transition_in_parts_costs_nothing_before_it_is_sent() -> None:
    """Its pieces are shared."""
    outbox = Outbox(CHUNK_BYTES)
    outbox.put_transition(transition(0, 10_000), Splitter)
    assert outbox.ready_bytes == 0


def test_a_write_is_bounded() -> None:
    """Frames beyond the size stay; a single one may be larger."""
    outbox = Outbox(CHUNK_BYTES)
    for size in (200, 10, 10, 90):
        outbox.put(b"x" * size)
    assert [len(outbox.take_ready(100)) for _ in range(3)] == [200, 20, 90]


def test_a_cleared_outbox_holds_nothing() -> None:
    """Ready frames and pending transitions are dropped."""
    outbox = Outbox(CHUNK_BYTES)
    outbox.put(b"x")
    outbox.put_transition(transition(0, 100), Splitter)
    outbox.clear()
    assert (outbox.has_ready, outbox.has_chunk, outbox.ready_bytes, outbox.transitions) == (False, False, 0, 0)
