"""`tinyvex run`: call one function by name."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.options import app_option, data_option
from tinyvex.cli.output import one_line, print_value
from tinyvex.cli.place import find_data, find_place
from tinyvex.cli.session import connect, open_file, running_server
from tinyvex.errors import FunctionNotFound, RemoteError, TinyvexError, WrongFunctionKind
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.server.discovery import Discovery


@click.command("run", short_help="Call a function and print its result.")
@click.argument("function")
@click.argument("args", default="{}")
@click.option("--watch", is_flag=True, help="Print a query's result again, as one JSON line, whenever it changes.")
@app_option
@data_option
def command(function: str, args: str, watch: bool, app: Path | None, data: Path | None) -> None:
    """
    Call FUNCTION with ARGS and print its result.

    FUNCTION is a path such as messages:send; internal functions can be called too.
    ARGS is a JSON object with the arguments by name.

    Without a running server a query reads the file, and a mutation or action
    starts the app in this process for as long as it takes.
    """
    log_to_stderr("info")
    logging.getLogger("tinyvex.storage").setLevel(logging.WARNING)
    arguments = _arguments(args)
    folder = find_data(data) if app is None else find_place(app, data).data
    found = running_server(folder)
    if found is not None:
        asyncio.run(_watch(found, function, arguments) if watch else _call(found, function, arguments))
    elif watch:
        raise click.UsageError(f"--watch needs a running server, and none owns {folder}: nothing would change")
    else:
        asyncio.run(_call_here(app, data, function, arguments))


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = codec.decode(text.encode())
    except TinyvexError as error:
        raise click.UsageError(f"ARGS is not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise click.UsageError(f'ARGS is a JSON object with the arguments by name, such as {{"limit": 10}}; not {text}')
    return arguments


async def _call(found: Discovery, function: str, arguments: dict[str, Any]) -> None:
    """A call's kind is the server's to know: asking for the wrong one runs nothing."""
    async with connect(found) as client:
        for call in (client.query, client.mutation, client.action):
            try:
                value = await call(function, arguments)
            except RemoteError as error:
                if error.remote_number != WrongFunctionKind.number or call == client.action:
                    raise
            else:
                print_value(codec.encode(value))
                return


async def _watch(found: Discovery, function: str, arguments: dict[str, Any]) -> None:
    async with connect(found) as client:
        async for value in client.subscribe(function, arguments):
            click.echo(one_line(json.loads(codec.encode(value))))


async def _call_here(app: Path | None, data: Path | None, function: str, arguments: dict[str, Any]) -> None:
    from tinyvex.functions.loader import load_app

    place = find_place(app, data)
    loaded = load_app(place.app)
    spec = loaded.functions.get(function)
    if spec is None:
        raise FunctionNotFound(f"{place.app} has no function {function!r}; `tinyvex function-spec` lists them")
    if spec.kind == "query":
        async with open_file(place.data, loaded) as session:
            print_value(await session.query(function, arguments))
        return

    from tinyvex.functions.calls import Call
    from tinyvex.server.server import Server, ServerOptions

    call = Call(function, codec.encode(arguments), admin=True)
    async with Server(ServerOptions(app=place.app, data=place.data, dev=True)) as server:
        if spec.kind == "mutation":
            print_value((await server.executor.mutation(call)).value)
        else:
            value, _ = await server.executor.action(call)
            print_value(value)
