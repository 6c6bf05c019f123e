"""
The tail of the log, in memory: what the last commits did to an index.

A live query that kept the rows of a range asks here what has happened to them since,
instead of reading the range again.

The writer adds a group *before* its COMMIT and takes it back if that fails.
So whatever a reader's snapshot shows is here, and what is here before its time has a later `ts` than any snapshot.
The writer's thread changes it and readers' threads look, without a lock:
the list only grows at its end, and is replaced by another when its beginning is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable

from tinyvex.limits import TAIL_BYTES_MAX
from tinyvex.storage.log.commit_record import CommitRecord, StoredDocument

__all__ = ["RecentCommits"]

WRITE_OVERHEAD_BYTES = 600
"""What Python needs for a write beside its JSON: the tuples, the keys, the ids."""


class RecentCommits:
    """The last commits, as many as TAIL_BYTES_MAX holds."""

    def __init__(self) -> None:
        self._commits: list[CommitRecord] = []  # the first says only from where on all are here
        self._bytes = 0

    def __len__(self) -> int:
        return max(0, len(self._commits) - 1)

    def begin(self, ts: int) -> None:
        """Nothing is known of what came before and at `ts`."""
        self._commits = [CommitRecord(ts, ())]
        self._bytes = 0

    def append(self, commits: Iterable[CommitRecord]) -> None:
        """Add commits that are about to become durable."""
        for commit in commits:
            if commit.moves:
                self.begin(commit.ts)
                continue
            kept = CommitRecord(commit.ts, () if commit.unseen else commit.writes)
            self._commits.append(kept)
            self._bytes += _size(kept)
        if self._bytes > TAIL_BYTES_MAX:
            self._cut()

    def retract(self, ts: int) -> None:
        """Forget the commits after `ts`: they did not become durable."""
        kept = [commit for commit in self._commits if commit.ts <= ts]
        self._bytes = sum(map(_size, kept))
        self._commits = kept or [CommitRecord(ts, ())]

    def changes(self, index_id: int, after: int, until: int) -> list[tuple[bytes, StoredDocument | None]] | None:
        """
        What the commits with after < ts <= until did to an index.

        Returns:
            In order: keys, and the document that is there since, or None where none is any more.
            None when not all of those commits are known.
        """
        commits = self._commits
        first = len(commits)
        while first and commits[first - 1].ts > after:
            first -= 1
        if first == 0:
            return None
        found: list[tuple[bytes, StoredDocument | None]] = []
        for ts, writes, *_ in commits[first:]:
            if ts > until:
                break
            for write in writes:
                found += [(key, None) for index, key in write.removed if index == index_id]
                if write.json is not None:
                    for index, key in (*write.added, *write.kept):
                        if index == index_id:
                            found.append((key, StoredDocument(key, write.internal, ts, write.json)))
        return found

    def _cut(self) -> None:
        """Drop the older half."""
        size = 0
        place = len(self._commits)
        while place > 1 and size < TAIL_BYTES_MAX // 2:
            place -= 1
            size += _size(self._commits[place])
        # Of the one before it only the time is of use.
        self._commits = [CommitRecord(self._commits[place - 1].ts, ()), *self._commits[place:]]
        self._bytes = size


def _size(commit: CommitRecord) -> int:
    return sum([WRITE_OVERHEAD_BYTES + len(write.json or b"") for write in commit.writes], WRITE_OVERHEAD_BYTES)
