"""The write buffer: rows and counts in index order, compared with a model."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.functions.transaction.write_buffer import WriteBuffer, WriteEntry
from tinyvex.storage.log.catalog import IndexInfo
from tinyvex.storage.log.key_ranges import KEY_MAX, KEY_MIN
from tinyvex.storage.log.revisions import StoredDocument

INDEX = IndexInfo(1, "by_n", ("n",))

key_bytes = st.sampled_from([bytes([letter]) for letter in b"abcdef"])
steps = st.lists(st.tuples(st.integers(0, 4), st.none() | key_bytes, st.booleans()), max_size=12)
"""A document, its new key or its deletion, and whether the views are used before."""


def document(number: int, key: bytes) -> StoredDocument:
    """Return a document with a key of the index."""
    internal = b"document%08d" % number
    return StoredDocument(key + internal, internal, 7, b"{}")


@given(st.dictionaries(st.integers(0, 4), key_bytes), steps)
def test_rows_and_counts_follow_the_writes(
    stored: dict[int, bytes], writes: list[tuple[int, bytes | None, bool]]
) -> None:
    """Whenever the views of an index are built, they equal the documents as they are now."""
    buffer = WriteBuffer()
    entries: dict[int, WriteEntry] = {}
    now: dict[int, StoredDocument] = {}
    for number, key, look_first in writes:
        if look_first:
            buffer.rows(INDEX, KEY_MIN, KEY_MAX)
            buffer.count(INDEX, KEY_MIN, KEY_MAX)
        if number not in entries:
            base = document(number, stored[number]) if number in stored else None
            old_keys = [] if base is None else [(INDEX.id, base.key)]
            entries[number] = WriteEntry(len(entries), document(number, b"").internal, 0.0, base, old_keys)
            buffer.add(entries[number])
        new = None if key is None else document(number, key)
        buffer.set(entries[number], new, None, [] if new is None else [(INDEX.id, new.key)])
        now = {**now, number: new} if new is not None else {each: row for each, row in now.items() if each != number}
    expected = sorted(now.values(), key=lambda row: row.key)
    assert buffer.rows(INDEX, KEY_MIN, KEY_MAX) == expected
    assert buffer.count(INDEX, KEY_MIN, KEY_MAX) == len(expected) - len(entries.keys() & stored.keys())
    assert buffer.rows(INDEX, b"b", b"e") == [row for row in expected if b"b" <= row.key < b"e"]
    assert buffer.rows(INDEX, KEY_MIN, KEY_MAX, limit=2) == expected[:2]
    assert buffer.rows(INDEX, KEY_MIN, KEY_MAX, limit=2, reverse=True) == expected[-2:]


def test_an_unchanged_document_is_not_written() -> None:
    """A document that was changed and changed back is not a change."""
    base = document(1, b"a")
    buffer, entry = WriteBuffer(), WriteEntry(0, base.internal, 0.0, base, [(INDEX.id, base.key)])
    buffer.add(entry)
    buffer.set(entry, msgspec.structs.replace(base, json=b"[]"), None, entry.old_keys)
    assert entry.changed()
    buffer.set(entry, base, None, entry.old_keys)
    assert not entry.changed()
