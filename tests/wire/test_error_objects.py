"""Errors to error objects and back."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from tinyvex import errors
from tinyvex.values.types import Int64
from tinyvex.wire.error_objects import from_object, to_object
from tinyvex.wire.messages import ErrorObject


def sent(error: BaseException, *, request_id: str | None = None, reveal: bool = False) -> errors.RemoteError:
    """Return the error that the client raises for an exception on the server."""
    frame = msgspec.json.encode(to_object(error, request_id=request_id, reveal=reveal))
    return from_object(msgspec.json.decode(frame, type=ErrorObject))


@pytest.mark.parametrize("kind", [kind for kind in errors.error_classes() if kind is not errors.AppError])
def test_every_error_round_trips(kind: type[errors.TinyvexError]) -> None:
    """Number, name, fault, retry and message arrive unchanged."""
    arrived = sent(kind("what happened"))
    assert (arrived.number, arrived.name, arrived.fault, arrived.retry, arrived.message) == (
        kind.number,
        kind.__name__,
        kind.fault,
        kind.retry,
        "what happened",
    )


@pytest.mark.parametrize("kind", [*errors.error_classes()])
def test_an_error_is_caught_as_its_own_class(kind: type[errors.TinyvexError]) -> None:
    """And as RemoteError; only the errors that clients raise themselves are not taken from a server."""
    arrived = sent(kind("what happened"))
    assert isinstance(arrived, errors.RemoteError)
    assert isinstance(arrived, kind) is not issubclass(kind, errors.ClientError)


def test_an_unknown_error_is_a_remote_error() -> None:
    """An older client reports the error of a newer server under its name and number."""
    newer = errors.RemoteError("new", number=4711, name="Newer", details={"x": 1}, fault="operator", retry="later")
    arrived = sent(newer)
    assert type(arrived) is errors.RemoteError
    assert (arrived.number, arrived.name, arrived.data) == (4711, "Newer", {"x": 1})


def test_a_remote_error_ends_no_other_connection() -> None:
    """A function may pass on a fatal error of another server."""
    assert not sent(errors.ServerStopping("bye")).fatal


def test_details_arrive_in_camel_case() -> None:
    """The names of details are converted to those of JSON."""
    arrived = sent(errors.ServerStopping("soon", retry_after_ms=500, path="$.a", exit_after=3), request_id="r-1")
    assert arrived.data == {"retryAfterMs": 500, "path": "$.a", "requestId": "r-1", "exitAfter": 3}


@pytest.mark.parametrize("data", ["no", None, 7, {"code": Int64(2**60)}, [b"\x00"]])
def test_app_data_round_trips(data: object) -> None:
    """The data of AppError may be any value, including wrapped ones and None."""
    assert sent(errors.AppError(data)).app_data == data


def test_invalid_app_data_does_not_hide_the_error() -> None:
    """An AppError with data that cannot be sent still arrives as an AppError."""
    arrived = sent(errors.AppError(object()))
    assert arrived.name == "AppError"
    assert "not a value" in arrived.app_data


def test_an_unexpected_exception_does_not_show_its_text() -> None:
    """Its text stays on the server; the request id leads to it."""
    arrived = sent(KeyError("secret"), request_id="r-7")
    assert arrived.name == "FunctionFailed"
    assert "secret" not in arrived.message
    assert "r-7" in arrived.message
    assert arrived.data == {"requestId": "r-7"}


def test_dev_mode_shows_text_and_traceback() -> None:
    """With `reveal`, the developer sees the exception."""
    arrived = sent(ValueError("the reason"), reveal=True)
    assert arrived.message == "ValueError: the reason"
    assert "ValueError" in arrived.data["traceback"]


def test_a_remote_error_can_be_passed_on() -> None:
    """An action whose call to another server fails can raise the same error to its caller."""
    first = sent(errors.NotUnique("two", path="$.x"))
    assert to_object(first) == to_object(errors.NotUnique("two", path="$.x"))
    refusal = errors.AppError({"why": "because"})
    assert to_object(sent(refusal)) == to_object(refusal)


def test_unsendable_details_become_text() -> None:
    """An error always arrives, whatever its details contain."""
    arrived = sent(errors.InvalidValue("\ud800", thing=object, other={"a": 1}))
    assert arrived.message == "\\ud800"
    assert arrived.data["thing"] == "<class 'object'>"
    assert arrived.data["other"] == {"a": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no", "no"),
        ({"at": datetime(2026, 5, 1, tzinfo=UTC), "data": b"x"}, '{"at":"2026-05-01T00:00:00.000000Z","data":{"$bytes":"eA=="}}'),
        ({"text": "x" * 500}, f'{{"text":"{"x" * 191}…'),
        (object(), "the function refused; an object of type object is not a value - at `$`"),
    ],
    ids=["text", "values", "long", "not a value"],
)  # fmt: skip
def test_the_message_of_an_app_error_has_its_data_as_json(data: Any, message: str) -> None:
    """As clients see them: no text of Python, and no address."""
    assert to_object(errors.AppError(data)).message.endswith(message)
