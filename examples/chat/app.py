"""
A chat: channels and their messages.

    tinyvex dev examples/chat/app.py
    python examples/chat/client.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import tinyvex as tv

BODY_LENGTH_MAX = 4000


@tv.table("channels", indexes={"by_name": ["name"]})
class Channel(tv.Document):
    """A channel; `create_channel` makes its name unique."""

    name: str
    topic: str = ""


@tv.table("messages", indexes={"by_channel": ["channel"], "by_author": ["author"]})
class Message(tv.Document):
    """A message in a channel."""

    channel: tv.Id[Channel]
    author: str
    body: str
    edited: bool = False


def channel_named(ctx: tv.QueryCtx, name: str) -> Channel:
    """Return the channel with this name; raise an AppError for the client if there is none."""
    channel = ctx.db.query(Channel).with_index("by_name", name=name).unique()
    if channel is None:
        raise tv.AppError({"kind": "no-channel", "name": name})
    return channel


@tv.query
def channels(ctx: tv.QueryCtx) -> tv.Rows[Channel]:
    """Return all channels, by name."""
    return ctx.db.query(Channel).with_index("by_name").collect()


@tv.query
def recent(ctx: tv.QueryCtx, channel: str, limit: int = 50) -> tv.Rows[Message]:
    """Return the newest messages of a channel, newest first."""
    parent = channel_named(ctx, channel)
    return ctx.db.query(Message).with_index("by_channel", channel=parent.id).order("desc").take(limit)


@tv.query
def history(ctx: tv.QueryCtx, channel: str, cursor: str | None = None, size: int = 50) -> tv.Page[Message]:
    """Return one page of a channel's messages, oldest first."""
    parent = channel_named(ctx, channel)
    return ctx.db.query(Message).with_index("by_channel", channel=parent.id).paginate(cursor, size)


@tv.query
def message_count(ctx: tv.QueryCtx, channel: str) -> int:
    """Return the number of messages in a channel."""
    return ctx.db.query(Message).with_index("by_channel", channel=channel_named(ctx, channel).id).count()


@tv.mutation
def create_channel(ctx: tv.MutationCtx, name: str, topic: str = "") -> tv.Id[Channel]:
    """Create a channel, or return the existing one unchanged."""
    existing = ctx.db.query(Channel).with_index("by_name", name=name).unique()
    if existing is not None:
        return existing.id
    return ctx.db.insert(Channel(name=name, topic=topic))


@tv.mutation
def send(ctx: tv.MutationCtx, channel: str, author: str, body: str) -> tv.Id[Message]:
    """Post a message to a channel."""
    body = body.strip()
    if not body:
        raise tv.AppError({"kind": "empty-message"})
    if len(body) > BODY_LENGTH_MAX:
        raise tv.AppError({"kind": "long-message", "limit": BODY_LENGTH_MAX})
    return ctx.db.insert(Message(channel=channel_named(ctx, channel).id, author=author, body=body))


@tv.mutation
def edit(ctx: tv.MutationCtx, message: tv.Id[Message], author: str, body: str) -> None:
    """Change one of the author's own messages."""
    existing = ctx.db.get(message)
    if existing is None or existing.author != author:
        raise tv.AppError({"kind": "not-yours"})
    ctx.db.patch(message, body=body, edited=True)


@tv.mutation
def delete(ctx: tv.MutationCtx, message: tv.Id[Message], author: str) -> None:
    """Delete one of the author's own messages."""
    existing = ctx.db.get(message)
    if existing is None or existing.author != author:
        raise tv.AppError({"kind": "not-yours"})
    ctx.db.delete(message)


@tv.internal_mutation
def add_lines(ctx: tv.MutationCtx, channel: str, author: str, lines: list[str]) -> int:
    """Post several messages in one transaction."""
    parent = channel_named(ctx, channel)
    for line in lines:
        ctx.db.insert(Message(channel=parent.id, author=author, body=line))
    return len(lines)


@tv.action
async def import_text(ctx: tv.ActionCtx, channel: str, author: str, path: str) -> int:
    """Post every line of a text file on the server's machine."""
    text = await asyncio.to_thread(Path(path).read_text, "utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    ctx.log(f"{len(lines)} lines from {path}")
    await ctx.run_mutation(create_channel, name=channel)
    return await ctx.run_mutation(add_lines, channel=channel, author=author, lines=lines)
