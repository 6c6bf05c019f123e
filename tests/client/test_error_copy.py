"""Copies of errors."""

from __future__ import annotations

import pytest

from tinyvex.client.error_copy import copy_error
from tinyvex.errors import ClientClosed, RemoteError, TinyvexError, TooManyQueries


@pytest.mark.parametrize(
    "error",
    [
        RemoteError("no", number=1, name="AppError", details={"appData": {"x": 1}}, fault="developer", retry="later"),
        ClientClosed("closed"),
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
