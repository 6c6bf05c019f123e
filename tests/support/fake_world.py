"""A fake server and its clients on one virtual-time loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.support.fake_server import Endpoint, FakeServer
from tests.support.loop import run_virtual
from tests.support.network import MemoryListener, Network
from tests.support.world import WorldRuntime
from tinyvex.client.client import Client, connect

T = TypeVar("T")

PORT = 3210


class FakeWorld:
    """
    A `FakeServer` behind a port of a network in memory.

    Attributes:
        endpoints: every socket accepted so far.
        prepare: called with each new one.
    """

    def __init__(self, seed: int = 0) -> None:
        self.server = FakeServer()
        self.network = Network(random.Random(seed))
        self.runtime = WorldRuntime(self.network, random.Random(seed))
        self.runtime.bind(asyncio.get_running_loop())
        self.endpoints: list[Endpoint] = []
        self.prepare: Callable[[Endpoint], object] = lambda _: None
        self._listener: MemoryListener | None = None
        self.start()

    def start(self) -> None:
        self._listener = self.network.listen(lambda: Endpoint(self.server, self._accept), PORT)

    def stop(self) -> None:
        """Stop accepting, and cut all sockets."""
        assert self._listener is not None
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for transport in list(self.network.transports):
            self.network.cut(transport)

    def _accept(self, endpoint: Endpoint) -> None:
        self.endpoints.append(endpoint)
        self.prepare(endpoint)

    @property
    def endpoint(self) -> Endpoint:
        """Return the newest socket."""
        return self.endpoints[-1]

    def commit(self, name: str, by: int = 1) -> None:
        """Commit as another client, and notify all subscribers."""
        self.server.commit(name, by)
        for endpoint in self.endpoints:
            if not endpoint.lost:
                endpoint.turn()

    def client(self, token: str | None = None, host: str = "tinyvex.test", **options: Any) -> Client:
        return connect(f"ws://{host}:{PORT}", token, runtime=self.runtime, **options)

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()


def in_fake_world(scenario: Callable[[FakeWorld], Awaitable[T]], seed: int = 0) -> T:
    """Run a scenario to its end in virtual time."""

    async def main() -> T:
        return await scenario(FakeWorld(seed))

    return run_virtual(main())
