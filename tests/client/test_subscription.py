"""A subscription by itself, with a query that the test changes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tinyvex.client.client_loop import ClientLoop, Waiters
from tinyvex.client.query_set import ClientQuery, QueryFailure, QueryResult
from tinyvex.client.query_value import QueryValue
from tinyvex.client.subscription import Subscription
from tinyvex.errors import ClientClosed, FunctionFailed, TinyvexError


class Source:
    """A query and a subscription to it."""

    def __init__(self) -> None:
        self.query = ClientQuery(0, "m:f", b"{}")
        self.ended: TinyvexError | None = None
        self.released = 0
        self.readers = Waiters()
        self.values = Subscription[int](self.query, int, ClientLoop(), self.readers, lambda: self.ended, self.release)

    def release(self) -> None:
        self.released += 1

    def show(self, outcome: QueryResult) -> None:
        self.query.shown = outcome
        self.query.revision += 1
        self.readers.wake()


async def test_the_current_value_is_returned_first() -> None:
    """However often the query changed before."""
    source = Source()
    for json in (b"1", b"2"):
        source.show(QueryValue(json))
    assert await anext(source.values) == 2


async def test_a_waiting_reader_gets_the_next_value() -> None:
    """A wake-up without a change has no effect."""
    source = Source()
    reader = asyncio.ensure_future(anext(source.values))
    await asyncio.sleep(0)
    source.readers.wake()
    await asyncio.sleep(0)
    assert not reader.done()
    source.show(QueryValue(b"1"))
    assert await reader == 1


async def test_a_failure_is_one_step_of_the_iteration() -> None:
    """Each raise has its own exception object."""
    source = Source()
    caught = []
    for _ in range(2):
        source.show(QueryFailure(FunctionFailed("no")))
        with pytest.raises(FunctionFailed) as failed:
            await anext(source.values)
        caught.append(failed.value)
    source.show(QueryValue(b"1"))
    assert await anext(source.values) == 1
    assert caught[0] is not caught[1]


async def test_a_cancelled_reader_leaves_the_value_to_the_next() -> None:
    """The cancellation may come before or after the value arrives."""
    source = Source()
    for shown in (False, True):
        reader = asyncio.ensure_future(anext(source.values))
        await asyncio.sleep(0)
        if shown:
            source.show(QueryValue(b"1"))
        reader.cancel()
        await asyncio.wait([reader])
        assert reader.cancelled()
    assert await anext(source.values) == 1


async def test_values_before_the_end_are_read_first() -> None:
    """Afterwards every iteration raises the session's error."""
    source = Source()
    source.show(QueryValue(b"1"))
    source.ended = ClientClosed("closed")
    assert await anext(source.values) == 1
    for _ in range(2):
        with pytest.raises(ClientClosed):
            await anext(source.values)


async def test_every_way_to_close_closes_once() -> None:
    """`async with`, `aclosing`, `close`."""
    source = Source()
    async with source.values as values, aclosing(values):
        values.close()
    assert source.released == 1
    assert [value async for value in source.values] == []
