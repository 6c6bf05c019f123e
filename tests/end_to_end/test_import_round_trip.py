"""Documents of every type of value leave as an export and come back the same, from each format that `import` reads."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tinyvex.cli.main import run
from tinyvex.storage.maintenance.check import check_folder

APP = """
import enum
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec
import tinyvex as tv


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, frozen=True):
    size: tv.Int64
    ratio: float = 0.5


@tv.table("all", indexes={"by_large": ["large"], "by_inner": ["inner.size"]})
class All(tv.Document):
    text: str
    number: int
    large: tv.Int64
    ratio: float
    truth: bool
    data: bytes
    words: list[str]
    larges: list[tv.Int64]
    by_name: dict[str, tv.Int64]
    inner: Inner
    at: datetime
    day: date
    clock: time
    wait: timedelta
    key: uuid.UUID
    price: Decimal
    colour: Colour
    kind: Literal["a", "b"]
    anything: Any
    other: tv.Id["All"] | None = None
    maybe: tv.Int64 | None = None


loose = tv.table("loose")


@tv.mutation
def fill(ctx: tv.MutationCtx) -> None:
    first = None
    for number, (large, ratio, text) in enumerate([
        (2**63 - 1, float("inf"), "plain"), (-(2**63), float("nan"), ""), (2**53, -0.0, "a,b\\n\\"c\\" \U0001f600"),
        (2**53 + 1, 1e300, "007"), (0, 0.1, "null"), (5, 3.0, "9007199254740993"),
    ]):
        large = tv.Int64(large)
        first = ctx.db.insert(All(
            text=text, number=number - 3, large=large, ratio=ratio, truth=number % 2 == 0, data=bytes([number, 255]),
            words=[text, "x"], larges=[large, tv.Int64(1)], by_name={"a": large}, inner=Inner(large),
            at=datetime.fromisoformat("2026-05-01T12:00:00.000001+02:00"), day=date(2026, 5, 1), clock=time(12, 0, 1),
            wait=timedelta(seconds=90), key=uuid.UUID(int=number), price=Decimal("1.10"), colour=Colour.BLUE, kind="b",
            anything={"n": [large, text, None, 1.5, b"x"]}, other=first, maybe=None if number % 2 else large,
        ))
    ctx.db.insert("loose", {"n": 1, "text": "x", "large": tv.Int64(2**60), "deep": {"list": [None, b"y", float("inf")]}})


@tv.query
def larges(ctx: tv.QueryCtx) -> list[tv.Int64]:
    return [row.large for row in ctx.db.query(All).with_index("by_large")]
"""
TABLE = "all"


class Folder:
    """A data folder, and the commands on it."""

    def __init__(self, folder: Path, app: Path) -> None:
        self.options = ["--data", str(folder), "--app", str(app)]
        self.folder = folder

    def documents(self, file: Path) -> dict[str, list[str]]:
        """Export to a file; return the lines of each table."""
        assert run(["export", "--path", str(file), "--data", str(self.folder)]) == 0
        with zipfile.ZipFile(file) as archive:
            return {
                name.partition("/")[0]: archive.read(name).decode().splitlines()
                for name in archive.namelist()
                if name.endswith("/documents.jsonl") and name[0] != "_"
            }


class Source(NamedTuple):
    """An app, an export of its documents, and the lines of one table."""

    app: Path
    file: Path
    lines: list[str]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    app = tmp_path / "app.py"
    app.write_text(APP, "utf-8")
    folder = Folder(tmp_path / "source", app)
    assert run(["run", "app:fill", *folder.options]) == 0
    return Source(app, tmp_path / "source.zip", folder.documents(tmp_path / "source.zip")[TABLE])


def imported(tmp_path: Path, app: Path, file: Path, *options: str) -> list[str]:
    """Import a file into an empty database; return the lines of an export of the table."""
    target = Folder(tmp_path / "target", app)
    assert run(["import", str(file), *options, *target.options]) == 0
    lines = target.documents(tmp_path / "target.zip")[TABLE]
    assert run(["run", "app:larges", *target.options]) == 0  # through an index
    assert check_folder(target.folder) == []
    return lines


def in_format(suffix: str, rows: list[dict[str, Any]]) -> str:
    """Return documents as a file of a format."""
    if suffix == "json":
        return json.dumps(rows)
    if suffix == "jsonl":
        return "\n".join(map(json.dumps, rows))
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([cell(value) for value in row.values()])
    return file.getvalue()


def cell(value: Any) -> str:
    """Return a CSV cell: text as it is, None as an empty cell, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def digits(value: Any) -> Any:
    """Return JSON with the digits of each 64-bit integer in the place of its wrapper."""
    if isinstance(value, dict) and "$integer" in value:
        return int.from_bytes(base64.b64decode(value["$integer"]), "little", signed=True)
    if isinstance(value, dict):
        return {name: digits(child) for name, child in value.items()}
    return [digits(child) for child in value] if isinstance(value, list) else value


def test_a_zip(tmp_path: Path, source: Source) -> None:
    """Byte for byte."""
    assert imported(tmp_path, source.app, source.file) == source.lines


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("with_digits", [False, True], ids=["wrapped", "digits"])
def test_other_formats(tmp_path: Path, source: Source, suffix: str, with_digits: bool) -> None:
    """
    The same, with ids and creation times, although the table is new in that database.

    Digits of an `Int64` may be beyond the range of plain numbers. In CSV, a field that accepts any value receives text.
    """
    rows = [json.loads(line) for line in source.lines]
    if suffix == "csv":
        rows = [{**row, "anything": "text"} for row in rows]
    expected = rows
    if with_digits:
        rows = [{name: value if name == "anything" else digits(value) for name, value in row.items()} for row in rows]
    file = tmp_path / f"all.{suffix}"
    file.write_text(in_format(suffix, rows), "utf-8")
    lines = imported(tmp_path, source.app, file, "--table", TABLE)
    assert [json.loads(line) for line in lines] == expected
