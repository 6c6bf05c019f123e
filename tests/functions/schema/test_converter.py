"""Conversion between values and annotations."""

import datetime as dt
from typing import Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyvex as tv
from tinyvex.errors import InvalidId, WrongTable
from tinyvex.functions.schema.converter import Converter, Mismatch
from tinyvex.functions.schema.document import DocumentMapping
from tinyvex.storage.log.catalog import Catalog, TableInfo
from tinyvex.values import codec
from tinyvex.values.ids import DocumentId
from tinyvex.values.types import Int64


class Sender(TypedDict):
    name: str


@tv.table("letters")
class Letter(tv.Document):
    text: str
    stars: tv.Int64 = tv.Int64(0)
    weight: float = 0.0
    seal: bytes = b""
    sender: Sender | None = None
    sent: dt.datetime | None = None
    answer: "tv.Id[Letter] | None" = None


@tv.table("cards")
class Card(tv.Document):
    text: str


class Parcel(tv.Document):
    text: str


CATALOG = Catalog(
    0, [TableInfo("letters", 10001, 101, {}, ()), TableInfo("parcels", 10002, 102, {}, ())]
)  # fmt: skip
LETTER_ID = DocumentId(10001, bytes(16)).text
PARCEL_ID = DocumentId(10002, bytes(16)).text


def converter(kind: Any) -> Converter[Any]:
    return Converter(kind)


@given(
    st.builds(
        Letter,
        text=st.text(st.characters(exclude_categories=["Cs"])),
        stars=st.integers(-(2**63), 2**63 - 1).map(Int64),
        weight=st.floats(allow_nan=False),
        seal=st.binary(),
        sender=st.none() | st.fixed_dictionaries({"name": st.sampled_from(["Ann", "$integer"])}),
    )
)
def test_round_trip(letter: Letter) -> None:
    """A document is decoded from its JSON, with wrappers and without."""
    assert converter(Letter).read(codec.encode(letter)) == letter


def test_the_fast_path_makes_int64() -> None:
    """A plain number in an Int64 field becomes an Int64 without wrappers too."""
    assert type(converter(Letter).read(b'{"text":"a","stars":5}').stars) is Int64


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (int, Int64(3), 3),
        (tv.Int64, 3, Int64(3)),
        (tv.Int64 | None, None, None),
        (bytes, b"ab", b"ab"),
        (list[tv.Int64], [1], [Int64(1)]),
        (dict[str, bytes], {"a": b"b"}, {"a": b"b"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dt.date, "2026-01-02", dt.date(2026, 1, 2)),
        (tv.Id[Letter], LETTER_ID, LETTER_ID),
        (tv.Id[Any], PARCEL_ID, PARCEL_ID),
        (tv.Rows[Parcel], [{"text": "a"}], [Parcel(text="a")]),
        (tv.Rows[dict[str, Any]], [{"text": "a"}], [{"text": "a"}]),
        (Any, {"a": [1]}, {"a": [1]}),
        (None, None, None),
    ],
)
def test_converts(kind: Any, value: Any, expected: Any) -> None:
    """A value that fits is converted to the annotated type."""
    checked = converter(kind).check(value, CATALOG)
    assert checked == expected
    assert type(checked) is type(expected) or isinstance(checked, (tv.Id, tv.Rows))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, "3", "$: expected int, got str"),
        (int, 1.5, "$: expected int, got float"),
        (int, True, "$: expected int, got bool"),
        (str, b"a", "$: expected str, got bytes"),
        (bytes, "YQ==", "$: expected bytes, got str"),
        (tv.Int64, "3", "$: expected Int64, got str"),
        (tv.Int64, True, "$: expected Int64, got bool"),
        (tv.Int64, None, "$: expected Int64, got null"),
        (list[int], [1, "2"], "$[1]: expected int, got str"),
        (dict[str, list[int]], {"a": ["b"]}, "$[...][0]: expected int, got str"),
        (Letter, {}, "$.text: missing"),
        (Letter, {"text": "a", "colour": 1}, "$.colour: unknown field"),
        (Letter, {"text": "a", "sender": {"name": 1}}, "$.sender.name: expected str, got int"),
        (tv.Id[Letter], 5, "$: expected id, got int"),
        (tv.Rows[Letter], 5, "$: expected rows, got int"),
    ],
)
def test_mismatches(kind: Any, value: Any, message: str) -> None:
    """A value that does not fit is refused with path, expected and actual type."""
    with pytest.raises(Mismatch) as caught:
        converter(kind).check(value)
    assert str(caught.value) == message


def test_ids_of_other_tables() -> None:
    """An id of a table other than the annotated one is refused, also if the class is in quotes."""
    with pytest.raises(Mismatch, match="expected an id of table `letters`, got one of table `parcels`") as caught:
        converter(Letter).check({"text": "a", "answer": PARCEL_ID}, CATALOG)
    assert isinstance(caught.value.error, WrongTable)
    with pytest.raises(Mismatch, match="got one of an unknown table"):
        converter(tv.Id[Letter]).check(DocumentId(54321, bytes(16)).text, CATALOG)


def test_ids_of_several_tables() -> None:
    """An id may belong to any of the annotated tables."""
    several = converter(tv.Id[Letter | Card])
    assert several.check(LETTER_ID, CATALOG) == LETTER_ID
    with pytest.raises(Mismatch, match="expected an id of table `letters` or `cards`, got one of table `parcels`"):
        several.check(PARCEL_ID, CATALOG)


def test_malformed_ids() -> None:
    """A malformed id is refused with the reason."""
    with pytest.raises(Mismatch, match="is not a document id") as caught:
        converter(tv.Id[Letter]).check("abc", CATALOG)
    assert isinstance(caught.value.error, InvalidId)


def test_without_a_catalog_tables_are_not_compared() -> None:
    """Validating stored documents parses ids and compares no table numbers."""
    assert converter(tv.Id[Letter]).check(PARCEL_ID) == PARCEL_ID


def test_reading_trusts_ids() -> None:
    """Ids that the database stored are not parsed again."""
    assert converter(tv.Id[Letter]).read(b'"anything"') == "anything"


def test_instances_are_not_copied() -> None:
    """Documents, rows and pages in a result are the objects that were passed."""
    letter = Letter(text="a")
    rows = tv.Rows([b'{"text":"a"}'], converter(Letter).read, Letter)
    page = tv.Page(rows, "", is_done=True)
    checked = converter(dict[str, Any]).check({"a": [letter], "b": rows})
    assert checked["a"][0] is letter
    assert converter(tv.Rows[Letter]).check(rows) is rows
    assert converter(tv.Page[Letter]).check(page) is page
    assert converter(list[Letter]).check([letter])[0] is letter


def test_rows_of_another_class() -> None:
    """Rows of one class are not accepted as rows of another."""
    rows = tv.Rows([b"{}"], converter(Letter).read, Letter)
    with pytest.raises(Mismatch, match="expected rows of Parcel, got rows of Letter"):
        converter(tv.Rows[Parcel]).check(rows)


def test_rows_from_json_are_lazy() -> None:
    """Rows from JSON are decoded on first access."""
    rows = converter(tv.Rows[Letter]).read(b'[{"text":3}]')
    assert len(rows) == 1
    with pytest.raises(Mismatch, match=r"\$\.text: expected str, got int"):
        rows[0]


def test_mappings_from_json() -> None:
    """Documents without a class are decoded too."""
    assert converter(DocumentMapping).read(b'{"_id":"x"}')["_id"] == "x"


def test_annotations_that_msgspec_refuses() -> None:
    """An annotation that cannot be checked is refused when the converter is created."""
    with pytest.raises(
        TypeError, match=r"a union can have only one of .*; write ids of several tables as `tv\.Id\[A \| B\]`"
    ):
        converter(tv.Id[Letter] | tv.Id[Parcel])
