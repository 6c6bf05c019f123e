"""Transactions: reading own writes, the exact read set, and the net effect of the writes."""

import enum
import random
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.storage import MemoryStore, insert, numbers, stored_requests, unit
from tinyvex import errors, limits
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN, successor
from tinyvex.storage.maintenance.check import check
from tinyvex.values.codec import decode
from tinyvex.values.ids import DocumentId
from tinyvex.values.key_encoding import encode_part


@pytest.fixture
def log():
    """Return a store with the documents n = 0, 10, 20, … 90."""
    store = filled()
    yield store
    assert check(store.connection) == []


def filled(count=10):
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}})
    store.run(unit(lambda transaction: [insert({"n": n * 10})(transaction) for n in range(count)]))
    return store


def items(transaction):
    return transaction.catalog.table("items")


def by_n(transaction):
    return items(transaction).index("by_n")


def scan(transaction, lo=KEY_MIN, hi=KEY_MAX, **options):
    return transaction.scan(items(transaction), by_n(transaction), lo, hi, **options)


def found(transaction, **options):
    return [decode(stored.json)["n"] for stored in scan(transaction, **options)]


def at(transaction, number):
    """Return the document with this n."""
    (stored,) = scan(transaction, encode_part(number), encode_part(number) + b"\xff")
    return stored


def put(transaction, number, fields):
    return transaction.put(items(transaction), at(transaction, number).internal, fields)


def query(log, work):
    """Run work in a read-only transaction."""

    def read(snapshot):
        return work(Transaction(snapshot, ts=snapshot.ts, writable=False, random=random.Random(0)))

    return log.look(read)


# Reading one's own writes.


def test_a_transaction_reads_what_it_wrote(log):
    """By id and by scan: documents updated in place, inserted, moved and deleted."""

    def work(transaction):
        inserted = insert({"n": 15})(transaction)
        put(transaction, 20, {"n": 85})
        put(transaction, 30, None)
        moved = put(transaction, 40, {"n": 40, "more": 1})
        assert transaction.get(items(transaction), inserted.internal) == inserted
        assert transaction.get(items(transaction), moved.internal) == moved
        return found(transaction), found(transaction, reverse=True)

    expected = [0, 10, 15, 40, 50, 60, 70, 80, 85, 90]
    assert log.run(unit(work)) == (expected, expected[::-1])
    assert log.look(numbers) == expected


def test_a_deleted_document_cannot_be_written_again(log):
    """It does not exist for the transaction that deleted it."""

    def work(transaction):
        stored = at(transaction, 10)
        transaction.put(items(transaction), stored.internal, None)
        assert transaction.get(items(transaction), stored.internal) is None
        with pytest.raises(errors.DocumentNotFound):
            transaction.put(items(transaction), stored.internal, {"n": 1})

    log.run(unit(work))


def test_a_scan_sees_the_transaction_as_it_was_when_it_began(log):
    """A loop that moves each document forward in the index that it reads ends, and meets each document once."""

    def work(transaction):
        met = []
        insert({"n": 5})(transaction)
        for stored in scan(transaction):
            number = decode(stored.json)["n"]
            met.append(number)
            transaction.put(items(transaction), stored.internal, {"n": number + 1000})
        return met

    assert log.run(unit(work)) == [0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert log.look(numbers)[0] == 1000


steps = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 99)),
        st.tuples(st.just("put"), st.integers(0, 20), st.integers(0, 99)),
        st.tuples(st.just("delete"), st.integers(0, 20)),
        st.tuples(
            st.just("look"), st.integers(0, 99), st.integers(0, 99), st.booleans(), st.integers(0, 12) | st.none()
        ),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(steps)
@pytest.mark.parametrize("page_rows", [256, 3])
def test_scans_counts_and_gets_agree_with_a_dictionary(page_rows, history):
    """After any writes of the same transaction, for every range in both directions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyvex.functions.transaction.transaction.SCAN_PAGE_ROWS", page_rows)
        agree_with_a_dictionary(history)


def agree_with_a_dictionary(history):
    log = filled()
    state = {}

    def key(pair):
        return pair[1], pair[0]

    def work(transaction):
        state.update((stored.internal, decode(stored.json)["n"]) for stored in scan(transaction))
        created = {internal: index for index, internal in enumerate(state)}
        for kind, *arguments in history:
            known = sorted(state)
            if kind == "insert":
                internal = insert({"n": arguments[0]})(transaction).internal
                state[internal] = arguments[0]
                created[internal] = len(created)
            elif kind == "look":
                lo, hi, reverse, limit = arguments
                lo, hi = encode_part(lo), encode_part(hi)
                inside = [(created[id], n) for id, n in state.items() if lo <= encode_part(n) < hi]
                inside = [n for _, n in sorted(inside, key=key, reverse=reverse)]
                assert found(transaction, lo=lo, hi=hi, reverse=reverse, limit=limit) == inside[:limit]
                assert transaction.count(items(transaction), by_n(transaction), lo, hi) == len(inside)
            elif known:
                internal = known[arguments[0] % len(known)]
                fields = {"n": arguments[1]} if kind == "put" else None
                transaction.put(items(transaction), internal, fields)
                state.pop(internal) if fields is None else state.update({internal: arguments[1]})
                stored = transaction.get(items(transaction), internal)
                assert (None if stored is None else decode(stored.json)["n"]) == state.get(internal)

    log.run(unit(work))
    assert sorted(log.look(numbers)) == sorted(state.values())
    assert check(log.connection) == []


def test_counting_examines_no_document_twice(log):
    """Writing and counting in turn costs the same each time."""

    def work(transaction):
        put(transaction, 10, {"n": 15})
        assert transaction.count(items(transaction), by_n(transaction), KEY_MIN, KEY_MAX) == 10
        entries = transaction._buffers[items(transaction).tablet].entries
        looked_at = []

        class Counted(dict):
            def values(self):
                looked_at.append(True)
                return super().values()

        transaction._buffers[items(transaction).tablet].entries = Counted(entries)
        for number in (20, 30, 40):
            put(transaction, number, {"n": number + 5})
            insert({"n": 1000 + number})(transaction)
            assert transaction.count(items(transaction), by_n(transaction), encode_part(0), encode_part(95)) == 10
        return list(looked_at)

    assert log.run(unit(work)) == []


# Reads.


def test_a_get_reads_one_id(log):
    """Only the id is recorded as read, whether the document exists or not."""

    def work(transaction):
        transaction.get(items(transaction), bytes(16))
        return dict(transaction.reads.ranges()), items(transaction).by_id

    ranges, by_id = query(log, work)
    assert ranges == {by_id: [(bytes(16), bytes(16) + b"\0")]}


def test_a_document_that_was_just_read_is_not_fetched_again(log):
    """A function that reads a document, reads it once more and writes it costs one lookup; another document costs its own."""

    def work(transaction):
        first, second = at(transaction, 10).internal, at(transaction, 20).internal
        executed = []
        log.connection.set_trace_callback(executed.append)
        before = transaction.get(items(transaction), first)
        assert transaction.get(items(transaction), first) == before
        transaction.put(items(transaction), first, {"n": 11})
        assert len(executed) == 1
        assert decode(transaction.get(items(transaction), first).json)["n"] == 11
        assert decode(transaction.get(items(transaction), second).json)["n"] == 20
        log.connection.set_trace_callback(None)
        return len(executed)

    assert log.run(unit(work)) == 2


def test_a_whole_scan_reads_the_whole_range(log):
    """To its ends, beyond the existing documents."""

    def work(transaction):
        list(scan(transaction))
        return dict(transaction.reads.ranges()), by_n(transaction).id

    ranges, index_id = query(log, work)
    assert ranges == {index_id: [(KEY_MIN, KEY_MAX)]}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_limited_scan_reads_up_to_its_last_document(log, reverse):
    """Keys after the last document were not observed."""

    def work(transaction):
        taken = list(scan(transaction, reverse=reverse, limit=3))
        return taken[-1].key, transaction.reads.ranges()[by_n(transaction).id]

    last, ranges = query(log, work)
    assert ranges == ([(last, KEY_MAX)] if reverse else [(KEY_MIN, successor(last))])


def test_a_scan_that_stops_early_reads_its_last_page(log, monkeypatch):
    """Iteration records the pages that it has fetched."""
    monkeypatch.setattr("tinyvex.functions.transaction.transaction.SCAN_PAGE_ROWS", 4)

    def work(transaction):
        keys = [stored.key for stored in islice(scan(transaction), 5)]
        every = [stored.key for stored in islice(scan(transaction, limit=8), 8)]
        assert every[:5] == keys
        return every[7], transaction.reads.ranges()[by_n(transaction).id]

    last, ranges = query(log, work)
    assert ranges == [(KEY_MIN, successor(last))]


def test_a_scan_that_never_starts_reads_nothing(log):
    """Creating the iterator is not a read."""
    assert query(log, lambda transaction: scan(transaction) and len(transaction.reads)) == 0


@pytest.mark.parametrize(("written", "asked"), [(0, 7), (2, 9)])
def test_take_seven_fetches_seven(log, written, asked):
    """A limit reaches the database, also if documents were written."""

    def work(transaction):
        for number in range(written):
            put(transaction, number * 10, {"n": number * 10})
        limits_asked = []
        page = transaction.snapshot.page

        class Recording:
            def page(self, *arguments, limit, **options):
                limits_asked.append(limit)
                return page(*arguments, limit=limit, **options)

            def validate(self):
                pass

        transaction.snapshot = Recording()
        assert len(list(scan(transaction, limit=7))) == 7
        return limits_asked

    assert log.run(unit(work)) == [asked]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_limit_applies_to_the_written_documents(log, reverse):
    """Reading the last document and adding one after it, repeatedly, costs the same each time."""

    def work(transaction):
        for number in range(100, 120):
            insert({"n": number})(transaction)
        buffer = transaction._buffers[items(transaction).tablet]
        rows = buffer.rows(by_n(transaction), KEY_MIN, KEY_MAX, reverse=reverse, limit=2)
        return [decode(row.json)["n"] for row in rows]

    assert log.run(unit(work)) == ([118, 119] if reverse else [100, 101])


def test_a_scan_gives_way_and_validates_between_pages(log, monkeypatch):
    """Other threads run, and a snapshot that has expired is refused."""
    monkeypatch.setattr("tinyvex.functions.transaction.transaction.SCAN_PAGE_ROWS", 3)
    gave_way = []

    def read(snapshot):
        transaction = Transaction(
            snapshot, ts=snapshot.ts, writable=False, random=random.Random(0), give_way=lambda: gave_way.append(True)
        )
        rows = scan(transaction)
        assert len(list(islice(rows, 5))) == 5
        snapshot._floor = lambda: snapshot.ts + 1
        with pytest.raises(errors.SnapshotUnavailable):
            list(rows)

    log.look(read)
    assert len(gave_way) == 2


def test_an_index_that_is_being_built_cannot_be_read(log):
    """A scan or count of it is refused."""

    def work(transaction):
        index = type(by_n(transaction))(99, "by_n", ("n",), ready=False)
        with pytest.raises(errors.UnknownIndex, match="being built"):
            transaction.scan(items(transaction), index, KEY_MIN, KEY_MAX)
        with pytest.raises(errors.UnknownIndex, match="being built"):
            transaction.count(items(transaction), index, KEY_MIN, KEY_MAX)

    query(log, work)


# Writes.


def test_a_document_carries_its_id_and_creation_time(log):
    """They are in the stored JSON, and stay when the document is replaced."""

    def work(transaction):
        stored = insert({"n": 1})(transaction)
        again = transaction.put(items(transaction), stored.internal, {"n": 2})
        return stored.internal, decode(stored.json), decode(again.json)

    internal, first, second = log.run(unit(work))
    assert first["_id"] == second["_id"] == DocumentId(10_001, internal).text
    assert first["_creationTime"] == second["_creationTime"] == log.last_ts / 1000


class Level(enum.IntEnum):
    HIGH = 2


@pytest.mark.parametrize(
    ("given_value", "stored_value"), [((1, 2), [1, 2]), (Level.HIGH, 2), (2.0, 2), ({"a": (1.0,)}, {"a": [1]})]
)
def test_keys_are_those_of_the_stored_form(log, given_value, stored_value):
    """A document is found under the value that is read back, whatever Python object was given."""
    log.run(unit(insert({"n": given_value})))
    log.run(unit(lambda transaction: put(transaction, 10, {"n": given_value})))

    def work(transaction):
        lo = encode_part(stored_value)
        return [decode(stored.json)["n"] for stored in scan(transaction, lo, lo + b"\xff")]

    assert query(log, work) == [stored_value] * 2


def test_creation_times_increase_within_a_transaction(log):
    """Documents of one transaction are ordered."""
    stored = log.run(unit(lambda transaction: [insert({"n": 1})(transaction) for _ in range(50)]))
    times = [decode(entry.json)["_creationTime"] for entry in stored]
    assert times == sorted(set(times))


def test_inserting_and_deleting_is_nothing(log):
    """The record has the net effect only."""

    def work(transaction):
        stored = insert({"n": 1})(transaction)
        transaction.put(items(transaction), stored.internal, None)
        return transaction.record(None)

    assert log.run(unit(work)) is None


def test_writing_equal_contents_is_nothing(log):
    """A revision equal to its predecessor would wake subscribers without a reason."""
    assert log.run(unit(lambda transaction: (put(transaction, 10, {"n": 10}), transaction.record(None))[1])) is None


def test_many_writes_to_one_document_are_one_revision(log):
    """A document has one revision for each timestamp: the net change from the snapshot."""

    def work(transaction):
        internal = at(transaction, 10).internal
        for number in (1, 2, 3):
            transaction.put(items(transaction), internal, {"n": number})
        return transaction.record(None).writes

    (write,) = log.run(unit(work))
    assert decode(write.json)["n"] == 3
    assert (len(write.removed), len(write.added), len(write.unchanged)) == (1, 1, 1)


def test_an_id_of_a_client_is_used(log):
    """`insert` accepts an id."""
    stored = log.run(unit(lambda transaction: transaction.insert(items(transaction), {"n": 1}, b"i" * 16)))
    assert stored.internal == b"i" * 16


@pytest.mark.parametrize("deleted", [False, True])
def test_an_id_that_ever_existed_is_refused(log, deleted):
    """In an earlier commit, whether it still exists or was deleted."""
    log.run(unit(lambda transaction: transaction.insert(items(transaction), {"n": 1}, b"i" * 16)))
    if deleted:
        log.run(unit(lambda transaction: transaction.put(items(transaction), b"i" * 16, None)))
    with pytest.raises(errors.IdExists):
        log.run(unit(lambda transaction: transaction.insert(items(transaction), {"n": 2}, b"i" * 16)))


def test_an_id_used_in_the_same_transaction_is_refused(log):
    """Even if its document was deleted."""

    def work(transaction):
        transaction.insert(items(transaction), {"n": 1}, b"i" * 16)
        transaction.put(items(transaction), b"i" * 16, None)
        with pytest.raises(errors.IdExists):
            transaction.insert(items(transaction), {"n": 2}, b"i" * 16)

    log.run(unit(work))


@pytest.mark.parametrize("fields", [{"n": 1}, None])
def test_writing_a_document_that_does_not_exist_is_refused(log, fields):
    """Replacing and deleting need the document."""
    with pytest.raises(errors.DocumentNotFound):
        log.run(unit(lambda transaction: transaction.put(items(transaction), bytes(16), fields)))


def test_a_document_over_the_limit_is_refused(log):
    """The message has the table and the numbers."""
    with pytest.raises(errors.ValueTooLarge, match=str(limits.DOCUMENT_BYTES_MAX)):
        log.run(unit(insert({"n": "x" * limits.DOCUMENT_BYTES_MAX})))


def test_too_many_documents_are_refused(log, monkeypatch):
    """Repeated writes to one document count once."""
    monkeypatch.setattr("tinyvex.functions.transaction.transaction.TRANSACTION_DOCUMENTS_MAX", 3)

    def work(transaction):
        internal = insert({"n": 1})(transaction).internal
        for number in range(5):
            transaction.put(items(transaction), internal, {"n": number})
        insert({"n": 1})(transaction)
        put(transaction, 90, None)
        with pytest.raises(errors.TransactionTooLarge):
            insert({"n": 1})(transaction)

    log.run(unit(work))


def test_too_many_bytes_are_refused(log, monkeypatch):
    """The sum of everything written is bounded."""
    monkeypatch.setattr("tinyvex.functions.transaction.transaction.TRANSACTION_BYTES_MAX", 1000)
    with pytest.raises(errors.TransactionTooLarge):
        log.run(unit(lambda transaction: [insert({"n": "x" * 100})(transaction) for _ in range(10)]))


def test_a_value_that_fails_leaves_the_transaction_as_it_was(log):
    """If the function catches the error, its other writes commit."""

    def work(transaction):
        with pytest.raises(errors.InvalidValue):
            put(transaction, 10, {"n": object()})
        with pytest.raises(errors.InvalidValue):
            insert({"n": object()})(transaction)
        insert({"n": 5})(transaction)

    log.run(unit(work))
    assert log.look(numbers)[:3] == [0, 5, 10]


def test_a_query_cannot_write(log):
    """An attempt is a defect of the caller, not a user's error."""
    with pytest.raises(AssertionError):
        query(log, insert({"n": 1}))


def test_a_request_is_recorded_without_writes(log):
    """A resent mutation that changed nothing receives the same answer too."""
    log.run(unit(lambda transaction: None, request=("session", 1)))
    assert log.commits[-1].writes == ()
    assert log.look(stored_requests) == [1]
