"""The arguments of live queries, written in one way, so that equal ones are one live query."""

from __future__ import annotations

from tinyvex import limits
from tinyvex.errors import TinyvexError
from tinyvex.values import codec

__all__ = ["Arguments"]


class Arguments:
    """
    The arguments that one message brings.

    This is on the loop, and reading values takes some 100 ms a megabyte at worst: so it is done for the first
    CANONICAL_BYTES_MAX of a message only. Others stay as the client wrote them;
    they are shared with those that are written in the same way, as each of our clients does.
    """

    def __init__(self) -> None:
        self._left_bytes = limits.CANONICAL_BYTES_MAX

    def canonical(self, args: bytes) -> bytes:
        """The same arguments in canonical JSON, or as they are: what is wrong with them the function's own check says."""
        if len(args) > self._left_bytes:
            return args
        self._left_bytes -= len(args)
        try:
            return codec.encode(codec.decode(args))
        except TinyvexError:
            return args
