"""
The query builder: an index, a range of it, an order, and the rows.

Each step returns a new query; nothing is read before one of the ends (`collect`, `take`, `first`, `unique`, `paginate`,
`count`, iteration). The index keys that were passed are recorded as read, not only those of the returned rows:
a commit that adds a row to the range must invalidate the query too.

`cursors.py` explains how the pages of a paginated query stay adjacent while data changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from tinyvex.errors import NotUnique, UnknownIndex
from tinyvex.functions.result.result_body import RowsPart
from tinyvex.functions.result.rows import Page, Rows
from tinyvex.functions.transaction.cursors import Cursors
from tinyvex.functions.transaction.index_range import IndexRange
from tinyvex.values.suggestions import unknown_attribute

if TYPE_CHECKING:
    from tinyvex.functions.schema.table_spec import TableSpec
    from tinyvex.functions.transaction.execution import Execution
    from tinyvex.functions.transaction.transaction import Transaction
    from tinyvex.storage.log.catalog import TableInfo
    from tinyvex.storage.log.revisions import StoredDocument

__all__ = ["Query", "Source"]

T = TypeVar("T")

_DEFAULT_INDEX = "by_creation_time"


class Source(Generic[T]):
    """
    The source of a query's rows: a table, and how its rows are decoded.

    Attributes:
        transaction: the reads.
        execution: has the range cache and the journal.
        table: the table in the database.
        spec: the table as the app declares it; None if it does not.
        read: decodes a row from stored JSON.
        row_class: the rows' class; None if they are mappings.
    """

    __slots__ = ("execution", "read", "row_class", "spec", "table", "transaction")

    def __init__(
        self,
        transaction: Transaction,
        execution: Execution,
        table: TableInfo,
        spec: TableSpec | None,
        read: Callable[[bytes], T],
        row_class: type | None,
    ) -> None:
        self.transaction = transaction
        self.execution = execution
        self.table = table
        self.spec = spec
        self.read = read
        self.row_class = row_class

    def index_range(self, index: str) -> IndexRange:
        """
        Return the range of a whole index.

        Raises:
            UnknownIndex: the table has no such index.
        """
        return IndexRange(self.table.name, self.table.index(index), self._adapt)

    def _adapt(self, path: str, value: Any, *, bound: bool) -> Any:
        if self.spec is None:
            return value
        return self.spec.key_value(path, value, self.transaction.catalog, bound=bound)

    def rows(self, part: RowsPart) -> Rows[T]:
        """Return undecoded rows."""
        return Rows(part, self.read, self.row_class)


class Query(Generic[T]):
    """
    A query over one table.

    ::

        ctx.db.query(Message).with_index("by_channel", channel="general").order("desc").take(50)

    Without `with_index` it reads all documents in the order of their creation.
    `ctx.db.query` creates it.
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
        self._range = source.index_range(_DEFAULT_INDEX) if keys is None else keys
        self._reverse = reverse
        self._filters = filters

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Suggest the method that was meant."""
            raise unknown_attribute(self, name)

    # The range.

    def with_index(self, name: str, /, **equalities: Any) -> Query[T]:
        """
        Use an index.

        Args:
            name: the index.
            equalities: values of its leading fields, in any order; the same as `eq` for each.

        Raises:
            UnknownIndex: the table has no such index, or the fields are not its leading ones.
            InvalidValue: the field of one of the values cannot have it.
        """
        if self._range.index.name != _DEFAULT_INDEX or not self._range.is_whole:
            raise UnknownIndex(f"{self._range}: call `with_index` once, before any condition")
        return self._narrowed(self._source.index_range(name).all_equal(equalities))

    def eq(self, path: str, value: Any, /) -> Query[T]:
        """
        Narrow to documents whose next field of the index equals `value`; `tv.UNSET` for documents without the field.

        Raises:
            UnknownIndex: it is not the index's next field, or the query has bounds already.
            InvalidValue: the field cannot have this value.
        """
        return self._narrowed(self._range.equals(path, value))

    def gt(self, path: str, value: Any, /) -> Query[T]:
        """Narrow to documents whose next field of the index is greater than `value`. Raises as `eq`."""
        return self._narrowed(self._range.above(path, value, inclusive=False))

    def gte(self, path: str, value: Any, /) -> Query[T]:
        """Narrow to documents whose next field of the index is at least `value`. Raises as `eq`."""
        return self._narrowed(self._range.above(path, value, inclusive=True))

    def lt(self, path: str, value: Any, /) -> Query[T]:
        """Narrow to documents whose next field of the index is less than `value`. Raises as `eq`."""
        return self._narrowed(self._range.below(path, value, inclusive=False))

    def lte(self, path: str, value: Any, /) -> Query[T]:
        """Narrow to documents whose next field of the index is at most `value`. Raises as `eq`."""
        return self._narrowed(self._range.below(path, value, inclusive=True))

    def order(self, direction: Literal["asc", "desc"], /) -> Query[T]:
        """Read the index in ascending order (the default) or in descending order."""
        if direction not in ("asc", "desc"):
            raise ValueError(f'`order` takes "asc" or "desc", not `{direction}`')
        return Query(self._source, self._range, reverse=direction == "desc", filters=self._filters)

    def filter(self, predicate: Callable[[T], object], /) -> Query[T]:
        """
        Keep only rows for which `predicate` is true.

        It is called for each row of the range; narrow the range with an index first.
        """
        return Query(self._source, self._range, reverse=self._reverse, filters=(*self._filters, predicate))

    def _narrowed(self, keys: IndexRange) -> Query[T]:
        return Query(self._source, keys, reverse=self._reverse, filters=self._filters)

    # The ends.

    def collect(self) -> Rows[T]:
        """Return all rows."""
        return self._rows(None)

    def take(self, count: int, /) -> Rows[T]:
        """Return the first `count` rows."""
        if not isinstance(count, int):
            raise TypeError(f"`take` needs a number of documents, not a value of type `{type(count).__name__}`")
        if count < 0:
            raise ValueError(f"`take` needs a count of 0 or more, not {count}")
        return self._rows(count)

    def first(self) -> T | None:
        """Return the first row; None if there are none."""
        rows = self._rows(1)
        return rows[0] if rows else None

    def unique(self) -> T | None:
        """
        Return the only row; None if there are none.

        Raises:
            NotUnique: there is more than one.
        """
        rows = self._rows(2)
        if len(rows) > 1:
            raise NotUnique(f"{self._range}: `unique` found more than one document", table=self._source.table.name)
        return rows[0] if rows else None

    def __iter__(self) -> Iterator[T]:
        """Yield the rows one by one; pages of the index are read as they are needed."""
        for _, row in self._matching(*self._range.bounds()):
            yield row

    def count(self) -> int:
        """Count the rows."""
        if self._filters:
            return sum(1 for _ in self)
        lo, hi = self._range.bounds()
        source = self._source
        return source.transaction.count(source.table, self._range.index, lo, hi) if lo < hi else 0

    def paginate(self, cursor: str | None, size: int) -> Page[T]:
        """
        Return one page.

        Args:
            cursor: None for the first page, then the `cursor` of the page before.
            size: the number of rows on a page.
                Each page is right at its own version. A row inserted into a page pushes its last row off,
                and the next page, subscribed from the earlier cursor, does not show that row either.

        Raises:
            InvalidCursor: the cursor belongs to another query, or to other arguments.
        """
        if not isinstance(size, int):
            raise TypeError(f"`paginate` needs a number of documents, not a value of type `{type(size).__name__}`")
        if size < 1:
            raise ValueError(f"`paginate` needs a size of 1 or more, not {size}")
        cursors, execution = self._cursors(), self._source.execution
        start = cursors.key(cursor)
        if execution.paginated:
            return self._page(cursors, start, size)
        execution.paginated = True
        journal = execution.journal
        page = (
            self._page(cursors, start, size)
            if journal is None
            else self._page_until(cursors, start, cursors.key(journal))
        )
        execution.journal = page.cursor
        return page

    # Reading.

    def _rows(self, limit: int | None) -> Rows[T]:
        self._source.execution.require_running()
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

    def _decoded_rows(self, pairs: list[tuple[StoredDocument, T]]) -> Rows[T]:
        """Return rows that a filter or a page has decoded already."""
        decoded = {position: row for position, (_, row) in enumerate(pairs)}
        part = self._part([stored for stored, _ in pairs])
        return Rows(part, self._source.read, self._source.row_class, decoded)

    def _part(self, stored: Sequence[StoredDocument]) -> RowsPart:
        return RowsPart(stored, self._range.index.id, reverse=self._reverse)

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

    # Pages.

    def _cursors(self) -> Cursors:
        return Cursors(self._source.table.name, self._range.index.name, *self._range.bounds(), reverse=self._reverse)

    def _page(self, cursors: Cursors, start: bytes | None, size: int) -> Page[T]:
        """Return the next `size` rows; one more is read to learn whether the page is the last."""
        limit = None if self._filters else size + 1
        pairs = list(islice(self._matching(*self._after(start), limit), size + 1)) if start != b"" else []
        end = pairs[size - 1][0].key if len(pairs) > size else b""
        return Page(self._decoded_rows(pairs[:size]), cursors.cursor(end), end == b"")

    def _page_until(self, cursors: Cursors, start: bytes | None, end: bytes | None) -> Page[T]:
        """Return the page up to the key at which it first ended, whatever its number of rows is now."""
        assert end is not None
        lo, hi = self._after(start)
        if end and self._reverse:
            lo = end
        elif end:
            hi = end + b"\0"
        pairs = list(self._matching(lo, hi)) if start != b"" else []
        return Page(self._decoded_rows(pairs), cursors.cursor(end), end == b"")

    def _after(self, key: bytes | None) -> tuple[bytes, bytes]:
        """Return the keys after a row, clamped to the query's own range: cursors come from clients."""
        lo, hi = self._range.bounds()
        if key is None:
            return lo, hi
        return (lo, min(hi, key)) if self._reverse else (max(lo, key + b"\0"), hi)
