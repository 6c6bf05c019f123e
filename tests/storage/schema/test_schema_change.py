"""
Changes of tables, indexes and code: concurrent with writers, all or nothing, and repeatable after an interruption.
"""

import asyncio
import functools
import sqlite3
from itertools import pairwise

import pytest

from tests.support.storage import MemoryStore, declare, drive, insert, numbers, scan, unit
from tinyvex import errors
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.log.operations import BackfillIndex
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.schema import table_replacement
from tinyvex.storage.schema.schema_change import change_schema
from tinyvex.storage.schema.schema_plan import Declaration
from tinyvex.storage.schema.violation_lines import violation_lines
from tinyvex.values.codec import decode

BY_N = {"items": {"by_n": ("n",)}}
BOTH = {"items": {"by_n": ("n",), "by_m": ("m",)}}


@pytest.fixture
def log():
    """Open a log with twenty documents, and an index on n."""
    store = MemoryStore()
    store.declare(BY_N)
    store.run(unit(lambda transaction: [insert({"n": n, "m": -n})(transaction) for n in range(20)]))
    yield store
    assert check(store.connection) == []


def index_rows(log):
    return log.connection.execute("SELECT DISTINCT index_id FROM indexes ORDER BY 1").fetchall()


def catalog(log):
    return log.look(lambda snapshot: snapshot.catalog)


# Changes.


def test_new_tables_get_numbers_tablets_and_indexes(log):
    """Numbers start at 10001 and are used once; the built-in index always exists."""
    log.declare({**BY_N, "users": {"by_name": ("name",)}})
    items, users = catalog(log).table("items"), catalog(log).table("users")
    assert (items.number, users.number) == (10_001, 10_002)
    assert items.tablet != users.tablet
    assert set(users.indexes) == {"by_creation_time", "by_name"}


def test_declaring_the_same_again_commits_nothing(log):
    """A restart with unchanged code invalidates no query."""
    before = log.last_ts
    log.declare(BY_N)
    assert log.last_ts == before


def test_a_new_index_has_the_existing_documents(log):
    """The index has existing and later documents."""
    log.declare(BOTH)
    log.run(unit(insert({"n": 5, "m": 5})))
    assert log.look(functools.partial(numbers, index="by_m"))[-1] == 5
    assert log.look(functools.partial(numbers, index="by_m"))[:20] == list(range(19, -1, -1))


def test_a_removed_index_is_unknown_and_takes_no_room_among_the_current(log):
    """Its log stays, for reads at an older timestamp."""
    index_id = catalog(log).table("items").index("by_n").id
    log.declare({"items": {}})
    assert "by_n" not in catalog(log).table("items").indexes
    assert log.connection.execute("SELECT COUNT(*) FROM current WHERE index_id = ?", (index_id,)).fetchone() == (0,)
    assert (index_id,) in index_rows(log)


def test_an_index_with_other_fields_is_a_new_index(log):
    """The name changes over in one commit."""
    before = catalog(log).table("items").index("by_n").id
    log.declare({"items": {"by_n": ("m",)}})
    assert catalog(log).table("items").index("by_n").id != before
    assert log.look(numbers) == list(range(19, -1, -1))


def test_a_table_that_is_no_longer_declared_stays_readable(log):
    """Data is deleted only explicitly."""
    log.declare({"users": {}})
    assert log.look(numbers) == list(range(20))


def test_the_code_change_touches_the_document_that_every_query_reads(log):
    """This is how all live queries run again."""
    log.declare(BY_N, fingerprint="another")
    assert (-CODE_TABLET, CODE_INTERNAL) in list(log.commits[-1].touched())
    code = log.look(lambda snapshot: snapshot.get(CODE_TABLET, CODE_INTERNAL))
    assert decode(code.json)["fingerprint"] == "another"


class Fingerprints:
    """A participant that follows the current code."""

    def __init__(self):
        self.current = []

    def applied(self, record):
        if (fingerprint := record.code_fingerprint) is not None:
            self.current.append((record.ts, fingerprint))

    def rolled_back(self, ts):
        self.current = [entry for entry in self.current if entry[0] <= ts]


def test_participants_learn_of_the_code_change_with_its_timestamp(log):
    """They are notified before anything later runs."""
    log.participants.append(followed := Fingerprints())
    log.declare(BY_N, fingerprint="another")
    assert followed.current == [(log.last_ts, "another")]


def test_participants_take_the_code_change_back_when_its_commit_fails(log):
    """The old code then remains in service."""
    log.participants.append(followed := Fingerprints())
    seen = []

    def fail():
        seen.extend(followed.current)
        if followed.current:
            raise sqlite3.OperationalError("disk I/O error")

    log.runtime.at_point["writer:before-commit"] = fail
    with pytest.raises(errors.StorageFailed):
        log.declare(BY_N, fingerprint="another")
    del log.runtime.at_point["writer:before-commit"]
    assert [fingerprint for _, fingerprint in seen] == ["another"]
    assert followed.current == []


# Concurrent writers.


def test_documents_written_while_an_index_is_built_are_in_it(log, monkeypatch):
    """
    Inserts, changes and deletions between any two steps are covered, of documents already indexed and not yet indexed.
    """
    monkeypatch.setattr("tinyvex.storage.schema.index_backfill.BACKFILL_STEP_ROWS", 3)
    step = iter(range(1000))

    def work(transaction):
        table = transaction.catalog.table("items")
        number = next(step)
        insert({"n": 100 + number, "m": number})(transaction)
        stored = list(transaction.scan(table, table.index("by_n"), b"", b"\xff"))
        for place, fields in ((0, {"n": -number}), (-2, {"n": 200 + number, "m": 1}), (len(stored) // 2, None)):
            transaction.put(table, stored[place].internal, fields)
        # Touched without a change of its key: it stays the backfill's to enter.
        unchanged = decode(stored[5].json)
        transaction.put(table, stored[5].internal, {"n": unchanged["n"], "m": unchanged.get("m"), "seen": number})

    log.between = lambda: log.run(unit(work))
    log.declare(BOTH)
    assert next(step) > 7
    by_n, by_m = log.look(scan), log.look(functools.partial(scan, index="by_m"))
    assert sorted(entry["_id"] for entry in by_n) == sorted(entry["_id"] for entry in by_m)


def test_mutations_do_not_wait_for_a_backfill(log, monkeypatch):
    """A unit indexes at most one step's documents."""
    monkeypatch.setattr("tinyvex.storage.schema.index_backfill.BACKFILL_STEP_ROWS", 4)
    entered = []
    log.between = lambda: entered.append(log.connection.execute("SELECT COUNT(*) FROM current").fetchone()[0])
    log.declare(BOTH)
    assert max(later - before for before, later in pairwise(entered)) <= 6


def test_an_interrupted_change_is_restarted(log, monkeypatch):
    """Whichever step failed, the half-built index leaves nothing, and the next change is complete."""
    monkeypatch.setattr("tinyvex.storage.schema.index_backfill.BACKFILL_STEP_ROWS", 4)
    for died_at in range(1, 12):
        left = iter(range(died_at))

        def die(left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt

        log.between = die
        try:
            log.declare(BOTH, fingerprint=f"attempt {died_at}")
        except KeyboardInterrupt:
            assert check(log.connection) == []
            log.between = None
            log.run(unit(insert({"n": 1000 + died_at, "m": 1000 + died_at})))
            continue
        log.between = None
        log.declare(BY_N)
    log.between = None
    log.declare(BOTH, fingerprint="at last")
    assert sorted(log.look(functools.partial(numbers, index="by_m"))) == log.look(numbers)
    assert not [name for name in index_states(log) if name != "ready"]


def index_states(log):
    def look(snapshot: Snapshot):
        table = snapshot.catalog.table("_indexes")
        return [decode(stored.json)["state"] for stored in snapshot.page(table.index("by_creation_time"), b"", b"\xff")]

    return log.look(look)


def test_an_index_that_never_became_ready_leaves_no_entries(log):
    """Its number is not used again either."""
    before = index_rows(log)
    calls = iter(range(4))

    def die():
        if next(calls, None) is None:
            raise KeyboardInterrupt

    log.between = die
    with pytest.raises(KeyboardInterrupt):
        log.declare(BOTH)
    log.between = None
    assert len(index_rows(log)) > len(before)
    log.declare(BY_N, fingerprint="back")
    assert index_rows(log) == before


# Validation.


def no_negatives(json):
    number = decode(json)["n"]
    return [] if number >= 0 else [f"n is {number}"], json


def validate(log, validator=no_negatives, fingerprint="checked"):
    log.declare(
        BOTH, validators={"items": validator}, fingerprint=fingerprint, table_fingerprints={"items": fingerprint}
    )


def test_documents_that_do_not_fit_refuse_the_change(log):
    """All violations are reported with id and problem, and nothing is changed."""
    bad = [log.run(unit(insert({"n": -n}))) for n in (1, 2)]
    before = log.last_ts
    with pytest.raises(errors.SchemaRejected, match="2 problems") as caught:
        validate(log)
    assert log.last_ts == before
    violations = caught.value.data["violations"]
    assert [(entry["table"], entry["problem"]) for entry in violations] == [("items", "n is -2"), ("items", "n is -1")]
    assert [entry["id"] for entry in violations] == [decode(stored.json)["_id"] for stored in reversed(bad)]


def test_violations_are_all_counted_and_some_listed(log, monkeypatch):
    """The list is bounded; the count is complete."""
    monkeypatch.setattr("tinyvex.storage.schema.schema_change.SCHEMA_VIOLATIONS_MAX", 5)
    with pytest.raises(errors.SchemaRejected) as caught:
        validate(log, lambda json: (["wrong"], json))
    assert (len(caught.value.data["violations"]), caught.value.data["total"]) == (5, 20)


def test_a_problem_of_many_documents_is_counted_once(log):
    """The summary has one entry for each problem, whatever the number of its documents."""
    with pytest.raises(errors.SchemaRejected) as caught:
        validate(log, lambda json: (["wrong"], json))
    first = caught.value.data["violations"][0]
    assert caught.value.data["kinds"] == [first | {"documents": 20}]
    assert violation_lines(caught.value) == [f"items: wrong (document {first['id']}, and 19 more)"]


def test_documents_are_validated_only_when_their_class_changed(log):
    """The table stores the fingerprint of the class that validated its documents."""
    seen = []

    def validator(json):
        seen.append(json)
        return [], json

    validate(log, validator)
    assert len(seen) == 20
    validate(log, validator)
    log.declare(BOTH, validators={"items": validator}, fingerprint="code", table_fingerprints={"items": "checked"})
    assert len(seen) == 20
    validate(log, validator, "again")
    assert len(seen) == 40


def test_a_table_that_was_undeclared_is_validated_when_it_returns(log):
    """Anything could have been written to it in between."""
    validate(log)
    log.declare({}, fingerprint="without")
    log.run(unit(insert({"n": -1})))
    with pytest.raises(errors.SchemaRejected):
        validate(log)


def test_what_the_old_code_writes_meanwhile_is_validated_too(log):
    """An invalid document written after validation and before the code change refuses it."""
    log.between = lambda: log.run(unit(insert({"n": -1})))
    with pytest.raises(errors.SchemaRejected):
        validate(log)
    log.between = None


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_a_change_that_fails_late_leaves_no_index_behind(log, error):
    """Its index is built by then, and a table with an unfinished index would refuse imports."""
    before, left = index_rows(log), iter(range(4))

    def write():
        if next(left, None) is None:
            log.between = None
            log.run(unit(insert({"n": -1})))

    def validator(json):
        if error is not None and decode(json)["n"] < 0:
            raise error
        return no_negatives(json)

    log.between = write
    with pytest.raises(error or errors.SchemaRejected):
        validate(log, validator)
    assert len(index_rows(log)) == len(before)
    assert set(index_states(log)) == {"ready"}
    assert any(isinstance(operation, BackfillIndex) for record in log.commits for operation in record.operations)
    log.run(lambda snapshot, ts: table_replacement.begin(snapshot, ts, "append", {"items": None}))


def test_what_was_wrong_only_meanwhile_does_not_matter(log):
    """Only the documents at the end are validated."""
    (stored,) = [log.run(unit(insert({"n": 1})))]
    numbers_written = iter([-5, 5] * 50)

    def work(transaction):
        table = transaction.catalog.table("items")
        for _ in range(2):
            transaction.put(table, stored.internal, {"n": next(numbers_written)})

    log.between = lambda: log.run(unit(work))
    validate(log)
    log.between = None


def test_many_writes_meanwhile_are_validated_in_steps(log, monkeypatch):
    """The last step is short, because it blocks the writer."""
    monkeypatch.setattr("tinyvex.storage.schema.schema_change.BACKFILL_STEP_ROWS", 4)
    left = iter(range(3))

    def write():
        if next(left, None) is not None:
            log.run(unit(lambda transaction: [insert({"n": n})(transaction) for n in range(6)]))

    log.between = write
    validate(log)
    log.between = None
    assert len(log.look(numbers)) == 38


# Writers that are faster than a step.


class BusyStore(MemoryStore):
    """A store with documents, and a mutation that inserts more of them before each read and each unit, until the code changes."""

    ENOUGH = 2000

    def __init__(self, rows, padding=""):
        self.mutations = 0
        super().__init__()
        self.declare(BY_N)
        self._work = unit(
            lambda transaction: [insert({"n": n, "m": -n, "t": padding})(transaction) for n in range(rows)]
        )
        for _ in range(3):
            self.run(self._work)
        self.between = self._mutate

    def _mutate(self):
        if self.commits[-1].code_fingerprint == "new":
            self.between = None
            return
        self.mutations += 1
        assert self.mutations < self.ENOUGH, "the change does not end"
        self.run(self._work)

    async def read(self, read):
        if self.between is not None:
            self._mutate()
        return self.look(read)

    def change(self, tables=BY_N, validator=no_negatives, table_fingerprint="checked"):
        drive(
            change_schema(
                self, Declaration(tables), fingerprint="new",
                validators={"items": lambda json, _catalog: validator(json)},
                table_fingerprints={"items": table_fingerprint},
            )
        )  # fmt: skip
        assert check(self.connection) == []


@pytest.fixture
def small_steps(monkeypatch):
    """Make a step and a page smaller than what one mutation of a busy store inserts."""
    for module, name in (
        ("schema_change", "BACKFILL_STEP_ROWS"), ("schema_change", "SCAN_PAGE_ROWS"), ("index_backfill", "BACKFILL_STEP_ROWS"),
    ):  # fmt: skip
        monkeypatch.setattr(f"tinyvex.storage.schema.{module}.{name}", 4)


def test_a_change_of_code_alone_does_not_walk_the_log(small_steps):
    """Its number of steps does not depend on what mutations write meanwhile."""
    store = BusyStore(6)
    store.change(table_fingerprint=None)
    assert store.mutations < 12


def test_a_changed_class_ends_however_fast_documents_are_inserted(small_steps):
    """The last documents are validated, too."""
    store, validated = BusyStore(6), []

    def validator(json):
        validated.append(decode(json)["_id"])
        return [], json

    store.change(validator=validator)
    assert set(validated) >= {document["_id"] for document in store.look(scan)}


@pytest.mark.parametrize("padding", ["", "x" * 1000])
def test_an_upgrade_ends_however_fast_documents_are_inserted(small_steps, monkeypatch, padding):
    """All documents have the new form in the end, whether rows or bytes bound a step."""
    monkeypatch.setattr("tinyvex.storage.schema.schema_change.SCAN_PAGE_BYTES", 4000)
    store = BusyStore(6, padding)
    store.change(validator=lambda json: ([], json if b'"z"' in json else json[:-1] + b',"z":1}'))
    assert {document["z"] for document in store.look(scan)} == {1}


def test_an_index_is_built_however_fast_documents_are_inserted(small_steps):
    """It has the documents of before, and those that were inserted meanwhile."""
    store = BusyStore(6)
    store.change(BOTH, table_fingerprint=None)
    by_n, by_m = store.look(scan), store.look(functools.partial(scan, index="by_m"))
    assert sorted(entry["_id"] for entry in by_n) == sorted(entry["_id"] for entry in by_m)


# In the real store.


async def test_a_change_concurrent_with_real_writers(store, monkeypatch):
    """Mutations are acknowledged while an index is built, and it contains all of them."""
    monkeypatch.setattr("tinyvex.storage.schema.index_backfill.BACKFILL_STEP_ROWS", 16)
    for start in range(0, 400, 100):
        await store.write(
            unit(lambda t, start=start: [insert({"n": n, "m": -n})(t) for n in range(start, start + 100)])
        )
    finished = asyncio.Event()
    written = 0

    async def write_on():
        nonlocal written
        while not finished.is_set():
            await store.write(unit(insert({"n": 1000 + written, "m": -1000 - written})))
            written += 1

    writing = asyncio.ensure_future(write_on())
    await declare(store, BOTH)
    finished.set()
    meanwhile = written
    await writing
    assert meanwhile > 1
    by_m = await store.read(functools.partial(numbers, index="by_m"))
    assert by_m == list(range(999 + written, 999, -1)) + list(range(399, -1, -1))


async def test_a_refused_change_leaves_the_store_serving(store):
    """The store continues with its previous tables and indexes."""
    await store.write(unit(insert({"n": -1})))
    with pytest.raises(errors.SchemaRejected):
        await declare(
            store, BOTH, validators={"items": no_negatives}, fingerprint="new", table_fingerprints={"items": "new"}
        )
    assert await store.read(numbers) == [-1]
    assert set((await store.read(lambda snapshot: snapshot.catalog)).table("items").indexes) == {
        "by_creation_time",
        "by_n",
    }
