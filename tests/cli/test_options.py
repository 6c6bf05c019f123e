"""Options with units."""

from pathlib import Path

import click
import pytest

from tinyvex.cli.main import run
from tinyvex.cli.options import duration, size


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), ("24h", 86_400), ("7D", 604_800)])
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    """Units are case-insensitive."""
    assert duration(text) == seconds


@pytest.mark.parametrize(("text", "bytes_"), [("500MB", 500_000_000), ("1.5gb", 1_500_000_000)])
def test_a_size_has_a_unit(text: str, bytes_: int) -> None:
    """Units are decimal."""
    assert size(text) == bytes_


@pytest.mark.parametrize("text", ["", "90", "s", "-1s", "90 s", "90x", "1MB", "nans"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    """No unit is assumed."""
    with pytest.raises(click.BadParameter):
        duration(text)


def test_less_history_than_a_server_needs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2; the message has the minimum."""
    assert run(["compact", "--data", str(tmp_path), "--retention", "5s"]) == 2
    assert "10s" in capsys.readouterr().err
