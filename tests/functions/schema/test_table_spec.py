"""Declared tables: refused declarations, and validation of documents."""

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest

import tinyvex as tv
from tinyvex.errors import AppInvalid, SchemaViolation
from tinyvex.functions.schema import table_spec
from tinyvex.functions.schema.document import Document, TableDeclaration
from tinyvex.functions.schema.location import Location
from tinyvex.functions.schema.table_spec import TableSpec, class_spec, user_fields
from tinyvex.values import codec
from tinyvex.values.types import Int64


class Place(msgspec.Struct, frozen=True):
    city: str


class Thing(Document):
    name: str
    size: int = 0
    place: Place | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


def spec(
    name: str = "things", indexes: Mapping[str, Sequence[str]] | None = None, cls: type[Document] | None = Thing
) -> TableSpec:
    fields = {index: tuple(paths) for index, paths in (indexes or {}).items()}
    return TableSpec(TableDeclaration(name, fields, Location("/app/things.py", 7)), cls)


@pytest.mark.parametrize("path", ["name", "place.city", "extra", "extra.anything.below"])
def test_possible_index_fields(path: str) -> None:
    """Fields of the class, of nested classes, and of mappings can be indexed."""
    assert spec(indexes={"by_it": [path]}).indexes == {"by_it": (path,)}


@pytest.mark.parametrize("path", ["colour", "place.street", "name.first", "place.city.x"])
def test_impossible_index_fields(path: str) -> None:
    """A field that the class does not have cannot be indexed; the error has file and line."""
    with pytest.raises(AppInvalid, match=f"/app/things.py:7: .*index `by_it`: class `Thing` has no field `{path}`"):
        spec(indexes={"by_it": [path]})


class Plain:
    city: str


@dataclass
class MutablePlace:
    city: str = ""


@dataclass(frozen=True)
class FrozenPlace:
    city: str = ""


class MutableSize(msgspec.Struct):
    width: int


class Tags(msgspec.Struct, frozen=True):
    names: list[str] = msgspec.field(default_factory=list)


class AsArray(msgspec.Struct, array_like=True):
    city: str


class Level(Enum):
    LOW = "low"


class TextLevel(StrEnum):
    LOW = "low"


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (set[str], "`field`: a set has no form in JSON; use a list"),
        (frozenset[str] | None, "`field`: a set has no form in JSON; use a list"),
        (list[set[int]], r"`field\[\]`: a set has no form in JSON"),
        (dict[int, str], "`field`: the keys of a dict must be strings"),
        (dict[str, dict[int, str]], r"`field{}`: the keys of a dict must be strings"),
        (dict[Level, int], "`field`: the keys of a dict must be strings"),
        (bytearray, "`field`: a `bytearray` can be changed; use `bytes`"),
        (AsArray, "`field`: `AsArray` is declared with `array_like=True`"),
        (Plain, "`field`: `Plain` is a plain class, whose fields are unknown; make it a `msgspec.Struct`, a dataclass"),
        (complex, "`field`: `complex` is a plain class"),
        (
            MutablePlace,
            "`field`: `MutablePlace` can be changed, and a change in a document that was read would be lost",
        ),
        (
            dict[str, list[MutableSize]],
            r"`field{}\[\]`: `MutableSize` can be changed, .*; declare it with `frozen=True`",
        ),
    ],
)
def test_a_type_without_a_stored_form_is_refused(annotation: Any, problem: str) -> None:
    """A field that no insert could store is refused when the app is loaded, with its name."""
    cls = type("Odd", (Document,), {"__annotations__": {"field": annotation}})
    with pytest.raises(AppInvalid, match=f"/app/things.py:7: class `Odd`: {problem}"):
        spec(cls=cls)


@pytest.mark.parametrize(
    "annotation", [dict[TextLevel, int], dict[Literal["a"], int], dict[str, Any], Any, Level, FrozenPlace, Tags | None]
)
def test_a_type_with_a_stored_form_is_accepted(annotation: Any) -> None:
    """Strings of any kind can be keys."""
    assert spec(cls=type("Fine", (Document,), {"__annotations__": {"field": annotation}})).name == "things"


@pytest.mark.parametrize("default", [MutablePlace(), Tags(), (MutablePlace(),)])
def test_a_default_that_can_be_changed_is_refused(default: Any) -> None:
    """All documents would share it."""
    cls = type("Odd", (Document,), {"__annotations__": {"field": Any}, "field": default})
    with pytest.raises(AppInvalid, match="the default of `Odd.field` can be changed, and all would share it"):
        spec(cls=cls)


@pytest.mark.parametrize("default", [FrozenPlace(), (1, "a"), Level.LOW, Int64(3), None])
def test_a_default_that_cannot_be_changed_is_accepted(default: Any) -> None:
    """Frozen classes and plain values can be shared."""
    cls = type("Fine", (Document,), {"__annotations__": {"field": Any}, "field": default})
    assert spec(cls=cls).name == "things"


def with_field(annotation: Any, *default: Any) -> type[Document]:
    return type(
        "Odd", (Document,), {"__annotations__": {"field": annotation}, **({"field": default[0]} if default else {})}
    )


@pytest.mark.parametrize("annotation", [Decimal, Decimal | None, list[Decimal], dt.timedelta])
def test_a_field_whose_text_has_another_order_cannot_be_indexed(annotation: Any) -> None:
    """`Decimal` would sort 10, 100, 9; the error names the field."""
    with pytest.raises(AppInvalid, match="index `by_it`: `field` is a `(Decimal|timedelta)`, which is stored as text"):
        spec(indexes={"by_it": ["field"]}, cls=with_field(annotation))


@pytest.mark.parametrize("annotation", [dt.datetime, dt.date, dt.time, uuid.UUID, Level, bytes])
def test_a_field_whose_text_has_its_order_can_be_indexed(annotation: Any) -> None:
    """Instants, dates, times of day and UUIDs have one form, in their order."""
    assert spec(indexes={"by_it": ["field"]}, cls=with_field(annotation)).indexes


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (Annotated[dt.datetime, msgspec.Meta(tz=False)], "`field`: a `datetime` without a time zone is not an instant"),
        (Annotated[dt.time, msgspec.Meta(tz=True)], "`field`: a `time` with a time zone has no order without its date"),
    ],
)
def test_a_declared_naive_datetime_is_refused(annotation: Any, problem: str) -> None:
    """A datetime without a zone, or a time with one, has no stored form."""
    with pytest.raises(AppInvalid, match=problem):
        spec(cls=with_field(annotation))


def test_a_naive_default_is_refused() -> None:
    """It could never be stored."""
    with pytest.raises(AppInvalid, match="the default of `Odd.field` is a datetime without a time zone"):
        spec(cls=with_field(dt.datetime, dt.datetime(2026, 1, 2)))  # noqa: DTZ001


@pytest.mark.parametrize("indexes", [{}, {"by_it": ["field"]}])
@pytest.mark.parametrize(
    ("stored", "canonical"),
    [
        ("2026-01-02T12:00:00Z", "2026-01-02T12:00:00.000000Z"),
        ("2026-01-02T12:00:00.5Z", "2026-01-02T12:00:00.500000Z"),
        ("2026-01-02T12:00:00+02:00", "2026-01-02T10:00:00.000000Z"),
    ],
)
def test_a_stored_instant_is_converted_with_the_schema(
    stored: str, canonical: str, indexes: Mapping[str, Sequence[str]]
) -> None:
    """A document with another form of an instant is rewritten, whether the field is indexed or not."""
    data = codec.encode({"_creationTime": 1, "_id": "x", "field": stored})
    table = spec(indexes=indexes, cls=with_field(dt.datetime | None, None))
    assert table.validate(data) == ([], data.replace(stored.encode(), canonical.encode()))


def test_a_stored_naive_datetime_is_a_problem_of_the_document() -> None:
    """Its instant is unknown, so the schema change is refused and names the field."""
    problems, _ = spec(cls=with_field(dt.datetime)).validate(
        b'{"_creationTime":1,"_id":"x","field":"2026-01-02T12:00:00"}'
    )
    assert [problem.partition(";")[0] for problem in problems] == [
        "$.field: `2026-01-02 12:00:00` is a datetime without a time zone, which is not an instant"
    ]


def test_a_missing_instant_is_not_filled_in() -> None:
    """A document without the field stays as it is."""
    data = b'{"_creationTime":1,"_id":"x"}'
    assert spec(cls=with_field(dt.datetime | None, None)).validate(data) == ([], data)


def test_the_form_of_instants_is_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of an older form are validated, and converted, although the class is the same."""
    cls = with_field(dt.datetime)
    before = spec(cls=cls).fingerprint
    monkeypatch.setattr(table_spec, "_FORM_OF_INSTANTS", "another")
    assert spec(cls=cls).fingerprint != before


def test_any_field_without_a_class() -> None:
    """A table without a class can be indexed by any field."""
    assert spec(indexes={"by_it": ["a.b"]}, cls=None).indexes == {"by_it": ("a.b",)}


@pytest.mark.parametrize("name", ["", "_things", "2things", "no-dash", "x" * 65])
def test_impossible_names(name: str) -> None:
    """Names of tables and indexes have letters, digits and underscores; a leading `_` is reserved."""
    with pytest.raises(AppInvalid, match="cannot be a table name"):
        spec(name)
    with pytest.raises(AppInvalid, match="for the name of an index"):
        spec(indexes={name: ["name"]})


@pytest.mark.parametrize("name", ["by_id", "by_creation_time"])
def test_names_of_the_system_s_indexes(name: str) -> None:
    """The built-in indexes cannot be declared again."""
    with pytest.raises(AppInvalid, match="every table has this index already"):
        spec(indexes={name: ["name"]})


@pytest.mark.parametrize("paths", [[], ["name", "name"]])
def test_fields_once(paths: list[str]) -> None:
    """An index has one or more fields, each once."""
    with pytest.raises(AppInvalid, match="one or more different fields"):
        spec(indexes={"by_it": paths})


@pytest.mark.parametrize("path", ["_creationTime", "_id", ""])
def test_system_fields_are_not_indexed(path: str) -> None:
    """The creation time is the last field of every index in any case."""
    with pytest.raises(AppInvalid, match="cannot be indexed"):
        spec(indexes={"by_it": [path]})


def test_renamed_fields() -> None:
    """A document's fields are stored under their own names."""

    class Renamed(Document, rename="camel"):
        first_name: str

    with pytest.raises(AppInvalid, match=r"cannot be renamed.*firstName"):
        spec(cls=Renamed)


def test_annotations_that_are_no_values() -> None:
    """A class whose fields cannot be checked is refused."""

    class Strange(Document):
        what: tv.Id[Thing] | tv.Id[Document]

    with pytest.raises(AppInvalid, match=r"class `Strange`: a union can have only one of"):
        spec(cls=Strange)


def test_an_undecorated_class() -> None:
    """A class without the decorator is not a table."""
    with pytest.raises(TypeError, match=r"decorate its class with `@tv\.table"):
        class_spec(Thing)


def test_a_default_without_a_schema_is_refused_with_a_remedy() -> None:
    """An Int64 inside a nested class is one."""

    class Inner(msgspec.Struct, frozen=True):
        count: Int64 = Int64(1)

    class Outer(Document):
        inner: Inner

    with pytest.raises(AppInvalid, match="class `Outer`: .*Int64.* default .*default_factory"):
        spec(cls=Outer)


# Fingerprints.


def test_same_class_same_fingerprint() -> None:
    """Loading the class again, or renaming an index, does not validate documents again."""

    class Thing(Document):  # as the one above
        name: str
        size: int = 0
        place: Place | None = None
        extra: dict[str, Any] = msgspec.field(default_factory=dict)

    one, other = spec(cls=Thing, indexes={"a": ["name"]}), spec(indexes={"b": ["name"], "c": ["name"]})
    assert one.fingerprint == other.fingerprint


def test_other_indexed_fields_other_fingerprint() -> None:
    """Documents are validated again, so that an index finds them by the values that are read."""
    assert spec(indexes={"by_name": ["name"]}).fingerprint != spec(indexes={"by_size": ["size"]}).fingerprint


def test_other_class_other_fingerprint() -> None:
    """A changed field changes the fingerprint; removing the class does too."""

    class Thing(Document):
        name: str
        size: str = ""

    assert len({spec(cls=Thing).fingerprint, spec().fingerprint, spec(cls=None).fingerprint}) == 3


# Existing documents.


def test_documents_that_fit() -> None:
    """A document that fits has no problems; fields with defaults may be missing."""
    assert spec().validate(b'{"_creationTime":1,"_id":"x","name":"a"}')[0] == []


def test_indexed_fields_are_stored_as_they_are_read() -> None:
    """Defaults are stored and numbers coerced; other fields stay unchanged."""

    class Counted(Document):
        name: str = ""
        count: Int64 = Int64(1)
        total: Int64 = Int64(0)
        plain: int = 0
        tags: list[Int64] = []  # noqa: RUF012 - msgspec copies it

    paths = ["count", "plain", "tags"]
    indexed = spec(cls=Counted, indexes={f"by_{path}": [path] for path in paths})
    old = {"_creationTime": 1, "_id": "x", "total": 3, "plain": Int64(2), "tags": [4]}
    new = codec.decode(indexed.validate(codec.encode(old))[1])
    assert new == old | {"count": 1}
    kinds = [type(value) for value in (new["count"], new["total"], new["plain"], new["tags"][0])]
    assert kinds == [Int64, int, int, Int64]


@pytest.mark.parametrize("indexes", [{}, {"by_name": ["name"]}])
def test_a_document_stored_as_it_is_read_stays_the_same(indexes: dict[str, list[str]]) -> None:
    """To the byte."""
    stored = codec.encode({"_creationTime": 1, "_id": "x", "name": "a"})
    assert spec(indexes=indexes).validate(stored) == ([], stored)


def test_all_problems_are_reported() -> None:
    """Each field that does not fit is named, not only the first."""
    stored = codec.encode({"_id": "x", "colour": 1, "size": "big", "place": {"city": 3}})
    assert spec().validate(stored)[0] == [
        "$.colour: unknown field",
        "$.name: missing",
        "$.place.city: expected str, got int",
        "$.size: expected int, got str",
    ]


def test_anything_fits_without_a_class() -> None:
    """Documents of a table without a class are not validated."""
    assert spec(cls=None).validate(b'{"x":1}')[0] == []


def test_reading_a_document_that_does_not_fit() -> None:
    """A stored document that does not fit its class is an error with the path."""
    with pytest.raises(SchemaViolation, match=r"table `things`: \$\.name: expected str, got int"):
        spec().read(b'{"name":3}')


def test_checks_of_the_class_itself() -> None:
    """Checks in `__post_init__` of the class apply."""

    class Positive(Document):
        size: int

        def __post_init__(self) -> None:
            if self.size < 1:
                raise ValueError("size must be positive")

    assert spec(cls=Positive).validate(b'{"size":0}')[0] == ["$: size must be positive"]


def test_user_fields() -> None:
    """The fields of a document without those of the system."""
    assert user_fields({"_id": "x", "_creationTime": 1, "a": 1}) == {"a": 1}
    assert user_fields(Thing(name="a")) == {"name": "a", "size": 0, "place": None, "extra": {}}
