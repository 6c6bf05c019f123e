"""The options for user tokens, on `serve` and `dev`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import click
import pytest

import tinyvex as tv
from tests.support.process import ENVIRONMENT, START_SECONDS, ServerProcess
from tests.support.tokens import ISSUER, SECRET, claims, signed
from tinyvex.cli.serve_options import auth_from
from tinyvex.errors import StartError
from tinyvex.runtime import Runtime
from tinyvex.server.options import AuthOptions

APP = """
import tinyvex as tv

@tv.query
def me(ctx: tv.QueryCtx) -> str | None:
    return None if ctx.auth is None else ctx.auth["subject"]
"""


def test_without_them_users_cannot_sign_in() -> None:
    """No token is verified, and PyJWT is not needed."""
    assert auth_from(None, None, None, None) is None


def test_they_become_the_servers_options(tmp_path: Path) -> None:
    """Each option becomes the attribute of the same meaning."""
    expected = AuthOptions(secret_file=tmp_path, jwks="keys.json", issuer="i", audience="a")
    assert auth_from(tmp_path, "keys.json", "i", "a") == expected


@pytest.mark.parametrize(("issuer", "audience"), [("i", None), (None, "a")])
def test_an_issuer_requires_keys(issuer: str | None, audience: str | None) -> None:
    """An issuer or audience without keys would suggest a verification that does not take place."""
    with pytest.raises(click.UsageError, match="--auth-secret-file or --auth-jwks"):
        auth_from(None, None, issuer, audience)


@pytest.mark.parametrize(
    ("command", "options", "reason"),
    [
        (
            "serve",
            ["--auth-secret-file", "nowhere"],
            "--auth-secret-file `nowhere` cannot be read: No such file or directory",
        ),
        ("serve", ["--auth-secret-file", "short"], "the secret has 5 bytes"),
        ("serve", ["--auth-jwks", "short"], "not a JSON Web Key Set"),
        ("dev", ["--auth-jwks", "http://issuer.test/keys"], "use https"),
    ],
)
def test_invalid_options_are_reported_at_the_start(
    tmp_path: Path, command: str, options: list[str], reason: str
) -> None:
    """The server does not start; it reports one line and an exit code, and creates no database."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "short").write_text(SECRET[:5])
    line = [sys.executable, "-m", "tinyvex", command, "app.py", "--data", "data", "--port", "0", *options]
    ended = subprocess.run(
        line, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert ended.returncode == StartError.exit_code
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


async def test_a_user_signs_in_to_a_served_app(tmp_path: Path) -> None:
    """The options on the command line lead to `ctx.auth` in functions."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "secret").write_text(SECRET)
    token = signed(claims(Runtime().now_us()))
    with ServerProcess(
        tmp_path / "app.py", tmp_path / "data", "--auth-secret-file", str(tmp_path / "secret"), "--auth-issuer", ISSUER
    ) as server:
        async with (
            asyncio.timeout(START_SECONDS),
            tv.connect(server.url, server.ready["token"], auth=lambda: token) as c,
        ):
            assert await c.query("app:me") == "ada"
