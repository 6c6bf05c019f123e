"""
Decide which file a command may write, by what the path *is* rather than by its text.

=====================================================  ===============================================
the path leads, through links, to                      a command
=====================================================  ===============================================
nothing yet                                            creates it
a regular file                                         replaces it if `--replace` is given
a folder, a pipe, a device, a file without a name      refuses it
one of the files of a data folder, existing or not     refuses it, whatever the options: a server that
                                                       runs would lose its log, its lock or its address
=====================================================  ===============================================
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyvex.errors import DataFolderUnusable
from tinyvex.storage.file.atomic_file import atomic_file, follow_links
from tinyvex.storage.file.data_folder import DataFolder

__all__ = ["output_file"]


@contextmanager
def output_file(target: Path, source: DataFolder, *, replace: bool) -> Iterator[Path]:
    """
    Create the file that a user has named; it appears only when it is complete and synced.

    Yields the path to write to. If the block raises, the target is unchanged.

    Args:
        target: the file to create.
        source: the data folder from which the content comes.
        replace: replace an existing file.

    Raises:
        DataFolderUnusable: the target may not be replaced, or cannot be written.
        DiskFull: the disk has no room for the file.
    """
    real = follow_links(target)
    for folder in (source, DataFolder(real.parent)):
        if _belongs_to(real, folder):
            raise DataFolderUnusable(f"`{target}` belongs to the database in `{folder.path}`; choose another file")
    with atomic_file(target, replace=replace) as unfinished:
        yield unfinished


def _belongs_to(real: Path, folder: DataFolder) -> bool:
    """Return whether a path is, or would be, a file of a data folder: by its name, or by a second name of the same file."""
    if not folder.exists():
        return False
    own_files = folder.own_files()
    in_folder = real.parent.exists() and real.parent.samefile(folder.path)
    if in_folder and real.name.casefold() in {own.name.casefold() for own in own_files}:
        return True
    return real.exists() and any(own.exists() and real.samefile(own) for own in own_files)
