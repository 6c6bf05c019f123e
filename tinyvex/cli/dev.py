"""`tinyvex dev`: the app under development, reloaded on every save."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyvex.cli.app_location import Place, find_place
from tinyvex.cli.logs import Format, log_to_stderr
from tinyvex.cli.options import (
    DEV_PORT,
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
    from tinyvex.server.services.service import Service
    from tinyvex.storage.file.pragmas import Durability


@click.command("dev", short_help="Serve an app while you write it: reload on save.")
@app_argument
@data_option
@network_options(default_port=DEV_PORT, port_note="The port; 0 takes a free one.")
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
    Serve APP while you write it.

    Every save loads the app again and runs live queries with the new code.
    A broken save is shown with its file and line, and the last good version keeps serving.
    No token is asked for, and errors carry their tracebacks to the client: not for production.

    \b
    tinyvex dev notes.py
    """
    log_to_stderr(log_level, log_format, reveal=True)
    place = find_place(app, data)

    from tinyvex.cli.serve_process import serve_until_stopped
    from tinyvex.server.server import ServerOptions
    from tinyvex.storage.maintenance.retention import Policy

    options = ServerOptions(
        app=place.app,
        data=place.data,
        host=host,
        port=port,
        tls=tls_from(tls_cert, tls_key),
        client_token=None,
        auth=auth_from(auth_secret_file, auth_jwks, auth_issuer, auth_audience),
        dev=True,
        durability=durability,
        allowed_origins=allowed_origins,
        allowed_hosts=allowed_hosts,
        function_seconds=function_seconds,
        retention=Policy(retention_seconds, retention_bytes),
        slow_ms=slow_ms,
        watchdog=True,
    )

    def greet(server: Server) -> None:
        place.remember()
        click.echo(greeting(place, server.url, Path.cwd()))

    def watch_saves(server: Server) -> list[Service]:
        from tinyvex.cli.save_watch import SaveWatch

        return [SaveWatch(place.app, lambda: server.request_reload(certificate=False))]

    serve_until_stopped(options, greet, make_services=watch_saves)


def greeting(place: Place, url: str, here: Path) -> str:
    """What `dev` says when it is ready: where it serves, and what to do next."""
    client = _client_example(place.app)
    next_steps = [f"{_python(here)} {_shown(client, here)}"] if client is not None else []
    next_steps += [
        f"{_tinyvex(here)} function-spec {_shown(place.app, here)}",
        f"{_tinyvex(here)} data --data {_shown(place.data, here)}",
        f"{_tinyvex(here)} dashboard --data {_shown(place.data, here)}",
        f"edit {_shown(place.app, here)} and save: live queries run again",
    ]
    lines = [
        "",
        f"  app     {_shown(place.app, here)}",
        f"  data    {_shown(place.data, here)}",
        f"  url     {url}",
        "",
        f"  next    {next_steps[0]}",
        *(f"          {step}" for step in next_steps[1:]),
        "          Ctrl-C stops",
        "",
    ]
    return "\n".join(lines)


def _client_example(app: Path) -> Path | None:
    folder = app if app.is_dir() else app.parent
    client = folder / "client.py"
    return client if client.is_file() and client != app else None


def _python(here: Path) -> str:
    """How to start this interpreter from a shell: by name where that finds it, as in an activated environment."""
    named = shutil.which("python")
    return "python" if named is not None and Path(named) == Path(sys.executable) else _shown(Path(sys.executable), here)


def _tinyvex(here: Path) -> str:
    return "tinyvex" if shutil.which("tinyvex") is not None else f"{_python(here)} -m tinyvex"


def _shown(path: Path, here: Path) -> str:
    try:
        return os.fspath(path.relative_to(here))
    except ValueError:
        return os.fspath(path)
