"""
Public keys: a JSON Web Key Set (RFC 7517) in a file or at a URL, and when it is read again.

::

    asked for a key ──► known ───────────────────────────────► it; one older than AUTH_FRESH_SECONDS is read again beside
                    └─► unknown ──► may be read again now ───► wait, look again
                                └─► was read a moment ago ───► Unauthenticated

It is read on a thread of its own, which is all that happens there; what was read is understood on the loop.
A set that cannot be read leaves the one before in use, for AUTH_KEYS_SECONDS_MAX.
"""

from __future__ import annotations

import ipaddress
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
from tinyvex.server.access.jwt import Key

if TYPE_CHECKING:
    import asyncio

    from tinyvex.runtime import Runtime, Worker

__all__ = ["KeySet", "open_key_set", "parse_keys"]

log = logging.getLogger("tinyvex.server")

Found = Callable[[Key | TinyvexError], None]
Keys = list[tuple[str | None, Key]]


def open_key_set(place: str, runtime: Runtime) -> KeySet:
    """
    A key set that is read from a file now, or from a URL soon.

    Raises:
        StartError: the file has no keys, or the URL is neither https nor this machine's.
    """
    scheme = urlsplit(place).scheme
    if scheme not in {"http", "https"}:
        path = Path(place)
        read = partial(_read_file, path)
        try:
            return KeySet(read, runtime, parse_keys(read()))
        except (OSError, ValueError) as error:
            raise StartError(f"--auth-jwks {place}: {_sentence(error)}") from None
    if scheme == "http" and not _is_loopback(urlsplit(place).hostname):
        raise StartError(f"--auth-jwks {place}: keys are fetched by https only, except from this machine")
    return KeySet(partial(_fetch, place, runtime.monotonic), runtime)


class KeySet:
    """
    Keys by their ids.

    Args:
        read: reads the set; called on a thread of its own.
        runtime: clock and threads.
        keys: the set, if it was read already.
    """

    def __init__(self, read: Callable[[], bytes], runtime: Runtime, keys: Keys | None = None) -> None:
        self._read, self._runtime = read, runtime
        self._keys: Keys = keys or []
        now = runtime.monotonic()
        self._read_at = None if keys is None else now
        """When reading the keys in use began."""
        self._tried_at = -math.inf if keys is None else now
        self._reading = False
        self._waiting: list[tuple[str, str | None, Found]] = []
        self._worker: Worker | None = None
        self._patience: asyncio.TimerHandle | None = None  # while a set is being read, and not for too long yet

    def start(self) -> None:
        """Read the set if it was not read yet."""
        if self._read_at is None:
            self._read_again()

    def find(self, algorithm: str, key_id: str | None, found: Found) -> None:
        """The key of a token; `found` is called once, at once or when the set was read again."""
        now = self._runtime.monotonic()
        if self._read_at is not None and now - self._read_at > limits.AUTH_KEYS_SECONDS_MAX:
            self._keys = []  # some of them may have been withdrawn long ago
        pause = limits.AUTH_REFETCH_SECONDS if self._tried_at == self._read_at else limits.AUTH_RETRY_SECONDS
        may_read = now - self._tried_at >= pause
        key = self._known(algorithm, key_id)
        if key is not None:
            if may_read and self._read_at is not None and now - self._read_at > limits.AUTH_FRESH_SECONDS:
                self._read_again()
            found(key)
        elif len(self._waiting) >= limits.AUTH_WAITING_MAX:
            found(Overloaded(f"{len(self._waiting)} tokens wait for keys, which is the limit"))
        elif self._patience is not None or (may_read and not self._reading):
            self._waiting.append((algorithm, key_id, found))
            self._read_again()
        else:
            found(_unknown(algorithm, key_id))

    def close(self) -> None:
        """Read no more."""
        self._waiting.clear()
        if self._patience is not None:
            self._patience.cancel()
        if self._worker is not None:
            self._worker.stop(timeout_seconds=0)

    def _known(self, algorithm: str, key_id: str | None) -> Key | None:
        """By id; without one only where there is no choice."""
        keys = [
            key for known_id, key in self._keys if key.algorithm == algorithm and (key_id is None or key_id == known_id)
        ]
        return keys[0] if len(keys) == 1 else None

    def _read_again(self) -> None:
        if self._reading:
            return
        self._reading = True
        self._tried_at = self._runtime.monotonic()
        self._patience = self._runtime.loop.call_later(limits.AUTH_FETCH_SECONDS, self._lose_patience)
        if self._worker is None:
            self._worker = self._runtime.start_worker("tinyvex-keys", self._step)
        else:
            self._worker.wake()

    def _step(self) -> bool:
        """On the thread."""
        try:
            outcome: bytes | Exception = self._read()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            outcome = error
        self._runtime.post(self._was_read, outcome)
        return False

    def _lose_patience(self) -> None:
        """Who waits is told that there is no such key; a look-up of a name, or an issuer that drips, may take for ever."""
        self._patience = None
        log.warning("the keys of --auth-jwks are still not read after %g s", limits.AUTH_FETCH_SECONDS)
        self._answer_waiting()

    def _was_read(self, outcome: bytes | Exception) -> None:
        self._reading = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        try:
            if isinstance(outcome, Exception):
                raise outcome
            self._keys = parse_keys(outcome)
            self._read_at = self._tried_at
        except Exception as error:  # noqa: BLE001 - as above: the keys before stay in use
            log.warning("the keys of --auth-jwks could not be read: %s", _sentence(error))
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for algorithm, key_id, found in waiting:
            found(self._known(algorithm, key_id) or _unknown(algorithm, key_id))


def _unknown(algorithm: str, key_id: str | None) -> Unauthenticated:
    which = "without a key id" if key_id is None else f"with the id {key_id[:64]!r}"
    return Unauthenticated(f"there is no {algorithm} key {which}")


def parse_keys(text: bytes) -> Keys:
    """
    The keys of a set that can be used; others, of other kinds and for other ends, are left out.

    Raises:
        ValueError: it is no key set, or none of its keys can be used.
    """
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("this is no JSON Web Key Set") from None
    if not isinstance(entries, list) or len(entries) > limits.AUTH_KEYS_MAX:
        raise ValueError(f"a key set is a list of at most {limits.AUTH_KEYS_MAX} keys")
    found = [(entry.get("kid"), key) for entry in entries if isinstance(entry, dict) and (key := _key(entry))]
    if not found:
        raise ValueError("none of its keys can be used: RSA (2048 bits or more) for RS256, P-256 for ES256")
    return found


def _key(entry: dict[str, Any]) -> Key | None:
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    algorithm = {"RSA/None": "RS256", "EC/P-256": "ES256"}.get(f"{entry.get('kty')}/{entry.get('crv')}")
    if (
        algorithm is None
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or "d" in entry
    ):
        return None
    try:
        value = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(value, rsa.RSAPublicKey):
        return Key(algorithm, value) if value.key_size >= limits.AUTH_RSA_BITS_MIN else None
    return Key(algorithm, value) if isinstance(value, ec.EllipticCurvePublicKey) else None


# Reading; on the thread.


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _within_limit(file.read(limits.AUTH_KEYS_BYTES_MAX + 1))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could lead anywhere, also to where there is no encryption."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _fetch(url: str, clock: Callable[[], float]) -> bytes:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(urlsplit(url).hostname):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    deadline = clock() + limits.AUTH_FETCH_SECONDS
    text = b""
    try:
        response = opener.open(url, timeout=limits.AUTH_FETCH_SECONDS)
    except urllib.error.HTTPError as error:
        with error:  # it is the response, too
            raise ValueError(f"{url} answers {error.code} {error.reason}; redirects are not followed") from None
    with response:
        while piece := response.read1(limits.AUTH_KEYS_BYTES_MAX):
            text = _within_limit(text + piece)
            if clock() > deadline:
                raise TimeoutError(f"it took longer than {limits.AUTH_FETCH_SECONDS:g} s")
    return text


def _within_limit(text: bytes) -> bytes:
    if len(text) > limits.AUTH_KEYS_BYTES_MAX:
        raise ValueError(f"it has more than {limits.AUTH_KEYS_BYTES_MAX:,} bytes")
    return text


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sentence(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)
