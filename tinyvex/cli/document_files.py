"""
Read documents from files: an export's zip, JSON lines, one JSON array, or CSV.

Every format is streamed one row at a time, so memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct, structs

from tinyvex.cli.json_array import read_array
from tinyvex.errors import ImportRefused, InvalidId
from tinyvex.functions.schema.document import is_identifier
from tinyvex.limits import IMPORT_LINE_BYTES_MAX, IMPORT_ZIP_DIRECTORY_BYTES_MAX
from tinyvex.values.ids import parse_id

__all__ = [
    "FILE_FORMATS", "DocumentFile", "FileFormat", "SourceRow", "SourceTable", "TableSurvey", "format_of", "open_documents",
    "survey",
]  # fmt: skip

FileFormat: TypeAlias = Literal["zip", "jsonl", "json", "csv"]
FILE_FORMATS = ("zip", "jsonl", "json", "csv")
SUFFIXES: dict[str, FileFormat] = {
    ".zip": "zip", ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonlines": "jsonl", ".json": "json", ".csv": "csv",
}  # fmt: skip
UNREADABLE = (
    OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
    NotImplementedError, RuntimeError,  # zipfile: an unsupported compression method; an encrypted entry
)  # fmt: skip
_ZIP_DIRECTORY_BYTES = 5
"""The position of the size in the record that `zipfile` reads from the end of a zip."""
NOT_UTF8 = "the file is not valid UTF-8; convert it to UTF-8"


class SourceRow(NamedTuple):
    """A document as one line of JSON, and the line of the file on which it begins, from 1."""

    line: int
    text: str


class SourceTable(Struct, frozen=True):
    """
    The documents that a file has for one table.

    Attributes:
        name: the table.
        number: the table number in the documents' ids; None if it is unknown.
        path: the file, or the file and its zip entry, for messages.
        entry: the zip entry; empty in other formats.
    """

    name: str
    number: int | None
    path: str
    entry: str = ""


class DocumentFile(Struct, frozen=True):
    """
    An open file of documents.

    Attributes:
        name: its name in messages.
        tables: the tables to import.
        skipped: the other folders of a zip.
    """

    name: str
    file: IO[bytes]
    format: FileFormat
    tables: tuple[SourceTable, ...]
    skipped: tuple[str, ...]
    archive: zipfile.ZipFile | None

    def rows(self, table: SourceTable) -> Iterator[SourceRow]:
        """
        Yield a table's documents in the file's order, from the first one at each call. One reading at a time is possible.

        Raises:
            ImportRefused: the file cannot be read; the message has the line.
        """
        with _refusing_unreadable(table.path), self._open(table) as file:
            if self.format == "json":
                yield from map(SourceRow._make, read_array(file, table.path))
            elif self.format == "csv":
                yield from _csv_rows(file, table.path)
            else:
                yield from _lines(file, table.path)

    def _open(self, table: SourceTable) -> IO[bytes]:
        if self.archive is not None:
            return _open_entry(self.archive, table.entry, table.path)
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        return open(self.file.fileno(), "rb", closefd=False)  # not `file`, whose buffer may be ahead


def _open_entry(archive: zipfile.ZipFile, entry: str, path: str) -> IO[bytes]:
    """Open an entry that `zipfile` can decompress in small steps: of other methods it returns gigabytes for a kilobyte."""
    if archive.getinfo(entry).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ImportRefused(f"`{path}` is not compressed with deflate; pack the zip again, with its default method")
    return archive.open(entry)


class TableSurvey(NamedTuple):
    """The number of rows that a file has for a table; `table` has the number in their ids if that is known."""

    table: SourceTable
    rows: int


def survey(table: SourceTable, rows: Iterator[SourceRow]) -> TableSurvey:
    """
    Count a table's rows. Unless the file contains the table's number, it is that in the first id.

    Raises:
        ImportRefused: the file cannot be read.
    """
    count, number = 0, table.number
    for row in rows:
        count += 1
        if number is None and '"_id"' in row.text:
            number = _number_in_id(row.text)
    return TableSurvey(structs.replace(table, number=number), count)


def _number_in_id(text: str) -> int | None:
    """Return the table number in a document's id; None if it has none, which is reported when the document is read."""
    try:
        return parse_id(json.loads(text)["_id"]).table
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, InvalidId):
        return None


def format_of(path: Path) -> FileFormat | None:
    """Return the format of a file by its suffix; None for an unknown suffix."""
    return SUFFIXES.get(path.suffix.lower())


@contextmanager
def open_documents(file: IO[bytes], name: str, file_format: FileFormat, table: str | None) -> Iterator[DocumentFile]:
    """
    Find the tables of an open file of documents.

    Args:
        file: the file, which must be seekable; the caller closes it.
        name: its name in messages.
        file_format: its format.
        table: the documents' table; for a zip the only table to import, or None for all.

    Raises:
        ImportRefused: the file cannot be read or does not have this format.
    """
    if file_format != "zip":
        assert table is not None
        yield DocumentFile(name, file, file_format, (SourceTable(table, None, name),), (), None)
        return
    with ExitStack() as stack:
        with _refusing_unreadable(name):
            _refuse_long_directory(file, name)
            archive = stack.enter_context(zipfile.ZipFile(file))
        tables, skipped = _zip_tables(archive, name, table)
        yield DocumentFile(name, file, file_format, tables, skipped, archive)


def _refuse_long_directory(file: IO[bytes], name: str) -> None:
    """Refuse a zip with too many entries before `zipfile` creates an object for each."""
    # `ZipFile` takes the size from here as well. Its own list of entries comes too late.
    end_record = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # noqa: SLF001
    if end_record is not None and end_record[_ZIP_DIRECTORY_BYTES] > IMPORT_ZIP_DIRECTORY_BYTES_MAX:
        raise ImportRefused(
            f"`{name}` has too many entries: their list is longer than {IMPORT_ZIP_DIRECTORY_BYTES_MAX:,} bytes"
        )


def _zip_tables(
    archive: zipfile.ZipFile, name: str, only: str | None
) -> tuple[tuple[SourceTable, ...], tuple[str, ...]]:
    """Return the tables of a zip, and the folders that are not tables."""
    has_numbers = "_tables/documents.jsonl" in archive.namelist()
    numbers = _table_numbers(archive, name) if has_numbers else {}
    tables: list[SourceTable] = []
    skipped: list[str] = []
    for entry in archive.namelist():
        folder, _, file = entry.rpartition("/")
        if file != "documents.jsonl" or folder == "_tables":
            continue
        if folder.startswith("_") or "/" in folder or not folder:
            skipped.append((folder or entry) if entry.isprintable() else ascii(folder or entry))
        elif only is None or folder == only:
            if not is_identifier(folder):
                shown = folder if folder.isprintable() else ascii(folder)[1:-1]
                raise ImportRefused(f"`{name}`: the folder `{shown}` is not a valid table name", table=folder)
            tables.append(SourceTable(folder, numbers.get(folder), f"{name}/{entry}", entry))
    if only is not None and not tables:
        raise ImportRefused(f"`{name}` does not contain the table `{only}`", table=only)
    if not tables and not has_numbers:
        raise ImportRefused(
            f"`{name}` is not an export: it contains neither `_tables/documents.jsonl` nor `TABLE/documents.jsonl`"
        )
    return tuple(tables), tuple(skipped)


def _table_numbers(archive: zipfile.ZipFile, name: str) -> dict[str, int]:
    path = f"{name}/_tables/documents.jsonl"
    numbers = {}
    with _refusing_unreadable(path), _open_entry(archive, "_tables/documents.jsonl", path) as file:
        for line, text in _lines(file, path):
            try:
                fields = json.loads(text)
                table, number = fields["name"], fields["id"]
            except (ValueError, KeyError, TypeError):
                table = number = None
            if not isinstance(table, str) or not isinstance(number, int | float) or number != number // 1:
                raise ImportRefused(f"{path}:{line}: expected an object with a string `name` and a whole number `id`")
            numbers[table] = int(number)
    return numbers


@contextmanager
def _refusing_unreadable(path: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise ImportRefused(f"`{path}` cannot be read: {reason}") from error


def _lines(file: IO[bytes], path: str) -> Iterator[SourceRow]:
    line = 0
    while data := file.readline(IMPORT_LINE_BYTES_MAX + 1):
        line += 1
        if line == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        if len(data) > IMPORT_LINE_BYTES_MAX:
            raise ImportRefused(f"{path}:{line}: the line is longer than {IMPORT_LINE_BYTES_MAX:,} bytes")
        try:
            text = data.decode().strip()
        except UnicodeDecodeError as error:
            raise ImportRefused(f"{path}:{line}: {NOT_UTF8}") from error
        if text:
            yield SourceRow(line, text)


def _csv_rows(file: IO[bytes], path: str) -> Iterator[SourceRow]:
    """Yield the rows below the header as objects of strings; every row must have as many cells as the header."""
    csv.field_size_limit(IMPORT_LINE_BYTES_MAX)
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            yield from _csv_objects(reader, path)
        except csv.Error as error:
            raise ImportRefused(f"{path}:{reader.line_num}: invalid CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise ImportRefused(f"{path}:{reader.line_num + 1}: {NOT_UTF8}") from error


def _csv_objects(reader: Any, path: str) -> Iterator[SourceRow]:
    header = next(reader, None)
    if header is None:
        raise ImportRefused(f"{path}:1: the file is empty; its first line must name the fields")
    if len(set(header)) < len(header) or not all(header):
        raise ImportRefused(f"{path}:1: the header has an empty or duplicate field name")
    last_line = reader.line_num
    for cells in reader:
        line, last_line = last_line + 1, reader.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            raise ImportRefused(f"{path}:{line}: the row has {len(cells)} cells, the header has {len(header)}")
        yield SourceRow(line, json.dumps(dict(zip(header, cells, strict=True)), ensure_ascii=False))
