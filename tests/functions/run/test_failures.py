"""Errors of functions as clients receive them."""

import sys

import pytest

from tinyvex import errors
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.failures import Failures
from tinyvex.functions.schema.location import Location

CALL = Call("m:f", b"{}")


def test_an_unexpected_exception_reveals_nothing() -> None:
    """The client learns that it failed; the log has the reason."""
    error = Failures(reveal=False).to_error(ValueError("a secret"), CALL)
    assert isinstance(error, errors.FunctionFailed)
    assert "secret" not in error.message
    assert error.data == {}


def test_dev_mode_reveals_the_exception() -> None:
    """With its text and its traceback."""
    error = Failures(reveal=True).to_error(ValueError("a mistake"), CALL)
    assert "a mistake" in error.message
    assert "ValueError" in error.data["traceback"]


@pytest.mark.parametrize(
    ("reveal", "raised", "logged"),
    [
        (True, errors.UnknownIndex("no such index"), True),
        (True, errors.AppError("no"), False),
        (False, errors.UnknownIndex("no such index"), False),
    ],
    ids=["dev mode", "meant for the client", "serving"],
)
def test_dev_mode_logs_the_line_that_asked_for_something_impossible(
    reveal: bool, raised: errors.TinyvexError, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of Tinyvex itself reach the developer without a traceback."""
    try:
        raise raised
    except errors.TinyvexError as error:
        line = sys.exc_info()[2].tb_lineno  # type: ignore[union-attr]
        Failures(reveal=reveal).to_error(error, CALL)
    message = f"m:f failed at {Location(__file__, line)}: no such index (UnknownIndex)"
    assert caplog.messages == ([message] if logged else [])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no", "no"),
        ({"kind": "exists"}, 'the function refused: {"kind": "exists"}'),
        (["x" * 500], f'the function refused: ["{"x" * 198}…'),
    ],
    ids=["text", "object", "long"],
)
def test_the_message_of_an_app_error_is_readable(data: object, message: str) -> None:
    """It shows the data; a long one is cut."""
    assert str(errors.AppError(data)) == message


def test_an_error_drops_its_frames() -> None:
    """Results are retained, and frames hold transactions."""
    try:
        raise errors.AppError("no")
    except errors.AppError as raised:
        error = Failures(reveal=False).to_error(raised, CALL)
    assert error.__traceback__ is None
