"""
A copy of the working tree in which mutants are tested, with every process that their tests start.

A mutant may loop, fill the memory or leave processes behind. Each run of pytest therefore has a time limit and a limit
of memory, and all processes that inherited its environment are killed after it.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[2]

MEMORY_BYTES_MAX = 4 * 1024**3
"""Enough for every test of the floors; a mutant whose loop appends to a list ends early."""

NOT_COPIED = (".git", ".venv", ".tinyvex", "build", "dist", "node_modules", "__pycache__", ".*_cache", ".hypothesis")

MARK = "TINYVEX_SANDBOX"
"""The environment variable by which the processes of a run are found."""


class Run(NamedTuple):
    """The exit status of pytest, None after the time limit, and its output."""

    status: int | None
    output: str


class Sandbox:
    """A folder with a copy of the working tree, or of another sandbox's; removed at the end."""

    def __init__(self, source: Path = ROOT) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tinyvex-mutants-"))
        self.tree = self.folder / "tree"
        shutil.copytree(source, self.tree, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
        (self.folder / "tmp").mkdir()
        self.mark = secrets.token_hex(8)
        self.newest_mtime = 1_000_000_000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, path: str, text: str) -> None:
        """
        Replace a source file.

        Python compares the time of a file, in seconds, with the one in its bytecode: each version has its own.
        """
        self.newest_mtime += 1
        file = self.tree / path
        file.write_text(text, encoding="utf-8")
        os.utime(file, (self.newest_mtime, self.newest_mtime))

    def pytest(self, *arguments: str, tests: list[str], seconds: float, **environment: str) -> Run:
        """Run tests and end every process that they started."""
        names = self.folder / "tests.txt"
        names.write_text("\n".join(tests), encoding="utf-8")
        output = self.folder / "output.txt"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, f"@{names}"]
        paths = [str(self.tree), *filter(None, [os.environ.get("PYTHONPATH")])]
        with output.open("w") as stream:
            process = subprocess.Popen(
                command,
                cwd=self.tree,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(self.folder / "tmp"), MARK: self.mark}
                | environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=limit_memory,  # noqa: PLW1509 - one system call, which takes no lock
            )
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                self.kill_processes()
                process.wait()
        for left in (self.folder / "tmp").iterdir():
            shutil.rmtree(left, ignore_errors=True)
        return Run(status, output.read_text(errors="replace"))

    def kill_processes(self) -> None:
        """Kill the processes of this sandbox, until none is left: one may start another meanwhile."""
        mark = f"{MARK}={self.mark}".encode()
        is_left = True
        while is_left:
            is_left = False
            for environment in Path("/proc").glob("[0-9]*/environ"):
                with suppress(OSError):
                    if mark in environment.read_bytes().split(b"\0"):
                        os.kill(int(environment.parent.name), signal.SIGKILL)
                        is_left = True


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def spread(items: Iterable[Item], jobs: int, source: Path, work: Callable[[Sandbox, Item], Result]) -> list[Result]:
    """Work on items in `jobs` copies of a tree at a time; an interrupt ends their processes and removes them."""
    waiting: SimpleQueue[Item] = SimpleQueue()
    for item in items:
        waiting.put(item)
    sandboxes: list[Sandbox] = []
    is_interrupted = False

    def work_in_sandbox() -> list[Result]:
        results = []
        with Sandbox(source) as sandbox:
            sandboxes.append(sandbox)
            while not is_interrupted:
                try:
                    item = waiting.get_nowait()
                except Empty:
                    break
                results.append(work(sandbox, item))
        return results

    with ThreadPoolExecutor(jobs) as workers:
        futures = [workers.submit(work_in_sandbox) for _ in range(jobs)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            is_interrupted = True
            while wait(futures, timeout=0.2).not_done:
                for sandbox in sandboxes:
                    sandbox.kill_processes()
    return [result for future in futures for result in future.result()]
