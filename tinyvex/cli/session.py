"""
Where a command's calls go: to the server that owns the data folder, or to the file itself when none runs.

A `Session` answers with JSON as it is stored, so that what a command prints is what the database holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from tinyvex.errors import ConnectionLost, DataFolderLocked, DataFolderUnusable
from tinyvex.runtime import Runtime
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.app import App
    from tinyvex.server.discovery import Discovery

Arguments = Mapping[str, Any]

CONNECT_SECONDS = 10.0


class Session(Protocol):
    """Runs queries."""

    async def query(self, path: str, arguments: Arguments) -> bytes:
        """A query's result as JSON, internal queries included."""
        ...


def running_server(data: Path) -> Discovery | None:
    """
    The server that owns the folder; None when nobody does.

    Raises:
        DataFolderLocked: someone does, but it does not serve (yet).
    """
    from tinyvex.server.discovery import find_server
    from tinyvex.storage.folder import lock_holder

    found = find_server(data)
    if found is None and (holder := lock_holder(data)) is not None:
        raise DataFolderLocked(
            f"process {holder} owns the data folder {data} but does not serve; try again", pid=holder
        )
    return found


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
    from tinyvex.functions.app import App

    async with open_file(data, App([], [])) as session:
        yield session


@asynccontextmanager
async def connect(found: Discovery) -> AsyncIterator[Any]:
    """
    A client with the admin token, connected.

    Raises:
        ConnectionLost: the server does not answer.
    """
    from tinyvex.client.client import connect as connect_client

    async with connect_client(found.url, found.admin_token) as client:
        with anyio.move_on_after(CONNECT_SECONDS) as waiting:
            await client.wait_connected()
        if waiting.cancelled_caught:
            raise ConnectionLost(f"the server at {found.url}, process {found.pid}, does not answer")
        yield client


class _Remote:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def query(self, path: str, arguments: Arguments) -> bytes:
        return codec.encode(await self._client.query(path, arguments))


@asynccontextmanager
async def open_file(data: Path, app: App) -> AsyncIterator[Session]:
    """
    A session on the file itself, read-only, with the queries of `app` beside the system's.

    Raises:
        StorageError: the folder or its file.
    """
    from tinyvex.functions.executor import Executor
    from tinyvex.storage.store import Store

    _require(data)
    runtime = Runtime()
    runtime.bind(asyncio.get_running_loop())
    store = Store.open(data, runtime, read_only=True)
    try:
        yield _Local(Executor(store, runtime, app))
    finally:
        await store.close()


def _require(data: Path) -> None:
    if not data.is_dir():
        raise DataFolderUnusable(f"there is no data folder {data}; `tinyvex dev` makes it")


class _Local:
    def __init__(self, executor: Any) -> None:
        self._executor = executor

    async def query(self, path: str, arguments: Arguments) -> bytes:
        from tinyvex.functions.calls import Call

        outcome = await self._executor.query(Call(path, codec.encode(arguments), admin=True))
        return bytes(outcome.value)
