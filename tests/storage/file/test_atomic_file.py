"""The creation of a file in one step, and what it refuses to replace."""

import errno
import os
from pathlib import Path

import pytest

from tinyvex import errors
from tinyvex.storage.file.atomic_file import atomic_file


def test_only_the_last_of_two_writers_creates_a_file(tmp_path):
    """The first writer is refused; the file of the second is complete, and files of a third are left alone."""
    target = tmp_path / "copy"
    with pytest.raises(errors.DataFolderUnusable, match="another process"), atomic_file(target, replace=False) as first:
        first.write_text("the fir")
        with atomic_file(target, replace=True) as second:
            second.write_text("the sec")
            second.write_text("the second")
        (tmp_path / "copy.unfinished").write_text("of a third")
        target.rename(tmp_path / "whole")
    assert (tmp_path / "whole").read_text() == "the second"
    assert (tmp_path / "copy.unfinished").read_text() == "of a third"
    assert not target.exists()


def test_a_file_created_meanwhile_is_not_replaced(tmp_path):
    """It is treated like a file that existed before."""
    target = tmp_path / "copy"
    with pytest.raises(errors.DataFolderUnusable, match="already"), atomic_file(target, replace=False) as unfinished:
        unfinished.write_text("ours")
        target.write_text("theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert target.read_text() == "theirs"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such paths")
def test_only_a_regular_file_is_replaced(tmp_path):
    """A pipe or a device, such as `/dev/stdout`, would become a file for every program of the machine."""
    target = tmp_path / "pipe"
    os.mkfifo(target)
    with pytest.raises(errors.DataFolderUnusable, match="not a regular file"), atomic_file(target, replace=True):
        pass
    assert target.is_fifo()


def test_a_file_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """After a power failure it is complete or absent."""
    happened = []
    replace = Path.replace
    monkeypatch.setattr("tinyvex.storage.file.atomic_file.sync_file", lambda path: happened.append(path.read_text()))
    monkeypatch.setattr(Path, "replace", lambda path, target: happened.append("named") or replace(path, target))
    with atomic_file(tmp_path / "copy", replace=False) as unfinished:
        unfinished.write_text("all of it")
    assert happened == ["all of it", "named"]


needs_links = pytest.mark.skipif(os.name == "nt", reason="Windows restricts symbolic links")


@needs_links
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    """The file that it leads to is created or replaced, also through several links and into another folder."""
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "real"
    if exists:
        real.write_text("old")
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(real)
    with atomic_file(tmp_path / "first", replace=exists) as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert real.read_text() == "new"
    assert not real.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "first", "real", "second"]


@needs_links
def test_a_link_to_an_existing_file_needs_replace(tmp_path):
    """The link counts as the file."""
    (tmp_path / "real").write_text("mine")
    (tmp_path / "link").symlink_to("real")
    with (
        pytest.raises(errors.DataFolderUnusable, match="already exists"),
        atomic_file(tmp_path / "link", replace=False),
    ):
        pass
    assert (tmp_path / "real").read_text() == "mine"


@needs_links
@pytest.mark.parametrize("name", ["/dev/full", "/dev/null", "link to a device", "/dev/stdout of a pipe", "folder"])
def test_devices_and_files_without_a_name_are_not_replaced(tmp_path, name):
    """This holds through links; a root user would otherwise turn a device into a file for the whole machine."""
    reading, writing = os.pipe()
    try:
        (tmp_path / "link to a device").symlink_to("/dev/full")
        (tmp_path / "/dev/stdout of a pipe".replace("/", "_")).symlink_to(f"/dev/fd/{writing}")
        (tmp_path / "folder").mkdir()
        target = Path(name) if Path(name).exists() else tmp_path / name.replace("/", "_")
        if not target.exists():
            pytest.skip(f"there is no {name} here")
        before = target.stat()
        refused = pytest.raises(errors.DataFolderUnusable, match="not a regular file|is a folder")
        with refused, atomic_file(target, replace=True):
            pass
        assert os.path.samestat(target.stat(), before)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(tmp_path, number):
    """A full disk, or a full share of it, has its own error and exit code 23."""
    refused = pytest.raises(errors.DiskFull, match="copy` cannot be written: the disk is full")
    with refused, atomic_file(tmp_path / "copy", replace=False):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []
