"""What a socket has asked and was not answered yet, by JSON-RPC id (pure)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from tinyvex.client.requests import PendingRequest
from tinyvex.errors import UpdateRejected
from tinyvex.wire.messages import ErrorObject

__all__ = ["Call", "Calls"]

Call: TypeAlias = PendingRequest | Literal["connect", "modify", "authenticate"]
"""What a JSON-RPC id of this socket stands for."""


class Calls:
    """
    The ids of one socket.

    Attributes:
        modifies: how many changes of the query set are not answered yet.
    """

    def __init__(self) -> None:
        self.modifies = 0
        self._next_id = 0
        self._open: dict[int, Call] = {}

    def begin(self, call: Call) -> int:
        """An id for what is about to be asked."""
        rpc_id = self._next_id
        self._next_id += 1
        self._open[rpc_id] = call
        self.modifies += call == "modify"
        return rpc_id

    def end(self, rpc_id: object, error: ErrorObject | None) -> Call:
        """
        What was answered.

        Raises:
            UpdateRejected: nothing was asked under this id.
        """
        call = self._open.pop(rpc_id, None) if isinstance(rpc_id, int) else None
        if call is None:
            said = f": {error.message}" if error is not None else ""
            raise UpdateRejected(f"the server answered {rpc_id!r}, which was not asked{said}")
        self.modifies -= call == "modify"
        return call

    def validate(self) -> None:
        """Assert what holds between any two calls."""
        assert self.modifies == sum(call == "modify" for call in self._open.values())
