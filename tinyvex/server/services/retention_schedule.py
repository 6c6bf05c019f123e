"""The schedule of retention sweeps; `storage/maintenance/retention.py` decides what a sweep deletes."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.errors import TinyvexError
from tinyvex.server.services.background_service import BackgroundService

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.maintenance.retention import Retention
    from tinyvex.storage.maintenance.retention_policy import Policy
    from tinyvex.sync.counters import Counters

__all__ = ["RetentionSchedule"]

log = logging.getLogger(__name__)


class RetentionSchedule(BackgroundService):
    """
    Purges expired history at the policy's interval.

    Args:
        store: open for writing.
        policy: how much history is retained, and how often a sweep runs.
        runtime: the clock.
        counters: count the purged revisions.
    """

    name = "retention"

    def __init__(self, store: Store, policy: Policy, runtime: Runtime, counters: Counters) -> None:
        super().__init__()
        self._interval_seconds = policy.interval_seconds
        self._runtime = runtime
        self._counters = counters
        self._store = store
        self._policy = policy

    async def run(self) -> None:
        """Sweep at each interval. A sweep that fails is logged, and the next one continues from where it stopped."""
        await self._runtime.sleep(self._interval_seconds)
        retention = self._create_retention()
        while True:
            try:
                self._counters.revisions_purged += await retention.sweep()
            except TinyvexError as error:
                log.warning("expired history was not purged: %s", error)
                self.report_failure(str(error))
            else:
                self.report_ok()
            await self._runtime.sleep(self._interval_seconds)

    def _create_retention(self) -> Retention:
        """Import and create the sweeper: a start need not wait for code that first runs a minute later."""
        from tinyvex.storage.maintenance.retention import Retention

        pause = partial(self._runtime.sleep, limits.RETENTION_PAUSE_SECONDS)
        return Retention(self._store, self._policy, self._runtime.now_us, pause)
