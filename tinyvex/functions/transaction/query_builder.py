"""
The query builder: which index, which range of it, in which order, which rows.

Every step gives a new query; nothing is read before one of the ends.
What is read is recorded as the ranges of index keys that were passed over, and that is all invalidation looks at.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from tinyvex.errors import InvalidCursor, NotUnique, UnknownIndex
from tinyvex.functions.result.result_body import RowsPart
from tinyvex.functions.result.rows import Page, Rows
from tinyvex.functions.transaction.index_range import IndexRange
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.schema.table_spec import TableSpec
    from tinyvex.functions.transaction.execution import Execution
    from tinyvex.functions.transaction.transaction import Transaction
    from tinyvex.storage.log.catalog import TableInfo
    from tinyvex.storage.log.document_log import StoredDocument

__all__ = ["Query", "Source"]

T = TypeVar("T")

_WHOLE_TABLE = "by_creation_time"
_DIGEST_BYTES = 8


class Source(Generic[T]):
    """
    What a query reads from.

    Attributes:
        spec: the table as the app declares it, if it does.
        read: makes a row of stored JSON.
        kind: the rows' class; None where they are mappings.
    """

    __slots__ = ("execution", "kind", "read", "spec", "table", "transaction")

    def __init__(
        self,
        transaction: Transaction,
        execution: Execution,
        table: TableInfo,
        spec: TableSpec | None,
        read: Callable[[bytes], T],
        kind: type | None,
    ) -> None:
        self.transaction = transaction
        self.execution = execution
        self.table = table
        self.spec = spec
        self.read = read
        self.kind = kind

    def whole(self, index: str) -> IndexRange:
        """
        A whole index.

        Raises:
            UnknownIndex: there is none.
        """
        return IndexRange(self.table.name, self.table.index(index), self._adapt)

    def _adapt(self, path: str, value: Any) -> Any:
        return value if self.spec is None else self.spec.key_value(path, value)

    def rows(self, found: RowsPart) -> Rows[T]:
        """Rows that nobody has looked at."""
        return Rows(found, self.read, self.kind)


class Query(Generic[T]):
    """
    A query over one table.

    ::

        ctx.db.query(Message).with_index("by_channel", channel="general").order("desc").take(50)

    Without `with_index` it goes over all documents in the order of their creation.
    Made by `ctx.db.query`.
    """

    __slots__ = ("_filters", "_range", "_reverse", "_source")

    def __init__(
        self,
        source: Source[T],
        keys: IndexRange | None = None,
        *,
        reverse: bool = False,
        filters: tuple[Callable[[T], object], ...] = (),
    ) -> None:
        self._source = source
        self._range = source.whole(_WHOLE_TABLE) if keys is None else keys
        self._reverse = reverse
        self._filters = filters

    # The range.

    def with_index(self, name: str, /, **equalities: Any) -> Query[T]:
        """
        Use an index.

        Args:
            name: the index.
            equalities: values of its leading fields, in any order; the same as `eq` for each.

        Raises:
            UnknownIndex: the table has no such index, or the fields are not its leading ones.
            InvalidValue: one of the values is no value.
        """
        if self._range.index.name != _WHOLE_TABLE or not self._range.whole:
            raise UnknownIndex(f"{self._range}: with_index comes first and once")
        return self._narrowed(self._source.whole(name).all_equal(equalities))

    def eq(self, path: str, value: Any, /) -> Query[T]:
        """
        Documents whose next field of the index equals `value`; `tv.UNSET`: those that do not have it.

        Raises:
            UnknownIndex: it is not the index's next field, or bounds were given.
            InvalidValue: no value.
        """
        return self._narrowed(self._range.equals(path, value))

    def gt(self, path: str, value: Any, /) -> Query[T]:
        """Documents whose next field of the index is greater than `value`; raises as `eq`."""
        return self._narrowed(self._range.above(path, value, inclusive=False))

    def gte(self, path: str, value: Any, /) -> Query[T]:
        """Documents whose next field of the index is at least `value`; raises as `eq`."""
        return self._narrowed(self._range.above(path, value, inclusive=True))

    def lt(self, path: str, value: Any, /) -> Query[T]:
        """Documents whose next field of the index is less than `value`; raises as `eq`."""
        return self._narrowed(self._range.below(path, value, inclusive=False))

    def lte(self, path: str, value: Any, /) -> Query[T]:
        """Documents whose next field of the index is at most `value`; raises as `eq`."""
        return self._narrowed(self._range.below(path, value, inclusive=True))

    def order(self, direction: Literal["asc", "desc"], /) -> Query[T]:
        """Read the index upwards (as without this) or downwards."""
        if direction not in ("asc", "desc"):
            raise ValueError(f'order takes "asc" or "desc", not {direction!r}')
        return Query(self._source, self._range, reverse=direction == "desc", filters=self._filters)

    def filter(self, predicate: Callable[[T], object], /) -> Query[T]:
        """
        Only rows for which `predicate` is true.

        It runs on every row of the range; narrow the range with an index first.
        """
        return Query(self._source, self._range, reverse=self._reverse, filters=(*self._filters, predicate))

    def _narrowed(self, keys: IndexRange) -> Query[T]:
        return Query(self._source, keys, reverse=self._reverse, filters=self._filters)

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
            raise NotUnique(f"{self._range}: unique() met more than one document", table=self._source.table.name)
        return rows[0] if rows else None

    def __iter__(self) -> Iterator[T]:
        """One after another, reading on as they are asked for."""
        for _, row in self._matching(*self._range.bounds()):
            yield row

    def count(self) -> int:
        """How many there are."""
        if self._filters:
            return sum(1 for _ in self)
        lo, hi = self._range.bounds()
        source = self._source
        return source.transaction.count(source.table, self._range.index, lo, hi) if lo < hi else 0

    def paginate(self, cursor: str | None, size: int) -> Page[T]:
        """
        One page.

        Args:
            cursor: None for the first page, then the `cursor` of the page before.
            size: rows on a page.
                Each page is right at its version; a row inserted into a page pushes its last one off it,
                and the page behind, subscribed from the cursor of before, does not show that row either.

        Raises:
            InvalidCursor: the cursor is not one of this query with these arguments.
        """
        if size < 1:
            raise ValueError(f"paginate needs a size of 1 or more, not {size}")
        start, execution = self._key_of(cursor), self._source.execution
        if execution.paginated:
            return self._page(start, size)
        execution.paginated = True
        journal = execution.journal
        page = self._page(start, size) if journal is None else self._page_until(start, self._key_of(journal))
        execution.journal = page.cursor
        return page

    # Reading.

    def _rows(self, limit: int | None) -> Rows[T]:
        lo, hi = self._range.bounds()
        if limit == 0 or lo >= hi:
            return self._source.rows(self._part(()))
        if self._filters:
            return self._decoded_rows(list(islice(self._matching(lo, hi), limit)))
        source, cache = self._source, self._source.execution.range_cache
        if cache is None:
            return source.rows(self._part(list(self._scan(lo, hi, limit))))
        return source.rows(
            cache.collect(
                source.transaction, source.table, self._range.index, lo, hi, reverse=self._reverse, limit=limit
            )
        )

    def _decoded_rows(self, found: list[tuple[StoredDocument, T]]) -> Rows[T]:
        """Rows that were looked at already."""
        decoded = {place: row for place, (_, row) in enumerate(found)}
        part = self._part([document for document, _ in found])
        return Rows(part, self._source.read, self._source.kind, decoded)

    def _part(self, found: Sequence[StoredDocument]) -> RowsPart:
        return RowsPart(found, self._range.index.id, reverse=self._reverse)

    def _matching(self, lo: bytes, hi: bytes, limit: int | None = None) -> Iterator[tuple[StoredDocument, T]]:
        for stored in self._scan(lo, hi, limit):
            row = self._source.read(stored.json)
            if all(predicate(row) for predicate in self._filters):
                yield stored, row

    def _scan(self, lo: bytes, hi: bytes, limit: int | None = None) -> Iterator[StoredDocument]:
        if lo >= hi:
            return iter(())
        source = self._source
        return source.transaction.scan(
            source.table, self._range.index, lo, hi, reverse=self._reverse, limit=limit
        )  # fmt: skip

    # Pages. A cursor is a digest of the query and the index key of a page's last row; without a key: the end.

    def _page(self, start: bytes | None, size: int) -> Page[T]:
        """The next rows, and one more to see whether there is one."""
        limit = None if self._filters else size + 1
        found = list(islice(self._matching(*self._behind(start), limit), size + 1)) if start != b"" else []
        end = found[size - 1][0].key if len(found) > size else b""
        return Page(self._decoded_rows(found[:size]), self._cursor(end), end == b"")

    def _page_until(self, start: bytes | None, end: bytes | None) -> Page[T]:
        """The page that ended there when it was first read, whatever its size is now."""
        assert end is not None
        lo, hi = self._behind(start)
        if end and self._reverse:
            lo = end
        elif end:
            hi = end + b"\0"
        found = list(self._matching(lo, hi)) if start != b"" else []
        return Page(self._decoded_rows(found), self._cursor(end), end == b"")

    def _behind(self, key: bytes | None) -> tuple[bytes, bytes]:
        """What is left behind a row, never outside the query's own range: cursors come from clients."""
        lo, hi = self._range.bounds()
        if key is None:
            return lo, hi
        return (lo, min(hi, key)) if self._reverse else (max(lo, key + b"\0"), hi)

    def _digest(self) -> bytes:
        shape = codec.encode([self._source.table.name, self._range.index.name, *self._range.bounds(), self._reverse])
        return hashlib.blake2b(shape, digest_size=_DIGEST_BYTES).digest()

    def _cursor(self, key: bytes) -> str:
        return base64.urlsafe_b64encode(self._digest() + key).decode()

    def _key_of(self, cursor: str | None) -> bytes | None:
        if cursor is None:
            return None
        try:
            data = base64.b64decode(cursor, altchars=b"-_", validate=True)
        except ValueError:
            data = b""
        if data[:_DIGEST_BYTES] != self._digest():
            raise InvalidCursor("the cursor is not one of this query with these arguments: start from the first page")
        return data[_DIGEST_BYTES:]
