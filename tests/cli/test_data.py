"""`tinyvex data`, with and without a server."""

import datetime as dt
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.main import run
from tinyvex.cli.output import time_text
from tinyvex.cli.session import _LocalSession, _RemoteSession
from tinyvex.errors import InvalidResult
from tinyvex.runtime import Runtime
from tinyvex.storage.file.database_file import set_global
from tinyvex.storage.maintenance import table_statistics

SUPPORT = Path(__file__).resolve().parents[1] / "support"
APP, NOTEBOOK = SUPPORT / "shelf.py", SUPPORT / "notebook.py"
BOOKS = 130

Data = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with many books and no server."""
    path = tmp_path_factory.mktemp("shelf")
    assert run(["run", "shelf:add_many", json.dumps({"count": BOOKS}), "--app", str(APP), "--data", str(path)]) == 0
    return path


@pytest.fixture(scope="module", params=["the file", "a server"])
def data_folder(request: pytest.FixtureRequest, folder: Path) -> Iterator[Path]:
    """The same folder, first without and then with a server that owns it."""
    if request.param == "the file":
        yield folder
    else:
        with ServerProcess(APP, folder):
            yield folder


@pytest.fixture
def data(data_folder: Path, capsys: pytest.CaptureFixture[str]) -> Data:
    def show(*arguments: str) -> str:
        capsys.readouterr()
        assert run(["data", *arguments, "--data", str(data_folder)]) == 0
        return capsys.readouterr().out

    return show


@pytest.fixture
def fail(data_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def show(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["data", *arguments, "--data", str(data_folder)])
        return code, capsys.readouterr().err

    return show


def test_tables_are_listed_with_their_counts(data: Data) -> None:
    """Every table, even an empty one, has its documents, the bytes of their JSON, and its revisions."""
    tables = json.loads(data("--format", "json"))
    size = sum(
        len(json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False).encode())
        for line in data("books", "--format", "jsonl", "--limit", "0").splitlines()
    )
    assert tables == [
        {"table": "books", "documents": BOOKS, "size_bytes": size, "size_is_exact": True, "revisions": BOOKS},
        {"table": "readers", "documents": 0, "size_bytes": 0, "size_is_exact": True, "revisions": 0},
    ]


def test_tables_are_aligned_for_people(data: Data) -> None:
    """The default form has one line per table under a heading."""
    heading, _, books, _ = data().splitlines()
    assert heading.split() == ["table", "documents", "size", "revisions"]
    assert books.split() == ["books", str(BOOKS), "14.3", "KB", str(BOOKS)]


def test_the_size_of_a_large_table_is_an_estimate(
    data: Data, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the oldest and newest documents are added up, and the output marks the size as approximate."""
    exact = json.loads(data("--format", "json"))[0]["size_bytes"]
    monkeypatch.setattr(table_statistics, "SIZE_SAMPLE", 20)
    books = json.loads(data("--format", "json"))[0]
    assert (books["size_is_exact"], books["documents"]) == (False, BOOKS)
    assert books["size_bytes"] == pytest.approx(exact, rel=0.05)
    assert "about 14" in data()


def test_documents_are_newest_first(data: Data) -> None:
    """One stored JSON document per line, the newest first."""
    lines = [json.loads(line) for line in data("books", "--format", "jsonl", "--limit", "3").splitlines()]
    assert [line["title"] for line in lines] == ["Volume 0129", "Volume 0128", "Volume 0127"]
    assert set(lines[0]) == {"_id", "_creationTime", "title", "pages"}


def test_documents_in_order_of_creation(data: Data) -> None:
    """`--order asc` begins with the oldest."""
    lines = [json.loads(line) for line in data("books", "--format", "jsonl", "--order", "asc").splitlines()]
    assert [line["pages"] for line in lines] == list(range(100))


def test_all_documents(data: Data) -> None:
    """`--limit 0` shows all documents over many pages."""
    assert len(json.loads(data("books", "--format", "json", "--limit", "0"))) == BOOKS


def test_an_empty_table_is_an_empty_array(data: Data) -> None:
    """The output is valid JSON even if there are no documents."""
    assert json.loads(data("readers", "--format", "json")) == []
    assert data("readers", "--format", "jsonl") == ""


def test_documents_are_aligned_for_people(data: Data) -> None:
    """The id is the first column, the creation time the last."""
    heading, _, first, *_ = data("books", "--limit", "2").splitlines()
    assert heading.split() == ["_id", "pages", "title", "_creationTime"]
    assert "Volume 0129" in first


def test_an_unknown_table_is_an_error(data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists the tables, and the exit code is that of a function."""
    assert run(["data", "nothing", "--data", str(data_folder)]) == 3
    assert "there is no table `nothing`; the tables are `books`" in capsys.readouterr().err


def test_a_missing_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reading creates no folder."""
    assert run(["data", "--data", str(tmp_path / "none")]) == 22
    assert not (tmp_path / "none").exists()
    assert "none" in capsys.readouterr().err


def test_formats_also_have_the_names_of_convex(data: Data) -> None:
    """`jsonArray` is `json`, `jsonLines` is `jsonl`."""
    assert data("books", "--format", "jsonArray") == data("books", "--format", "json")
    assert data("books", "--format", "jsonLines") == data("books", "--format", "jsonl")


def titles(shown: str) -> list[str]:
    return [json.loads(line)["title"] for line in shown.splitlines()]


def test_an_index_sets_the_order(data: Data) -> None:
    """`--index` reads along that index, from its end unless `--order asc`."""
    along = ("books", "--format", "jsonl", "--index", "by_title", "--limit", "2")
    assert titles(data(*along)) == ["Volume 0129", "Volume 0128"]
    assert titles(data(*along, "--order", "asc")) == ["Volume 0000", "Volume 0001"]


@pytest.mark.parametrize(
    ("conditions", "numbers"),
    [
        (["--eq", 'title="Volume 0007"'], [7]),
        (["--gt", 'title="Volume 0126"'], [127, 128, 129]),
        (["--gte", 'title="Volume 0127"'], [127, 128, 129]),
        (["--lt", 'title="Volume 0002"'], [0, 1]),
        (["--lte", 'title="Volume 0001"'], [0, 1]),
        (["--gt", 'title="Volume 0003"', "--lte", 'title="Volume 0005"'], [4, 5]),
        (["--eq", 'title="Volume 0007"', "--gt", "_creationTime=0"], [7]),
        (["--eq", "title=7"], []),
    ],
)
def test_conditions_narrow_the_index(data: Data, conditions: list[str], numbers: list[int]) -> None:
    """Each operator has the meaning of the query builder; operators can be combined."""
    shown = data("books", "--format", "jsonl", "--order", "asc", "--index", "by_title", *conditions)
    assert titles(shown) == [f"Volume {number:04}" for number in numbers]


def test_a_condition_goes_over_many_pages(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later pages stay within the range."""
    monkeypatch.setattr("tinyvex.cli.data.SCAN_PAGE_ROWS", 7)
    shown = data("books", "--format", "jsonl", "--index", "by_title", "--lt", 'title="Volume 0040"', "--limit", "0")
    assert titles(shown) == [f"Volume {number:04}" for number in reversed(range(40))]


def test_large_documents_come_in_smaller_pages(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a page is too large for a result, a shorter page is requested."""
    ask = _LocalSession.query

    async def refuse_long(session: _LocalSession, path: str, arguments: Mapping[str, Any], **at: Any) -> bytes:
        if arguments.get("size", 0) > 20:
            raise InvalidResult("too large")
        return await ask(session, path, arguments, **at)

    monkeypatch.setattr(_LocalSession, "query", refuse_long)
    capsys.readouterr()
    assert run(["data", "books", "--format", "jsonl", "--limit", "0", "--data", str(folder)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == BOOKS


def test_an_unknown_index_is_an_error_that_lists_the_indexes(fail: Callable[..., tuple[int, str]]) -> None:
    """Each index is listed with its fields."""
    code, shown = fail("books", "--index", "by_weight")
    assert code == 3
    assert "by_weight" in shown
    assert "`by_creation_time` (_creationTime), `by_title` (title)" in shown


def test_an_unknown_field_is_an_error_that_lists_the_indexes(fail: Callable[..., tuple[int, str]]) -> None:
    """This holds without `--index` as well."""
    for arguments in (["--eq", "pages=5"], ["--index", "by_title", "--gt", "pages=5"]):
        code, shown = fail("books", *arguments)
        assert code == 3
        assert "`pages` is not a field of index" in shown
        assert "`by_title` (title)" in shown


@pytest.mark.parametrize("condition", ["title", "title=Emma", "=1"])
def test_an_invalid_condition_is_a_usage_error(fail: Callable[..., tuple[int, str]], condition: str) -> None:
    """The message shows the form."""
    code, shown = fail("books", "--eq", condition)
    assert code == 2
    assert "FIELD=JSON" in shown or "in quotes" in shown


def test_conditions_require_a_table(fail: Callable[..., tuple[int, str]]) -> None:
    """The list of tables has no index."""
    assert fail("--index", "by_title")[0] == 2


# The past.

YEAR_US = 365 * 86_400_000_000
TITLES = ["Third", "Second", "First"]


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder with two notes, and a time between them."""
    path = tmp_path_factory.mktemp("notebook")
    options = ["--app", str(NOTEBOOK), "--data", str(path)]
    assert run(["run", "notebook:write", '{"title": "Older", "rank": 5}', *options]) == 0
    between = Runtime().now_us()
    assert run(["run", "notebook:write", '{"title": "Younger"}', *options]) == 0
    return path, between


def test_a_past_state_is_shown(aged: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    """`--at` with a ts or a time does not show later documents."""
    path, between = aged
    time = dt.datetime.fromtimestamp(between / 1e6, dt.UTC).isoformat()
    command = ["data", "notes", "--format", "jsonl", "--data", str(path)]
    for at, found in (([], ["Younger", "Older"]), (["--at", str(between)], ["Older"]), (["--at", time], ["Older"])):
        capsys.readouterr()
        assert run([*command, *at]) == 0
        assert titles(capsys.readouterr().out) == found


def test_a_past_state_is_shown_by_a_server(aged: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    """A running server gives the same answer."""
    path, between = aged
    with ServerProcess(NOTEBOOK, path):
        capsys.readouterr()
        assert run(["data", "notes", "--format", "jsonl", "--data", str(path), "--at", str(between)]) == 0
        assert titles(capsys.readouterr().out) == ["Older"]


def test_a_time_is_found_after_the_clock_was_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    `--at` with a duration shows the state of that time, although the first document was written a year ahead of it, and
    so does the time that `ts` states.
    """
    options = ["--app", str(NOTEBOOK), "--data", str(tmp_path)]
    now_us = Runtime().now_us()
    for title, clock_us in (("First", now_us + YEAR_US), ("Second", now_us), ("Third", now_us + 60_000_000)):
        monkeypatch.setattr(Runtime, "now_us", lambda _, clock_us=clock_us: clock_us)
        assert run(["run", "notebook:write", json.dumps({"title": title}), *options]) == 0
    command = ["data", "notes", "--format", "jsonl", "--data", str(tmp_path), "--at"]
    for at, found in (("30s ago", ["Second", "First"]), ("2m ago", ["Second", "First"]), ("0s", TITLES)):
        capsys.readouterr()
        assert run([*command, at]) == 0
        assert titles(capsys.readouterr().out) == found


def test_tables_of_the_past_are_counted(aged: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    """`--at` without a table shows the counts as of that time."""
    path, between = aged
    capsys.readouterr()
    assert run(["data", "--format", "json", "--data", str(path), "--at", str(between)]) == 0
    assert json.loads(capsys.readouterr().out) == [{"table": "notes", "documents": 1}]


def test_below_the_floor_the_error_has_the_first_readable_time(
    aged: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has it as a time and as a ts."""
    path, between = aged
    shutil.copytree(path, tmp_path, dirs_exist_ok=True)
    connection = sqlite3.connect(tmp_path / "data.sqlite3")
    with connection:
        set_global(connection, "floor_ts", between + 1)
    connection.close()
    assert run(["data", "notes", "--data", str(tmp_path), "--at", str(between)]) == 3
    assert f"history begins at {time_text(between + 1)}" in capsys.readouterr().err


def test_a_whole_number_finds_int64_fields(aged: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    """Without the app's annotations, `5` matches the Int64 that the field holds."""
    path, _ = aged
    capsys.readouterr()
    command = ["data", "notes", "--format", "jsonl", "--data", str(path), "--index", "by_rank"]
    assert run([*command, "--eq", "rank=5"]) == 0
    assert titles(capsys.readouterr().out) == ["Older"]


def test_a_time_before_the_table_is_an_error(fail: Callable[..., tuple[int, str]], data_folder: Path) -> None:
    """Before the first commit the table did not exist."""
    code, shown = fail("books", "--at", "1d ago")
    assert code == 3
    assert "at the time of --at, there is no table `books`; the database has no tables" in shown


def test_a_time_after_the_last_commit_is_the_newest_state(data: Data) -> None:
    """No commit has to have that exact timestamp."""
    assert data("books", "--at", "0s") == data("books")


@pytest.mark.parametrize("at", ["2999-01-01", "9999999999999999"])
def test_the_future_cannot_be_read(fail: Callable[..., tuple[int, str]], at: str) -> None:
    """The error is the fault of the caller."""
    code, shown = fail("books", "--at", at)
    assert code == 3
    assert "in the future" in shown


@pytest.mark.parametrize("at", ["9999999d ago", "99999999999999999999d"])
def test_a_time_beyond_the_calendar_is_an_error(fail: Callable[..., tuple[int, str]], at: str) -> None:
    """A time that the calendar cannot express is no longer retained."""
    code, shown = fail("books", "--at", at)
    assert code == 3
    assert "no longer retained" in shown


@pytest.mark.parametrize("text", ["yesterday", "10", "10 parsecs ago", "2026-13-01", "9" * 17, "9" * 5000])
def test_an_invalid_time_is_a_usage_error(fail: Callable[..., tuple[int, str]], text: str) -> None:
    """The message shows the accepted forms."""
    code, shown = fail("books", "--at", text)
    assert code == 2
    assert "10m ago" in shown or "like" in shown


def test_all_pages_are_of_one_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document created while pages are read is on none of them."""
    options = ["--data", str(tmp_path)]
    ask = _RemoteSession.query

    async def write_after(session: _RemoteSession, path: str, arguments: Mapping[str, Any], **at: Any) -> bytes:
        page = await ask(session, path, arguments, **at)
        await session._client.mutation("shelf:add", {"title": "Between"})
        return page

    with ServerProcess(APP, tmp_path):
        assert run(["run", "shelf:add_many", '{"count": 5}', *options]) == 0
        capsys.readouterr()
        monkeypatch.setattr(_RemoteSession, "query", write_after)
        monkeypatch.setattr("tinyvex.cli.data.SCAN_PAGE_ROWS", 2)
        assert run(["data", "books", "--limit", "0", "--format", "jsonl", "--order", "asc", *options]) == 0
        assert titles(capsys.readouterr().out) == [f"Volume {number:04}" for number in range(5)]
