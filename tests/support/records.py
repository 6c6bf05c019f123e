"""Strategies for commit records: every operation with any fields, whether or not they make sense together."""

from __future__ import annotations

from hypothesis import strategies as st

from tinyvex.storage.log import operations
from tinyvex.storage.log.commit_record import CommitRecord

numbers = st.integers(0, 2**53 - 1)
blobs = st.binary(max_size=20)
names = st.text(max_size=8)
index_keys = st.lists(st.tuples(numbers, blobs), max_size=3).map(tuple)
index_fields = st.lists(st.tuples(numbers, st.lists(names, max_size=3).map(tuple)), max_size=3).map(tuple)

writes = st.builds(
    operations.Write, numbers, st.binary(min_size=16, max_size=16), st.none() | blobs, st.none() | numbers,
    index_keys, index_keys, index_keys,
)  # fmt: skip
requests = st.builds(
    operations.RequestRecord, names, numbers, blobs, blobs, st.lists(names, max_size=3).map(tuple), numbers, numbers
)
record_keys = st.tuples(numbers, numbers)

OPERATIONS = {
    operations.WriteDocuments: st.builds(operations.WriteDocuments, st.lists(writes, max_size=4).map(tuple)),
    operations.FillTablet: st.builds(operations.FillTablet, st.lists(writes, max_size=4).map(tuple)),
    operations.StoreRequest: st.builds(operations.StoreRequest, requests),
    operations.ExpireRequests: st.builds(operations.ExpireRequests, numbers, record_keys, record_keys, numbers),
    operations.SetNumbers: st.builds(operations.SetNumbers, numbers, numbers, numbers),
    operations.BackfillIndex: st.builds(
        operations.BackfillIndex, numbers, numbers, blobs, blobs, index_fields, numbers
    ),
    operations.DropIndexEntries: st.builds(operations.DropIndexEntries, numbers, blobs, st.booleans(), numbers),
    operations.MoveTablet: st.builds(
        operations.MoveTablet, numbers, numbers, st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple), numbers
    ),
    operations.UpgradeDocuments: st.builds(operations.UpgradeDocuments, numbers, numbers, index_fields, numbers),
}

commit_records = st.builds(CommitRecord, numbers, st.lists(st.one_of(*OPERATIONS.values()), max_size=5).map(tuple))
