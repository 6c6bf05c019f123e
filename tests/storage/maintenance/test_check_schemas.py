"""Documents are compared with the schemas that are stored with their tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import tinyvex as tv
from tests.support.storage import MemoryStore, insert, seal, unit
from tinyvex.errors import SchemaRejected
from tinyvex.functions.schema.document import Document, TableDeclaration
from tinyvex.functions.schema.location import Location
from tinyvex.functions.schema.table_spec import TableSpec
from tinyvex.storage.file.database_file import set_global
from tinyvex.storage.log.commit_record import Outcome
from tinyvex.storage.maintenance.check import check
from tinyvex.storage.schema.table_drop import drop
from tinyvex.values.ids import DocumentId


@tv.table("tags")
class Tag(tv.Document):
    name: str = ""


class Named(Document):
    name: str


class Counted(Document):
    name: int


class Tagged(Document):
    tag: tv.Id[Tag] | None = None


def declare(log: MemoryStore, cls: type[Document] | None, **more: Any) -> None:
    """Make a class the one of `items`, in addition to a table `tags`."""
    spec = TableSpec(TableDeclaration("items", {}, Location("/app.py", 1)), cls)
    log.declare(
        {"items": {}, "tags": {}},
        validators_take_catalog=True,
        validators={} if cls is None else {"items": spec.validate},
        schemas={} if spec.schema is None else {"items": spec.schema},
        table_fingerprints={"items": spec.fingerprint},
        fingerprint=spec.fingerprint,
        **more,
    )


@pytest.fixture
def log() -> MemoryStore:
    return MemoryStore()


def put(log: MemoryStore, internal: bytes, fields: dict[str, Any] | None) -> None:
    log.run(unit(lambda transaction: transaction.put(transaction.catalog.table("items"), internal, fields)))


def add(log: MemoryStore, fields: dict[str, Any], table: str = "items") -> bytes:
    return log.run(unit(insert(fields, table))).internal


def names(log: MemoryStore, internal: bytes) -> str:
    return f"items {DocumentId(log.look(lambda snapshot: snapshot.catalog.table('items').number), internal).text}"


def test_a_document_that_does_not_fit_is_reported(log: MemoryStore) -> None:
    """The report has the table, the id, the path of the field and the problem."""
    declare(log, Named)
    add(log, {"name": "a"})
    assert check(log.connection) == []
    wrong = add(log, {"name": 1})
    assert check(log.connection) == [
        f"{names(log, wrong)}: revision {log.last_ts} does not fit the schema of its table: $.name: expected str, got int"
    ]


def test_a_revision_fits_the_schema_of_its_time(log: MemoryStore) -> None:
    """Revisions that were replaced before a schema change need not fit the new schema, only their own."""
    declare(log, Named)
    document, other = add(log, {"name": "a"}), add(log, {"name": "b"})
    put(log, document, {"name": "c"})
    put(log, document, None)
    put(log, other, None)
    declare(log, Counted)
    add(log, {"name": 1})
    assert check(log.connection) == []


def test_an_older_revision_that_does_not_fit_is_reported(log: MemoryStore) -> None:
    """A revision is compared with the schema that was the newest when it was replaced."""
    declare(log, Named)
    document = add(log, {"name": 1})
    written = log.last_ts
    put(log, document, {"name": "a"})
    assert [problem.partition(": ")[2] for problem in check(log.connection)] == [
        f"revision {written} does not fit the schema of its table: $.name: expected str, got int"
    ]


def test_a_table_without_a_class_has_no_schema(log: MemoryStore) -> None:
    """Its documents may have any fields, also those of a time when it had a class."""
    declare(log, Named)
    add(log, {"name": "a"})
    declare(log, None)
    add(log, {"name": 1})
    assert check(log.connection) == []


@pytest.mark.parametrize("floor", range(6))
def test_the_schema_at_the_floor_is_enough(log: MemoryStore, floor: int) -> None:
    """A former schema may be purged before the revisions that it allowed, which no reader sees any more."""
    declare(log, Named)
    document = add(log, {"name": "a"})
    put(log, document, None)
    declare(log, Counted)
    add(log, {"name": 1})
    set_global(log.connection, "floor_ts", log.last_ts - floor)
    log.connection.execute(
        "DELETE FROM documents AS d WHERE table_id = 1 AND EXISTS (SELECT 1 FROM documents"
        " WHERE table_id = 1 AND id = d.id AND prev_ts = d.ts AND ts <= ?)",
        (log.last_ts - floor,),
    )
    assert not [problem for problem in check(log.connection) if "schema" in problem]


def test_an_id_of_another_table_is_reported(log: MemoryStore) -> None:
    """An id must be of a table that the schema allows."""
    declare(log, Tagged)
    tag, item = add(log, {}, "tags"), add(log, {})
    numbers = log.look(lambda snapshot: {name: snapshot.catalog.table(name).number for name in ("tags", "items")})
    put(log, item, {"tag": DocumentId(numbers["tags"], tag).text})
    assert check(log.connection) == []
    put(log, item, {"tag": DocumentId(numbers["items"], item).text})
    (problem,) = check(log.connection)
    assert problem.endswith("$.tag: expected an id of table `tags`, got one of table `items`")


def test_an_id_of_a_table_that_never_existed_is_reported(log: MemoryStore) -> None:
    """Its number is not yet assigned."""
    declare(log, Tagged)
    add(log, {"tag": DocumentId(20_000, bytes(16)).text})
    (problem,) = check(log.connection)
    assert problem.endswith("$.tag: expected an id of table `tags`, got one of an unknown table")


def test_ids_of_a_dropped_table_may_stay(log: MemoryStore) -> None:
    """A table with the same name that is created later has another number."""
    declare(log, Tagged)
    number = log.look(lambda snapshot: snapshot.catalog.table("tags").number)
    add(log, {"tag": DocumentId(number, bytes(16)).text})
    log.run(lambda snapshot, ts: Outcome(None, drop(snapshot, ts, "tags")))
    declare(log, Tagged)
    assert log.look(lambda snapshot: snapshot.catalog.table("tags").number) != number
    assert check(log.connection) == []


def test_a_schema_change_refuses_ids_of_another_table(log: MemoryStore) -> None:
    """Otherwise `check` would report documents that a schema change has accepted."""

    class Loose(Document):
        tag: str | None = None

    declare(log, Loose)
    item = add(log, {})
    number = log.look(lambda snapshot: snapshot.catalog.table("items").number)
    put(log, item, {"tag": DocumentId(number, item).text})
    with pytest.raises(SchemaRejected, match="expected an id of table `tags`, got one of table `items`"):
        declare(log, Tagged)


@pytest.mark.parametrize(
    "schema", ["{", "[]", '[{"closed": true, "fields": [{"name": "a", "required": true, "type": "x"}]}]']
)
def test_a_schema_that_cannot_be_read_is_reported(log: MemoryStore, schema: str) -> None:
    """The text is covered by a checksum, so this is a defect and not a damaged disk."""
    declare(log, Named)
    add(log, {"name": "a"})
    encoded = msgspec.json.encode(schema).decode()
    log.connection.execute(
        "UPDATE documents SET json_value = CAST(json_set(CAST(json_value AS TEXT), '$.schema', json(?)) AS BLOB)"
        " WHERE table_id = 1",
        (encoded,),
    )
    seal(log.connection)
    assert any("is not a stored schema" in problem for problem in check(log.connection))


def test_a_file_without_schemas_has_no_problems(log: MemoryStore) -> None:
    """A file that an older version wrote has no schemas, until an app is served."""
    declare(log, Named)
    add(log, {"name": 1})
    assert check(log.connection) != []
    log.connection.execute(
        "UPDATE documents SET json_value = CAST(json_remove(CAST(json_value AS TEXT), '$.schema') AS BLOB) WHERE table_id = 1"
    )
    seal(log.connection)
    assert check(log.connection) == []
