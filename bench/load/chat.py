"""The app under load: channels and their messages."""

import tinyvex as tv


@tv.table("channels")
class Channel(tv.Document):
    name: str
    messages: int = 0


@tv.table("messages", indexes={"by_channel": ["channel"], "by_author": ["author"]})
class Message(tv.Document):
    channel: tv.Id[Channel]
    author: str
    body: str


@tv.mutation
def open_channel(ctx: tv.MutationCtx, name: str) -> tv.Id[Channel]:
    return ctx.db.insert(Channel(name=name))


@tv.mutation
def send(ctx: tv.MutationCtx, channel: tv.Id[Channel], author: str, body: str) -> tv.Id[Message]:
    """The canonical mutation: reads one document, patches it, inserts another."""
    document = ctx.db.get(channel)
    if document is None:
        raise tv.AppError("no such channel")
    ctx.db.patch(channel, messages=document.messages + 1)
    return ctx.db.insert(Message(channel=channel, author=author, body=body))


@tv.mutation
def fill(ctx: tv.MutationCtx, channel: tv.Id[Channel], author: str, bodies: list[str]) -> tv.Id[Message] | None:
    """Insert many messages; return the id of the last."""
    last = None
    for body in bodies:
        last = ctx.db.insert(Message(channel=channel, author=author, body=body))
    return last


@tv.mutation
def edit(ctx: tv.MutationCtx, messages: list[tv.Id[Message]], body: str) -> None:
    """Replace the text of these messages."""
    for message in messages:
        ctx.db.patch(message, body=body)


@tv.mutation
def remove(ctx: tv.MutationCtx, messages: list[tv.Id[Message]]) -> None:
    """Delete these messages."""
    for message in messages:
        ctx.db.delete(message)


@tv.query
def recent(ctx: tv.QueryCtx, channel: tv.Id[Channel], limit: int = 50) -> tv.Rows[Message]:
    """The canonical query: the newest messages of a channel, unobserved."""
    return ctx.db.query(Message).with_index("by_channel", channel=channel).order("desc").take(limit)


@tv.query
def get_channel(ctx: tv.QueryCtx, channel: tv.Id[Channel]) -> Channel | None:
    """A small live result: changes with every message of the channel."""
    return ctx.db.get(channel)


@tv.query
def get_message(ctx: tv.QueryCtx, message: tv.Id[Message]) -> Message | None:
    """A point read."""
    return ctx.db.get(message)


@tv.query
def authored(ctx: tv.QueryCtx, author: str) -> tv.Rows[Message]:
    """The newest messages of one author."""
    return ctx.db.query(Message).with_index("by_author", author=author).order("desc").take(50)


@tv.query
def search(ctx: tv.QueryCtx, channel: tv.Id[Channel], text: str) -> int:
    """A slow query: inspects every message of a channel, in Python."""
    return ctx.db.query(Message).with_index("by_channel", channel=channel).filter(lambda it: text in it.body).count()


@tv.query
def tally(ctx: tv.QueryCtx) -> dict[str, int]:
    """Summarise the work, the same in every run: messages counted and messages stored, by channel."""
    channels = ctx.db.query(Channel).collect()
    return {channel.name: channel.messages for channel in channels} | {"": ctx.db.query(Message).count()}
