"""
The code that serves at each timestamp.

Code is part of the snapshot: an execution runs the functions that were current at its `ts`, so a result computed with
new code can never be sent under an older version. A reload commits the code's fingerprint; `switch` puts the new app in
place at that commit's `ts`, on the writer's thread::

    ts      10        20        30
    app     first ─── first ──► second          at(19) is the first app, at(20) the second

Executions that began with the old app finish with it. Both methods assign one attribute and never change a list in
place, so that other threads always see a complete history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App

__all__ = ["APPS_RETAINED", "CodeSwitch"]

APPS_RETAINED = 4
"""Older apps that snapshots may still need; executions are short, so the last few suffice."""


class CodeSwitch:
    """
    The apps that served lately, each with the timestamp of its first commit.

    Args:
        app: serves from the beginning.
    """

    def __init__(self, app: App) -> None:
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

    def switch(self, app: App, ts: int) -> None:
        """Serve `app` at `ts` and later; called on the writer's thread, within the commit of the code."""
        self._history = [*self._history[-APPS_RETAINED + 1 :], (ts, app)]

    def revert(self, ts: int) -> None:
        """Undo the switch at `ts`: its commit was rolled back."""
        self._history = [entry for entry in self._history if entry[0] != ts]
