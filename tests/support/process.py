"""A real server process: started, read, killed."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest

START_SECONDS = 30.0

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


class ServerProcess:
    """A process of `tinyvex serve`; entering waits for its ready line."""

    def __init__(self, app: Path, data: Path, *options: str) -> None:
        self.command = [sys.executable, "-m", "tinyvex", "serve", str(app), "--data", str(data), *options]
        self.ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it can serve."""
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=ENVIRONMENT
        )
        self.errors: list[bytes] = []
        assert self.process.stderr is not None
        self._drain = threading.Thread(target=self.errors.extend, args=(self.process.stderr,), daemon=True)
        self._drain.start()
        self.ready = json.loads(self._line())

    def _line(self) -> str:
        lines: queue.Queue[bytes] = queue.Queue(1)
        assert self.process.stdout is not None
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
        line = lines.get(timeout=START_SECONDS)
        if not line:
            self.process.wait(START_SECONDS)
            self._drain.join(START_SECONDS)
            raise AssertionError(f"the server ended with {self.process.returncode}: {b''.join(self.errors).decode()}")
        return line.decode()

    @property
    def url(self) -> str:
        """Return its URL."""
        return str(self.ready["url"])

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end of the process."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(START_SECONDS)
        self._drain.join(START_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


def free_port() -> int:
    """Return a port that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_process_1(command: Sequence[str]) -> list[str]:
    """Return a command that runs another as process 1 of a new namespace, as a container does; skip the test if it cannot."""
    in_namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*in_namespace, "true"], check=True, capture_output=True, timeout=START_SECONDS)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system does not permit namespaces")
    return [*in_namespace, *command]
