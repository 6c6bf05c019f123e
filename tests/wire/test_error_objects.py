"""Errors on their way to the client and back."""

import msgspec
import pytest

from tinyvex import errors
from tinyvex.values.types import Int64
from tinyvex.wire.error_objects import from_object, to_object
from tinyvex.wire.messages import ErrorObject


def sent(error: BaseException, *, request_id: str | None = None, reveal: bool = False) -> errors.RemoteError:
    """The error as the client raises it, after it was bytes."""
    frame = msgspec.json.encode(to_object(error, request_id=request_id, reveal=reveal))
    return from_object(msgspec.json.decode(frame, type=ErrorObject))


@pytest.mark.parametrize("kind", [kind for kind in errors.error_classes() if kind is not errors.AppError])
def test_every_error_keeps_what_makes_it_stable(kind: type[errors.TinyvexError]) -> None:
    """Number, name, fault, retry and message arrive."""
    arrived = sent(kind("what happened"))
    assert (arrived.remote_number, arrived.name, arrived.fault, arrived.retry, arrived.message) == (
        kind.number,
        kind.__name__,
        kind.fault,
        kind.retry,
        "what happened",
    )


def test_details_arrive_in_camel_case() -> None:
    """Data for programs arrives under the names that JSON has."""
    arrived = sent(errors.ServerStopping("soon", retry_after_ms=500, path="$.a", exit_after=3), request_id="r-1")
    assert arrived.data == {"retryAfterMs": 500, "path": "$.a", "requestId": "r-1", "exitAfter": 3}


@pytest.mark.parametrize("data", ["no", None, 7, {"code": Int64(2**60)}, [b"\x00"]])
def test_app_data_arrives_as_it_is(data: object) -> None:
    """What the function gave AppError is any value, also a wrapped one, also nothing."""
    assert sent(errors.AppError(data)).app_data == data


def test_app_data_that_is_no_value_does_not_hide_the_error() -> None:
    """An AppError with something unsendable still arrives as an AppError."""
    arrived = sent(errors.AppError(object()))
    assert arrived.name == "AppError"
    assert "not a value" in arrived.app_data


def test_a_foreign_exception_does_not_show_its_text() -> None:
    """What a function raised by accident stays on the server; the request id leads to it."""
    arrived = sent(KeyError("secret"), request_id="r-7")
    assert arrived.name == "FunctionFailed"
    assert "secret" not in arrived.message
    assert "r-7" in arrived.message
    assert arrived.data == {"requestId": "r-7"}


def test_dev_mode_shows_text_and_traceback() -> None:
    """With `reveal` the developer sees what was raised."""
    arrived = sent(ValueError("the reason"), reveal=True)
    assert arrived.message == "ValueError: the reason"
    assert "ValueError" in arrived.data["traceback"]


def test_a_remote_error_can_be_passed_on() -> None:
    """An action that calls a server and fails tells its own caller the same."""
    first = sent(errors.NotUnique("two", path="$.x"))
    assert to_object(first) == to_object(errors.NotUnique("two", path="$.x"))


def test_unsendable_details_become_text() -> None:
    """An error always arrives, whatever its details hold."""
    arrived = sent(errors.InvalidValue("\ud800", thing=object, other={"a": 1}))
    assert arrived.message == "\\ud800"
    assert arrived.data["thing"] == "<class 'object'>"
    assert arrived.data["other"] == {"a": 1}
