"""Another user of this machine, who can be anything but the one that runs the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["OtherUser", "other_user"]

if sys.platform != "win32":
    import pwd

FIRST_ID, LAST_ID = 54_321, 60_000


class OtherUser:
    """
    A user without rights, and a folder that everyone may use as `/tmp`.

    Attributes:
        id: the user's id, which belongs to no account.
        shared: the folder.
    """

    def __init__(self, user_id: int, shared: Path) -> None:
        self.id = user_id
        self.shared = shared

    def run(self, script: str) -> None:
        """Run a shell script as this user, in the shared folder. Python may be installed where this user cannot read it."""
        subprocess.run(
            ["/bin/sh", "-ec", script],
            cwd=self.shared,
            user=self.id,
            group=self.id,
            extra_groups=[],
            umask=0o022,
            check=True,
        )


@contextmanager
def other_user() -> Iterator[OtherUser]:
    """Yield a user that exists for the time of a test; skips the test if the suite may not act as another user."""
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    accounts = {account.pw_uid for account in pwd.getpwall()}
    user_id = next(number for number in range(FIRST_ID, LAST_ID) if number not in accounts)
    shared = Path(tempfile.mkdtemp(prefix="tinyvex-shared-"))  # the folders of pytest are closed to others
    shared.chmod(0o1777)
    try:
        yield OtherUser(user_id, shared)
    finally:
        shutil.rmtree(shared)
