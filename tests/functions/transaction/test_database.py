"""`ctx.db`: reading and writing documents."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import tinyvex as tv
from tinyvex.errors import (
    DocumentNotFound,
    IdExists,
    InvalidId,
    InvalidValue,
    SchemaViolation,
    UnknownIndex,
    UnknownTable,
    ValueTooLarge,
    WrongTable,
)
from tinyvex.limits import DOCUMENT_BYTES_MAX
from tinyvex.testing import Database
from tinyvex.values.ids import DocumentId
from tinyvex.values.types import Int64


class Address(msgspec.Struct, frozen=True):
    city: str


@tv.table("people", indexes={"by_name": ["name"], "by_friend": ["friend"]})
class Person(tv.Document):
    name: str
    age: int = 0
    serial: tv.Int64 = tv.Int64(0)
    photo: bytes = b""
    address: Address | None = None
    friend: "tv.Id[Person] | None" = None


@tv.table("cities", indexes={"by_code": ["code"]})
class City(tv.Document):
    name: str
    code: str | msgspec.UnsetType = tv.UNSET


notes = tv.table("notes", indexes={"by_kind": ["kind"]})


@pytest.fixture
def db() -> Iterator[Database]:
    with Database(Person, City) as database:
        yield database


def do(db: Database, work: Callable[[tv.MutationCtx], Any]) -> Any:
    """Run `work` in a mutation and return its result unconverted."""
    results: list[Any] = []

    def run(ctx: tv.MutationCtx) -> None:
        results.append(work(ctx))

    db.mutation(run)
    return results[0]


def get(db: Database, document_id: str) -> Any:
    return do(db, lambda ctx: ctx.db.get(document_id))


# insert and get.


def test_insert_returns_the_id(db: Database) -> None:
    """The document is found under the returned id."""
    person = get(db, ann := do(db, lambda ctx: ctx.db.insert(Person(name="Ann"))))
    assert isinstance(person, Person)
    assert (person.id, person.name) == (ann, "Ann")


def test_a_document_is_what_was_inserted(db: Database) -> None:
    """All fields are read back as they were inserted, those of nested classes too."""
    person = Person(name="Ann", age=3, serial=Int64(2**62), photo=b"\x00\xff", address=Address("Ulm"))
    stored = get(db, do(db, lambda ctx: ctx.db.insert(person)))
    assert msgspec.structs.replace(stored, _id=tv.UNSET, _creation_time=tv.UNSET) == person
    assert isinstance(stored.serial, Int64)


def test_creation_time_is_the_commit_s(db: Database) -> None:
    """The first document of a mutation has the commit's time, in milliseconds; the next ones are later."""
    ann, bob = do(db, lambda ctx: [ctx.db.insert(Person(name=name)) for name in ("Ann", "Bob")])
    assert get(db, ann).creation_time == db.now / 1000
    assert get(db, bob).creation_time > get(db, ann).creation_time


def test_get_nothing(db: Database) -> None:
    """An id without a document returns None."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    do(db, lambda ctx: ctx.db.delete(ann))
    assert get(db, ann) is None


def test_get_bad_id(db: Database) -> None:
    """A malformed id is refused."""
    with pytest.raises(InvalidId, match="'ann' is not a document id"):
        get(db, "ann")


def test_get_unknown_table(db: Database) -> None:
    """An id whose table the database does not have is refused."""
    with pytest.raises(UnknownTable, match="is not an id of any table"):
        get(db, DocumentId(54321, bytes(16)).text)


def test_a_mutation_reads_its_own_writes(db: Database) -> None:
    """An inserted document is found before the mutation has committed."""

    def work(ctx: tv.MutationCtx) -> Any:
        ann = ctx.db.insert(Person(name="Ann"))
        return ctx.db.get(ann), ctx.db.query(Person).with_index("by_name", name="Ann").count()

    person, count = do(db, work)
    assert (person.name, count) == ("Ann", 1)


def test_insert_with_an_id(db: Database) -> None:
    """A client may make the id."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    other = DocumentId(DocumentId(10001, b"").table, bytes(range(16))).text
    assert do(db, lambda ctx: ctx.db.insert(Person(name="Bob"), id=other)) == other
    assert get(db, other).name == "Bob"
    assert ann != other


def test_insert_with_an_id_that_exists(db: Database) -> None:
    """An id is used once, even after its document is gone."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    do(db, lambda ctx: ctx.db.delete(ann))
    with pytest.raises(IdExists):
        do(db, lambda ctx: ctx.db.insert(Person(name="Bob"), id=ann))


def test_insert_with_an_id_of_another_table(db: Database) -> None:
    """The id must be one of the table's."""
    ulm = do(db, lambda ctx: ctx.db.insert(City(name="Ulm")))
    with pytest.raises(WrongTable, match="not an id of table `people`"):
        do(db, lambda ctx: ctx.db.insert(Person(name="Ann"), id=ulm))


def test_insert_twice(db: Database) -> None:
    """A document that came from the database cannot be inserted again."""
    ann = get(db, do(db, lambda ctx: ctx.db.insert(Person(name="Ann"))))
    with pytest.raises(IdExists, match="use `replace`"):
        do(db, lambda ctx: ctx.db.insert(ann))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 3}, r"table `people`: \$\.name: expected str, got int"),
        ({"name": "Ann", "age": "3"}, r"\$\.age: expected int, got str"),
        ({"name": "Ann", "age": 1.5}, r"\$\.age: expected int, got float"),
        ({"name": "Ann", "photo": "aGk="}, r"\$\.photo: expected bytes"),
        ({"name": "Ann", "address": Address(3)}, r"\$\.address\.city: expected str, got int"),  # type: ignore[arg-type]
        ({"name": "Ann", "serial": 2**64}, r"too large for a plain number"),
        ({"name": "Ann", "serial": 1.5}, r"\$\.serial: expected Int64, got float"),
    ],
)
def test_wrong_fields(db: Database, fields: dict[str, Any], message: str) -> None:
    """A document that does not fit its class is refused with the path of the problem."""
    with pytest.raises((SchemaViolation, InvalidValue), match=message):
        do(db, lambda ctx: ctx.db.insert(Person(**fields)))


def test_the_annotation_decides(db: Database) -> None:
    """A plain number in an Int64 field is stored as Int64; an integral float in an int field is an int."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann", serial=5, age=3.0)))  # type: ignore[arg-type]
    stored = get(db, ann)
    assert (type(stored.serial), type(stored.age)) == (Int64, int)


@pytest.mark.parametrize("start", [5, 2**53 - 1, 2**62, -(2**63)])
def test_a_sum_of_int64s_is_one(db: Database, start: int) -> None:
    """Python makes it a plain `int` of any size; the field stores an Int64."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann", serial=Int64(start))))
    do(db, lambda ctx: ctx.db.patch(ann, serial=ctx.db.get(ann).serial + 1))
    assert get(db, ann).serial == start + 1
    do(db, lambda ctx: ctx.db.replace(ann, Person(name="Ann", serial=start)))  # type: ignore[arg-type]
    assert type(get(db, ann).serial) is Int64


def test_ids_in_fields_are_checked(db: Database) -> None:
    """An id in a field must belong to the annotated table."""
    ulm = do(db, lambda ctx: ctx.db.insert(City(name="Ulm")))
    with pytest.raises(WrongTable, match=r"\$\.friend: expected an id of table `people`, got one of table `cities`"):
        do(db, lambda ctx: ctx.db.insert(Person(name="Ann", friend=ulm)))
    with pytest.raises(InvalidId, match=r"\$\.friend: 'bob' is not a document id"):
        do(db, lambda ctx: ctx.db.insert(Person(name="Ann", friend=tv.Id("bob"))))


def test_too_large(db: Database) -> None:
    """A document has at most 1 MiB."""
    with pytest.raises(ValueTooLarge):
        do(db, lambda ctx: ctx.db.insert(Person(name="A" * DOCUMENT_BYTES_MAX)))


def test_a_failed_mutation_leaves_nothing(db: Database) -> None:
    """Writes of a mutation that raises are discarded."""

    def work(ctx: tv.MutationCtx) -> None:
        ctx.db.insert(Person(name="Ann"))
        raise tv.AppError("no")

    with pytest.raises(tv.AppError):
        do(db, work)
    assert do(db, lambda ctx: ctx.db.query(Person).count()) == 0


# patch, replace, delete.


def test_patch_changes_some_fields(db: Database) -> None:
    """The others, the id and the creation time stay."""
    before = get(db, ann := do(db, lambda ctx: ctx.db.insert(Person(name="Ann", age=3))))
    do(db, lambda ctx: ctx.db.patch(ann, age=4))
    assert get(db, ann) == msgspec.structs.replace(before, age=4)


def test_patch_removes_a_field(db: Database) -> None:
    """`tv.UNSET` removes a field; its default applies again."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann", age=3)))
    do(db, lambda ctx: ctx.db.patch(ann, age=tv.UNSET))
    assert get(db, ann).age == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"age": "4"}, r"\$\.age: expected int, got str"),
        ({"name": tv.UNSET}, r"\$\.name: missing"),
        ({"colour": "red"}, r"\$\.colour: unknown field"),
    ],
)
def test_patch_is_validated(db: Database, fields: dict[str, Any], message: str) -> None:
    """The patched document must fit its class."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    with pytest.raises(SchemaViolation, match=message):
        do(db, lambda ctx: ctx.db.patch(ann, **fields))


@pytest.mark.parametrize("field", ["_id", "_creationTime", "_other"])
def test_patch_leaves_system_fields(db: Database, field: str) -> None:
    """System fields cannot be patched."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    with pytest.raises(InvalidValue, match=field):
        do(db, lambda ctx: ctx.db.patch(ann, **{field: "x"}))


def test_replace(db: Database) -> None:
    """All fields are the new document's; id and creation time stay."""
    before = get(db, ann := do(db, lambda ctx: ctx.db.insert(Person(name="Ann", age=3))))
    do(db, lambda ctx: ctx.db.replace(ann, Person(name="Bob")))
    after = get(db, ann)
    assert (after.name, after.age, after.id, after.creation_time) == ("Bob", 0, ann, before.creation_time)


def test_replace_with_a_changed_copy(db: Database) -> None:
    """A document that came from the database can be changed and put back."""
    ann = get(db, do(db, lambda ctx: ctx.db.insert(Person(name="Ann"))))
    do(db, lambda ctx: ctx.db.replace(ann.id, msgspec.structs.replace(ann, age=9)))
    assert get(db, ann.id).age == 9


def test_replace_with_a_document_of_another_class(db: Database) -> None:
    """The new document is of the same table's class."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    with pytest.raises(WrongTable, match="`City` is not the class of table `people`"):
        do(db, lambda ctx: ctx.db.replace(ann, City(name="Ulm")))


def test_replace_with_another_document(db: Database) -> None:
    """A stored document cannot replace another one."""
    ann, bob = do(db, lambda ctx: [ctx.db.insert(Person(name=name)) for name in ("Ann", "Bob")])
    with pytest.raises(WrongTable, match="cannot replace"):
        do(db, lambda ctx: ctx.db.replace(ann, ctx.db.get(bob)))


def test_delete(db: Database) -> None:
    """No index contains a deleted document."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    do(db, lambda ctx: ctx.db.delete(ann))
    assert do(db, lambda ctx: ctx.db.query(Person).with_index("by_name", name="Ann").first()) is None


@pytest.mark.parametrize(
    "work",
    [
        lambda ctx, ann: ctx.db.patch(ann, age=1),
        lambda ctx, ann: ctx.db.replace(ann, Person(name="Bob")),
        lambda ctx, ann: ctx.db.delete(ann),
    ],
)
def test_nothing_to_change(db: Database, work: Any) -> None:
    """A document that does not exist cannot be changed."""
    ann = do(db, lambda ctx: ctx.db.insert(Person(name="Ann")))
    do(db, lambda ctx: ctx.db.delete(ann))
    with pytest.raises(DocumentNotFound, match=ann):
        do(db, lambda ctx: work(ctx, ann))


def test_fields_that_may_be_missing(db: Database) -> None:
    """A field whose type includes UNSET may be missing, be removed, and be queried as missing."""
    ulm, rom = do(db, lambda ctx: [ctx.db.insert(City(name="Ulm", code="U")), ctx.db.insert(City(name="Rom"))])
    assert (get(db, ulm).code, get(db, rom).code) == ("U", tv.UNSET)
    do(db, lambda ctx: ctx.db.patch(ulm, code=tv.UNSET))
    assert do(db, lambda ctx: ctx.db.query(City).with_index("by_code", code=tv.UNSET).count()) == 2


# Tables without a class, and by name.


def test_untyped_documents_are_mappings(db: Database) -> None:
    """A table without a class accepts mappings and returns read-only ones."""
    note = do(db, lambda ctx: ctx.db.insert("notes", {"kind": "a", "deep": {"list": [1, Int64(2), b"3"]}}))
    stored = do(db, lambda ctx: ctx.db.query("notes").with_index("by_kind", kind="a").unique())
    assert stored["deep"] == {"list": [1, Int64(2), b"3"]}
    assert (stored["_id"], get(db, note)) == (note, stored)


def test_untyped_documents_can_be_changed(db: Database) -> None:
    """Patch adds and removes fields; replace accepts a document that was read."""
    note = do(db, lambda ctx: ctx.db.insert("notes", {"kind": "a", "old": 1}))
    do(db, lambda ctx: ctx.db.patch(note, new=2, old=tv.UNSET))
    do(db, lambda ctx: ctx.db.replace(note, {**ctx.db.get(note), "kind": "b"}))
    assert {name: value for name, value in get(db, note).items() if name[0] != "_"} == {"kind": "b", "new": 2}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"_x": 1}, r"\$\._x: names that begin with `_`"),
        ({"$x": 1}, r"begin with `\$`"),
        ({"x": object()}, r"\$\.x"),
        ({"x": 2**60}, r"Int64"),
        ([1], "a document must be a mapping"),
    ],
)
def test_objects_that_cannot_be_stored(db: Database, document: Any, message: str) -> None:
    """They are refused with the path."""
    with pytest.raises(InvalidValue, match=message):
        do(db, lambda ctx: ctx.db.insert("notes", document))


def test_a_typed_table_by_name(db: Database) -> None:
    """By name, a typed table returns mappings, and accepts only documents that fit its class."""
    do(db, lambda ctx: ctx.db.insert("people", {"name": "Ann"}))
    person = do(db, lambda ctx: ctx.db.query("people").first())
    assert (person["name"], person["age"]) == ("Ann", 0)
    with pytest.raises(SchemaViolation, match=r"\$\.name: expected str, got int"):
        do(db, lambda ctx: ctx.db.insert("people", {"name": 3}))


@pytest.mark.parametrize("table", ["nothing", "Person"])
def test_unknown_tables(db: Database, table: str) -> None:
    """An undeclared table is refused."""
    with pytest.raises(UnknownTable, match=table):
        do(db, lambda ctx: ctx.db.query(table))


def test_a_class_that_is_no_table(db: Database) -> None:
    """A class without the decorator is refused; the error shows the decorator."""

    class Loose(tv.Document):
        name: str

    with pytest.raises(UnknownTable, match=r"decorate its class with `@tv\.table"):
        do(db, lambda ctx: ctx.db.query(Loose))


@pytest.mark.parametrize("table", ["_tables", "_indexes", "_code"])
def test_system_tables_are_not_written(db: Database, table: str) -> None:
    """Functions cannot write system tables."""
    with pytest.raises(UnknownTable, match="is a system table"):
        do(db, lambda ctx: ctx.db.insert(table, {"name": "x"}))


# Messages of mistakes.


class Undecorated(tv.Document):
    name: str


def a_person(ctx: tv.MutationCtx) -> Any:
    return ctx.db.get(ctx.db.insert(Person(name="Ann")))


MISTAKES: dict[str, tuple[Callable[[Any], Any], type[tv.TinyvexError], str]] = {
    "a class and a mapping": (
        lambda ctx: ctx.db.insert(Person, {"name": "Ann"}), InvalidValue,
        r"`insert` takes a document, not its class; write `ctx\.db\.insert\(Person\(field=value, …\)\)`",
    ),
    "a mapping alone": (
        lambda ctx: ctx.db.insert({"name": "Ann"}), InvalidValue, "a mapping needs the name of its table",
    ),
    "an undecorated class": (
        lambda ctx: ctx.db.insert(Undecorated(name="Ann")), UnknownTable, "`Undecorated` is not a table; decorate",
    ),
    "patch with a document": (
        lambda ctx: ctx.db.patch(a_person(ctx), name="Bob"), InvalidId,
        r"`Person` is not an id: a document was given; write its id, `document\.id`",
    ),
    "patch with a mapping": (
        lambda ctx: ctx.db.patch(a_person(ctx).id, {"name": "Bob"}), InvalidValue,
        r"by name; write `ctx\.db\.patch\(id, field=value, …\)`, or `ctx\.db\.patch\(id, \*\*fields\)` for a mapping",
    ),
    "delete with a document": (
        lambda ctx: ctx.db.delete(a_person(ctx)), InvalidId, "`Person` is not an id: a document was given",
    ),
    "get with a mapping": (lambda ctx: ctx.db.get({"_id": "x"}), InvalidId, "`dict` is not an id: an id is a string"),
    "query with a document": (
        lambda ctx: ctx.db.query(a_person(ctx)), UnknownTable, "a table is given by its class or its name, not by",
    ),
    "query with a declaration": (
        lambda ctx: ctx.db.query(notes), UnknownTable, 'a table without a class is given by its name: `"notes"`',
    ),
    "a misspelt table": (
        lambda ctx: ctx.db.query("poeple"), UnknownTable, r"there is no table `poeple`.*; did you mean `people`\?",
    ),
    "a misspelt index": (
        lambda ctx: ctx.db.query(Person).with_index("by_nmae"), UnknownIndex, r"; did you mean `by_name`\?",
    ),
    "a misspelt field of an index": (
        lambda ctx: ctx.db.query(Person).with_index("by_name", nmae="Ann"), UnknownIndex,
        r"the next field is `name`, not `nmae`; did you mean `name`\?",
    ),
    "a misspelt field": (
        lambda ctx: ctx.db.patch(a_person(ctx).id, nmae="Bob"), SchemaViolation, r"\$\.nmae: unknown field; did you mean `name`\?",
    ),
    "a wrong value for an index": (
        lambda ctx: ctx.db.query(Person).with_index("by_name", name=7), InvalidValue,
        "index `by_name` of table `people`, field `name`: expected str, got int",
    ),
    "a wrong bound of an index": (
        lambda ctx: ctx.db.query(Person).with_index("by_name").gt("name", ["a"]), InvalidValue,
        "index `by_name` of table `people`, field `name`: expected str | null, got array",
    ),
    "an id of another table for an index": (
        lambda ctx: ctx.db.query(Person).with_index("by_friend", friend=ctx.db.insert(City(name="Ulm"))), InvalidValue,
        "field `friend`: expected an id of table `people`, got one of table `cities`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained(db: Database, mistake: str) -> None:
    """The message names what is wrong, and what to write instead."""
    work, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message.replace("str | null", r"str \| null")):
        do(db, work)


# Lists and dicts of documents that were read.


@tv.table("drafts")
class Draft(tv.Document):
    tags: list[str]
    deep: dict[str, list[int]] = {}  # noqa: RUF012  # msgspec copies it


@pytest.mark.parametrize(
    "read",
    [
        lambda ctx, draft: ctx.db.get(draft).tags,
        lambda ctx, _draft: ctx.db.query(Draft).collect()[0].tags,
        lambda ctx, _draft: ctx.db.query(Draft).first().deep["a"],
        lambda ctx, _draft: ctx.db.query("drafts").first()["tags"],
        lambda ctx, _draft: ctx.db.query("drafts").first()["deep"]["a"],
    ],
)
def test_a_list_of_a_document_cannot_be_changed(read: Callable[[Any, Any], Any]) -> None:
    """A change would be lost, so it raises."""

    def work(ctx: tv.MutationCtx) -> None:
        draft = ctx.db.insert(Draft(tags=["a"], deep={"a": [1]}))
        with pytest.raises(TypeError, match="belongs to a document that was read"):
            read(ctx, draft).append("b")

    with Database(Draft) as database:
        do(database, work)


def test_a_document_with_frozen_lists_is_written_and_returned() -> None:
    """It can be replaced by itself, patched with a changed copy, and returned."""

    def work(ctx: tv.MutationCtx) -> Any:
        draft = ctx.db.get(ctx.db.insert(Draft(tags=["a"], deep={"a": [1]})))
        ctx.db.replace(draft.id, draft)
        ctx.db.patch(draft.id, tags=[*draft.tags, "b"], deep=draft.deep)
        return ctx.db.get(draft.id)

    with Database(Draft) as database:
        returned = database.mutation(work)
    assert (returned["tags"], returned["deep"]) == (["a", "b"], {"a": [1]})
