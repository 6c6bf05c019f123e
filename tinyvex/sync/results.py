"""
Results of live queries: the interval in which each is right, and the patches that lead to it. (pure)

A `Version` is a value that a client may hold: its hash and, as long as it is worth the memory, its body.
A `Result` is the outcome of one execution and the interval of `ts` in which it is the answer. A later result with the
same hash shares the version of the earlier one.

All connections share a result, so the work for a result is done once:

- A patch is computed once for each older version (`patch_from`). A patch that the reader's thread did not prepare is
  computed on the loop, and only if both versions are small enough to be compared in under a millisecond.
- A dialect encodes once for all of its connections (`fragments`).

Results are part of no reference cycle, so the garbage collector does not track them (`gc=False`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from tinyvex import limits
from tinyvex.sync.diff import diff

if TYPE_CHECKING:
    from tinyvex.errors import TinyvexError
    from tinyvex.functions.result.result_body import Body
    from tinyvex.functions.run.call import QueryOutcome
    from tinyvex.sync.counters import Counters

__all__ = ["Result", "Version"]


class Version(Struct, eq=False, gc=False):
    """
    A value of a live query.

    Attributes:
        hash: the token that clients store and send back in `resume`.
        body: None if the query failed or the body was evicted.
        holders: the number of subscriptions to which this version was sent last.
    """

    hash: str
    body: Body | None
    holders: int = 0

    def weight_without(self, newest: Version) -> int:
        """Return about how many bytes this version uses that it does not share with the newest one."""
        if self.body is None:
            return 0
        if newest is self or newest.body is None:
            return self.body.literal_size + sum([part.rows.weight for part in self.body.parts])
        shared = {chunk for part in newest.body.parts for chunk in part.rows.chunks}
        own = {chunk for part in self.body.parts for chunk in part.rows.chunks} - shared
        return self.body.literal_size + sum([chunk.weight for chunk in own])


class Result(Struct, eq=False, gc=False):
    """
    The outcome of a query and the interval in which it is the answer: from `since` to just before `until`.

    Attributes:
        since: the snapshot of the outcome.
        until: the first commit that touched its read set; None if none did yet.
        version: the value; shared with an earlier result of the same hash.
        error: the failure that clients receive instead of a value.
        request_id: names the execution in the server's log.
        log_lines: lines that the function logged.
        journal: the end of the first page of a paginated query.
        read_now: the function read the clock, so its result cannot be reconstructed.
        fragments: encoded parts of messages, cached by the dialects under keys of their own.
    """

    since: int
    until: int | None
    version: Version
    error: TinyvexError | None
    request_id: str
    log_lines: tuple[str, ...]
    journal: str | None
    read_now: bool
    fragments: dict[str, bytes] = field(default_factory=dict)
    _patches: dict[str, bytes | None] = field(default_factory=dict)
    """By the hash of the older version; None: send the full value."""

    @classmethod
    def of(cls, outcome: QueryOutcome, until: int | None, version: Version, request_id: str) -> Result:
        """Return the result of an execution."""
        return cls(
            outcome.ts, until, version, outcome.error, request_id, outcome.log_lines, outcome.journal, outcome.read_now
        )

    def covers(self, ts: int) -> bool:
        """Return whether this is the answer at `ts`."""
        return self.since <= ts and (self.until is None or ts < self.until)

    @property
    def hash(self) -> str:
        """The token of the version."""
        return self.version.hash

    def is_sendable(self, client_hash: str | None) -> bool:
        """Return whether it can be sent to a client that holds `client_hash`: the body may have been evicted."""
        return self.version.body is not None or self.error is not None or self.hash == client_hash

    def body(self) -> Body:
        """Return the value that the function returned."""
        assert self.version.body is not None, "is_sendable() comes first"
        return self.version.body

    def patch_from(self, base: Version, counters: Counters) -> bytes | None:
        """Return the JSON Patch that leads here from an older version; None if the full value is to be sent."""
        if base.hash not in self._patches:
            self.set_patch(base, self._compute_patch(base, counters))
        return self._patches[base.hash]

    def set_patch(self, base: Version, patch: bytes | None) -> None:
        """Store the patch from `base`; evict the oldest ones above PATCHES_CACHED_MAX."""
        self._patches.pop(base.hash, None)
        for older in list(self._patches)[: max(0, len(self._patches) + 1 - limits.PATCHES_CACHED_MAX)]:
            del self._patches[older]
        self._patches[base.hash] = patch

    @property
    def weight(self) -> int:
        """About how many bytes the patches and the encoded fragments use."""
        patches = sum([len(patch) for patch in self._patches.values() if patch is not None])
        return patches + sum([len(fragment) for fragment in self.fragments.values()])

    def _compute_patch(self, base: Version, counters: Counters) -> bytes | None:
        """Compute a patch on the loop, for a client that missed versions in between."""
        if base.body is None or self.version.body is None:
            return None
        if max(base.body.literal_size, self.version.body.literal_size) > limits.DIFF_ON_LOOP_BYTES_MAX:
            return None
        for one, other in ((self.version.body, base.body), (base.body, self.version.body)):
            rows, size = one.unshared_rows(other)
            if rows > limits.DIFF_ON_LOOP_ROWS_MAX or size > limits.DIFF_ON_LOOP_ROWS_BYTES_MAX:
                return None
        counters.diffs += 1
        return diff(base.body, self.version.body, steps_max=limits.DIFF_ON_LOOP_STEPS_MAX).patch
