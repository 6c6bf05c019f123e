"""`tinyvex function-spec`: list an app's functions with their schemas."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from tinyvex.cli.app_location import AppLocation, find_app
from tinyvex.cli.options import app_argument, data_option
from tinyvex.cli.terminal import echo


@click.command("function-spec", short_help="List an app's functions with their schemas.")
@app_argument
@data_option
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    show_default=True,
    help="pretty: one line per function. json: the schemas of arguments and results as well.",
)
def command(app: Path | None, data: Path | None, output: str) -> None:
    """
    List the functions of APP: path, kind, and the JSON schemas of arguments and result.

    A running server also reports which queries have read the current time.
    Without a server, the app is loaded and described.

    \b
    tinyvex function-spec notes.py --format json
    """
    functions = _functions(find_app(app, data))
    if output == "json":
        echo(json.dumps({"functions": functions}, indent=2, ensure_ascii=False))
        return
    for function in functions:
        echo(f"{_kind(function):<17} {function['path']}({_arguments(function['arguments'])}){_note(function)}")


def _functions(location: AppLocation) -> list[dict[str, Any]]:
    from tinyvex.cli.session import running_server

    if running_server(location.data) is not None:
        return asyncio.run(_query_functions(location.data))
    from tinyvex.functions.app.loader import load_app

    app = load_app(location.app)  # its modules stay importable as long as this name exists, and annotations need them
    return [spec.describe() for spec in app.functions.values()]


async def _query_functions(data: Path) -> list[dict[str, Any]]:
    from tinyvex.cli.session import open_session

    async with open_session(data) as session:
        functions: list[dict[str, Any]] = json.loads(json.loads(await session.query("_system:functions", {})))
    return functions


def _kind(function: dict[str, Any]) -> str:
    return f"internal {function['kind']}" if function["internal"] else str(function["kind"])


def _arguments(schema: dict[str, Any]) -> str:
    """Return the arguments' names; optional arguments in brackets."""
    required = schema.get("required", [])
    return ", ".join(name if name in required else f"[{name}]" for name in schema["properties"])


def _note(function: dict[str, Any]) -> str:
    return "  reads the time" if function["readsNow"] else ""
