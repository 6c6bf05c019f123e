"""A small app for the tests of commands that show history or the caller: notes that change, and their author."""

from typing import Any

import tinyvex as tv


@tv.table("notes", indexes={"by_rank": ["rank"]})
class Note(tv.Document):
    title: str
    rank: tv.Int64 = tv.Int64(0)
    tags: dict[str, int] | None = None


@tv.mutation
def write(ctx: tv.MutationCtx, title: str, rank: int = 0) -> tv.Id[Note]:
    ctx.log("writing", title)
    return ctx.db.insert(Note(title=title, rank=tv.Int64(rank)))


@tv.mutation
def change(ctx: tv.MutationCtx, note: tv.Id[Note], fields: dict[str, Any]) -> None:
    ctx.db.patch(note, **fields)


@tv.mutation
def remove(ctx: tv.MutationCtx, note: tv.Id[Note]) -> None:
    ctx.db.delete(note)


@tv.query
def titles(ctx: tv.QueryCtx) -> list[str]:
    return [note.title for note in ctx.db.query(Note)]


@tv.internal_query
def count(ctx: tv.QueryCtx) -> int:
    return ctx.db.query(Note).count()


@tv.query
def me(ctx: tv.QueryCtx) -> Any:
    ctx.log("who is it?")
    return ctx.auth


@tv.mutation
def sign(ctx: tv.MutationCtx) -> Any:
    return ctx.auth


@tv.mutation
def fail(ctx: tv.MutationCtx) -> None:
    ctx.log("about to fail")
    raise tv.AppError("no")


@tv.action
async def ask(ctx: tv.ActionCtx) -> Any:
    ctx.log("acting")
    return [ctx.auth, await ctx.run_query(me)]
