"""
Tokens that survive restarts: issued for a one-time code, or for a monitor, stored as hashes, revocable.

::

    tinyvex pair ──► DATA/pairing.json   the name of the future token, the hash of a code, its expiry
                          │
    a client sends the code, once
                          ▼
                     DATA/tokens.json    name, hash and time of each token; only the client has the token
                          ▲
    tinyvex tokens ───────┘              lists and revokes; issues tokens that only read health and metrics

The commands reach the server through these files: a user who can write to the data folder owns the database anyway.
Several processes change them, so each change happens under the lock of `DATA/tokens.lock`: otherwise one that had read the
tokens before a revocation would write the revoked token back. The server reads the tokens whenever it admits a client, and
once a second for those that it has admitted. Tokens are synced: a revocation survives a power failure.

Tokens and codes are never logged.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from tinyvex import limits
from tinyvex.errors import DataFolderUnusable, Unauthenticated
from tinyvex.storage.file.data_folder import DataFolder, lock_briefly
from tinyvex.storage.file.private_file import read_private, write_private_file

if TYPE_CHECKING:
    from tinyvex.server.access.audit_log import AuditLog
    from tinyvex.server.access.code_attempts import CodeAttempts
    from tinyvex.server.access.token_uses import TokenUses

__all__ = ["CODE_PREFIX", "PairedToken", "Pairing", "describe"]

log = logging.getLogger("tinyvex.server")

CODE_PREFIX = "pairing:"
"""The prefix that distinguishes a code from a token."""

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, which has no letters that look alike."""
CODE_LENGTH = 8

_WRONG = "the code is wrong, used or expired; create another with `tinyvex pair`"

S = TypeVar("S", bound=Struct)


class PairedToken(Struct, frozen=True):
    """
    A token, without the token itself.

    Attributes:
        id: its number in this data folder, which does not depend on the token.
        name: chosen by the operator.
        digest: the hash of the token.
        created_us: when it was issued, in microseconds since the epoch.
        expires_us: its end; None if it has none.
        is_monitor: it reads health and metrics over HTTP, and admits no client.
    """

    id: str
    name: str
    digest: str
    created_us: int
    expires_us: int | None = None
    is_monitor: bool = False


class _Offer(Struct, frozen=True):
    """A pairing that a client can complete."""

    name: str
    digest: str
    until_us: int
    token_seconds: float | None = None  # the lifetime of the token


class _TokenFile(Struct, frozen=True):
    tokens: list[PairedToken] = []
    next_id: int = 1


class Pairing:
    """
    The pairings and tokens of one data folder.

    Args:
        folder: the data folder.
        now_us: the clock, in microseconds since the epoch.
        secret: returns a new unguessable text, in hexadecimal.
    """

    def __init__(self, folder: Path, now_us: Callable[[], int], secret: Callable[[], str]) -> None:
        self._offer_file = DataFolder(folder).pairing_offer
        self._tokens_file = DataFolder(folder).paired_tokens
        self._lock_file = DataFolder(folder).pairing_lock
        self._now_us = now_us
        self._secret = secret
        self._uses_file = DataFolder(folder).token_uses
        # The files as they were last read, and what was reported of them.
        self._tokens_version: object = None
        self._tokens: list[PairedToken] = []
        self._has_warned = False
        self._reported: dict[str, PairedToken] | None = None
        self._offer_version = _version(self._offer_file)

    # For commands.

    def offer(self, name: str, token_seconds: float | None = None) -> str:
        """
        Open a pairing, which replaces an open one, and return the code for the client.

        Args:
            name: the name of the client's token.
            token_seconds: the lifetime of the token; None if it has no end.

        Raises:
            DataFolderUnusable, DiskFull: the folder cannot be written.
        """
        number = int(self._secret(), 16)
        letters = "".join(ALPHABET[number >> 5 * index & 31] for index in range(CODE_LENGTH))
        until_us = self._now_us() + int(limits.PAIRING_SECONDS * 1e6)
        with self._lock():
            _write(self._offer_file, _Offer(name, _digest(letters), until_us, token_seconds))
        return f"{letters[:4]}-{letters[4:]}"

    def tokens(self) -> list[PairedToken]:
        """Return the tokens that were issued and not revoked, oldest first; none if the file cannot be read."""
        file = _read(self._tokens_file, _TokenFile)
        return [] if file is None else file.tokens

    def issue_monitor(self, name: str) -> str:
        """
        Issue a token that only reads health and metrics, and return it.

        Raises:
            DataFolderUnusable, DiskFull: the folder cannot be written.
        """
        with self._lock():
            file, secret = self._file_to_change(), self._secret()
            token = PairedToken(str(file.next_id), name, _digest(secret), self._now_us(), is_monitor=True)
            _write(self._tokens_file, _TokenFile([*file.tokens, token], file.next_id + 1), sync=True)
        return secret

    def _file_to_change(self) -> _TokenFile:
        """
        Return the content of the file, for a caller that holds the lock and writes the file.

        Raises:
            DataFolderUnusable: the file cannot be read, so writing it would lose tokens.
        """
        file = _read(self._tokens_file, _TokenFile)
        if file is None and self._tokens_file.exists():
            raise DataFolderUnusable(
                f"`{self._tokens_file}` cannot be read; if it is damaged, delete it, which revokes all tokens"
            )
        return _TokenFile() if file is None else file

    def _lock(self) -> AbstractContextManager[None]:
        return lock_briefly(self._lock_file, limits.PAIRING_LOCK_SECONDS)

    def revoke(self, token_id: str) -> bool:
        """
        Revoke a token; return False if no token has this id.

        Raises:
            DataFolderUnusable, DiskFull: the folder cannot be written.
        """
        with self._lock():
            file = self._file_to_change()
            others = [token for token in file.tokens if token.id != token_id]
            if len(others) == len(file.tokens):
                return False
            _write(self._tokens_file, _TokenFile(others, file.next_id), sync=True)
            return True

    # For the server. A start does not import what only paired clients need.

    @cached_property
    def _attempts(self) -> CodeAttempts:
        from tinyvex.server.access.code_attempts import CodeAttempts

        return CodeAttempts(self._now_us)

    @cached_property
    def uses(self) -> TokenUses:
        """The last uses of the tokens."""
        from tinyvex.server.access.token_uses import TokenUses

        return TokenUses(self._uses_file, self._now_us)

    def write_uses(self, *, if_due: bool) -> None:
        """Write the last uses, now or if the last write is long enough ago."""
        if "uses" in vars(self):
            token_ids = {token.id for token in self.valid_tokens()}
            self.uses.write_if_due(token_ids) if if_due else self.uses.write(token_ids)

    def redeem(
        self, code: str, address: str = "", confirm: Callable[[], None] = lambda: None
    ) -> tuple[PairedToken, str]:
        """
        Complete the open pairing and return a new token.

        Args:
            code: the code, as a person may write it.
            address: where it came from; wrong codes are counted by it.
            confirm: called when the code is right, before it is used up; what it raises leaves the code valid.

        Raises:
            Unauthenticated: the code is wrong or expired, or too many wrong ones came from this address.
            DataFolderUnusable, DiskFull: the folder cannot be written; the code stays valid.
        """
        if not self._offer_file.exists():
            raise Unauthenticated(_WRONG)  # a stranger's code takes no lock
        with self._lock():
            offer = self._check_code(code, address)
            confirm()
            file = self._file_to_change()
            secret, now_us = self._secret(), self._now_us()
            expires_us = None if offer.token_seconds is None else now_us + int(offer.token_seconds * 1e6)
            token = PairedToken(str(file.next_id), offer.name, _digest(secret), now_us, expires_us)
            _write(self._tokens_file, _TokenFile([*file.tokens, token], file.next_id + 1), sync=True)
            if not _remove(self._offer_file):
                _write(self._tokens_file, file, sync=True)
                raise DataFolderUnusable(f"`{self._offer_file}` cannot be deleted, so the code would be valid again")
        self.uses.note(token.id)
        return token, secret

    def _check_code(self, code: str, address: str) -> _Offer:
        """
        Return the open pairing if a code is its own.

        Raises:
            Unauthenticated: the code is wrong or expired, or too many wrong ones came from this address.
        """
        offer = _read(self._offer_file, _Offer)
        if offer is None or offer.until_us < self._now_us():
            raise Unauthenticated(_WRONG)
        seconds = self._attempts.seconds_to_wait(offer.digest, address)
        if seconds > 0:
            raise Unauthenticated(
                f"too many wrong codes came from this address; try again in {math.ceil(seconds)} s,"
                " or create another code with `tinyvex pair`"
            )
        letters = code.upper().replace("-", "").replace(" ", "")
        if not hmac.compare_digest(_digest(letters), offer.digest):
            self._attempts.failed(address)
            raise Unauthenticated(_WRONG)
        return offer

    def find(self, secret: str) -> PairedToken | None:
        """Return the valid token with this secret; it is compared with all of them, in constant time."""
        digest, match = _digest(secret), None
        for token in self.valid_tokens():
            if hmac.compare_digest(token.digest, digest):
                match = token
        if match is not None:
            self.uses.note(match.id)
        return match

    def valid_tokens(self) -> list[PairedToken]:
        """
        Return the tokens that admit a client now.

        The file is read again when it has changed, or could not be read. While the system refuses to read it, the tokens
        read before stay valid: a client that is closed as unauthenticated does not reconnect. A damaged file has no tokens.
        """
        version = _version(self._tokens_file)
        if version != self._tokens_version:
            try:
                file = _load(self._tokens_file, _TokenFile)
            except OSError as error:
                self._warn_of_unread_tokens(error)
            else:
                self._tokens = [] if file is None else file.tokens
                self._tokens_version = None if file is None else version
                self._has_warned = False
        now_us = self._now_us()
        return [token for token in self._tokens if token.expires_us is None or token.expires_us > now_us]

    def _warn_of_unread_tokens(self, error: OSError) -> None:
        """Log that tokens revoked meanwhile stay valid; once until the file can be read."""
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "`%s` has changed and cannot be read: %s; until it can, no token is added or revoked",
                self._tokens_file, error.strerror,
            )  # fmt: skip

    def report_changes(self, audit: AuditLog) -> None:
        """Record the changes that commands, or time, made since the last call."""
        offer_version, self._offer_version = self._offer_version, _version(self._offer_file)
        if self._offer_version != offer_version and (offer := _read(self._offer_file, _Offer)) is not None:
            audit.granted("pairing-offered", f"a pairing code was issued for the token `{offer.name}`")
        valid = {token.id: token for token in self.valid_tokens()}
        reported = valid if self._reported is None else self._reported
        for token in valid.values():
            if token.is_monitor and token.id not in reported:
                audit.granted("token-issued", f"the {describe(token)} was issued by a command", token_id=token.id)
        for token in reported.values():
            if token.id in valid:
                continue
            event = "token-expired" if token in self._tokens else "token-revoked"
            audit.granted(event, f"the {describe(token)} {event.removeprefix('token-')}", token_id=token.id)
        self._reported = valid


def describe(token: PairedToken) -> str:
    """Return the words for a token in messages."""
    return f"{'monitor' if token.is_monitor else 'paired'} token {token.id}, `{token.name}`,"


def _version(path: Path) -> object:
    """Return a value that changes when another file takes the path's place; None if there is none."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _load(path: Path, struct: type[S]) -> S | None:
    """
    Return the content of a file; None if it is missing or damaged.

    Raises:
        OSError: the system refuses to read it.
    """
    try:
        return msgspec.json.decode(read_private(path), type=struct)
    except (FileNotFoundError, msgspec.MsgspecError, DataFolderUnusable):
        return None


def _read(path: Path, struct: type[S]) -> S | None:
    """Return the content of a file; None if it is missing, damaged or unreadable."""
    try:
        return _load(path, struct)
    except OSError:
        return None


def _write(path: Path, content: Struct, *, sync: bool = False) -> None:
    write_private_file(path, msgspec.json.encode(content), sync=sync)


def _remove(path: Path) -> bool:
    """Remove a file; return whether it was removed."""
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False
