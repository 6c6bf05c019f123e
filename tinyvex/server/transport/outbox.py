"""
The messages that wait for one socket, in the order in which they leave; each is made as late as possible. (pure)

::

    put: responses, pings, errors ─────────────────────────────────────► ready ───────────────► take_ready
    put_transition: short ── no transition in chunks waits ────────────► ready
                      └───── otherwise ──► transitions, after the one in chunks
                    long ────────────────► transitions, as Chunks ──── one chunk at a time ───► take_chunk

A long message that is not sent in chunks is one frame. It leaves in slices, so that it is never copied as a whole; other
frames wait behind it, because a WebSocket frame cannot be interrupted.

Transitions keep their order, and so do all other messages. Other messages overtake transitions in chunks, so that they
wait for at most one chunk.

A client that does not read costs the frames in `ready`, which the caller bounds by `ready_bytes`. A transition in chunks
costs only a list: its pieces belong to the result, which all subscribers share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from tinyvex.wire.transition_chunks import PieceReader

if TYPE_CHECKING:
    from tinyvex.dialects.dialect import Chunks, Split
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Outbox", "text_frame"]


class _LongFrame:
    """
    A frame that leaves in slices.

    Attributes:
        unsent: the bytes that were not taken yet.
        has_begun: whether some were.
    """

    __slots__ = ("_reader", "has_begun", "unsent")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        size = sum(map(len, pieces))
        head = text_frame_head(size)
        self._reader = PieceReader([head, *pieces])
        self.unsent = len(head) + size
        self.has_begun = False

    def take(self, size: int) -> bytes:
        data = self._reader.take(size)
        self.unsent -= len(data)
        self.has_begun = True
        return data


class Outbox:
    """
    Frames and transitions that the socket has not been given yet.

    Args:
        chunk_bytes: a longer transition is sent in chunks.

    Attributes:
        ready_bytes: the size of the frames that are ready.
        transitions: the number of transitions; one in chunks counts until its last chunk is taken.
        split_pieces: the pieces of each transition in chunks, in order.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self.ready_bytes = 0
        self.transitions = 0
        self.split_pieces: deque[Sequence[Piece]] = deque()
        self._chunk_bytes = chunk_bytes
        # A frame, and whether it is a whole transition.
        self._ready: deque[tuple[bytes | _LongFrame, bool]] = deque()
        self._transitions: deque[Chunks | bytes | _LongFrame] = deque()  # empty, or begins with one in chunks
        self._transition_id = 0  # of the next transition in chunks

    def put(self, frame: bytes, *, transition: bool = False) -> None:
        """Add a frame that is ready."""
        self._ready.append((frame, transition))
        self.ready_bytes += len(frame)
        self.transitions += transition

    def put_pieces(self, pieces: Sequence[Piece]) -> None:
        """Add a message that is ready; the concatenation of `pieces`, which must not change."""
        self._put(self._frame(pieces), transition=False)

    def _frame(self, pieces: Sequence[Piece]) -> bytes | _LongFrame:
        if sum(map(len, pieces)) > self._chunk_bytes:
            return _LongFrame(pieces)
        return text_frame(_joined(pieces))

    def _put(self, frame: bytes | _LongFrame, *, transition: bool) -> None:
        if isinstance(frame, bytes):
            self.put(frame, transition=transition)
            return
        self._ready.append((frame, transition))
        self.ready_bytes += frame.unsent
        self.transitions += transition

    def put_transition(self, pieces: Sequence[Piece], split: Split | None) -> None:
        """
        Add a transition.

        Args:
            pieces: their concatenation is the message.
            split: splits a long transition into chunks; None if the client accepts none.
        """
        if split is not None and sum(map(len, pieces)) > self._chunk_bytes:
            self._transitions.append(split(pieces, self._chunk_bytes, self._transition_id))
            self.split_pieces.append(pieces)
            self._transition_id += 1
            self.transitions += 1
            return
        frame = self._frame(pieces)
        if self._transitions:
            self._transitions.append(frame)
            self.transitions += 1
        else:
            self._put(frame, transition=True)

    @property
    def has_ready(self) -> bool:
        """Return whether `take_ready` has a frame."""
        return bool(self._ready)

    @property
    def has_chunk(self) -> bool:
        """Return whether `take_chunk` has a frame."""
        return bool(self._transitions)

    @property
    def is_inside_frame(self) -> bool:
        """Return whether the next bytes continue a frame that has begun."""
        return bool(self._ready) and isinstance(frame := self._ready[0][0], _LongFrame) and frame.has_begun

    def take_ready(self, size: int) -> bytes:
        """Remove and return the next frames, at least one and more of them up to `size` bytes, or a slice of a long one."""
        frame, transition = self._ready[0]
        if isinstance(frame, _LongFrame):
            return self._take_slice(frame, size)
        frames = []
        while True:
            frames.append(frame)
            self._ready.popleft()
            self.ready_bytes -= len(frame)
            self.transitions -= transition
            size -= len(frame)
            if not self._ready:
                break
            frame, transition = self._ready[0]
            if isinstance(frame, _LongFrame) or len(frame) > size:
                break
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _take_slice(self, frame: _LongFrame, size: int) -> bytes:
        data = frame.take(size)
        self.ready_bytes -= len(data)
        if not frame.unsent:
            self.transitions -= self._ready.popleft()[1]
        return data

    def take_chunk(self) -> bytes:
        """Make the next chunk of the first transition; after its last chunk, short transitions behind it are ready."""
        chunks = self._transitions[0]
        assert not isinstance(chunks, bytes | _LongFrame)
        frame = text_frame(next(chunks))
        if chunks.is_exhausted():
            self._transitions.popleft()
            self.split_pieces.popleft()
            self.transitions -= 1
            while self._transitions and isinstance(following := self._transitions[0], bytes | _LongFrame):
                self._transitions.popleft()
                self.transitions -= 1
                self._put(following, transition=True)
        return frame

    def clear(self) -> None:
        """Discard everything."""
        self._ready.clear()
        self._transitions.clear()
        self.split_pieces.clear()
        self.ready_bytes = self.transitions = 0

    def clear_unbegun(self) -> None:
        """Discard everything but the rest of a frame that has begun."""
        begun = self._ready[0] if self.is_inside_frame else None
        self.clear()
        if begun is not None:
            self._put(begun[0], transition=begun[1])


def _joined(pieces: Sequence[Piece]) -> bytes:
    try:
        return b"".join(cast("Sequence[bytes]", pieces))  # most are bytes
    except TypeError:
        return b"".join(map(bytes, pieces))


def text_frame(payload: bytes) -> bytes:
    """
    Return an unmasked final text frame (RFC 6455, 5.2).

    The core's `send_text` returns the same bytes in three times the time, and one payload is sent to many sockets.
    """
    return text_frame_head(len(payload)) + payload


def text_frame_head(size: int) -> bytes:
    """Return the bytes before the payload of such a frame."""
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big")
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")
