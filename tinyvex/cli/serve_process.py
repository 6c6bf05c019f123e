"""Run one server as this process, until a signal or the end of the parent process stops it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tinyvex import limits
from tinyvex.errors import ServerStopping
from tinyvex.runtime import Runtime
from tinyvex.server.server import Server
from tinyvex.server.services.signals import stop_on_signals

if TYPE_CHECKING:
    from tinyvex.server.server import ServerOptions
    from tinyvex.server.services.service import Service

log = logging.getLogger("tinyvex.server")

Ready = Callable[[Server], None]
MakeServices = Callable[[Server], Sequence["Service"]]


def serve_until_stopped(
    options: ServerOptions,
    on_ready: Ready,
    *,
    make_services: MakeServices | None = None,
    reload_on_hangup: bool = False,
) -> None:
    """
    Start a server, report that it is ready, run it until a stop is requested, drain it.

    Args:
        options: the options of the server.
        on_ready: called once, when the server can serve; not if a stop is requested while it upgrades the file.
        make_services: makes services of the command, which the server runs with its own.
        reload_on_hangup: SIGHUP reloads app and certificate; otherwise it requests a stop.

    Raises:
        TinyvexError: the server cannot start, or stopped because a service failed.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options, on_ready, make_services, reload_on_hangup))


async def _serve(
    options: ServerOptions, on_ready: Ready, make_services: MakeServices | None, reload_on_hangup: bool
) -> None:
    runtime = Runtime()
    runtime.raise_open_files_max(limits.SOCKETS_MAX + limits.FILES_RESERVED)
    runtime.bind(asyncio.get_running_loop())
    sys.setswitchinterval(limits.SWITCH_SECONDS)
    server = Server(options, runtime)
    server.add_service(server.garbage_collector)  # nothing else runs in this process
    for service in make_services(server) if make_services is not None else ():
        server.add_service(service)

    def reload() -> None:
        server.request_reload(certificate=True)

    with stop_on_signals(runtime, server.request_stop, reload if reload_on_hangup else None):
        try:
            async with server:
                try:
                    on_ready(server)
                except BrokenPipeError:
                    server.request_stop()  # the process that started this one has ended
                await server.wait_stopped()
        except ServerStopping as stopped:  # before it was ready
            log.warning(stopped.message)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of uvloop's faster loop if it is installed; imported by name, as type checkers need not have it."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
