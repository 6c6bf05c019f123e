"""
Documents in files: an export's zip, JSON lines, one JSON array, CSV.

Read as they are needed, a line at a time: memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

from tinyvex.errors import ImportRefused
from tinyvex.functions.schema.document import is_identifier
from tinyvex.limits import IMPORT_LINE_BYTES_MAX

__all__ = ["FORMATS", "DocumentFile", "Format", "Row", "Table", "format_of", "open_documents"]

Format: TypeAlias = Literal["zip", "jsonl", "json", "csv"]
FORMATS = ("zip", "jsonl", "json", "csv")
SUFFIXES: dict[str, Format] = {
    ".zip": "zip", ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonlines": "jsonl", ".json": "json", ".csv": "csv",
}  # fmt: skip
READ_CHARACTERS = 1 << 16
EXPONENT_CHARACTERS = 3
"""What of `1e-5` makes it more than `1`."""
UNREADABLE = (
    OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error,
    NotImplementedError, RuntimeError,  # a method of compression that Python does not have; a password
)  # fmt: skip


class Row(NamedTuple):
    """A document as JSON on one line, and the line of the file it begins on, from 1."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """
    The documents of one table.

    Attributes:
        name: the table's.
        number: that the ids of its documents have; None where the file does not say.
        place: where they are, for messages.
        entry: in a zip.
    """

    name: str
    number: int | None
    place: str
    entry: str = ""


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """
    A file with documents.

    Attributes:
        tables: what is in it for us.
        left_out: what else is in it.
    """

    path: Path
    format: Format
    tables: tuple[Table, ...]
    left_out: tuple[str, ...]
    archive: zipfile.ZipFile | None

    def rows(self, table: Table) -> Iterator[Row]:
        """
        A table's documents, in the file's order.

        Raises:
            ImportRefused: the file cannot be read, with the line where that is so.
        """
        with _complaints(table.place), self._open(table) as file:
            if self.format == "json":
                yield from _array(file, table.place)
            elif self.format == "csv":
                yield from _csv(file, table.place)
            else:
                yield from _lines(file, table.place)

    def _open(self, table: Table) -> IO[bytes]:
        return self.path.open("rb") if self.archive is None else self.archive.open(table.entry)


def format_of(path: Path) -> Format | None:
    """The format that a file's name tells; None where it tells none."""
    return SUFFIXES.get(path.suffix.lower())


@contextmanager
def open_documents(path: Path, file_format: Format, table: str | None) -> Iterator[DocumentFile]:
    """
    Open a file.

    Args:
        path: the file.
        file_format: what it is.
        table: whose documents they are; of a zip, the only table to take, None for all.

    Raises:
        ImportRefused: it cannot be read, or is not what it should be.
    """
    if file_format != "zip":
        assert table is not None
        yield DocumentFile(path, file_format, (Table(table, None, path.name),), (), None)
        return
    with ExitStack() as stack:
        with _complaints(path.name):
            archive = stack.enter_context(zipfile.ZipFile(path))
        tables, left_out = _tables(archive, path.name, table)
        yield DocumentFile(path, file_format, tables, left_out, archive)


def _tables(archive: zipfile.ZipFile, name: str, only: str | None) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The tables that a zip has, and its folders that are none of ours."""
    has_numbers = "_tables/documents.jsonl" in archive.namelist()
    numbers = _numbers(archive, name) if has_numbers else {}
    tables: list[Table] = []
    left_out: list[str] = []
    for entry in archive.namelist():
        folder, _, file = entry.rpartition("/")
        if file != "documents.jsonl" or folder == "_tables":
            continue
        if folder.startswith("_") or "/" in folder or not folder:
            left_out.append((folder or entry) if entry.isprintable() else ascii(folder or entry))
        elif only is None or folder == only:
            if not is_identifier(folder):
                raise ImportRefused(f"{name}: {folder!r} cannot be a table's name", table=folder)
            tables.append(Table(folder, numbers.get(folder), f"{name}/{entry}", entry))
    if only is not None and not tables:
        raise ImportRefused(f"{name} has no table {only!r}", table=only)
    if not tables and not has_numbers:
        raise ImportRefused(f"{name} is no export: it has no _tables/documents.jsonl and no TABLE/documents.jsonl")
    return tuple(tables), tuple(left_out)


def _numbers(archive: zipfile.ZipFile, name: str) -> dict[str, int]:
    place = f"{name}/_tables/documents.jsonl"
    numbers = {}
    with _complaints(place), archive.open("_tables/documents.jsonl") as file:
        for line, text in _lines(file, place):
            try:
                entry = json.loads(text)
                table, number = entry["name"], entry["id"]
            except (ValueError, KeyError, TypeError):
                table = number = None
            if not isinstance(table, str) or not isinstance(number, int | float) or number != number // 1:
                raise ImportRefused(f"{place}:{line}: needs a name and an id, which is a whole number")
            numbers[table] = int(number)
    return numbers


@contextmanager
def _complaints(place: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        reason = getattr(error, "strerror", None) or error
        raise ImportRefused(f"{place} cannot be read: {reason}") from error


def _lines(file: IO[bytes], place: str) -> Iterator[Row]:
    number = 0
    while data := file.readline(IMPORT_LINE_BYTES_MAX + 1):
        number += 1
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        if len(data) > IMPORT_LINE_BYTES_MAX:
            raise ImportRefused(f"{place}:{number}: the line is longer than {IMPORT_LINE_BYTES_MAX} bytes")
        try:
            text = data.decode().strip()
        except UnicodeDecodeError as error:
            raise ImportRefused(f"{place}:{number}: this is not UTF-8: {error.reason}") from error
        if text:
            yield Row(number, text)


def _array(file: IO[bytes], place: str) -> Iterator[Row]:
    """The elements of one JSON array, found one after another in a window that moves along the text."""
    with io.TextIOWrapper(file, "utf-8-sig") as text:
        yield from _elements(_Window(text, place))


def _elements(window: _Window) -> Iterator[Row]:
    if window.next() != "[":
        raise window.fault("the file is not a JSON array")
    window.skip()
    mark = window.next()
    while mark != "]":
        yield window.element()
        mark = window.next()
        if mark == ",":
            window.skip()
        elif mark != "]":
            raise window.fault("expected `,` or `]` after an element")
    window.skip()
    if window.next():
        raise window.fault("something follows the array")


class _Window:
    """The part of a text that is being looked at."""

    def __init__(self, file: io.TextIOWrapper, place: str) -> None:
        self._file = file
        self._place = place
        self._text = ""
        self._at = 0
        self._line = 1
        self._decode = json.JSONDecoder().raw_decode

    def next(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if not character.isspace():
                    return character
                self._line += character == "\n"
                self._at += 1
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go past a character."""
        self._at += 1

    def element(self) -> Row:
        """The JSON value that begins here, on one line."""
        self.next()
        while True:
            try:
                _, end = self._decode(self._text, self._at)
            except (ValueError, RecursionError):
                # It is cut off by the end of the window, or wrong: more text tells.
                if len(self._text) - self._at > IMPORT_LINE_BYTES_MAX or not self._more():
                    raise self.fault("this is not JSON, or longer than a document can be") from None
                continue
            length = end - self._at  # because more text lets go of what was before it
            if len(self._text) - end < EXPONENT_CHARACTERS and self._more():
                continue  # a number may go on
            text = self._text[self._at : self._at + length]
            row = Row(self._line, text.replace("\n", " "))
            self._line += text.count("\n")
            self._at += length
            return row

    def fault(self, problem: str) -> ImportRefused:
        """What is wrong, with the line."""
        return ImportRefused(f"{self._place}:{self._line}: {problem}")

    def _more(self) -> bool:
        try:
            text = self._file.read(max(READ_CHARACTERS, len(self._text) - self._at))
        except UnicodeDecodeError as error:
            raise self.fault(f"this is not UTF-8: {error.reason}") from error
        self._text = self._text[self._at :] + text
        self._at = 0
        return bool(text)


def _csv(file: IO[bytes], place: str) -> Iterator[Row]:
    """Rows under a header, as objects with text; a row with fewer or more cells than the header is a mistake."""
    csv.field_size_limit(IMPORT_LINE_BYTES_MAX)
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            yield from _cells(reader, place)
        except csv.Error as error:
            raise ImportRefused(f"{place}:{reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ImportRefused(f"{place}:{reader.line_num + 1}: this is not UTF-8: {error.reason}") from error


def _cells(reader: Any, place: str) -> Iterator[Row]:
    header = next(reader, None)
    if header is None:
        raise ImportRefused(f"{place}:1: the first line names the fields")
    if len(set(header)) < len(header) or not all(header):
        raise ImportRefused(f"{place}:1: the fields' names must be there and be different")
    before = reader.line_num
    for cells in reader:
        line, before = before + 1, reader.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            raise ImportRefused(f"{place}:{line}: {len(cells)} cells; the header has {len(header)}")
        yield Row(line, json.dumps(dict(zip(header, cells, strict=True)), ensure_ascii=False))
