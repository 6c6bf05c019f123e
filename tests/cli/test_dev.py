"""`tinyvex dev`: reload on save."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT, START_SECONDS
from tinyvex.cli.app_location import AppLocation
from tinyvex.cli.dev import greeting
from tinyvex.client.blocking import BlockingClient, connect_blocking
from tinyvex.errors import RemoteError

PATIENCE_SECONDS = 60.0

APP = """
import tinyvex as tv

@tv.query
def word(ctx: tv.QueryCtx) -> str:
    return "one"

@tv.mutation
def fail(ctx: tv.MutationCtx) -> int:
    ctx.log("about to fail")
    raise ValueError("no")
"""


class Dev:
    """`tinyvex dev` in a process of its own, with standard error on standard output."""

    def __init__(self, app: Path) -> None:
        self.app = app
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tinyvex", "dev", str(app), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )

    def line_with(self, part: str) -> str:
        """Read up to a line that contains `part`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if part in line:
                return line
        raise AssertionError(f"the output ended without {part!r}")

    def save(self, text: str) -> None:
        """Move a new file over the old one, as most editors do."""
        new = self.app.with_suffix(".new")
        new.write_text(text)
        new.replace(self.app)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    app = tmp_path / "app.py"
    app.write_text(APP)
    running = Dev(app)
    with running.process, deadline(running.process.kill):
        try:
            yield running
        finally:
            running.process.kill()


@contextmanager
def deadline(end: Callable[[], object]) -> Iterator[None]:
    """Call `end` after PATIENCE_SECONDS, so that a test that still waits fails."""
    timer = threading.Timer(PATIENCE_SECONDS, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.fixture
def client(dev: Dev) -> Iterator[BlockingClient]:
    with (
        connect_blocking(dev.line_with("  url ").split()[-1]) as connected,
        deadline(lambda: connected._portal.call(connected._client.close)),
    ):
        yield connected


def test_a_save_runs_live_queries_again(dev: Dev, client: BlockingClient) -> None:
    """The open subscription shows the result of the new code; no token was needed."""
    with client.subscribe("app:word") as words:
        assert next(words) == "one"
        dev.save(APP.replace("one", "two"))
        assert next(words) == "two"


def test_a_broken_save_keeps_the_last_good_version(dev: Dev, client: BlockingClient) -> None:
    """The error is shown with file and line, the old code keeps serving, and the next good save is loaded."""
    dev.save(APP.replace("return", "retrun"))
    assert "app.py:6" in dev.line_with("app.py:")
    dev.line_with("last good version")
    assert client.query("app:word") == "one"
    with client.subscribe("app:word") as words:
        assert next(words) == "one"
        dev.save(APP.replace("one", "three"))
        assert next(words) == "three"


def test_the_terminal_shows_what_functions_log(dev: Dev, client: BlockingClient) -> None:
    """The lines of a failed function appear before its traceback."""
    with pytest.raises(RemoteError):
        client.mutation("app:fail")
    dev.line_with("app:fail: [INFO] about to fail")
    dev.line_with("ValueError: no")


def test_it_ends_on_control_c(dev: Dev, client: BlockingClient) -> None:
    """SIGINT stops it cleanly: exit code 0."""
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(START_SECONDS) == 0


def test_the_greeting_says_what_to_do_next(tmp_path: Path) -> None:
    """App, data and URL are shown, and the client next to the app as the first thing to try."""
    (tmp_path / "client.py").touch()
    app = tmp_path / "app.py"
    shown = greeting(AppLocation(app, tmp_path / ".tinyvex"), "ws://127.0.0.1:4800", tmp_path)
    assert "client.py" in shown
    assert "ws://127.0.0.1:4800" in shown
    assert "app.py" in shown
