"""The log, against a plain Python model of it, and fact by fact."""

import functools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import values as value_support
from tests.support.storage import MemoryStore, insert, numbers, scan, unit
from tests.support.values import same
from tinyvex import errors, limits
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.engine.readers import SnapshotSource
from tinyvex.storage.file.database_file import set_global
from tinyvex.storage.log import document_log
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.log.operations import RequestRecord
from tinyvex.storage.log.revisions import Revision
from tinyvex.storage.maintenance.check import check
from tinyvex.values.codec import decode
from tinyvex.values.ids import parse_id
from tinyvex.values.key_encoding import encode_part, prefix_end
from tinyvex.values.types import MISSING

INDEXES = {
    "by_n": [("n",), ("deep.m",)],
    "by_pair": [("n", "deep.m")],
    "by_other": [("other",)],
}

field_values = st.sampled_from([None, True, 0, 1, 2, -1.5, "", "a", "b", b"a", [1], {"m": 1}]) | value_support.values
documents = st.fixed_dictionaries(
    {},
    optional={
        "n": field_values,
        "other": field_values,
        "deep": st.fixed_dictionaries({}, optional={"m": field_values}),
    },
)
operations = st.one_of(
    st.tuples(st.just("insert"), documents),
    st.tuples(st.just("put"), st.integers(0, 30), documents),
    st.tuples(st.just("delete"), st.integers(0, 30)),
)
declarations = st.dictionaries(st.sampled_from(sorted(INDEXES)), st.integers(0, 1), max_size=3).map(
    lambda chosen: {name: INDEXES[name][which % len(INDEXES[name])] for name, which in chosen.items()}
)
commits = st.lists(operations, min_size=1, max_size=4)
histories = st.lists(commits | declarations, max_size=10)


class Model:
    """The expected documents and indexes at every timestamp, in plain dictionaries."""

    def __init__(self):
        self.documents = {}
        self.indexes = {}
        self.states = {}
        self.revisions = {}

    def committed(self, ts):
        self.states[ts] = (dict(self.documents), dict(self.indexes))


def reach(document, path):
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return MISSING
        document = document[name]
    return document


def in_order(documents, fields):
    """Sort documents by fields, creation time and id, with a comparison that does not use bytes."""

    def compare(one, other):
        for path in (*fields, "_creationTime"):
            result = value_support.compare(reach(one, path), reach(other, path))
            if result:
                return result
        return value_support._sign(parse_id(one["_id"]).internal, parse_id(other["_id"]).internal)

    return sorted(documents, key=functools.cmp_to_key(compare))


def play(store, model, history):
    """Run a history on both."""
    for step in history:
        if isinstance(step, dict):
            store.declare({"items": step})
            model.indexes = step
            model.committed(store.last_ts)
        else:
            before = len(store.commits)
            store.run(unit(functools.partial(change, model, step)))
            for record in store.commits[before:]:
                for write in record.writes:
                    model.revisions.setdefault(write.internal, []).append((record.ts, write.json))
            model.committed(store.last_ts)


def change(model, step, transaction):
    table = transaction.catalog.table("items")
    for kind, *arguments in step:
        if kind == "insert":
            stored = transaction.insert(table, arguments[0])
            model.documents[stored.internal] = decode(stored.json)
            continue
        if not model.documents:
            continue
        internal = sorted(model.documents)[arguments[0] % len(model.documents)]
        if kind == "put":
            model.documents[internal] = decode(transaction.put(table, internal, arguments[1]).json)
        else:
            transaction.put(table, internal, None)
            del model.documents[internal]


def agree(store, model, ts, bounds):
    """Check that every kind of read at `ts` returns the model's result."""
    expected, indexes = model.states[ts]

    def look(snapshot):
        table = snapshot.catalog.table("items")
        assert set(table.indexes) == {"by_creation_time", *indexes}
        transaction = Transaction(snapshot, ts=ts, writable=False, random=random.Random(0))
        for internal in model.revisions:
            stored = snapshot.get(table.tablet, internal)
            assert same(None if stored is None else decode(stored.json), expected.get(internal))
        for name, fields in {"by_creation_time": ("_creationTime",), **indexes}.items():
            ordered = in_order(expected.values(), fields)
            assert same(scan(snapshot, name), ordered)
            assert same(scan(snapshot, name, reverse=True), ordered[::-1])
            lower, upper = sorted(bounds, key=encode_part)
            lo, hi = encode_part(lower), prefix_end(encode_part(upper))
            within = [
                document
                for document in ordered
                if value_support.compare(lower, reach(document, fields[0])) <= 0
                and value_support.compare(reach(document, fields[0]), upper) <= 0
            ]
            assert same(scan(snapshot, name, lo, hi), within)
            assert same(scan(snapshot, name, lo, hi, reverse=True), within[::-1])
            assert transaction.count(table, table.index(name), lo, hi) == len(within)

    store.look(look, at=ts)
    source = SnapshotSource(store.connection)  # without the last commits in memory: the log alone is read
    look(source.begin(ts))
    source.end()


@settings(max_examples=60)
@given(histories, st.tuples(field_values, field_values))
def test_every_read_at_every_timestamp_agrees_with_the_model(history, bounds):
    """
    Reads by id, scans in both directions, ranges and counts agree, at every commit of a random history with changing
    indexes.
    """
    store, model = MemoryStore(), Model()
    store.declare({"items": {}})
    model.committed(store.last_ts)
    play(store, model, history)
    for ts in model.states:
        agree(store, model, ts, bounds)
    assert check(store.connection) == []


@settings(max_examples=30)
@given(st.lists(commits, max_size=6))
def test_a_history_is_what_was_committed(history):
    """Each document's revisions are returned newest first, each naming its predecessor."""
    store, model = MemoryStore(), Model()
    store.declare({"items": {"by_n": ("n",)}})
    play(store, model, history)
    for internal, committed in model.revisions.items():
        expected = [
            Revision(ts, committed[index - 1][0] if index else None, data)
            for index, (ts, data) in enumerate(committed)
        ]  # fmt: skip
        revisions = store.look(lambda snapshot, id=internal: list(snapshot.history(items(snapshot).tablet, id)))
        assert revisions == expected[::-1]
    assert check(store.connection) == []


def items(snapshot):
    return snapshot.catalog.table("items")


@pytest.fixture
def log():
    """Open a log with a table, checked at the end."""
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    yield store
    assert check(store.connection) == []


def add(log, *numbers):
    return [log.run(unit(insert({"n": number}))) for number in numbers]


def test_an_unchanged_key_gets_no_index_entry(log):
    """A revision that leaves the indexed field unchanged writes nothing to `indexes`."""
    (stored,) = add(log, 1)
    statement = "SELECT COUNT(*) FROM indexes"
    before = log.connection.execute(statement).fetchone()
    log.run(unit(lambda transaction: transaction.put(items(transaction), stored.internal, {"n": 1, "more": True})))
    assert log.connection.execute(statement).fetchone() == before
    assert [entry["more"] for entry in log.look(scan)] == [True]


def test_a_read_at_an_older_ts_does_not_step_over_deleted_documents(log):
    """As long as the commits since are in memory, its cost depends on them and on what it returns."""

    def read(snapshot):
        index = items(snapshot).index("by_n")
        for reverse, expected in ((False, [1000, 1001]), (True, [1001, 1000])):
            page = snapshot.page(index, KEY_MIN, KEY_MAX, limit=2, reverse=reverse)
            assert [decode(stored.json)["n"] for stored in page] == expected
        assert snapshot.count_page(index, KEY_MIN, KEY_MAX).total == 2

    def instructions():
        at, taken = log.last_ts, []
        add(log, 2000)
        log.connection.set_progress_handler(lambda: taken.append(1), 10)
        log.look(read, at)
        log.connection.set_progress_handler(None, 0)
        return 10 * len(taken)

    def delete(stored):
        log.run(unit(lambda transaction: [transaction.put(items(transaction), key, None) for key in stored]))

    add(log, 1000, 1001)
    before = instructions()
    stored = log.run(unit(lambda transaction: [insert({"n": n})(transaction).internal for n in range(500)]))
    delete(
        [
            *stored,
            *log.look(
                lambda snapshot: [
                    row.internal for row in snapshot.page(items(snapshot).index("by_n"), encode_part(2000), KEY_MAX)
                ]
            ),
        ]
    )
    assert instructions() <= before + 100


def test_a_read_before_an_index_was_dropped_still_has_it(log):
    """Although the newest state has no entries of it any more."""
    add(log, 1, 2)
    at = log.last_ts
    log.declare({"items": {}})
    assert log.look(numbers, at) == [1, 2]


def test_a_page_has_at_most_its_limit_and_says_whether_more_follows(log):
    """A page of exactly the limit may not be the last."""
    add(log, 1, 2, 3)

    def look(snapshot):
        index = items(snapshot).index("by_n")
        assert [len(snapshot.page(index, KEY_MIN, KEY_MAX, limit=limit)) for limit in (2, 3, 4)] == [2, 3, 3]
        assert [snapshot.page(index, KEY_MIN, KEY_MAX, limit=limit).complete for limit in (2, 3, 4)] == [
            False,
            False,
            True,
        ]

    log.look(look)


def test_a_page_of_large_documents_ends_early(log, monkeypatch):
    """The memory of a scan is bounded by bytes too, and the scan still returns everything."""
    log.run(unit(lambda transaction: [insert({"n": n, "text": "x" * 1000})(transaction) for n in range(10)]))
    monkeypatch.setattr("tinyvex.storage.log.document_log.SCAN_PAGE_BYTES", 3000)

    def look(snapshot):
        page = snapshot.page(items(snapshot).index("by_n"), KEY_MIN, KEY_MAX)
        assert (len(page), page.complete) == (3, False)
        return numbers(snapshot)

    assert log.look(look) == list(range(10))
    assert log.look(look, at=log.last_ts) == list(range(10))


def test_a_dropped_index_is_still_readable_at_its_time(log):
    """Reads at an older timestamp use the indexes of that time."""
    add(log, 2, 1)
    before = log.last_ts
    log.declare({"items": {}})
    assert log.look(numbers, at=before) == [1, 2]
    with pytest.raises(errors.UnknownIndex):
        log.look(numbers)


def test_an_index_is_unknown_before_it_was_ready(log):
    """A later index cannot be read at an earlier timestamp."""
    add(log, 1)
    before = log.last_ts
    log.declare({"items": {"by_m": ("m",)}})
    with pytest.raises(errors.UnknownIndex):
        log.look(functools.partial(scan, index="by_m"), at=before)


def test_a_table_is_unknown_before_it_was_made(log):
    """The catalog is resolved at the read's timestamp."""
    before = log.last_ts
    log.declare({"items": {"by_n": ("n",)}, "others": {}})
    assert log.look(lambda snapshot: snapshot.catalog.names()) == ["items", "others"]
    assert log.look(lambda snapshot: snapshot.catalog.names(), at=before) == ["items"]


def test_a_read_in_the_future_is_refused(log):
    """Future commits are unknown."""
    with pytest.raises(errors.SnapshotUnavailable, match="future"):
        log.look(numbers, at=log.last_ts + 1)


def test_a_read_below_the_floor_is_refused(log):
    """Expired history is never returned in part."""
    add(log, 1)
    set_global(log.connection, "floor_ts", log.last_ts)
    assert log.look(numbers, at=log.last_ts) == [1]
    with pytest.raises(errors.SnapshotUnavailable, match="older"):
        log.look(numbers, at=log.last_ts - 1)


def test_a_request_is_found_with_everything_it_answered(log):
    """The record of a mutation is stored with the commit and returned in full."""
    log.run(unit(insert({"n": 1}), request=("session", 7)))
    request = log.look(lambda snapshot: snapshot.request("session", 7))
    assert request.record == RequestRecord("session", 7, b"digest", b"null", ("a line",), log.last_ts)
    assert log.look(lambda snapshot: snapshot.request("session", 8).record) is None


def test_a_commit_touches_old_new_and_kept_keys_and_the_id(log):
    """Invalidation sees every index entry through which a live query may have read the document."""
    (stored,) = add(log, 1)
    log.run(unit(lambda transaction: transaction.put(items(transaction), stored.internal, {"n": 2})))
    table = log.look(items)
    by_time, by_n = table.index("by_creation_time").id, table.index("by_n").id
    touched = list(log.commits[-1].touched())
    assert (table.by_id, stored.internal) in touched
    assert sorted(index for index, _ in touched) == sorted([table.by_id, by_time, by_n, by_n])


def test_a_snapshot_refuses_reads_after_its_transaction(log):
    """A context that outlives its function raises an explanatory error."""
    snapshot = log.look(lambda snapshot: snapshot)
    snapshot.end()
    with pytest.raises(RuntimeError, match="transaction is over"):
        snapshot.get(1, bytes(16))


def test_a_long_history_is_read_in_pages(log):
    """More revisions than a page are returned in one order, without gaps."""
    (stored,) = add(log, 0)
    for number in range(limits.SCAN_PAGE_ROWS + 5):
        log.run(unit(lambda transaction, n=number: transaction.put(items(transaction), stored.internal, {"n": n + 1})))
    history = log.look(
        lambda snapshot: [revision.ts for revision in snapshot.history(items(snapshot).tablet, stored.internal)]
    )
    assert history == sorted(history, reverse=True)
    assert len(history) == limits.SCAN_PAGE_ROWS + 6


READS = {
    "revisions": lambda snapshot, internal: snapshot.revisions(items(snapshot).tablet, internal, 0, snapshot.ts),
    "revisions_since": lambda snapshot, _: snapshot.revisions_since(0),
    "stored_revisions": lambda snapshot, _: snapshot.stored_revisions(items(snapshot).tablet),
}


@pytest.mark.parametrize("read", READS)
def test_a_fault_between_two_pages_of_revisions_is_reported(monkeypatch, read):
    """An error of SQLite after the first page never looks like the end."""
    monkeypatch.setattr(document_log, "SCAN_PAGE_ROWS", 3)
    log = MemoryStore()
    log.declare({"items": {}})
    internal = log.run(unit(insert({"n": 0}))).internal
    for n in range(1, 10):
        log.run(unit(lambda t, n=n: t.put(t.catalog.table("items"), internal, {"n": n})))

    def look(snapshot):
        revisions = READS[read](snapshot, internal)
        for _ in range(3):
            next(revisions)
        log.connection.set_progress_handler(lambda: 1, 1)
        try:
            return list(revisions)
        finally:
            log.connection.set_progress_handler(None, 1)

    with pytest.raises(errors.StorageError):
        log.look(look)
