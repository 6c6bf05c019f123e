"""The recipes in docs/ are well formed and name the exit codes that a restart does not mend."""

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


def codes_to_mend() -> set[int]:
    """Every start that fails for a reason that stays: all of StartError, and what StorageError has names for."""
    named = [cls for cls in error_classes() if issubclass(cls, errors.StartError | errors.StorageError)]
    found = {cls.exit_code for cls in named} | {errors.StartError.exit_code, EXIT_USAGE}
    return found - {errors.StorageError.exit_code}


def block(document: str, name: str) -> str:
    return programs(DOCS / document)[name]


# systemd.


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block("systemd.md", "notes-database.service"))
    return parser


def test_the_unit_does_not_restart_what_a_restart_does_not_mend(unit: configparser.ConfigParser) -> None:
    """Its list is that of the errors' exit codes, and a crash or the watchdog is restarted."""
    assert set(map(int, unit["Service"]["RestartPreventExitStatus"].split())) == codes_to_mend()
    assert unit["Service"]["Restart"] == "on-failure"


def test_the_unit_lets_the_server_drain(unit: configparser.ConfigParser) -> None:
    """systemd waits longer than stopping may take."""
    assert float(unit["Service"]["TimeoutStopSec"]) > limits.SHUTDOWN_SECONDS


def test_the_unit_calls_the_command_as_it_is(unit: configparser.ConfigParser) -> None:
    """Its options exist."""
    _, subcommand, *arguments = unit["Service"]["ExecStart"].split()
    assert_parsed(subcommand, arguments)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    """Every name and value is one that systemd knows."""
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
    found: dict[str, Any] = plistlib.loads(block("launchd.md", "app.notes.database.plist").encode())
    return found


def test_the_plist_is_one() -> None:
    """launchd's keys have the types that launchd wants, and its label is its file's name."""
    found = job()
    assert found["Label"] == "app.notes.database"
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["RunAtLoad"] is True
    assert found["ExitTimeOut"] > limits.SHUTDOWN_SECONDS
    assert found["Umask"] == 0o077


def test_the_plist_calls_the_command_as_it_is() -> None:
    """Shell, script and command, and the options exist."""
    shell, script, command, subcommand, *arguments = job()["ProgramArguments"]
    assert (shell, Path(script).name, Path(command).name) == ("/bin/sh", "run-database.sh", "tinyvex")
    assert_parsed(subcommand, arguments)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "run-database.sh"
    path.write_text(block("launchd.md", "run-database.sh"), "utf-8")
    return path


@needs_shell
@pytest.mark.parametrize("code", sorted(codes_to_mend()))
def test_the_script_ends_well_where_a_restart_does_not_help(script: Path, code: int) -> None:
    """launchd sees 0 and starts nothing; the log says why."""
    ended = subprocess.run(["/bin/sh", script, "sh", "-c", f"exit {code}"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert f"exit code {code}" in ended.stderr


@needs_shell
@pytest.mark.parametrize("code", [0, 1, 20, 127])
def test_the_script_hands_other_codes_on(script: Path, code: int) -> None:
    """Stopped as asked is no failure; a crash, the watchdog and an unnamed error of SQLite are started again."""
    ended = subprocess.run(["/bin/sh", script, "sh", "-c", f"exit {code}"], check=False)
    assert ended.returncode == code


@needs_shell
def test_the_script_tells_a_killed_server(script: Path) -> None:
    """SIGKILL of the server is a failure: launchd starts it again."""
    ended = subprocess.run(["/bin/sh", script, "sh", "-c", "kill -KILL $$"], check=False)
    assert ended.returncode == 128 + signal.SIGKILL


@needs_shell
def test_the_script_hands_signals_on(script: Path, tmp_path: Path) -> None:
    """SIGHUP makes the server load its app again, and SIGTERM ends it and the script with 0."""
    app, data = tmp_path / "app.py", tmp_path / "data"
    app.write_text(APP, "utf-8")
    command = [sys.executable, "-m", "tinyvex", "serve", str(app), "--data", str(data), "--exit-with-parent"]
    with subprocess.Popen(
        ["/bin/sh", script, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as supervised:
        assert supervised.stdout is not None
        assert supervised.stderr is not None
        assert supervised.stdout.readline()
        found = discovery.find_server(data)
        assert found is not None
        try:
            app.write_text(APP.replace("one", "two"), "utf-8")
            supervised.send_signal(signal.SIGHUP)
            assert b"reloaded app.py" in supervised.stderr.readline()
            with connect_blocking(found.url, found.token) as client:
                assert client.query("app:word") == "two"
            supervised.terminate()
            assert supervised.wait(START_SECONDS) == 0
        finally:
            supervised.kill()


def assert_parsed(subcommand: str, arguments: list[str]) -> None:
    """The command takes these arguments."""
    found = cli.group.get_command(cli.group.make_context("tinyvex", [subcommand]), subcommand)
    assert found is not None
    assert found.make_context(subcommand, list(arguments)).params["data"].is_absolute()


def test_every_recipe_is_in_the_readme() -> None:
    """Each document of the folder is linked from there."""
    links = set(re.findall(r"\]\((docs/[^)#]+)", README.read_text("utf-8")))
    assert {f"docs/{path.name}" for path in DOCS.glob("*.md")} - links == set()
