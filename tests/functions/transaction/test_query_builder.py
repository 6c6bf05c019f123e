"""The query builder, on a real database in memory."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyvex as tv
from tinyvex.errors import InvalidCursor, NotUnique, UnknownIndex
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.query_builder import Query
from tinyvex.limits import SCAN_PAGE_ROWS
from tinyvex.testing import Database


@tv.table("points", indexes={"by_x": ["x"], "by_x_y": ["x", "y"], "by_place": ["place.city"], "by_big": ["big"]})
class Point(tv.Document):
    x: int
    y: float = 0
    place: dict[str, str] = msgspec.field(default_factory=dict)
    big: tv.Int64 = tv.Int64(0)


@pytest.fixture
def db() -> Iterator[Database]:
    """A database with the points (0, 0), (0, 1), (0, 2), (1, 0) … (2, 2), in this order."""
    with Database(Point) as database:
        database.mutation(fill)
        yield database


def fill(ctx: tv.MutationCtx) -> None:
    for x in range(3):
        for y in range(3):
            ctx.db.insert(Point(x=x, y=y))


def pairs(rows: Any) -> list[tuple[int, float]]:
    return [(point.x, point.y) for point in rows]


def result(db: Database, ask: Any) -> Any:
    """Return the result of `ask` on a fresh query over points."""
    results: list[Any] = []

    def run(ctx: tv.QueryCtx) -> None:
        results.append(ask(ctx.db.query(Point)))

    db.query(run)
    return results[0]


ALL = [(x, y) for x in range(3) for y in range(3)]


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda q: q, ALL),
        (lambda q: q.order("asc"), ALL),
        (lambda q: q.order("desc"), ALL[::-1]),
        (lambda q: q.order("desc").order("asc"), ALL),
        (lambda q: q.with_index("by_x", x=1), ALL[3:6]),
        (lambda q: q.with_index("by_x", x=1).order("desc"), ALL[5:2:-1]),
        (lambda q: q.with_index("by_x").eq("x", 1), ALL[3:6]),
        (lambda q: q.with_index("by_x").gt("x", 1), ALL[6:]),
        (lambda q: q.with_index("by_x").gte("x", 1), ALL[3:]),
        (lambda q: q.with_index("by_x").lt("x", 1), ALL[:3]),
        (lambda q: q.with_index("by_x").lte("x", 1), ALL[:6]),
        (lambda q: q.with_index("by_x").gt("x", 0).lt("x", 2), ALL[3:6]),
        (lambda q: q.with_index("by_x").lt("x", 2).gt("x", 0).order("desc"), ALL[5:2:-1]),
        (lambda q: q.with_index("by_x").gt("x", 1).lt("x", 1), []),
        (lambda q: q.with_index("by_x_y", y=2, x=1), [(1, 2)]),
        (lambda q: q.with_index("by_x_y", x=1).gte("y", 1), ALL[4:6]),
        (lambda q: q.with_index("by_x_y", x=1).gt("y", 0).lte("y", 1), [(1, 1)]),
        (lambda q: q.with_index("by_x_y", x=1, y=1).lt("_creationTime", 1e15), [(1, 1)]),
        (lambda q: q.with_index("by_x_y", x=1, y=1).gt("_creationTime", 1e15), []),
        (lambda q: q.filter(lambda point: point.y == 1), [(0, 1), (1, 1), (2, 1)]),
        (lambda q: q.filter(lambda point: point.y == 1).filter(lambda point: point.x), [(1, 1), (2, 1)]),
        (lambda q: q.with_index("by_x", x=7), []),
    ],
)
def test_ranges(db: Database, ask: Any, expected: list[tuple[int, float]]) -> None:
    """Each end returns the rows of the range, in order: collect, iteration, take, first, count, pages."""
    assert pairs(result(db, lambda q: ask(q).collect())) == expected
    assert pairs(result(db, lambda q: list(ask(q)))) == expected
    assert pairs(result(db, lambda q: ask(q).take(2))) == expected[:2]
    assert pairs(result(db, lambda q: ask(q).take(0))) == []
    first = result(db, lambda q: ask(q).first())
    assert (None if first is None else (first.x, first.y)) == (expected[0] if expected else None)
    assert result(db, lambda q: ask(q).count()) == len(expected)
    assert pairs(row for page in pages(db, ask, 2) for row in page.items) == expected


def pages(db: Database, query: Any, size: int) -> list[tv.Page[Any]]:
    found = [result(db, lambda q: query(q).paginate(None, size))]
    while not found[-1].is_done:
        found.append(result(db, lambda q: query(q).paginate(found[-1].cursor, size)))
    return found


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12),
    st.sampled_from(["gt", "gte", "lt", "lte"]),
    st.integers(-1, 4),
    st.booleans(),
)
def test_ranges_agree_with_lists(points: list[tuple[int, int]], bound: str, value: int, reverse: bool) -> None:
    """A bounded, ordered query agrees with comparing, sorting and reversing a list."""
    compare = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}[bound]
    expected = sorted((point for point in points if compare(point[1], value) and point[0] == 1), key=lambda p: p[1])
    with Database(Point) as db:
        db.mutation(lambda ctx: [ctx.db.insert(Point(x=x, y=y)) for x, y in points] and None)

        def ask(query: Query[Point]) -> object:
            bounded = getattr(query.with_index("by_x_y", x=1), bound)("y", value)
            return bounded.order("desc" if reverse else "asc").collect()

        assert pairs(result(db, ask)) == (expected[::-1] if reverse else expected)


def test_unique(db: Database) -> None:
    """`unique` returns the only document, or None."""
    point = result(db, lambda q: q.with_index("by_x_y", x=1, y=1).unique())
    assert (point.x, point.y) == (1, 1)
    assert result(db, lambda q: q.with_index("by_x_y", x=1, y=7).unique()) is None


def test_not_unique(db: Database) -> None:
    """`unique` refuses two."""
    with pytest.raises(NotUnique, match="index `by_x` of table `points`"):
        result(db, lambda q: q.with_index("by_x", x=1).unique())


def test_nested_fields(db: Database) -> None:
    """A dotted path reaches into objects; documents without it are found with UNSET."""
    db.mutation(lambda ctx: ctx.db.insert(Point(x=7, place={"city": "Ulm"})))
    assert pairs(result(db, lambda q: q.with_index("by_place").eq("place.city", "Ulm").collect())) == [(7, 0)]
    assert result(db, lambda q: q.with_index("by_place").eq("place.city", tv.UNSET).count()) == 9


def test_the_annotation_decides_about_int64(db: Database) -> None:
    """A plain number finds an Int64 field, and an Int64 finds a plain one."""
    db.mutation(lambda ctx: ctx.db.insert(Point(x=7, big=tv.Int64(2**60))))
    assert pairs(result(db, lambda q: q.with_index("by_big", big=2**60).collect())) == [(7, 0)]
    assert pairs(result(db, lambda q: q.with_index("by_x", x=tv.Int64(7)).collect())) == [(7, 0)]


class Size(msgspec.Struct, frozen=True):
    width: tv.Int64
    depth: float = 0.0


@tv.table("boxes", indexes={"by_value": ["value"], "by_sizes": ["sizes"], "by_size": ["size"], "by_any": ["any"]})
class Box(tv.Document):
    value: dict[str, tv.Int64] = msgspec.field(default_factory=dict)
    sizes: list[tuple[tv.Int64, float]] = msgspec.field(default_factory=list)
    size: Size | None = None
    any: Any = None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("value", {"a": 1}), ("sizes", [(1, 2)]), ("sizes", [[tv.Int64(1), 2.0]]), ("size", {"width": 1, "depth": 0}),
        ("size", Size(width=1)), ("size", Size(width=tv.Int64(1))), ("size", None), ("any", tv.Int64(1)), ("any", 1),
        ("any", [tv.Int64(1), 1]),
    ],
)  # fmt: skip
def test_what_was_inserted_is_found_by_the_same_value(field: str, value: Any) -> None:
    """The annotation coerces both values, at any depth."""
    found: list[Any] = []

    def store(ctx: tv.MutationCtx) -> None:
        ctx.db.insert(Box(**{field: value}))

    def look(ctx: tv.QueryCtx) -> None:
        boxes = ctx.db.query(Box)
        found.append(boxes.with_index(f"by_{field}").eq(field, value).unique())
        found.append(boxes.with_index(f"by_{field}").gte(field, value).lte(field, value).unique())
        found.append(boxes.with_index(f"by_{field}").eq(field, getattr(found[0], field)).unique())

    with Database(Box) as database:
        database.mutation(store)
        database.query(look)
    assert None not in found


def test_the_annotation_decides_by_name_too(db: Database) -> None:
    """A query by the table's name finds an Int64 field with a plain number as well."""
    db.mutation(lambda ctx: ctx.db.insert(Point(x=7, big=tv.Int64(2**60))))
    assert db.query(lambda ctx: ctx.db.query("points").with_index("by_big", big=2**60).count()) == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda q: q.with_index("by_z"), "by_z"),
        (lambda q: q.with_index("by_x", y=1), "the next field is `x`, not `y`"),
        (lambda q: q.with_index("by_x", gte=1), r"not `gte`; write a bound as \.gte\(\"x\", …\)"),
        (lambda q: q.with_index("by_x_y", y=1), "the next field is `x`, not `y`"),
        (lambda q: q.eq("x", 1), "index `by_creation_time` of table `points`: the next field is `_creationTime`"),
        (lambda q: q.with_index("by_x", x=1).gt("y", 1), "the next field is `_creationTime`, not `y`"),
        (lambda q: q.with_index("by_x_y").gt("x", 1).gt("y", 1), "not `y`"),
        (lambda q: q.with_index("by_x_y").gt("x", 1).eq("x", 1), "cannot have an equality after bounds"),
        (lambda q: q.with_index("by_x").gt("x", 1).gte("x", 2), "`x` has a lower bound already"),
        (lambda q: q.with_index("by_x").lt("x", 1).lte("x", 2), "`x` has an upper bound already"),
        (lambda q: q.with_index("by_x", x=1).eq("_creationTime", 1).eq("x", 1), "no field is left, not `x`"),
        (lambda q: q.with_index("by_x").with_index("by_x_y"), "call `with_index` once"),
        (lambda q: q.lt("_creationTime", 1).with_index("by_x"), "call `with_index` once"),
    ],
)
def test_impossible_ranges(db: Database, ask: Any, message: str) -> None:
    """A range that the index cannot serve is refused; the error names the index and its next field."""
    with pytest.raises(UnknownIndex, match=message):
        result(db, ask)


@pytest.mark.parametrize(
    "ask",
    [
        lambda q: q.order("up"),
        lambda q: q.take(-1),
        lambda q: q.paginate(None, 0),
    ],
)
def test_impossible_calls(db: Database, ask: Any) -> None:
    """Impossible directions, counts and sizes are refused."""
    with pytest.raises(ValueError, match=r"takes|needs"):
        result(db, ask)


def test_objects_that_are_not_values(db: Database) -> None:
    """They cannot be compared with; the error names the field."""
    with pytest.raises(tv.TinyvexError, match=r"field `x`.*object"):
        result(db, lambda q: q.with_index("by_x", x=object()))


def test_every_step_is_a_new_query(db: Database) -> None:
    """One query can be narrowed in two ways."""

    def ask(query: Query[Point]) -> list[int]:
        base = query.with_index("by_x_y", x=1)
        low, high = base.lt("y", 1), base.order("desc").gt("y", 1)
        return [base.count(), low.count(), high.count()]

    assert result(db, ask) == [3, 1, 1]


def test_iteration_reads_on_demand(db: Database) -> None:
    """Stopping early records less than reading to the end does."""
    db.mutation(lambda ctx: [ctx.db.insert(Point(x=9, y=y)) for y in range(SCAN_PAGE_ROWS + 10)] and None)
    whole, begun = (reads_of(db, read) for read in (list, lambda query: next(iter(query))))
    assert [lo for lo, _ in begun] == [lo for lo, _ in whole]
    assert begun[0][1] < whole[-1][1]


def reads_of(db: Database, read: Callable[[Query[Point]], object]) -> list[tuple[bytes, bytes]]:
    """Return the one range that a function reads."""
    found: list[tuple[bytes, bytes]] = []

    def run(ctx: tv.QueryCtx) -> None:
        read(ctx.db.query(Point).with_index("by_x_y", x=9))
        (ranges,) = ctx._execution.reads.ranges().values()
        found.extend(ranges)

    db.query(run)
    return found


# Pages.


def test_a_page_knows_its_end(db: Database) -> None:
    """The last page is marked as such, and nothing follows it."""
    read = pages(db, lambda q: q, 3)
    assert [len(page.items) for page in read] == [3, 3, 3]
    assert [page.is_done for page in read] == [False, False, True]
    after = result(db, lambda q: q.paginate(read[-1].cursor, 3))
    assert (list(after.items), after.is_done) == ([], True)


def test_pages_of_a_filtered_query(db: Database) -> None:
    """A page of a filtered query is as full as any."""
    read = pages(db, lambda q: q.filter(lambda point: point.y == 1), 2)
    assert [pairs(page.items) for page in read] == [[(0, 1), (1, 1)], [(2, 1)]]


def test_insertions_do_not_shift_pages(db: Database) -> None:
    """A page begins after the last row of the page before, whatever was inserted since."""
    first = result(db, lambda q: q.with_index("by_x").paginate(None, 4))
    db.mutation(lambda ctx: ctx.db.insert(Point(x=0, y=9)))
    second = result(db, lambda q: q.with_index("by_x").paginate(first.cursor, 4))
    assert pairs(second.items) == ALL[4:8]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_page_keeps_its_end(db: Database, reverse: bool) -> None:
    """Run again with its journal, a page includes rows inserted into it and ends at the same row."""
    order: Any = "desc" if reverse else "asc"

    def page(journal: str | None) -> tuple[tv.Page[Point], str | None]:
        found: list[tv.Page[Point]] = []

        def run(ctx: tv.QueryCtx) -> None:
            execution: Execution = ctx._execution
            execution.journal = journal
            found.append(ctx.db.query(Point).with_index("by_x_y").order(order).paginate(None, 4))
            journals.append(execution.journal)

        journals: list[str | None] = []
        db.query(run)
        return found[0], journals[0]

    before, journal = page(None)
    db.mutation(lambda ctx: [ctx.db.insert(Point(x=x, y=0.5)) for x in range(3)] and None)
    after, _ = page(journal)
    assert after.cursor == before.cursor
    assert len(after.items) == 5
    assert pairs(after.items)[-1] == pairs(before.items)[-1]


def test_the_last_page_stays_the_last(db: Database) -> None:
    """The last page, run again with its journal, includes rows added at the end."""
    found: list[tv.Page[Point]] = []

    def run(ctx: tv.QueryCtx) -> None:
        ctx._execution.journal = found[-1].cursor if found else None
        found.append(ctx.db.query(Point).paginate(None, 20))

    db.query(run)
    db.mutation(lambda ctx: [ctx.db.insert(Point(x=8)) for _ in range(30)] and None)
    db.query(run)
    assert [len(page.items) for page in found] == [9, 39]
    assert found[1].is_done


@pytest.mark.parametrize("cursor", ["", "nonsense", "AAAAAAAAAAA=", "ä"])
def test_bad_cursors(db: Database, cursor: str) -> None:
    """A cursor of another query, or other text, is refused."""
    with pytest.raises(InvalidCursor, match="start from the first page"):
        result(db, lambda q: q.paginate(cursor, 3))


@pytest.mark.parametrize(
    "other",
    [
        lambda q: q.order("desc"),
        lambda q: q.with_index("by_x"),
        lambda q: q.with_index("by_x", x=1),
    ],
)
def test_cursors_of_other_queries(db: Database, other: Any) -> None:
    """A cursor belongs to one table, index, range and direction."""
    cursor = result(db, lambda q: q.paginate(None, 3)).cursor
    with pytest.raises(InvalidCursor):
        result(db, lambda q: other(q).paginate(cursor, 3))


def test_forged_cursors_stay_in_the_range(db: Database) -> None:
    """A client that forges the key of a cursor sees nothing outside the query's range."""
    cursor = result(db, lambda q: q.with_index("by_x", x=1).paginate(None, 1)).cursor
    digest = base64.urlsafe_b64decode(cursor)[:8]
    for key in (b"\x00", b"\x01", b"\xfe", b"\xff" * 40):
        forged = base64.urlsafe_b64encode(digest + key).decode()
        found = result(db, lambda q, cursor=forged: q.with_index("by_x", x=1).paginate(cursor, 9))
        assert set(pairs(found.items)) <= set(ALL[3:6])
