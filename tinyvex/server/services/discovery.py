"""
The discovery file, `DATA/server.json`: where the server of a data folder listens, and the secrets to talk to it.

It appears when the server can serve and goes when the server stops.
After a crash it stays behind; whoever finds it believes it only while the folder's lock is held.
Its mode is 0600: who can read it may do everything.
(Windows has no such mode; there the file inherits the folder's access list.)
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tinyvex.storage.file.data_folder import lock_holder

__all__ = ["FILE_NAME", "Discovery", "find_server", "read", "remove", "write"]

FILE_NAME = "server.json"


class Discovery(msgspec.Struct, rename="camel", kw_only=True, frozen=True, omit_defaults=True):
    """
    What the file says; `token` is None where none is asked for.

    `tls_fingerprint` is the certificate's, None without TLS: who finds it here need not ask an authority.
    """

    url: str
    port: int
    pid: int
    token: str | None
    admin_token: str
    version: str
    database_id: str
    tls_fingerprint: str | None = None


def write(folder: Path, discovery: Discovery) -> None:
    """
    Put the file in place in one step, so that nobody reads half of it.

    Raises:
        OSError: the folder cannot be written.
    """
    # The server owns the folder: a new file of this name can only be left over from a crash.
    new = folder / f"{FILE_NAME}.new"
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(discovery) + b"\n")
    new.replace(folder / FILE_NAME)


def remove(folder: Path) -> None:
    """Take the file away, by the folder's owner, before it gives up the lock."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def read(folder: Path) -> Discovery | None:
    """What the file says, true or not; None when there is no readable one."""
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Discovery)
    except (OSError, msgspec.DecodeError):
        return None


def find_server(folder: Path) -> Discovery | None:
    """The server that owns the folder now; None when the lock is free or it does not serve yet."""
    return read(folder) if lock_holder(folder) is not None else None
