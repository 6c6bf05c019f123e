"""The key of a mutation that runs once; `exactly_once.py` decides what it is good for. (pure)"""

from msgspec import Struct

__all__ = ["IdempotencyKey"]


class IdempotencyKey(Struct, frozen=True):
    """
    The key under which a mutation runs once.

    Attributes:
        session_id: the client's session.
        request_id: the number of the mutation within the session.
        digest: the digest of the call; see `exactly_once.py`.
    """

    session_id: str
    request_id: int
    digest: bytes
