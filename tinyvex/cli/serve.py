"""`tinyvex serve`: the sidecar of a desktop app."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyvex.cli.app_location import find_place
from tinyvex.cli.logs import Format, log_to_stderr
from tinyvex.cli.options import (
    app_argument,
    auth_from,
    auth_options,
    data_option,
    execution_options,
    log_options,
    network_options,
    retention_options,
    tls_from,
)

if TYPE_CHECKING:
    from tinyvex.server.server import Server
    from tinyvex.storage.file.pragmas import Durability


@click.command(
    "serve",
    epilog="tinyvex serve notes.py --data data --exit-with-parent",
    short_help="Serve an app as the sidecar of a program.",
)
@app_argument
@data_option
@network_options(default_port=0, port_note="The port; 0 takes a free one and tells it in the ready line.")
@click.option("--exit-with-parent", is_flag=True, help="Stop when the process that started this one has ended.")
@click.option("--no-token", is_flag=True, help="Let every process of this machine connect.")
@click.option(
    "--advertise",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Announce the server on the local network, under this name or the machine's, for `tinyvex browse`.",
)
@auth_options
@execution_options
@retention_options
@log_options
def command(
    app: Path | None,
    data: Path | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    allowed_origins: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    exit_with_parent: bool,
    no_token: bool,
    advertise: str | None,
    auth_secret_file: Path | None,
    auth_jwks: str | None,
    auth_issuer: str | None,
    auth_audience: str | None,
    durability: Durability,
    function_seconds: float,
    retention_seconds: float,
    retention_bytes: int | None,
    log_level: str,
    log_format: Format,
    slow_ms: int,
) -> None:
    """
    Serve APP as the sidecar of a desktop app.

    When it can serve, one JSON line appears on stdout:
    {"event": "ready", "url": ..., "port": ..., "pid": ..., "token": ..., "version": ...}.
    Nothing else ever appears there; logs go to stderr.
    SIGTERM drains and exits 0; SIGHUP loads the app and the certificate again.
    """
    # What the app prints must not be taken for the ready line.
    output, sys.stdout = sys.stdout, sys.stderr
    log_to_stderr(log_level, log_format)
    place = find_place(app, data)

    from tinyvex.cli.serve_process import serve_until_stopped
    from tinyvex.runtime import Runtime
    from tinyvex.server.server import ServerOptions
    from tinyvex.storage.maintenance.retention import Policy

    options = ServerOptions(
        app=place.app,
        data=place.data,
        host=host,
        port=port,
        tls=tls_from(tls_cert, tls_key),
        client_token=None if no_token else Runtime().token(),
        auth=auth_from(auth_secret_file, auth_jwks, auth_issuer, auth_audience),
        dev=False,
        durability=durability,
        allowed_origins=allowed_origins,
        allowed_hosts=allowed_hosts,
        function_seconds=function_seconds,
        retention=Policy(retention_seconds, retention_bytes),
        slow_ms=slow_ms,
        watchdog=True,
        exit_with_parent=exit_with_parent,
        advertise=advertise,
    )

    def announce(server: Server) -> None:
        place.remember()
        # Not through a buffer: it would try again when the process ends, if nobody reads the line.
        os.write(output.fileno(), json.dumps(server.ready_record()).encode() + b"\n")

    serve_until_stopped(options, announce, reload_on_hangup=True)
