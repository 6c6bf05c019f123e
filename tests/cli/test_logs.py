"""Logs go to stderr, a record at a time."""

import logging
from collections.abc import Callable, Iterator

import pytest

from tinyvex.cli import main
from tinyvex.cli.logs import log_to_stderr


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_records_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, name and message are on one line; stdout has nothing."""
    log_to_stderr("info")
    logging.getLogger("app").info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("INFO    app: hello\n")


def test_lower_levels_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """`--log-level warning` hides what is merely informative."""
    log_to_stderr("warning")
    logging.getLogger("app").info("hello")
    assert capsys.readouterr().err == ""


def test_a_traceback_begins_in_the_app(capsys: pytest.CaptureFixture[str]) -> None:
    """How Tinyvex came to call the app's code is left out; what the app called is not."""

    def app() -> None:
        main.exit_code(None)  # type: ignore[arg-type]

    log_to_stderr("info")
    within: dict[str, Callable[[Callable[[], None]], None]] = {}
    exec(compile("def call(app): app()", main.__file__, "exec"), within)
    try:
        within["call"](app)
    except AttributeError as error:
        assert error.__traceback__ is not None
        error.__traceback__ = error.__traceback__.tb_next
        logging.getLogger("app").exception("failed")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines() if "File" in line] == ["app", "exit_code"]


def test_a_traceback_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """What follows the first line of a record begins with spaces."""
    log_to_stderr("info")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("app").exception("failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("app: failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)
