"""Define the options that `dev` and `serve` share, and turn them into the server's options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from tinyvex.cli.logs import LOG_FORMATS, LOG_LEVELS, LogFormat
from tinyvex.cli.options import app_argument, data_option, host, origin, retention_options
from tinyvex.limits import FUNCTION_SECONDS, SLOW_MS

if TYPE_CHECKING:
    from tinyvex.cli.app_location import AppLocation
    from tinyvex.server.options import AuthOptions, ServerOptions, TlsOptions
    from tinyvex.storage.file.pragmas import Durability

__all__ = ["DEV_PORT", "ServeSettings", "auth_from", "serve_options", "tls_from"]

DEV_PORT = 4800
LOOPBACK = "127.0.0.1"


class ServeSettings(Struct, frozen=True):
    """The shared options as `click` parsed them; a field has the name of its option's parameter."""

    app: Path | None
    data: Path | None
    host: str
    port: int
    tls_cert: Path | None
    tls_key: Path | None
    allowed_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    auth_secret_file: Path | None
    auth_jwks: str | None
    auth_issuer: str | None
    auth_audience: str | None
    durability: Durability
    function_seconds: float
    retention_seconds: float
    retention_bytes: int | None
    log_level: str
    log_format: LogFormat
    slow_ms: int

    def server_options(self, location: AppLocation, *, client_token: str | None, dev: bool) -> ServerOptions:
        """
        Return the options of a server for this process.

        Args:
            location: the app and its data folder.
            client_token: the token that clients must present; None accepts all.
            dev: send tracebacks to clients.

        Raises:
            UsageError: an option needs another that is missing.
        """
        from tinyvex.server.options import ServerOptions
        from tinyvex.storage.maintenance.retention_policy import Policy

        return ServerOptions(
            app=location.app,
            data=location.data,
            host=self.host,
            port=self.port,
            tls=tls_from(self.tls_cert, self.tls_key),
            client_token=client_token,
            auth=auth_from(self.auth_secret_file, self.auth_jwks, self.auth_issuer, self.auth_audience),
            dev=dev,
            durability=self.durability,
            allowed_origins=self.allowed_origins,
            allowed_hosts=self.allowed_hosts,
            function_seconds=self.function_seconds,
            retention=Policy(self.retention_seconds, self.retention_bytes),
            slow_ms=self.slow_ms,
            watchdog=True,
        )


def serve_options(*, default_port: int, port_help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add APP and the shared options to a command, which receives them as one argument, `settings`."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**parameters: Any) -> None:
            shared = {name: parameters.pop(name) for name in ServeSettings.__struct_fields__}
            function(settings=ServeSettings(**shared), **parameters)

        network = _network_options(default_port, port_help)
        decorated: Callable[..., None] = command
        options: list[_Option] = [*_log_options(), retention_options, *_execution_options(), *_auth_options(), *network]
        options += [data_option, app_argument]
        for add in options:
            decorated = add(decorated)
        return decorated

    return decorate


_Option = Callable[[Callable[..., None]], Callable[..., None]]
"""Adds an option to a command. `--help` lists the option that was added last first."""


def _network_options(default_port: int, port_help: str) -> list[_Option]:
    return [
        click.option(
            "--allow-host",
            "allowed_hosts",
            multiple=True,
            metavar="HOST",
            type=host,
            help="Accept this name in the Host header, in addition to the listening address; repeatable.",
        ),
        click.option(
            "--allow-origin",
            "allowed_origins",
            multiple=True,
            metavar="ORIGIN",
            type=origin,
            help="Accept browser pages of this origin, for example https://app.example; repeatable.",
        ),
        click.option(
            "--tls-key",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="The certificate's private key (PEM).",
        ),
        click.option(
            "--tls-cert",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Serve with TLS and this certificate (PEM, including intermediate certificates).",
        ),
        click.option(
            "--port",
            metavar="PORT",
            type=click.IntRange(0, 65535),
            default=default_port,
            show_default=True,
            help=port_help,
        ),
        click.option(
            "--host",
            metavar="ADDRESS",
            default=LOOPBACK,
            show_default=True,
            help="The address to listen on. An address that other machines can reach needs `serve`, TLS and a token.",
        ),
    ]


def _auth_options() -> list[_Option]:
    return [
        click.option("--auth-audience", metavar="TEXT", help="Accept only user tokens for this audience."),
        click.option("--auth-issuer", metavar="TEXT", help="Accept only user tokens of this issuer."),
        click.option(
            "--auth-jwks",
            metavar="FILE_OR_URL",
            help="Verify user tokens signed with RS256 or ES256 by this JSON Web Key Set.",
        ),
        click.option(
            "--auth-secret-file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Verify user tokens signed with HS256 by the secret in this file.",
        ),
    ]


def _execution_options() -> list[_Option]:
    return [
        click.option(
            "--function-seconds",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            default=FUNCTION_SECONDS,
            show_default=True,
            help="The time limit of one query or mutation.",
        ),
        click.option(
            "--durability",
            type=click.Choice(["full", "normal"]),
            default="full",
            show_default=True,
            help="full: acknowledged writes survive power loss. normal: they survive a crash of the process.",
        ),
    ]


def _log_options() -> list[_Option]:
    return [
        click.option(
            "--slow-ms",
            metavar="MS",
            type=click.IntRange(min=0),
            default=SLOW_MS,
            show_default=True,
            help="Log queries and mutations that take at least this long; 0 logs all.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(LOG_FORMATS),
            default="human",
            show_default=True,
            help="human: lines for people. json: one object per line, for programs.",
        ),
        click.option(
            "--log-level",
            metavar="LEVEL",
            type=click.Choice(LOG_LEVELS),
            default="info",
            show_default=True,
            help=f"Log records of at least this level: {', '.join(LOG_LEVELS)}.",
        ),
    ]


def tls_from(certificate: Path | None, key: Path | None) -> TlsOptions | None:
    """
    Return the TLS options; None serves without TLS.

    Raises:
        UsageError: only one of the two files was named.
    """
    from tinyvex.server.options import TlsOptions

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key are only valid together; pass both")
    return TlsOptions(certificate, key)


def auth_from(
    secret_file: Path | None, jwks: str | None, issuer: str | None, audience: str | None
) -> AuthOptions | None:
    """
    Return the options for user tokens; None disables signing in.

    Raises:
        UsageError: an issuer or audience without keys, with which no token would be verified.
    """
    from tinyvex.server.options import AuthOptions

    if secret_file is None and jwks is None:
        if issuer is not None or audience is not None:
            raise click.UsageError("--auth-issuer and --auth-audience require --auth-secret-file or --auth-jwks")
        return None
    return AuthOptions(secret_file, jwks, issuer, audience)
