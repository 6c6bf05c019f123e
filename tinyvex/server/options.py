"""The options of a server and its defaults; the commands `serve` and `dev` fill them from the command line."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from tinyvex import limits
from tinyvex.storage.file.pragmas import Durability
from tinyvex.storage.maintenance.retention_policy import Policy

__all__ = ["AuthOptions", "ServerOptions", "TlsOptions"]


class AuthOptions(Struct, frozen=True):
    """
    The verification of users' JSON Web Tokens.

    Attributes:
        secret_file: file with the secret of tokens signed with HS256.
        jwks: file or URL of the public keys of tokens signed with RS256 or ES256.
        issuer: the only accepted `iss`; None accepts any.
        audience: the value that `aud` must contain; None ignores `aud`.
    """

    secret_file: Path | None = None
    jwks: str | None = None
    issuer: str | None = None
    audience: str | None = None


class TlsOptions(Struct, frozen=True):
    """
    The server's certificate and key, in PEM.

    Attributes:
        certificate: file with the server's certificate, followed by the intermediate ones.
        key: file with the private key, unencrypted.
    """

    certificate: Path
    key: Path


class ServerOptions(Struct, frozen=True):
    """
    The options of a server.

    Attributes:
        app: file or package with the functions; None serves only the functions of the system, and leaves the tables as
            they are.
        data: data folder; created if missing.
        host: address to listen on; one other than loopback needs `tls` and `client_token`.
        port: 0 picks a free one.
        tls: certificate and key; None serves without TLS.
        client_token: the token that clients must present; None accepts every local client.
        auth: how users' tokens are verified; None if users cannot sign in.
        dev: errors carry tracebacks.
        durability: `full` survives power loss; `normal` survives only the death of the process.
        allowed_origins: origins of browser pages that may connect, in addition to the server's own.
        allowed_hosts: names in the Host header that are accepted, in addition to loopback names.
        function_seconds: time limit of a query or mutation.
        chunk_bytes: a longer transition is sent in chunks of this size, to clients that support it.
        retention: how much history is retained.
        slow_ms: a query or mutation that runs at least this long is logged; 0 logs every one.
        watchdog: end the process when it cannot recover (`services/watchdog.py`).
        parent_pid: stop when this process ends; None depends on no process.
        advertise: name under which to announce the server on the local network, the machine's name if empty; None does
            not announce it.
    """

    app: Path | None
    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    tls: TlsOptions | None = None
    client_token: str | None = None
    auth: AuthOptions | None = None
    dev: bool = False
    durability: Durability = "full"
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    function_seconds: float = limits.FUNCTION_SECONDS
    chunk_bytes: int = limits.CHUNK_BYTES
    retention: Policy = Policy()
    slow_ms: int = limits.SLOW_MS
    watchdog: bool = False
    parent_pid: int | None = None
    advertise: str | None = None

    @property
    def app_name(self) -> str:
        """The name of the app's file or package; empty without an app."""
        return "" if self.app is None else self.app.name
