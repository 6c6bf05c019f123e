"""Settings of all tests: the repository root is importable, and property tests have one profile."""

import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# The run time of an example depends on the machine, so there is no deadline. A failure prints how to reproduce it.
settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")

# A background job of a shell ignores SIGINT, and so would the servers and commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _log_handlers() -> Iterator[None]:
    """Remove the handler of a command that ran in the test's process: its stream is closed after the test."""
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
