"""Tinyvex's side of the work: one insert, and the live query that shows it."""

import tinyvex as tv


@tv.table("messages", indexes={"by_channel": ["channel"], "by_author": ["author"]})
class Message(tv.Document):
    channel: str
    author: str
    body: str


@tv.mutation
def post(ctx: tv.MutationCtx, channel: str, author: str, body: str) -> tv.Id[Message]:
    return ctx.db.insert(Message(channel=channel, author=author, body=body))


@tv.query
def newest(ctx: tv.QueryCtx, channel: str, limit: int) -> tv.Rows[Message]:
    return ctx.db.query(Message).with_index("by_channel", channel=channel).order("desc").take(limit)


@tv.query
def stored(ctx: tv.QueryCtx) -> int:
    return ctx.db.query(Message).count()
