"""`tinyvex serve`: run an app as the sidecar of another program."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from tinyvex.cli.app_location import find_app
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.serve_options import ServeSettings, serve_options
from tinyvex.errors import StartError
from tinyvex.first_parent import FIRST_PARENT

if TYPE_CHECKING:
    from tinyvex.server.server import Server


@contextmanager
def _early_hangups_ignored() -> Iterator[None]:
    """
    Ignore SIGHUP until the server handles it: a reload that is requested before the app is loaded needs nothing.

    A handler instead of SIG_IGN, which would mean that the parent wants it ignored (`nohup`).
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None or signal.getsignal(number) is signal.SIG_IGN:
        yield
        return
    previous = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(number, previous)


@click.command(
    "serve",
    epilog="tinyvex serve notes.py --data data --exit-with-parent",
    short_help="Serve an app as the sidecar of a program.",
)
@click.option("--exit-with-parent", is_flag=True, help="Stop when the parent process ends.")
@click.option(
    "--parent-pid",
    type=click.IntRange(min=1),
    metavar="PID",
    help="Stop when the process PID ends, also if it ended before this command began.",
)
@click.option("--no-token", is_flag=True, help="Accept every process of this machine without a token.")
@click.option(
    "--advertise",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Announce the server on the local network for `tinyvex browse`, as NAME or the machine's name.",
)
@serve_options(default_port=0, port_help="The port; 0 picks a free port and reports it in the ready line.")
@_early_hangups_ignored()
def command(
    settings: ServeSettings, exit_with_parent: bool, parent_pid: int | None, no_token: bool, advertise: str | None
) -> None:
    """
    Serve APP as the sidecar of a desktop app.

    When it accepts connections, it prints one JSON line on stdout:
    {"event": "ready", "url": ..., "port": ..., "pid": ..., "token": ..., "version": ...}.
    It prints nothing else there; logs go to stderr.
    SIGTERM drains connections and exits with 0; SIGHUP reloads the app and the certificate.
    """
    # The app must not print to stdout, where the parent reads the ready line.
    stdout, sys.stdout = sys.stdout, sys.stderr
    log_to_stderr(settings.log_level, settings.log_format)
    if parent_pid is None and exit_with_parent:
        parent_pid = FIRST_PARENT
    if parent_pid is not None:
        from tinyvex.server.services.parent_watch import parent_wait

        if parent_wait(parent_pid)(0):
            raise StartError(f"the parent process {parent_pid} has ended, so the server does not start")
    location = find_app(settings.app, settings.data)

    from tinyvex.cli.serve_process import serve_until_stopped
    from tinyvex.runtime import Runtime

    def announce(server: Server) -> None:
        location.save()
        # Unbuffered: if the parent closed the pipe, a buffer would be flushed again, and fail again, at exit.
        os.write(stdout.fileno(), json.dumps(server.ready_record()).encode() + b"\n")

    client_token = None if no_token else Runtime().token()
    options = settings.server_options(location, client_token=client_token, dev=False)
    options = replace(options, parent_pid=parent_pid, advertise=advertise)
    serve_until_stopped(options, announce, reload_on_hangup=True)
