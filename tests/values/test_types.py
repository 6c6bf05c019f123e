"""The types of values."""

import pytest

from tinyvex.errors import InvalidValue
from tinyvex.values.types import INT64_MAX, INT64_MIN, MISSING, Int64


@pytest.mark.parametrize("number", [0, -1, INT64_MIN, INT64_MAX])
def test_an_int64_is_an_int(number: int) -> None:
    """An Int64 compares, hashes and computes like the equal int."""
    assert Int64(number) == number
    assert hash(Int64(number)) == hash(number)
    assert Int64(number) + 1 == number + 1


@pytest.mark.parametrize("number", [INT64_MIN - 1, INT64_MAX + 1])
def test_an_int64_has_64_bits(number: int) -> None:
    """The constructor refuses an integer that does not fit."""
    with pytest.raises(InvalidValue, match=str(number)):
        Int64(number)


def test_an_int64_shows_its_type() -> None:
    """A log line distinguishes an Int64 from a number."""
    assert repr(Int64(5)) == "Int64(5)"


def test_missing_shows_its_name() -> None:
    """The output of a failing test over keys is readable."""
    assert repr(MISSING) == "MISSING"
