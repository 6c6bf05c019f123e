"""
The discovery file, `DATA/server.json`: the address of a data folder's server, and the secrets for talking to it.

The file is created when the server can serve and removed when it stops. A crash leaves it behind, so a reader trusts it
only while the folder's lock is held. Its mode is 0600, because it contains the admin token. Windows has no such mode;
there the file inherits the access list of the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tinyvex.server.services.service import ServiceHealth
from tinyvex.storage.file.data_folder import DataFolder, lock_holder
from tinyvex.storage.file.private_file import read_private, write_private_file

if TYPE_CHECKING:
    from tinyvex.server.background_tasks import BackgroundTasks

__all__ = ["Discovery", "DiscoveryFile", "find_server", "read", "remove", "write"]


class Discovery(msgspec.Struct, rename="camel", kw_only=True, frozen=True, omit_defaults=True):
    """
    The content of the file.

    Attributes:
        url: where clients on this machine connect.
        port: the port in `url`.
        pid: the process of the server.
        token: the client token; None if the server requires none.
        admin_token: the admin token, which allows everything.
        version: the server's version of Tinyvex.
        database_id: the id of the database.
        tls_fingerprint: of the certificate; None without TLS. A reader of this file may pin it instead of asking an
            authority.
    """

    url: str
    port: int
    pid: int
    token: str | None
    admin_token: str
    version: str
    database_id: str
    tls_fingerprint: str | None = None

    def ready_record(self) -> dict[str, Any]:
        """Return the ready line of `tinyvex serve` as an object; it has no admin token."""
        record = {
            "event": "ready",
            "url": self.url,
            "port": self.port,
            "pid": self.pid,
            "token": self.token,
            "version": self.version,
        }
        return record if self.tls_fingerprint is None else record | {"tlsFingerprint": self.tls_fingerprint}


class DiscoveryFile:
    """
    The service that holds the file in place while the server runs.

    Args:
        folder: the data folder; the caller owns its lock.
        describe: returns the content.
    """

    name = "discovery-file"

    def __init__(self, folder: Path, describe: Callable[[], Discovery]) -> None:
        self._folder = folder
        self._describe = describe
        self._is_written = False

    async def start(self, tasks: BackgroundTasks) -> None:
        """
        Write the file.

        Raises:
            DataFolderUnusable, DiskFull: the folder cannot be written.
        """
        self.write()

    def write(self) -> None:
        """
        Write the file, or replace it when its content has changed.

        Raises:
            DataFolderUnusable, DiskFull: the folder cannot be written.
        """
        write(self._folder, self._describe())
        self._is_written = True

    async def stop(self) -> None:
        """Remove the file."""
        remove(self._folder)
        self._is_written = False

    def health(self) -> ServiceHealth:
        """Return `ok` while the file is in place."""
        return ServiceHealth("ok" if self._is_written else "stopped")


def write(folder: Path, discovery: Discovery) -> None:
    """
    Replace the file in one step, so that no reader sees half of it.

    Raises:
        DataFolderUnusable, DiskFull: the folder cannot be written.
    """
    write_private_file(DataFolder(folder).discovery, msgspec.json.encode(discovery) + b"\n")


def remove(folder: Path) -> None:
    """Remove the file; only the folder's owner may, before it releases the lock."""
    DataFolder(folder).discovery.unlink(missing_ok=True)


def read(folder: Path) -> Discovery | None:
    """
    Return the content of the file, which may be left over from a crash; None if it is missing or unreadable.

    Raises:
        DataFolderUnusable: another user placed the file there.
    """
    try:
        return msgspec.json.decode(read_private(DataFolder(folder).discovery), type=Discovery)
    except (OSError, msgspec.DecodeError):
        return None


def find_server(folder: Path) -> Discovery | None:
    """
    Return the server that owns the folder; None if the folder's lock is free or the server is still starting.

    Raises:
        DataFolderUnusable: another user placed one of the files there.
    """
    return read(folder) if lock_holder(folder) is not None else None
