"""`tinyvex serve` loads the app again on SIGHUP."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ENVIRONMENT, START_SECONDS
from tinyvex.client.blocking import BlockingClient, connect_blocking

needs_sighup = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP on Windows")

APP = """
import tinyvex as tv

@tv.query
def word(ctx: tv.QueryCtx) -> str:
    return "one"
"""


class Serve:
    """`tinyvex serve` in a process of its own, with a log that is read line by line."""

    def __init__(self, app: Path) -> None:
        self.app = app
        command = ["serve", str(app), "--data", str(app.parent / "data"), "--no-token", "--log-format", "json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tinyvex", *command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=ENVIRONMENT,
        )  # fmt: skip
        self._records: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._records.put(json.loads(line))

    def hang_up(self, text: str | None = None) -> dict[str, Any]:
        """Save the app, send SIGHUP, and return the next log record."""
        if text is not None:
            self.app.write_text(text)
        self.process.send_signal(signal.SIGHUP)
        return self._records.get(timeout=START_SECONDS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serve]:
    app = tmp_path / "app.py"
    app.write_text(APP)
    running = Serve(app)
    with running.process:
        try:
            yield running
        finally:
            running.process.kill()
            running._reader.join(START_SECONDS)


@pytest.fixture
def client(server: Serve) -> Iterator[BlockingClient]:
    with connect_blocking(server.url) as connected:
        yield connected


@needs_sighup
def test_a_hangup_loads_the_app_again(server: Serve, client: BlockingClient) -> None:
    """The open subscription shows the result of the new code, on the same connection."""
    with client.subscribe("app:word") as words:
        assert next(words) == "one"
        assert server.hang_up(APP.replace("one", "two"))["message"] == "reloaded app.py"
        assert next(words) == "two"


@needs_sighup
def test_a_broken_app_keeps_the_last_good_version(server: Serve, client: BlockingClient) -> None:
    """The log names file and line, the old code keeps serving, and the next good version is loaded."""
    record = server.hang_up(APP.replace("return", "retrun"))
    assert (record["level"], record["error"]) == ("error", "AppInvalid")
    assert "app.py:6" in record["message"]
    assert client.query("app:word") == "one"
    assert server.hang_up(APP.replace("one", "three"))["level"] == "info"
    assert client.query("app:word") == "three"


@needs_sighup
def test_an_app_that_is_gone_keeps_the_last_good_version(server: Serve, client: BlockingClient) -> None:
    """A file that is being replaced may be missing for a while."""
    server.app.unlink()
    assert server.hang_up()["error"] == "AppNotFound"
    assert client.query("app:word") == "one"


@needs_sighup
def test_it_can_be_stopped_after_a_hangup(server: Serve) -> None:
    """A hangup does not count as a stop signal: SIGTERM afterwards drains and exits 0."""
    server.hang_up()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(START_SECONDS) == 0


HUNG_UP = """
import os, signal, sys
from tinyvex.cli import serve
from tinyvex.cli.main import main

find_app = serve.find_app

def hang_up(*arguments):
    os.kill(os.getpid(), signal.SIGHUP)
    return find_app(*arguments)

serve.find_app = hang_up
main(sys.argv[1:])
"""


@needs_sighup
def test_a_hangup_before_the_app_is_loaded_does_not_end_the_process(tmp_path: Path) -> None:
    """A service manager may reload a service that has only just started."""
    app = tmp_path / "app.py"
    app.write_text(APP)
    command = [sys.executable, "-c", HUNG_UP, "serve", str(app), "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
        assert json.loads(line)["event"] == "ready"
        assert process.wait(START_SECONDS) == 0
