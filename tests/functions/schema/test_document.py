"""Documents, ids and the table decorator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

import tinyvex as tv
from tinyvex.functions.schema.document import DocumentMapping, declaration_of, is_identifier, stored_id
from tinyvex.values.types import Int64


@tv.table("notes", indexes={"by_title": ["title"], "by_both": ("title", "stars")})
class Note(tv.Document):
    title: str
    stars: tv.Int64 = tv.Int64(1)
    tags: list[str] = msgspec.field(default_factory=list)


def test_made_with_keywords() -> None:
    """Fields are passed by name; defaults fill in the rest."""
    note = Note(title="One")
    assert (note.title, note.stars, note.tags) == ("One", 1, [])


def test_not_made_by_position() -> None:
    """Fields cannot be passed by position, in subclasses neither."""
    with pytest.raises(TypeError, match="positional"):
        Note("One")  # type: ignore[call-arg]


def test_frozen() -> None:
    """Documents do not change."""
    with pytest.raises(AttributeError, match="immutable"):
        Note(title="One").title = "Two"  # type: ignore[misc]


def test_equal_by_value() -> None:
    """Two documents with the same fields are equal."""
    assert Note(title="One") == Note(title="One") != Note(title="Two")


def test_int64_default_is_kept() -> None:
    """A default that is an Int64 stays one."""
    assert isinstance(Note(title="One").stars, Int64)


def test_repr_shows_what_was_given() -> None:
    """The representation shows the given fields, without absent system fields."""
    assert repr(Note(title="One", tags=["a"])) == "Note(title='One', stars=Int64(1), tags=['a'])"


def test_no_id_before_insert() -> None:
    """A document has no id before it is inserted; the error says so."""
    with pytest.raises(AttributeError, match="this `Note` has no id before it is inserted"):
        Note(title="One").id  # noqa: B018


def test_no_creation_time_before_insert() -> None:
    """A document has no creation time before it is inserted."""
    with pytest.raises(AttributeError, match="has no creation time before it is inserted"):
        Note(title="One").creation_time  # noqa: B018


def test_stored_id_of_a_new_document() -> None:
    """Engine code can ask for the id without an exception."""
    assert stored_id(Note(title="One")) is None


@pytest.mark.parametrize("field", ["id", "creation_time", "_id", "_private"])
def test_reserved_names(field: str) -> None:
    """Names of the system, and names that begin with an underscore, cannot be fields."""
    with pytest.raises(TypeError, match=f"`Wrong.{field}`: this name is reserved"):
        type(tv.Document)("Wrong", (tv.Document,), {"__annotations__": {field: str}})


def test_classes_can_share_fields() -> None:
    """A table's class may inherit fields from another class; class variables are ignored."""

    class Timed(tv.Document):
        _unit: ClassVar[str] = "s"
        seconds: float = 0

    @tv.table("runs")
    class Run(Timed):
        runner: str

    assert repr(Run(runner="Ann", seconds=3)) == "Run(seconds=3, runner='Ann')"


def test_the_decorator_returns_the_class() -> None:
    """`table` attaches a declaration and returns the class."""
    declaration = declaration_of(Note)
    assert declaration is not None
    assert declaration.name == "notes"
    assert declaration.indexes == {"by_title": ("title",), "by_both": ("title", "stars")}


def test_the_declaration_knows_its_line() -> None:
    """Errors can point at the decorator."""
    declaration = declaration_of(Note)
    assert declaration is not None
    assert declaration.location.file == __file__
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert lines[declaration.location.line - 1].startswith("@tv.table")


def test_subclasses_are_no_tables() -> None:
    """The declaration belongs to the class itself; a subclass does not inherit it."""

    class Below(Note):
        more: str = ""

    assert declaration_of(Below) is None


def test_only_documents_are_tables() -> None:
    """A class that is not a document class is refused."""
    with pytest.raises(TypeError, match=r"must be a subclass of `tv\.Document`"):
        tv.table("others")(int)  # type: ignore[type-var]


def test_ids_are_strings() -> None:
    """An id is a string, equal to its text."""
    assert tv.Id[Note]("abc") == "abc"


def test_mapping_is_read_only() -> None:
    """A document of a table without a class is a mapping that cannot be written."""
    document = DocumentMapping(b'{"_creationTime":1,"_id":"x","kind":"a"}')
    assert isinstance(document, Mapping)
    assert dict(document) == {"_creationTime": 1, "_id": "x", "kind": "a"}
    with pytest.raises(TypeError):
        document["kind"] = "b"  # type: ignore[index]


def test_mapping_equals_a_dict() -> None:
    """A document mapping compares like any mapping."""
    assert DocumentMapping(b'{"n":{"$integer":"BQAAAAAAAAA="}}') == {"n": 5}


def test_mapping_prints_its_fields() -> None:
    """The representation shows the fields."""
    assert repr(DocumentMapping(b'{"a":1}')) == "DocumentMapping({'a': 1})"


@pytest.mark.parametrize("name", ["a", "messages", "Messages2", "with_underscore", "a" * 64])
def test_identifiers(name: str) -> None:
    """Letters, digits and underscores, beginning with a letter, up to 64."""
    assert is_identifier(name)


@pytest.mark.parametrize("name", ["", "_tables", "2nd", "with-dash", "ä", "a" * 65, "a b", None])
def test_no_identifiers(name: object) -> None:
    """All other names, those of system tables included."""
    assert not is_identifier(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((Note,), r'write `@tv\.table\("notes"\)`'), (("notes", ["text"]), r'write \{"by_author": \["author"\]\}')],
    ids=["no name", "no index names"],
)
def test_a_table_without_names_is_refused(arguments: Any, message: str) -> None:
    """The error shows how to write the name of the table or of its indexes."""
    name, *indexes = arguments
    with pytest.raises(TypeError, match=message):
        tv.table(name, indexes=indexes[0] if indexes else None)
