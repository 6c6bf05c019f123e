"""Dev mode's warnings: each side effect of a query or mutation is reported once."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tinyvex.functions.run import purity_audit

NAMES = iter(range(1_000_000))


@pytest.fixture(autouse=True)
def watching(caplog: pytest.LogCaptureFixture) -> None:
    """Install the hook, which stays for the rest of the process and does nothing outside `running`."""
    purity_audit.install()
    caplog.set_level(logging.WARNING, "tinyvex.functions")


@pytest.fixture
def path() -> str:
    """Return the path of a function that was not warned about yet: each warning is given once."""
    return f"app:function_{next(NAMES)}"


def open_file() -> None:
    with Path(os.devnull).open():
        pass


def connect_socket() -> None:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        one.listen()
        other.connect(one.getsockname())


def look_up() -> None:
    socket.getaddrinfo("127.0.0.1", 80)


def start_process() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def open_database() -> None:
    sqlite3.connect(":memory:").close()


def list_folder() -> None:
    os.listdir("/")  # noqa: PTH208 - the very call that is watched


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (open_file, "opens a file"),
        (connect_socket, "connects a socket"),
        (look_up, "looks up a host name"),
        (start_process, "starts a process"),
        (open_database, "opens another database"),
        (list_folder, "lists a folder"),
    ],
)
def test_a_side_effect_is_reported(
    caplog: pytest.LogCaptureFixture, path: str, deed: Callable[[], None], words: str
) -> None:
    """With the function, and what to do instead."""
    with purity_audit.running(path):
        deed()
    assert any(text.startswith(f"{path} {words}: move this to an action") for text in caplog.messages)


def test_a_side_effect_is_reported_once(caplog: pytest.LogCaptureFixture, path: str) -> None:
    """Another side effect, or another function, is reported too."""
    for name in (path, path, f"{path}_again"):
        with purity_audit.running(name):
            open_file()
            look_up()
    assert [text.partition(":")[2].partition(":")[0].split(" ", 1) for text in caplog.messages] == [
        [path.removeprefix("app:"), "opens a file"],
        [path.removeprefix("app:"), "looks up a host name"],
        [f"{path}_again".removeprefix("app:"), "opens a file"],
        [f"{path}_again".removeprefix("app:"), "looks up a host name"],
    ]


def test_code_outside_a_function_is_not_reported(caplog: pytest.LogCaptureFixture, path: str) -> None:
    """Before it, after it, after it raised, and in other threads."""
    open_file()
    with pytest.raises(KeyError), purity_audit.running(path):
        raise KeyError
    open_file()
    with purity_audit.running(path):
        thread = threading.Thread(target=open_file)
        thread.start()
        thread.join()
    assert caplog.messages == []


def test_computing_is_not_reported(caplog: pytest.LogCaptureFixture, path: str) -> None:
    """It is the purpose of a function."""
    with purity_audit.running(path):
        assert min(str(number) for number in range(1_000)) == "0"
    assert caplog.messages == []


def test_an_import_is_not_reported(
    caplog: pytest.LogCaptureFixture, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first function that needs a module reads its file, as the database does for its own modules."""
    name = f"imported_by_{path.partition(':')[2]}"
    (tmp_path / f"{name}.py").write_text("VALUE = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with purity_audit.running(path):
        assert importlib.import_module(name).VALUE == 1
    assert caplog.messages == []


def test_a_log_handler_that_opens_files_is_not_reported(path: str) -> None:
    """Nor does the hook call itself endlessly."""
    texts: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            open_file()
            list_folder()
            texts.append(record.getMessage())

    handler = Handler()
    purity_audit.log.addHandler(handler)
    try:
        with purity_audit.running(path):
            open_file()
            look_up()
    finally:
        purity_audit.log.removeHandler(handler)
    assert [text.partition(":")[2].split(" ", 1)[1].split(":")[0] for text in texts] == [
        "opens a file",
        "looks up a host name",
    ]
