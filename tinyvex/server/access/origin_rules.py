"""
The rules for `Host` and `Origin`, which every request must pass before anything else in it is used. (pure)

Every page in the user's browser can reach a local port. Two headers distinguish such a page from a local program:

- `Host` must be a loopback name or an allowed one. A page that rebinds its own name to 127.0.0.1 still sends its own
  name. A server that listens beyond loopback accepts every IP address as well: it cannot know the addresses under which
  it is reached, for example behind a router, and only names can be rebound.
- `Origin`, which browsers send and pages cannot forge, must be the server's own or an allowed one. The same-origin policy
  does not restrict WebSockets.

The front door applies the rules. After them, `tinyvex/connect` must present a token (`token_auth`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

__all__ = ["RESPONSE_HEADERS", "AccessRules", "find_refusal", "is_loopback", "printable"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

SHOWN_LENGTH_MAX = 200
"""Characters of a refused value that are shown."""

_HOST = r"[A-Za-z0-9._:\[\]-]+"
"""A name or an address, with or without a port. Other characters belong to other parts of a URL, or to a shell."""

_ORIGIN = r"null|[a-z][a-z0-9+.-]*:(//[a-z0-9._:\[\]-]*)?"
"""An origin in lower case. An option with any other one is not suggested: it may be copied into a shell."""

RESPONSE_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Cross-Origin-Resource-Policy", "same-origin"))
"""
The headers of every HTTP response. They keep pages of other origins from embedding or running it, and because there is
no `Access-Control-Allow-Origin`, from reading it. Pages of allowed origins may open the WebSocket, which requires a token.
"""


class AccessRules:
    """
    The hosts and origins of one server.

    Args:
        hosts: allowed names in addition to loopback ones, without port.
        origins: allowed origins in addition to the server's own, such as `https://app.example` or `tauri://localhost`.
        listens_on: the address that the server listens on, which is an allowed host.
        secure: whether the server uses TLS; its own origin is then an https one.

    Attributes:
        is_exposed: whether other machines can connect.
    """

    def __init__(
        self,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        listens_on: str = "127.0.0.1",
        *,
        secure: bool = False,
    ) -> None:
        self.own_schemes = {"https"} if secure else {"http", "https"}
        self.is_exposed = not is_loopback(listens_on)
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in (*hosts, listens_on)}
        self.origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def allows_host(self, name: str | None) -> bool:
        """Return whether a host is allowed; None is a malformed one."""
        return name in self._hosts or (self.is_exposed and name is not None and _address(name) is not None)


def find_refusal(rules: AccessRules, host_headers: list[str], origin_headers: list[str]) -> str | None:
    """Return why a request with these headers is refused, in a sentence for client and log; None if it is allowed."""
    if len(host_headers) != 1:
        return f"A request needs one Host header; this one has {len(host_headers)}."
    name = host_name(host_headers[0])
    if not rules.allows_host(name):
        return _not_allowed("Host", host_headers[0], f"--allow-host {printable(name or 'NAME')}")
    if len(origin_headers) > 1:
        return f"A request has at most one Origin header; this one has {len(origin_headers)}."
    if origin_headers and not _same_origin(rules, origin_headers[0], host_headers[0]):
        origin = origin_headers[0].lower().rstrip("/")
        if origin not in rules.origins:
            shown = printable(origin) if re.fullmatch(_ORIGIN, origin) else "ORIGIN"
            return _not_allowed("Origin", origin_headers[0], f"--allow-origin {shown}")
    return None


def _not_allowed(header: str, value: str, option: str) -> str:
    return f"{header} `{printable(value)}` is not allowed. If it is yours, start the server with {option}."


def printable(text: str) -> str:
    """Shorten a client's text and replace control characters, which could rewrite lines of a terminal."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:SHOWN_LENGTH_MAX])
    return shown if len(text) <= SHOWN_LENGTH_MAX else f"{shown}…"


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can connect to an address."""
    address = _address(host)
    return host in LOOPBACK_NAMES if address is None else address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def host_name(header: str) -> str | None:
    """Return the name in a `Host` header, without the port; None if it is malformed."""
    if re.fullmatch(_HOST, header.strip()) is None:
        return None
    try:
        return urlsplit(f"//{header.strip()}").hostname
    except ValueError:
        return None


def _same_origin(rules: AccessRules, origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in rules.own_schemes and parts.netloc.lower() == host.strip().lower()
