"""User tokens: the identity of a valid one, and every way in which a token may be invalid."""

from __future__ import annotations

import builtins
import hashlib
import hmac
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.tokens import (
    ISSUER,
    OTHER_SECRET,
    SECRET,
    claims,
    ec_key,
    jwk,
    key_set,
    part,
    public_pem,
    rsa_key,
    secret_options,
    signed,
)
from tinyvex import limits
from tinyvex.errors import StartError, TinyvexError, Unauthenticated
from tinyvex.runtime import Runtime
from tinyvex.server.access.jwt import UserTokens, import_jwt
from tinyvex.server.options import AuthOptions
from tinyvex.sync.identity import UserIdentity
from tinyvex.values.types import Int64

NOW_US = 1_700_000_000_000_000


class Clock(Runtime):
    """A runtime whose wall clock stands still."""

    def now_us(self) -> int:
        return NOW_US


def checked(options: AuthOptions, token: str) -> UserIdentity | TinyvexError:
    outcomes: list[UserIdentity | TinyvexError] = []
    UserTokens(options, Clock()).check(token, outcomes.append)
    (outcome,) = outcomes
    return outcome


def refused(options: AuthOptions, token: str) -> str:
    outcome = checked(options, token)
    assert isinstance(outcome, Unauthenticated), outcome
    return outcome.message


def claims_of(options: AuthOptions, token: str) -> dict[str, Any]:
    outcome = checked(options, token)
    assert isinstance(outcome, UserIdentity), outcome
    return dict(outcome.claims)


@pytest.fixture
def secret(tmp_path: Path) -> AuthOptions:
    return secret_options(tmp_path)


@pytest.fixture
def public(tmp_path: Path) -> AuthOptions:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(rsa_key(), "r"), jwk(ec_key(), "e")))
    return AuthOptions(jwks=str(path))


# Whom a token names.


def test_a_token_signed_with_the_secret_names_its_subject(secret: AuthOptions) -> None:
    """Functions see subject and issuer under these names, and all other claims unchanged."""
    token_claims = claims(NOW_US, roles=["admin", 1.5], nested={"a": None})
    assert claims_of(secret, signed(token_claims)) == {
        "subject": "ada",
        "issuer": ISSUER,
        "name": "ada",
        "roles": ["admin", 1.5],
        "nested": {"a": None},
        "iat": token_claims["iat"],
        "exp": token_claims["exp"],
    }


def test_a_token_without_an_issuer_has_none(secret: AuthOptions) -> None:
    """If no issuer is configured, none is required; functions see None."""
    token_claims = claims(NOW_US)
    del token_claims["iss"]
    assert claims_of(secret, signed(token_claims))["issuer"] is None


@pytest.mark.parametrize(("key", "algorithm", "key_id"), [(rsa_key(), "RS256", "r"), (ec_key(), "ES256", "e")])
def test_a_token_signed_with_a_private_key_is_taken(public: AuthOptions, key: Any, algorithm: str, key_id: str) -> None:
    """RS256 and ES256 are verified with the public key that the token's key id names."""
    token = jwt.encode(claims(NOW_US), key, algorithm, headers={"kid": key_id})
    assert claims_of(public, token)["subject"] == "ada"


def test_a_key_id_is_not_needed_where_there_is_no_choice(public: AuthOptions) -> None:
    """A token without a key id is verified with the only key of its algorithm."""
    assert claims_of(public, jwt.encode(claims(NOW_US), ec_key(), "ES256"))["subject"] == "ada"


def test_the_identity_ends_with_the_token(secret: AuthOptions) -> None:
    """The identity lasts until `exp` plus the leeway."""
    outcome = checked(secret, signed(claims(NOW_US, lasts=60)))
    assert isinstance(outcome, UserIdentity)
    assert outcome.expires_us == NOW_US + int((60 + limits.AUTH_LEEWAY_SECONDS) * 1e6)


@pytest.mark.parametrize("audience", ["mine", ["others", "mine"]])
def test_the_audience_may_be_one_of_several(tmp_path: Path, audience: object) -> None:
    """`aud` is a string or a list of strings."""
    options = secret_options(tmp_path, audience="mine", issuer=ISSUER)
    assert claims_of(options, signed(claims(NOW_US, aud=audience)))["subject"] == "ada"


def test_an_audience_that_is_not_configured_is_ignored(secret: AuthOptions) -> None:
    """Only an audience that the operator configured is compared."""
    assert claims_of(secret, signed(claims(NOW_US, aud="anybody")))["aud"] == "anybody"


# Times.

LEEWAY = int(limits.AUTH_LEEWAY_SECONDS)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"lasts": -LEEWAY}, "expired"),
        ({"nbf": NOW_US // 10**6 + LEEWAY + 1}, "not valid yet"),
        ({"iat": NOW_US // 10**6 + LEEWAY + 1}, "issued in the future"),
        ({"exp": "tomorrow"}, "`exp` claim must be a time"),
        ({"exp": True}, "`exp` claim must be a time"),
        ({"exp": 1e300}, "`exp` claim must be a time"),
        ({"nbf": None}, "`nbf` claim must be a time"),
    ],
)
def test_a_token_out_of_its_time_is_refused(secret: AuthOptions, others: dict[str, Any], reason: str) -> None:
    """Expired tokens, future tokens and tokens with invalid times are refused."""
    assert reason in refused(secret, signed(claims(NOW_US, **others)))


@pytest.mark.parametrize("others", [{"lasts": 1 - LEEWAY}, {"nbf": NOW_US // 10**6 + LEEWAY}])
def test_clocks_may_differ_by_the_leeway(secret: AuthOptions, others: dict[str, Any]) -> None:
    """A token is accepted within AUTH_LEEWAY_SECONDS outside of its time."""
    assert claims_of(secret, signed(claims(NOW_US, **others)))["subject"] == "ada"


# Invalid tokens.


@pytest.mark.parametrize("missing", ["sub", "exp"])
def test_a_token_needs_a_subject_and_an_end(secret: AuthOptions, missing: str) -> None:
    """Tokens without `sub` or without `exp` are refused."""
    token_claims = claims(NOW_US)
    del token_claims[missing]
    assert refused(secret, signed(token_claims)) == f"the token has no `{missing}` claim"


def encoded(token_claims: dict[str, Any]) -> str:
    """Sign any claims: PyJWT refuses to encode some."""
    token = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(token_claims)}"
    signature = hmac.new(SECRET.encode(), token.encode(), hashlib.sha256).digest()
    return f"{token}.{part(signature)}"


@pytest.mark.parametrize("others", [{"sub": ""}, {"sub": 1}, {"sub": "\ud83d"}, {"iss": ["x"]}], ids=repr)
def test_a_subject_and_an_issuer_are_text(secret: AuthOptions, others: dict[str, Any]) -> None:
    """Without them the token names no user."""
    refused(secret, encoded(claims(NOW_US) | others))


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_a_large_integer_is_an_int64(secret: AuthOptions, number: int) -> None:
    """At any depth; many issuers number their users and tenants like this."""
    seen = claims_of(secret, encoded(claims(NOW_US) | {"tenant": number, "groups": [{"id": number}, 5]}))
    assert (seen["tenant"], seen["groups"]) == (number, [{"id": number}, 5])
    assert type(seen["tenant"]) is type(seen["groups"][0]["id"]) is Int64
    assert type(seen["groups"][1]) is int


@pytest.mark.parametrize(
    "others",
    [{"n": 2**63}, {"n": [10**400]}, {"$a": 1}, {"a": {"$a": 1}}, {"name": "\ud83d"}, {"a": json.loads("[" * 70 + "]" * 70)}],
    ids=lambda others: repr(others)[:20],
)  # fmt: skip
def test_a_claim_that_is_not_a_value_is_left_out(secret: AuthOptions, others: dict[str, Any]) -> None:
    """And nothing else is: the user signs in."""
    seen = claims_of(secret, encoded(claims(NOW_US) | others))
    assert seen["subject"] == "ada"
    assert others.keys().isdisjoint(seen)


def test_another_issuer_or_audience_is_refused(tmp_path: Path) -> None:
    """A token of another issuer, or for another audience, is not accepted."""
    options = secret_options(tmp_path, audience="mine", issuer=ISSUER)
    assert refused(options, signed(claims(NOW_US, aud="theirs"))) == "the token is for another audience"
    assert refused(options, signed(claims(NOW_US))) == "the token has no `aud` claim"
    assert (
        refused(options, signed(claims(NOW_US, aud="mine", iss="https://else.test")))
        == "the token is from another issuer"
    )


def test_another_secret_is_refused(secret: AuthOptions) -> None:
    """A signature with an unknown secret is invalid."""
    assert refused(secret, signed(claims(NOW_US), OTHER_SECRET)) == "the token's signature is wrong"


@pytest.mark.parametrize(("key", "algorithm", "key_id"), [(rsa_key("x"), "RS256", "r"), (ec_key("x"), "ES256", "e")])
def test_another_private_key_is_refused(public: AuthOptions, key: Any, algorithm: str, key_id: str) -> None:
    """The key id is only a claim: the signature decides."""
    token = jwt.encode(claims(NOW_US), key, algorithm, headers={"kid": key_id})
    assert refused(public, token) == "the token's signature is wrong"


def test_a_tampered_token_is_refused(secret: AuthOptions) -> None:
    """The claims of one token with the signature of another are refused."""
    header, _, signature = signed(claims(NOW_US)).split(".")
    assert (
        refused(secret, f"{header}.{part(claims(NOW_US, subject='eve'))}.{signature}")
        == "the token's signature is wrong"
    )


@pytest.mark.parametrize("algorithm", ["none", "None", "HS384", "PS256", "EdDSA", 1, None, ["HS256"], {}])
def test_other_algorithms_are_refused(secret: AuthOptions, public: AuthOptions, algorithm: object) -> None:
    """No token is accepted without a signature, and none chooses its own algorithm."""
    token = f"{part({'alg': algorithm})}.{part(claims(NOW_US))}."
    refused(secret, token)
    refused(public, token)


@pytest.mark.parametrize("with_secret", [True, False])
def test_a_public_key_is_not_a_secret(tmp_path: Path, public: AuthOptions, *, with_secret: bool) -> None:
    """HS256 with the bytes of a public key is refused."""
    options = AuthOptions(secret_options(tmp_path).secret_file if with_secret else None, public.jwks)
    unsigned = f"{part({'alg': 'HS256', 'kid': 'r'})}.{part(claims(NOW_US))}"
    signature = hmac.new(public_pem(rsa_key()), unsigned.encode(), hashlib.sha256).digest()
    refused(options, f"{unsigned}.{part(signature)}")


def test_a_key_is_for_its_own_algorithm(public: AuthOptions) -> None:
    """A token that names an RSA key with ES256 finds no key."""
    assert refused(public, jwt.encode(claims(NOW_US), ec_key(), "ES256", headers={"kid": "r"})).endswith(
        "has no such ES256 key"
    )


def test_a_secret_does_not_check_what_asks_for_a_key(secret: AuthOptions) -> None:
    """Without a key set, RS256 is refused."""
    assert "does not accept" in refused(secret, jwt.encode(claims(NOW_US), rsa_key(), "RS256"))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "not a token",
        part(b"[" * 5000) + ".e30.",
        part({"alg": "HS256"}) + "." + part(b"[" * 3000) + ".",
        part([]) + ".e30.",
        part(b"\xff\xfe") + ".e30.x",
        "\ud800.e30.x",
        part({"alg": "HS256", "crit": ["exp"]}) + ".e30.x",
        part({"alg": "HS256", "kid": 7}) + ".e30.x",
        part({"alg": "HS256"}) + ".e30",
        part({"alg": "HS256"}) + ".e30.x.x.x",
        "x" * (limits.AUTH_TOKEN_LENGTH_MAX + 1),
    ],
    ids=lambda token: repr(token[:24]),
)
def test_other_input_is_refused(secret: AuthOptions, token: str) -> None:
    """Any other input is refused with Unauthenticated."""
    refused(secret, token)


def test_what_a_header_demands_must_be_understood(secret: AuthOptions) -> None:
    """RFC 7515 section 4.1.11: a token with critical extensions is refused, even if correctly signed."""
    token = jwt.encode(claims(NOW_US), SECRET, "HS256", headers={"crit": ["b64"], "b64": True})
    assert "does not support" in refused(secret, token)


def test_random_changes_of_a_token_are_refused(secret: AuthOptions) -> None:
    """Changing any character invalidates a token, except for bits that its encoding does not use."""
    token = signed(claims(NOW_US))
    generator = random.Random(7)
    for _ in range(300):
        place = generator.randrange(len(token) - 1)
        other = generator.choice([c for c in "abcXYZ019-_.=\0é{" if c != token[place]])
        refused(secret, token[:place] + other + token[place + 1 :])


def test_reasons_do_not_repeat_the_token(secret: AuthOptions) -> None:
    """Logs and clients get the reason of a refusal, never the token."""
    token = signed(claims(NOW_US), OTHER_SECRET)
    assert not any(piece in refused(secret, token) for piece in token.split("."))


# Starting.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"short", "5 bytes"),
        (b"-----BEGIN PUBLIC KEY-----\n" + b"x" * 64, "not a secret"),
        (b"ssh-rsa " + b"x" * 64, "not a secret"),
    ],
)
def test_a_weak_secret_does_not_start(tmp_path: Path, text: bytes, reason: str) -> None:
    """A guessable or well-known secret is refused at the start."""
    (tmp_path / "secret").write_bytes(text)
    with pytest.raises(StartError, match=reason):
        UserTokens(AuthOptions(secret_file=tmp_path / "secret"), Clock())


def test_a_missing_secret_does_not_start(tmp_path: Path) -> None:
    """The message has the option and the file."""
    with pytest.raises(StartError, match="--auth-secret-file.*nowhere"):
        UserTokens(AuthOptions(secret_file=tmp_path / "nowhere"), Clock())


@pytest.mark.parametrize("package", ["jwt", "cryptography"])
def test_the_message_about_a_missing_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """The message names the extra."""
    original: Callable[..., Any] = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ImportError(name, name=name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StartError, match=r"pip install 'tinyvex\[auth\]'"):
        import_jwt(with_public_keys=True)
