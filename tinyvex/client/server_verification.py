"""
Whom a client believes to be its server, over TLS.

Three ways: the system's authorities, an authority of one's own, or one certificate and no other, by its fingerprint.
The last one suits a server of the local network that made its certificate itself:
the fingerprint comes from whoever set it up, along with the pairing code.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import ssl
from typing import TypeAlias

from tinyvex.errors import ServerUntrusted

__all__ = ["ServerVerification", "Tls"]

Tls: TypeAlias = "ssl.SSLContext | os.PathLike[str] | str | None"
"""A context; the file of an authority's certificates in PEM; `sha256:` and a certificate's fingerprint; or the default."""

PIN_PREFIX = "sha256:"


class ServerVerification:
    """
    What a server must prove.

    Args:
        tls: how; None believes the system's authorities.
        secure: whether the server is to be reached over TLS at all.

    Attributes:
        context: for the dialling; None without TLS.

    Raises:
        ValueError: `tls` is none of what it may be, or the server is not to be reached over TLS.
    """

    def __init__(self, tls: Tls, *, secure: bool) -> None:
        self.context: ssl.SSLContext | None = None
        self._pin: str | None = None
        if not secure:
            if tls is not None:
                raise ValueError("tls is for wss:// only: a ws:// connection is not encrypted")
        elif isinstance(tls, ssl.SSLContext):
            self.context = tls
        elif isinstance(tls, str) and tls.lower().startswith(PIN_PREFIX):
            self._pin = _digits(tls)
            # Who signed it and what name it has is not asked: it is this certificate, or none.
            # So the system's authorities are not loaded either, which takes tens of milliseconds.
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        else:
            self.context = _context(tls)

    def check(self, transport: asyncio.BaseTransport) -> None:
        """
        After the handshake, before anything is sent.

        Raises:
            ServerUntrusted: this is not the certificate that was pinned.
        """
        if self._pin is None:
            return
        connection = transport.get_extra_info("ssl_object")
        der = None if connection is None else connection.getpeercert(binary_form=True)
        found = hashlib.sha256(der or b"").hexdigest()
        if not hmac.compare_digest(found, self._pin):
            raise ServerUntrusted(
                f"the server's certificate is {PIN_PREFIX}{found}, and not {PIN_PREFIX}{self._pin}: "
                "it has another certificate now, or is another server"
            )


def _digits(pin: str) -> str:
    digits = pin[len(PIN_PREFIX) :].replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        raise ValueError(f"a fingerprint is sha256: and 64 hexadecimal digits, not {pin!r}")
    return digits


def _context(authorities: os.PathLike[str] | str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:  # SSLError is one
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "there are no certificates in PEM in it"
        raise ValueError(f"the authorities' file {os.fspath(authorities or '')} cannot be used: {reason}") from error
