"""The server under load: `tinyvex serve` in its own process, with a temporary data folder."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

import tinyvex

__all__ = ["ServerProcess", "cpu_seconds", "memory_bytes"]

APP = Path(__file__).with_name("chat.py")
SOURCE = Path(tinyvex.__file__).resolve().parents[1]
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0


class ServerProcess:
    """
    A server process; entering starts it and waits for its ready line, leaving stops it.

    Attributes:
        ready_seconds: time from the start of the process to its ready line.
    """

    def __init__(self, data: Path | None = None, *options: str, app: Path = APP) -> None:
        self._options = options
        self._app = app
        self._folder = None if data else tempfile.TemporaryDirectory(prefix="tinyvex-bench-")
        self.data = data or Path(self._folder.name if self._folder else "")
        self.ready_seconds = 0.0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tinyvex", "serve", str(self._app), "--data", str(self.data), "--no-token"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has byte code
        started = time.perf_counter()
        # The server's log goes to this process's stderr: a warning there may explain an unusual figure.
        self.process = subprocess.Popen(
            [*command, "--log-level", "warning", *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=SOURCE,
        )
        try:
            ready = self._ready_line()
        except BaseException:
            self._stop(signal.SIGKILL)
            raise
        self.ready_seconds = time.perf_counter() - started
        self.port: int = ready["port"]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop(signal.SIGTERM)

    def _ready_line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        lines: queue.Queue[bytes] = queue.Queue(1)
        output = self.process.stdout
        threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
        line = lines.get(timeout=START_SECONDS_MAX)
        assert line, f"the server exited with code {self.process.wait(STOP_SECONDS_MAX)}; its stderr is above"
        ready: dict[str, Any] = json.loads(line)
        return ready

    def _stop(self, number: signal.Signals) -> None:
        try:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS_MAX)
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
            if self._folder is not None:
                self._folder.cleanup()

    def cpu_seconds(self) -> float:
        """Return the processor time used so far by all threads; 0 if the system does not report it."""
        return cpu_seconds(self.process.pid)

    def memory_bytes(self) -> int:
        """Return the resident memory; 0 if the system does not report it."""
        return memory_bytes(self.process.pid)


def cpu_seconds(pid: int) -> float:
    """
    Return the processor time used by all threads of a process.

    Returns 0 if the system does not report it; only Linux does.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """Return a process's resident memory; 0 if the system does not report it (only Linux does)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
