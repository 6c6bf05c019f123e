"""
What waits for one socket, in the order in which it will leave, made as late as possible; no socket in here.

::

    put: responses, pings, errors ─────────────────────────────────────► ready ───────────────► take_ready
    put_transition: short ── nothing in parts waits ───────────────────► ready
                      └───── else ──► transitions, after the one in parts
                    long ───────────► transitions, as Chunks ──────── one part at a time ─────► take_part

So transitions keep their order among each other, and so does all the rest;
what is no transition overtakes those in parts, and never waits for more than one part.

A client that does not read costs the frames in `ready`, which are counted and bounded by who puts them,
and of each transition in parts only a list: its pieces are the result's, which all subscribers share.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tinyvex.dialects.dialect import Chunks, Split
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Outbox", "text_frame"]


class Outbox:
    """
    Frames and transitions that were not yet given to a socket.

    Attributes:
        ready_bytes: size of the frames that are made and wait.
        transitions: how many transitions wait; one in parts does so until its last part is taken.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self.ready_bytes = 0
        self.transitions = 0
        self._chunk_bytes = chunk_bytes
        self._ready: deque[tuple[bytes, bool]] = deque()  # a frame, and whether it is a whole transition
        self._transitions: deque[Chunks | bytes] = deque()  # empty, or begins with one in chunks
        self._transition_id = 0  # of the next transition in parts

    def put(self, frame: bytes, *, transition: bool = False) -> None:
        """Add a frame that leaves as it is."""
        self._ready.append((frame, transition))
        self.ready_bytes += len(frame)
        self.transitions += transition

    def put_transition(self, pieces: Sequence[Piece], split: Split | None) -> None:
        """
        Add a transition.

        Args:
            pieces: joined they are the message.
            split: splits a long transition into chunks; None if the client accepts none.
        """
        if split is not None and sum(map(len, pieces)) > self._chunk_bytes:
            self._transitions.append(split(pieces, self._chunk_bytes, self._transition_id))
            self._transition_id += 1
            self.transitions += 1
            return
        frame = text_frame(_joined(pieces))
        if self._transitions:
            self._transitions.append(frame)
            self.transitions += 1
        else:
            self.put(frame, transition=True)

    @property
    def has_ready(self) -> bool:
        """Whether `take_ready` has something to give."""
        return bool(self._ready)

    @property
    def has_part(self) -> bool:
        """Whether `take_part` has something to give."""
        return bool(self._transitions)

    def take_ready(self, size: int) -> bytes:
        """The next frames: one at least, and more up to `size` bytes."""
        frames = [self._pop_ready()]
        size -= len(frames[0])
        while self._ready and len(self._ready[0][0]) <= size:
            frames.append(self._pop_ready())
            size -= len(frames[-1])
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _pop_ready(self) -> bytes:
        frame, transition = self._ready.popleft()
        self.ready_bytes -= len(frame)
        self.transitions -= transition
        return frame

    def take_part(self) -> bytes:
        """Make the next part of the transition in parts; after its last one, short transitions behind it are ready."""
        chunks = self._transitions[0]
        assert not isinstance(chunks, bytes)
        frame = text_frame(next(chunks))
        if chunks.is_exhausted():
            self._transitions.popleft()
            self.transitions -= 1
            while self._transitions and isinstance(following := self._transitions[0], bytes):
                self._transitions.popleft()
                self.transitions -= 1
                self.put(following, transition=True)
        return frame

    def clear(self) -> None:
        """Forget everything: nobody will read it."""
        self._ready.clear()
        self._transitions.clear()
        self.ready_bytes = self.transitions = 0


def _joined(pieces: Sequence[Piece]) -> bytes:
    try:
        return b"".join(cast("Sequence[bytes]", pieces))  # mostly they are bytes
    except TypeError:
        return b"".join(map(bytes, pieces))


def text_frame(payload: bytes) -> bytes:
    """
    An unmasked final text frame (RFC 6455, 5.2).

    The core's `send_text` gives the same bytes for three times the time, and a payload here goes to many sockets.
    """
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
