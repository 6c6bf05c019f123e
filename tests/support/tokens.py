"""User tokens for tests, and the keys that sign them."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tinyvex.server.options import AuthOptions

SECRET = "a secret of more than thirty-two bytes, for tests only"
OTHER_SECRET = "another secret of more than thirty-two bytes, for tests"
ISSUER = "https://issuer.test"


@cache
def rsa_key(name: str = "rsa", bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a key pair, the same for the same name."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str = "ec") -> ec.EllipticCurvePrivateKey:
    """Return a key pair, the same for the same name."""
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return a public key in PEM, as attackers would use it as a secret."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, key_id: str | None) -> dict[str, Any]:
    """Return a public key as an entry of a key set."""
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    entry: dict[str, Any] = kind.to_jwk(key.public_key(), as_dict=True)
    return entry if key_id is None else entry | {"kid": key_id}


def key_set(*entries: dict[str, Any]) -> bytes:
    """Return a key set."""
    return json.dumps({"keys": entries}).encode()


def claims(now_us: int, *, lasts: float = 3600, subject: str = "ada", **others: Any) -> dict[str, Any]:
    """Return a token's claims."""
    now = now_us // 1_000_000
    return {"sub": subject, "iss": ISSUER, "name": subject, "iat": now, "exp": now + lasts, **others}


def signed(token_claims: dict[str, Any], secret: str = SECRET) -> str:
    """Sign a token with HS256."""
    return jwt.encode(token_claims, secret, "HS256")


def part(value: object) -> str:
    """Encode a part of a hand-made token."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def secret_options(folder: Path, **others: Any) -> AuthOptions:
    """Return the options of a server that accepts tokens signed with SECRET."""
    path = folder / "secret"
    path.write_text(SECRET + "\n")
    return AuthOptions(secret_file=path, **others)
