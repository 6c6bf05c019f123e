"""`tinyvex run`, with and without a server."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.process import ENVIRONMENT, ServerProcess
from tinyvex.cli.main import run
from tinyvex.cli.run import _with_hint
from tinyvex.client import identity
from tinyvex.client.identity import ActingAs
from tinyvex.errors import FunctionNotFound
from tinyvex.storage.file.data_folder import DataFolder

SUPPORT = Path(__file__).resolve().parents[1] / "support"
APP, NOTEBOOK = SUPPORT / "shelf.py", SUPPORT / "notebook.py"

Call = Callable[..., object]


@pytest.fixture(scope="module", params=["this process", "a server"])
def folder_options(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The options for a data folder, without and with a server."""
    folder = tmp_path_factory.mktemp("shelf")
    options = ["--data", str(folder), "--app", str(APP)]
    if request.param == "this process":
        assert run(["run", "shelf:add", '{"title": "First"}', *options]) == 0
        yield options
    else:
        with ServerProcess(APP, folder):
            yield options


@pytest.fixture
def call(folder_options: list[str], capsys: pytest.CaptureFixture[str]) -> Call:
    def run_function(*arguments: str) -> object:
        capsys.readouterr()
        assert run(["run", *arguments, *folder_options]) == 0
        return json.loads(capsys.readouterr().out)

    return run_function


@pytest.fixture
def fail(folder_options: list[str], capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run_function(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["run", *arguments, *folder_options])
        return code, capsys.readouterr().err

    return run_function


def test_a_mutation_writes_and_a_query_reads(call: Call) -> None:
    """Both print their result; the query sees what the mutation wrote."""
    assert isinstance(call("shelf:add", '{"title": "Emma", "pages": 474}'), str)
    assert call("shelf:pages", '{"title": "Emma"}') == 474
    assert call("shelf:pages", '{"title": "Emma", "factor": 2}') == 948


def test_an_action_runs(call: Call) -> None:
    """Its mutations have committed when its result is printed."""
    assert call("shelf:add_twice", '{"title": "Echo"}') == 2
    assert {"Echo", "Echo, again"} <= set(call("shelf:titles"))  # type: ignore[call-overload]


def test_an_internal_function_can_be_called(call: Call) -> None:
    """Access to the data folder gives access to all functions."""
    assert call("shelf:add_many", '{"count": 2}') == 2


def test_a_refusal_is_one_line(fail: Callable[..., tuple[int, str]]) -> None:
    """An AppError is one line and exit code 3."""
    assert fail("shelf:pages", '{"title": "No"}') == (3, "tinyvex: no such book (AppError)\n")


def test_wrong_arguments(fail: Callable[..., tuple[int, str]]) -> None:
    """The message has the path of the wrong field; exit code 3."""
    code, shown = fail("shelf:pages", '{"title": 7}')
    assert code == 3
    assert "$.title" in shown


def test_an_unknown_function(fail: Callable[..., tuple[int, str]]) -> None:
    """The message has its path and the command that lists the functions; exit code 3."""
    code, shown = fail("shelf:burn")
    assert code == 3
    assert "`shelf:burn`; `tinyvex function-spec` lists " in shown


@pytest.mark.parametrize("arguments", ["{", "[1]", '{"a": 12345678901234567890}'])
def test_arguments_must_be_an_object(fail: Callable[..., tuple[int, str]], arguments: str) -> None:
    """Anything else is a usage error, reported before anything is started."""
    assert fail("shelf:titles", arguments)[0] == 2


def test_arguments_that_are_not_json(fail: Callable[..., tuple[int, str]]) -> None:
    """The message has the position and an example."""
    message = (
        'ARGS: this is not JSON: object keys must be strings (byte 1); it must be a JSON object such as {"limit": 10}'
    )
    assert fail("shelf:add", "{title: 1}") == (2, f"tinyvex: {message} (see: tinyvex run --help)\n")


def test_watching_requires_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server nothing could change, so it is a usage error."""
    assert run(["run", "shelf:titles", "--watch", "--app", str(APP), "--data", str(tmp_path)]) == 2
    assert "running server" in capsys.readouterr().err


def test_a_mutation_creates_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first mutation of an app needs neither a server nor a folder."""
    folder = tmp_path / "new"
    assert run(["run", "shelf:add", '{"title": "A"}', "--app", str(APP), "--data", str(folder)]) == 0
    assert folder.is_dir()


def test_a_locked_folder_without_a_server_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A server may be starting: exit code 21."""
    lock = DataFolder(tmp_path).lock()
    try:
        assert run(["run", "shelf:titles", "--app", str(APP), "--data", str(tmp_path)]) == 21
    finally:
        lock.release()


def test_watching_shows_every_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--watch` prints the current result and one line after each change."""
    options = ["--data", str(tmp_path)]
    with (
        ServerProcess(APP, tmp_path),
        subprocess.Popen(
            [sys.executable, "-m", "tinyvex", "run", "shelf:titles", "--watch", *options],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as watching,
    ):
        assert watching.stdout is not None
        assert watching.stdout.readline() == "[]\n"
        assert run(["run", "shelf:add", '{"title": "Emma"}', *options]) == 0
        assert watching.stdout.readline() == '["Emma"]\n'
        watching.kill()


def test_json_is_one_line(folder_options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--format json` is for programs; stdout has nothing else."""
    capsys.readouterr()
    assert run(["run", "shelf:titles", "--format", "json", *folder_options]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert isinstance(json.loads(shown), list)


# As a user.


@pytest.fixture(scope="module", params=["this process", "a server"])
def notebook(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The options for a notebook, without and with a server."""
    folder = tmp_path_factory.mktemp("notebook")
    options = ["--data", str(folder), "--app", str(NOTEBOOK)]
    if request.param == "this process":
        assert run(["run", "notebook:write", '{"title": "First"}', *options]) == 0
        yield options
    else:
        with ServerProcess(NOTEBOOK, folder):
            assert run(["run", "notebook:write", '{"title": "First"}', *options]) == 0
            yield options


ADA = '{"subject": "ada", "age": {"$integer": "JAAAAAAAAAA="}}'


@pytest.mark.parametrize(("function", "found"), [("me", ADA), ("sign", ADA), ("ask", f"[{ADA}, {ADA}]")])
def test_functions_see_the_identity(
    notebook: list[str], function: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A query, a mutation, an action and its calls see the claims in `ctx.auth`, as values."""
    capsys.readouterr()
    assert run(["run", f"notebook:{function}", "--identity", ADA, *notebook]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(found)


def test_without_an_identity_the_call_is_anonymous(notebook: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`ctx.auth` is None, even after calls with an identity."""
    capsys.readouterr()
    assert run(["run", "notebook:me", *notebook]) == 0
    assert json.loads(capsys.readouterr().out) is None


def test_as_a_user_internal_functions_can_be_called(notebook: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The command acts as an administrator on behalf of the user."""
    capsys.readouterr()
    assert run(["run", "notebook:count", "--identity", ADA, *notebook]) == 0
    assert json.loads(capsys.readouterr().out) >= 1


@pytest.mark.parametrize("claims", ["ada", "[1]", '{"$no": 1}'])
def test_an_invalid_identity_is_a_usage_error(
    notebook: list[str], claims: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reported before anything runs."""
    assert run(["run", "notebook:me", "--identity", claims, *notebook]) == 2
    assert "--identity" in capsys.readouterr().err


@pytest.mark.parametrize(("function", "line"), [("me", "who is it?"), ("sign", None), ("ask", "acting")])
def test_log_lines_go_to_stderr(
    notebook: list[str], function: str, line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stdout has only the result."""
    capsys.readouterr()
    assert run(["run", f"notebook:{function}", "--format", "json", *notebook]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert line is None or line in shown.err


def test_the_log_lines_of_a_failed_call_go_to_stderr(notebook: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Once, and before the error."""
    capsys.readouterr()
    assert run(["run", "notebook:fail", *notebook]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("about to fail") == 1
    assert shown.err.index("about to fail") < shown.err.index("AppError")


def test_a_refused_identity_stops_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call meant for a user never runs anonymously."""

    class WithAnotherToken(ActingAs):
        def __new__(cls, _: str, claims: Mapping[str, Any]) -> Self:
            return super().__new__(cls, "another token", claims)

    monkeypatch.setattr(identity, "ActingAs", WithAnotherToken)
    with ServerProcess(NOTEBOOK, tmp_path):
        asked = ["run", "notebook:write", '{"title": "No"}', "--identity", ADA, "--data", str(tmp_path)]
        assert run(asked) == 4
        assert "Unauthenticated" in capsys.readouterr().err
        assert run(["run", "notebook:titles", "--format", "json", "--data", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "[]\n"


def test_watching_as_a_user(tmp_path: Path) -> None:
    """`--watch` and `--identity` can be combined, and `--format pretty` indents."""
    with (
        ServerProcess(NOTEBOOK, tmp_path),
        subprocess.Popen(
            [sys.executable, "-m", "tinyvex", "run", "notebook:me", "--watch", "--identity", '{"subject": "ada"}',
             "--format", "pretty", "--data", str(tmp_path)],
            stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
        ) as watching,
    ):  # fmt: skip
        assert watching.stdout is not None
        assert [watching.stdout.readline() for _ in range(3)] == ["{\n", '  "subject": "ada"\n', "}\n"]
        watching.kill()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("there is no function `a:b`", "there is no function `a:b`; `tinyvex function-spec` lists the functions"),
        ("no `a:b`; did you mean `a:c`?", "no `a:b`; did you mean `a:c`? `tinyvex function-spec` lists the functions"),
    ],
)
def test_the_hint_continues_the_sentence(message: str, shown: str) -> None:
    """A question mark ends a sentence; otherwise the hint follows a semicolon."""
    assert _with_hint(FunctionNotFound(message)).message == shown
