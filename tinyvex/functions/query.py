"""
The query builder: which index, which range of it, in which order, which rows.

Every step gives a new query; nothing is read before one of the ends.
What is read is recorded as the ranges of index keys that were passed over, and that is all invalidation looks at.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar

from msgspec import UNSET

from tinyvex.errors import InvalidCursor, InvalidValue, NotUnique, UnknownIndex
from tinyvex.functions.rows import Page, Rows
from tinyvex.values import codec, order
from tinyvex.values.types import MISSING

if TYPE_CHECKING:
    from tinyvex.functions.context import Execution
    from tinyvex.functions.schema import TableSpec
    from tinyvex.functions.transaction import Transaction
    from tinyvex.storage.catalog import IndexInfo, TableInfo
    from tinyvex.storage.log import StoredDocument

__all__ = ["Query"]

T = TypeVar("T")

_CREATION_TIME = "_creationTime"
_DIGEST_BYTES = 8


class Query(Generic[T]):
    """
    A query over one table.

    ::

        ctx.db.query(Message).with_index("by_channel", channel="general").order("desc").take(50)

    Without `with_index` it goes over all documents in the order of their creation.
    Made by `ctx.db.query`.
    """

    def __init__(
        self, transaction: Transaction, execution: Execution, table: TableInfo, spec: TableSpec | None,
        read: Callable[[bytes], T],
    ) -> None:  # fmt: skip
        self._transaction = transaction
        self._execution = execution
        self._table = table
        self._spec = spec
        self._read = read
        self._index = self._find_index("by_creation_time")
        self._equal = 0
        self._prefix = b""
        self._lower: bytes | None = None
        self._upper: bytes | None = None
        self._ranged: str | None = None
        self._reverse = False
        self._filters: tuple[Callable[[T], object], ...] = ()

    # The range.

    def with_index(self, name: str, /, **equalities: Any) -> Self:
        """
        Use an index.

        Args:
            name: the index.
            equalities: values of its leading fields, in any order; the same as `eq` for each.

        Raises:
            UnknownIndex: the table has no such index, or the fields are not its leading ones.
        """
        if self._index.name != "by_creation_time" or self._equal or self._ranged:
            raise UnknownIndex(f"{self._name()}: with_index comes first and once")
        query = self._copy()
        query._index = self._find_index(name)
        waiting = dict(equalities)
        while waiting:
            field = query._next_field()
            if field not in waiting:
                query._refuse(next(iter(waiting)))
            query = query.eq(field, waiting.pop(field))
        return query

    def eq(self, path: str, value: Any, /) -> Self:
        """
        Documents whose next field of the index equals `value`; `tv.UNSET`: those that do not have it.

        Raises:
            UnknownIndex: it is not the index's next field.
            InvalidValue: no value.
        """
        query = self._at(path)
        if query._ranged:
            raise UnknownIndex(f"{self._name()}: eq({path!r}) cannot follow a range")
        query._prefix += query._part(path, value)
        query._equal += 1
        return query

    def gt(self, path: str, value: Any, /) -> Self:
        """Documents whose next field of the index is greater than `value`; raises as `eq`."""
        return self._from(path, value, inclusive=False)

    def gte(self, path: str, value: Any, /) -> Self:
        """Documents whose next field of the index is at least `value`; raises as `eq`."""
        return self._from(path, value, inclusive=True)

    def lt(self, path: str, value: Any, /) -> Self:
        """Documents whose next field of the index is less than `value`; raises as `eq`."""
        return self._to(path, value, inclusive=False)

    def lte(self, path: str, value: Any, /) -> Self:
        """Documents whose next field of the index is at most `value`; raises as `eq`."""
        return self._to(path, value, inclusive=True)

    def order(self, direction: Literal["asc", "desc"], /) -> Self:
        """Read the index upwards (as without this) or downwards."""
        if direction not in ("asc", "desc"):
            raise ValueError(f'order takes "asc" or "desc", not {direction!r}')
        query = self._copy()
        query._reverse = direction == "desc"
        return query

    def filter(self, predicate: Callable[[T], object], /) -> Self:
        """
        Only rows for which `predicate` is true.

        It runs on every row of the range; narrow the range with an index first.
        """
        query = self._copy()
        query._filters = (*self._filters, predicate)
        return query

    # The ends.

    def collect(self) -> Rows[T]:
        """All of them."""
        return self._rows(None)

    def take(self, count: int, /) -> Rows[T]:
        """The first `count` of them."""
        if count < 0:
            raise ValueError(f"take needs a count of 0 or more, not {count}")
        return self._rows(count)

    def first(self) -> T | None:
        """The first of them; None when there is none."""
        rows = self._rows(1)
        return rows[0] if rows else None

    def unique(self) -> T | None:
        """
        The only one; None when there is none.

        Raises:
            NotUnique: there are more.
        """
        rows = self._rows(2)
        if len(rows) > 1:
            raise NotUnique(f"{self._name()}: unique() met more than one document", table=self._table.name)
        return rows[0] if rows else None

    def __iter__(self) -> Iterator[T]:
        """One after another, reading on as they are asked for."""
        for _, row in self._matching():
            yield row

    def count(self) -> int:
        """How many there are."""
        if self._filters:
            return sum(1 for _ in self)
        lo, hi = self._bounds()
        return self._transaction.count(self._table, self._index, lo, hi) if lo < hi else 0

    def paginate(self, cursor: str | None, size: int) -> Page[T]:
        """
        One page.

        Args:
            cursor: None for the first page, then the `cursor` of the page before.
            size: rows on a page.
                The first page that a subscribed query reads keeps the end it had at first,
                so that later pages neither lose nor repeat a row when rows are inserted.

        Raises:
            InvalidCursor: the cursor is not one of this query with these arguments.
        """
        if size < 1:
            raise ValueError(f"paginate needs a size of 1 or more, not {size}")
        start = self._place(cursor)
        if start == b"":
            return Page(self._kept([]), self._cursor(b""), True)
        lo, hi = self._after(start)
        journal = self._execution.journal
        if journal is not None and not self._execution.paginated:
            page = self._page_until(self._place(journal), lo, hi)
        else:
            found = list(islice(self._matching(lo, hi, None if self._filters else size + 1), size + 1))
            end = found[size - 1][0].key if len(found) > size else b""
            page = Page(self._kept(found[:size]), self._cursor(end), end == b"")
        if not self._execution.paginated:
            self._execution.paginated = True
            self._execution.journal = page.cursor
        return page

    # Inside.

    def _copy(self) -> Self:
        query = object.__new__(type(self))
        query.__dict__.update(self.__dict__)
        return query

    def _page_until(self, end: bytes | None, lo: bytes, hi: bytes) -> Page[T]:
        """The page that ended there at first, whatever its size is now."""
        assert end is not None
        if end and self._reverse:
            lo = end
        elif end:
            hi = end + b"\x00"
        return Page(self._kept(list(self._matching(lo, hi))), self._cursor(end), end == b"")

    def _rows(self, limit: int | None) -> Rows[T]:
        if limit == 0:
            return self._kept([])
        if self._filters:
            return self._kept(list(islice(self._matching(), limit)))
        return Rows([stored.json for stored in self._scan(limit=limit)], self._read, self._kind())

    def _kept(self, found: list[tuple[StoredDocument, T]]) -> Rows[T]:
        rows = {place: row for place, (_, row) in enumerate(found)}
        return Rows([stored.json for stored, _ in found], self._read, self._kind(), rows)

    def _matching(
        self, lo: bytes | None = None, hi: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[StoredDocument, T]]:
        for stored in self._scan(lo, hi, limit):
            row = self._read(stored.json)
            if all(predicate(row) for predicate in self._filters):
                yield stored, row

    def _scan(
        self, lo: bytes | None = None, hi: bytes | None = None, limit: int | None = None
    ) -> Iterator[StoredDocument]:
        if lo is None or hi is None:
            lo, hi = self._bounds()
        if lo >= hi:
            return iter(())
        return self._transaction.scan(self._table, self._index, lo, hi, reverse=self._reverse, limit=limit)

    def _bounds(self) -> tuple[bytes, bytes]:
        lo = self._prefix if self._lower is None else self._lower
        hi = order.prefix_end(self._prefix) if self._upper is None else self._upper
        return lo, hi

    def _from(self, path: str, value: Any, *, inclusive: bool) -> Self:
        query = self._ranging(path)
        if query._lower is not None:
            raise UnknownIndex(f"{self._name()}: {path!r} has a lower bound already")
        key = query._prefix + query._part(path, value)
        query._lower = key if inclusive else order.prefix_end(key)
        return query

    def _to(self, path: str, value: Any, *, inclusive: bool) -> Self:
        query = self._ranging(path)
        if query._upper is not None:
            raise UnknownIndex(f"{self._name()}: {path!r} has an upper bound already")
        key = query._prefix + query._part(path, value)
        query._upper = order.prefix_end(key) if inclusive else key
        return query

    def _ranging(self, path: str) -> Self:
        query = self._at(path)
        query._ranged = path
        return query

    def _at(self, path: str) -> Self:
        """A copy whose next field is `path`."""
        if path != self._next_field():
            self._refuse(path)
        return self._copy()

    def _next_field(self) -> str | None:
        fields = self._index.fields
        if fields[-1:] != (_CREATION_TIME,):
            fields = (*fields, _CREATION_TIME)
        return fields[self._equal] if self._equal < len(fields) else None

    def _refuse(self, path: str) -> NoReturn:
        following = self._next_field()
        expected = "has no further field" if following is None else f"has {following!r} as its next field"
        raise UnknownIndex(f"{self._name()} {expected}, not {path!r}", table=self._table.name, index=self._index.name)

    def _part(self, path: str, value: Any) -> bytes:
        if value is UNSET:
            return order.encode_part(MISSING)
        if self._spec is not None:
            value = self._spec.key_value(path, value)
        try:
            return order.encode_part(codec.unwrap(codec.to_builtins(value)))
        except InvalidValue as error:
            raise InvalidValue(f"{self._name()}, field {path!r}: {error}", path=path) from error

    def _find_index(self, name: str) -> IndexInfo:
        index = self._table.indexes.get(name)
        if index is None or not index.ready:
            raise UnknownIndex(f"table {self._table.name!r} has no index {name!r}", table=self._table.name, index=name)
        return index

    def _kind(self) -> type | None:
        return None if self._spec is None else self._spec.cls

    def _name(self) -> str:
        return f"index {self._index.name!r} of table {self._table.name!r}"

    # Cursors: a digest of the range, and the index key of the last row; without a key: the end.

    def _digest(self) -> bytes:
        lo, hi = self._bounds()
        shape = codec.encode([self._table.name, self._index.name, lo, hi, self._reverse])
        return hashlib.blake2b(shape, digest_size=_DIGEST_BYTES).digest()

    def _cursor(self, key: bytes) -> str:
        return base64.urlsafe_b64encode(self._digest() + key).decode()

    def _place(self, cursor: str | None) -> bytes | None:
        if cursor is None:
            return None
        try:
            data = base64.b64decode(cursor, altchars=b"-_", validate=True)
        except ValueError:
            data = b""
        if data[:_DIGEST_BYTES] != self._digest():
            raise InvalidCursor("the cursor is not one of this query with these arguments: start from the first page")
        return data[_DIGEST_BYTES:]

    def _after(self, key: bytes | None) -> tuple[bytes, bytes]:
        """What is left behind a row, never outside the query's own range."""
        lo, hi = self._bounds()
        if key is None:
            return lo, hi
        return (lo, min(hi, key)) if self._reverse else (max(lo, key + b"\x00"), hi)
