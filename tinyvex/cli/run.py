"""`tinyvex run`: call a function, or run a query given on the command line."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from tinyvex.cli.app_location import find_app, find_data_folder
from tinyvex.cli.logs import log_to_stderr
from tinyvex.cli.options import app_option, data_option
from tinyvex.cli.output import one_line, print_value
from tinyvex.cli.session import connect, local_server, open_file, running_server
from tinyvex.cli.terminal import echo
from tinyvex.errors import FunctionNotFound, TinyvexError, WrongFunctionKind
from tinyvex.values import codec
from tinyvex.values.suggestions import did_you_mean

if TYPE_CHECKING:
    from tinyvex.server.services.discovery import Discovery


class _FunctionCall(Struct, frozen=True):
    """
    A call from the command line.

    Attributes:
        identity: claims of the user to act as; None acts as no user.
        compact: print each result as one line of JSON.
    """

    function: str
    arguments: dict[str, Any]
    identity: Mapping[str, Any] | None
    compact: bool

    def print_result(self, value: bytes) -> None:
        if self.compact:
            echo(one_line(json.loads(value)))
        else:
            print_value(value)


@click.command("run", short_help="Call a function and print its result.")
@click.argument("function", required=False)
@click.argument("args", default="{}")
@click.option("--watch", is_flag=True, help="Subscribe to a query and print every new result.")
@click.option("--identity", metavar="JSON", help='Act as a user with these claims, for example \'{"subject": "ada"}\'.')
@click.option(
    "--inline-query",
    "source",
    metavar="PYTHON",
    help="Run this query instead of a FUNCTION: an expression, or statements with `return`, using `ctx` and `tv`.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["pretty", "json"]),
    help="pretty: indented. json: one line.  [default: pretty; json with --watch]",
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

    FUNCTION is a path such as messages:send. Internal functions can be called as well.
    ARGS is a JSON object with the arguments by name. The function's log lines go to stderr.

    Without a running server, a query reads the database file,
    and a mutation or action starts the app inside this process for the time of the call.

    An inline query always runs inside this process, on a read-only snapshot of the file,
    within the time limit of queries. It needs no app, and addresses tables by name.
    It cannot write through ctx, but its Python can do whatever you can: do not build it from text that is not yours.

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
            raise click.UsageError("--inline-query cannot be combined with a FUNCTION or --watch")
        asyncio.run(_run_inline(find_data_folder(data, app), source, claims, compact=output == "json"))
        return
    if function is None:
        raise click.UsageError("missing FUNCTION; name one, or pass --inline-query")
    compact = output == "json" or (output is None and watch)
    call = _FunctionCall(function, _object("ARGS", args, '{"limit": 10}'), claims, compact)
    _run(call, watch=watch, app=app, data=data)


def _object(name: str, text: str, example: str) -> dict[str, Any]:
    try:
        value = codec.decode(text.encode())
    except TinyvexError as error:
        raise click.UsageError(f"{name}: {error}; it must be a JSON object such as {example}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f"{name} must be a JSON object such as {example}, not `{text}`")
    return value


def _run(call: _FunctionCall, *, watch: bool, app: Path | None, data: Path | None) -> None:
    folder = find_data_folder(data, app)
    server = running_server(folder)
    if server is not None:
        asyncio.run(_watch(server, call) if watch else _call_remote(server, call))
    elif watch:
        raise click.UsageError(f"--watch requires a running server, and none owns the data folder `{folder}`")
    else:
        asyncio.run(_call_local(app, data, call))


async def _call_remote(server: Discovery, call: _FunctionCall) -> None:
    """Call a function of unknown kind: a request of the wrong kind is refused without running anything."""
    async with connect(server, call.identity) as client:
        for request in (client.query, client.mutation, client.action):
            try:
                value = await request(call.function, call.arguments)
            except FunctionNotFound as error:
                raise _with_hint(error) from None
            except WrongFunctionKind:
                if request == client.action:
                    raise
            else:
                call.print_result(codec.encode(value))
                return


async def _watch(server: Discovery, call: _FunctionCall) -> None:
    async with connect(server, call.identity) as client:
        try:
            async for value in client.subscribe(call.function, call.arguments):
                call.print_result(codec.encode(value))
        except FunctionNotFound as error:
            raise _with_hint(error) from None


def _with_hint(error: FunctionNotFound) -> FunctionNotFound:
    separator = "" if error.message.endswith("?") else ";"
    return FunctionNotFound(f"{error.message}{separator} `tinyvex function-spec` lists the functions")


async def _call_local(app: Path | None, data: Path | None, call: _FunctionCall) -> None:
    from tinyvex.functions.app.loader import load_app

    location = find_app(app, data)
    loaded = load_app(location.app)
    spec = loaded.functions.get(call.function)
    if spec is None:
        raise FunctionNotFound(
            f"`{location.app}` has no function `{call.function}`{did_you_mean(call.function, loaded.functions)};"
            " `tinyvex function-spec` lists its functions"
        )
    if spec.kind == "query":
        async with open_file(location.data, loaded, acting_as=call.identity) as session:
            call.print_result(await session.query(call.function, call.arguments))
        return

    from tinyvex.functions.run.call import Call

    request = Call(call.function, codec.encode(call.arguments), call.identity, admin=True)
    async with local_server(location.app, location.data, reveal=True) as server:
        if spec.kind == "mutation":
            value = (await server.executor.mutation(request)).value
        else:
            value, _ = await server.executor.action(request)
    call.print_result(value)


async def _run_inline(folder: Path, source: str, identity: Mapping[str, Any] | None, *, compact: bool) -> None:
    from tinyvex.cli.inline_query import PATH, inline_app

    call = _FunctionCall(PATH, {}, identity, compact)
    async with open_file(folder, inline_app(source), acting_as=identity) as session:
        call.print_result(await session.query(call.function, call.arguments))
