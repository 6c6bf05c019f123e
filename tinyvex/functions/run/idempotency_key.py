"""The key of a mutation that runs exactly once; `exactly_once.py` compares it. (pure)"""

from msgspec import Struct

__all__ = ["IdempotencyKey"]


class IdempotencyKey(Struct, frozen=True, eq=False):
    """
    The key under which a mutation runs once, and what its client acknowledged when it sent the mutation.

    Attributes:
        session_id: the client's session.
        request_id: the number of the mutation within the session.
        digest: the digest of the call; see `exactly_once.py`.
        acknowledged_below: the client has finished every mutation of the session with a lower request id. A mutation that is
            resent with another acknowledgement is the same one, so keys are compared without it.
    """

    session_id: str
    request_id: int
    digest: bytes
    acknowledged_below: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdempotencyKey) and self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash(self._compared())

    def _compared(self) -> tuple[str, int, bytes]:
        return self.session_id, self.request_id, self.digest
