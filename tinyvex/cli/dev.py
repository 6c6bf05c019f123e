"""`tinyvex dev`: serve an app while it is written, and reload it on every save."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tinyvex.cli.app_location import AppLocation, find_app
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.serve_options import DEV_PORT, ServeSettings, serve_options
from tinyvex.cli.terminal import echo

if TYPE_CHECKING:
    from tinyvex.server.server import Server
    from tinyvex.server.services.service import Service


@click.command("dev", short_help="Serve an app during development; reload it on save.")
@serve_options(default_port=DEV_PORT, port_help="The port; 0 picks a free port.")
def command(settings: ServeSettings) -> None:
    """
    Serve APP during development.

    Each save reloads the app and reruns live queries with the new code.
    If a save does not load, its error is shown with file and line, and the last good version stays in service.
    Clients need no token and receive tracebacks: do not use it in production.

    \b
    tinyvex dev notes.py
    """
    log_to_stderr(settings.log_level, settings.log_format, reveal=True)
    location = find_app(settings.app, settings.data)

    from tinyvex.cli.serve_process import serve_until_stopped

    def greet(server: Server) -> None:
        location.save()
        echo(greeting(location, server.url, Path.cwd()))

    def watch_saves(server: Server) -> list[Service]:
        from tinyvex.cli.save_watch import SaveWatch

        return [SaveWatch(location.app, lambda: server.request_reload(certificate=False))]

    options = settings.server_options(location, client_token=None, dev=True)
    serve_until_stopped(options, greet, make_services=watch_saves)


def greeting(location: AppLocation, url: str, working_directory: Path) -> str:
    """Return the text shown when the server is ready: its app, data folder and URL, and commands to try."""

    def shown(path: Path) -> str:
        return _relative(path, working_directory)

    python, tinyvex = _python(working_directory), _tinyvex(working_directory)
    client = _client_example(location.app)
    next_steps = [f"{python} {shown(client)}"] if client is not None else []
    next_steps += [
        f"{tinyvex} function-spec {shown(location.app)}",
        f"{tinyvex} data --data {shown(location.data)}",
        f"{tinyvex} dashboard --data {shown(location.data)}",
        f"edit {shown(location.app)} and save it: live queries rerun",
    ]
    lines = [
        "",
        f"  app     {shown(location.app)}",
        f"  data    {shown(location.data)}",
        f"  url     {url}",
        "",
        f"  next    {next_steps[0]}",
        *(f"          {step}" for step in next_steps[1:]),
        "          press Ctrl-C to stop",
        "",
    ]
    return "\n".join(lines)


def _client_example(app: Path) -> Path | None:
    folder = app if app.is_dir() else app.parent
    client = folder / "client.py"
    return client if client.is_file() and client != app else None


def _python(working_directory: Path) -> str:
    """Return the shell command for this interpreter: `python` if the search path leads to it, else its path."""
    named = shutil.which("python")
    is_on_path = named is not None and Path(named) == Path(sys.executable)
    return "python" if is_on_path else _relative(Path(sys.executable), working_directory)


def _tinyvex(working_directory: Path) -> str:
    return "tinyvex" if shutil.which("tinyvex") is not None else f"{_python(working_directory)} -m tinyvex"


def _relative(path: Path, folder: Path) -> str:
    try:
        return os.fspath(path.relative_to(folder))
    except ValueError:
        return os.fspath(path)
