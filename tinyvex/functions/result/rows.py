"""Results that wait to be looked at: `Rows` and `Page`; and how they become a body without becoming text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Generic, NoReturn, TypeVar, cast, overload

import msgspec

from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.values import codec

__all__ = ["Page", "Rows", "as_text", "to_body"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_parts: ContextVar[list[RowsPart] | None] = ContextVar("_parts", default=None)
"""Where rows leave themselves while a body is made; in the text a mark stands for them."""
_MARK = b"\0"  # in no JSON: strings escape it


class Rows(Sequence[T_co]):
    """
    Documents that a query found: an immutable, lazy sequence.

    A row is decoded when it is first looked at.
    Rows that a function returns as they are, are neither decoded nor validated again:
    their stored JSON goes into the message.
    """

    __slots__ = ("_decoded", "_part", "_read", "_stored", "kind")

    def __init__(
        self,
        stored: Sequence[bytes] | RowsPart,
        read: Callable[[bytes], T_co],
        kind: type | None = None,
        decoded: dict[int, T_co] | None = None,
    ) -> None:
        """
        Args:
            stored: canonical JSON of every row, or what a scan found.
            read: makes a row of its JSON.
            kind: the rows' class; None where they are mappings.
            decoded: rows that were decoded already, by place.
        """
        self._part = stored if isinstance(stored, RowsPart) else None
        self._stored = None if isinstance(stored, RowsPart) else tuple(stored)
        self.kind = kind
        self._read = read
        self._decoded: dict[int, T_co] = {} if decoded is None else decoded

    @classmethod
    def __tinyvex_of__(cls, values: Sequence[T]) -> Rows[T]:
        """Rows of values that were decoded already: what a client makes of a result."""
        return Rows([codec.encode(value) for value in values], _undecoded, decoded=dict(enumerate(values)))

    @property
    def stored(self) -> tuple[bytes, ...]:
        """Canonical JSON of every row."""
        if self._stored is None:
            assert self._part is not None
            self._stored = tuple([row.json for row in self._part.documents])
        return self._stored

    def __tinyvex_json__(self) -> bytes:
        if self._part is None:
            return b"[" + b",".join(self.stored) + b"]"
        parts = _parts.get()
        if parts is None:
            return self._part.json()
        parts.append(self._part)
        return b"%b%d%b" % (_MARK, len(parts) - 1, _MARK)

    def __len__(self) -> int:
        return len(self.stored) if self._part is None else len(self._part)

    @overload
    def __getitem__(self, place: int, /) -> T_co: ...
    @overload
    def __getitem__(self, place: slice, /) -> Rows[T_co]: ...
    def __getitem__(self, place: int | slice, /) -> T_co | Rows[T_co]:
        if isinstance(place, slice):
            places = range(*place.indices(len(self)))
            decoded = {new: self._decoded[old] for new, old in enumerate(places) if old in self._decoded}
            return Rows(self.stored[place], self._read, self.kind, decoded)
        if place < 0:
            place += len(self)
        if not 0 <= place < len(self):
            raise IndexError("there is no such row")
        return self._row(place)

    def _row(self, place: int) -> T_co:
        try:
            return self._decoded[place]
        except KeyError:
            row = self._decoded[place] = self._read(self.stored[place])
            return row

    def __iter__(self) -> Iterator[T_co]:
        return map(self._row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal to any list, tuple or rows with equal elements."""
        if isinstance(other, Rows):
            return self.stored == other.stored
        if isinstance(other, (list, tuple)):
            return list(self) == list(cast("Sequence[object]", other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as lists

    def __repr__(self) -> str:
        return f"Rows({list(self)!r})"


def _undecoded(_json: bytes) -> NoReturn:
    raise AssertionError("every row was decoded already")


class Page(msgspec.Struct, Generic[T], frozen=True, rename="camel", forbid_unknown_fields=True):
    """
    One page of a query.

    Attributes:
        items: its rows.
        cursor: give it to `paginate` for the next page; an opaque text.
        is_done: nothing came after this page when it was read.
    """

    items: Rows[T]
    cursor: str
    is_done: bool


def as_text(value: object) -> bytes:
    """Canonical JSON with all rows in it, also while a body is made."""
    token = _parts.set(None)
    try:
        return codec.encode(value)
    finally:
        _parts.reset(token)


def to_body(encode: Callable[[], bytes]) -> Body:
    """What `encode` returns, with the rows in it as parts and not as text."""
    parts: list[RowsPart] = []
    token = _parts.set(parts)
    try:
        text = encode()
    finally:
        _parts.reset(token)
    if not parts:
        return Body((text,))
    # Every second piece is the number of a part: keys are sorted after the rows were met.
    pieces = text.split(_MARK)
    return Body([parts[int(piece)] if place % 2 else piece for place, piece in enumerate(pieces) if piece])
