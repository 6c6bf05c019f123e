"""Connections of commands in unusual situations."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli import session
from tinyvex.cli.session import UNLIMITED_SECONDS, connect, local_server, open_session, running_server
from tinyvex.errors import ConnectionLost, DataFolderLocked, DataFolderUnusable, RemoteError
from tinyvex.server.services import discovery
from tinyvex.server.services.discovery import Discovery
from tinyvex.storage.file.data_folder import DataFolder
from tinyvex.storage.log.clock_history import ClockHistory
from tinyvex.storage.maintenance.live_size import LiveSize
from tinyvex.storage.maintenance.retention_policy import HistoryState

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that a process owns."""
    lock = DataFolder(tmp_path).lock()
    yield tmp_path
    lock.release()


def found(port: int) -> Discovery:
    return Discovery(
        url=f"ws://127.0.0.1:{port}", port=port, pid=1, token=None, admin_token="a", version="0", database_id="d"
    )


def test_a_free_folder_has_no_server(tmp_path: Path) -> None:
    """Commands open the file itself."""
    discovery.write(tmp_path, found(1))
    assert running_server(tmp_path) is None


def test_a_locked_folder_with_a_discovery_file_has_a_server(locked: Path) -> None:
    """Commands connect to it."""
    discovery.write(locked, found(1))
    assert running_server(locked) == found(1)


def test_a_locked_folder_without_a_server_is_refused(locked: Path) -> None:
    """Its owner is starting or stopping; the error names the process."""
    with pytest.raises(DataFolderLocked, match="does not serve"):
        running_server(locked)


async def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """Reading creates no folder."""
    with pytest.raises(DataFolderUnusable):
        async with open_session(tmp_path / "none"):
            pass


async def test_a_silent_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command stops waiting; the error names the process."""
    monkeypatch.setattr(session, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionLost, match="process 1"):
        async with connect(found(silent.getsockname()[1])):
            pass


def test_the_server_of_a_command_is_private_and_purges_nothing(tmp_path: Path) -> None:
    """Only the process that serves the database decides how much history is retained."""
    options = local_server(tmp_path / "app.py", tmp_path).options
    now_us = 4_000_000_000_000_000
    state = HistoryState(0, 0, now_us, now_us, 1 << 40, ClockHistory(), LiveSize())
    assert options.retention.floor(state, now_us) == now_us - int(UNLIMITED_SECONDS * 1e6)
    assert options.client_token
    assert options.host == "127.0.0.1"


async def test_a_command_ends_when_its_server_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any call then fails with ConnectionLost."""
    with ServerProcess(APP, tmp_path) as server:
        here = running_server(tmp_path)
        assert here is not None
        with pytest.raises(ConnectionLost, match="stopped answering"):
            async with connect(here) as client:
                assert await client.query("shelf:titles") == []
                monkeypatch.setattr(session, "CONNECT_SECONDS", 0.2)  # not before: connecting may take longer
                await asyncio.to_thread(server.kill)
                await client.query("shelf:titles")


async def test_errors_of_a_command_are_not_grouped(tmp_path: Path) -> None:
    """The task group that watches the connection does not wrap them."""
    with ServerProcess(APP, tmp_path):
        here = running_server(tmp_path)
        assert here is not None
        with pytest.raises(RemoteError, match="no such book"):
            async with connect(here) as client:
                await client.query("shelf:pages", {"title": "none"})
