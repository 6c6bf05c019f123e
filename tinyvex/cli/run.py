"""`tinyvex run`: call one function by name, or a query written on the command line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinyvex.cli.app_location import find_data, find_place
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.options import app_option, data_option
from tinyvex.cli.output import one_line, print_value
from tinyvex.cli.session import connect, open_file, running_server, server_in_here, show_log_lines
from tinyvex.errors import FunctionNotFound, RemoteError, TinyvexError, WrongFunctionKind
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.server.services.discovery import Discovery


@dataclass(frozen=True, slots=True)
class _Request:
    """
    What to call.

    Attributes:
        identity: claims of the user to act as; None for nobody.
        lines: print results as one line of JSON each.
    """

    function: str
    arguments: dict[str, Any]
    identity: Mapping[str, Any] | None
    lines: bool

    def show(self, value: bytes) -> None:
        if self.lines:
            click.echo(one_line(json.loads(value)))
        else:
            print_value(value)


@click.command("run", short_help="Call a function and print its result.")
@click.argument("function", required=False)
@click.argument("args", default="{}")
@click.option("--watch", is_flag=True, help="Print a query's result again whenever it changes.")
@click.option("--identity", metavar="JSON", help='Act as a user with these claims, as \'{"subject": "ada"}\'.')
@click.option(
    "--inline-query",
    "source",
    metavar="PYTHON",
    help="Run this instead of a FUNCTION: an expression, or statements with `return`, with `ctx` and `tv`.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    help="Indented, or one line of JSON.  [default: pretty; json with --watch]",
)
@app_option
@data_option
def command(
    function: str | None,
    args: str,
    watch: bool,
    identity: str | None,
    source: str | None,
    output: str | None,
    app: Path | None,
    data: Path | None,
) -> None:
    """
    Call FUNCTION with ARGS and print its result.

    FUNCTION is a path such as messages:send; internal functions can be called too.
    ARGS is a JSON object with the arguments by name. What the function logs goes to stderr.

    Without a running server a query reads the file, and a mutation or action
    starts the app in this process for as long as it takes.

    An inline query always runs in this process, on the file, which it cannot change, at one moment,
    within the time limit of queries; it needs no app, and the tables go by their names.

    \b
    tinyvex run messages:send '{"channel": "general", "body": "Hello"}'
    tinyvex run messages:recent '{"channel": "general"}' --watch --identity '{"subject": "ada"}'
    tinyvex run --inline-query 'ctx.db.query("messages").order("desc").first()'
    """
    log_to_stderr("info", reveal=True)
    logging.getLogger("tinyvex.storage").setLevel(logging.WARNING)
    claims = None if identity is None else _object("--identity", identity, '{"subject": "ada"}')
    if source is not None:
        if function is not None or watch:
            raise click.UsageError("--inline-query is run instead of a FUNCTION, once")
        folder = find_data(data) if app is None else find_place(app, data).data
        asyncio.run(_run_inline(folder, source, claims, lines=output == "json"))
        return
    if function is None:
        raise click.UsageError("name a FUNCTION, or give an --inline-query")
    lines = output == "json" or (output is None and watch)
    request = _Request(function, _object("ARGS", args, '{"limit": 10}'), claims, lines)
    _run(request, watch=watch, app=app, data=data)


def _object(what: str, text: str, example: str) -> dict[str, Any]:
    try:
        found = codec.decode(text.encode())
    except TinyvexError as error:
        raise click.UsageError(f"{what} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError(f"{what} is a JSON object, such as {example}; not {text}")
    return found


def _run(request: _Request, *, watch: bool, app: Path | None, data: Path | None) -> None:
    folder = find_data(data) if app is None else find_place(app, data).data
    found = running_server(folder)
    if found is not None:
        asyncio.run(_watch(found, request) if watch else _call(found, request))
    elif watch:
        raise click.UsageError(f"--watch needs a running server, and none owns {folder}: nothing would change")
    else:
        asyncio.run(_call_here(app, data, request))


async def _call(found: Discovery, request: _Request) -> None:
    """A call's kind is the server's to know: asking for the wrong one runs nothing."""
    async with connect(found, request.identity) as client:
        for call in (client.query, client.mutation, client.action):
            try:
                value = await call(request.function, request.arguments)
            except RemoteError as error:
                if error.remote_number != WrongFunctionKind.number or call == client.action:
                    raise
            else:
                request.show(codec.encode(value))
                return


async def _watch(found: Discovery, request: _Request) -> None:
    async with connect(found, request.identity) as client:
        async for value in client.subscribe(request.function, request.arguments):
            request.show(codec.encode(value))


async def _call_here(app: Path | None, data: Path | None, request: _Request) -> None:
    from tinyvex.functions.app.loader import load_app

    place = find_place(app, data)
    loaded = load_app(place.app)
    spec = loaded.functions.get(request.function)
    if spec is None:
        raise FunctionNotFound(f"{place.app} has no function {request.function!r}; `tinyvex function-spec` lists them")
    if spec.kind == "query":
        async with open_file(place.data, loaded, acting_as=request.identity) as session:
            request.show(await session.query(request.function, request.arguments))
        return

    from tinyvex.functions.run.call import Call

    call = Call(request.function, codec.encode(request.arguments), request.identity, admin=True)
    async with server_in_here(place, reveal=True) as server:
        if spec.kind == "mutation":
            outcome = await server.executor.mutation(call)
            value, log_lines = outcome.value, outcome.log_lines
        else:
            value, log_lines = await server.executor.action(call)
    show_log_lines(request.function, log_lines)
    request.show(value)


async def _run_inline(folder: Path, source: str, identity: Mapping[str, Any] | None, *, lines: bool) -> None:
    from tinyvex.cli.inline_query import PATH, inline_app

    request = _Request(PATH, {}, identity, lines)
    async with open_file(folder, inline_app(source), acting_as=identity) as session:
        request.show(await session.query(request.function, request.arguments))
