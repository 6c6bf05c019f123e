"""Certificates for one test, signed by an authority created for it."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate


class Certificates:
    """Files in a folder: an authority's certificate, and a server's with its key."""

    def __init__(self, folder: Path, *names: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA()
        self._names = names or ("127.0.0.1", "localhost")
        self.authority = folder / "authority.pem"
        self.certificate = folder / "certificate.pem"
        self.key = folder / "key.pem"
        self._authority.cert_pem.write_to_path(self.authority)
        self.renew()

    def renew(self) -> None:
        """Replace the server's certificate and key."""
        made = self._authority.issue_cert(*self._names)
        self.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        self.key.write_bytes(made.private_key_pem.bytes())

    def encrypt_key(self) -> None:
        """Encrypt the key with a password."""
        key = load_pem_private_key(self.key.read_bytes(), None)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        self.key.write_bytes(text)

    @property
    def fingerprint(self) -> str:
        """Compute the fingerprint that clients pin, independently of the server's code."""
        return f"sha256:{load_pem_x509_certificate(self.certificate.read_bytes()).fingerprint(SHA256()).hex()}"

    @property
    def options(self) -> list[str]:
        """Return the command-line options."""
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]
