"""Define the arguments and options that several commands share, so that they are spelled and explained alike."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tinyvex.limits import RETENTION_BYTES, RETENTION_LIVE_FACTOR, RETENTION_SECONDS, RETENTION_SECONDS_MIN

F = TypeVar("F", bound=Callable[..., Any])


class FilePath(click.Path):
    """A file that must have a name: `-` is refused, because the command can neither read nor write a pipe."""

    def __init__(self, **rules: Any) -> None:
        super().__init__(path_type=Path, **rules)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == "-":
            self.fail("`-` is not a file here; name a file (`./-` if that is its name)", param, ctx)
        return super().convert(value, param, ctx)


def app_argument(function: F) -> F:
    """Add the optional argument APP."""
    return click.argument("app", required=False, type=click.Path(path_type=Path))(function)


def app_option(function: F) -> F:
    """Add `--app`, for commands whose arguments are not about the app."""
    return click.option(
        "--app", type=click.Path(path_type=Path), help="The app's file or folder; needed only without a running server."
    )(function)


def data_option(function: F) -> F:
    """Add `--data`."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="The data folder.  [default: .tinyvex next to the app]",
    )(function)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def _number_with_unit(text: str, units: tuple[str, ...], what: str, examples: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]+)", text.lower())
    if match is None or match[2] not in units:
        raise click.BadParameter(f"`{text}` is not a {what}; write for example {examples}")
    return float(match[1]) * _UNITS[match[2]]


def duration(text: str) -> float:
    """Parse a duration such as `90s` or `7d`; return seconds."""
    return _number_with_unit(text, ("s", "m", "h", "d"), "duration", "90s, 15m, 24h or 7d")


def size(text: str) -> int:
    """Parse a size such as `500MB`; return bytes."""
    return int(_number_with_unit(text, ("kb", "mb", "gb", "tb"), "size", "500MB or 2GB"))


def retention(text: str) -> float:
    """Parse how long history is retained; return seconds. Shorter than RETENTION_SECONDS_MIN is refused."""
    seconds = duration(text)
    if seconds < RETENTION_SECONDS_MIN:
        raise click.BadParameter(
            f"`{text}` is shorter than {RETENTION_SECONDS_MIN:g}s, the minimum for queries that are still running"
        )
    return seconds


def origin(text: str) -> str:
    """Parse an origin as browsers send it; refuse one that no browser sends, because it would never match."""
    if text != "null" and re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#*\s]*/?", text) is None:
        raise click.BadParameter(
            f"`{text}` is not an origin; write the scheme, host and port without a path, for example http://localhost:5173"
        )
    return text


def host(text: str) -> str:
    """Parse a name or IP address of the `Host` header; refuse one with a port or scheme, because it would never match."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if re.fullmatch(r"[^/?#*:@\[\]\s]+", text) is None:
            raise click.BadParameter(
                f"`{text}` is not a host; write a name or an IP address without scheme and port, for example database.local"
            ) from None
    return text


def retention_options(function: F) -> F:
    """Add `--retention` and `--retention-size`."""
    age = click.option(
        "--retention",
        "retention_seconds",
        metavar="DURATION",
        type=retention,
        default=f"{RETENTION_SECONDS / 3600:g}h",
        show_default=True,
        help="Retain history for this long, for example 90s, 24h or 7d.",
    )
    bound = click.option(
        "--retention-size",
        "retention_bytes",
        metavar="SIZE",
        type=size,
        help="Retain less history while the file holds more than this, for example 500MB or 2GB.  "
        f"[default: {RETENTION_LIVE_FACTOR} times the live data plus {RETENTION_BYTES >> 20} MiB]",
    )
    return age(bound(function))
