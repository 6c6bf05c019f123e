"""Recent log records and samples: bounded, numbered, and without the data of clients."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator
from threading import Thread
from typing import Any

import msgspec
import pytest

from tinyvex import limits
from tinyvex.runtime import Runtime
from tinyvex.server.background_tasks import BackgroundTasks
from tinyvex.server.services.recent_activity import RecentActivity, quantile
from tinyvex.storage.engine.store_statistics import StoreStatistics
from tinyvex.sync.counters import Counters


class FakeStore:
    """The statistics of a store."""

    def __init__(self) -> None:
        self.figures = StoreStatistics()

    def statistics(self) -> StoreStatistics:
        return self.figures

    def commit(self, seconds: float) -> None:
        self.figures.commits += 1
        self.figures.commit_seconds.add(seconds)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def activity(store: FakeStore, counters: Counters) -> Iterator[RecentActivity]:
    """Collects records while the test runs."""
    activity = RecentActivity(store, counters, Runtime(), reveal=False)  # type: ignore[arg-type]
    with activity.collecting_records():
        yield activity


log = logging.getLogger("app")


def messages(activity: RecentActivity, number: int = 0) -> list[str]:
    return [record["message"] for record in activity.since(number)["records"]]


def test_a_record_is_stored_as_it_was_described(activity: RecentActivity) -> None:
    """Level, logger, message and its fields."""
    log.warning("slow %s", "query", extra={"function": "app:f", "secret": "x"})
    (record,) = activity.since(0)["records"]
    assert (record["level"], record["logger"], record["message"]) == ("warning", "app", "slow query")
    assert record["function"] == "app:f"
    assert "secret" not in record


def test_an_exception_is_stored_without_its_text(activity: RecentActivity) -> None:
    """It may quote an argument."""
    secret = "the-secret"
    try:
        int(secret)
    except ValueError:
        log.exception("failed")
    (record,) = activity.since(0)["records"]
    assert record["error"] == "ValueError"
    assert "the-secret" not in str(record)


def test_records_are_bounded(activity: RecentActivity) -> None:
    """The oldest goes first."""
    for number in range(limits.DASHBOARD_RECORDS_MAX + 1):
        log.warning("%d", number)
    logged = messages(activity)
    assert (len(logged), logged[0]) == (limits.DASHBOARD_RECORDS_MAX, "1")


def test_a_long_message_is_cut(activity: RecentActivity) -> None:
    """The ring as a whole has a bound in bytes."""
    log.warning("x" * (limits.DASHBOARD_TEXT_LENGTH_MAX + 1))
    assert messages(activity) == ["x" * limits.DASHBOARD_TEXT_LENGTH_MAX + "…"]


def test_every_field_is_bounded(activity: RecentActivity) -> None:
    """Also fields that the app sets, and the logger's name."""
    long = "x" * 1_000_000
    logging.getLogger(f"app.{long}").warning("short", extra={"error": long, "kind": [long]})
    (record,) = activity.since(0)["records"]
    assert all(len(str(value)) <= limits.DASHBOARD_TEXT_LENGTH_MAX + 1 for value in record.values())


@pytest.mark.parametrize("strange", [object(), {1: {2}}, b"bytes", "half \ud800 a pair", 1j])
def test_what_the_app_puts_into_a_record_can_be_sent(
    activity: RecentActivity, strange: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record that cannot be encoded would hide all others from the reader."""
    root = logging.getLogger()
    # Without pytest's own handlers, whose workers could not send the record either.
    own = [handler for handler in root.handlers if type(handler).__module__.startswith("tinyvex")]
    monkeypatch.setattr(root, "handlers", own)
    log.warning("%s", strange, extra={"error": strange})
    assert json.loads(msgspec.json.encode(activity.since(0)))["records"][0]["level"] == "warning"


def test_logging_while_a_record_is_stored_does_not_deadlock(
    activity: RecentActivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finaliser that runs during garbage collection may log."""

    class LoggingRing(deque[dict[str, Any]]):
        """A ring in which a finaliser logs, once."""

        def append(self, entry: dict[str, Any]) -> None:
            super().append(entry)
            if entry["message"] == "first":
                log.warning("an object ended")

    monkeypatch.setattr(activity, "_records", LoggingRing())
    thread = Thread(target=log.warning, args=("first",), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert messages(activity) == ["first", "an object ended"]


def test_a_reader_gets_what_is_new(activity: RecentActivity) -> None:
    """Records and samples after the number it has seen, and none twice."""
    log.warning("one")
    activity.sample(0)
    number = activity.since(0)["number"]
    log.warning("two")
    activity.sample(1_000_000)
    assert messages(activity, number) == ["two"]
    assert [sample["time"] for sample in activity.since(number)["samples"]] == [1000]
    assert messages(activity, activity.since(0)["number"]) == []


def test_a_number_of_another_run_gets_everything(activity: RecentActivity) -> None:
    """The reader has seen nothing of this run."""
    log.warning("one")
    assert messages(activity, 1_000) == ["one"]


async def test_the_service_collects_while_it_runs(store: FakeStore, counters: Counters) -> None:
    """Records and samples; after the stop its handler is gone from the root logger."""
    activity = RecentActivity(store, counters, Runtime(), reveal=False)  # type: ignore[arg-type]
    log.warning("early")
    async with BackgroundTasks(Runtime(), lambda *_: None) as tasks:
        await activity.start(tasks)
        log.warning("now")
        await activity.stop()
    log.warning("late")
    assert messages(activity) == ["now"]
    assert len(activity.since(0)["samples"]) == 1


def test_a_record_that_cannot_be_described_is_skipped(
    activity: RecentActivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later records are still collected."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.warning("%d", "not a number")
    log.warning("next")
    assert messages(activity) == ["next"]


def test_threads_may_log_concurrently(activity: RecentActivity) -> None:
    """Each record has its own number, in the order of the ring."""
    threads = [Thread(target=lambda: [log.warning("x") for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [record["number"] for record in activity.since(0)["records"]]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 200


def test_a_sample_is_what_happened_since_the_one_before(
    activity: RecentActivity, store: FakeStore, counters: Counters
) -> None:
    """Counts, and quantiles of the commits between the two only."""
    store.commit(0.4)
    activity.sample(0)
    counters.recomputations += 3
    store.commit(0.0004)
    store.commit(0.0004)
    activity.sample(1_000_000)
    activity.sample(2_000_000)
    first, second, third = activity.since(0)["samples"]
    assert 0.1 < first["p50"] <= 0.5
    assert (second["commits"], second["recomputations"]) == (2, 3)
    assert 0.0002 < second["p50"] < second["p99"] <= 0.0005
    assert (third["commits"], third["p50"], third["p99"]) == (0, None, None)


def test_samples_are_bounded(activity: RecentActivity) -> None:
    """Ten minutes of them."""
    for second in range(limits.DASHBOARD_SAMPLES_MAX + 5):
        activity.sample(second * 1_000_000)
    assert len(activity.since(0)["samples"]) == limits.DASHBOARD_SAMPLES_MAX


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([4, 0, 0], 0.5, 0.5),
        ([4, 0, 0], 1.0, 1.0),
        ([1, 1, 0], 0.5, 1.0),
        ([1, 3, 0], 0.5, 1 + 3 / 3),
        ([0, 0, 5], 0.99, 4.0),
    ],
)
def test_a_quantile_lies_in_its_bucket(counts: list[int], share: float, expected: Any) -> None:
    """Evenly spread within it; above the last bound, that bound."""
    assert quantile([1.0, 4.0], counts, share) == expected
