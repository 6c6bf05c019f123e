"""Errors anew for each one who raises them."""

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
def test_a_fresh_error_is_the_same_and_another(error: TinyvexError) -> None:
    """Name, sentence, data, fault and retry are kept; the traceback is not shared."""
    again = copy_error(error)
    assert again is not error
    assert type(again) is type(error)
    assert (again.name, again.message, again.data) == (error.name, error.message, error.data)
    assert (again.fault, again.retry) == (error.fault, error.retry)
    assert again.__traceback__ is None
