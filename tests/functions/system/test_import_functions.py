"""The mutations that import documents: the conversion of each line, its problems, and each step exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest

import tinyvex as tv
from tests.support.storage import MemoryStore, numbers, scan
from tinyvex import errors
from tinyvex.functions.app.registry import App
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.code_switch import CodeSwitch
from tinyvex.functions.run.executor import Executor
from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.functions.schema.table_spec import class_spec
from tinyvex.limits import DOCUMENT_BYTES_MAX, IMPORT_LINE_PROBLEMS_MAX, IMPORT_STEP_ROWS
from tinyvex.runtime import Runtime
from tinyvex.storage.log.operations import FillTablet
from tinyvex.storage.maintenance.check import check
from tinyvex.values import codec
from tinyvex.values.ids import DocumentId, parse_id
from tinyvex.values.types import Int64


@tv.table("authors", indexes={"by_name": ["name"]})
class Author(tv.Document):
    name: str


class Size(msgspec.Struct, frozen=True):
    width: float
    depth: tv.Int64


@tv.table("books", indexes={"by_n": ["n"]})
class Book(tv.Document):
    title: str
    n: tv.Int64 = tv.Int64(5)
    author: tv.Id[Author] | None = None
    authors: list[tv.Id[Author]] = []  # noqa: RUF012 - msgspec copies it
    size: Size | None = None
    pages: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cover: bytes | None = None


@tv.table("shelves", indexes={"by_depth": ["size.depth"], "by_built": ["built"]})
class Shelf(tv.Document):
    size: Size
    built: datetime


SPECS = {spec.name: spec for spec in map(class_spec, (Author, Book, Shelf))}
AUTHORS, BOOKS, SHELVES, LOOSE = 10_001, 10_002, 10_003, 10_004


class Imports:
    """An administrator who imports into a store of its own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        tables = {name: dict(spec.indexes) for name, spec in SPECS.items()} | {"loose": {"by_n": ("n",)}}
        self.store.declare(tables, table_fingerprints={name: spec.fingerprint for name, spec in SPECS.items()})
        store: Any = self.store
        self.executor = Executor(store, Runtime(), CodeSwitch(App([], SPECS.values())))
        self.requests = 0

    def call(self, function: str, request: int | None = None, /, **arguments: Any) -> Any:
        """Run one of the mutations; `request` to send one again."""
        if request is None:
            self.requests += 1
            request = self.requests
        call = Call(f"_system:import_{function}", codec.encode(arguments), admin=True)
        key = IdempotencyKey("session", request, codec.encode([function, arguments]))
        outcome = self.store.run(lambda snapshot, ts: self.executor.runner.mutation(call, key, snapshot, ts))
        return json.loads(bytes(outcome.value))

    def begin(self, mode: str = "replace", **tables: int | None) -> str:
        """Begin an import into these tables."""
        return self.call("begin", mode=mode, tables=[list(table) for table in tables.items()])["import"]  # type: ignore[no-any-return]

    def rows(self, name: str, table: str, *documents: Any, style: str = "stored") -> list[list[Any]]:
        """Add documents; strings are whole lines."""
        lines = [row if isinstance(row, str) else json.dumps(row) for row in documents]
        return self.call("rows", import_id=name, table=table, lines="\n".join(lines), style=style)  # type: ignore[no-any-return]

    def problems(self, table: str, *documents: Any, style: str = "stored", mode: str = "replace") -> list[list[Any]]:
        """Return the problems of these documents."""
        return self.rows(self.begin(mode, **{table: None}), table, *documents, style=style)

    def imported(self, table: str, *documents: Any, style: str = "stored") -> list[Any]:
        """Import documents and return the table's contents by creation time, without ids and times."""
        name = self.begin(**{table: None})
        assert self.rows(name, table, *documents, style=style) == []
        self.call("finish", import_id=name)
        stored = self.store.look(lambda snapshot: scan(snapshot, "by_creation_time", table=table))
        return [{name: value for name, value in row.items() if name[0] != "_"} for row in stored]


@pytest.fixture
def work() -> Iterator[Imports]:
    made = Imports()
    yield made
    assert check(made.store.connection) == []


def id_of(table: int, name: bytes = b"sixteen bytes 01") -> str:
    """Return an id."""
    return DocumentId(table, name).text


# How lines are taken.


def test_stored_documents_are_imported_unchanged(work: Imports) -> None:
    """With their ids and times, and every type of value."""
    name = work.begin(books=BOOKS)
    row = {
        "_id": id_of(BOOKS), "_creationTime": 1234.5, "title": "A", "n": {"$integer": "BwAAAAAAAAA="},
        "cover": {"$bytes": "AAE="}, "author": None, "authors": [id_of(AUTHORS)], "pages": 3, "size": None,
    }  # fmt: skip
    assert work.rows(name, "books", row) == []
    work.call("finish", import_id=name)
    (document,) = work.store.look(lambda snapshot: scan(snapshot, table="books"))
    assert document["_id"] == row["_id"]
    assert document["_creationTime"] == 1234.5
    assert document["n"] == Int64(7)
    assert document["cover"] == b"\0\1"


def test_stored_documents_get_the_defaults_of_indexed_fields_only(work: Imports) -> None:
    """An export has the documents as stored; but an index must find a document by the values that are read."""
    assert work.imported("books", {"title": "A"}) == [{"title": "A", "n": Int64(5)}]


def test_stored_numbers_are_coerced_in_indexed_fields(work: Imports) -> None:
    """In other fields, a plain number stays one, as it does when a class changes."""
    (book,) = work.imported("books", {"title": "A", "n": 7, "size": {"width": 1, "depth": 2}})
    assert isinstance(book["n"], Int64)
    assert not isinstance(book["size"]["depth"], Int64)


def test_written_documents_are_completed_by_their_class(work: Imports) -> None:
    """With defaults, and plain numbers as Int64, at any depth."""
    (book,) = work.imported("books", {"title": "A", "n": 7, "size": {"width": 1, "depth": 2}}, style="written")
    assert book == {
        "title": "A", "n": Int64(7), "author": None, "authors": [], "size": {"width": 1.0, "depth": Int64(2)},
        "pages": None, "cover": None,
    }  # fmt: skip
    assert isinstance(book["n"], Int64)
    assert isinstance(book["size"]["depth"], Int64)


def test_written_numbers_are_in_the_order_of_their_index(work: Imports) -> None:
    """As Int64s, which sort apart from floats."""
    work.imported("books", *({"title": "A", "n": n} for n in (3, -1, 20)), {"title": "B"}, style="written")
    assert work.store.look(lambda snapshot: numbers(snapshot, table="books")) == [-1, 3, 5, 20]


def test_without_a_class_documents_are_imported_as_written(work: Imports) -> None:
    """In either style."""
    rows = [{"n": 1, "deep": [{"x": None}]}, {}]
    assert work.imported("loose", *rows) == work.imported("loose", *rows, style="written") == rows


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"title": "7"}, {"title": "7", "n": 5}),  # a field of text takes any
        ({"title": ""}, {"title": "", "n": 5}),
        ({"title": "A", "n": "8"}, {"title": "A", "n": 8}),
        ({"title": "A", "n": ""}, {"title": "A", "n": 5}),  # nothing is the default
        ({"title": "A", "pages": "12"}, {"title": "A", "n": 5, "pages": 12}),
        ({"title": "A", "authors": "[]"}, {"title": "A", "n": 5, "authors": []}),
        ({"title": "A", "size": '{"width": 1, "depth": 2}'}, {"title": "A", "n": 5, "size": {"width": 1, "depth": 2}}),
        ({"title": "A", "cover": '{"$bytes": "AAE="}'}, {"title": "A", "n": 5, "cover": b"\0\1"}),
    ],
)
def test_cells_of_text_are_parsed_by_their_field(work: Imports, cells: Any, expected: Any) -> None:
    """The text itself if the field accepts it, otherwise the text as JSON; an empty cell is omitted."""
    (book,) = work.imported("books", cells, style="text")
    defaults = {"author": None, "authors": [], "size": None, "pages": None, "cover": None}
    assert book == defaults | expected


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("12", 12),
        ("-1.5", -1.5),
        ("true", "true"),
        ("null", "null"),
        ("", ""),
        ("012", "012"),
        ("[1]", "[1]"),
        ("x", "x"),
    ],
)
def test_without_a_class_a_cell_is_a_number_or_text(work: Imports, cell: str, value: Any) -> None:
    """Nothing else is guessed."""
    assert work.imported("loose", {"n": cell}, style="text") == [{"n": value}]


def test_only_a_newline_ends_a_line(work: Imports) -> None:
    """Other Unicode separators may be in strings; empty lines are ignored."""
    texts = ["a\u2028b", "a\u2029b", "a\u0085b"]
    lines = [json.dumps({"n": text}, ensure_ascii=False) for text in texts]
    assert [row["n"] for row in work.imported("loose", *lines[:1], "", "  ", *lines[1:])] == texts
    assert work.problems("loose", "", lines[0], "{")[0][0] == 2


def test_missing_ids_and_times_are_added(work: Imports) -> None:
    """Times ascend with the lines; ids have the table's number."""
    work.imported("loose", *({"n": n} for n in range(5)))
    documents = work.store.look(lambda snapshot: scan(snapshot, "by_creation_time", table="loose"))
    assert [row["n"] for row in documents] == list(range(5))
    assert {parse_id(row["_id"]).table for row in documents} == {LOOSE}
    assert len({row["_id"] for row in documents}) == 5


# Errors.

PROBLEMS: dict[str, tuple[str, Any, list[str]]] = {
    "no JSON": ("loose", "{", ["not JSON"]),
    "no object": ("loose", "[1]", ["a document must be a JSON object"]),
    "not even a list": ("loose", "7", ["a document must be a JSON object"]),
    "an id that is no text": ("loose", {"_id": 7}, ["$._id: an id must be a string"]),
    "an id of null": ("loose", {"_id": None}, ["$._id: an id must be a string"]),
    "an id that is none": ("loose", {"_id": "abc"}, ["$._id: "]),
    "an id of another table": ("loose", {"_id": id_of(BOOKS)}, ["$._id: an id of table `books` (number 10002)"]),
    "an id of no table": ("loose", {"_id": id_of(30_000)}, ["$._id: an id of an unknown table (number 30000)"]),
    "a name of the system's": ("loose", {"_mine": 1}, ["names that begin with `_`"]),
    "a time that is no number": ("loose", {"_creationTime": "now"}, ["$._creationTime: must be milliseconds"]),
    "a time that is a truth": ("loose", {"_creationTime": True}, ["$._creationTime: must be milliseconds"]),
    "a time of another kind": ("loose", {"_creationTime": {"$integer": "AQAAAAAAAAA="}}, ["$._creationTime: must be"]),
    "a time before all": ("loose", {"_creationTime": -1}, ["$._creationTime: must be milliseconds"]),
    "a time that is not finite": ("loose", '{"_creationTime": {"$float": "AAAAAAAA+H8="}}', ["$._creationTime: must be"]),
    "too large": ("loose", {"text": "x" * DOCUMENT_BYTES_MAX}, [f"the limit is {DOCUMENT_BYTES_MAX}"]),
    "too deep": ("loose", '{"n":' * 100 + "1" + "}" * 100, ["nested"]),
    "two fields": ("books", {"title": 1, "pages": 0}, ["$.pages", "$.title"]),
    "a field too many": ("books", {"title": "A", "more": 1}, ["$.more: unknown field"]),
    "a field missing": ("books", {}, ["$.title: missing"]),
    "deep inside": ("books", {"title": "A", "size": {"width": "x"}}, ["$.size"]),
    "a reference to another table": ("books", {"title": "A", "author": id_of(LOOSE)}, ["$.author"]),
    "such a one in a list": ("books", {"title": "A", "authors": [id_of(AUTHORS), id_of(LOOSE)]}, ["$.authors[1]"]),
}  # fmt: skip


@pytest.mark.parametrize(("table", "row", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_each_problem_is_one_sentence_with_its_line(work: Imports, table: str, row: Any, expected: list[str]) -> None:
    """And with its field; the lines around it are imported."""
    good = {"title": "fine"} if table == "books" else {"n": 1}
    problems = work.problems(table, good, row, good)
    assert [line for line, _ in problems] == [1] * len(expected)
    for (_, text), part in zip(problems, expected, strict=True):
        assert part in text


@pytest.mark.parametrize(("table", "row", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_written_documents_have_the_same_problems(work: Imports, table: str, row: Any, expected: list[str]) -> None:
    """The same number, in the same fields."""
    problems = work.problems(table, row, style="written")
    assert [part in text for (_, text), part in zip(problems, expected, strict=True)] == [True] * len(expected)


def test_text_must_be_text(work: Imports) -> None:
    """In style `text`, a cell is a string."""
    assert work.problems("loose", {"n": 1}, style="text") == [[0, "$.n: must be a string in style `text`"]]


def test_an_id_twice_in_one_step(work: Imports) -> None:
    """The second occurrence is reported."""
    row = {"_id": id_of(LOOSE)}
    assert work.problems("loose", row, row) == [[1, f"$._id: `{row['_id']}` occurs twice"]]


def test_an_id_twice_in_two_steps(work: Imports) -> None:
    """The first occurrence is in the log."""
    name, row = work.begin(loose=None), {"_id": id_of(LOOSE)}
    assert work.rows(name, "loose", row) == []
    assert work.rows(name, "loose", row) == [[0, f"$._id: `{row['_id']}` occurs twice"]]


def test_an_id_of_a_line_that_was_left_out_is_free(work: Imports) -> None:
    """No document has it."""
    name = work.begin(books=None)
    answer = work.rows(name, "books", {"_id": id_of(BOOKS)}, {"_id": id_of(BOOKS), "title": "A"})
    assert [line for line, _ in answer] == [0]


def test_an_id_that_the_table_has_can_be_replaced_and_not_appended(work: Imports) -> None:
    """If appended, two documents would have it."""
    row = {"_id": id_of(LOOSE), "n": 1}
    work.imported("loose", row)
    work.imported("loose", row)
    assert work.problems("loose", row, mode="append") == [
        [0, f"$._id: `{row['_id']}` exists already, or existed before"]
    ]


def test_references_are_compared_with_the_numbers_that_the_tables_will_have(work: Imports) -> None:
    """An import brings its own table numbers; ids with the old ones are wrong afterwards."""
    name = work.begin("replaceAll", authors=20_001, books=20_002)
    assert work.rows(name, "authors", {"_id": id_of(20_001), "name": "A"}) == []
    right = {"_id": id_of(20_002), "title": "A", "author": id_of(20_001)}
    assert work.rows(name, "books", right) == []
    ((_, text),) = work.rows(name, "books", {"title": "B", "author": id_of(AUTHORS)})
    assert text.startswith("$.author")
    work.call("finish", import_id=name)
    (book,) = work.store.look(lambda snapshot: scan(snapshot, table="books"))
    assert book["author"] == id_of(20_001)


# Each step once.


def test_a_step_sent_again_adds_nothing(work: Imports) -> None:
    """A client that lost its connection receives the first answer."""
    name = work.begin(loose=None)
    lines = '{"n":1}\n{'
    arguments = {"import_id": name, "table": "loose", "lines": lines, "style": "stored"}
    first = work.call("rows", 77, **arguments)
    assert work.call("rows", 77, **arguments) == first != []
    work.call("finish", 78, import_id=name)
    work.call("finish", 78, import_id=name)
    assert work.store.look(lambda snapshot: numbers(snapshot, table="loose")) == [1]


def test_a_resent_begin_returns_the_same_import(work: Imports) -> None:
    """A second import would abandon the first."""
    arguments: Any = {"mode": "replace", "tables": [["loose", None]]}
    first = work.call("begin", 77, **arguments)
    assert work.call("begin", 77, **arguments) == first
    assert work.rows(first["import"], "loose", {"n": 1}) == []


# Refused as a whole.


@pytest.mark.parametrize("name", ["_tables", "_mine", "a b", "", "7"])
def test_impossible_table_names(work: Imports, name: str) -> None:
    """Names of system tables are among them."""
    with pytest.raises(errors.ImportRefused, match="cannot be a table name"):
        work.begin(**{name: None})


def test_a_table_named_twice(work: Imports) -> None:
    """Naming a table twice is refused."""
    with pytest.raises(errors.ImportRefused, match="named twice"):
        work.call("begin", mode="replace", tables=[["loose", None], ["loose", 20_000]])


def test_rows_of_a_table_that_is_not_in_the_import(work: Imports) -> None:
    """Such rows are refused."""
    name = work.begin(loose=None)
    with pytest.raises(errors.ImportRefused, match="`books` is not a table of this import"):
        work.rows(name, "books", {"title": "A"})


def test_rows_of_a_table_that_got_another_class(work: Imports) -> None:
    """Such rows are refused: by the end the table may have its old class again, which does not describe them."""
    name = work.begin(books=None, loose=None)
    tables = {"books": dict(SPECS["books"].indexes)}
    work.store.declare(tables, table_fingerprints={"books": "another class"}, fingerprint="for a while")
    with pytest.raises(errors.ImportRefused, match="the class of table `books` changed during the import"):
        work.rows(name, "books", {"title": 7})
    assert work.rows(name, "loose", {"n": 7}) == []
    work.store.declare(tables, table_fingerprints={"books": SPECS["books"].fingerprint}, fingerprint="as before")
    assert work.rows(name, "books", {"title": "seven"}) == []
    work.call("finish", import_id=name)


def test_an_unknown_import_is_refused(work: Imports) -> None:
    """By each step."""
    for function, arguments in {
        "rows": {"table": "loose", "lines": ""}, "finish": {}, "abandon": {},
    }.items():  # fmt: skip
        with pytest.raises(errors.ImportRefused, match="abandoned"):
            work.call(function, import_id="no such", **arguments)


def test_an_abandoned_import_changes_nothing(work: Imports) -> None:
    """The table keeps its contents."""
    work.imported("loose", {"n": 1})
    name = work.begin(loose=None)
    work.rows(name, "loose", {"n": 2})
    work.call("abandon", import_id=name)
    assert work.store.look(lambda snapshot: numbers(snapshot, table="loose")) == [1]


def test_unpublished_rows_invalidate_nothing(work: Imports) -> None:
    """Live queries are not compared with them, and they evict no recent commits from memory."""
    recent: Any = work.store.participants[0]
    name = work.begin(loose=None)
    before = recent._bytes
    work.rows(name, "loose", *({"n": n} for n in range(50)))
    (filled,) = [operation for operation in work.store.commits[-1].operations if isinstance(operation, FillTablet)]
    assert len(filled.writes) == 50
    assert list(work.store.commits[-1].touched()) == []
    assert recent._bytes - before < 2_000
    work.call("finish", import_id=name)
    assert work.store.look(lambda snapshot: numbers(snapshot, table="loose")) == list(range(50))


def test_a_step_with_problems_in_every_field_is_answered(work: Imports) -> None:
    """
    Each line reports some of its problems and the count of the others, so that those of a step fit into its result.
    """
    name = work.begin(books=BOOKS)
    line = json.dumps({f"field{number}": 1 for number in range(100)})
    answer = work.call(
        "rows", import_id=name, table="books", lines="\n".join([line] * IMPORT_STEP_ROWS), style="written"
    )
    assert len(answer) == IMPORT_STEP_ROWS * (IMPORT_LINE_PROBLEMS_MAX + 1)
    assert [text for number, text in answer if number == 7][-1] == f"and {101 - IMPORT_LINE_PROBLEMS_MAX} more problems"


# Large integers.


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_digits_of_an_int64_are_read_exactly(work: Imports, number: int) -> None:
    """In JSON and in a CSV cell, although a plain number could not have them."""
    for style, row in (("written", {"title": "A", "n": number}), ("text", {"title": "A", "n": str(number)})):
        (document,) = work.imported("books", row, style=style)
        assert document["n"] == number
        assert type(document["n"]) is Int64


def test_digits_beyond_an_int64_are_refused(work: Imports) -> None:
    """With the field."""
    assert "$.n" in work.problems("books", {"title": "A", "n": 2**63 + 1}, style="written")[0][1]


def test_without_a_class_digits_that_no_number_has_are_refused(work: Imports) -> None:
    """As text they would be the only text among numbers."""
    assert (
        "$.n: `9007199254740993` is too large" in work.problems("loose", {"n": "9007199254740993"}, style="text")[0][1]
    )


def test_system_fields_in_text(work: Imports) -> None:
    """The creation time is a number; an empty cell gets a fresh value."""
    rows = [{"_id": id_of(LOOSE), "_creationTime": "1796108891802.5"}, {"_id": "", "_creationTime": ""}]
    work.imported("loose", *rows, style="text")
    second, first = work.store.look(lambda snapshot: scan(snapshot, "by_creation_time", table="loose"))
    assert (first["_id"], first["_creationTime"]) == (rows[0]["_id"], 1796108891802.5)
    assert parse_id(second["_id"]).table == LOOSE
    assert second["_creationTime"] > 0
    assert "$._creationTime: must be milliseconds" in work.problems("loose", {"_creationTime": "x"}, style="text")[0][1]


def test_index_keys_are_those_of_the_stored_form(work: Imports) -> None:
    """A field inside a struct and an instant, although the class reads them as instances: see the check in the end."""
    row = {"size": {"width": 2, "depth": 3}, "built": "2026-05-01T12:00:00+02:00"}
    (shelf,) = work.imported("shelves", row, style="written")
    assert shelf == {"size": {"width": 2, "depth": Int64(3)}, "built": "2026-05-01T10:00:00.000000Z"}
