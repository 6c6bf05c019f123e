"""`tinyvex export`: all documents of one snapshot, in a file that is complete or absent."""

from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path

import pytest

import tinyvex as tv
from tests.support.process import ServerProcess
from tinyvex.cli.main import run
from tinyvex.storage.maintenance.export import export

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three books and no readers."""
    data = tmp_path / "data"
    for title in ("C", "Ä 💡", "B"):
        assert run(["run", "shelf:add", json.dumps({"title": title}), "--app", str(APP), "--data", str(data)]) == 0
    return data


def lines(file: Path, name: str) -> list[dict[str, object]]:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return [json.loads(line) for line in archive.read(name).splitlines()]


def test_every_table_has_its_documents_oldest_first(folder: Path, tmp_path: Path) -> None:
    """Documents have ids and creation times; empty tables are included."""
    file = tmp_path / "out.zip"
    assert run(["export", "--path", str(file), "--data", str(folder)]) == 0
    assert [table["name"] for table in lines(file, "_tables/documents.jsonl")] == ["books", "readers"]
    books = lines(file, "books/documents.jsonl")
    assert [book["title"] for book in books] == ["C", "Ä 💡", "B"]
    assert all(set(book) == {"_id", "_creationTime", "title", "pages"} for book in books)
    assert lines(file, "readers/documents.jsonl") == []
    assert lines(file, "readers/generated_schema.jsonl") == ["uniform"]


def test_an_existing_file_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    """Exit code 22, and no unfinished file remains; with --replace it is replaced."""
    file = tmp_path / "out.zip"
    file.write_text("mine")
    assert run(["export", "--path", str(file), "--data", str(folder)]) == 22
    assert file.read_text() == "mine"
    assert run(["export", "--path", str(file), "--data", str(folder), "--replace"]) == 0
    assert len(lines(file, "books/documents.jsonl")) == 3
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


async def test_an_export_alongside_writers_is_one_snapshot(tmp_path: Path) -> None:
    """Earlier commits are in it, and the commits of each writer up to some commit without a gap."""
    with ServerProcess(APP, tmp_path / "data") as server:
        async with tv.connect(server.url, server.ready["token"]) as client:

            async def write(writer: int) -> None:
                for number in range(120):
                    await client.mutation("shelf:add", {"title": f"w{writer}", "pages": number})

            await client.mutation("shelf:add", {"title": "before"})
            writers = [asyncio.create_task(write(writer)) for writer in range(4)]
            files = [tmp_path / f"{number}.zip" for number in range(3)]
            done = [await asyncio.to_thread(export, tmp_path / "data", file) for file in files]
            await asyncio.gather(*writers)
    for file, exported in zip(files, done, strict=True):
        books = lines(file, "books/documents.jsonl")
        assert len(books) == exported.documents
        assert books[0]["title"] == "before"
        for writer in range(4):
            pages = [book["pages"] for book in books if book["title"] == f"w{writer}"]
            assert pages == list(range(len(pages)))


def test_memory_does_not_grow_with_the_data(folder: Path, tmp_path: Path) -> None:
    """Documents are read and written page by page."""
    assert run(["run", "shelf:add_many", '{"count": 12000}', "--app", str(APP), "--data", str(folder)]) == 0
    steps: list[tuple[int, int]] = []
    export(folder, tmp_path / "out.zip", lambda done, total: steps.append((done, total)))
    assert len(steps) > 10
    assert steps[-1] == (12003, 12003)
