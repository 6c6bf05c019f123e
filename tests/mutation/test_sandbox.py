"""The sandbox of mutants: real runs of pytest, of which no process and no file is left."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from tests.mutation.sandbox import Sandbox, spread


@pytest.fixture
def sandbox(tmp_path):
    """A sandbox of a tree with one module."""
    (tmp_path / "module.py").write_text("VALUE = 1\n")
    with Sandbox(tmp_path) as made:
        yield made
    assert not made.folder.exists()


def run(sandbox, body, seconds=60.0):
    sandbox.write("test_it.py", f"def test_it():\n{body}")
    return sandbox.pytest(tests=["test_it.py"], seconds=seconds)


def test_a_mutant_of_equal_length_is_read_instead_of_its_bytecode(sandbox):
    """Versions of one file that are written within a second have the same size, and different results."""
    sandbox.write("module.py", "VALUE = 1\n")
    assert run(sandbox, "    import module\n    assert module.VALUE == 1\n").status == 0
    sandbox.write("module.py", "VALUE = 2\n")
    assert sandbox.pytest(tests=["test_it.py"], seconds=60).status == 1


def test_a_loop_ends_at_the_time_limit(sandbox):
    """A mutant that never ends is killed, and has no status."""
    assert run(sandbox, "    while True:\n        pass\n", seconds=5).status is None


def test_a_process_in_a_session_of_its_own_is_killed(sandbox):
    """A server that a test leaves behind would hold a port and memory until the machine restarts."""
    left = sandbox.folder / "pid"
    body = (
        "    import subprocess, sys, pathlib\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, start_new_session=True)\n"
        f"    pathlib.Path({str(left)!r}).write_text(str(child.pid))\n"
        "    import os; os._exit(0)\n"
    )
    run(sandbox, body)
    process = Path("/proc", left.read_text(), "stat")
    assert not process.exists() or process.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_working_tree_is_not_written(sandbox, tmp_path):
    """A mutant is applied to the copy."""
    sandbox.write("module.py", "VALUE = 2\n")
    assert (tmp_path / "module.py").read_text() == "VALUE = 1\n"


def test_an_interrupt_ends_the_work_and_removes_the_copies(tmp_path):
    """The sandboxes of other jobs end their run at once, and begin no other."""
    folders = []
    started = Event()

    def work(sandbox, item):
        folders.append(sandbox.folder)
        if item == 0:
            started.wait()
            raise KeyboardInterrupt
        sandbox.write("test_it.py", "def test_it():\n    while True:\n        pass\n")
        started.set()
        sandbox.pytest(tests=["test_it.py"], seconds=600)

    with pytest.raises(KeyboardInterrupt):
        spread(range(9), 2, tmp_path, work)
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)
