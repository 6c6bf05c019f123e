"""The last commits in memory: a complete answer, or none."""

from tinyvex import limits
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import Write, WriteDocuments
from tinyvex.storage.log.recent_commits import RecentCommits
from tinyvex.storage.log.revisions import StoredDocument

INDEX, OTHER = 7, 8


def commit(ts: int, *writes: Write) -> CommitRecord:
    return CommitRecord(ts, (WriteDocuments(writes),))


def write(
    name: bytes, json: bytes | None = b"{}", *, removed: bytes = b"", added: bytes = b"", kept: bytes = b""
) -> Write:
    """Build a write to one document; keys are those of `INDEX`."""
    keys = [((INDEX, key),) if key else () for key in (removed, added, kept)]
    return Write(1, name, json, None, *keys)


def tail(*commits: CommitRecord) -> RecentCommits:
    made = RecentCommits()
    made.rolled_back(10)
    for record in commits:
        made.applied(record)
    return made


def test_the_keys_before_are_those_of_the_first_write() -> None:
    """A key is inserted, and removed again; others change hands, stay, or are of another index or a later commit."""
    log = tail(
        commit(11, write(b"a", added=b"k1"), write(b"b", removed=b"k2", added=b"k3"), write(b"c", kept=b"k4")),
        commit(
            12,
            write(b"a", None, removed=b"k1"),
            write(b"b", removed=b"k3", added=b"k2"),
            write(b"c", None, removed=b"k4"),
        ),
        commit(13, write(b"d", removed=b"k5")),
    )
    assert log.before(INDEX, 10, 12) == {b"k1": None, b"k2": (1, b"b"), b"k3": None, b"k4": (1, b"c")}
    assert log.before(INDEX, 11, 12) == {b"k1": (1, b"a"), b"k2": None, b"k3": (1, b"b"), b"k4": (1, b"c")}
    assert log.before(OTHER, 10, 13) == {}
    assert log.before(INDEX, 9, 13) is None
    assert log.before(INDEX, 10, 14) is None


def test_changes_are_returned_in_order() -> None:
    """A document is inserted, changed, moved and deleted."""
    log = tail(
        commit(11, write(b"a", b"1", added=b"k1")),
        commit(12, write(b"a", b"2", kept=b"k1")),
        commit(13, write(b"a", b"3", removed=b"k1", added=b"k2")),
        commit(14, write(b"a", None, removed=b"k2")),
    )
    assert log.changes(INDEX, 10, 14) == [
        (b"k1", StoredDocument(b"k1", b"a", 11, b"1")),
        (b"k1", StoredDocument(b"k1", b"a", 12, b"2")),
        (b"k1", None),
        (b"k2", StoredDocument(b"k2", b"a", 13, b"3")),
        (b"k2", None),
    ]


def test_only_what_is_after_and_until() -> None:
    """Only the commits after 11 and up to 13 are returned, out of 11 to 14."""
    log = tail(*[commit(ts, write(b"%d" % ts, added=b"k%d" % ts)) for ts in range(11, 15)])
    changes = log.changes(INDEX, 11, 13)
    assert changes is not None
    assert [key for key, _ in changes] == [b"k12", b"k13"]


def test_other_indexes_are_not_looked_at() -> None:
    """A commit to another index changes nothing."""
    assert tail(commit(11, write(b"a", added=b"k"))).changes(OTHER, 10, 11) == []


def test_before_its_beginning_nothing_is_known() -> None:
    """Commits from before the store was opened are unknown."""
    assert tail().changes(INDEX, 9, 10) is None
    assert tail().changes(INDEX, 10, 10) == []


def test_a_group_that_did_not_commit_is_taken_back() -> None:
    """Its replacement counts, even with the same timestamps."""
    log = tail(commit(11, write(b"a", added=b"k1")))
    log.applied(commit(12, write(b"b", added=b"lost")))
    log.applied(commit(13))
    log.rolled_back(11)
    log.applied(commit(12, write(b"c", added=b"k2")))
    changes = log.changes(INDEX, 10, 12)
    assert changes is not None
    assert [key for key, _ in changes] == [b"k1", b"k2"]


def test_above_its_bound_the_older_half_goes() -> None:
    """The remaining part is complete, and the evicted part is never returned partially."""
    big = b'"%s"' % (b"x" * (limits.RECENT_COMMITS_BYTES_MAX // 10))
    log = tail(*[commit(ts, write(b"a", big, kept=b"k")) for ts in range(11, 31)])
    assert 3 <= len(log) <= 10
    assert log.changes(INDEX, 10, 30) is None
    oldest_known = 30 - len(log)
    assert log.changes(INDEX, oldest_known - 1, 30) is None
    changes = log.changes(INDEX, oldest_known, 30)
    assert changes is not None
    assert len(changes) == len(log)


def test_index_keys_count_for_the_bound() -> None:
    """Documents may be short and their keys long: a document has a key in each index of its table."""
    long = b"k" * (limits.RECENT_COMMITS_BYTES_MAX // 10)
    for keys in ({"removed": long}, {"added": long}, {"kept": long}):
        log = tail(*[commit(ts, write(b"a", **keys)) for ts in range(11, 31)])
        assert 3 <= len(log) <= 10
