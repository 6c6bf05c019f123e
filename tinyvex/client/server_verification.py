"""
Verification of a `wss://` server's certificate.

A client trusts the system's certificate authorities, an authority of its own, or a single certificate by its
fingerprint. A fingerprint suits a server on the local network with a self-signed certificate: the user gets it from
the person who set the server up, together with the pairing code.
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
"""An SSL context; the path of a PEM file of authorities; `sha256:` and a certificate's fingerprint; None for the default."""

PIN_PREFIX = "sha256:"


class ServerVerification:
    """
    The proof that a client demands of its server.

    Args:
        tls: the trusted certificates; None for the system's authorities.
        secure: whether the URL is `wss://`.

    Attributes:
        context: the SSL context to dial with; None without TLS.

    Raises:
        ValueError: `tls` is invalid, or the URL is `ws://`.
    """

    def __init__(self, tls: Tls, *, secure: bool) -> None:
        self.context: ssl.SSLContext | None = None
        self._pin: str | None = None
        if not secure:
            if tls is not None:
                raise ValueError("`tls` needs a wss:// URL; a ws:// connection is not encrypted")
        elif isinstance(tls, ssl.SSLContext):
            self.context = tls
        elif isinstance(tls, str) and tls.lower().startswith(PIN_PREFIX):
            self._pin = _fingerprint(tls)
            # Issuer and host name do not matter, because only this certificate is accepted.
            # Not loading the system's authorities also saves tens of milliseconds.
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        else:
            self.context = _context(tls)

    def check(self, transport: asyncio.BaseTransport) -> None:
        """
        Check the server's certificate after the TLS handshake, before anything is sent.

        Raises:
            ServerUntrusted: the certificate has another fingerprint.
        """
        if self._pin is None:
            return
        connection = transport.get_extra_info("ssl_object")
        der = None if connection is None else connection.getpeercert(binary_form=True)
        fingerprint = hashlib.sha256(der or b"").hexdigest()
        if not hmac.compare_digest(fingerprint, self._pin):
            raise ServerUntrusted(
                f"the server's certificate has the fingerprint {PIN_PREFIX}{fingerprint}, not {PIN_PREFIX}{self._pin}; "
                "the server has a new certificate, or this is another server"
            )


def _fingerprint(pin: str) -> str:
    digits = pin[len(PIN_PREFIX) :].replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        raise ValueError(f"`{pin}` is not a fingerprint; one is `sha256:` and 64 hexadecimal digits")
    return digits


def _context(authorities_file: os.PathLike[str] | str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities_file)
    except OSError as error:  # SSLError is a subclass
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it has no certificates in PEM format"
        raise ValueError(f"cannot read the certificates in `{os.fspath(authorities_file or '')}`: {reason}") from error
