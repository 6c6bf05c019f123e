"""
Who may open a connection: the checks on the upgrade request, before anything else is believed. (pure)

A local port is reachable by every page in the user's browser, so two headers are checked on *every* request:

- `Host` must be a loopback name or one that was allowed:
  a page that rebinds its own name to 127.0.0.1 still sends its own name.
  A server that listens beyond loopback also takes every IP address, because it cannot know under which ones it is
  reached, behind a router for example, and need not: only names can be rebound,
  and a page whose URL has an address can send no other one.
- `Origin`, which browsers send and pages cannot forge, must be the server's own or one that was allowed:
  WebSockets are not bound by the same-origin policy.

Then `tinyvex/connect` must bring a token.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from tinyvex.errors import Unauthenticated

__all__ = ["RESPONSE_HEADERS", "AccessRules", "Tokens", "bearer_token", "find_refusal", "is_loopback"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

SHOWN_LENGTH_MAX = 200
"""Characters of a refused value that are shown."""

RESPONSE_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Cross-Origin-Resource-Policy", "same-origin"))
"""
On every HTTP response. Without an `Access-Control-Allow-Origin`, no page of another origin reads a response,
and with these it cannot embed or run one either. An allowed origin may open the WebSocket, which asks for a token.
"""


class AccessRules:
    """
    What is allowed beyond loopback and the same origin.

    Args:
        hosts: further names, without port, under which the server may be addressed.
        origins: further origins, as `https://app.example` or `tauri://localhost`, whose pages may connect.
        listens_on: the address that the server listens on, which is allowed too.
        secure: whether it speaks TLS: a page of its own then came over TLS as well.

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

    def takes_host(self, name: str | None) -> bool:
        """Whether the server may be addressed so; None is a malformed name."""
        return name in self._hosts or (self.is_exposed and name is not None and _address(name) is not None)


class Tokens:
    """
    The two secrets, compared in constant time.

    Args:
        admin: opens everything.
        client: lets clients in; None lets everybody in who got through the checks above.
    """

    def __init__(self, admin: str, client: str | None) -> None:
        self._admin = admin
        self._client = client

    def is_admin(self, token: str) -> bool:
        """Whether it is the admin token."""
        return hmac.compare_digest(token.encode(), self._admin.encode())

    def admit(self, token: str) -> bool:
        """
        Let a client in; True for an administrator.

        Raises:
            Unauthenticated: the token is missing or wrong.
        """
        if self.is_admin(token):
            return True
        if self._client is not None and not hmac.compare_digest(token.encode(), self._client.encode()):
            raise Unauthenticated(
                "the token is wrong" if token else "a token is needed: the server's ready line has it"
            )
        return False


def find_refusal(rules: AccessRules, host_headers: list[str], origin_headers: list[str]) -> str | None:
    """Return why a request with these headers is refused, in a sentence for client and log; None if it is allowed."""
    if len(host_headers) != 1:
        return f"A request needs one Host header; this one has {len(host_headers)}."
    name = host_name(host_headers[0])
    if not rules.takes_host(name):
        return _not_allowed("Host", host_headers[0], f"--allow-host {_printable(name or 'NAME')}")
    if len(origin_headers) > 1:
        return f"A request has at most one Origin header; this one has {len(origin_headers)}."
    if origin_headers and not _same_origin(rules, origin_headers[0], host_headers[0]):
        origin = origin_headers[0].lower().rstrip("/")
        if origin not in rules.origins:
            return _not_allowed("Origin", origin_headers[0], f"--allow-origin {_printable(origin)}")
    return None


def _not_allowed(header: str, value: str, option: str) -> str:
    return f"{header} `{_printable(value)}` is not allowed. If it is yours, start the server with {option}."


def _printable(text: str) -> str:
    """Shorten a client's text and replace control characters, which could rewrite lines of a terminal."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:SHOWN_LENGTH_MAX])
    return shown if len(text) <= SHOWN_LENGTH_MAX else f"{shown}…"


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can connect to this address."""
    address = _address(host)
    return host in LOOPBACK_NAMES if address is None else address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def host_name(header: str) -> str | None:
    """The name in a `Host` header, without the port; None when it is malformed."""
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


def bearer_token(headers: list[str]) -> str | None:
    """The token of an `Authorization: Bearer` header, if there is exactly one."""
    if len(headers) != 1:
        return None
    scheme, _, token = headers[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
