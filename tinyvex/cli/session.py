"""
Where a command's calls go: to the server that owns the data folder, or to the file itself when none runs.

A `Session` answers with JSON as it is stored, so that what a command prints is what the database holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from tinyvex.errors import ConnectionLost, DataFolderLocked, DataFolderUnusable
from tinyvex.limits import FUNCTION_SECONDS
from tinyvex.runtime import Runtime
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.cli.app_location import Place
    from tinyvex.functions.app.registry import App
    from tinyvex.functions.run.executor import Executor
    from tinyvex.server.server import Server
    from tinyvex.server.services.discovery import Discovery

Arguments = Mapping[str, Any]
Claims = Mapping[str, Any]

CONNECT_SECONDS = 10.0
FOR_EVER = 100 * 365 * 86_400.0

logger = logging.getLogger(__name__)


class Session(Protocol):
    """Runs queries."""

    async def query(self, path: str, arguments: Arguments, *, at: int | None = None) -> bytes:
        """A query's result as JSON, internal queries included; as of `at`, a `ts`, where it is given."""
        ...


def show_log_lines(path: str, lines: Iterable[str]) -> None:
    """What a function logged that ran in this process, as the client shows what one on a server did."""
    for line in lines:
        logger.info("%s: %s", path, line)


def running_server(data: Path) -> Discovery | None:
    """
    The server that owns the folder; None when nobody does.

    Raises:
        DataFolderLocked: someone does, but it does not serve (yet).
    """
    from tinyvex.server.services.discovery import find_server
    from tinyvex.storage.file.data_folder import lock_holder

    found = find_server(data)
    if found is None and (holder := lock_holder(data)) is not None:
        raise DataFolderLocked(
            f"process {holder} owns the data folder {data} but does not serve; try again", pid=holder
        )
    return found


def server_in_here(place: Place, *, reveal: bool = False) -> Server:
    """
    A server in this process, for as long as one command takes; nobody else is let in.

    It forgets nothing: how much history is kept is for whoever serves the database to say.

    Args:
        place: what to serve.
        reveal: errors carry tracebacks.
    """
    from tinyvex.server.options import ServerOptions
    from tinyvex.server.server import Server
    from tinyvex.storage.maintenance.retention import Policy

    return Server(
        ServerOptions(place.app, place.data, client_token=Runtime().token(), dev=reveal, retention=Policy(FOR_EVER))
    )


@asynccontextmanager
async def open_session(data: Path) -> AsyncIterator[Session]:
    """
    A session for reading what is in a data folder; needs no app.

    Raises:
        StorageError: the folder or its file.
        ConnectionLost, RemoteError: the server.
    """
    found = running_server(data)
    if found is not None:
        async with connect(found) as client:
            yield _Remote(client)
        return
    from tinyvex.functions.app.registry import App

    async with open_file(data, App([], [])) as session:
        yield session


@asynccontextmanager
async def connect(found: Discovery, acting_as: Claims | None = None) -> AsyncIterator[Any]:
    """
    A client with the admin token, connected.

    Args:
        found: the server.
        acting_as: claims of the user to act as; None for nobody.

    Raises:
        ConnectionLost: the server does not answer, or is lost and does not come back.
        TinyvexError: it does not take these claims.
    """
    from tinyvex.client.client import connect as connect_client
    from tinyvex.client.identity import ActingAs

    auth = None if acting_as is None else partial(ActingAs, found.admin_token, acting_as)
    async with connect_client(found.url, found.admin_token, auth=auth, tls=found.tls_fingerprint) as client:
        with anyio.move_on_after(CONNECT_SECONDS) as waiting:
            await client.wait_connected()
        if waiting.cancelled_caught:
            raise ConnectionLost(f"the server at {found.url}, process {found.pid}, does not answer")
        if acting_as is not None:
            await _authenticated(client)
        async with _while_it_lasts(client, found):
            yield client


@asynccontextmanager
async def _while_it_lasts(client: Any, found: Discovery) -> AsyncIterator[None]:
    """A client waits for its server for ever; a command does not."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_end_when_lost, client, found)
            yield
            group.cancel_scope.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _end_when_lost(client: Any, found: Discovery) -> None:
    while True:
        async with aclosing(client.connection_states()) as states:
            async for state in states:
                if state.phase != "connected":
                    break
        with anyio.move_on_after(CONNECT_SECONDS) as waiting:
            await client.wait_connected()
        if waiting.cancelled_caught:
            raise ConnectionLost(f"the server at {found.url}, process {found.pid}, does not answer any more")


async def _authenticated(client: Any) -> None:
    """Nothing must be called as nobody that was meant for somebody: see that the server took the claims."""
    await client.query("_system:span")  # held back until it is known who asks
    if client.connection_state.auth_error is not None:
        raise client.connection_state.auth_error


class _Remote:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def query(self, path: str, arguments: Arguments, *, at: int | None = None) -> bytes:
        return codec.encode(await self._client.query(path, arguments, at=at))


@asynccontextmanager
async def open_file(
    data: Path, app: App, *, acting_as: Claims | None = None, function_seconds: float = FUNCTION_SECONDS
) -> AsyncIterator[Session]:
    """
    A session on the file itself, read-only, with the queries of `app` beside the system's.

    Args:
        data: the data folder.
        app: its queries can be run.
        acting_as: claims of the user whom queries see as `ctx.auth`.
        function_seconds: time limit of one query.

    Raises:
        StorageError: the folder or its file.
    """
    from tinyvex.functions.run.executor import Executor
    from tinyvex.storage.engine.store import Store

    require(data)
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    store = Store.open(data, runtime, read_only=True)
    try:
        executor = Executor(store, runtime, app, function_seconds=function_seconds, reveal=True)
        yield _Local(executor, acting_as)
    finally:
        await store.close()


def require(data: Path) -> None:
    """
    Refuse to look into a folder that is not there.

    Raises:
        DataFolderUnusable: it is not.
    """
    if not data.is_dir():
        raise DataFolderUnusable(f"there is no data folder {data}; `tinyvex dev` makes it")


class _Local:
    def __init__(self, executor: Executor, acting_as: Claims | None) -> None:
        self._executor = executor
        self._acting_as = acting_as

    async def query(self, path: str, arguments: Arguments, *, at: int | None = None) -> bytes:
        from tinyvex.functions.run.call import Call

        call = Call(path, codec.encode(arguments), self._acting_as, admin=True)
        outcome = await self._executor.query(call, at=at)
        show_log_lines(path, outcome.log_lines)
        return bytes(outcome.value)
