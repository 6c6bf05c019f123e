"""Documents in files: what is found in each format, where it is, what is wrong with it, and in how much memory."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import same, strings
from tinyvex.cli import document_files
from tinyvex.cli.document_files import DocumentFile, Format, format_of, open_documents
from tinyvex.errors import ImportRefused
from tinyvex.limits import IMPORT_LINE_BYTES_MAX


@contextmanager
def opened(folder: Path, name: str, data: bytes, table: str | None = "books") -> Iterator[DocumentFile]:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    file_format = format_of(path)
    assert file_format is not None
    with open_documents(path, file_format, table) as file:
        yield file


def rows(folder: Path, name: str, data: bytes) -> list[tuple[int, Any]]:
    """Lines and documents of a file with one table."""
    with opened(folder, name, data) as file:
        (table,) = file.tables
        return [(row.line, json.loads(row.text)) for row in file.rows(table)]


def refused(folder: Path, name: str, data: bytes) -> str:
    """Why its documents cannot be read."""
    with pytest.raises(ImportRefused) as found:
        rows(folder, name, data)
    return found.value.message


def zipped(**entries: str) -> bytes:
    """A zip; names have `__` for `/`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name.replace("__", "/") + ("" if name.endswith("README") else ".jsonl"), text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.zip", "zip"), ("a.ZIP", "zip"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl"), ("a.json", "json"),
        ("a.csv", "csv"), ("a", None), ("a.txt", None), ("zip", None),
    ],
)  # fmt: skip
def test_a_files_name_tells_what_it_is(name: str, expected: Format | None) -> None:
    """In any case of letters; or it does not."""
    assert format_of(Path(name)) == expected


# A zip.


def test_a_zip_has_tables_with_their_numbers(tmp_path: Path) -> None:
    """And the place of each, for messages."""
    data = zipped(
        _tables__documents='{"name":"books","id":10001}\n{"name":"readers","id":10007}\n',
        books__documents='{"n":1}\n\n{"n":2}\n',
        readers__documents="",
        README="hello",
    )
    with opened(tmp_path, "out.zip", data, None) as file:
        assert [(table.name, table.number, table.place) for table in file.tables] == [
            ("books", 10_001, "out.zip/books/documents.jsonl"),
            ("readers", 10_007, "out.zip/readers/documents.jsonl"),
        ]
        assert [[row.line for row in file.rows(table)] for table in file.tables] == [[1, 3], []]
        assert file.left_out == ()


def test_what_is_no_table_of_ours_is_left_out(tmp_path: Path) -> None:
    """Files, the system's tables, other components' tables: they are named."""
    data = zipped(
        books__documents="{}",
        _storage__documents='{"_id":"x"}',
        _components__other__books__documents="{}",
        _components__other___tables__documents="{}",
        books__generated_schema='"uniform"',
    )
    with opened(tmp_path, "out.zip", data, None) as file:
        assert [table.name for table in file.tables] == ["books"]
        assert file.left_out == ("_storage", "_components/other/books", "_components/other/_tables")


def test_what_is_left_out_is_shown_as_text(tmp_path: Path) -> None:
    """A name from a file gives the terminal no orders."""
    data = zipped(**{"books__documents": "{}", "_\x1b[31mred__documents": "{}", "__documents": "{}"})
    with opened(tmp_path, "out.zip", data, None) as file:
        assert file.left_out == (r"'_\x1b[31mred'", "/documents.jsonl")


def test_an_export_of_a_database_without_tables_is_one(tmp_path: Path) -> None:
    """It has nothing, and that can be imported."""
    with opened(tmp_path, "out.zip", zipped(_tables__documents=""), None) as file:
        assert file.tables == ()


def test_of_a_zip_one_table_can_be_taken(tmp_path: Path) -> None:
    """Or, where it has none of this name, none."""
    data = zipped(books__documents="{}", readers__documents="{}")
    with opened(tmp_path, "out.zip", data, "readers") as file:
        assert [table.name for table in file.tables] == ["readers"]
    with pytest.raises(ImportRefused, match="has no table 'others'"), opened(tmp_path, "out.zip", data, "others"):
        pass


def test_tables_without_numbers_are_taken(tmp_path: Path) -> None:
    """By somebody's own script, say."""
    with opened(tmp_path, "out.zip", zipped(books__documents="{}"), None) as file:
        assert [(table.name, table.number) for table in file.tables] == [("books", None)]


def test_a_snapshot_without_tables_is_one(tmp_path: Path) -> None:
    """With it, all can be emptied."""
    with opened(tmp_path, "out.zip", zipped(_tables__documents='{"name":"books","id":10001}'), None) as file:
        assert file.tables == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no zip", "out.zip cannot be read"),
        (b"", "out.zip cannot be read"),
        (zipped(other="1"), "out.zip is no export"),
        (zipped(_tables__documents="{}"), "_tables/documents.jsonl:1: needs a name and an id"),
        (zipped(_tables__documents='\n{"name":"a","id":"x"}'), "_tables/documents.jsonl:2: needs a name and an id"),
        (zipped(_tables__documents="7"), "_tables/documents.jsonl:1: needs a name and an id"),
        (zipped(_tables__documents='{"name":"a","id":1.5}'), "_tables/documents.jsonl:1: needs a name and an id"),
        (zipped(_tables__documents='{"name":"a","id":Infinity}'), "_tables/documents.jsonl:1: needs a name and an id"),
        (zipped(_tables__documents='{"name":["a"],"id":7}'), "_tables/documents.jsonl:1: needs a name and an id"),
        (zipped(**{"..__documents": "{}"}), "out.zip: '..' cannot be a table's name"),
        (zipped(**{"\x07__documents": "{}"}), r"out.zip: '.x07' cannot be a table's name"),
    ],
)
def test_a_zip_that_is_no_export_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    """With the reason."""
    with pytest.raises(ImportRefused, match=reason), opened(tmp_path, "out.zip", data, None):
        pass


@pytest.mark.parametrize("what", ["cut off", "a byte flipped"])
def test_a_damaged_zip_is_refused(tmp_path: Path, what: str) -> None:
    """When it is opened, or when its documents are read; never read in silence."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("books/documents.jsonl", "".join(json.dumps({"n": math.sin(n)}) + "\n" for n in range(5000)))
    data = bytearray(buffer.getvalue())
    if what == "cut off":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    with (
        pytest.raises(ImportRefused, match="cannot be read"),
        opened(tmp_path, "out.zip", bytes(data), None) as file,
    ):
        for _ in file.rows(file.tables[0]):
            pass


# JSON lines.


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    """Empty ones too; a byte order mark, white space and carriage returns are no part of them."""
    data = b'\xef\xbb\xbf{"n":1}\r\n\r\n  \n \t{"n":2} \n{"n":"\xe2\x80\xa8"}\n{"n":4}'
    assert rows(tmp_path, "a.jsonl", data) == [(1, {"n": 1}), (4, {"n": 2}), (5, {"n": "\u2028"}), (6, {"n": 4})]


def test_a_file_without_lines_has_no_documents(tmp_path: Path) -> None:
    """That is not wrong."""
    assert rows(tmp_path, "a.jsonl", b"") == rows(tmp_path, "a.jsonl", b"\n\n") == []


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    """With their line."""
    assert refused(tmp_path, "a.jsonl", b'{"n":1}\n{"n":"\xff"}\n').startswith("a.jsonl:2: this is not UTF-8")


def test_a_line_that_never_ends_is_refused(tmp_path: Path) -> None:
    """And not read to its end."""
    data = b'{"n":1}\n"' + b"x" * (IMPORT_LINE_BYTES_MAX + 10)
    assert refused(tmp_path, "a.jsonl", data) == f"a.jsonl:2: the line is longer than {IMPORT_LINE_BYTES_MAX} bytes"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It may have gone since it was named."""
    with (
        open_documents(tmp_path / "gone.jsonl", "jsonl", "books") as file,
        pytest.raises(ImportRefused, match=r"gone\.jsonl cannot be read: No such file"),
    ):
        list(file.rows(file.tables[0]))


# One array.

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
    max_leaves=10,
)


@given(
    st.lists(values, max_size=6), st.integers(1, 9), st.sampled_from([None, 0, 1, 4]), st.booleans(),
    st.sampled_from(["", "\n", " \r\n\t"]),
)  # fmt: skip
def test_an_array_is_read_wherever_the_window_ends(
    elements: list[Any], window: int, indent: int | None, escaped: bool, around: str
) -> None:
    """Each element, in order, on one line; the line it begins on is right."""
    text = around + json.dumps(elements, indent=indent, ensure_ascii=escaped) + around
    before, document_files.READ_CHARACTERS = document_files.READ_CHARACTERS, window
    try:
        file = io.BytesIO(text.encode())
        found = list(document_files._array(file, "a.json"))
    finally:
        document_files.READ_CHARACTERS = before
    assert all("\n" not in row.text for row in found)
    read = [json.loads(row.text) for row in found]
    assert len(read) == len(elements)
    assert all(map(same, read, elements)) or read == elements
    if indent is None:
        assert {row.line for row in found} <= {1 + around.count("\n")}
    else:
        lines = text.split("\n")
        for row in found:
            assert lines[row.line - 1].strip()[:1] == row.text[:1]


def test_elements_of_an_array_have_the_lines_they_begin_on(tmp_path: Path) -> None:
    """Also after elements of many lines."""
    data = b'\xef\xbb\xbf[\n  {"n": 1,\n   "m": [\n1]},\n\n  {"n": 2}, {"n": 3}\n]\n'
    assert [line for line, _ in rows(tmp_path, "a.json", data)] == [2, 6, 6]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a.json:1: the file is not a JSON array"),
        (b'{"n": 1}', "a.json:1: the file is not a JSON array"),
        (b"\n\n7", "a.json:3: the file is not a JSON array"),
        (b'[\n{"n": 1}\n{"n": 2}]', "a.json:3: expected `,` or `]` after an element"),
        (b'[{"n": 1},\n]', "a.json:2: this is not JSON"),
        (b'[{"n": 1},\n{"n": ]', "a.json:2: this is not JSON"),
        (b'[{"n": 1}', "a.json:1: expected `,` or `]` after an element"),
        (b'[{"n": 1},\n', "a.json:2: this is not JSON"),
        (b"[", "a.json:1: this is not JSON"),
        (b'[{"n": 1}]\n\n[', "a.json:3: something follows the array"),
        (b'[]\n{"n": 1}', "a.json:2: something follows the array"),
        (b'[\n{"n": "\xff"}]', "this is not UTF-8"),
        (b"[" * 100_000, "a.json:1: this is not JSON"),
    ],
    ids=range(13),
)
def test_what_is_no_array_is_refused_with_its_line(tmp_path: Path, data: bytes, reason: str) -> None:
    """And the reason."""
    assert reason in refused(tmp_path, "a.json", data)


def test_an_empty_array_has_no_documents(tmp_path: Path) -> None:
    """That is not wrong."""
    assert rows(tmp_path, "a.json", b" [ ] ") == []


# CSV.


def test_rows_of_a_csv_are_objects_with_text(tmp_path: Path) -> None:
    """Quotes, separators and newlines may be in cells; lines are the file's."""
    data = b'\xef\xbb\xbftitle,n\r\nA,1\r\n"B ""quoted"", and\nmore",\r\n\r\nC,3\r\n'
    assert rows(tmp_path, "a.csv", data) == [
        (2, {"title": "A", "n": "1"}),
        (3, {"title": 'B "quoted", and\nmore', "n": ""}),
        (6, {"title": "C", "n": "3"}),
    ]


def test_a_row_of_a_csv_is_one_line_of_json(tmp_path: Path) -> None:
    """Whatever is in its cells."""
    with opened(tmp_path, "a.csv", 'a,b\n"x\ny","\u2028"\n'.encode()) as file:
        (row,) = file.rows(file.tables[0])
    assert "\n" not in row.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a.csv:1: the first line names the fields"),
        (b"a,b,a\n", "a.csv:1: the fields' names must be there and be different"),
        (b"a,,b\n", "a.csv:1: the fields' names must be there and be different"),
        (b"a,b\n1,2\n1\n", "a.csv:3: 1 cells; the header has 2"),
        (b'a,b\n"1\n2",3\n1,2,3\n', "a.csv:4: 3 cells; the header has 2"),
        (b'a,b\n1,"2\n', "a.csv:2: "),
        (b'a,b\n1,"2"x\n', "a.csv:2: "),
        (b"a,b\n1,\xff\n", "this is not UTF-8"),
    ],
    ids=range(8),
)
def test_a_csv_that_is_wrong_is_refused_with_its_line(tmp_path: Path, data: bytes, reason: str) -> None:
    """And the reason."""
    assert refused(tmp_path, "a.csv", data).startswith(reason) or reason == "this is not UTF-8"


def test_a_header_alone_is_no_document(tmp_path: Path) -> None:
    """That is not wrong."""
    assert rows(tmp_path, "a.csv", b"a,b\n") == []


# Memory.


@pytest.mark.parametrize("name", ["zip", "jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: Format) -> None:
    """A row at a time is held, whatever the format."""
    line = json.dumps({"text": "x" * 20_000}).encode()
    count = 1_500
    path = tmp_path / f"a.{name}"
    if name == "zip":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("books/documents.jsonl", "w") as entry,
        ):
            for _ in range(count):
                entry.write(line + b"\n")
    else:
        ends = {"jsonl": (b"", b"\n", b""), "json": (b"[", b",\n", b"]"), "csv": (b"text\n", b"\n", b"")}
        first, between, last = ends[name]
        path.write_bytes(first + between.join([b"x" * 20_000 if name == "csv" else line] * count) + last)
    tracemalloc.start()
    try:
        with open_documents(path, name, "books") as documents:
            assert sum(1 for _ in documents.rows(documents.tables[0])) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count * 20_000 == 30_000_000
    assert peak < 3_000_000
