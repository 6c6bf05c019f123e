"""Reading documents from files: their lines in each format, the reasons for refusal, bounded memory."""

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

from tinyvex.cli.document_files import DocumentFile, FileFormat, format_of, open_documents
from tinyvex.errors import ImportRefused
from tinyvex.limits import IMPORT_LINE_BYTES_MAX


@contextmanager
def opened(folder: Path, name: str, data: bytes, table: str | None = "books") -> Iterator[DocumentFile]:
    """Open a file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    file_format = format_of(path)
    assert file_format is not None
    with path.open("rb") as source, open_documents(source, name, file_format, table) as file:
        yield file


def rows(folder: Path, name: str, data: bytes) -> list[tuple[int, Any]]:
    """Return the lines and documents of a file with one table."""
    with opened(folder, name, data) as file:
        (table,) = file.tables
        return [(row.line, json.loads(row.text)) for row in file.rows(table)]


def refused(folder: Path, name: str, data: bytes) -> str:
    """Return the reason for which its documents are refused."""
    with pytest.raises(ImportRefused) as caught:
        rows(folder, name, data)
    return caught.value.message


def zipped(**entries: str) -> bytes:
    """Return a zip; `__` in a name stands for `/`."""
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
def test_the_suffix_names_the_format(name: str, expected: FileFormat | None) -> None:
    """Suffixes are case-insensitive; an unknown suffix names no format."""
    assert format_of(Path(name)) == expected


# A zip.


def test_a_zip_has_tables_with_their_numbers(tmp_path: Path) -> None:
    """Each table has its path for messages, and its number from `_tables`."""
    data = zipped(
        _tables__documents='{"name":"books","id":10001}\n{"name":"readers","id":10007}\n',
        books__documents='{"n":1}\n\n{"n":2}\n',
        readers__documents="",
        README="hello",
    )
    with opened(tmp_path, "out.zip", data, None) as file:
        assert [(table.name, table.number, table.path) for table in file.tables] == [
            ("books", 10_001, "out.zip/books/documents.jsonl"),
            ("readers", 10_007, "out.zip/readers/documents.jsonl"),
        ]
        assert [[row.line for row in file.rows(table)] for table in file.tables] == [[1, 3], []]
        assert file.skipped == ()


def test_other_folders_are_skipped(tmp_path: Path) -> None:
    """Files, system tables and tables of other components are listed as skipped."""
    data = zipped(
        books__documents="{}",
        _storage__documents='{"_id":"x"}',
        _components__other__books__documents="{}",
        _components__other___tables__documents="{}",
        books__generated_schema='"uniform"',
    )
    with opened(tmp_path, "out.zip", data, None) as file:
        assert [table.name for table in file.tables] == ["books"]
        assert file.skipped == ("_storage", "_components/other/books", "_components/other/_tables")


def test_skipped_names_are_escaped(tmp_path: Path) -> None:
    """A name from a file cannot control the terminal."""
    data = zipped(**{"books__documents": "{}", "_\x1b[31mred__documents": "{}", "__documents": "{}"})
    with opened(tmp_path, "out.zip", data, None) as file:
        assert file.skipped == (r"'_\x1b[31mred'", "/documents.jsonl")


def test_an_export_may_have_no_tables(tmp_path: Path) -> None:
    """An export of an empty database can be imported."""
    with opened(tmp_path, "out.zip", zipped(_tables__documents=""), None) as file:
        assert file.tables == ()


def test_one_table_of_a_zip_can_be_selected(tmp_path: Path) -> None:
    """A table that the zip does not contain is refused."""
    data = zipped(books__documents="{}", readers__documents="{}")
    with opened(tmp_path, "out.zip", data, "readers") as file:
        assert [table.name for table in file.tables] == ["readers"]
    with (
        pytest.raises(ImportRefused, match="does not contain the table `others`"),
        opened(tmp_path, "out.zip", data, "others"),
    ):
        pass


def test_tables_may_lack_numbers(tmp_path: Path) -> None:
    """A zip written by another program need not have `_tables`."""
    with opened(tmp_path, "out.zip", zipped(books__documents="{}"), None) as file:
        assert [(table.name, table.number) for table in file.tables] == [("books", None)]


def test_a_snapshot_may_have_no_documents(tmp_path: Path) -> None:
    """Its import empties all tables."""
    with opened(tmp_path, "out.zip", zipped(_tables__documents='{"name":"books","id":10001}'), None) as file:
        assert file.tables == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no zip", "out.zip` cannot be read"),
        (b"", "out.zip` cannot be read"),
        (zipped(other="1"), "out.zip` is not an export"),
        (zipped(_tables__documents="{}"), "_tables/documents.jsonl:1: expected an object with a string `name`"),
        (
            zipped(_tables__documents='\n{"name":"a","id":"x"}'),
            "_tables/documents.jsonl:2: expected an object with a string `name`",
        ),
        (zipped(_tables__documents="7"), "_tables/documents.jsonl:1: expected an object with a string `name`"),
        (
            zipped(_tables__documents='{"name":"a","id":1.5}'),
            "_tables/documents.jsonl:1: expected an object with a string `name`",
        ),
        (
            zipped(_tables__documents='{"name":"a","id":Infinity}'),
            "_tables/documents.jsonl:1: expected an object with a string `name`",
        ),
        (
            zipped(_tables__documents='{"name":["a"],"id":7}'),
            "_tables/documents.jsonl:1: expected an object with a string `name`",
        ),
        (zipped(**{"..__documents": "{}"}), "the folder `..` is not a valid table name"),
        (zipped(**{"\x07__documents": "{}"}), r"the folder `.x07` is not a valid table name"),
    ],
)
def test_a_zip_that_is_not_an_export_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    """The message has the path and the reason."""
    with pytest.raises(ImportRefused, match=reason), opened(tmp_path, "out.zip", data, None):
        pass


@pytest.mark.parametrize("what", ["cut off", "a byte flipped"])
def test_a_damaged_zip_is_refused(tmp_path: Path, what: str) -> None:
    """Damage is reported when the zip is opened or its documents are read."""
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
    """Empty lines count; a byte order mark, white space and carriage returns are removed."""
    data = b'\xef\xbb\xbf{"n":1}\r\n\r\n  \n \t{"n":2} \n{"n":"\xe2\x80\xa8"}\n{"n":4}'
    assert rows(tmp_path, "a.jsonl", data) == [(1, {"n": 1}), (4, {"n": 2}), (5, {"n": "\u2028"}), (6, {"n": 4})]


def test_a_file_without_lines_has_no_documents(tmp_path: Path) -> None:
    """An empty file is valid."""
    assert rows(tmp_path, "a.jsonl", b"") == rows(tmp_path, "a.jsonl", b"\n\n") == []


def test_invalid_utf8_is_refused(tmp_path: Path) -> None:
    """The message has the line."""
    assert refused(tmp_path, "a.jsonl", b'{"n":1}\n{"n":"\xff"}\n').startswith("a.jsonl:2: the file is not valid UTF-8")


def test_a_line_that_never_ends_is_refused(tmp_path: Path) -> None:
    """Only the allowed number of bytes is read."""
    data = b'{"n":1}\n"' + b"x" * (IMPORT_LINE_BYTES_MAX + 10)
    assert refused(tmp_path, "a.jsonl", data) == f"a.jsonl:2: the line is longer than {IMPORT_LINE_BYTES_MAX:,} bytes"


def test_every_reading_begins_at_the_beginning(tmp_path: Path) -> None:
    """An import counts the documents of the open file, then reads them again; a reading may have ended early."""
    with opened(tmp_path, "a.jsonl", b'{"n":1}\n{"n":2}\n') as file:
        table = file.tables[0]
        assert next(file.rows(table)).line == 1
        assert [[row.line for row in file.rows(table)] for _ in range(2)] == [[1, 2], [1, 2]]


# CSV.


def test_rows_of_a_csv_are_objects_with_text(tmp_path: Path) -> None:
    """Cells may contain quotes, separators and newlines; line numbers are those of the file."""
    data = b'\xef\xbb\xbftitle,n\r\nA,1\r\n"B ""quoted"", and\nmore",\r\n\r\nC,3\r\n'
    assert rows(tmp_path, "a.csv", data) == [
        (2, {"title": "A", "n": "1"}),
        (3, {"title": 'B "quoted", and\nmore', "n": ""}),
        (6, {"title": "C", "n": "3"}),
    ]


def test_a_row_of_a_csv_is_one_line_of_json(tmp_path: Path) -> None:
    """Newlines in cells are escaped."""
    with opened(tmp_path, "a.csv", 'a,b\n"x\ny","\u2028"\n'.encode()) as file:
        (row,) = file.rows(file.tables[0])
    assert "\n" not in row.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a.csv:1: the file is empty"),
        (b"a,b,a\n", "a.csv:1: the header has an empty or duplicate field name"),
        (b"a,,b\n", "a.csv:1: the header has an empty or duplicate field name"),
        (b"a,b\n1,2\n1\n", "a.csv:3: the row has 1 cells, the header has 2"),
        (b'a,b\n"1\n2",3\n1,2,3\n', "a.csv:4: the row has 3 cells, the header has 2"),
        (b'a,b\n1,"2\n', "a.csv:2: invalid CSV"),
        (b'a,b\n1,"2"x\n', "a.csv:2: invalid CSV"),
        (b"a,b\n1,\xff\n", "UTF-8"),
    ],
    ids=range(8),
)
def test_an_invalid_csv_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    """The message has the line and the reason."""
    assert refused(tmp_path, "a.csv", data).startswith(reason) or reason == "UTF-8"


def test_a_header_alone_has_no_documents(tmp_path: Path) -> None:
    """A file without rows is valid."""
    assert rows(tmp_path, "a.csv", b"a,b\n") == []


# Memory.


@pytest.mark.parametrize("name", ["zip", "jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: FileFormat) -> None:
    """Every format is streamed row by row."""
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
        with path.open("rb") as source, open_documents(source, path.name, name, "books") as documents:
            assert sum(1 for _ in documents.rows(documents.tables[0])) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count * 20_000 == 30_000_000
    assert peak < 3_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_a_zip_that_expands_in_one_step_is_refused(tmp_path: Path, method: int) -> None:
    """Python returns gigabytes at once for a kilobyte that is compressed with these methods."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("books/documents.jsonl", "\n" * (64 << 20))
    tracemalloc.start()
    with opened(tmp_path, "a.zip", buffer.getvalue(), None) as file, pytest.raises(ImportRefused, match="deflate"):
        list(file.rows(file.tables[0]))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_zip_of_very_many_entries_is_refused(tmp_path: Path) -> None:
    """Python would create an object for each before the first could be counted."""
    count = 30_000
    entry = b"PK\x01\x02" + bytes(24) + b"\x01\x00" + bytes(16) + b"x"
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + (count * len(entry)).to_bytes(4, "little") + bytes(6)
    tracemalloc.start()
    assert "too many entries" in refused(tmp_path, "a.zip", entry * count + end)
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()
