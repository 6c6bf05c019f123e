"""`tinyvex dashboard`: a link from the running server, printed and opened."""

from __future__ import annotations

import re
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from tests.support.certificates import Certificates
from tests.support.dashboard import APP, get
from tests.support.process import ServerProcess
from tinyvex.cli.main import run
from tinyvex.errors import ConnectionLost, ServerUntrusted
from tinyvex.server.services import discovery
from tinyvex.storage.file.data_folder import DataFolder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that a browser was asked to open."""
    links: list[str] = []

    def open_link(link: str) -> bool:
        links.append(link)
        return True

    monkeypatch.setattr(webbrowser, "open", open_link)
    return links


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running server with its data folder."""
    with ServerProcess(APP, tmp_path_factory.mktemp("served") / "data") as process:
        yield process


def data_of(server: ServerProcess) -> str:
    return server.command[server.command.index("--data") + 1]


def leads_to(opened: list[str]) -> str:
    """Return the target of the page that a browser was asked to open."""
    (address,) = opened
    assert address.startswith("file:///")
    text = Path(url2pathname(urlsplit(address).path)).read_text(encoding="utf-8")
    match = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]*)"', text)
    assert match is not None
    return match[1]


def test_the_link_is_printed_and_opened(
    server: ServerProcess, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stdout has only the link. Its code is in the fragment, which browsers do not send."""
    assert run(["dashboard", "--data", data_of(server)]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"http://127\.0\.0\.1:{server.ready['port']}/_dashboard#code=[\w-]{{20,}}\n", out)
    assert leads_to(opened) == out.strip()
    assert err == "valid once, for 60 seconds\n"


def test_no_program_is_started_with_the_code(
    server: ServerProcess, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Command lines are visible to other users, and the first to present the code is admitted."""
    run(["dashboard", "--data", data_of(server)])
    assert capsys.readouterr().out.strip().partition("#code=")[2] not in opened[0]


@pytest.mark.skipif(sys.platform == "win32", reason="files there inherit the folder's access list")
def test_the_redirect_is_private(server: ServerProcess, opened: list[str]) -> None:
    """It replaces a file that other users could read."""
    for _ in range(2):
        run(["dashboard", "--data", data_of(server)])
        page = Path(url2pathname(urlsplit(opened.pop()).path))
        assert page.stat().st_mode & 0o777 == 0o600
        page.chmod(0o644)


def test_there_is_one_redirect(server: ServerProcess, opened: list[str]) -> None:
    """A new link replaces the previous redirect."""
    for _ in range(2):
        run(["dashboard", "--data", data_of(server)])
    assert opened[0] == opened[1]


def test_a_folder_that_cannot_be_written_still_has_a_link(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The link is printed, but no browser is opened."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert run(["dashboard", "--data", data_of(server)]) == 0
    out, err = capsys.readouterr()
    assert "#code=" in out
    assert "open the link yourself" in err
    assert opened == []


def test_no_open_opens_nothing(server: ServerProcess, opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--no-open` is meant for machines without a screen."""
    assert run(["dashboard", "--data", data_of(server), "--no-open"]) == 0
    assert "#code=" in capsys.readouterr().out
    assert opened == []


def test_a_missing_browser_is_reported(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link is printed nevertheless."""
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert run(["dashboard", "--data", data_of(server)]) == 0
    out, err = capsys.readouterr()
    assert "#code=" in out
    assert "open the link yourself" in err
    assert not DataFolder(Path(data_of(server))).dashboard_page.exists()


def test_each_link_has_a_code_of_its_own(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Two requests create two links."""
    for _ in range(2):
        run(["dashboard", "--data", data_of(server), "--no-open"])
    first, second = capsys.readouterr().out.split()
    assert first != second


def test_the_code_is_in_no_log(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """It appears neither in the log, nor in the data folder, nor in other responses of the server."""
    run(["dashboard", "--data", data_of(server), "--no-open"])
    code = capsys.readouterr().out.strip().partition("#code=")[2]
    assert code.encode() not in b"".join(server.errors)
    assert all(code.encode() not in file.read_bytes() for file in Path(data_of(server)).rglob("*") if file.is_file())
    assert code not in get(server, "/metrics")[2]


def test_without_a_server_there_is_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message explains how to start one."""
    assert run(["dashboard", "--data", str(tmp_path)]) == ConnectionLost.exit_code
    assert "`tinyvex dev`" in capsys.readouterr().err


def test_another_program_at_its_port_gives_no_link(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that does not accept the admin token is not the server."""
    discovered = discovery.read(Path(data_of(server)))
    assert discovered is not None
    stranger = discovery.Discovery(
        **{**{name: getattr(discovered, name) for name in discovered.__struct_fields__}, "admin_token": "x"}
    )
    monkeypatch.setattr(discovery, "read", lambda _: stranger)
    assert run(["dashboard", "--data", data_of(server), "--no-open"]) == ConnectionLost.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert "401" in err


def test_over_tls_the_certificate_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link is https; a server with another certificate never receives the admin token."""
    made = Certificates(tmp_path / "certificates")
    with ServerProcess(APP, tmp_path / "data", *made.options):
        assert run(["dashboard", "--data", str(tmp_path / "data"), "--no-open"]) == 0
        assert capsys.readouterr().out.startswith("https://127.0.0.1:")
        discovered = discovery.read(tmp_path / "data")
        assert discovered is not None
        fields = {name: getattr(discovered, name) for name in discovered.__struct_fields__}
        other = discovery.Discovery(**{**fields, "tls_fingerprint": f"sha256:{'0' * 64}"})
        monkeypatch.setattr(discovery, "read", lambda _: other)
        assert run(["dashboard", "--data", str(tmp_path / "data"), "--no-open"]) == ServerUntrusted.exit_code
        assert capsys.readouterr().out == ""
