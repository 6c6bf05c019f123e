"""Values that an indexed field is compared with: checked and converted as in a write."""

import datetime as dt
import uuid
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pytest

import tinyvex as tv
from tinyvex.errors import InvalidValue
from tinyvex.functions.schema.index_values import IndexValues, annotations_at
from tinyvex.functions.schema.int64_fields import types_at
from tinyvex.storage.log.catalog import Catalog, TableInfo
from tinyvex.values.ids import DocumentId
from tinyvex.values.types import Int64

CATALOG = Catalog(0, [TableInfo("things", 10001, 101, {}, ()), TableInfo("others", 10002, 102, {}, ())])
THING, OTHER = (DocumentId(number, bytes(16)).text for number in (10001, 10002))
NAMESPACE = uuid.UUID(int=7)


@tv.table("things")
class Thing(tv.Document):
    name: str


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Place(msgspec.Struct, frozen=True):
    city: str
    north: float = 0.0


class Fields(tv.Document):
    text: str
    short: Annotated[str, msgspec.Meta(max_length=3)]
    number: int
    positive: Annotated[int, msgspec.Meta(gt=0)]
    real: float
    big: Int64
    flag: bool
    data: bytes
    perhaps: str | None
    maybe: str | msgspec.UnsetType
    at: dt.datetime
    key: uuid.UUID
    colour: Colour
    state: Literal["open", "done"]
    thing: tv.Id[Thing]
    place: Place | None
    names: list[str]
    mapping: dict[str, int]
    anything: Any


def convert(path: str, value: Any, *, bound: bool = False) -> Any:
    return IndexValues(annotations_at(Fields, path), types_at(Fields, path)).convert(value, CATALOG, bound=bound)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("text", 7, "expected str, got int"),
        ("text", ["a"], "expected str, got array"),
        ("text", None, "expected str, got null"),
        ("text", b"a", "expected str, got bytes"),
        ("short", "longer", "expected str of length <= 3"),
        ("number", "7", "expected int, got str"),
        ("number", True, "expected int, got bool"),
        ("number", 7.5, "expected int, got float"),
        ("positive", 0, "expected int >= 1"),
        ("real", "1", "expected float, got str"),
        ("big", "1", "expected Int64, got str"),
        ("flag", 1, "expected bool, got int"),
        ("data", "a", "expected bytes, got str"),
        ("perhaps", 1, "expected str | null, got int"),
        ("maybe", 1, "expected str, got int"),
        ("at", "yesterday", "invalid RFC3339 encoded datetime"),
        ("at", 5, "expected datetime, got int"),
        ("key", "x", "invalid UUID"),
        ("colour", "green", "invalid enum value 'green'"),
        ("state", "closed", "invalid enum value 'closed'"),
        ("thing", OTHER, "expected an id of table `things`, got one of table `others`"),
        ("thing", "thing", "is not a document id"),
        ("place.north", "up", "expected float, got str"),
        ("names", ["a", 1], "expected str, got int"),
        ("mapping.any", "a", "expected int, got str"),
    ],
)
def test_a_value_that_the_field_cannot_have_is_refused(path: str, value: Any, message: str) -> None:
    """The check is that of a write."""
    with pytest.raises(InvalidValue) as caught:
        convert(path, value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "stored"),
    [
        ("text", "a", "a"),
        ("number", 7, 7),
        ("real", 7, 7),
        ("big", 7, Int64(7)),
        ("number", Int64(7), 7),
        ("perhaps", None, None),
        ("maybe", "a", "a"),
        ("at", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00.000000Z"),
        ("at", "2026-01-02T01:00:00+01:00", "2026-01-02T00:00:00.000000Z"),
        ("key", NAMESPACE, str(NAMESPACE)),
        ("key", str(NAMESPACE).upper(), str(NAMESPACE)),
        ("colour", Colour.RED, "red"),
        ("colour", "red", "red"),
        ("state", "open", "open"),
        ("thing", tv.Id(THING), THING),
        ("place.north", 1.5, 1.5),
        ("place", Place("Ulm"), {"city": "Ulm", "north": 0}),
        ("names", ("a", "b"), ["a", "b"]),
        ("mapping.any", 1, 1),
        ("anything", 5, 5),
        ("anything", {"a": [None]}, {"a": [None]}),
    ],
)
def test_a_value_has_the_form_of_the_field(path: str, value: Any, stored: Any) -> None:
    """It is converted as in a write."""
    converted = convert(path, value)
    assert (converted, type(converted) is Int64) == (stored, type(stored) is Int64)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("number", 7.5),
        ("positive", 0),
        ("short", "longer"),
        ("colour", "c"),
        ("state", "p"),
        ("text", None),
        ("big", 7),
    ],
)
def test_a_bound_may_be_outside_of_the_field_s_range(path: str, value: Any) -> None:
    """A bound is a place in the order, not a value that is stored."""
    assert convert(path, value, bound=True) == value


@pytest.mark.parametrize(("path", "value"), [("text", 7), ("number", "7"), ("colour", 1), ("at", 5), ("thing", OTHER)])
def test_a_bound_of_another_type_is_refused(path: str, value: Any) -> None:
    """Its place in the order would be before or after all values of the field."""
    with pytest.raises(InvalidValue):
        convert(path, value, bound=True)
