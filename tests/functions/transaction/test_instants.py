"""Instants in documents and indexes: one form, in the order of time."""

import datetime as dt
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import tinyvex as tv
from tinyvex.errors import InvalidValue
from tinyvex.testing import Database

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
BERLIN = timezone(timedelta(hours=1))


@tv.table("events", indexes={"by_at": ["at"], "by_time": ["time"]})
class Event(tv.Document):
    at: datetime
    time: dt.time = dt.time()


logs = tv.table("logs", indexes={"by_at": ["at"]})


@tv.mutation
def add(ctx: tv.MutationCtx, at: datetime) -> None:
    ctx.db.insert(Event(at=at))
    ctx.db.insert("logs", {"at": at})


@tv.mutation
def add_time(ctx: tv.MutationCtx, time: dt.time) -> None:
    ctx.db.insert(Event(at=NOON, time=time))


@tv.query
def ordered(ctx: tv.QueryCtx) -> list[datetime]:
    return [event.at for event in ctx.db.query(Event).with_index("by_at")]


@tv.query
def count_at(ctx: tv.QueryCtx, at: datetime) -> int:
    return ctx.db.query(Event).with_index("by_at", at=at).count()


@tv.query
def stored(ctx: tv.QueryCtx) -> list[Any]:
    return [event["at"] for table in ("events", "logs") for event in ctx.db.query(table)]


@pytest.fixture
def db() -> Iterator[Database]:
    with Database(sys.modules[__name__]) as database:
        yield database


def test_instants_are_ordered_by_time(db: Database) -> None:
    """Neither fractions nor zones change the order."""
    instants = [NOON, NOON + timedelta(microseconds=500_000), (NOON + timedelta(seconds=1)).astimezone(BERLIN)]
    for at in reversed(instants):
        db.mutation(add, at=at)
    assert db.query(ordered) == instants


def test_an_instant_is_equal_in_every_zone(db: Database) -> None:
    """A value in one zone finds what was stored in another."""
    db.mutation(add, at=NOON.astimezone(BERLIN))
    assert db.query(count_at, at=NOON) == 1


def test_an_instant_is_stored_in_utc_with_microseconds(db: Database) -> None:
    """Tables with and without a class store the same form."""
    db.mutation(add, at=NOON.astimezone(BERLIN))
    assert db.query(stored) == ["2026-01-02T12:00:00.000000Z"] * 2


def test_times_of_day_are_ordered(db: Database) -> None:
    """A fraction does not change the order."""
    for time in (dt.time(12, 0, 0, 5), dt.time(12), dt.time(11, 59, 59, 999_999)):
        db.mutation(add_time, time=time)
    with_index = db.query(lambda ctx: [event.time for event in ctx.db.query(Event).with_index("by_time")])
    assert with_index == ["11:59:59.999999", "12:00:00.000000", "12:00:00.000005"]


@pytest.mark.parametrize(
    "use", [lambda ctx, at: ctx.db.insert(Event(at=at)), lambda ctx, at: ctx.db.insert("logs", {"at": at})]
)
def test_a_naive_datetime_is_not_stored(db: Database, use: Any) -> None:
    """The error says what is missing, and how to add it."""
    with pytest.raises(
        InvalidValue, match="`2026-01-02 12:00:00` is a datetime without a time zone.*replace.tzinfo=UTC"
    ):
        db.mutation(lambda ctx: use(ctx, datetime(2026, 1, 2, 12)))  # noqa: DTZ001


def test_a_naive_datetime_is_not_compared(db: Database) -> None:
    """An index has only instants; the error names it."""
    with pytest.raises(
        InvalidValue, match=r"index `by_at` of table `events`, field `at`: .*without a time zone.*tzinfo=UTC\)`$"
    ):
        db.query(lambda ctx: count_at(ctx, datetime(2026, 1, 2, 12)))  # noqa: DTZ001


def test_a_time_with_a_zone_is_not_stored(db: Database) -> None:
    """Without its date it has no place in an order."""
    with pytest.raises(InvalidValue, match="with a time zone but without its date"):
        db.mutation(lambda ctx: ctx.db.insert("logs", {"at": dt.time(12, tzinfo=UTC)}))
