"""Public keys for user tokens: which keys are used, and when a set is fetched again; over HTTP on this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.tokens import claims, ec_key, jwk, key_set, rsa_key, signed
from tinyvex import limits
from tinyvex.errors import Overloaded, StartError, TinyvexError, Unauthenticated
from tinyvex.runtime import Runtime
from tinyvex.server.access.jwks import KeySet, open_key_set, parse_keys
from tinyvex.server.access.jwt import UserTokens
from tinyvex.server.access.verification_key import VerificationKey
from tinyvex.server.options import AuthOptions
from tinyvex.sync.identity import UserIdentity

PATIENCE_SECONDS = 10.0


class Clock(Runtime):
    """The real runtime with a clock that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0
        self.bind(asyncio.get_running_loop())

    def monotonic(self) -> float:
        return self.seconds


class Issuer:
    """A web server with a key set."""

    def __init__(self) -> None:
        self.body = key_set(jwk(ec_key(), "e1"))
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                issuer.may_answer.wait(PATIENCE_SECONDS)
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.may_answer.set()
    found.server.shutdown()
    found.server.server_close()
    thread.join()


async def find(keys: KeySet, key_id: str | None, algorithm: str = "ES256") -> VerificationKey | TinyvexError:
    answer: asyncio.Future[VerificationKey | TinyvexError] = asyncio.get_running_loop().create_future()
    keys.find(algorithm, key_id, answer.set_result)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await answer


@pytest.fixture
async def keys(issuer: Issuer) -> Any:
    """Return a key set at the issuer, with its clock as `clock`."""
    clock = Clock()
    found = open_key_set(issuer.url, clock)
    found.clock = clock
    yield found
    found.close()


async def test_keys_are_fetched_when_the_first_token_comes(keys: Any) -> None:
    """The token waits until the set has arrived."""
    assert isinstance(await find(keys, "e1"), VerificationKey)


async def test_a_known_key_is_not_fetched_again(keys: Any, issuer: Issuer) -> None:
    """A single fetch serves all tokens."""
    for _ in range(10):
        await find(keys, "e1")
    assert issuer.requests == 1


async def test_many_tokens_wait_for_one_fetch(keys: Any, issuer: Issuer) -> None:
    """There is one fetch, however many tokens arrive before its response."""
    issuer.may_answer.clear()
    waiting = [asyncio.ensure_future(find(keys, "e1")) for _ in range(20)]
    await asyncio.sleep(0)
    issuer.may_answer.set()
    assert all(isinstance(found, VerificationKey) for found in await asyncio.gather(*waiting))
    assert issuer.requests == 1


async def test_a_new_key_is_found_when_a_token_names_it(keys: Any, issuer: Issuer) -> None:
    """Keys are rotated: an unknown id causes a new fetch, and withdrawn keys disappear."""
    await find(keys, "e1")
    issuer.body = key_set(jwk(ec_key("next"), "e2"))
    keys.clock.seconds += limits.AUTH_REFETCH_SECONDS
    assert isinstance(await find(keys, "e2"), VerificationKey)
    assert isinstance(await find(keys, "e1"), Unauthenticated)


async def test_unknown_keys_fetch_at_most_once_a_minute(keys: Any, issuer: Issuer) -> None:
    """A client with invented key ids cannot make the server contact the issuer repeatedly."""
    await find(keys, "e1")
    keys.clock.seconds += limits.AUTH_REFETCH_SECONDS - 0.1
    for number in range(20):
        assert isinstance(await find(keys, f"made up {number}"), Unauthenticated)
    assert issuer.requests == 1
    keys.clock.seconds += 0.1
    for number in range(20):
        assert isinstance(await find(keys, f"made up {number}"), Unauthenticated)
    assert issuer.requests == 2


async def test_what_cannot_be_fetched_is_tried_again_soon(keys: Any, issuer: Issuer) -> None:
    """A short outage of the issuer does not lock users out for a minute."""
    issuer.status = 500
    assert isinstance(await find(keys, "e1"), Unauthenticated)
    issuer.status = 200
    assert isinstance(await find(keys, "e1"), Unauthenticated)
    keys.clock.seconds += limits.AUTH_RETRY_SECONDS
    assert isinstance(await find(keys, "e1"), VerificationKey)


async def test_the_error_of_the_last_fetch_is_known(keys: Any, issuer: Issuer) -> None:
    """The next successful fetch clears the error."""
    issuer.status = 500
    await find(keys, "e1")
    assert "answered 500" in keys.error
    issuer.status = 200
    keys.clock.seconds += limits.AUTH_RETRY_SECONDS
    await find(keys, "e1")
    assert keys.error is None


async def test_keys_stay_in_use_while_the_issuer_is_away(keys: Any, issuer: Issuer) -> None:
    """A failed fetch leaves the previous set in use."""
    await find(keys, "e1")
    issuer.body = b"<html>we are sorry</html>"
    keys.clock.seconds += limits.AUTH_FRESH_SECONDS + 1
    assert isinstance(await find(keys, "e1"), VerificationKey)
    await find(keys, "made up")
    assert issuer.requests == 2
    assert isinstance(await find(keys, "e1"), VerificationKey)


async def test_old_keys_are_no_longer_used(keys: Any, issuer: Issuer) -> None:
    """Keys that could not be confirmed for AUTH_KEYS_SECONDS_MAX may have been withdrawn."""
    await find(keys, "e1")
    issuer.status = 404
    keys.clock.seconds += limits.AUTH_KEYS_SECONDS_MAX + 1
    assert isinstance(await find(keys, "e1"), Unauthenticated)


async def test_a_withdrawn_key_expires_without_an_unknown_one(keys: Any, issuer: Issuer) -> None:
    """A set older than AUTH_FRESH_SECONDS is fetched again in the background while it is used."""
    await find(keys, "e1")
    issuer.body = key_set(jwk(ec_key("next"), "e2"))
    keys.clock.seconds += limits.AUTH_FRESH_SECONDS + 1
    assert isinstance(await find(keys, "e1"), VerificationKey)
    assert isinstance(await find(keys, "e2"), VerificationKey)
    assert isinstance(await find(keys, "e1"), Unauthenticated)


async def test_the_wait_for_keys_is_bounded(keys: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a fetch hangs, tokens are answered at the deadline; its late result still counts."""
    monkeypatch.setattr(limits, "AUTH_FETCH_SECONDS", 0.05)
    issuer.may_answer.clear()
    keys._read = lambda: issuer.may_answer.wait(PATIENCE_SECONDS) and issuer.body
    assert isinstance(await find(keys, "e1"), Unauthenticated)
    assert isinstance(await find(keys, "e1"), Unauthenticated)
    issuer.may_answer.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not isinstance(await find(keys, "e1"), VerificationKey):
            await asyncio.sleep(0)


async def test_redirects_are_not_followed(keys: Any, issuer: Issuer) -> None:
    """A redirect could lead to an unsafe source of keys."""
    issuer.status, issuer.headers = 302, {"Location": issuer.url}
    assert isinstance(await find(keys, "e1"), Unauthenticated)
    assert issuer.requests == 1


async def test_a_huge_set_is_refused(keys: Any, issuer: Issuer) -> None:
    """At most AUTH_KEYS_BYTES_MAX are read."""
    issuer.body += b" " * limits.AUTH_KEYS_BYTES_MAX
    assert isinstance(await find(keys, "e1"), Unauthenticated)


async def test_tokens_that_wait_are_bounded(keys: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token beyond AUTH_WAITING_MAX is refused with Overloaded."""
    monkeypatch.setattr(limits, "AUTH_WAITING_MAX", 1)
    issuer.may_answer.clear()
    first = asyncio.ensure_future(find(keys, "e1"))
    await asyncio.sleep(0)
    assert isinstance(await find(keys, "e1"), Overloaded)
    issuer.may_answer.set()
    assert isinstance(await first, VerificationKey)


async def test_a_token_is_checked_with_a_fetched_key(issuer: Issuer) -> None:
    """The whole path works, from the URL to the identity."""
    clock = Clock()
    tokens = UserTokens(AuthOptions(jwks=issuer.url), clock)
    tokens.start()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    tokens.check(jwt.encode(claims(clock.now_us()), ec_key(), "ES256", headers={"kid": "e1"}), answer.set_result)
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcome = await answer
    assert isinstance(outcome, UserIdentity)
    tokens.close()


async def test_a_secret_is_never_looked_for(issuer: Issuer) -> None:
    """HS256 is not an algorithm of a key set: such a token is refused immediately, without a fetch."""
    clock = Clock()
    tokens = UserTokens(AuthOptions(jwks=issuer.url), clock)
    outcomes: list[Any] = []
    tokens.check(signed(claims(clock.now_us())), outcomes.append)
    assert [type(outcome) for outcome in outcomes] == [Unauthenticated]
    tokens.close()
    assert issuer.requests == 0


async def test_a_file_is_read_again_too(tmp_path: Path) -> None:
    """Keys in a file are rotated by replacing the file."""
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(ec_key(), "e1")))
    clock = Clock()
    found = open_key_set(str(path), clock)
    path.write_bytes(key_set(jwk(ec_key("next"), "e2")))
    clock.seconds += limits.AUTH_REFETCH_SECONDS
    assert isinstance(await find(found, "e2"), VerificationKey)
    found.close()


@pytest.mark.parametrize("place", ["http://issuer.test/keys", "http://127.0.0.1.issuer.test/keys", "http://[::2]/keys"])
def test_keys_come_by_https_or_from_this_machine(place: str) -> None:
    """An attacker who can replace keys in transit could sign in as any user."""
    with pytest.raises(StartError, match="https"):
        open_key_set(place, Runtime())


@pytest.mark.parametrize("text", [None, b"", b"[]", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [7]}', b"\xff"])
def test_a_file_without_keys_does_not_start(tmp_path: Path, text: bytes | None) -> None:
    """The start reports the problem with the file, and the option."""
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(StartError, match="--auth-jwks"):
        open_key_set(str(path), Runtime())


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        jwk(rsa_key(), "r") | {"use": "enc"},
        jwk(rsa_key(), "r") | {"alg": "RS512"},
        jwk(rsa_key(), "r") | {"alg": "HS256"},
        jwk(rsa_key("small", 1024), "r"),
        jwk(ec_key(), "e") | {"crv": "P-384"},
        jwk(ec_key(), "e") | {"x": "AAAA"},
        jwk(ec_key(), "e") | {"d": "AAAA"},
        jwk(rsa_key(), "r") | {"n": 5},
        {"kty": ["RSA"]},
        {"kty": "oct"},
        jwk(ec_key(), "e") | {"use": {}},
        jwk(ec_key(), "e") | {"alg": "none"},
        jwk(rsa_key(), "r") | {"alg": ["RS256"]},
        "a text",
    ],
    ids=[
        "symmetric",
        "for encryption",
        "another algorithm",
        "a symmetric algorithm",
        "short",
        "another curve",
        "not on the curve",
        "private",
        "no number",
        "no name of a kind",
        "symmetric without a key",
        "a use that is not a string",
        "unsigned",
        "an algorithm that is not a string",
        "no object",
    ],
)
def test_keys_of_other_kinds_are_left_out(entry: Any) -> None:
    """
    Symmetric, weak, private and damaged keys, and those for other purposes, are ignored; the others of the set are
    used.
    """
    assert [key_id for key_id, _ in parse_keys(key_set(entry, jwk(ec_key(), "good")))] == ["good"]


def test_a_key_has_one_algorithm() -> None:
    """RSA keys verify RS256, P-256 keys ES256."""
    found = parse_keys(key_set(jwk(rsa_key(), "r"), jwk(ec_key(), "e")))
    assert [(key_id, key.algorithm) for key_id, key in found] == [("r", "RS256"), ("e", "ES256")]


@pytest.mark.parametrize("audience", [None, "my-app"])
async def test_a_key_set_without_an_audience_is_warned_of(
    issuer: Issuer, audience: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The issuer's tokens for other apps would be accepted."""
    UserTokens(AuthOptions(jwks=issuer.url, audience=audience), Clock()).close()
    assert ("--auth-jwks without --auth-audience" in caplog.text) is (audience is None)
