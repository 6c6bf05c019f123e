"""Comparing the file with an app: a file that fits needs no change, and one with an interrupted change does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from tests.support.storage import MemoryStore, insert, unit
from tinyvex.storage.schema.schema_plan import Declaration, fits

Tables = dict[str, dict[str, tuple[str, ...]]]

BY_N: Tables = {"items": {"by_n": ("n",)}}
BOTH: Tables = {"items": {"by_n": ("n",), "by_m": ("m",)}}
CLASS = {"items": "a class"}


@pytest.fixture
def log() -> Iterator[MemoryStore]:
    """Open a log with twenty documents, and an index on n."""
    store = MemoryStore()
    store.declare(BY_N, fingerprint="code", table_fingerprints=CLASS)
    store.run(unit(lambda transaction: [insert({"n": n, "m": -n})(transaction) for n in range(20)]))
    yield store


def file_fits(log: MemoryStore, tables: Tables, fingerprint: str = "code", classes: Mapping[str, str] = CLASS) -> bool:
    result: bool = log.look(partial(fits, Declaration(tables), fingerprint, classes))
    return result


def test_a_file_fits_the_app_declared_last(log: MemoryStore) -> None:
    """Documents make no difference."""
    assert file_fits(log, BY_N)


@pytest.mark.parametrize(
    ("tables", "fingerprint", "classes"),
    [
        (BOTH, "code", CLASS),
        ({"items": {}}, "code", CLASS),
        ({"items": {"by_n": ("m",)}}, "code", CLASS),
        ({**BY_N, "users": {}}, "code", CLASS),
        ({}, "code", {}),
        (BY_N, "other code", CLASS),
        (BY_N, "code", {"items": "another class"}),
        (BY_N, "code", {}),
    ],
    ids=["new index", "removed index", "other fields", "new table", "removed table", "code", "class", "no class"],
)
def test_a_file_does_not_fit_another_app(log: MemoryStore, tables: Tables, fingerprint: str, classes: Any) -> None:
    """Every difference counts; once it is declared, the file fits."""
    assert not file_fits(log, tables, fingerprint, classes)
    log.declare(tables, fingerprint=fingerprint, table_fingerprints=classes)
    assert file_fits(log, tables, fingerprint, classes)


@pytest.mark.parametrize(("before", "after"), [(BY_N, BOTH), (BOTH, BY_N)], ids=["new index", "removed index"])
@pytest.mark.parametrize("returns", [False, True], ids=["change again", "change back"])
def test_a_file_with_an_interrupted_change_does_not_fit(
    log: MemoryStore, monkeypatch: pytest.MonkeyPatch, before: Tables, after: Tables, *, returns: bool
) -> None:
    """Whichever step failed: the file fits an app exactly if declaring that app commits nothing."""
    monkeypatch.setattr("tinyvex.storage.schema.index_backfill.BACKFILL_STEP_ROWS", 4)
    wanted = before if returns else after
    interrupted = 0
    for died_at in range(1, 100):
        log.between = None
        log.declare(before, fingerprint="code", table_fingerprints=CLASS)
        left = iter(range(died_at))

        def die(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        log.between = die
        try:
            log.declare(after, fingerprint="code", table_fingerprints=CLASS)
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        log.between = None
        does_fit, last_ts = file_fits(log, wanted), log.last_ts
        log.declare(wanted, fingerprint="code", table_fingerprints=CLASS)
        assert does_fit is (log.last_ts == last_ts)
    log.between = None
    assert interrupted > 3
    assert file_fits(log, after)
