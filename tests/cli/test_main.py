"""The frame of all commands: help, one line per error, exit codes, small imports."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tinyvex import errors
from tinyvex.cli import main as cli
from tinyvex.wire.error_objects import from_object, to_object


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a command that raises."""

    def run(error: BaseException) -> int:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(cli.group, "get_command", lambda _context, _name: command)
        return cli.run(["anything"])

    return run


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`tinyvex --help` has a line for each command."""
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"\n  {name} " not in shown] == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    """Every option of every command has a help text."""
    command = cli.group.get_command(click.Context(cli.group), name)
    assert command is not None
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert command.short_help


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr and with exit code 2, because nothing was done; without the frame of an error message."""
    assert cli.run([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: tinyvex ")
    assert "(see: " not in shown.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`tinyvex --version` prints the version of the package."""
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tinyvex 0.")


@pytest.mark.parametrize(
    ("name", "message"), [("serv", "`serv` is not a command; did you mean `serve`?"), ("xyz", "`xyz` is not a command")]
)
def test_an_unknown_command_is_a_usage_error(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and one line with the most similar command and a reference to the help."""
    assert cli.run([name]) == 2
    assert capsys.readouterr().err == f"tinyvex: {message} (see: tinyvex --help)\n"


def test_an_error_is_one_line(fail: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]) -> None:
    """A Tinyvex error is printed as its message and its name, without a traceback."""
    fail(errors.DiskFull("the disk is full"))
    assert capsys.readouterr().err == "tinyvex: the disk is full (DiskFull)\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.FunctionFailed("x"), 3),
        (errors.DataFolderLocked("x"), 21),
        (errors.AppNotFound("x"), 12),
        (errors.ConnectionLost("x"), 4),
        (ZeroDivisionError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(fail: Callable[[BaseException], int], error: BaseException, code: int) -> None:
    """Each error ends the process with its documented code."""
    assert fail(error) == code


@pytest.mark.parametrize("error", [errors.FunctionFailed("x"), errors.DataFolderLocked("x")])
def test_a_remote_error_has_the_code_of_its_class(
    error: errors.TinyvexError, fail: Callable[[BaseException], int]
) -> None:
    """The code is the same whether a function fails in this process or in a server."""
    assert fail(from_object(to_object(error))) == error.exit_code


def test_a_closed_pipe_is_not_an_error() -> None:
    """`tinyvex ... | head -1` ends quietly."""
    program = (
        "import sys; from tinyvex.cli import main, new\n"
        "new.command.callback = lambda **_: [print('x' * 100) for _ in range(10_000)]\n"
        "sys.exit(main.run(['new', 'somewhere']))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_commands_are_imported_when_called() -> None:
    """Importing the frame imports neither a command, nor the server or the client."""
    program = "import sys, tinyvex.cli.main; print(*(name for name in sys.modules if name.startswith('tinyvex.')))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in shown if name.startswith(("tinyvex.server", "tinyvex.client", "tinyvex.cli."))] == [
        "tinyvex.cli.main"
    ]


LATER = [
    *(
        "tinyvex.functions.system.import_functions",
        "tinyvex.storage.schema.table_replacement",
        "tinyvex.storage.maintenance.document_history",
    ),
    *("tinyvex.storage.maintenance.table_statistics", "tinyvex.server.transport.tls", "tinyvex.server.services.mdns"),
    *("tinyvex.client.client", "aiosqlite", "prometheus_client", "rich", "watchfiles", "zeroconf", "webbrowser"),
]


def test_serving_starts_without_later_imports() -> None:
    """Modules for single commands or requests are imported when they are needed, so that the server starts fast."""
    program = "import sys, tinyvex.cli.serve, tinyvex.cli.serve_process; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "tinyvex.server.server" in shown
    assert [name for name in LATER if name in shown] == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_commands_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help has a command line that can be copied."""
    assert cli.run([name, "--help"]) == 0
    assert re.search(rf"^  tinyvex {name}( |$)", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_under_stdout_is_reported() -> None:
    """Exit code 23 and one line."""
    command = [sys.executable, "-m", "tinyvex", "--help"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 23
    assert done.stderr == "tinyvex: the output cannot be written because the disk is full; free some space (DiskFull)\n"
