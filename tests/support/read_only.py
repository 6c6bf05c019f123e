"""A folder that cannot be written: by a read-only mount for root, by its permissions for other users."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["read_only"]


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """
    Yield a path at which a folder cannot be written. For root, the folder itself stays writable, as through another mount.

    Skips the test on Windows, and if root may not mount, as in some containers.
    """
    if os.name == "nt":
        pytest.skip("Windows has no such permissions")
    if os.geteuid() != 0:
        folder.chmod(0o500)
        try:
            yield folder
        finally:
            folder.chmod(0o700)
        return
    mounted = folder.with_name(f"{folder.name}-read-only")
    mounted.mkdir()
    if subprocess.run(["mount", "--bind", folder, mounted], capture_output=True, check=False).returncode != 0:
        pytest.skip("root may not mount here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mounted], check=True, capture_output=True)
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)
