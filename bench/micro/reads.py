"""
Queries through the public API, in process and in memory: a document by its id, and the newest 50 of a channel.

Arguments are decoded and results encoded as on a server; there is no socket, thread or disk.
Rows that the function does not inspect are never decoded; the variant `inspected` measures a function that does.
"""

from __future__ import annotations

import tinyvex as tv
from bench.harness import Bench
from bench.workloads import body


@tv.table("notes", indexes={"by_channel": ["channel"]})
class Note(tv.Document):
    channel: str
    body: str


@tv.mutation
def add(ctx: tv.MutationCtx, channel: str, bodies: list[str]) -> tv.Id[Note] | None:
    last = None
    for text in bodies:
        last = ctx.db.insert(Note(channel=channel, body=text))
    return last


@tv.query
def one(ctx: tv.QueryCtx, note: tv.Id[Note]) -> Note | None:
    return ctx.db.get(note)


@tv.query
def recent(ctx: tv.QueryCtx, channel: str) -> tv.Rows[Note]:
    return ctx.db.query(Note).with_index("by_channel", channel=channel).order("desc").take(50)


@tv.query
def shouted(ctx: tv.QueryCtx, channel: str) -> list[str]:
    return [note.body.upper() for note in recent(ctx, channel)]


def run(bench: Bench) -> None:
    documents = bench.parameter("documents", 200, 20_000)
    random = bench.random()
    with tv.testing.Database() as database:
        channels = [f"channel-{number}" for number in range(20)]
        notes = [
            database.mutation(add, channel, [body(random) for _ in range(documents // 80)])
            for channel in channels
            for _ in range(4)
        ]
        bench.hash(text.encode() for channel in channels for text in database.query(shouted, channel))
        bench.time("one document", lambda: database.query(one, random.choice(notes)))
        bench.time("newest 50", lambda: database.query(recent, random.choice(channels)))
        bench.time("newest 50, inspected", lambda: database.query(shouted, random.choice(channels)))
