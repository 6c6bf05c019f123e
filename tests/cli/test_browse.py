"""`tinyvex browse`: servers for people and for programs, and the reason if there are none."""

from __future__ import annotations

import json

import pytest

from tinyvex.cli.main import run
from tinyvex.server.services import mdns
from tinyvex.server.services.mdns import FoundServer

FINGERPRINT = "sha256:" + "ab" * 32


def found(name: str, fingerprint: str | None = FINGERPRINT) -> FoundServer:
    return FoundServer(
        name=name,
        url="wss://192.168.1.20:4800/sync",
        addresses=["192.168.1.20"],
        database_id="d1",
        tls_fingerprint=fingerprint,
    )


def finds(monkeypatch: pytest.MonkeyPatch, *servers: FoundServer) -> list[float]:
    """Make the network have these servers; return for how long the command listens."""
    asked: list[float] = []

    async def browse(seconds: float) -> list[FoundServer]:
        asked.append(seconds)
        return list(servers)

    monkeypatch.setattr(mdns, "browse", browse)
    return asked


def test_people_see_a_paragraph_for_each_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has the whole fingerprint, so that it can be compared."""
    finds(monkeypatch, found("attic"), found("shelf", None))
    assert run(["browse"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "attic", "  url  wss://192.168.1.20:4800/sync", "  db   d1", f"  tls  {FINGERPRINT}",
        "shelf", "  url  wss://192.168.1.20:4800/sync", "  db   d1",
    ]  # fmt: skip


def test_programs_get_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The output is one array, which is empty if there are no servers."""
    finds(monkeypatch, found("attic"))
    assert run(["browse", "--format", "json"]) == 0
    (server,) = json.loads(capsys.readouterr().out)
    assert server == {
        "name": "attic", "url": "wss://192.168.1.20:4800/sync", "addresses": ["192.168.1.20"],
        "databaseId": "d1", "tlsFingerprint": FINGERPRINT,
    }  # fmt: skip
    finds(monkeypatch)
    assert run(["browse", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_name_cannot_control_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters are escaped."""
    finds(monkeypatch, found("\x1b[2Jshelf"))
    for output in ("pretty", "json"):
        assert run(["browse", "--format", output]) == 0
        assert "\x1b" not in capsys.readouterr().out


def test_it_listens_as_long_as_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--seconds` sets the duration."""
    asked = finds(monkeypatch)
    assert run(["browse", "--seconds", "0.5"]) == 0
    assert asked == [0.5]


def test_a_network_without_multicast_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and exit code 10."""

    async def refuse(_seconds: float) -> list[FoundServer]:
        raise OSError(19, "No such device")

    monkeypatch.setattr(mdns, "browse", refuse)
    assert run(["browse"]) == 10
    assert capsys.readouterr().err == "tinyvex: multicast DNS is not available here: No such device (StartError)\n"


def test_without_the_library_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and exit code 10."""
    monkeypatch.setattr(mdns, "find_spec", lambda _: None)
    assert run(["browse"]) == 10
    assert "tinyvex[lan]" in capsys.readouterr().err
