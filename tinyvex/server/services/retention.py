"""Forgetting what the retention policy does not keep, while the server runs."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.errors import TinyvexError
from tinyvex.storage.maintenance.retention import Policy, Retention

if TYPE_CHECKING:
    from tinyvex.runtime import Runtime
    from tinyvex.storage.engine.store import Store
    from tinyvex.sync.counters import Counters

__all__ = ["forget_forever"]

log = logging.getLogger(__name__)


async def forget_forever(store: Store, policy: Policy, runtime: Runtime, counters: Counters) -> None:
    """Sweep now and then; what keeps one sweep from its work is logged, and the next goes on where it ended."""
    retention = Retention(store, policy, runtime.now_us, partial(runtime.sleep, limits.RETENTION_PAUSE_SECONDS))
    while True:
        await runtime.sleep(policy.interval_seconds)
        try:
            counters.revisions_forgotten += await retention.sweep()
        except TinyvexError as error:
            log.warning("history was not shortened: %s", error)
