"""Documents that a new class stores differently: rewritten when it takes effect, and indexed by their new fields."""

import contextlib
import functools
from functools import partial

import pytest

from tests.support.imports import imported, states
from tests.support.storage import MemoryStore, insert, scan, unit
from tinyvex import errors
from tinyvex.limits import DOCUMENT_BYTES_MAX
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.log.operations import FillTablet, UpgradeDocuments
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.schema import table_replacement
from tinyvex.storage.schema.document_upgrade import Upgrade, stage
from tinyvex.storage.schema.schema_plan import Declaration, fits
from tinyvex.storage.schema.tablets import UPGRADE
from tinyvex.values.codec import decode, encode

OLD = {"items": {"by_n": ("n",)}}
NEW = {"items": {"by_n": ("n",), "by_m": ("m",)}}
COUNT = 300
"""More than one step has."""


def with_default(json):
    """Return a class whose `m` defaults to a hundred."""
    return [], encode({"m": 100} | decode(json))


@pytest.fixture
def log():
    """Open a log in which every third document has the new field."""
    store = MemoryStore()
    store.declare(OLD)
    for start in range(0, COUNT, 50):
        documents = [{"n": n} | ({"m": n} if n % 3 == 0 else {}) for n in range(start, start + 50)]
        store.run(unit(lambda transaction, found=documents: [insert(one)(transaction) for one in found]))
    yield store
    assert check(store.connection) == []


def upgrade(log, tables=NEW, validator=with_default, fingerprint="new"):
    log.declare(
        tables,
        validators={"items": validator},
        fingerprint=fingerprint,
        table_fingerprints={"items": fingerprint},
    )


def found(log):
    """Return all documents, by the index of the new field."""
    rows = log.look(lambda snapshot: scan(snapshot, "by_m"))
    return [(row["m"], row["n"]) for row in rows]


EXPECTED = sorted((n if n % 3 == 0 else 100, n) for n in range(COUNT))


@pytest.mark.parametrize("before", [OLD, NEW])
def test_a_document_is_found_by_the_default_of_a_field_newer_than_it(log, before):
    """The default is indexed, whether the index is as new as the field or older."""
    log.declare(before, fingerprint="before")
    upgrade(log)
    assert found(log) == EXPECTED


def test_only_documents_that_differ_are_rewritten(log):
    """A document that has the field already gets no further revision."""
    upgrade(log)
    revisions = log.connection.execute("SELECT COUNT(*) FROM documents WHERE ts = ?", (log.last_ts,)).fetchone()[0]
    system = len(log.commits[-1].writes)
    assert revisions - system == sum(n % 3 != 0 for n in range(COUNT))


def test_a_second_change_rewrites_nothing(log):
    """Another code change rewrites nothing."""
    upgrade(log)
    upgrade(log, fingerprint="newer")
    assert (
        len(log.commits[-1].writes)
        == log.connection.execute("SELECT COUNT(*) FROM documents WHERE ts = ?", (log.last_ts,)).fetchone()[0]
    )


def test_older_timestamps_do_not_change(log):
    """The new revisions have the `ts` of the change."""
    before = log.last_ts
    upgrade(log)
    rows = log.look(scan, before)
    assert [row.get("m") for row in rows] == [n if n % 3 == 0 else None for n in range(COUNT)]


def test_cached_rows_are_read_again(log):
    """Cached rows cannot be updated across the change."""
    before = log.last_ts
    upgrade(log)
    index = log.look(lambda snapshot: snapshot.catalog.table("items").indexes["by_n"])
    assert log.look(lambda snapshot: snapshot.changes(index, before)) is None


def test_a_change_without_rewrites_keeps_cached_rows(log):
    """Live queries continue with their cached rows."""
    upgrade(log)
    before = log.last_ts
    upgrade(log, fingerprint="newer")
    index = log.look(lambda snapshot: snapshot.catalog.table("items").indexes["by_n"])
    assert log.look(lambda snapshot: snapshot.changes(index, before)) == []


def test_an_index_that_goes_gets_no_more_entries(log):
    """A new index of the same name, over another field, gets them."""
    upgrade(log, {"items": {"by_n": ("m",)}})
    assert [(row["m"], row["n"]) for row in log.look(scan)] == EXPECTED


STEPS = 8
"""More than the change has."""


@pytest.mark.parametrize("step", range(STEPS))
def test_concurrent_writes_are_rewritten_too(log, step):
    """Documents that the old code writes at any point before the change are rewritten."""
    left, late = [step], []

    def come_between():
        left[0] -= 1
        if left[0] == -1 and log.look(lambda snapshot: snapshot.catalog.table("items").fingerprint) is None:
            log.run(unit(insert({"n": COUNT})))
            late.append((100, COUNT))

    log.between = come_between
    upgrade(log)
    log.between = None
    assert found(log) == sorted(EXPECTED + late)


@pytest.mark.parametrize("step", range(STEPS))
def test_an_interrupted_change_rewrites_nothing(log, step):
    """Nothing is rewritten before the last commit; the next change does it."""
    left = [step]
    before = log.look(scan)

    def die():
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt

    log.between = die
    with contextlib.suppress(KeyboardInterrupt):
        upgrade(log)
    log.between = None
    if left[0] < 0 and "by_m" not in log.look(lambda snapshot: snapshot.catalog.table("items").indexes):
        assert log.look(scan) == before
    upgrade(log)
    assert found(log) == EXPECTED


@pytest.mark.parametrize("step", range(STEPS))
def test_a_file_with_staged_documents_does_not_fit_the_app_before(log, step):
    """A start with the old code has to abandon them."""
    log.declare(NEW)
    left = iter(range(step))

    def die():
        if next(left, None) is None:
            raise KeyboardInterrupt

    log.between = die
    with contextlib.suppress(KeyboardInterrupt):
        upgrade(log)
    log.between = None
    does_fit, before = log.look(partial(fits, Declaration(NEW), repr(NEW), {})), log.last_ts
    log.declare(NEW)
    assert does_fit is (log.last_ts == before)


def test_a_document_that_would_be_too_large_refuses_the_change(log):
    """The error names its id, and nothing is changed."""
    before = log.last_ts

    def validator(json):
        document = decode(json)
        return [], encode(document | {"m": "x" * DOCUMENT_BYTES_MAX}) if document["n"] == 7 else json

    with pytest.raises(errors.SchemaRejected, match="1 problem in existing documents.*with its defaults it has"):
        upgrade(log, validator=validator)
    assert log.last_ts == before


# Staging.


@pytest.fixture
def _small_pages(monkeypatch):
    """The change takes many units, and the copy many pages."""
    monkeypatch.setattr("tinyvex.storage.schema.schema_change.BACKFILL_STEP_ROWS", 60)
    monkeypatch.setattr("tinyvex.storage.schema.index_backfill.BACKFILL_STEP_ROWS", 100)
    monkeypatch.setattr("tinyvex.storage.log.apply.SCAN_PAGE_ROWS", 7)


def at_each_unit(log, work):
    """Call `work` with a number between any two units of a change; return the number of calls."""
    calls = []

    def come_between():
        calls.append(None)
        work(len(calls))

    log.between = come_between
    upgrade(log)
    log.between = None
    return len(calls)


@pytest.mark.usefixtures("_small_pages")
def test_readers_see_the_old_documents_until_the_change(log):
    """However many commits staging takes."""
    before = log.look(scan)

    def look(_number):
        if log.look(lambda snapshot: snapshot.catalog.table("items").fingerprint) is None:
            assert log.look(scan) == before

    assert at_each_unit(log, look) > 10
    assert found(log) == EXPECTED


@pytest.mark.usefixtures("_small_pages")
def test_the_record_of_the_change_does_not_contain_the_documents(log):
    """It names the tablet with their contents, and how many there are."""
    upgrade(log)
    (operation,) = [one for record in log.commits for one in record.operations if isinstance(one, UpgradeDocuments)]
    assert operation.rows == sum(n % 3 != 0 for n in range(COUNT))
    assert all(len(record.writes) < 60 for record in log.commits[-3:])


@pytest.mark.usefixtures("_small_pages")
def test_documents_that_change_after_they_were_staged_are_staged_again(log):
    """Or deleted, or upgraded by a mutation: the newest contents count."""
    table = log.look(lambda snapshot: snapshot.catalog.table("items"))
    keys = log.look(lambda snapshot: [row.internal for row in snapshot.page(table.indexes["by_n"], b"", b"\xff")])
    expected = dict(enumerate(EXPECTED_BY_N))

    def change(number):
        if log.look(lambda snapshot: snapshot.catalog.table("items").fingerprint) is not None:
            return
        rewritten = {"n": number, "other": number}  # rewriting the same contents writes nothing
        for n, fields in ((number, rewritten), (100 + number, None), (200 + number, {"n": 200 + number, "m": -1})):
            if n < COUNT:
                expected[n] = None if fields is None else fields.get("m", 100)
                log.run(unit(functools.partial(put, keys[n], fields)))

    assert at_each_unit(log, change) > 10
    assert found(log) == sorted((m, n) for n, m in expected.items() if m is not None)


@pytest.mark.usefixtures("_small_pages")
def test_large_documents_that_change_meanwhile_are_staged_in_small_records(log, monkeypatch):
    """A step ends with their size, not only with their number, once the writers pause."""
    monkeypatch.setattr("tinyvex.storage.schema.schema_change.SCAN_PAGE_BYTES", 5_000)
    fields = [{"n": COUNT + n, "text": "x" * 1_000} for n in range(40)]

    written = []

    def write(_number):
        if log.look(states) and not written:  # some documents that were there before are staged
            log.run(unit(lambda transaction: [insert(one)(transaction) for one in fields]))
            written.append(len(log.commits))

    at_each_unit(log, write)
    sizes = [
        sum(len(one.json) for one in operation.writes)
        for record in log.commits[written[0] :]
        for operation in record.operations
        if isinstance(operation, FillTablet)
    ]
    assert len(sizes) > 5
    assert max(sizes) < 7_000
    assert len(found(log)) == COUNT + 40


def test_a_step_of_staging_may_run_again(log):
    """A group that is rolled back runs it twice, and the tablet of the first attempt does not exist."""
    staged = {}

    def run(snapshot, ts):
        table = snapshot.catalog.table("items")
        (stored,) = snapshot.page(table.indexes["by_creation_time"], b"", b"\xff", limit=1)
        upgrades = [Upgrade(table, stored, with_default(stored.json)[1])]
        stage(snapshot, ts - 1, staged, upgrades)
        return Outcome(None, stage(snapshot, ts, staged, upgrades))

    log.run(run)
    assert log.look(states) == [("items", "filling")]


def put(key, fields, transaction):
    transaction.put(transaction.catalog.table("items"), key, fields)


EXPECTED_BY_N = [n if n % 3 == 0 else 100 for n in range(COUNT)]


@pytest.mark.usefixtures("_small_pages")
@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("step", range(1, 16))
def test_an_import_during_the_change_keeps_what_was_staged(log, mode, step):
    """And what it brings is upgraded too, into the tablet that the table then has."""
    log.declare(NEW, fingerprint="before")  # an import is refused while an index is being built

    def run_import(number):
        if number == step and log.look(lambda snapshot: snapshot.catalog.table("items").fingerprint) is None:
            imported(log, mode, {"items": [{"n": 1000}, {"n": 1001, "m": 1}]})
            done.extend([(100, 1000), (1, 1001)])

    done: list[tuple[int, int]] = []
    at_each_unit(log, run_import)
    assert found(log) == sorted([*([] if done and mode == "replace" else EXPECTED), *done])


@pytest.mark.usefixtures("_small_pages")
def test_what_a_refused_change_staged_is_abandoned_by_the_next(log):
    """Its tablet is then cleared like any other that is abandoned."""

    def spoil(number):
        if number == 8:
            log.run(unit(insert({"n": -1})))

    def validator(json):
        problems, stored = with_default(json)
        return problems if decode(json)["n"] >= 0 else ["n is negative"], stored

    log.between, calls = None, []
    log.between = lambda: (calls.append(None), spoil(len(calls)))
    with pytest.raises(errors.SchemaRejected):
        upgrade(log, validator=validator)
    log.between = None
    assert log.look(states) == [("items", "filling")]
    upgrade(log)
    assert set(log.look(states)) == {("items", "abandoned")}


def test_an_import_cannot_name_what_is_staged(log):
    """The tablet is filled by the schema change alone."""
    with pytest.raises(errors.ImportRefused):
        log.run(lambda snapshot, ts: table_replacement.finish(snapshot, ts, UPGRADE))
