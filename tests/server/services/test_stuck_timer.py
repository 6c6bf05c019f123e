"""The timer that ends a stuck process, in processes that other programs prepared in unusual ways."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT, START_SECONDS, as_process_1

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the timer of POSIX systems")

STUCK = """
import os, signal, sys
from tinyvex.server.services.stuck_timer import stuck_timer

class Trace:
    descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_APPEND)
    def clear_trace(self):
        os.ftruncate(self.descriptor, 0)

exec(sys.argv[2])
stuck_timer(Trace()).arm(1.0)
sum(range(10**13))
"""
"""A C call that holds the interpreter, after the preparation that the command line has."""


def run_stuck(trace: Path, preparation: str) -> list[str]:
    """Return the command of a process that is stuck."""
    return [sys.executable, "-c", STUCK, str(trace), preparation]


@pytest.mark.parametrize(
    "preparation",
    [
        "",
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})",
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
        "sys.stderr = None",
        "import io; sys.stderr = io.StringIO()",
    ],
    ids=["unprepared", "signal blocked", "signal ignored", "no stderr", "stderr replaced"],
)
def test_a_stuck_process_ends(tmp_path: Path, preparation: str) -> None:
    """Whatever the process inherited; the trace has the stack."""
    ended = subprocess.run(
        run_stuck(tmp_path / "trace", preparation), env=ENVIRONMENT, timeout=START_SECONDS, check=False
    )
    assert ended.returncode == -signal.SIGALRM
    assert '"<string>", line 12 in <module>' in (tmp_path / "trace").read_text()


def test_a_stuck_process_1_ends(tmp_path: Path) -> None:
    """The default action of a signal does not end it."""
    command = as_process_1(run_stuck(tmp_path / "trace", "assert os.getpid() == 1"))
    ended = subprocess.run(command, env=ENVIRONMENT, timeout=START_SECONDS, check=False)
    assert ended.returncode == 1
    assert '"<string>", line 12 in <module>' in (tmp_path / "trace").read_text()
