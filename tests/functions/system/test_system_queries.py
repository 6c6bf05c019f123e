"""The queries of the system."""

import datetime as dt
import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinyvex as tv
from tests.support.storage import MemoryStore, bound_runtime, insert, opened, unit
from tests.support.values import encode_key
from tinyvex.errors import UnknownTable
from tinyvex.functions.app.registry import App
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.code_switch import CodeSwitch
from tinyvex.functions.run.executor import Executor
from tinyvex.functions.schema.class_schema import class_schema
from tinyvex.functions.system.system_queries import PAGE_ROWS
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.limits import DOCUMENT_BYTES_MAX, RESULT_BYTES_MAX
from tinyvex.runtime import Runtime
from tinyvex.values.codec import decode, encode
from tinyvex.values.ids import DocumentId
from tinyvex.values.key_encoding import encode_part
from tinyvex.values.types import MISSING, Int64


def test_a_page_of_the_largest_documents_is_one_result() -> None:
    """A page never fails for its size."""
    assert 0 < PAGE_ROWS * DOCUMENT_BYTES_MAX < RESULT_BYTES_MAX


async def test_a_history_depends_on_its_document(tmp_path: Path) -> None:
    """A subscribed history is computed again when its document changes, and not when others do."""
    runtime = bound_runtime()
    async with opened(tmp_path, runtime=runtime) as store:
        stored = await store.write(unit(insert({"n": 1})))
        table = await store.read(lambda snapshot: snapshot.catalog.table("items"))
        text = DocumentId(table.number, stored.internal).text
        arguments = json.dumps({"document": text}).encode()
        outcome = await Executor(store, runtime, CodeSwitch(App([], []))).query(
            Call("_system:history", arguments, admin=True)
        )
    assert outcome.reads.overlaps(table.by_id, stored.internal)
    assert not outcome.reads.overlaps(table.by_id, bytes(16))


async def test_the_span_is_what_can_be_read(tmp_path: Path) -> None:
    """It reaches from the retention floor to the newest commit."""
    runtime = bound_runtime()
    async with opened(tmp_path, runtime=runtime) as store:
        outcome = await Executor(store, runtime, CodeSwitch(App([], []))).query(Call("_system:span", b"{}", admin=True))
        assert json.loads(outcome.value) == {"floorTs": 0, "lastTs": store.last_ts}


async def test_the_history_of_an_unknown_table_is_an_error(tmp_path: Path) -> None:
    """An id may have the number of a table that the database does not have."""
    runtime = bound_runtime()
    async with opened(tmp_path, runtime=runtime) as store:
        arguments = json.dumps({"document": DocumentId(99_999, bytes(16)).text}).encode()
        with pytest.raises(UnknownTable):
            await Executor(store, runtime, CodeSwitch(App([], []))).query(
                Call("_system:history", arguments, admin=True)
            )


# Documents in a range of an index, against an oracle that compares them one by one.

VALUES = st.one_of(
    st.integers(-2, 2), st.integers(-2, 2).map(Int64), st.sampled_from([-1.5, 0.0, 1.0, 2.5, 1e300]),
    st.sampled_from(["", "a", "2"]), st.none(), st.just(MISSING), st.booleans(), st.lists(st.integers(0, 1), max_size=2),
)  # fmt: skip
GIVEN = VALUES.filter(lambda value: value is not MISSING)
OPERATORS: dict[str, Callable[[bytes, bytes], bool]] = {
    "eq": lambda key, bound: key == bound,
    "gt": lambda key, bound: key > bound,
    "gte": lambda key, bound: key >= bound,
    "lt": lambda key, bound: key < bound,
    "lte": lambda key, bound: key <= bound,
}


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq, "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip


def meets(document: dict[str, Any], field: str, name: str, value: Any) -> bool:
    """Compare a number with an `Int64` as numbers; all other values in the order of the index."""
    held = document.get(field, MISSING)
    if isinstance(held, Int64) and type(value) in (int, float):
        return COMPARISONS[name](int(held), value)
    return OPERATORS[name](encode_part(held), encode_part(value))


def expected(
    documents: list[dict[str, Any]], conditions: dict[str, dict[str, Any]], fields: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the documents that meet all conditions, in the index's order."""
    matching = documents
    for field in fields:
        matching = [
            document
            for document in matching
            if all(meets(document, field, name, given[field]) for name, given in conditions.items() if field in given)
        ]
    return sorted(matching, key=lambda document: encode_key([document.get(field, MISSING) for field in fields]))


@example(rows=[(None, 0), (Int64(1), 0)], equal=[1], lower=None, upper=None, order="asc", size=1)
@example(rows=[(0, None), (0, Int64(1))], equal=[0], lower=("gte", 0), upper=("lte", 1), order="desc", size=1)
@example(rows=[(2, 0), (Int64(2), 0), (1, 0)], equal=[2], lower=None, upper=None, order="desc", size=1)
@example(rows=[(None, 0), (Int64(1), 0), (1, 0)], equal=[], lower=None, upper=("lte", 1), order="desc", size=2)
@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES), max_size=12),
    equal=st.lists(GIVEN, max_size=2),
    lower=st.none() | st.tuples(st.sampled_from(["gt", "gte"]), GIVEN),
    upper=st.none() | st.tuples(st.sampled_from(["lt", "lte"]), GIVEN),
    order=st.sampled_from(["asc", "desc"]),
    size=st.integers(1, 5),
)
def test_a_range_of_an_index_agrees_with_an_oracle(
    rows: list[Any], equal: list[Any], lower: Any, upper: Any, order: str, size: int
) -> None:
    """For all types of values, page by page, in both directions; a number finds `Int64`s and plain numbers."""
    documents = [
        {name: value for name, value in zip("abi", (*row, float(i)), strict=True) if value is not MISSING}
        for i, row in enumerate(rows)
    ]
    store = MemoryStore()
    store.declare({"items": {"by_ab": ("a", "b", "i")}})
    store.run(unit(lambda t: [insert(document)(t) for document in documents]))
    conditions: dict[str, dict[str, Any]] = {"eq": dict(zip("ab", equal, strict=False))} if equal else {}
    for bound in (lower, upper):
        if bound is not None and len(equal) < 2:
            conditions[bound[0]] = {"ab"[len(equal)]: bound[1]}
    items: list[dict[str, Any]] = []
    cursor, is_done = None, False
    while not is_done:
        arguments = {"table": "items", "index": "by_ab", "order": order, "size": size, "cursor": cursor, **conditions}
        page = queried(store, "_system:rows", arguments)
        items += page["items"]
        cursor, is_done = page["cursor"], page["isDone"]
    wanted = expected(documents, conditions, ("a", "b", "i"))
    shown = [{name: row[name] for name in row if name[0] != "_"} for row in items]
    assert shown == (wanted if order == "asc" else wanted[::-1])


@pytest.mark.parametrize(("number", "expected_rows"), [(2, [Int64(2), 2]), (Int64(2), [Int64(2)])])
def test_a_number_finds_documents_of_both_types(number: Any, expected_rows: list[Any]) -> None:
    """One document with an `Int64` does not hide those with a plain number, nor the other way round."""
    store = MemoryStore()
    store.declare({"items": {"by_k": ("k",)}})
    store.run(unit(lambda t: [insert({"k": k})(t) for k in (2, Int64(2), 3, Int64(3), "2")]))
    found = queried(store, "_system:rows", {"table": "items", "index": "by_k", "order": "asc", "eq": {"k": number}})
    rows = [row["k"] for row in found["items"]]
    assert ([type(row) for row in rows], rows) == ([type(row) for row in expected_rows], expected_rows)
    assert found["isDone"]


INSTANTS = [f"2026-01-02T12:00:00.{digits}Z" for digits in ("000000", "250000", "500000")]


@pytest.mark.parametrize(
    ("conditions", "expected_rows"),
    [
        ({"eq": {"at": "2026-01-02T12:00:00Z"}}, INSTANTS[:1]),
        ({"eq": {"at": "2026-01-02T14:00:00.25+02:00"}}, INSTANTS[1:2]),
        ({"eq": {"at": "2026-01-02T12:00:00"}}, []),
        ({"gt": {"at": "2026-01-02T12:00:00Z"}}, INSTANTS[1:]),
        ({"gte": {"at": "2026-01-02T07:00:00-05:00"}, "lt": {"at": "2026-01-02T12:00:00.5Z"}}, INSTANTS[:2]),
        ({"lte": {"at": "2026-01-02T12:00:00.5Z"}}, [None, *INSTANTS]),
    ],
)
@pytest.mark.parametrize("field", ["at", "visit.at"])
def test_an_instant_is_found_in_any_form(conditions: dict[str, Any], expected_rows: list[Any], field: str) -> None:
    """A person types `12:00:00Z`, and not the six digits of the stored form."""
    store = MemoryStore()
    store.declare({"items": {"by_at": (field,)}})
    values = [*INSTANTS, None]
    documents = [{"visit": {"at": value}, "at": value} for value in values]
    store.run(unit(lambda t: [insert(document)(t) for document in documents]))
    named = {operator: {field: given["at"]} for operator, given in conditions.items()}
    found = queried(store, "_system:rows", {"table": "items", "index": "by_at", "order": "asc", **named})
    assert [row["at"] for row in found["items"]] == expected_rows


@pytest.mark.parametrize("operator", ["eq", "gte", "lte"])
def test_text_that_looks_like_an_instant_is_compared_as_text(operator: str) -> None:
    """A field of text may hold another form, and then has only that one."""
    store = MemoryStore()
    store.declare({"items": {"by_at": ("at",)}})
    store.run(unit(insert({"at": "2026-01-02T12:00:00.000Z"})))
    arguments = {"table": "items", "index": "by_at", operator: {"at": "2026-01-02T12:00:00.000Z"}}
    assert len(queried(store, "_system:rows", arguments)["items"]) == 1


class Visit(msgspec.Struct, frozen=True):
    at: dt.datetime


class Event(tv.Document):
    at: dt.datetime | None = None
    visit: Visit | None = None
    visits: dict[str, Visit] = {}  # noqa: RUF012 - a document copies its defaults
    either: dt.datetime | int = 0
    name: str = ""
    anything: Any = None


def events(field: str) -> MemoryStore:
    """Return a store with one event, and an index of a field."""
    store = MemoryStore()
    store.declare({"items": {"by_field": (field,)}}, schemas={"items": class_schema(Event)})
    store.run(unit(insert({"at": INSTANTS[0], "name": "soon", "anything": "soon"})))
    return store


@pytest.mark.parametrize("operator", ["eq", "gt", "gte", "lt", "lte"])
@pytest.mark.parametrize("field", ["at", "visit.at", "visits.first.at", "either"])
def test_text_that_is_not_an_instant_is_refused_for_a_field_of_instants(operator: str, field: str) -> None:
    """It would find nothing, as if there were no such documents; the message shows the form."""
    arguments = {"table": "items", "index": "by_field", operator: {field: "soon"}}
    with pytest.raises(
        AssertionError, match=f"`{field}` holds instants, such as `2026-01-31T09:30:00Z`; `soon` is not"
    ):
        queried(events(field), "_system:rows", arguments)


@pytest.mark.parametrize("field", ["name", "anything"])
def test_text_is_compared_with_a_field_that_may_hold_it(field: str) -> None:
    """A field of text or of any type may have text in any form."""
    found = queried(events(field), "_system:rows", {"table": "items", "index": "by_field", "eq": {field: "soon"}})
    assert len(found["items"]) == 1


def test_an_instant_and_null_are_compared_with_a_field_of_instants() -> None:
    """They are what the field may hold."""
    for value, count in ((INSTANTS[0], 1), ("2026-01-02T12:00:00Z", 1), (None, 0)):
        found = queried(events("at"), "_system:rows", {"table": "items", "index": "by_field", "eq": {"at": value}})
        assert len(found["items"]) == count


def queried(store: MemoryStore, path: str, arguments: dict[str, Any]) -> Any:
    """Run a query on the store and return its result."""
    executor = Executor(cast("Any", store), Runtime(), CodeSwitch(App([], [])))
    call = Call(path, encode(arguments), admin=True)
    outcome = store.look(lambda snapshot: executor.runner.query(call, snapshot, Execution(ReadSet())))
    assert outcome.error is None, outcome.error
    return decode(bytes(outcome.value))
