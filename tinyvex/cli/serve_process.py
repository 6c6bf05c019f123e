"""One server as this process: it runs until a signal or the parent's death asks it to stop."""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from tinyvex.runtime import Runtime
from tinyvex.server.server import Server
from tinyvex.server.services.parent_watch import watch_parent
from tinyvex.server.services.signals import stop_on_signals

if TYPE_CHECKING:
    from tinyvex.server.server import ServerOptions

Ready = Callable[[Server], None]
Beside = Callable[[Server], Coroutine[Any, Any, None]]


def serve_until_stopped(
    options: ServerOptions,
    on_ready: Ready,
    *,
    beside: Beside | None = None,
    on_reload: Callable[[], None] | None = None,
    exit_with_parent: bool = False,
) -> None:
    """
    Start a server, tell that it is ready, run it until it is asked to stop, drain it.

    Args:
        options: the server's.
        on_ready: called once, when the server can serve.
        beside: a coroutine that runs as long as the server does.
        on_reload: called on the loop at each SIGHUP, where there is such a signal; None: it asks to stop.
        exit_with_parent: the death of the parent process asks to stop, too.

    Raises:
        TinyvexError: the server cannot start, or had to stop because of its storage.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options, on_ready, beside, on_reload, exit_with_parent))


async def _serve(
    options: ServerOptions,
    on_ready: Ready,
    beside: Beside | None,
    on_reload: Callable[[], None] | None,
    exit_with_parent: bool,
) -> None:
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    asked = anyio.Event()
    if exit_with_parent:
        watch_parent(runtime, asked.set)
    with stop_on_signals(runtime, asked.set, on_reload):
        async with Server(options, runtime) as server, anyio.create_task_group() as group:
            if beside is not None:
                group.start_soon(beside, server)
                # It takes its first step before anybody is told: a save right after that is seen.
                await anyio.lowlevel.checkpoint()
            # What is there now stays, and a full collection need not look at it: it took 10 to 20 ms, in which nobody is served.
            gc.freeze()
            try:
                on_ready(server)
            except BrokenPipeError:
                asked.set()  # whoever started this process is gone already
            await asked.wait()
            group.cancel_scope.cancel()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster loop, where it is installed; type checkers need not have it."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
