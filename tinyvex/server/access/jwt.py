"""
Verify users' tokens: JSON Web Tokens (RFC 7519).

The key decides the algorithm, never the token: the secret verifies HS256, an RSA key RS256, a P-256 key ES256. So no
unsigned token is accepted, and none that uses a public key as if it were the secret.

PyJWT parses tokens and verifies signature, issuer, audience and required claims. It is imported only by servers that
verify tokens. Times are checked here because PyJWT reads the system's clock: the server's clock is the Runtime's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tinyvex import errors, limits
from tinyvex.errors import StartError, Unauthenticated
from tinyvex.server.access.verification_key import VerificationKey
from tinyvex.storage.file.private_file import warn_of_shared_key
from tinyvex.sync.identity import UserIdentity
from tinyvex.values import codec as values
from tinyvex.values.types import INT64_MAX, INT64_MIN, Int64

if TYPE_CHECKING:
    from types import ModuleType

    from tinyvex.runtime import Runtime
    from tinyvex.server.access.jwks import KeySet
    from tinyvex.server.options import AuthOptions

__all__ = ["UserTokens", "import_jwt", "secret_key"]

log = logging.getLogger("tinyvex.access")

UNSUPPORTED_HEADER = "the token's header requires something that this server does not support"

_RENAMED = {"sub": "subject", "iss": "issuer"}

_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, NotImplementedError)
"""Errors that a malicious token may raise in PyJWT or below it, apart from PyJWT's own."""


class UserTokens:
    """
    Verifies users' tokens.

    Args:
        options: the keys, issuer and audience.
        runtime: the clock.

    Raises:
        StartError: PyJWT is not installed, or a key file cannot be used.
    """

    def __init__(self, options: AuthOptions, runtime: Runtime) -> None:
        self._options, self._runtime = options, runtime
        self._secret: VerificationKey | None = None
        self._keys: KeySet | None = None
        self._jwt = import_jwt(with_public_keys=options.jwks is not None)
        if options.secret_file is not None:
            self._secret = secret_key(options.secret_file.read_bytes)
            warn_of_shared_key("--auth-secret-file", options.secret_file)
        if options.jwks is not None:
            from tinyvex.server.access.jwks import open_key_set

            self._keys = open_key_set(options.jwks, runtime)
            if options.audience is None:
                log.warning(
                    "--auth-jwks without --auth-audience: tokens that the issuer made for other apps are accepted; "
                    "add --auth-audience with the name of this app"
                )

    def start(self) -> None:
        """Fetch keys before the first token arrives, so that a failure is logged early."""
        if self._keys is not None:
            self._keys.start()

    def close(self) -> None:
        """Fetch no more keys."""
        if self._keys is not None:
            self._keys.close()

    @property
    def has_key_set(self) -> bool:
        """Return whether public keys verify tokens, from a file or a URL."""
        return self._keys is not None

    @property
    def keys_error(self) -> str | None:
        """The sentence about the last fetch of keys if it failed; None otherwise."""
        return None if self._keys is None else self._keys.error

    def check(self, token: str, done: Callable[[UserIdentity | errors.TinyvexError], None]) -> None:
        """
        Verify a token.

        Args:
            token: the token.
            done: called once, immediately or on the loop after keys were fetched, with the identity, with
                Unauthenticated and the reason, or with Overloaded if too many tokens wait for keys.
        """
        try:
            algorithm, key_id = self._unverified_header(token)
        except errors.TinyvexError as error:
            done(error)
            return

        def found(key: VerificationKey | errors.TinyvexError) -> None:
            done(key if isinstance(key, errors.TinyvexError) else self._verify(token, key))

        if algorithm == "HS256" and self._secret is not None:
            found(self._secret)
        elif algorithm != "HS256" and self._keys is not None:
            self._keys.find(algorithm, key_id, found)
        else:
            done(Unauthenticated(f"this server does not accept tokens signed with {algorithm}"))

    def _unverified_header(self, token: str) -> tuple[str, str | None]:
        """Return algorithm and key id as the token claims them: good for finding the key, and for nothing else."""
        if not token:
            raise Unauthenticated("a token is required")
        if len(token) > limits.AUTH_TOKEN_LENGTH_MAX:
            raise Unauthenticated(f"the token has {len(token)} characters; the limit is {limits.AUTH_TOKEN_LENGTH_MAX}")
        try:
            header = self._jwt.get_unverified_header(token)
        except (self._jwt.DecodeError, *_UNREADABLE):
            raise Unauthenticated("the token is not a JSON Web Token") from None
        except self._jwt.PyJWTError:
            raise Unauthenticated(UNSUPPORTED_HEADER) from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ("HS256", "RS256", "ES256"):  # a tuple: a client may send an unhashable value
            raise Unauthenticated("the token's algorithm must be HS256, RS256 or ES256")
        if "crit" in header or not isinstance(key_id, str | None):
            raise Unauthenticated(UNSUPPORTED_HEADER)
        return algorithm, key_id

    def _verify(self, token: str, key: VerificationKey) -> UserIdentity | Unauthenticated:
        try:
            claims = self._signed_claims(token, key)
            expires_us = self._check_times(claims)
            return UserIdentity(_identity(claims), expires_us)
        except Unauthenticated as error:
            return error

    def _signed_claims(self, token: str, key: VerificationKey) -> Mapping[str, Any]:
        """Return the claims after verifying signature, issuer, audience and the presence of required claims."""
        options, jwt = self._options, self._jwt
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.value,
                algorithms=[key.algorithm],
                audience=options.audience,
                issuer=options.issuer,
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": options.audience is not None,
                    "verify_iss": options.issuer is not None,
                    "require": ["sub", "exp"],
                },
            )
        except (jwt.PyJWTError, *_UNREADABLE) as error:
            raise Unauthenticated(_reason(jwt, error)) from None
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> int:
        """Return the time at which the token expires, in microseconds since the epoch."""
        now, leeway = self._runtime.now_us() / 1e6, limits.AUTH_LEEWAY_SECONDS
        expires = _seconds(claims, "exp") + leeway
        if now >= expires:
            raise Unauthenticated("the token has expired")
        if "nbf" in claims and now < _seconds(claims, "nbf") - leeway:
            raise Unauthenticated("the token is not valid yet")
        if "iat" in claims and now < _seconds(claims, "iat") - leeway:
            raise Unauthenticated("the token was issued in the future; are the clocks right?")
        return int(expires * 1e6)


def import_jwt(*, with_public_keys: bool) -> ModuleType:
    """
    Import PyJWT, and for public keys the package that verifies their signatures.

    Raises:
        StartError: one of them is not installed.
    """
    try:
        import jwt

        if with_public_keys:
            import cryptography  # noqa: F401 - PyJWT would raise only when the first token arrives
    except ImportError as error:
        raise StartError(
            f"verifying users' tokens needs the package {error.name}: pip install 'tinyvex[auth]'"
        ) from None
    return jwt


def secret_key(read: Callable[[], bytes]) -> VerificationKey:
    """
    Return the secret of HS256.

    Raises:
        StartError: it cannot be read, is too short, or is a public or private key.
    """
    try:
        secret = read().strip()
    except OSError as error:
        raise StartError(f"--auth-secret-file `{error.filename}` cannot be read: {error.strerror}") from None
    if secret.startswith((b"-----BEGIN", b"ssh-")):
        raise StartError("--auth-secret-file contains a key, not a secret; use --auth-jwks for public keys")
    if len(secret) < limits.AUTH_SECRET_BYTES_MIN:
        raise StartError(
            f"--auth-secret-file: the secret has {len(secret)} bytes; it needs at least {limits.AUTH_SECRET_BYTES_MIN}"
        )
    return VerificationKey("HS256", secret)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12 or math.isnan(value):
        raise Unauthenticated(f"the token's `{name}` claim must be a time in seconds")
    return float(value)


def _identity(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the claims as functions see them, with `sub` and `iss` renamed to `subject` and `issuer`."""
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise Unauthenticated("the token's `sub` claim must be a string that is not empty")
    issuer = claims.get("iss")
    if not isinstance(issuer, str | None):
        raise Unauthenticated("the token's `iss` claim must be a string")
    identity: dict[str, Any] = {}
    for name, claim in claims.items():
        if name not in _RENAMED:
            identity |= _as_value(name, claim)
    identity |= {"subject": claims["sub"], "issuer": issuer}
    try:
        decoded = values.decode(values.encode(identity))
    except errors.TinyvexError as error:
        raise Unauthenticated(f"the token's claims cannot be used as a value: {error}") from None
    assert isinstance(decoded, dict)
    return decoded


def _as_value(name: str, claim: object) -> dict[str, Any]:
    """Return a claim as a document could hold it; nothing if none could: the user has no influence on such a claim."""
    try:
        values.encode({name: (value := _with_int64(claim))})
    except errors.TinyvexError as error:
        log.debug("a claim of a user's token is left out, because it is not a value: %s", error.name)
        return {}
    return {name: value}


def _with_int64(claim: object) -> object:
    """Return a claim with `Int64` in the place of integers that no plain number can have."""
    if isinstance(claim, dict):
        return {name: _with_int64(child) for name, child in claim.items()}
    if isinstance(claim, list):
        return [_with_int64(child) for child in claim]
    if type(claim) is int and abs(claim) > limits.SAFE_INTEGER_MAX and INT64_MIN <= claim <= INT64_MAX:
        return Int64(claim)
    return claim


def _reason(jwt: ModuleType, error: Any) -> str:
    """Return the reason in our words: a library's may quote the token."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token has no `{error.claim}` claim"
    reasons = [
        (jwt.InvalidAudienceError, "the token is for another audience"),
        (jwt.InvalidIssuerError, "the token is from another issuer"),
        (jwt.InvalidAlgorithmError, "the token's algorithm is not the key's"),
        (jwt.InvalidSignatureError, "the token's signature is wrong"),
    ]
    for error_class, reason in reasons:
        if isinstance(error, error_class):
            return reason
    return "the token cannot be read"
