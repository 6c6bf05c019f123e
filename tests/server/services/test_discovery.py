"""The discovery file: complete, private, believed only while someone owns the folder."""

import json
import stat
import sys
from pathlib import Path

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
    """Neither the file nor a half-written one of a crashed server is in the way."""
    (tmp_path / "server.json").write_text("{}")
    (tmp_path / "server.json.new").write_text("half")
    discovery.write(tmp_path, FOUND)
    assert discovery.read(tmp_path) == FOUND
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    """It is gone after the first time, and the second one does not mind."""
    discovery.write(tmp_path, FOUND)
    discovery.remove(tmp_path)
    discovery.remove(tmp_path)
    assert discovery.read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "{}", '{"url": 1}'])
def test_an_unreadable_file_is_no_server(tmp_path: Path, text: str) -> None:
    """Damage is not believed and not an error."""
    (tmp_path / "server.json").write_text(text)
    assert discovery.read(tmp_path) is None


def test_a_file_in_a_free_folder_is_not_believed(tmp_path: Path) -> None:
    """A killed server leaves its file behind; the free lock tells that it is gone."""
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
