"""Files with secrets: complete or absent, and readable only by their owner."""

import sys
from pathlib import Path

import pytest

from tinyvex.storage.file import private_file
from tinyvex.storage.file.private_file import write_private_file


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
