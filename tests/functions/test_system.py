"""The queries that every app has beside its own."""

import json
from pathlib import Path

import pytest

from tests.support.storage import bound_runtime, insert, opened, unit
from tinyvex.errors import FunctionNotFound, UnknownTable
from tinyvex.functions.app import App
from tinyvex.functions.calls import Call
from tinyvex.functions.executor import Executor
from tinyvex.functions.system import PAGE_ROWS, system_functions
from tinyvex.limits import DOCUMENT_BYTES_MAX, RESULT_BYTES_MAX
from tinyvex.values.ids import DocumentId


@pytest.mark.parametrize("path", system_functions())
def test_every_app_has_them(path: str) -> None:
    """Whoever may call internal functions finds them by their paths."""
    kind = system_functions()[path].kind
    assert App([], []).lookup(path, kind=kind, internal_allowed=True).path == path


@pytest.mark.parametrize("path", system_functions())
def test_clients_do_not_reach_them(path: str) -> None:
    """Without the admin token they do not exist."""
    kind = system_functions()[path].kind
    with pytest.raises(FunctionNotFound):
        App([], []).lookup(path, kind=kind)


def test_they_are_not_among_the_apps_own() -> None:
    """`function-spec` and the fingerprint know the app's functions only."""
    assert App([], []).functions == {}


def test_a_page_of_the_largest_documents_is_one_result() -> None:
    """A page never fails for its size."""
    assert 0 < PAGE_ROWS * DOCUMENT_BYTES_MAX < RESULT_BYTES_MAX


async def test_a_history_depends_on_its_document(tmp_path: Path) -> None:
    """Watched, it is told anew when the document changes, and not when others do."""
    runtime = bound_runtime()
    async with opened(tmp_path, runtime=runtime) as store:
        stored = await store.write(unit(insert({"n": 1})))
        table = await store.read(lambda snapshot: snapshot.catalog.table("items"))
        text = DocumentId(table.number, stored.internal).text
        arguments = json.dumps({"document": text}).encode()
        outcome = await Executor(store, runtime, App([], [])).query(Call("_system:history", arguments, admin=True))
    assert outcome.reads.overlaps(table.by_id, stored.internal)
    assert not outcome.reads.overlaps(table.by_id, bytes(16))


async def test_the_span_is_what_can_be_read(tmp_path: Path) -> None:
    """From the floor to the newest commit."""
    runtime = bound_runtime()
    async with opened(tmp_path, runtime=runtime) as store:
        outcome = await Executor(store, runtime, App([], [])).query(Call("_system:span", b"{}", admin=True))
        assert json.loads(outcome.value) == {"floorTs": 0, "lastTs": store.last_ts}


async def test_the_history_of_no_table_is_an_error(tmp_path: Path) -> None:
    """An id may name a table that the database does not have."""
    runtime = bound_runtime()
    async with opened(tmp_path, runtime=runtime) as store:
        arguments = json.dumps({"document": DocumentId(99_999, bytes(16)).text}).encode()
        with pytest.raises(UnknownTable):
            await Executor(store, runtime, App([], [])).query(Call("_system:history", arguments, admin=True))
