"""`tinyvex run --inline-query`: Python from the command line, on a read-only file."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ENVIRONMENT, ServerProcess
from tinyvex.cli import session
from tinyvex.cli.main import run

APP = Path(__file__).resolve().parents[1] / "support" / "notebook.py"


@pytest.fixture(scope="module", params=["alone", "beside a server"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two notes, with a server that owns it or without one."""
    path = tmp_path_factory.mktemp("notebook")
    for number, title in enumerate(["A", "B"]):
        arguments = json.dumps({"title": title, "rank": number})
        assert run(["run", "notebook:write", arguments, "--app", str(APP), "--data", str(path)]) == 0
    if request.param == "alone":
        yield path
    else:
        with ServerProcess(APP, path):
            yield path


@pytest.fixture
def inline(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run Python and return its result."""

    def ask(source: str, *options: str) -> Any:
        capsys.readouterr()
        assert run(["run", "--inline-query", source, *options, "--data", str(folder)]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.fixture
def fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run Python that fails; return the exit code and stderr."""

    def ask(source: str, *options: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["run", "--inline-query", source, *options, "--data", str(folder)])
        return code, capsys.readouterr().err

    return ask


def test_an_expression_is_the_result(inline: Callable[..., Any]) -> None:
    """Tables are addressed by name, and rows are those of any query."""
    assert inline('[note["title"] for note in ctx.db.query("notes")]') == ["A", "B"]
    assert inline('ctx.db.query("notes").order("desc").first()')["title"] == "B"


def test_statements_return_a_result(inline: Callable[..., Any]) -> None:
    """They are the body of a function."""
    source = "notes = ctx.db.query('notes').with_index('by_rank', rank=tv.Int64(1))\nreturn notes.unique()['title']"
    assert inline(source) == "B"


def test_statements_without_return_give_null(inline: Callable[..., Any]) -> None:
    """As in the body of a function."""
    assert inline("count = ctx.db.query('notes').count()") is None


def test_it_acts_as_a_user(inline: Callable[..., Any]) -> None:
    """`--identity` sets `ctx.auth`."""
    assert inline("ctx.auth", "--identity", '{"subject": "ada"}') == {"subject": "ada"}
    assert inline("ctx.auth") is None


def test_no_app_is_loaded(inline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the app's code does not matter."""
    monkeypatch.setattr("tinyvex.functions.app.loader.load_app", None)
    assert inline('ctx.db.query("notes").count()') == 2


def test_no_server_runs_it(inline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The source runs only in the command's own process."""
    monkeypatch.setattr(session, "connect", None)
    monkeypatch.setattr("tinyvex.cli.run.connect", None)
    assert inline("1 + 1") == 2


def test_its_log_lines_go_to_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout has only the result."""
    capsys.readouterr()
    source = 'ctx.log("looking")\nreturn 1'
    assert run(["run", "--inline-query", source, "--format", "json", "--data", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.out == "1\n"
    assert "looking" in shown.err


@pytest.mark.parametrize(
    "source",
    [
        'ctx.db.insert("notes", {"title": "C"})',
        'ctx.db._transaction.snapshot._connection.execute("DELETE FROM documents")',
        'ctx.db._transaction.snapshot._connection.execute("UPDATE globals SET json_value = 0")',
    ],
)
def test_it_cannot_write(fail: Callable[..., tuple[int, str]], inline: Callable[..., Any], source: str) -> None:
    """Neither through the database object nor around it."""
    assert fail(source)[0] == 3
    assert inline('ctx.db.query("notes").count()') == 2


def test_its_own_connection_is_read_only(fail: Callable[..., tuple[int, str]]) -> None:
    """SQLite refuses the write."""
    _, shown = fail('ctx.db._transaction.snapshot._connection.execute("DELETE FROM documents")')
    assert "readonly database" in shown


def test_an_error_shows_the_line(fail: Callable[..., tuple[int, str]]) -> None:
    """The message has the line of the source, without a traceback."""
    assert fail("x = 0\ny = 1 / x\nreturn y") == (
        3,
        "inline query, line 2: y = 1 / x\ntinyvex: ZeroDivisionError: division by zero (FunctionFailed)\n",
    )


def test_an_error_of_the_database_shows_the_line(fail: Callable[..., tuple[int, str]]) -> None:
    """The error keeps its name."""
    code, shown = fail('ctx.db.query("books").first()')
    assert code == 3
    assert shown.startswith('inline query, line 1: ctx.db.query("books").first()\n')
    assert "UnknownTable" in shown


@pytest.mark.parametrize("source", ["1 +", "return (", "", "  \n"])
def test_invalid_python_is_a_usage_error(fail: Callable[..., tuple[int, str]], source: str) -> None:
    """It is reported before the file is opened."""
    code, shown = fail(source)
    assert code == 2
    assert "not valid Python" in shown


def test_a_syntax_error_is_reported_once(fail: Callable[..., tuple[int, str]]) -> None:
    """The message has the line, and not the name that Python gives to the source."""
    message = "--inline-query is not valid Python: invalid syntax, line 1: x = (see: tinyvex run --help)"
    assert fail("x =") == (2, f"tinyvex: {message}\n")


def test_reporting_an_error_is_not_a_side_effect(folder: Path) -> None:
    """The warning of files that a query opens does not name those that the report itself would read."""
    command = [sys.executable, "-m", "tinyvex", "run", "--inline-query", "1/0", "--data", str(folder)]
    shown = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=True, text=True, timeout=60).stderr
    assert shown.splitlines() == [
        "inline query, line 1: 1/0",
        "tinyvex: ZeroDivisionError: division by zero (FunctionFailed)",
    ]


def test_it_excludes_a_function(fail: Callable[..., tuple[int, str]]) -> None:
    """It cannot be combined with a FUNCTION or --watch."""
    assert fail("1", "notebook:me")[0] == 2
    assert fail("1", "--watch")[0] == 2


def test_one_of_the_two_is_required(folder: Path) -> None:
    """Without both, the command is a usage error."""
    assert run(["run", "--data", str(folder)]) == 2


def test_the_time_limit_applies(fail: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless loop is stopped like any query."""
    monkeypatch.setitem(session.open_file.__wrapped__.__kwdefaults__, "function_seconds", 0.2)  # type: ignore[attr-defined]
    code, shown = fail("while True: pass")
    assert code == 3
    assert "TimeLimitExceeded" in shown
