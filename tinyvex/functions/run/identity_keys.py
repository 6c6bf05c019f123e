"""The keys by which identities are compared: all claims for results, issuer and subject for sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.transaction.execution import Identity

__all__ = ["identity_key", "session_key"]


def identity_key(identity: Identity) -> bytes:
    """Return all claims as canonical JSON; `null` for an anonymous caller."""
    return b"null" if identity is None else codec.encode(dict(identity))


def session_key(identity: Identity) -> bytes:
    """
    Return the key of the sessions and exactly-once records that an identity may use.

    It consists of issuer and subject, so that a renewed token belongs to the same user.
    An identity without a subject, which only an administrator can make, is compared by all its claims.
    """
    if identity is None or identity.get("subject") is None:
        return identity_key(identity)
    return identity_key({"issuer": identity.get("issuer"), "subject": identity["subject"]})
