"""Check one key of an index, given its rows."""

from __future__ import annotations

from tinyvex.storage.file.checksums import content_checksum, current_checksum, entry_checksum
from tinyvex.storage.log.catalog import IndexInfo
from tinyvex.storage.maintenance.check_entries import EntryCheck
from tinyvex.values.codec import encode

TABLET = 10
INDEX = IndexInfo(5, "by_text", ("text",))
DOCUMENT = {"_id": "an id", "_creationTime": 1, "text": "a"}
DOCUMENT_KEY = bytes(range(16))
KEY = INDEX.key(DOCUMENT, DOCUMENT_KEY)


def problems(current_tablet):
    """Check a key that begins at 7 in log row 3; `current` points at row 4 if that is a revision of another tablet."""
    data = encode(DOCUMENT)
    log_row = 3 if current_tablet == TABLET else 4
    entry = (INDEX.id, KEY, 7, 0, TABLET, DOCUMENT_KEY, entry_checksum(INDEX.id, KEY, 7, 0, TABLET))
    current = (log_row, current_checksum(INDEX.id, KEY, content_checksum(7, data)))
    pointed_at = (current_tablet, DOCUMENT_KEY, 7, data, 0)
    searched = (None, None) if current_tablet == TABLET else (3, data)
    check = EntryCheck(0, {INDEX.id: INDEX}, {INDEX.id: TABLET}.get)
    return list(check.key_problems(INDEX.id, KEY, [(*entry, *current, *pointed_at, *searched)]))


def test_a_whole_key_has_no_problem():
    """The entry and `current` have one revision."""
    assert problems(TABLET) == []


def test_the_same_document_of_another_tablet_is_not_current():
    """An import that replaces a table leaves such revisions."""
    assert problems(11) == ["`current` points at a revision of tablet 11, not 10"]
