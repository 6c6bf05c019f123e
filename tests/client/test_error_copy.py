"""Copies of errors."""

from __future__ import annotations

import pytest

from tinyvex.client.error_copy import copy_error
from tinyvex.errors import AppError, CallTimeout, ClientClosed, RemoteError, TinyvexError, TooManyQueries
from tinyvex.wire.error_objects import from_object, to_object


@pytest.mark.parametrize(
    "error",
    [
        RemoteError("no", number=1, name="AppError", details={"appData": {"x": 1}}, fault="developer", retry="later"),
        from_object(to_object(AppError({"x": 1}))),
        ClientClosed("closed"),
        CallTimeout("late", wasSent=True),
        TooManyQueries("full", limit=3),
    ],
)
def test_a_copy_is_equal_but_has_no_traceback(error: TinyvexError) -> None:
    """Name, message, data, fault and retry are the same."""
    again = copy_error(error)
    assert again is not error
    assert type(again) is type(error)
    assert (again.name, again.message, again.data) == (error.name, error.message, error.data)
    assert (again.fault, again.retry) == (error.fault, error.retry)
    assert again.__traceback__ is None
