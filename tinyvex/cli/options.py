"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tinyvex.cli.logs import FORMATS, LEVELS
from tinyvex.limits import FUNCTION_SECONDS, RETENTION_SECONDS, RETENTION_SECONDS_MIN, SLOW_MS

if TYPE_CHECKING:
    from tinyvex.server.options import AuthOptions, TlsOptions

F = TypeVar("F", bound=Callable[..., Any])

DEV_PORT = 4800
LOOPBACK = "127.0.0.1"


def app_argument(function: F) -> F:
    """APP, optional."""
    return click.argument("app", required=False, type=click.Path(path_type=Path))(function)


def app_option(function: F) -> F:
    """`--app`, for commands whose arguments are about something else."""
    return click.option(
        "--app", type=click.Path(path_type=Path), help="The app's file or folder; needed only without a running server."
    )(function)


def data_option(function: F) -> F:
    """`--data`."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The data folder.  [default: .tinyvex by the app]",
    )(function)


def network_options(default_port: int, port_note: str) -> Callable[[F], F]:
    """`--host`, `--port`, `--tls-cert`, `--tls-key`, `--allow-origin`, `--allow-host`."""

    def decorate(function: F) -> F:
        for option in reversed(
            [
                click.option(
                    "--host",
                    metavar="ADDRESS",
                    default=LOOPBACK,
                    show_default=True,
                    help="The address to listen on; one of the network needs TLS and a token.",
                ),
                click.option(
                    "--port",
                    metavar="PORT",
                    type=click.IntRange(0, 65535),
                    default=default_port,
                    show_default=True,
                    help=port_note,
                ),
                click.option(
                    "--tls-cert",
                    metavar="FILE",
                    type=click.Path(path_type=Path),
                    help="Serve with TLS, by this certificate (PEM, with those between it and its authority).",
                ),
                click.option(
                    "--tls-key",
                    metavar="FILE",
                    type=click.Path(path_type=Path),
                    help="The certificate's private key (PEM).",
                ),
                click.option(
                    "--allow-origin",
                    "allowed_origins",
                    multiple=True,
                    metavar="ORIGIN",
                    help="Let browser pages of this origin connect, as https://app.example; repeatable.",
                ),
                click.option(
                    "--allow-host",
                    "allowed_hosts",
                    multiple=True,
                    metavar="HOST",
                    help="Accept this name in the Host header besides the address itself; repeatable.",
                ),
            ]
        ):
            function = option(function)
        return function

    return decorate


def tls_from(certificate: Path | None, key: Path | None) -> TlsOptions | None:
    """What these options say; None without TLS."""
    from tinyvex.server.options import TlsOptions

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key need each other")
    return TlsOptions(certificate, key)


def log_options(function: F) -> F:
    """`--log-level`, `--log-format` and `--slow-ms`."""
    level = click.option(
        "--log-level",
        metavar="LEVEL",
        type=click.Choice(LEVELS),
        default="info",
        show_default=True,
        help=f"What stderr shows: {', '.join(LEVELS)}.",
    )
    log_format = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        default="human",
        show_default=True,
        help="human: lines for people. json: one object per line, for programs.",
    )
    slow = click.option(
        "--slow-ms",
        metavar="MS",
        type=click.IntRange(min=0),
        default=SLOW_MS,
        show_default=True,
        help="Warn of a query or mutation that runs this long; 0 for every one.",
    )
    return level(log_format(slow(function)))


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def _with_unit(text: str, units: tuple[str, ...], examples: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)", text.lower())
    if found is None or found[2] not in units:
        raise click.BadParameter(f"{text!r} is not like {examples}")
    return float(found[1]) * _UNITS[found[2]]


def duration(text: str) -> float:
    """Seconds."""
    return _with_unit(text, ("s", "m", "h", "d"), "90s, 15m, 24h or 7d")


def size(text: str) -> int:
    """Bytes."""
    return int(_with_unit(text, ("kb", "mb", "gb", "tb"), "500MB or 2GB"))


def retention(text: str) -> float:
    """Seconds of history; less than a server needs for reads under way is refused."""
    seconds = duration(text)
    if seconds < RETENTION_SECONDS_MIN:
        raise click.BadParameter(f"{text!r} is less than {RETENTION_SECONDS_MIN:g}s, which reads under way need")
    return seconds


def retention_options(function: F) -> F:
    """`--retention` and `--retention-size`."""
    age = click.option(
        "--retention",
        "retention_seconds",
        metavar="DURATION",
        type=retention,
        default=f"{RETENTION_SECONDS / 3600:g}h",
        show_default=True,
        help="How far back any state can be read: 90s, 24h, 7d.",
    )
    bound = click.option(
        "--retention-size",
        "retention_bytes",
        metavar="SIZE",
        type=size,
        help="Keep less history than that while the file holds more: 500MB, 2GB.",
    )
    return age(bound(function))


def auth_options(function: F) -> F:
    """`--auth-secret-file`, `--auth-jwks`, `--auth-issuer`, `--auth-audience`."""
    for option in (
        click.option("--auth-audience", metavar="TEXT", help="Take only users' tokens that are for this audience."),
        click.option("--auth-issuer", metavar="TEXT", help="Take only users' tokens of this issuer."),
        click.option(
            "--auth-jwks",
            metavar="FILE_OR_URL",
            help="Public keys of users' tokens that are signed with RS256 or ES256: a JSON Web Key Set.",
        ),
        click.option(
            "--auth-secret-file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Holds the secret of users' tokens that are signed with HS256.",
        ),
    ):
        function = option(function)
    return function


def auth_from(
    secret_file: Path | None, jwks: str | None, issuer: str | None, audience: str | None
) -> AuthOptions | None:
    """What these options say; None where users cannot sign in."""
    from tinyvex.server.options import AuthOptions

    if secret_file is None and jwks is None:
        if issuer is not None or audience is not None:
            raise click.UsageError("--auth-issuer and --auth-audience need --auth-secret-file or --auth-jwks")
        return None
    return AuthOptions(secret_file, jwks, issuer, audience)


def execution_options(function: F) -> F:
    """`--durability` and `--function-seconds`."""
    durability = click.option(
        "--durability",
        type=click.Choice(["full", "normal"]),
        default="full",
        show_default=True,
        help="full: what was acknowledged survives power loss. normal: it survives a crash of the process.",
    )
    seconds = click.option(
        "--function-seconds",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=FUNCTION_SECONDS,
        show_default=True,
        help="Time limit of one query or mutation.",
    )
    return durability(seconds(function))
