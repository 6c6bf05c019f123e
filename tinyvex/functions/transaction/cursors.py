"""
Cursors: the positions between the pages of a paginated query. (pure)

A cursor is a digest of the query and the index key of a page's last row; an empty key means the end of the range. The
digest refuses a cursor of another query, or of other arguments. It is not a signature: a client can forge a key, so a page
is always clamped to the query's own range.

Pages can stay adjacent while data changes. An execution ends its first page after `size` rows and leaves the end as a
cursor in its *journal*. An execution that is given this journal ends the page at the same key, whatever number of rows it
has then; a row inserted at the border is then in exactly one of the two pages. Without a journal, a page always has `size`
rows, and rows inserted into it push its last ones off.
"""

from __future__ import annotations

import base64
import hashlib

from tinyvex.errors import InvalidCursor
from tinyvex.values import codec

__all__ = ["Cursors"]

_DIGEST_BYTES = 8


class Cursors:
    """The cursors of one query: its table, its index, the range lo <= key < hi, and its direction."""

    __slots__ = ("_digest",)

    def __init__(self, table: str, index: str, lo: bytes, hi: bytes, *, reverse: bool) -> None:
        shape = codec.encode([table, index, lo, hi, reverse])
        self._digest = hashlib.blake2b(shape, digest_size=_DIGEST_BYTES).digest()

    def cursor(self, key: bytes) -> str:
        """Return the cursor after the row with this key."""
        return base64.urlsafe_b64encode(self._digest + key).decode()

    def key(self, cursor: str | None) -> bytes | None:
        """
        Return the key in a cursor; None for the beginning.

        Raises:
            InvalidCursor: the cursor belongs to another query, or to other arguments.
        """
        if cursor is None:
            return None
        try:
            data = base64.b64decode(cursor, altchars=b"-_", validate=True)
        except ValueError:
            data = b""
        if data[:_DIGEST_BYTES] != self._digest:
            raise InvalidCursor("the cursor belongs to another query or to other arguments; start from the first page")
        return data[_DIGEST_BYTES:]
