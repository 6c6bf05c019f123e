"""
Public keys: a JSON Web Key Set (RFC 7517) in a file or at a URL, and when it is fetched again.

::

    find(key) ──► known ─────────────────────────────────────► the key; a set older than AUTH_FRESH_SECONDS is
              │                                                fetched again in the background
              └─► unknown ──► the set may be fetched again ──► wait for it, then look again
                          └─► it was fetched only recently ──► Unauthenticated

A worker thread fetches the set; everything else runs on the loop. If a fetch fails, the last set stays in use, for
AUTH_KEYS_SECONDS_MAX.

PyJWT parses each key. Its `PyJWKSet` is not used, because one malformed entry can make it reject the whole set. Its
`PyJWKClient` is not used, because it blocks its caller, bounds neither the size of a set nor the total time of a fetch,
reads no files, and rejects every token once a set has expired while the issuer is unreachable.
"""

from __future__ import annotations

import json
import logging
import math
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tinyvex import limits
from tinyvex.errors import Overloaded, StartError, TinyvexError, Unauthenticated
from tinyvex.server.access.origin_rules import is_loopback, printable
from tinyvex.server.access.verification_key import VerificationKey

if TYPE_CHECKING:
    import asyncio

    from tinyvex.runtime import Runtime, Worker

__all__ = ["KeySet", "open_key_set", "parse_keys"]

log = logging.getLogger("tinyvex.server")

KeyFound = Callable[[VerificationKey | TinyvexError], None]
Keys = list[tuple[str | None, VerificationKey]]


def open_key_set(location: str, runtime: Runtime) -> KeySet:
    """
    Return the key set in a file, which is read immediately, or at a URL, which is fetched later.

    Raises:
        StartError: the file has no usable keys, or the URL is neither https nor on this machine.
    """
    scheme = urlsplit(location).scheme
    if scheme not in {"http", "https"}:
        read = partial(_read_file, Path(location))
        try:
            return KeySet(read, runtime, parse_keys(read()))
        except (OSError, ValueError) as error:
            raise StartError(f"--auth-jwks `{location}`: {_sentence(error)}") from None
    if scheme == "http" and not _is_on_this_machine(location):
        raise StartError(f"--auth-jwks `{location}`: use https; http is allowed only for this machine")
    return KeySet(partial(_fetch, location, runtime.monotonic), runtime)


class KeySet:
    """
    Keys by their ids.

    Args:
        read: returns the encoded set; called on a worker thread.
        runtime: clock and threads.
        keys: the set, if it was read already.

    Attributes:
        error: the sentence about the last fetch if it failed; None if it succeeded.
    """

    def __init__(self, read: Callable[[], bytes], runtime: Runtime, keys: Keys | None = None) -> None:
        self.error: str | None = None
        self._read, self._runtime = read, runtime
        self._keys: Keys = keys or []
        now = runtime.monotonic()
        self._fetched_at = None if keys is None else now
        """The start of the fetch that returned the keys in use."""
        self._tried_at = -math.inf if keys is None else now
        self._is_fetching = False
        self._waiting: list[tuple[str, str | None, KeyFound]] = []
        self._worker: Worker | None = None
        self._time_limit: asyncio.TimerHandle | None = None  # of the fetch under way, until it has passed

    def start(self) -> None:
        """Fetch the set if it was not read yet."""
        if self._fetched_at is None:
            self._fetch_again()

    def find(self, algorithm: str, key_id: str | None, found: KeyFound) -> None:
        """Call `found` once with the key of a token: immediately, or when the set was fetched again."""
        now = self._runtime.monotonic()
        if self._fetched_at is not None and now - self._fetched_at > limits.AUTH_KEYS_SECONDS_MAX:
            self._keys = []  # the issuer may have withdrawn some of them long ago
        pause = limits.AUTH_REFETCH_SECONDS if self._tried_at == self._fetched_at else limits.AUTH_RETRY_SECONDS
        may_fetch = now - self._tried_at >= pause
        key = self._known(algorithm, key_id)
        if key is not None:
            if may_fetch and self._fetched_at is not None and now - self._fetched_at > limits.AUTH_FRESH_SECONDS:
                self._fetch_again()
            found(key)
        elif len(self._waiting) >= limits.AUTH_WAITING_MAX:
            found(Overloaded(f"{len(self._waiting)} tokens are waiting for keys, which is the limit"))
        elif self._time_limit is not None or (may_fetch and not self._is_fetching):
            self._waiting.append((algorithm, key_id, found))
            self._fetch_again()
        else:
            found(_unknown(algorithm, key_id))

    def close(self) -> None:
        """Fetch no more. Tokens that are waiting get no answer."""
        self._waiting.clear()
        if self._time_limit is not None:
            self._time_limit.cancel()
        if self._worker is not None:
            self._worker.stop(timeout_seconds=0)

    def _known(self, algorithm: str, key_id: str | None) -> VerificationKey | None:
        """Return the key with this id; without an id, the only key of the algorithm."""
        keys = [
            key for known_id, key in self._keys if key.algorithm == algorithm and (key_id is None or key_id == known_id)
        ]
        return keys[0] if len(keys) == 1 else None

    def _fetch_again(self) -> None:
        if self._is_fetching:
            return
        self._is_fetching = True
        self._tried_at = self._runtime.monotonic()
        self._time_limit = self._runtime.loop.call_later(limits.AUTH_FETCH_SECONDS, self._exceed_time_limit)
        if self._worker is None:
            self._worker = self._runtime.start_worker("tinyvex-keys", self._step)
        else:
            self._worker.wake()

    def _step(self) -> bool:
        """Fetch the set; called on the worker thread."""
        try:
            outcome: bytes | Exception = self._read()
        except Exception as error:  # noqa: BLE001 - waiting tokens must be answered, whatever the error is
            outcome = error
        self._runtime.post(self._receive, outcome)
        return False

    def _exceed_time_limit(self) -> None:
        """Answer waiting tokens although the fetch goes on: a name lookup or a slow issuer may block indefinitely."""
        self._time_limit = None
        self.error = f"the keys of --auth-jwks have not been fetched within {limits.AUTH_FETCH_SECONDS:g} s"
        log.warning("%s", self.error)
        self._answer_waiting()

    def _receive(self, outcome: bytes | Exception) -> None:
        self._is_fetching = False
        if self._time_limit is not None:
            self._time_limit.cancel()
            self._time_limit = None
        try:
            if isinstance(outcome, Exception):
                raise outcome
            self._keys = parse_keys(outcome)
            self._fetched_at = self._tried_at
            self.error = None
        except Exception as error:  # noqa: BLE001 - as above; the last keys stay in use
            self.error = f"the keys of --auth-jwks cannot be fetched: {_sentence(error)}"
            log.warning("%s", self.error)
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for algorithm, key_id, found in waiting:
            found(self._known(algorithm, key_id) or _unknown(algorithm, key_id))


def _unknown(algorithm: str, key_id: str | None) -> Unauthenticated:
    which = "the token names no key" if key_id is None else f"the token names the key `{printable(key_id)}`"
    return Unauthenticated(f"{which}, and the key set has no such {algorithm} key")


def parse_keys(text: bytes) -> Keys:
    """
    Return the usable keys of a set: RSA for RS256, P-256 for ES256. Keys for other uses are left out.

    Raises:
        ValueError: the text is not a key set, or has no usable key.
    """
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("not a JSON Web Key Set") from None
    if not isinstance(entries, list) or len(entries) > limits.AUTH_KEYS_MAX:
        raise ValueError(f"a key set is a list of at most {limits.AUTH_KEYS_MAX} keys")
    keys = [
        (entry.get("kid"), key)
        for entry in entries
        if isinstance(entry, dict) and (key := _verification_key(entry)) is not None
    ]
    if not keys:
        raise ValueError("no usable key; tinyvex needs RSA keys of at least 2048 bits (RS256) or P-256 keys (ES256)")
    return keys


def _verification_key(entry: dict[str, Any]) -> VerificationKey | None:
    """Return a key that is public, strong enough and meant for signatures; None for another or a malformed one."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        parsed = jwt.PyJWK(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    key, algorithm = parsed.key, parsed.algorithm_name
    is_rsa = algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey) and key.key_size >= limits.AUTH_RSA_BITS_MIN
    is_ec = algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if parsed.public_key_use not in ("sig", None) or not (is_rsa or is_ec):  # a tuple: it may be unhashable
        return None
    return VerificationKey(algorithm, key)


# Reading, on the worker thread.


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _within_limit(file.read(limits.AUTH_KEYS_BYTES_MAX + 1))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to a host without encryption."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _fetch(url: str, clock: Callable[[], float]) -> bytes:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_on_this_machine(url):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    deadline = clock() + limits.AUTH_FETCH_SECONDS
    text = b""
    try:
        response = opener.open(url, timeout=limits.AUTH_FETCH_SECONDS)
    except urllib.error.HTTPError as error:
        with error:  # it is the response, too
            raise ValueError(f"`{url}` answered {error.code} {error.reason}; redirects are not followed") from None
    with response:
        while piece := response.read1(limits.AUTH_KEYS_BYTES_MAX):
            text = _within_limit(text + piece)
            if clock() > deadline:
                raise TimeoutError(f"the fetch took longer than {limits.AUTH_FETCH_SECONDS:g} s")
    return text


def _within_limit(text: bytes) -> bytes:
    if len(text) > limits.AUTH_KEYS_BYTES_MAX:
        raise ValueError(f"the key set is larger than {limits.AUTH_KEYS_BYTES_MAX:,} bytes")
    return text


def _is_on_this_machine(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


def _sentence(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
