"""
Searches of an index by values from JSON, which does not distinguish an `Int64` from a plain number, nor an instant from text.

A document may hold either, so a number is compared with both. They are apart in an index: all `Int64`s, then all plain
numbers. A search therefore reads several ranges, one after the other in the order of the index, as if they were one::

    k >= 2        null  Int64 … 1, 2, 3 …  number … 1, 2, 3 …  string …
                                └───────┘           └─────────────────┘

An instant has one stored form, so an instant in any other form is converted, if the field holds instants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from tinyvex.errors import InvalidCursor
from tinyvex.functions.result.rows import Page, Rows
from tinyvex.functions.schema.document import DocumentMapping
from tinyvex.functions.transaction.index_range import IndexRange
from tinyvex.functions.transaction.query_builder import Query
from tinyvex.values import codec
from tinyvex.values.types import INT64_MAX, INT64_MIN, Int64

__all__ = ["HoldsInstants", "page_of", "ranges_where"]

HoldsInstants: TypeAlias = Callable[[IndexRange, str], bool]
"""Returns whether the next field of the documents in a range holds instants."""

_CREATION_TIME = "_creationTime"


class _Bound(NamedTuple):
    """A lower or an upper bound of a field."""

    field: str
    value: Any
    is_lower: bool
    inclusive: bool

    def narrow(self, keys: IndexRange) -> IndexRange:
        method = keys.above if self.is_lower else keys.below
        return method(self.field, self.value, inclusive=self.inclusive)

    @property
    def is_number(self) -> bool:
        return self.field != _CREATION_TIME and type(self.value) in (int, float)

    def of_int64(self) -> _Bound | None:
        """Return the same bound for `Int64`s; None if it excludes all of them (`excludes_int64`) or none."""
        if not self.is_number:
            return self
        if isinstance(self.value, float) and not math.isfinite(self.value):
            return None
        nearest = math.ceil(self.value) if self.is_lower else math.floor(self.value)
        if not INT64_MIN <= nearest <= INT64_MAX:
            return None
        return self._replace(value=Int64(nearest), inclusive=self.inclusive or nearest != self.value)

    def excludes_int64(self) -> bool:
        """Return whether no `Int64` is within the bound; NaN is greater than every number."""
        if not self.is_number or self.of_int64() is not None:
            return False
        is_low = self.value < 0 and not math.isnan(self.value)
        return is_low != self.is_lower


def ranges_where(
    whole: IndexRange,
    equal: Mapping[str, Any],
    bounds: Mapping[str, Mapping[str, Any]],
    holds_instants: HoldsInstants,
) -> list[IndexRange]:
    """
    Return the ranges of an index that meet the conditions, in its order.

    Args:
        whole: the whole index.
        equal: values of the leading fields, in the order of the index.
        bounds: by operator (`gt`, `gte`, `lt`, `lte`), the field's bound.
        holds_instants: called only for values that are instants in another form than the stored one.

    Raises:
        UnknownIndex: a condition is not on the index's next field.
        InvalidValue: a value cannot be compared with.
    """
    ranges = [whole]
    for field, value in equal.items():
        ranges = [
            keys.equals(field, each)
            for keys in ranges
            for each in _either(field, _as_stored(keys, field, value, holds_instants))
        ]
    given = [
        (field, value, operator in ("gt", "gte"), operator in ("gte", "lte"))
        for operator, conditions in bounds.items()
        for field, value in conditions.items()
    ]
    narrowed = []
    for keys in ranges:
        stored = [
            _Bound(field, _as_stored(keys, field, value, holds_instants), is_lower, inclusive)
            for field, value, is_lower, inclusive in given
        ]
        narrowed += _bounded(keys, stored)
    return narrowed


def _as_stored(keys: IndexRange, field: str, value: Any, holds_instants: HoldsInstants) -> Any:
    """Return an instant in the stored form if the field holds instants; any other value unchanged."""
    instant = codec.as_instant(value) if isinstance(value, str) else None
    return instant if instant not in (None, value) and holds_instants(keys, field) else value


def _either(field: str, value: Any) -> list[Any]:
    """Return the values that are equal to one from JSON, in the order of an index."""
    if type(value) is int and field != _CREATION_TIME and INT64_MIN <= value <= INT64_MAX:
        return [Int64(value), value]
    return [value]


def _bounded(keys: IndexRange, bounds: list[_Bound]) -> list[IndexRange]:
    plain = keys
    for bound in bounds:
        plain = bound.narrow(plain)
    numbers = [bound for bound in bounds if bound.is_number]
    if not numbers:
        return [plain]
    field = numbers[0].field
    ranges = []
    if not any(bound.is_lower for bound in numbers):
        ranges.append(plain.intersected(keys.below(field, Int64(INT64_MIN), inclusive=False)))
    if not any(bound.excludes_int64() for bound in numbers):
        int64s = keys
        for bound in bounds:
            converted = bound.of_int64()
            int64s = int64s if converted is None else converted.narrow(int64s)
        every = keys.above(field, Int64(INT64_MIN), inclusive=True).below(field, Int64(INT64_MAX), inclusive=True)
        ranges.append(int64s.intersected(every))
    ranges.append(plain.intersected(keys.above(field, Int64(INT64_MAX), inclusive=False)))
    return ranges


def page_of(queries: list[Query[Mapping[str, Any]]], cursor: str | None, size: int) -> Page[Mapping[str, Any]]:
    """
    Return a page of several queries, as if they were one.

    A cursor belongs to one of them. At its end, the page continues with the next one.

    Raises:
        InvalidCursor: the cursor belongs to none of them.
    """
    position, page = _page_at(queries, cursor, size)
    stored = page.items.stored
    for query in queries[position + 1 :]:
        if not page.is_done:
            break
        if len(stored) < size:
            page = query.paginate(None, size - len(stored))
            stored += page.items.stored
        elif query.first() is not None:
            return Page(Rows(stored, DocumentMapping), page.cursor, is_done=False)
    return page if stored is page.items.stored else Page(Rows(stored, DocumentMapping), page.cursor, page.is_done)


def _page_at(
    queries: list[Query[Mapping[str, Any]]], cursor: str | None, size: int
) -> tuple[int, Page[Mapping[str, Any]]]:
    """Return the position of the query that a cursor belongs to, and its page."""
    for position, query in enumerate(queries[:-1]):
        try:
            return position, query.paginate(cursor, size)
        except InvalidCursor:
            continue
    return len(queries) - 1, queries[-1].paginate(cursor, size)
