"""
The code that serves at each timestamp.

Code is part of the snapshot: an execution runs the functions that were current at its `ts`, so a result computed with
new code can never be sent under an older version. A reload sets `next_app` and commits the fingerprint of its code. When
that record is applied, on the writer's thread, the next app takes its place at the record's `ts`; if the group is rolled
back, the app before it returns (`Participant` of the group commit)::

    ts      10        20        30
    app     first ─── first ──► second          at(19) is the first app, at(20) the second

Executions that began with the old app finish with it. The history is replaced and never changed in place,
so that other threads always see a complete one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App
    from tinyvex.storage.log.commit_record import CommitRecord

__all__ = ["APPS_RETAINED", "CodeSwitch"]

APPS_RETAINED = 4
"""Older apps that snapshots may still need; executions are short, so the last few suffice."""


class CodeSwitch:
    """
    The apps that served lately, each with the timestamp of its first commit.

    Args:
        app: serves from the beginning.

    Attributes:
        next_app: the app that the last schema change makes current, or was to make current; None if there was none.
    """

    def __init__(self, app: App) -> None:
        self.next_app: App | None = None
        self._history: list[tuple[int, App]] = [(0, app)]

    @property
    def newest(self) -> App:
        """The app that serves now."""
        return self._history[-1][1]

    def at(self, ts: int) -> App:
        """Return the app that served at a timestamp."""
        history = self._history
        for since, app in reversed(history):
            if since <= ts:
                return app
        return history[0][1]

    def applied(self, record: CommitRecord) -> None:
        """Serve the next app at this record's `ts` and later, if the record makes its code current."""
        app = self.next_app
        if app is not None and app is not self.newest and record.code_fingerprint == app.fingerprint:
            self._history = [*self._history[-APPS_RETAINED + 1 :], (record.ts, app)]

    def rolled_back(self, ts: int) -> None:
        """Return to the app that served at `ts`: records after it were not committed."""
        if self._history[-1][0] > ts:
            self._history = [entry for entry in self._history if entry[0] <= ts]
