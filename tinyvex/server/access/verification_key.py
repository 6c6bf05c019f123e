"""The key that verifies a token's signature."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["VerificationKey"]


class VerificationKey(NamedTuple):
    """
    A key for one algorithm.

    Attributes:
        algorithm: `HS256`, `RS256` or `ES256`; the key verifies no signature of another algorithm.
        value: the key as PyJWT takes it.
    """

    algorithm: str
    value: Any
