"""A connection between two sockets that a test can cut."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio
from anyio.abc import SocketAttribute, SocketStream


class Relay:
    """
    Forwards bytes in both directions.

    Attributes:
        port: the port it listens on.
        is_cut: whether it blocks all traffic and refuses new connections.
    """

    def __init__(self, target: int, port: int) -> None:
        self.port = port
        self.is_cut = False
        self._target = target
        self._scopes: set[anyio.CancelScope] = set()

    def cut(self) -> None:
        """Drop every connection, and all new ones, until `mend`."""
        self.is_cut = True
        for scope in self._scopes:
            scope.cancel()

    def mend(self) -> None:
        """Forward again."""
        self.is_cut = False

    async def serve(self, near: SocketStream) -> None:
        """Serve one connection until either side ends it."""
        async with near:
            if self.is_cut:
                return
            with contextlib.suppress(OSError):
                async with await anyio.connect_tcp("127.0.0.1", self._target) as far:
                    with anyio.CancelScope() as scope:
                        self._scopes.add(scope)
                        try:
                            async with anyio.create_task_group() as both:
                                both.start_soon(_hand_on, near, far, scope)
                                both.start_soon(_hand_on, far, near, scope)
                        finally:
                            self._scopes.discard(scope)


async def _hand_on(source: SocketStream, target: SocketStream, scope: anyio.CancelScope) -> None:
    with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while True:
            await target.send(await source.receive())
    scope.cancel()


@contextlib.asynccontextmanager
async def relay_to(target: int) -> AsyncIterator[Relay]:
    """Run a relay to a port of this machine."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        relay = Relay(target, listener.extra(SocketAttribute.local_port))
        tasks.start_soon(listener.serve, relay.serve)
        yield relay
        tasks.cancel_scope.cancel()
