"""Files with secrets: complete or absent, and readable only by their owner."""

import logging
import os
import sys
from pathlib import Path

import pytest

from tinyvex.errors import DataFolderUnusable
from tinyvex.storage.file import private_file
from tinyvex.storage.file.private_file import open_private, read_private, warn_of_shared_key, write_private_file


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    """Also if the file existed with another mode."""
    path = tmp_path / "secret.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write succeeds, although the failed one left its file behind."""
    path = tmp_path / "secret.json"
    write_private_file(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(private_file.os, "fdopen", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_private_file(path, b"new")
    assert path.read_bytes() == b"old"
    write_private_file(path, b"new")
    assert path.read_bytes() == b"new"


needs_modes = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


@needs_modes
@pytest.mark.parametrize(("mode", "is_logged"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)], ids=str)
def test_a_key_that_all_users_can_read_is_reported(
    tmp_path: Path, mode: int, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A group may read it, as on systems whose servers share a group for keys."""
    (tmp_path / "key.pem").touch()
    (tmp_path / "key.pem").chmod(mode)
    with caplog.at_level(logging.WARNING):
        warn_of_shared_key("--tls-key", tmp_path / "key.pem")
    assert ("key.pem` is open to every user of this machine; run `chmod o-rw" in caplog.text) == is_logged


@needs_modes
def test_an_opened_file_becomes_private(tmp_path: Path) -> None:
    """Another program may have created it."""
    (tmp_path / "lock").touch(0o666)
    os.close(open_private(tmp_path / "lock", os.O_RDWR | os.O_CREAT))
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


@needs_modes
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Not even one of the same user, because Tinyvex creates none."""
    (tmp_path / "target").touch()
    (tmp_path / "lock").symlink_to("target")
    with pytest.raises(DataFolderUnusable, match="is a link"):
        read_private(tmp_path / "lock")


@needs_modes
def test_a_hard_link_is_not_written(tmp_path: Path) -> None:
    """The file would be emptied under its other name as well."""
    (tmp_path / "target").touch()
    os.link(tmp_path / "target", tmp_path / "lock")
    with pytest.raises(DataFolderUnusable, match="hard link"):
        open_private(tmp_path / "lock", os.O_RDWR | os.O_CREAT)


@needs_modes
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Opening one waits for a writer otherwise."""
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(DataFolderUnusable, match="not a regular file"):
        read_private(tmp_path / "lock")
