"""The README's programs run verbatim."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT, START_SECONDS, ServerProcess
from tests.support.readme import write_programs
from tests.support.required import required_program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_programs(tmp_path)
    return tmp_path


def run(*command: str, folder: Path, environment: dict[str, str] = ENVIRONMENT) -> str:
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_sidecar_in_python(folder: Path) -> None:
    """The program starts the database, writes, reads and stops it."""
    assert run(sys.executable, "sidecar.py", folder=folder) == "Ada: Hello\n"


def test_the_sidecar_in_node(folder: Path) -> None:
    """The Node program does the same over the raw protocol; the subscription shows the message."""
    node = required_program("node")
    command = folder / "bin" / "tinyvex"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tinyvex "$@"\n')
    command.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"}
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    options = ["--experimental-websocket"] if int(version[1:].split(".")[0]) < 22 else []
    shown = run(node, *options, "sidecar.mjs", folder=folder, environment=environment)
    assert shown == "Ada: Hello\n"


def test_the_test(folder: Path) -> None:
    """The unit test passes."""
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", folder=folder)


def test_the_client(folder: Path) -> None:
    """The watching client shows the message that it sent."""
    with ServerProcess(folder / "chat.py", folder / "data", "--no-token") as server:
        program = (folder / "watch.py").read_text().replace("ws://127.0.0.1:4800", server.url)
        with subprocess.Popen(
            [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        ) as watching:
            assert watching.stdout is not None
            shown = [watching.stdout.readline() for _ in range(2)]
            watching.kill()
    assert shown == ["Ada: Hello\n", "---\n"]
