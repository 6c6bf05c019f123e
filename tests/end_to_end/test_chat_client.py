"""The example's terminal client: two users on a real server."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT, ServerProcess

CHAT = Path(__file__).resolve().parents[2] / "examples" / "chat"
SECONDS = 30.0


class Person:
    """A user at a terminal."""

    def __init__(self, name: str, *options: str) -> None:
        command = [sys.executable, str(CHAT / "client.py"), "--name", name, *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip())

    def says(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def sees(self, line: str) -> None:
        """Wait for a line."""
        seen = []
        while (found := self.lines.get(timeout=SECONDS)) != line:
            seen.append(found)

    def leave(self) -> int:
        """Wait until the program has ended; return its exit code."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        return code


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(CHAT / "app.py", tmp_path / "data") as running:
        yield running


def test_two_people_talk(server: ServerProcess, tmp_path: Path) -> None:
    """Each user sees the other's messages; one discovered the server through its data folder, the other has its URL."""
    ada = Person("Ada", "--data", str(tmp_path / "data"))
    eve = Person("Eve", "--url", server.url, "--token", server.ready["token"])
    for person in (ada, eve):
        person.sees("# general")
    ada.says("Hello")
    eve.sees("Ada: Hello")
    eve.says("Hi")
    ada.sees("Eve: Hi")
    ada.says("/channels")
    ada.sees("  #general")
    eve.says("/quit")
    assert eve.leave() == 0
    ada.process.send_signal(signal.SIGINT)
    assert ada.leave() == 0


def test_the_end_of_input_leaves(server: ServerProcess, tmp_path: Path) -> None:
    """The end of input ends the program, so it works at the end of a pipe."""
    command = [sys.executable, str(CHAT / "client.py"), "--data", str(tmp_path / "data"), "--name", "Ada"]
    ended = subprocess.run(
        command, input="one\ntwo", capture_output=True, text=True, env=ENVIRONMENT, timeout=SECONDS, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0] == "# general"
    command[-1] = "Eve"
    eve = Person("Eve", "--data", str(tmp_path / "data"))
    eve.sees("Ada: two")
    eve.says("/quit")
    assert eve.leave() == 0


def test_the_wrong_token(server: ServerProcess) -> None:
    """The program reports the wrong token and ends, with its input still open."""
    ada = Person("Ada", "--url", server.url, "--token", "wrong")
    assert ada.process.wait(SECONDS) == 1
    assert ada.lines.get(timeout=SECONDS).startswith("! ")
    assert ada.leave() == 1


def test_without_a_server(tmp_path: Path) -> None:
    """Without a server, one line says what to do."""
    command = [sys.executable, str(CHAT / "client.py"), "--data", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("no running server found")
