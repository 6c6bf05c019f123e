"""A small app for the tests of commands: books, one function of each kind."""

import tinyvex as tv


@tv.table("books", indexes={"by_title": ["title"]})
class Book(tv.Document):
    title: str
    pages: int = 100


@tv.table("readers")
class Reader(tv.Document):
    name: str


@tv.query
def titles(ctx: tv.QueryCtx) -> list[str]:
    return [book.title for book in ctx.db.query(Book).with_index("by_title")]


@tv.query
def pages(ctx: tv.QueryCtx, title: str, factor: int = 1) -> int:
    book = ctx.db.query(Book).with_index("by_title", title=title).unique()
    if book is None:
        raise tv.AppError("no such book")
    return book.pages * factor


@tv.mutation
def add(ctx: tv.MutationCtx, title: str, pages: int = 100) -> tv.Id[Book]:
    return ctx.db.insert(Book(title=title, pages=pages))


@tv.internal_mutation
def add_many(ctx: tv.MutationCtx, count: int) -> int:
    for number in range(count):
        ctx.db.insert(Book(title=f"Volume {number:04}", pages=number))
    return count


@tv.action
async def add_twice(ctx: tv.ActionCtx, title: str) -> int:
    await ctx.run_mutation(add, title=title)
    await ctx.run_mutation(add, title=f"{title}, again")
    return 2
