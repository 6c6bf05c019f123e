"""The stored schema of a class accepts the documents that writes accept, without the class."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import decimal
import enum
import random
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar, Union

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

import tinyvex as tv
from tests.support.values import values
from tinyvex.errors import AppInvalid
from tinyvex.functions.schema.class_schema import class_schema
from tinyvex.functions.schema.converter import Converter, Mismatch
from tinyvex.functions.schema.document import Document, TableDeclaration
from tinyvex.functions.schema.location import Location
from tinyvex.functions.schema.table_spec import TableSpec
from tinyvex.storage.log.catalog import Catalog, TableInfo
from tinyvex.values import codec
from tinyvex.values.ids import DocumentId
from tinyvex.values.stored_schema import StoredSchema

CATALOG = Catalog(0, [TableInfo("notes", 10001, 101, {}, ()), TableInfo("tags", 10002, 102, {}, ())])
NOTE, TAG, UNKNOWN = (DocumentId(number, bytes(16)).text for number in (10001, 10002, 10003))
T = TypeVar("T")


@tv.table("notes")
class Note(tv.Document):
    text: str


@tv.table("tags")
class Tag(tv.Document):
    name: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mood(enum.StrEnum):
    GOOD = "good"


class Lenient(enum.StrEnum):
    GOOD = "good"

    @classmethod
    def _missing_(cls, value: object) -> Lenient | None:
        return cls.GOOD if value == "GOOD" else None


class Circle(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    radius: float


class Tree(msgspec.Struct, frozen=True, tag="tree", rename="kebab"):
    first_leaf: tv.Id[Note]
    other_trees: list[Tree] = []


class Box(msgspec.Struct, Generic[T], frozen=True):
    content: T


@dataclasses.dataclass(frozen=True)
class Size:
    width: int
    parent: Size | None = None


class Sender(TypedDict):
    name: str
    note: NotRequired[tv.Id[Note]]


class Pair(NamedTuple):
    left: int
    right: tv.Id[Note] | None = None


texts = st.sampled_from(["", "a", "red", "blue", "good", "glad", "tree", NOTE, TAG, UNKNOWN])
sizes = st.integers(-2, 3)
TIMES = ["2026-01-02T12:00:00.000000Z", "2026-01-02T12:00:00", "0001-01-01T00:00:00+10:00", "12:00:00", "12:00:00Z"]
OTHERS = [
    *TIMES, "2026-01-02", "P1D", "1.5", str(uuid.UUID(int=1)), b"", b"abc", tv.Int64(1), tv.Int64(2**62), 1.5, True, None,
    {}, [], {"type": "Circle", "radius": 1}, {"type": "tree", "first-leaf": NOTE}, {"content": 1}, {"width": 1}, {"name": "a"},
    [1, NOTE], [TAG, 1], {"red": 1}, {"good": 1}, {NOTE: 1},
]  # fmt: skip
SCALARS: list[Any] = [
    Any, None, bool, int, float, str, bytes, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal,
    tv.Int64, tv.Id[Note], tv.Id[Note | Tag], tv.Id, Colour, Level, Mood, Circle, Tree, Circle | Tree, Size, Sender, Pair,
    Box[int], Box[tv.Id[Tag]], Literal["a", "red"], Literal[1, 2], Literal["a", 1], Literal["a"] | None,
    Annotated[int, Meta(ge=0, lt=3)], Annotated[float, Meta(multiple_of=0.5)], Annotated[str, Meta(max_length=1)],
    Annotated[str, Meta(pattern="^r")], Annotated[bytes, Meta(min_length=1)], Annotated[dt.datetime, Meta(tz=True)],
]  # fmt: skip


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        inner.map(lambda item: list[item]),  # type: ignore[valid-type]
        inner.map(lambda item: Annotated[list[item], Meta(max_length=1)]),  # type: ignore[valid-type]
        inner.map(lambda item: tuple[item, ...]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda items: tuple[items]),  # type: ignore[valid-type]
        st.tuples(st.sampled_from([str, Colour, Mood, tv.Id[Note], Literal["a", "red"]]), inner)
        .filter(lambda pair: pair[0] is not Colour)
        .map(lambda pair: dict[pair]),  # type: ignore[valid-type]
        inner.map(lambda item: Union[item, None]),  # noqa: UP007
        inner.map(lambda item: Union[item, int]),  # noqa: UP007
    )


annotations = st.recursive(st.sampled_from(SCALARS), containers, max_leaves=3)


def document_class(fields: dict[str, Any], optional: set[str]) -> type[Document] | None:
    """Create a class; None if a field has a type that an app cannot declare."""
    namespace: dict[str, Any] = {"__annotations__": fields, "__module__": __name__}
    try:
        cls = type(Document)(
            "Thing", (Document,), namespace | dict.fromkeys(sorted(optional & fields.keys()), msgspec.UNSET)
        )
        TableSpec(TableDeclaration("things", {}, Location("/app.py", 1)), cls)
    except (AppInvalid, TypeError):
        return None
    return cls  # type: ignore[no-any-return]


classes = st.builds(
    document_class,
    st.dictionaries(st.sampled_from("abc"), annotations, min_size=1, max_size=3),
    st.sets(st.sampled_from("abc")),
).filter(lambda cls: cls is not None)


def example(annotation: Any, rng: random.Random, depth: int = 0) -> Any:
    """Return a value that often fits an annotation."""
    if rng.random() < 0.1 or depth > 4:
        return copy.deepcopy(rng.choice(OTHERS))
    candidates = [*OTHERS, 0, 1, 2, -1, 3.5, "a", "red", "good", "glad", NOTE, TAG, UNKNOWN]
    origin, arguments = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    if hasattr(annotation, "__metadata__"):
        return example(origin, rng, depth)
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return [example(arguments[0], rng, depth + 1) for _ in range(rng.randrange(3))]
    if origin is tuple:
        return [example(argument, rng, depth + 1) for argument in arguments]
    if origin is dict:
        keys = rng.sample(["a", "red", "good", NOTE], rng.randrange(3))
        return {key: example(arguments[1], rng, depth + 1) for key in keys}
    if origin is Union:
        return example(rng.choice(arguments), rng, depth + 1)
    rng.shuffle(candidates)
    return copy.deepcopy(next((each for each in candidates if fits(annotation, each)), None))


def fits(annotation: Any, value: Any) -> bool:
    try:
        Converter[Any](annotation).check(copy.deepcopy(value), CATALOG)
    except Mismatch:
        return False
    return True


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key or position of every part of a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(items):
        yield value, key
        yield from places(child)


def mutated(document: dict[str, Any], rng: random.Random, other: Any) -> dict[str, Any]:
    """Return a copy with one part replaced, removed or added."""
    document = copy.deepcopy(document)
    found = [(document, "d"), *places(document)]
    container, key = rng.choice(found)
    if rng.random() < 0.3 and key != "d":
        del container[key]
    else:
        container[key] = other
    return document


@settings(max_examples=100, deadline=None)
@given(classes, st.integers(0, 2**32), values | st.sampled_from(OTHERS))
def test_it_accepts_what_writes_accept(cls: type[Document], seed: int, other: Any) -> None:
    """For random classes and documents, valid and mutated, the stored schema and the class agree."""
    rng = random.Random(seed)
    spec = TableSpec(TableDeclaration("things", {}, Location("/app.py", 1)), cls)
    assert spec.schema is not None
    schema = StoredSchema(spec.schema)
    document = {
        field.name: example(field.type, rng)
        for field in msgspec.structs.fields(cls)
        if not field.name.startswith("_") and (field.required or rng.random() < 0.8)
    }
    document |= {"_id": UNKNOWN, "_creationTime": 1}
    for each in (document, *(mutated(document, rng, other) for _ in range(4))):
        stored: Any = codec.decode_canonical(codec.encode(each))
        expected = spec.problems(copy.deepcopy(stored), CATALOG)
        actual = schema.problem(stored, CATALOG.wrong_table)
        assert (actual is None) == (expected == []), (each, actual, expected)


def schema_of(annotation: Any) -> StoredSchema:
    cls = document_class({"a": annotation}, set())
    assert cls is not None
    return StoredSchema(class_schema(cls))


def test_values_that_an_enumeration_adopts_are_accepted() -> None:
    """A document that was stored under an older class may have a value that only the code of `_missing_` accepts."""
    assert schema_of(Lenient).problem({"a": "GOOD"}, CATALOG.wrong_table) is None
    assert schema_of(Lenient).problem({"a": 1}, CATALOG.wrong_table) == "$.a: expected str, got int"


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (int, "1", "$.a: expected int, got str"),
        (list[Tree], [{"type": "tree", "first-leaf": TAG}], "$.a[0].first-leaf: expected an id of table `notes`, got one of table `tags`"),
        (dict[str, tv.Id[Note | Tag]], {"x": UNKNOWN}, "$.a[...]: expected an id of table `notes` or `tags`, got one of an unknown table"),
        (tv.Int64, 2**53 - 1, None),
        (dict[str, dt.datetime], {"x": "2026-01-02T12:00:00"}, "$.a.x: `2026-01-02 12:00:00` is a datetime without a time zone, which is not an instant; write `datetime.now(UTC)`, or `.replace(tzinfo=UTC)`"),
        (dict[Mood, int], {"bad": 1}, "$.a: invalid enum value 'bad' as a key"),
        (Sender, {"name": "a", "more": 1}, None),
        (Circle, {"type": "Circle", "radius": 1, "more": 1}, "$.a.more: unknown field"),
    ],
)  # fmt: skip
def test_a_problem_has_the_path_of_its_field(annotation: Any, value: Any, problem: str | None) -> None:
    """The path and the reason are those of a refused write."""
    assert schema_of(annotation).problem({"a": value}, CATALOG.wrong_table) == problem
