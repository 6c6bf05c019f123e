"""The types of functions, contexts and the query builder as type checkers infer them. Checked, never executed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, assert_type

import tinyvex as tv


@tv.table("messages", indexes={"by_channel": ["channel"]})
class Message(tv.Document):
    channel: str
    author: str
    body: str


@tv.table("channels")
class Channel(tv.Document):
    name: str


events = tv.table("events", indexes={"by_kind": ["kind"]})


@tv.query
def recent(ctx: tv.QueryCtx, channel: str, limit: int = 50) -> tv.Rows[Message]:
    query = ctx.db.query(Message).with_index("by_channel", channel=channel).order("desc")
    assert_type(query.take(limit), tv.Rows[Message])
    assert_type(query.collect(), tv.Rows[Message])
    assert_type(query.first(), Message | None)
    assert_type(query.unique(), Message | None)
    assert_type(query.count(), int)
    assert_type(query.paginate(None, 10), tv.Page[Message])
    assert_type([message.author for message in query], list[str])
    assert_type(query.filter(lambda message: message.body != "").first(), Message | None)
    assert_type(ctx.db.query(Message).with_index("by_channel").gte("channel", "a").lt("channel", "b").count(), int)
    return query.take(limit)


@tv.query
def rows_are_a_list(ctx: tv.QueryCtx, channel: str) -> list[Message]:
    return ctx.db.query(Message).with_index("by_channel", channel=channel).collect()


@tv.query
def rows_are_a_sequence(ctx: tv.QueryCtx) -> Sequence[Message]:
    return ctx.db.query(Message).take(10)


@tv.query
def rows_of_mappings_are_a_list(ctx: tv.QueryCtx) -> list[Mapping[str, Any]]:
    return ctx.db.query("events").collect()


@tv.query
def rows_of_another_class(ctx: tv.QueryCtx) -> list[Channel]:
    return ctx.db.query(Message).collect()  # type: ignore[return-value]


@tv.query
def queries_only_read(ctx: tv.QueryCtx, message: tv.Id[Message]) -> Message | None:
    ctx.db.insert(Channel(name="general"))  # type: ignore[attr-defined]
    ctx.db.delete(message)  # type: ignore[attr-defined]
    ctx.db.query(Message).order("upwards")  # type: ignore[arg-type]
    assert_type(ctx.now, int)
    assert_type(ctx.random.random(), float)
    ctx.log("one", 2)
    return ctx.db.get(message)


@tv.mutation
def send(ctx: tv.MutationCtx, channel: str, author: str, body: str) -> tv.Id[Message]:
    message = ctx.db.insert(Message(channel=channel, author=author, body=body))
    assert_type(message, tv.Id[Message])
    assert_type(ctx.db.get(message), Message | None)
    ctx.db.patch(message, body="Hello", author=tv.UNSET)
    ctx.db.replace(message, Message(channel=channel, author=author, body=body))
    ctx.db.delete(message)
    ctx.db.replace(message, 3)  # type: ignore[call-overload]
    recent(ctx, channel)  # a mutation can do what a query can
    return message


@tv.query
def untyped(ctx: tv.QueryCtx, kind: str) -> list[Any]:
    query = ctx.db.query("events").with_index("by_kind", kind=kind)
    assert_type(query.collect(), tv.Rows[Mapping[str, Any]])
    assert_type(query.first(), Mapping[str, Any] | None)
    return [event["place"] for event in query]


@tv.mutation
def record(ctx: tv.MutationCtx, kind: str) -> None:
    event = ctx.db.insert("events", {"kind": kind})
    assert_type(event, tv.Id[Any])
    ctx.db.replace(event, {"kind": "other"})
    ctx.db.delete(event)


@tv.query
def either(ctx: tv.QueryCtx, target: tv.Id[Message | Channel]) -> str:
    found = ctx.db.get(target)
    assert_type(found, Message | Channel | None)
    return found.name if isinstance(found, Channel) else ""


@tv.internal_query
def count(ctx: tv.QueryCtx) -> int:
    return ctx.db.query(Message).count()


@tv.internal_mutation
def clear(ctx: tv.MutationCtx) -> None:
    for message in ctx.db.query(Message):
        ctx.db.delete(message.id)


@tv.internal_action
async def tick(ctx: tv.ActionCtx) -> None:
    assert_type(await ctx.run_query(count), int)


@tv.action
async def import_feed(ctx: tv.ActionCtx, url: str) -> int:
    assert_type(await ctx.run_query(recent, channel="general"), tv.Rows[Message])
    assert_type(await ctx.run_query(recent, "general", limit=3), tv.Rows[Message])
    assert_type(await ctx.run_mutation(send, channel="general", author="Ann", body=url), tv.Id[Message])
    assert_type(await ctx.run_query("messages:recent", channel="general"), Any)
    await ctx.run_action(tick)
    await ctx.run_query(recent)  # type: ignore[call-overload]
    await ctx.run_query(recent, channel=3)  # type: ignore[call-overload]
    await ctx.run_query(recent, channel="general", colour="red")  # type: ignore[call-overload]
    ctx.db.query(Message)  # type: ignore[attr-defined]
    return 1


def decorators_keep_the_signature() -> None:
    one: Callable[[tv.QueryCtx, str, int], tv.Rows[Message]] = recent
    two: Callable[[tv.MutationCtx, str, str, str], tv.Id[Message]] = send
    three: Callable[[tv.ActionCtx, str], Awaitable[int]] = import_feed
    four: Callable[[tv.QueryCtx, int], tv.Rows[Message]] = recent  # type: ignore[assignment]
    del one, two, three, four


@tv.query  # type: ignore[type-var]
def a_query_cannot_ask_to_write(ctx: tv.MutationCtx) -> None: ...


@tv.action  # type: ignore[type-var]
def an_action_is_a_coroutine_function(ctx: tv.ActionCtx) -> None: ...


@tv.query  # type: ignore[type-var]
def a_function_needs_its_context() -> None: ...


def tests_are_typed() -> None:
    with tv.testing.Database(identity={"name": "Ann"}) as db:
        assert_type(db.mutation(send, channel="general", author="Ann", body="Hello"), tv.Id[Message])
        assert_type(db.query(recent, channel="general"), tv.Rows[Message])
        assert_type(db.action(import_feed, url="https://example.com"), int)
        db.query(recent, channel=3)  # type: ignore[arg-type]
        db.query(send, channel="general", author="Ann", body="Hello")  # type: ignore[arg-type]
