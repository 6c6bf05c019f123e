"""
Users' tokens: JSON Web Tokens (RFC 7519), checked.

A key is for one algorithm, which the key decides and never the token:
the secret is for HS256, an RSA key for RS256, a P-256 key for ES256.
So no token is taken without a signature, and none that was signed with a public key as if it were a secret.

Signatures are checked by PyJWT, which is imported only when tokens are to be checked.
Times are checked here, by the runtime's clock, with AUTH_LEEWAY_SECONDS for clocks that differ.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyvex import errors, limits
from tinyvex.errors import StartError, Unauthenticated
from tinyvex.sync.identity import UserIdentity
from tinyvex.values import codec as values

if TYPE_CHECKING:
    from types import ModuleType

    from tinyvex.runtime import Runtime
    from tinyvex.server.access.jwks import KeySet
    from tinyvex.server.options import AuthOptions

__all__ = ["Key", "UserTokens", "secret_key"]

NOT_CONFIGURED = "this server checks no users' tokens: start it with --auth-secret-file FILE or --auth-jwks FILE_OR_URL"

_RENAMED = {"sub": "subject", "iss": "issuer"}

# What reading a stranger's token may raise, in PyJWT or below it; deep nesting is a RecursionError.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, NotImplementedError)


class Key(NamedTuple):
    """What signatures are checked with; `algorithm` is the only one that this key is used for."""

    algorithm: str
    value: Any


class UserTokens:
    """
    Checks users' tokens.

    Args:
        options: what to check against; None when users cannot sign in.
        runtime: the clock.

    Raises:
        StartError: PyJWT is not installed, or a file is not what it should be.
    """

    def __init__(self, options: AuthOptions | None, runtime: Runtime) -> None:
        self._options, self._runtime = options, runtime
        self._secret: Key | None = None
        self._keys: KeySet | None = None
        if options is None:
            return
        self._jwt = import_jwt(with_public_keys=options.jwks is not None)
        if options.secret_file is not None:
            self._secret = secret_key(options.secret_file.read_bytes)
        if options.jwks is not None:
            from tinyvex.server.access.jwks import open_key_set

            self._keys = open_key_set(options.jwks, runtime)

    def start(self) -> None:
        """Fetch keys before the first token comes, so that what is wrong with them is logged early."""
        if self._keys is not None:
            self._keys.start()

    def close(self) -> None:
        """Fetch no more keys."""
        if self._keys is not None:
            self._keys.close()

    def check(self, token: str, done: Callable[[UserIdentity | errors.TinyvexError], None]) -> None:
        """
        Whom a token names; `done` is called once: at once, or on the loop when keys had to be fetched.

        It is given the identity, or Unauthenticated with the reason,
        or Overloaded when too many tokens wait for keys.
        """
        try:
            algorithm, key_id = self._header(token)
        except errors.TinyvexError as error:
            done(error)
            return

        def found(key: Key | errors.TinyvexError) -> None:
            done(key if isinstance(key, errors.TinyvexError) else self._verified(token, key))

        if algorithm == "HS256" and self._secret is not None:
            found(self._secret)
        elif algorithm != "HS256" and self._keys is not None:
            self._keys.find(algorithm, key_id, found)
        else:
            done(Unauthenticated(f"tokens signed with {algorithm} are not taken here"))

    def _header(self, token: str) -> tuple[str, str | None]:
        """The algorithm and the key id that a token claims; not to be believed, only to find the key."""
        if self._options is None:
            raise Unauthenticated(NOT_CONFIGURED)
        if not token:
            raise Unauthenticated("a token is needed")
        if len(token) > limits.AUTH_TOKEN_LENGTH_MAX:
            raise Unauthenticated(f"the token has {len(token)} characters; the limit is {limits.AUTH_TOKEN_LENGTH_MAX}")
        try:
            head = token.partition(".")[0]
            header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
            algorithm, key_id = header["alg"], header.get("kid")
        except _UNREADABLE:
            raise Unauthenticated("the token is no JSON Web Token") from None
        if algorithm not in ("HS256", "RS256", "ES256"):  # a tuple: it may be anything, also unhashable
            raise Unauthenticated("the token's algorithm is none of HS256, RS256 and ES256")
        if "crit" in header or not isinstance(key_id, str | None):
            raise Unauthenticated("the token's header asks for something that is not understood")
        return algorithm, key_id

    def _verified(self, token: str, key: Key) -> UserIdentity | Unauthenticated:
        try:
            claims = self._signed_claims(token, key)
            expires_us = self._check_times(claims)
            return UserIdentity(_identity(claims), expires_us)
        except Unauthenticated as error:
            return error

    def _signed_claims(self, token: str, key: Key) -> Mapping[str, Any]:
        """Signature, issuer and audience are right, and the claims that we need are there."""
        options, jwt = self._options, self._jwt
        assert options is not None
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
        """The moment at which the token ends."""
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
    PyJWT, and what it needs for keys that are no secrets.

    Raises:
        StartError: it is not installed.
    """
    try:
        import jwt

        if with_public_keys:
            import cryptography  # noqa: F401 - PyJWT would say so only when the first token comes
    except ImportError as error:
        raise StartError(f"users' tokens need {error.name}: pip install 'tinyvex[auth]'") from None
    return jwt


def secret_key(read: Callable[[], bytes]) -> Key:
    """
    The secret of HS256.

    Raises:
        StartError: it cannot be read, is too short, or is no secret.
    """
    try:
        secret = read().strip()
    except OSError as error:
        raise StartError(f"--auth-secret-file: {error.filename}: {error.strerror}") from None
    if secret.startswith((b"-----BEGIN", b"ssh-")):
        raise StartError("--auth-secret-file: this is a key pair's key and no secret; public keys go to --auth-jwks")
    if len(secret) < limits.AUTH_SECRET_BYTES_MIN:
        raise StartError(
            f"--auth-secret-file: the secret has {len(secret)} bytes; at least {limits.AUTH_SECRET_BYTES_MIN} are needed"
        )
    return Key("HS256", secret)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12 or math.isnan(value):
        raise Unauthenticated(f"the token's {name} is no time")
    return float(value)


def _identity(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """What functions see: all claims, of which `sub` and `iss` have names that say what they are."""
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise Unauthenticated("the token's sub is no text")
    issuer = claims.get("iss")
    if not isinstance(issuer, str | None):
        raise Unauthenticated("the token's iss is no text")
    others = {name: value for name, value in claims.items() if name not in _RENAMED}
    identity = others | {"subject": claims["sub"], "issuer": issuer}
    try:
        decoded = values.decode(values.encode(identity))
    except errors.TinyvexError as error:
        raise Unauthenticated(f"the token's claims are no value: {error}") from None
    assert isinstance(decoded, dict)
    return decoded


def _reason(jwt: ModuleType, error: Any) -> str:
    """In our words: those of libraries may quote what they were given."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token has no {error.claim}"
    reasons = [
        (jwt.InvalidAudienceError, "the token is for another audience"),
        (jwt.InvalidIssuerError, "the token is of another issuer"),
        (jwt.InvalidAlgorithmError, "the token's algorithm is not the key's"),
        (jwt.InvalidSignatureError, "the token's signature is wrong"),
    ]
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    return "the token cannot be read"
