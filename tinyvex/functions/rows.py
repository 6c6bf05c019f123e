"""Results that wait to be looked at: `Rows` and `Page`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, cast, overload

import msgspec

__all__ = ["Page", "Rows"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Rows(Sequence[T_co]):
    """
    Documents that a query found: an immutable, lazy sequence.

    A row is decoded when it is first looked at.
    Rows that a function returns as they are, are neither decoded nor validated again:
    their stored JSON goes into the message.
    """

    __slots__ = ("_decoded", "_read", "kind", "stored")

    def __init__(
        self,
        stored: Sequence[bytes],
        read: Callable[[bytes], T_co],
        kind: type | None = None,
        decoded: dict[int, T_co] | None = None,
    ) -> None:
        """
        Args:
            stored: canonical JSON of every row.
            read: makes a row of its JSON.
            kind: the rows' class; None where they are mappings.
            decoded: rows that were decoded already, by place.
        """
        self.stored = tuple(stored)
        self.kind = kind
        self._read = read
        self._decoded: dict[int, T_co] = {} if decoded is None else decoded

    def __tinyvex_json__(self) -> bytes:
        return b"[" + b",".join(self.stored) + b"]"

    def __len__(self) -> int:
        return len(self.stored)

    @overload
    def __getitem__(self, place: int, /) -> T_co: ...
    @overload
    def __getitem__(self, place: slice, /) -> Rows[T_co]: ...
    def __getitem__(self, place: int | slice, /) -> T_co | Rows[T_co]:
        if isinstance(place, slice):
            places = range(*place.indices(len(self.stored)))
            decoded = {new: self._decoded[old] for new, old in enumerate(places) if old in self._decoded}
            return Rows(self.stored[place], self._read, self.kind, decoded)
        if place < 0:
            place += len(self.stored)
        if not 0 <= place < len(self.stored):
            raise IndexError("there is no such row")
        return self._row(place)

    def _row(self, place: int) -> T_co:
        try:
            return self._decoded[place]
        except KeyError:
            row = self._decoded[place] = self._read(self.stored[place])
            return row

    def __iter__(self) -> Iterator[T_co]:
        return map(self._row, range(len(self.stored)))

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
