"""The sidecar contract, with real processes."""

import contextlib
import json
import select
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ENVIRONMENT, START_SECONDS, ServerProcess
from tinyvex import limits
from tinyvex.client.blocking import connect_blocking
from tinyvex.errors import RemoteError
from tinyvex.server.services import discovery
from tinyvex.storage.file.data_folder import lock_holder

APP = """
import asyncio
import threading
import tinyvex as tv

print("an app that prints")
blocks = threading.Event()

@tv.table("notes")
class Note(tv.Document):
    text: str

@tv.query
def notes(ctx: tv.QueryCtx) -> tv.Rows[Note]:
    return ctx.db.query(Note).collect()

@tv.mutation
def add(ctx: tv.MutationCtx, text: str) -> tv.Id[Note]:
    print("a function that prints")
    return ctx.db.insert(Note(text=text))

@tv.query
def is_blocking(ctx: tv.QueryCtx) -> bool:
    return blocks.wait(5)

@tv.action
async def block(ctx: tv.ActionCtx) -> None:
    blocks.set()
    await asyncio.to_thread(threading.Event().wait)
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def server(app: Path, data: Path) -> Iterator[ServerProcess]:
    with ServerProcess(app, data) as process:
        yield process


def serve(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Start a server that is expected to fail."""
    return subprocess.run(
        [sys.executable, "-m", "tinyvex", "serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        env=ENVIRONMENT,
        check=False,
    )


def assert_one_line(ended: subprocess.CompletedProcess[str], code: int, *parts: object) -> None:
    """Check the exit code, an empty stdout, and the error in the last line of stderr."""
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    complaint = [line for line in ended.stderr.splitlines() if line.startswith("tinyvex: ")]
    assert len(complaint) == 1
    assert [part for part in parts if str(part) not in ended.stderr] == []
    assert "Traceback" not in ended.stderr


# Its end.


def test_a_thread_of_an_action_does_not_keep_the_process(server: ServerProcess) -> None:
    """The process exits with 0 in time, although Python would wait for an action's thread indefinitely."""
    with connect_blocking(server.url, server.ready["token"]) as client:

        def call() -> None:
            with contextlib.suppress(tv.TinyvexError):
                client.action("app:block")

        threading.Thread(target=call).start()
        assert client.query("app:is_blocking") is True
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(limits.SHUTDOWN_SECONDS) == 0


# The ready line and the discovery file.


def test_the_ready_line_has_the_connection_data(server: ServerProcess) -> None:
    """The ready line has event, address, process, token and version."""
    assert set(server.ready) == {"event", "url", "port", "pid", "token", "version"}
    assert server.ready["event"] == "ready"
    assert server.ready["pid"] == server.process.pid
    assert server.ready["version"] == tv.__version__
    assert server.ready["url"].startswith(f"ws://127.0.0.1:{server.ready['port']}")


def test_nothing_else_appears_on_stdout(server: ServerProcess) -> None:
    """Output of the app, at import and in functions, goes to stderr."""
    with connect_blocking(server.url, server.ready["token"]) as client:
        client.mutation("app:add", {"text": "one"})
    assert server.process.stdout is not None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stdout.read() == b""
    assert server.terminate() == 0
    assert b"an app that prints\n" in server.errors
    assert b"a function that prints\n" in server.errors


def test_the_discovery_file_has_the_same_and_the_admin_token(server: ServerProcess, data: Path) -> None:
    """Other programs of the same user find the server through the data folder."""
    content = json.loads((data / "server.json").read_text())
    assert {name: content[name] for name in ("url", "port", "pid", "token", "version")} == {
        name: server.ready[name] for name in ("url", "port", "pid", "token", "version")
    }
    assert content["adminToken"] != content["token"]
    assert content["databaseId"]


def test_only_the_user_may_read_the_discovery_file(server: ServerProcess, data: Path) -> None:
    """The file's mode is 0600."""
    assert stat.S_IMODE((data / "server.json").stat().st_mode) == 0o600


# Stopping.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(server: ServerProcess, data: Path, number: signal.Signals) -> None:
    """The process ends, its discovery file is removed, and the folder is free."""
    server.process.send_signal(number)
    assert server.process.wait(START_SECONDS) == 0
    assert not (data / "server.json").exists()
    assert discovery.find_server(data) is None


def test_it_exits_with_its_parent(app: Path, data: Path) -> None:
    """When its parent is killed by SIGKILL, the server stops and cleans up."""
    parent = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'tinyvex', 'serve', *sys.argv[1:], '--exit-with-parent'])\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(app), "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    ) as family:
        assert family.stdout is not None
        ready = json.loads(family.stdout.readline())
        with connect_blocking(ready["url"], ready["token"]) as client:
            client.mutation("app:add", {"text": "kept"})
        family.kill()
        # The child holds the other end of this pipe: it ends when the child does.
        ended, _, _ = select.select([family.stdout], [], [], START_SECONDS)
        assert ended, "the server outlived its parent"
        assert family.stdout.read() == b""
    assert not (data / "server.json").exists()
    assert lock_holder(data) is None


def test_it_does_not_start_for_a_parent_that_has_ended(app: Path, data: Path) -> None:
    """The parent passes its process id and ends at once, long before Python has started."""
    parent = (
        "import os, subprocess, sys\n"
        "arguments = [*sys.argv[1:], '--parent-pid', str(os.getpid())]\n"
        "subprocess.Popen([sys.executable, '-m', 'tinyvex', 'serve', *arguments])\n"
        "os._exit(0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(app), "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as family:
        # The child holds the other ends of these pipes: they end when the child does.
        output, complaint = family.communicate(timeout=START_SECONDS)
    assert output == b""
    assert b"has ended" in complaint
    assert not data.exists()


def test_a_parent_that_ends_during_the_imports_is_noticed(app: Path, data: Path) -> None:
    """The parent is the process that it was at the first import, not the one that it is when the server is created."""
    child = (
        "import tinyvex\n"
        "print('imported', flush=True)\n"
        "input()\n"
        "from tinyvex.cli.main import main\n"
        "main()\n"
    )  # fmt: skip
    parent = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', *sys.argv[1:]]).wait()\n"
    with subprocess.Popen(
        [sys.executable, "-c", parent, child, "serve", str(app), "--data", str(data), "--exit-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    ) as family:
        assert family.stdin is not None
        assert family.stdout is not None
        assert family.stdout.readline() == b"imported\n"
        family.kill()
        family.wait(START_SECONDS)
        family.stdin.write(b"\n")
        family.stdin.flush()
        ended, _, _ = select.select([family.stdout], [], [], START_SECONDS)
        assert ended, "the server outlived its parent"
        assert family.stdout.read() == b""
    assert not data.exists()


def test_it_exits_when_its_ready_line_is_not_read(app: Path, data: Path) -> None:
    """A parent that died during the start leaves no server behind."""
    with subprocess.Popen(
        [sys.executable, "-m", "tinyvex", "serve", str(app), "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as orphan:
        assert orphan.stdout is not None
        orphan.stdout.close()
        assert orphan.wait(START_SECONDS) == 0
        assert orphan.stderr is not None
        assert b"Traceback" not in orphan.stderr.read()
    assert lock_holder(data) is None


def test_a_start_after_a_killed_server(server: ServerProcess, app: Path, data: Path) -> None:
    """The discovery file of a killed server is ignored, and the next start replaces it."""
    server.kill()
    assert (data / "server.json").exists()
    assert discovery.find_server(data) is None
    with ServerProcess(app, data) as second:
        discovered = discovery.find_server(data)
        assert discovered is not None
        assert discovered.pid == second.process.pid


# Access.


def test_a_client_without_the_token_is_refused(server: ServerProcess) -> None:
    """Only clients with the token of the ready line or the discovery file are admitted."""
    with pytest.raises(RemoteError, match="token") as refused, connect_blocking(server.url) as client:
        client.query("app:notes")
    assert refused.value.name == "Unauthenticated"


def test_without_tokens_every_client_is_admitted(app: Path, data: Path) -> None:
    """With `--no-token` the ready line has no token, and none is required."""
    with ServerProcess(app, data, "--no-token") as server, connect_blocking(server.url) as client:
        assert server.ready["token"] is None
        assert client.query("app:notes") == []


# Starts that fail: a code and one line.


def test_a_second_start_names_the_owner_of_the_folder(server: ServerProcess, app: Path, data: Path) -> None:
    """Exit code 21, with the owner's process id; the first server is not disturbed."""
    assert_one_line(serve(app, "--data", data), 21, server.process.pid, "DataFolderLocked")
    with connect_blocking(server.url, server.ready["token"]) as client:
        assert client.query("app:notes") == []


def test_a_taken_port(app: Path, data: Path) -> None:
    """Exit code 11, with the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_one_line(serve(app, "--data", data, "--port", port), 11, port, "PortTaken")


def test_a_missing_app(tmp_path: Path, data: Path) -> None:
    """Exit code 12, with the path; no data folder is created."""
    assert_one_line(serve(tmp_path / "nothing.py", "--data", data), 12, "nothing.py", "AppNotFound")
    assert not data.exists()


def test_an_app_that_does_not_import(app: Path, data: Path) -> None:
    """Exit code 13, with file and line."""
    app.write_text("x = 1\nraise RuntimeError('no good')\n")
    assert_one_line(serve(app, "--data", data), 13, "app.py:2", "no good", "AppInvalid")


def test_a_schema_that_documents_do_not_fit(server: ServerProcess, app: Path, data: Path) -> None:
    """Exit code 14, with the document and the field."""
    with connect_blocking(server.url, server.ready["token"]) as client:
        note = client.mutation("app:add", {"text": "one"})
    assert server.terminate() == 0
    app.write_text(APP.replace("text: str\n\n@tv.query", "text: int\n\n@tv.query"))
    assert_one_line(serve(app, "--data", data), 14, "notes: $.text", f"(document {note})", "SchemaRejected")


def test_a_data_folder_that_cannot_be_one(app: Path, tmp_path: Path) -> None:
    """Exit code 22."""
    (tmp_path / "file").touch()
    assert_one_line(serve(app, "--data", tmp_path / "file"), 22, "DataFolderUnusable")


def test_a_damaged_file(app: Path, data: Path) -> None:
    """Exit code 24; the file is not modified."""
    data.mkdir()
    (data / "data.sqlite3").write_bytes(b"no database" * 1000)
    assert_one_line(serve(app, "--data", data), 24, "FileDamaged")
    assert (data / "data.sqlite3").read_bytes() == b"no database" * 1000


def test_a_file_of_a_newer_version(server: ServerProcess, app: Path, data: Path) -> None:
    """Exit code 25."""
    assert server.terminate() == 0
    connection = sqlite3.connect(data / "data.sqlite3")
    connection.execute("PRAGMA user_version = 1000000")
    connection.close()
    assert_one_line(serve(app, "--data", data), 25, "FileTooNew")


def test_an_address_of_the_network(app: Path, data: Path) -> None:
    """Exit code 10: without TLS the server listens on loopback only."""
    assert_one_line(serve(app, "--data", data, "--host", "0.0.0.0"), 10, "loopback")


def test_a_wrong_option(app: Path) -> None:
    """Exit code 2."""
    assert_one_line(serve(app, "--porcelain"), 2, "--porcelain")


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors as a shell does")
@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(app: Path, tmp_path: Path, closed: str) -> None:
    """A parent without a console may close them; the server serves, and no file of its own becomes stderr."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "tinyvex", "serve", str(app), "--data", str(data)]
    process = subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *command], env=ENVIRONMENT)
    try:
        while (found := discovery.find_server(data)) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"the server ended with {process.wait(0.1)}")
        with connect_blocking(found.url, token=found.token) as client:
            assert client.mutation("app:add", {"text": "served"})
        if sys.platform == "linux":
            assert Path(f"/proc/{process.pid}/fd/2").resolve() == Path("/dev/null")
        process.terminate()
        assert process.wait(START_SECONDS) == 0
    finally:
        process.kill()
        process.wait(START_SECONDS)
