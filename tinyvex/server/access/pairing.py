"""
Tokens that outlive a server's run: handed out for a one-time code, kept as hashes, revocable.

::

    tinyvex pair ──► DATA/pairing.json   the hash of a code, until when it is good, how many wrong tries are left
                          │
    a client shows the code, once
                          ▼
                     DATA/tokens.json    name, hash and time of each token; the token itself only its client has
                          ▲
    tinyvex tokens ───────┘              lists and revokes

The files are the command's way to the server: whoever can write in the data folder owns the database anyway.
Tokens and codes are never logged.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from tinyvex import limits
from tinyvex.errors import DataFolderUnusable
from tinyvex.storage.file.private_file import write_private_file

__all__ = ["CODE_PREFIX", "PairedToken", "Pairing"]

CODE_PREFIX = "pairing:"
"""In front of a code, where a token would be."""

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no two letters are taken for each other."""
CODE_LENGTH = 8

S = TypeVar("S", bound=Struct)


class PairedToken(Struct, frozen=True):
    """What is known of a token: not the token."""

    id: str
    name: str
    digest: str
    created_us: int


class _Offer(Struct, frozen=True):
    """An open pairing."""

    name: str
    digest: str
    until_us: int
    tries_left: int


class _Tokens(Struct, frozen=True):
    tokens: list[PairedToken] = []


class Pairing:
    """
    The pairings and tokens of one data folder.

    Args:
        folder: the data folder.
        now_us: the clock.
        secret: makes a new one that nobody can guess, in hexadecimal.
    """

    def __init__(self, folder: Path, now_us: Callable[[], int], secret: Callable[[], str]) -> None:
        self._offer_file = folder / "pairing.json"
        self._tokens_file = folder / "tokens.json"
        self._now_us = now_us
        self._secret = secret

    # The command's side.

    def offer(self, name: str) -> str:
        """
        Open a pairing for a client of this name, and close one that was open; the code to be told to the client.

        Raises:
            DataFolderUnusable: the folder cannot be written.
        """
        number = int(self._secret(), 16)
        letters = "".join(ALPHABET[number >> 5 * place & 31] for place in range(CODE_LENGTH))
        until_us = self._now_us() + int(limits.PAIRING_SECONDS * 1e6)
        _write(self._offer_file, _Offer(name, _digest(letters), until_us, limits.PAIRING_TRIES_MAX))
        return f"{letters[:4]}-{letters[4:]}"

    def tokens(self) -> list[PairedToken]:
        """All that were handed out and not revoked, oldest first."""
        found = _read(self._tokens_file, _Tokens)
        return [] if found is None else found.tokens

    def revoke(self, token_id: str) -> bool:
        """
        Make a token worthless; False when there is none with this id.

        Raises:
            DataFolderUnusable: the folder cannot be written.
        """
        tokens = self.tokens()
        kept = [token for token in tokens if token.id != token_id]
        if len(kept) == len(tokens):
            return False
        _write(self._tokens_file, _Tokens(kept))
        return True

    # The server's side.

    def redeem(self, code: str) -> tuple[PairedToken, str] | None:
        """
        A new token for the code of the open pairing, which is closed by that; None when the code is wrong or too late.

        Raises:
            DataFolderUnusable: the folder cannot be written.
        """
        offer = _read(self._offer_file, _Offer)
        if offer is None:
            return None
        letters = code.upper().replace("-", "").replace(" ", "")
        if offer.until_us < self._now_us() or not hmac.compare_digest(_digest(letters), offer.digest):
            self._count_try(offer)
            return None
        if not _remove(self._offer_file):
            return None  # somebody else was first
        secret = self._secret()
        token = PairedToken(secret[:8], offer.name, _digest(secret), self._now_us())
        _write(self._tokens_file, _Tokens([*self.tokens(), token]))
        return token, secret

    def _count_try(self, offer: _Offer) -> None:
        if offer.tries_left > 1 and offer.until_us >= self._now_us():
            _write(self._offer_file, msgspec.structs.replace(offer, tries_left=offer.tries_left - 1))
        else:
            _remove(self._offer_file)

    def find(self, secret: str) -> PairedToken | None:
        """The token that this is; each is compared, in constant time."""
        digest, found = _digest(secret), None
        for token in self.tokens():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(path: Path, kind: type[S]) -> S | None:
    """What a file says; None where there is none, or nothing that could be understood."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, content: Struct) -> None:
    try:
        write_private_file(path, msgspec.json.encode(content))
    except OSError as error:
        raise DataFolderUnusable(f"`{path}` cannot be written: {error.strerror}") from error


def _remove(path: Path) -> bool:
    """Whether it was there, and it was us who removed it."""
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False
