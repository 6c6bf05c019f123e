"""Suggestions for misspelt names."""

import pytest

from tinyvex.limits import SUGGESTION_NAMES_MAX
from tinyvex.values.suggestions import did_you_mean


@pytest.mark.parametrize("name", ["by_channle", "by_chanel", "bychannel", "by_channels"])
def test_a_name_one_letter_off_is_suggested(name: str) -> None:
    """A swapped, missing or additional letter."""
    assert did_you_mean(name, ["by_author", "by_channel"]) == "; did you mean `by_channel`?"


@pytest.mark.parametrize("name", ["", "colour", "x" * 10_000])
def test_another_name_is_not_suggested(name: str) -> None:
    """A wrong suggestion misleads."""
    assert did_you_mean(name, ["by_author", "by_channel"]) == ""


def test_the_number_of_names_is_bounded() -> None:
    """A client can cause the search."""
    names = [f"{number:08}" for number in range(SUGGESTION_NAMES_MAX)]
    assert did_you_mean("by_channle", [*names, "by_channel"]) == ""
