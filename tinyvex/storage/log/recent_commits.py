"""
The last commits in memory, by the changes that they made to each index.

A live query that cached the rows of a range asks here what has changed since, instead of reading the range again.
A read at an older timestamp takes the newest state and undoes these changes (`Snapshot.page`).

`RecentCommits` takes part in the writer's transaction: a record is added when it is applied, *before* its COMMIT, and
removed if the group is rolled back. So every commit that a reader's snapshot shows is here, and a record that is here
too early has a later `ts` than any snapshot.

The writer's thread changes the list and readers' threads read it, without a lock: it only grows at its end, and is
replaced by a new list when its beginning is cut off.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyvex.limits import RECENT_COMMITS_BYTES_MAX
from tinyvex.storage.log.commit_record import WRITE_OVERHEAD_BYTES, CommitRecord, memory_bytes
from tinyvex.storage.log.operations import Write
from tinyvex.storage.log.revisions import StoredDocument

__all__ = ["RecentCommits"]


class _Commit(NamedTuple):
    ts: int
    writes: tuple[Write, ...]
    size: int


class RecentCommits:
    """The last commits, as many as RECENT_COMMITS_BYTES_MAX holds."""

    def __init__(self) -> None:
        self._commits = [_Commit(0, (), 0)]  # of the first, only the `ts` counts: all later commits are here
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._commits) - 1

    def applied(self, record: CommitRecord) -> None:
        """Add a commit that is about to become durable."""
        if not record.lists_all_writes:
            self._restart(record.ts)
            return
        writes = record.writes
        commit = _Commit(record.ts, writes, WRITE_OVERHEAD_BYTES + memory_bytes(writes))
        self._commits.append(commit)
        self._bytes += commit.size
        if self._bytes > RECENT_COMMITS_BYTES_MAX:
            self._cut()

    def rolled_back(self, ts: int) -> None:
        """Remove the commits after `ts`: they did not become durable."""
        if self._commits[-1].ts == ts:
            return
        commits = [commit for commit in self._commits if commit.ts <= ts]
        if commits and commits[-1].ts == ts:
            self._commits = commits
            self._bytes = sum(commit.size for commit in commits)
        else:
            self._restart(ts)  # the store was just opened, or the commit at `ts` was cut off

    def changes(self, index_id: int, after: int, until: int) -> list[tuple[bytes, StoredDocument | None]] | None:
        """
        Return what the commits with after < ts <= until did to an index.

        Returns:
            In order: keys, and the document that has the key from then on, or None if no document has it.
            None if some of those commits are not in memory.
        """
        commits = self._since(after, until)
        if commits is None:
            return None
        changes: list[tuple[bytes, StoredDocument | None]] = []
        for ts, writes, _ in commits:
            if ts > until:
                break
            for write in writes:
                changes += [(key, None) for index, key in write.removed if index == index_id]
                if write.json is not None:
                    for index, key in (*write.added, *write.unchanged):
                        if index == index_id:
                            changes.append((key, StoredDocument(key, write.internal, ts, write.json)))
        return changes

    def before(self, index_id: int, after: int, until: int) -> dict[bytes, tuple[int, bytes] | None] | None:
        """
        Return the keys of an index whose documents the commits with after < ts <= until wrote.

        Returns:
            For each key the tablet and the key of the document that had it at `after`, or None if none had.
            None if some of those commits are not in memory.
        """
        commits = self._since(after, until)
        if commits is None:
            return None
        keys: dict[bytes, tuple[int, bytes] | None] = {}
        for ts, writes, _ in commits:
            if ts > until:
                break
            for write in writes:
                for index, key in (*write.removed, *write.unchanged):
                    if index == index_id:
                        keys.setdefault(key, (write.tablet, write.internal))
                for index, key in write.added:
                    if index == index_id:
                        keys.setdefault(key, None)
        return keys

    def _since(self, after: int, until: int) -> list[_Commit] | None:
        """Return the commits after `after`; None if some until `until` are not in memory."""
        commits = self._commits
        if commits[-1].ts < until:
            return None  # another process, or a replay, wrote the file
        first = len(commits)
        while first and commits[first - 1].ts > after:
            first -= 1
        return commits[first:] if first else None

    def _restart(self, ts: int) -> None:
        """Forget all commits: what happened at or before `ts` is not known."""
        self._commits = [_Commit(ts, (), 0)]
        self._bytes = 0

    def _cut(self) -> None:
        """Drop the older half."""
        size = 0
        first = len(self._commits)
        while first > 1 and size < RECENT_COMMITS_BYTES_MAX // 2:
            first -= 1
            size += self._commits[first].size
        # Of the commit before, only the `ts` is needed.
        self._commits = [_Commit(self._commits[first - 1].ts, (), 0), *self._commits[first:]]
        self._bytes = size
