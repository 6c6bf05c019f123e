"""Programs that not every machine has: without one a test is skipped, or fails under `make test-all`."""

from __future__ import annotations

import os
import shutil

import pytest


def required_program(name: str) -> str:
    """Return its path; if it is missing, skip the test, or fail it under `make test-all`."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("TINYVEX_TEST_ALL"):
        pytest.fail(f"{name} is not installed, and make test-all needs it")
    pytest.skip(f"{name} is not installed; make test-all requires it")
