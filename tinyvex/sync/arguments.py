"""Canonical arguments of live queries: equal arguments are equal bytes, so that they share one live query."""

from __future__ import annotations

from tinyvex import limits
from tinyvex.errors import TinyvexError
from tinyvex.values import codec

__all__ = ["Arguments"]


class Arguments:
    """
    The arguments of one message.

    Decoding runs on the loop and takes up to 100 ms a megabyte, so only the first CANONICAL_BYTES_MAX of a message are
    made canonical. Longer arguments stay as the client wrote them; they share a live query only with arguments written
    in the same way, which is how each of our clients writes them.
    """

    def __init__(self) -> None:
        self._left_bytes = limits.CANONICAL_BYTES_MAX

    def canonical(self, args: bytes) -> bytes:
        """Return the arguments as canonical JSON; unchanged if they are invalid, which the function's call reports."""
        if len(args) > self._left_bytes:
            return args
        self._left_bytes -= len(args)
        try:
            return codec.encode(codec.decode(args))
        except TinyvexError:
            return args
