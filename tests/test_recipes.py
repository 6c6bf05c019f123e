"""The recipes in docs/ are well formed and name the exit codes that a restart does not fix."""

import configparser
import plistlib
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ENVIRONMENT, START_SECONDS
from tests.support.readme import README, programs
from tinyvex import errors, limits
from tinyvex.cli import main as cli
from tinyvex.cli.main import EXIT_USAGE
from tinyvex.client.blocking import connect_blocking
from tinyvex.errors import error_classes
from tinyvex.server.services import discovery

DOCS = README.parent / "docs"
APP = "import tinyvex as tv\n\n@tv.query\ndef word(ctx: tv.QueryCtx) -> str:\n    return 'one'\n"

needs_shell = pytest.mark.skipif(sys.platform == "win32", reason="runs /bin/sh")


def permanent_exit_codes() -> set[int]:
    """Return the exit codes with a permanent cause: all of StartError, and the named subclasses of StorageError."""
    named = [cls for cls in error_classes() if issubclass(cls, errors.StartError | errors.StorageError)]
    codes = {cls.exit_code for cls in named} | {errors.StartError.exit_code, EXIT_USAGE}
    return codes - {errors.StorageError.exit_code}


def block(document: str, name: str) -> str:
    return programs(DOCS / document)[name]


# systemd.


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block("systemd.md", "notes-database.service"))
    return parser


def test_the_unit_does_not_restart_after_permanent_failures(unit: configparser.ConfigParser) -> None:
    """The unit's list equals the permanent exit codes; a crash or the watchdog is restarted."""
    assert set(map(int, unit["Service"]["RestartPreventExitStatus"].split())) == permanent_exit_codes()
    assert unit["Service"]["Restart"] == "on-failure"


def test_the_unit_lets_the_server_drain(unit: configparser.ConfigParser) -> None:
    """systemd waits longer than the server takes to stop."""
    assert float(unit["Service"]["TimeoutStopSec"]) > limits.SHUTDOWN_SECONDS


def test_the_unit_calls_the_command_as_it_is(unit: configparser.ConfigParser) -> None:
    """The unit's options exist."""
    _, subcommand, *arguments = unit["Service"]["ExecStart"].split()
    assert_parsed(subcommand, arguments)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    """systemd knows every name and value."""
    text = block("systemd.md", "notes-database.service").replace("/opt/notes/.venv/bin/tinyvex", sys.executable)
    path = tmp_path / "notes-database.service"
    path.write_text(text, "utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    # It also looks at units of the machine, which are not ours.
    complaints = [line for line in verified.stderr.splitlines() if "notes-database" in line]
    assert complaints == []


# launchd.


def job() -> dict[str, Any]:
    plist: dict[str, Any] = plistlib.loads(block("launchd.md", "app.notes.database.plist").encode())
    return plist


def test_the_plist_is_well_formed() -> None:
    """launchd's keys have the right types, and the label is the file's name."""
    plist = job()
    assert plist["Label"] == "app.notes.database"
    assert plist["KeepAlive"] == {"SuccessfulExit": False}
    assert plist["RunAtLoad"] is True
    assert plist["ExitTimeOut"] > limits.SHUTDOWN_SECONDS
    assert plist["Umask"] == 0o077


def test_the_plist_calls_the_command_as_it_is() -> None:
    """The plist calls shell, script and command with existing options."""
    shell, script, command, subcommand, *arguments = job()["ProgramArguments"]
    assert (shell, Path(script).name, Path(command).name) == ("/bin/sh", "run-database.sh", "tinyvex")
    assert_parsed(subcommand, arguments)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "run-database.sh"
    path.write_text(block("launchd.md", "run-database.sh"), "utf-8")
    return path


@needs_shell
@pytest.mark.parametrize("code", sorted(permanent_exit_codes()))
def test_the_script_exits_with_0_on_permanent_failures(script: Path, code: int) -> None:
    """On a permanent failure launchd sees 0 and does not restart; the log has the reason."""
    ended = subprocess.run(["/bin/sh", script, "sh", "-c", f"exit {code}"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert f"exit code {code}" in ended.stderr


@needs_shell
@pytest.mark.parametrize("code", [0, 1, 20, 127])
def test_the_script_passes_other_codes_on(script: Path, code: int) -> None:
    """A requested stop is not a failure; a crash, the watchdog and an unclassified SQLite error are restarted."""
    ended = subprocess.run(["/bin/sh", script, "sh", "-c", f"exit {code}"], check=False)
    assert ended.returncode == code


@needs_shell
def test_the_script_reports_a_killed_server(script: Path) -> None:
    """SIGKILL of the server is a failure: launchd restarts it."""
    ended = subprocess.run(["/bin/sh", script, "sh", "-c", "kill -KILL $$"], check=False)
    assert ended.returncode == 128 + signal.SIGKILL


@needs_shell
def test_the_script_forwards_signals(script: Path, tmp_path: Path) -> None:
    """SIGHUP makes the server reload its app, and SIGTERM ends it and the script with 0."""
    app, data = tmp_path / "app.py", tmp_path / "data"
    app.write_text(APP, "utf-8")
    command = [sys.executable, "-m", "tinyvex", "serve", str(app), "--data", str(data), "--exit-with-parent"]
    with subprocess.Popen(
        ["/bin/sh", script, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as supervised:
        assert supervised.stdout is not None
        assert supervised.stderr is not None
        assert supervised.stdout.readline()
        discovered = discovery.find_server(data)
        assert discovered is not None
        try:
            app.write_text(APP.replace("one", "two"), "utf-8")
            supervised.send_signal(signal.SIGHUP)
            assert b"reloaded app.py" in supervised.stderr.readline()
            with connect_blocking(discovered.url, discovered.token) as client:
                assert client.query("app:word") == "two"
            supervised.terminate()
            assert supervised.wait(START_SECONDS) == 0
        finally:
            supervised.kill()


def assert_parsed(subcommand: str, arguments: list[str]) -> None:
    """Check that the command accepts these arguments."""
    command = cli.group.get_command(cli.group.make_context("tinyvex", [subcommand]), subcommand)
    assert command is not None
    assert command.make_context(subcommand, list(arguments)).params["data"].is_absolute()


def test_every_recipe_is_in_the_readme() -> None:
    """The README links to each document of the folder."""
    links = set(re.findall(r"\]\((docs/[^)#]+)", README.read_text("utf-8")))
    assert {f"docs/{path.name}" for path in DOCS.glob("*.md")} - links == set()
