"""A client's view, version by version: what all its subscriptions showed together."""

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
    Subscribes to queries and notes every view of all of them.

    Attributes:
        views: one after another, each a list with the result of every query; equal ones once.
    """

    def __init__(self, client: tv.Client, calls: Sequence[tuple[str, Any]]) -> None:
        self.views: list[list[Any]] = []
        self._subscriptions: list[Subscription[Any]] = [client.subscribe(path, args) for path, args in calls]
        self._changed = asyncio.Event()
        self._wake = client._wake_readers
        client._wake_readers = self._note  # type: ignore[method-assign]

    def _note(self, query_id: int) -> None:
        """Called for each query of a version, when all of them show it."""
        self._wake(query_id)
        shown = [subscription._query.shown for subscription in self._subscriptions]
        if None in shown:
            return
        view = [json.loads(found.json) if isinstance(found, QueryValue) else repr(found) for found in shown]
        if self.views[-1:] != [view]:
            self.views.append(view)
            self._changed.set()

    async def until(self, view: list[Any]) -> None:
        """Wait until all queries show this together."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.views[-1:] != [view]:
                self._changed.clear()
                await self._changed.wait()
