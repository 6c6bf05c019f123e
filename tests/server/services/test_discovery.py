"""The discovery file: complete, private, trusted only while the folder is locked."""

import json
import os
import stat
import sys
from pathlib import Path

import msgspec
import pytest

from tinyvex.server.services import discovery
from tinyvex.server.services.discovery import Discovery
from tinyvex.storage.file.data_folder import DataFolder

FOUND = Discovery(
    url="ws://127.0.0.1:4800",
    port=4800,
    pid=1,
    token="client",
    admin_token="admin",
    version="0.1.0",
    database_id="d",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every field comes back."""
    discovery.write(tmp_path, FOUND)
    assert discovery.read(tmp_path) == FOUND


def test_its_names_are_those_of_the_ready_line(tmp_path: Path) -> None:
    """Programs in any language read it: camelCase JSON."""
    discovery.write(tmp_path, FOUND)
    assert set(json.loads((tmp_path / "server.json").read_text())) == {
        "url",
        "port",
        "pid",
        "token",
        "adminToken",
        "version",
        "databaseId",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has access lists instead of modes")
def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """It holds the admin token: mode 0600."""
    discovery.write(tmp_path, FOUND)
    assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600


def test_a_leftover_is_replaced(tmp_path: Path) -> None:
    """Neither the file nor a half-written one of a crashed server causes an error."""
    (tmp_path / "server.json").write_text("{}")
    (tmp_path / f"server.json.{os.getpid()}.new").write_text("half")
    discovery.write(tmp_path, FOUND)
    assert discovery.read(tmp_path) == FOUND
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    """The second removal finds no file, and is not an error."""
    discovery.write(tmp_path, FOUND)
    discovery.remove(tmp_path)
    discovery.remove(tmp_path)
    assert discovery.read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "{}", '{"url": 1}'])
def test_an_unreadable_file_is_no_server(tmp_path: Path, text: str) -> None:
    """A damaged file counts as missing."""
    (tmp_path / "server.json").write_text(text)
    assert discovery.read(tmp_path) is None


def test_a_file_in_a_free_folder_is_not_trusted(tmp_path: Path) -> None:
    """A killed server leaves its file behind; the free lock shows that it has ended."""
    discovery.write(tmp_path, FOUND)
    assert discovery.find_server(tmp_path) is None


def test_the_owner_of_the_folder_is_found(tmp_path: Path) -> None:
    """While the folder's lock is held, the file is the owner's."""
    lock = DataFolder(tmp_path).lock()
    try:
        discovery.write(tmp_path, FOUND)
        assert discovery.find_server(tmp_path) == FOUND
    finally:
        lock.release()


async def test_the_service_holds_the_file_in_place(tmp_path: Path) -> None:
    """From start to stop, with the content of the last write."""
    described = [FOUND]
    service = discovery.DiscoveryFile(tmp_path, lambda: described[-1])
    await service.start(None)  # type: ignore[arg-type]
    assert discovery.read(tmp_path) == FOUND
    assert service.health().state == "ok"
    described.append(msgspec.structs.replace(FOUND, port=4801))
    service.write()
    assert discovery.read(tmp_path) == described[-1]
    await service.stop()
    assert discovery.read(tmp_path) is None
    assert service.health().state == "stopped"


def test_the_ready_line_has_no_admin_token() -> None:
    """It goes to standard output, which other programs may log."""
    assert FOUND.ready_record() == {
        "event": "ready", "url": "ws://127.0.0.1:4800", "port": 4800, "pid": 1, "token": "client", "version": "0.1.0",
    }  # fmt: skip
