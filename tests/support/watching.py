"""The results that a client shows, version by version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import tinyvex as tv
from tinyvex.client.query_value import QueryValue
from tinyvex.client.subscription import Subscription

WAIT_SECONDS = 30.0


class Watcher:
    """
    A subscriber of several queries that records their combined results.

    Attributes:
        views: one per version that changed a result; each a list with the result of every query.
    """

    def __init__(self, client: tv.Client, calls: Sequence[tuple[str, Any]]) -> None:
        self.views: list[list[Any]] = []
        self._subscriptions: list[Subscription[Any]] = [client.subscribe(path, args) for path, args in calls]
        self._changed = asyncio.Event()
        self._wake = client._wake_readers
        client._wake_readers = self._note  # type: ignore[method-assign]

    def _note(self, query_id: int) -> None:
        """Record the view; called for each changed query of a version, after all of them have changed."""
        self._wake(query_id)
        shown = [subscription._query.shown for subscription in self._subscriptions]
        if None in shown:
            return
        view = [json.loads(result.json) if isinstance(result, QueryValue) else repr(result) for result in shown]
        if self.views[-1:] != [view]:
            self.views.append(view)
            self._changed.set()

    async def until(self, view: list[Any]) -> None:
        """Wait until the queries show `view`."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.views[-1:] != [view]:
                self._changed.clear()
                await self._changed.wait()
