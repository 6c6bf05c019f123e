"""An export imports unchanged: every value, id, time and order; and a Convex snapshot imports as it is."""

from __future__ import annotations

import asyncio
import json
import math
import random
import struct
import tempfile
import zipfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.storage import bound_runtime, declare, insert, scan, unit
from tests.support.values import values
from tinyvex.cli.main import run
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.engine.store import Store
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.storage.maintenance.check import check_folder
from tinyvex.storage.maintenance.export import export
from tinyvex.values.codec import encode
from tinyvex.values.ids import DocumentId, parse_id
from tinyvex.values.types import INT64_MAX, INT64_MIN, Int64

TABLES = {"first": {"by_value": ("value",), "by_deep": ("value.x", "other")}, "second": {"by_value": ("value",)}}
SOURCE = "import tinyvex as tv\n" + "".join(
    f"{name} = tv.table({name!r}, indexes={ {index: list(fields) for index, fields in indexes.items()}!r})\n"
    for name, indexes in TABLES.items()
)

documents = st.fixed_dictionaries({}, optional={"value": values, "other": values})
EVERYTHING: list[Any] = [
    None, True, False, 0, -0.0, 1.5, 1e308, 5e-324, 2**53 - 1, -(2**53) + 1, 1.0, math.inf, -math.inf, math.nan, Int64(0),
    Int64(INT64_MAX), Int64(INT64_MIN), "", "a\u2028b\u2029c\u0085", "\x00\x01\x7f", "💡é\ud7ff\ue000", "line\nline\r\n",
    b"", bytes(range(256)), [], {}, [[[]], {"x": [None, Int64(1)]}], {"": 1, "_a": 2, "ü": {"x": b"\0"}}, {"x": 1},
]  # fmt: skip


def entries(file: Path) -> dict[str, bytes]:
    """Return everything in an export except its timestamp."""
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "README.md"}


def everything(snapshot: Snapshot) -> dict[tuple[str, str, bool], list[bytes]]:
    """Read every table through every index, in both directions."""
    return {
        (name, index, reverse): [encode(row) for row in scan(snapshot, index, table=name, reverse=reverse)]
        for name in snapshot.catalog.names()
        for index in snapshot.catalog.table(name).indexes
        for reverse in (False, True)
    }


def made(folder: Path, contents: Mapping[str, Sequence[Any]]) -> Any:
    """Create a database with these documents, some changed and some deleted; return its contents."""

    async def make() -> Any:
        store = Store.open(folder, bound_runtime(), durability="normal")
        try:
            await declare(store, TABLES)
            for table, rows in contents.items():
                await store.write(unit(lambda t, table=table, rows=rows: [insert(row, table)(t) for row in rows]))

            def change(transaction: Transaction) -> None:
                table = transaction.catalog.table("second")
                rows = transaction.scan(table, table.index("by_creation_time"), b"", b"\xff")
                for index, row in enumerate(list(rows)):
                    if index % 3 == 1:
                        transaction.put(table, row.internal, None)
                    elif index % 3 == 2:
                        transaction.put(table, row.internal, {"value": index})

            await store.write(unit(change))
            return await store.read(everything)
        finally:
            await store.close()

    return asyncio.run(make())


def found(folder: Path) -> Any:
    """Return the contents of a database."""

    async def look() -> Any:
        store = Store.open(folder, bound_runtime(), read_only=True)
        try:
            return await store.read(everything)
        finally:
            await store.close()

    return asyncio.run(look())


@settings(max_examples=8)
@example(
    [{"value": value, "other": place} for place, value in enumerate(EVERYTHING)], [{}, {"other": None}, {"value": None}]
)
@given(st.lists(documents, max_size=8), st.lists(documents, max_size=8))
def test_a_wiped_database_is_restored_unchanged(first: list[Any], second: list[Any]) -> None:
    """A wiped database is restored byte for byte, in the order of every index; the next export is the same file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        app = folder / "app.py"
        app.write_text(SOURCE)
        index = ["--app", str(app), "--data", str(data)]
        before = made(data, {"first": first, "second": second})
        export(data, folder / "one.zip")
        assert run(["wipe", "--yes", *index]) == 0
        assert not any(found(data).values())
        export(data, folder / "empty.zip")
        assert run(["import", str(folder / "one.zip"), "--replace-all", "--yes", *index]) == 0
        assert found(data) == before
        export(data, folder / "two.zip")
        assert entries(folder / "two.zip") == entries(folder / "one.zip")
        assert run(["import", str(folder / "empty.zip"), "--replace-all", "--yes", *index]) == 0
        assert not any(found(data).values())
        assert check_folder(data) == []


def test_another_database_gets_the_same(tmp_path: Path) -> None:
    """Table numbers come with their documents; an existing table with one of them gets another number."""
    before = made(tmp_path / "data", {"first": [{"value": 1}], "second": [{"value": 2}]})
    export(tmp_path / "data", tmp_path / "one.zip")
    app = tmp_path / "app.py"
    app.write_text(SOURCE.replace("first =", "zeroth = tv.table('aaa')\nfirst ="))
    place = ["--app", str(app), "--data", str(tmp_path / "other")]
    assert run(["import", str(tmp_path / "one.zip"), *place]) == 0
    other = found(tmp_path / "other")
    assert {key: rows for key, rows in other.items() if key[0] != "aaa"} == before


# A snapshot of Convex, made by hand after its published form.


def int64(value: int) -> dict[str, str]:
    """Encode as Convex does."""
    return {"$integer": b64encode(struct.pack("<q", value)).decode()}


def convex_id(table: int, seed: int) -> str:
    """Encode 14 random bytes and the number of a day, under the table's number."""
    return DocumentId(table, random.Random(seed).randbytes(14) + (20_000 + seed).to_bytes(2, "big")).text


USERS, POSTS = 10_007, 10_002
ADA, BOB = convex_id(USERS, 1), convex_id(USERS, 2)
SNAPSHOT: dict[str, list[Any]] = {
    "_tables": [{"name": "posts", "id": POSTS}, {"name": "users", "id": USERS}, {"name": "_storage", "id": 10_001}],
    "users": [
        {"_creationTime": 1727000000000.123, "_id": ADA, "karma": int64(42), "name": "Ada"},
        {"_creationTime": 1727000000001.5, "_id": BOB, "karma": int64(-1), "name": "Bob", "friend": ADA},
    ],
    "posts": [
        {
            "_creationTime": 1727000000002.25, "_id": convex_id(POSTS, 3), "author": BOB, "likes": [ADA, BOB],
            "picture": {"$bytes": "AAEC"}, "score": {"$float": "AAAAAAAAAIA="}, "views": 7.0,
        },
        {
            "_creationTime": 1727000000003.0, "_id": convex_id(POSTS, 4), "author": ADA, "likes": [],
            "picture": {"$bytes": ""}, "score": {"$float": "AAAAAAAA8H8="}, "views": 0.5,
        },
    ],
    "_storage": [{"_creationTime": 1727000000004.0, "_id": convex_id(10_001, 5), "sha256": "x", "size": 3.0}],
    "_components/mail/outbox": [{"_creationTime": 1727000000005.0, "_id": convex_id(10_002, 6), "to": "Ada"}],
    "_components/mail/_tables": [{"name": "outbox", "id": 10_002}],
}  # fmt: skip

CONVEX_APP = """
import tinyvex as tv


@tv.table("aaa")
class Other(tv.Document):
    pass


@tv.table("posts", indexes={"by_author": ["author"]})
class Post(tv.Document):
    author: "tv.Id[User]"
    likes: list["tv.Id[User]"]
    picture: bytes
    score: float
    views: float


@tv.table("users", indexes={"by_karma": ["karma"]})
class User(tv.Document):
    name: str
    karma: tv.Int64
    friend: "tv.Id[User] | None" = None


@tv.query
def authors(ctx: tv.QueryCtx) -> list[str]:
    return [ctx.db.get(post.author).name for post in ctx.db.query(Post).with_index("by_author")]


@tv.query
def by_karma(ctx: tv.QueryCtx) -> list[str]:
    return [user.name for user in ctx.db.query(User).with_index("by_karma")]
"""


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Write a snapshot file."""
    path = tmp_path / "snapshot_happy-otter-123.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", "# Welcome to your Convex snapshot export!\n")
        for folder, rows in SNAPSHOT.items():
            text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
            archive.writestr(f"{folder}/documents.jsonl", text)
            if not folder.endswith("_tables"):
                archive.writestr(f"{folder}/generated_schema.jsonl", '"uniform"\n')
        archive.writestr("_storage/kg2file.png", b"png")
    return path


def test_a_convex_snapshot_is_imported_unchanged(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids, references and times survive, into tables that had other numbers; unsupported parts are listed."""
    app = tmp_path / "app.py"
    app.write_text(CONVEX_APP)
    place = ["--app", str(app), "--data", str(tmp_path / "data")]
    assert run(["import", str(snapshot), *place]) == 0
    output = capsys.readouterr().err
    for name in ("_storage", "_components/mail/outbox", "_components/mail/_tables"):
        assert f"snapshot_happy-otter-123.zip: skipped {name}\n" in output
    export(tmp_path / "data", tmp_path / "again.zip")
    again = entries(tmp_path / "again.zip")
    for table in ("users", "posts"):
        assert [json.loads(line) for line in again[f"{table}/documents.jsonl"].splitlines()] == SNAPSHOT[table]
    assert run(["run", "app:authors", *place]) == 0
    assert json.loads(capsys.readouterr().out) == sorted_authors()
    assert run(["run", "app:by_karma", *place]) == 0
    assert json.loads(capsys.readouterr().out) == ["Bob", "Ada"]


def sorted_authors() -> list[str]:
    """Return the posts in the order of their authors' ids."""
    return [name for _, name in sorted([(BOB, "Bob"), (ADA, "Ada")])]


def test_its_ids_are_those_of_the_published_format() -> None:
    """Ids have 32 characters and the table's number."""
    assert {len(ADA), len(BOB)} == {32}
    assert parse_id(ADA).table == USERS
