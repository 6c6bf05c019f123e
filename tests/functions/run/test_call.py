"""The tokens by which outcomes are compared."""

from tinyvex import errors
from tinyvex.functions.result.result_body import Body
from tinyvex.functions.run.call import error_token


def test_errors_and_values_have_different_hashes() -> None:
    """Even if their text is the same."""
    assert Body((b'"no"',)).token != error_token(errors.AppError("no"))
    assert error_token(errors.AppError({"n": 1})) != error_token(errors.AppError({"n": 2}))
