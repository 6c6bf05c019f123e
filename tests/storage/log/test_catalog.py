"""Tables, indexes, and the keys of documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.storage import MemoryStore
from tests.support.values import encode_key
from tinyvex import errors
from tinyvex.storage.log.catalog import Catalog, IndexInfo, TableInfo
from tinyvex.values.types import MISSING, Int64

INTERNAL = b"i" * 16


@pytest.fixture(scope="module")
def catalog():
    store = MemoryStore()
    store.declare({"items": {"by_n": ("n",)}, "users": {}})
    return store.look(lambda snapshot: snapshot.catalog)


@pytest.mark.parametrize(
    ("fields", "document", "parts"),
    [
        (("n",), {"n": 1}, [1]),
        (("n",), {}, [MISSING]),
        (("n",), {"n": None}, [None]),
        (("a", "b"), {"b": "x"}, [MISSING, "x"]),
        (("a.b",), {"a": {"b": 2}}, [2]),
        (("a.b",), {"a": {}}, [MISSING]),
        (("a.b",), {"a": 5}, [MISSING]),
        (("a.b.c",), {"a": {"b": {"c": [1]}}}, [[1]]),
        (("_creationTime",), {}, []),
    ],
)
def test_a_key_is_its_fields_then_creation_time_then_id(fields, document, parts):
    """Dots lead into objects; an absent field is missing, which differs from null."""
    key = IndexInfo(1, "index", fields).key({**document, "_creationTime": 5.5}, INTERNAL)
    assert key == encode_key([*parts, 5.5]) + INTERNAL


def test_a_tables_keys_are_those_of_its_indexes(catalog):
    """There is one key for each maintained index."""
    table = catalog.table("items")
    document = {"n": 1, "_creationTime": 5.5}
    assert table.keys(document, INTERNAL) == [(index.id, index.key(document, INTERNAL)) for index in table.maintained]


def test_tables_are_found_by_name_number_and_tablet(catalog):
    """All three lead to the same table."""
    table = catalog.table("items")
    assert catalog.table_numbered(table.number) is table
    assert catalog.tablet(table.tablet) is table
    assert catalog.table_numbered(9) is None
    assert catalog.tablet(9) is None


def test_an_unknown_table_is_an_error(catalog):
    """The error names the table."""
    with pytest.raises(errors.UnknownTable, match="nothing"):
        catalog.table("nothing")


def test_an_unknown_index_is_an_error(catalog):
    """The error lists the existing indexes."""
    with pytest.raises(errors.UnknownIndex, match="`by_creation_time`, `by_n`"):
        catalog.table("items").index("by_m")


def test_an_index_that_is_being_built_is_named_so():
    """The error states that the index is being built, so the reader knows to wait."""
    building = IndexInfo(7, "by_n", ("n",), ready=False)
    with pytest.raises(errors.UnknownIndex, match="still being built"):
        TableInfo("items", 10_001, 101, {}, (building,)).index("by_n")


def test_names_are_the_users_tables(catalog):
    """System tables exist but are not listed."""
    assert catalog.names() == ["items", "users"]
    assert [table.name for table in catalog.tables()] == ["_tables", "_indexes", "_code", "_tablets", "items", "users"]
    assert catalog.table("_tables").number == 1


def test_an_empty_catalog_has_the_system_tables():
    """Everything else is found through the system tables."""
    assert [table.name for table in Catalog(0, ()).tables()] == ["_tables", "_indexes", "_code", "_tablets"]


def test_the_pseudo_index_of_ids_is_the_tablets_number_negated(catalog):
    """The negated number differs from every index."""
    table = catalog.table("items")
    assert table.by_id == -table.tablet


LOOKALIKES = [
    MISSING,
    None,
    True,
    False,
    0,
    1,
    0.0,
    -0.0,
    1.0,
    float("nan"),
    Int64(0),
    Int64(1),
    "",
    "a",
    b"",
    b"a",
    [1],
    {"m": 1},
]
lookalikes = st.sampled_from(LOOKALIKES)


@given(lookalikes, lookalikes, lookalikes, lookalikes)
def test_keys_after_a_change_are_the_keys(one, other, before, after):
    """The shortcut for unchanged fields is correct, even for values that Python considers equal."""
    indexes = (
        IndexInfo(1, "by_creation_time", ("_creationTime",)),
        IndexInfo(2, "by_n", ("n",)),
        IndexInfo(3, "by_both", ("n", "o.m")),
    )
    table = TableInfo("items", 10_001, 101, {}, indexes)

    def document(n, m):
        fields = {"n": n, "o": {"m": m}, "_creationTime": 5.5}
        return {name: value for name, value in fields.items() if value is not MISSING and value != {"m": MISSING}}

    first, second = document(one, before), document(other, after)
    assert table.keys_after(first, table.keys(first, INTERNAL), second, INTERNAL) == table.keys(second, INTERNAL)
