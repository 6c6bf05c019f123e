"""Options with units."""

from pathlib import Path

import click
import pytest

from tinyvex.cli.main import run
from tinyvex.cli.options import duration, host, origin, size


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


@pytest.mark.parametrize(
    "text", ["http://localhost:5173", "https://App.example/", "tauri://localhost", "file://", "null"]
)
def test_an_origin_is_what_a_browser_sends(text: str) -> None:
    """It has a scheme, except `null`, which pages without an origin of their own send."""
    assert origin(text) == text


@pytest.mark.parametrize("text", ["localhost:5173", "app.example", "*", "https://*", "https://app.example/page", ""])
def test_an_origin_that_never_matches_is_refused(text: str) -> None:
    """A server that accepted it would refuse the page that it was meant for."""
    with pytest.raises(click.BadParameter, match="is not an origin"):
        origin(text)


@pytest.mark.parametrize("text", ["database.local", "192.168.1.20", "::1"])
def test_a_host_is_a_name_or_an_address(text: str) -> None:
    """An IPv6 address has no brackets."""
    assert host(text) == text


@pytest.mark.parametrize("text", ["http://database.local", "database.local:4800", "[::1]", "*", "a b", ""])
def test_a_host_that_never_matches_is_refused(text: str) -> None:
    """The port of the `Host` header is not compared."""
    with pytest.raises(click.BadParameter, match="is not a host"):
        host(text)


@pytest.mark.parametrize("option", ["--allow-origin", "--allow-host"])
def test_the_server_refuses_to_start_with_one(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, before anything is served."""
    assert run(["serve", "app.py", "--data", str(tmp_path), option, "a/b"]) == 2
    assert f"Invalid value for '{option}': `a/b` is not" in capsys.readouterr().err
