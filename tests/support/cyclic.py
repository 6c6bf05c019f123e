"""An app whose functions return, fail, and leave cycles behind; it reports what only the garbage collector can free."""

import gc
from collections import Counter

import tinyvex as tv


@tv.table("notes", indexes={"by_author": ["author"]})
class Note(tv.Document):
    author: str
    body: str = ""


@tv.mutation
def write(ctx: tv.MutationCtx, author: str) -> tv.Id[Note]:
    return ctx.db.insert(Note(author=author))


@tv.mutation
def write_and_fail(ctx: tv.MutationCtx, author: str) -> None:
    ctx.db.insert(Note(author=author))
    raise tv.AppError("no")


@tv.mutation
def crash(ctx: tv.MutationCtx, author: str) -> None:
    note = ctx.db.insert(Note(author=author))
    raise ValueError(note)


@tv.query
def written(ctx: tv.QueryCtx, author: str) -> tv.Rows[Note]:
    return ctx.db.query(Note).with_index("by_author", author=author).order("desc").take(10)


@tv.query
def inspected(ctx: tv.QueryCtx, author: str) -> list[str]:
    return [note.body for note in ctx.db.query(Note).with_index("by_author", author=author)]


@tv.query
def page(ctx: tv.QueryCtx, author: str) -> tv.Page[Note]:
    return ctx.db.query(Note).with_index("by_author", author=author).paginate(None, 5)


@tv.query
def me(ctx: tv.QueryCtx, author: str) -> str:
    return f"{author} {ctx.auth} {ctx.now}"


@tv.query
def refused(ctx: tv.QueryCtx, author: str) -> str:
    raise tv.AppError(author)


@tv.query
def crashed(ctx: tv.QueryCtx, author: str) -> str:
    raise ValueError(author)


@tv.action
async def act(ctx: tv.ActionCtx, author: str) -> str:
    await ctx.run_mutation(write, author=author)
    return str(await ctx.run_query(inspected, author=author))


@tv.action
async def act_and_crash(ctx: tv.ActionCtx, author: str) -> str:
    await ctx.run_mutation(crash, author=author)
    return author


@tv.mutation
def write_in_circles(ctx: tv.MutationCtx, author: str) -> None:
    """Leave objects that refer to each other, about 100 KB."""
    ring: list[object] = [author, *[[number, f"{number:900}"] for number in range(100)]]
    ring.append(ring)


@tv.action
async def stop_collecting(ctx: tv.ActionCtx) -> None:
    """From now on, cycles stay."""
    gc.collect()
    gc.disable()


@tv.action
async def alive(ctx: tv.ActionCtx, names: list[str]) -> dict[str, int]:
    """Count the objects of these classes."""
    kinds = Counter(type(found).__name__ for found in gc.get_objects())
    return {name: kinds[name] for name in names}


@tv.action
async def tracked(ctx: tv.ActionCtx) -> int:
    """Count the objects that the collector tracks."""
    gc.collect()
    return len(gc.get_objects()) + gc.get_freeze_count()


@tv.action
async def garbage(ctx: tv.ActionCtx) -> dict[str, int]:
    """Free what only the collector frees, and count it by class."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    kinds = Counter(f"{type(found).__module__}.{type(found).__qualname__}" for found in gc.garbage)
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()
    return dict(kinds)
