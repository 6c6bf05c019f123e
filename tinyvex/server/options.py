"""How to serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tinyvex import limits
from tinyvex.storage.file.pragmas import Durability
from tinyvex.storage.maintenance.retention import Policy

__all__ = ["AuthOptions", "ServerOptions", "TlsOptions"]


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """
    What users' tokens are checked against.

    Attributes:
        secret_file: holds the secret of tokens signed with HS256.
        jwks: file or URL of the public keys of tokens signed with RS256 or ES256.
        issuer: the only `iss` that is taken; None takes any.
        audience: must be in `aud`; None does not look at it.
    """

    secret_file: Path | None = None
    jwks: str | None = None
    issuer: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """
    What the server proves itself with, in PEM.

    Attributes:
        certificate: the server's certificate first, then those between it and its authority.
        key: its private key, not encrypted.
    """

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """
    How to serve.

    Attributes:
        app: file or package with the functions.
        data: data folder; made when missing.
        host: address to listen on; one that is not loopback needs `tls` and `client_token`.
        port: 0 picks a free one.
        tls: certificate and key; None serves without TLS.
        client_token: what clients must show; None lets every local client in.
        auth: how users' tokens are checked; None when users cannot sign in.
        dev: errors carry tracebacks.
        durability: `full` survives power loss; `normal` only a killed process.
        allowed_origins: origins of browser pages that may connect, beside the server's own.
        allowed_hosts: names under which the server may be addressed, beside loopback ones.
        function_seconds: time limit of queries and mutations.
        chunk_bytes: a transition that is longer goes in parts of this many bytes, to clients that take them.
        retention: how much history is kept.
        slow_ms: a query or mutation that runs this long is logged; 0 for every one.
        watchdog: end the process when the interpreter is stuck in one call for WATCHDOG_SECONDS.
    """

    app: Path
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
    retention: Policy = field(default_factory=Policy)
    slow_ms: int = limits.SLOW_MS
    watchdog: bool = False
