"""
Run a command's queries: on the server that owns the data folder, or on the database file if no server runs.

A `Session` returns JSON as it is stored, so that a command prints exactly what the database holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from tinyvex.errors import ConnectionLost, DataFolderLocked
from tinyvex.limits import FUNCTION_SECONDS
from tinyvex.runtime import Runtime
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App
    from tinyvex.functions.run.executor import Executor
    from tinyvex.server.server import Server
    from tinyvex.server.services.discovery import Discovery

Arguments = Mapping[str, Any]
Claims = Mapping[str, Any]

CONNECT_SECONDS = 10.0
UNLIMITED_SECONDS = 100 * 365 * 86_400.0
UNLIMITED_BYTES = 1 << 60


class Session(Protocol):
    """Runs queries."""

    async def query(self, path: str, arguments: Arguments, *, at: int | None = None) -> bytes:
        """Return the result of a query, internal ones included, as JSON; as of the timestamp `at` if it is given."""
        ...


def running_server(data: Path) -> Discovery | None:
    """
    Return the server that owns a data folder; None if no process owns it.

    Raises:
        DataFolderLocked: a process owns the folder but does not serve, or does not serve yet.
    """
    from tinyvex.server.services.discovery import find_server
    from tinyvex.storage.file.data_folder import lock_holder

    server = find_server(data)
    if server is None and (holder := lock_holder(data)) is not None:
        raise DataFolderLocked(
            f"process {holder} owns the data folder `{data}` but does not serve it; try again later", pid=holder
        )
    return server


def local_server(app: Path | None, data: Path, *, reveal: bool = False) -> Server:
    """
    Return a server inside this process for the time of one command; no other process can connect to it.

    It retains all history: only the process that serves the database decides what expires.

    Args:
        app: the app; None for a command that only needs the system's functions.
        data: the data folder.
        reveal: errors carry tracebacks.
    """
    from tinyvex.server.options import ServerOptions
    from tinyvex.server.server import Server
    from tinyvex.storage.maintenance.retention_policy import Policy

    retention = Policy(UNLIMITED_SECONDS, UNLIMITED_BYTES)
    return Server(ServerOptions(app, data, client_token=Runtime().token(), dev=reveal, retention=retention))


@asynccontextmanager
async def open_session(data: Path) -> AsyncIterator[Session]:
    """
    Open a session for reading a data folder; needs no app.

    Raises:
        StorageError: the folder or its file is unusable.
        ConnectionLost, RemoteError: the server does not answer, or answers with an error.
    """
    server = running_server(data)
    if server is not None:
        async with connect(server) as client:
            yield _RemoteSession(client)
        return
    from tinyvex.functions.app.registry import App

    async with open_file(data, App([], [])) as session:
        yield session


@asynccontextmanager
async def connect(server: Discovery, acting_as: Claims | None = None) -> AsyncIterator[Any]:
    """
    Connect a client with the admin token.

    Args:
        server: the server's discovery file.
        acting_as: claims of the user to act as; None acts as no user.

    Raises:
        ConnectionLost: the server does not answer, or the connection is lost and cannot be restored.
        TinyvexError: the server refuses the claims.
    """
    from tinyvex.client.client import connect as connect_client
    from tinyvex.client.identity import ActingAs

    auth = None if acting_as is None else partial(ActingAs, server.admin_token, acting_as)
    async with connect_client(server.url, server.admin_token, auth=auth, tls=server.tls_fingerprint) as client:
        with anyio.move_on_after(CONNECT_SECONDS) as waiting:
            await client.wait_connected()
        if waiting.cancelled_caught:
            raise ConnectionLost(f"the server at {server.url}, process {server.pid}, does not answer")
        if acting_as is not None:
            await _require_identity(client)
        async with _failing_when_lost(client, server):
            yield client


@asynccontextmanager
async def _failing_when_lost(client: Any, server: Discovery) -> AsyncIterator[None]:
    """Raise ConnectionLost inside the block if the server stays away. A client alone would reconnect without end."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_watch_connection, client, server)
            yield
            group.cancel_scope.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _watch_connection(client: Any, server: Discovery) -> None:
    while True:
        async with aclosing(client.connection_states()) as states:
            async for state in states:
                if state.phase != "connected":
                    break
        with anyio.move_on_after(CONNECT_SECONDS) as waiting:
            await client.wait_connected()
        if waiting.cancelled_caught:
            raise ConnectionLost(f"the server at {server.url}, process {server.pid}, stopped answering")


async def _require_identity(client: Any) -> None:
    """Check that the server accepted the claims, so that a call meant for a user never runs anonymously."""
    await client.query("_system:span")  # the client sends no request before the server has answered the claims
    if client.connection_state.auth_error is not None:
        raise client.connection_state.auth_error


class _RemoteSession:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def query(self, path: str, arguments: Arguments, *, at: int | None = None) -> bytes:
        return codec.encode(await self._client.query(path, arguments, at=at))


@asynccontextmanager
async def open_file(
    data: Path, app: App, *, acting_as: Claims | None = None, function_seconds: float = FUNCTION_SECONDS
) -> AsyncIterator[Session]:
    """
    Open a read-only session on the database file, for the queries of `app` and of the system.

    Args:
        data: the data folder.
        app: the app whose queries can be run.
        acting_as: claims of the user whom queries see as `ctx.auth`.
        function_seconds: time limit of one query.

    Raises:
        StorageError: the folder or its file is unusable.
    """
    from tinyvex.functions.run.code_switch import CodeSwitch
    from tinyvex.functions.run.executor import Executor
    from tinyvex.storage.engine.store import Store

    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    store = Store.open(data, runtime, read_only=True)
    try:
        executor = Executor(store, runtime, CodeSwitch(app), function_seconds=function_seconds, reveal=True)
        yield _LocalSession(executor, acting_as)
    finally:
        await store.close()


class _LocalSession:
    def __init__(self, executor: Executor, acting_as: Claims | None) -> None:
        self._executor = executor
        self._acting_as = acting_as

    async def query(self, path: str, arguments: Arguments, *, at: int | None = None) -> bytes:
        from tinyvex.functions.run.call import Call

        call = Call(path, codec.encode(arguments), self._acting_as, admin=True)
        outcome = await self._executor.query(call, at=at)
        return bytes(outcome.value)
