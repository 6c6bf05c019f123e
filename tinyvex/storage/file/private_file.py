"""Files with secrets: complete or absent, and readable only by their owner."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_private_file"]


def write_private_file(path: Path, content: bytes) -> None:
    """
    Create or replace a file in one step, so that no reader sees a part of it.

    Several processes may write the same file; the last one wins. The file is not synced: it survives a killed process,
    and after a power failure the old content may be back.

    Raises:
        OSError: the file cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    unfinished.unlink(missing_ok=True)  # left over from a killed process with the same id
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
