"""
`Rows` and `Page`: the rows of a query, decoded only if the function inspects them.

When a result is encoded, unread rows must not become text. So `to_body` opens a list in a context variable; each `Rows`
that the encoder meets appends its `RowsPart` to the list and writes a mark with its position into the text. Afterwards
`to_body` splits the text at the marks. JSON never contains the mark, a zero byte, because strings escape it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Never, NoReturn, SupportsIndex, TypeVar, cast, overload

import msgspec

from tinyvex.functions.result.result_body import Body, RowsPart, json_array
from tinyvex.values import codec

__all__ = ["Page", "Rows", "as_text", "to_body"]

T = TypeVar("T")

_parts: ContextVar[list[RowsPart] | None] = ContextVar("_parts", default=None)
"""The parts of the body that is being encoded; None outside `to_body`."""
_MARK = b"\0"


if TYPE_CHECKING:

    class _ImmutableList(list[T]):
        """A list for type checkers, so that a function can return rows as its `list[Message]`; without a list's changes."""

        def __setitem__(self, position: Never, value: Never, /) -> None: ...  # type: ignore[override]
        def __delitem__(self, position: Never, /) -> None: ...  # type: ignore[override]
        def __iadd__(self, values: Never, /) -> Never: ...  # type: ignore[override,misc]
        def append(self, value: Never, /) -> None: ...  # type: ignore[override]
        def extend(self, values: Never, /) -> None: ...  # type: ignore[override]
        def insert(self, position: Never, value: Never, /) -> None: ...  # type: ignore[override]
        def remove(self, value: Never, /) -> None: ...  # type: ignore[override]
        def pop(self, position: Never, /) -> Never: ...  # type: ignore[override]
        def sort(self, *, key: Never, reverse: Never) -> None: ...  # type: ignore[override]

else:
    _ImmutableList = Sequence


class Rows(_ImmutableList[T]):
    """
    The documents of a query: an immutable, lazy sequence.

    A row is decoded on first access. A function that returns rows may declare them as `tv.Rows[Message]`,
    as `list[Message]` or as `Sequence[Message]`; type checkers take rows for a list that cannot be changed.
    Rows that a function returns without accessing them are neither decoded nor validated again:
    their stored JSON is spliced into the message.
    """

    __slots__ = ("_decoded", "_part", "_read", "_stored", "row_class")

    def __init__(
        self,
        stored: Sequence[bytes] | RowsPart,
        read: Callable[[bytes], T],
        row_class: type | None = None,
        decoded: dict[int, T] | None = None,
    ) -> None:
        """
        Args:
            stored: the canonical JSON of each row, or the rows of a scan.
            read: decodes a row from its JSON.
            row_class: the rows' class; None if they are mappings.
            decoded: the rows that were decoded already, by position.
        """
        self._part = stored if isinstance(stored, RowsPart) else None
        self._stored = None if isinstance(stored, RowsPart) else tuple(stored)
        self.row_class = row_class
        self._read = read
        self._decoded: dict[int, T] = {} if decoded is None else decoded

    @classmethod
    def __tinyvex_of__(cls, values: Sequence[T]) -> Rows[T]:
        """Return rows of decoded values; a client decodes a result to them."""
        return Rows([codec.encode(value) for value in values], _undecoded, decoded=dict(enumerate(values)))

    @property
    def stored(self) -> tuple[bytes, ...]:
        """The canonical JSON of each row."""
        if self._stored is None:
            assert self._part is not None
            self._stored = tuple([row.json for row in self._part.documents])
        return self._stored

    def __tinyvex_json__(self) -> bytes:
        if self._part is None:
            return json_array(self.stored)
        parts = _parts.get()
        if parts is None:
            return self._part.json()
        parts.append(self._part)
        return b"%b%d%b" % (_MARK, len(parts) - 1, _MARK)

    def __len__(self) -> int:
        return len(self.stored) if self._part is None else len(self._part)

    @overload
    def __getitem__(self, position: SupportsIndex, /) -> T: ...
    @overload
    def __getitem__(self, position: slice[Any, Any, Any], /) -> Rows[T]: ...
    def __getitem__(self, position: SupportsIndex | slice[Any, Any, Any], /) -> T | Rows[T]:
        if isinstance(position, slice):
            positions = range(*position.indices(len(self)))
            decoded = {new: self._decoded[old] for new, old in enumerate(positions) if old in self._decoded}
            return Rows(self.stored[position], self._read, self.row_class, decoded)
        position = position.__index__()
        row = position + len(self) if position < 0 else position
        if not 0 <= row < len(self):
            raise IndexError(f"row {position} is out of range; there are {len(self)} rows")
        return self._row(row)

    def _row(self, position: int) -> T:
        try:
            return self._decoded[position]
        except KeyError:
            row = self._decoded[position] = self._read(self.stored[position])
            return row

    def __iter__(self) -> Iterator[T]:
        return map(self._row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Return whether the other is a list, a tuple or rows with equal elements."""
        if isinstance(other, Rows):
            return self.stored == other.stored
        if isinstance(other, (list, tuple)):
            return list(self) == list(cast("Sequence[object]", other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as for lists

    def __repr__(self) -> str:
        return f"Rows({list(self)!r})"


def _undecoded(_json: bytes) -> NoReturn:
    raise AssertionError("each row was decoded already")


class Page(msgspec.Struct, Generic[T], frozen=True, rename="camel", forbid_unknown_fields=True):
    """
    A page of a query.

    Attributes:
        items: the rows.
        cursor: an opaque string; pass it to `paginate` to read the next page.
        is_done: whether no rows followed this page when it was read.
    """

    items: Rows[T]
    cursor: str
    is_done: bool


def as_text(value: object) -> bytes:
    """Encode a value as canonical JSON with its rows as text, even inside `to_body`."""
    token = _parts.set(None)
    try:
        return codec.encode(value)
    finally:
        _parts.reset(token)


def to_body(encode: Callable[[], bytes]) -> Body:
    """Return the text that `encode` returns as a body, with the rows in it as parts."""
    parts: list[RowsPart] = []
    token = _parts.set(parts)
    try:
        text = encode()
    finally:
        _parts.reset(token)
    if not parts:
        return Body((text,))
    # Every second piece is the number of a part. The numbers need not ascend: the encoder sorts keys after it met the rows.
    pieces = text.split(_MARK)
    return Body([parts[int(piece)] if number % 2 else piece for number, piece in enumerate(pieces) if piece])
