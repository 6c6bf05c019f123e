"""
Results of live queries: how long they are right, what clients hold of them, and how they are told.

A `Version` is what a client may hold: a hash, and the body behind it for as long as it is worth keeping.
A `Result` is the outcome of one execution and the interval of `ts` in which it is the answer.
What is said of a result is the same for every connection, so it is encoded once, whole and from each version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.sync.diff import diff
from tinyvex.wire.codec import patched_tail, updated_tail
from tinyvex.wire.error_objects import to_object

if TYPE_CHECKING:
    from tinyvex.functions.result.result_body import Body
    from tinyvex.functions.run.call import QueryOutcome
    from tinyvex.sync.counters import Counters
    from tinyvex.wire.messages import ErrorObject
    from tinyvex.wire.transition_chunks import Piece

__all__ = ["Result", "Version"]


class Version:
    """
    One value of a live query.

    Attributes:
        hash: the token clients keep.
        body: None where it failed, or where the memory was needed.
        holders: how many subscriptions were told it last.
    """

    __slots__ = ("body", "hash", "holders")

    def __init__(self, token: str, body: Body | None) -> None:
        self.hash = token
        self.body = body
        self.holders = 0

    def weight_beside(self, newest: Version) -> int:
        """About how much memory it takes that the newest version does not take too."""
        if self.body is None:
            return 0
        if newest is self or newest.body is None:
            return self.body.literal_size + sum([part.rows.weight for part in self.body.parts])
        shared = {chunk for part in newest.body.parts for chunk in part.rows.chunks}
        own = {chunk for part in self.body.parts for chunk in part.rows.chunks} - shared
        return self.body.literal_size + sum([chunk.weight for chunk in own])


class Result:
    """
    A query's outcome and the interval in which it is the answer: from `since` up to before `until`.

    Attributes:
        version: what it is; shared with an earlier result of the same hash.
        failure: what clients are told instead, where it failed.
        read_now: it looked at the clock, so it cannot be found again.
    """

    __slots__ = ("_tails", "failure", "log_lines", "read_now", "since", "until", "version")

    def __init__(
        self, outcome: QueryOutcome, until: int | None, version: Version, *, reveal: bool, request_id: str
    ) -> None:
        self.since = outcome.ts
        self.until = until
        self.version = version
        self.log_lines = outcome.log_lines
        self.read_now = outcome.read_now
        self.failure: ErrorObject | None = None
        if outcome.error is not None:
            self.failure = to_object(outcome.error, request_id=request_id, reveal=reveal)
        self._tails: dict[str | None, bytes | None] = {}

    def covers(self, ts: int) -> bool:
        """Whether this is the answer at `ts`."""
        return self.since <= ts and (self.until is None or ts < self.until)

    @property
    def hash(self) -> str:
        """The token clients keep."""
        return self.version.hash

    def is_tellable(self, held: str | None) -> bool:
        """Whether a client that holds `held` can be told this: its body may have been given up."""
        return self.version.body is not None or self.failure is not None or self.hash == held

    def body(self) -> Body:
        """What the function returned."""
        assert self.version.body is not None, "is_tellable() comes first"
        return self.version.body

    def tail(self) -> bytes:
        """The part of a `QueryUpdated` with the whole value that is the same for every connection."""
        tail = self._tails.get(None)
        if tail is None:
            tail = self._tails[None] = updated_tail(self.body().json(), self.hash, list(self.log_lines))
        return tail

    def pieces(self) -> list[Piece]:
        """The same, not joined: for values that go in chunks."""
        head = updated_tail(b"", self.hash, list(self.log_lines))
        return [head[:-1], *self.body().flat(), head[-1:]]

    def patch_tail(self, base: Version, counters: Counters) -> bytes | None:
        """The same part of a `QueryUpdated` with a patch from `base`; None where the whole value is to be sent."""
        if base.hash not in self._tails:
            self.set_patch(base, self._patch_from(base, counters))
        return self._tails[base.hash]

    def set_patch(self, base: Version, patch: bytes | None) -> None:
        """Keep the patch from `base` for all who hold it."""
        self._tails.pop(base.hash, None)
        older = [known for known in self._tails if known is not None]
        for known in older[: max(0, len(older) + 1 - limits.PATCHES_KEPT_MAX)]:
            del self._tails[known]
        self._tails[base.hash] = None if patch is None else patched_tail(patch, self.hash, list(self.log_lines))

    @property
    def weight(self) -> int:
        """About how much memory what was encoded takes."""
        return sum([len(tail) for tail in self._tails.values() if tail is not None])

    def _patch_from(self, base: Version, counters: Counters) -> bytes | None:
        """A patch for those who missed what came between; on the loop, so only where that is quick."""
        if base.body is None or self.version.body is None:
            return None
        if max(base.body.literal_size, self.version.body.literal_size) > limits.DIFF_ON_LOOP_BYTES_MAX:
            return None
        for one, other in ((self.version.body, base.body), (base.body, self.version.body)):
            rows, size = one.rows_beside(other)
            if rows > limits.DIFF_ON_LOOP_ROWS_MAX or size > limits.DIFF_ON_LOOP_ROWS_BYTES_MAX:
                return None
        counters.diffs += 1
        return diff(base.body, self.version.body, steps_max=limits.DIFF_ON_LOOP_STEPS_MAX).patch
