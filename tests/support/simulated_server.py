"""A server process of a world: it runs the real server, and can be killed at any step."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import anyio
from msgspec.structs import asdict

from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex.server.server import Server, ServerOptions

PORT = 4800


class SimulatedServer:
    """A server process of the world."""

    def __init__(self, network: Network, source: random.Random, options: ServerOptions, counted: Counter[str]) -> None:
        self.network = network
        self.runtime = WorldRuntime(network, source)
        self.runtime.bind(asyncio.get_running_loop())  # it may be killed before its first step
        self.server = Server(options, self.runtime)
        self._counted = counted
        self.died = anyio.Event()
        self.runtime.on_kill = self._die

    async def run(self) -> None:
        """Serve until killed. A killed process runs no `finally`, so its state stays as it is."""
        try:
            if not self.runtime.killed:
                await self.server.__aenter__()
        except asyncio.CancelledError:
            raise  # the world ends
        except BaseException:
            if not self.runtime.killed:
                raise
        await asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """End the process at any step, as SIGKILL does."""
        if not self.runtime.killed:
            self.runtime.kill()

    def count(self) -> None:
        """Add the counters of this process to those of all processes."""
        counters = getattr(self.server, "counters", None)
        self._counted.update(asdict(counters) if counters is not None else {})

    def _die(self) -> None:
        self.count()
        self.network.listeners.pop(PORT, None)
        for transport in list(self.network.transports):
            self.network.cut(transport)
        store = getattr(self.server, "store", None)
        if store is not None:
            kill_store(store)
        self.died.set()


def kill_store(store: Any) -> None:
    """Treat the files as the operating system does after a kill: roll back open transactions, free the lock."""
    group_commit = store._writer._thread.group_commit
    if group_commit is not None:
        group_commit.connection.close()
    for thread in store._readers._threads:
        if thread.source is not None:
            thread.source.connection.close()
    store._lock.release()
    store._closing = True  # no task of the killed process waits for its writer when the world ends
