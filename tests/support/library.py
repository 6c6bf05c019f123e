"""An app for tests of the dashboard: several tables, every kind of function, arguments of many types."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import tinyvex as tv

log = logging.getLogger("library")


@tv.table("books", indexes={"by_title": ["title"]})
class Book(tv.Document):
    """A book of the library."""

    title: str
    kind: Literal["novel", "essay"] = "novel"
    pages: int = 0
    tags: list[str] = []  # noqa: RUF012 - a document copies its defaults


@tv.table("readers")
class Reader(tv.Document):
    """A reader of the library."""

    name: str
    card: tv.Int64


@tv.query
def titles(ctx: tv.QueryCtx, kind: Literal["novel", "essay"] | None = None) -> list[str]:
    """Return the titles, sorted."""
    books = ctx.db.query(Book).with_index("by_title").collect()
    return [book.title for book in books if kind in (None, book.kind)]


@tv.mutation
def add(
    ctx: tv.MutationCtx,
    title: str,
    kind: Literal["novel", "essay"] = "novel",
    pages: int = 100,
    tags: Sequence[str] = (),
) -> tv.Id[Book]:
    """Add a book; one without a title is refused."""
    if not title:
        raise tv.AppError({"reason": "no title"})
    ctx.log(f"{len(title)} letters")
    log.info("a book came")
    return ctx.db.insert(Book(title=title, kind=kind, pages=pages, tags=list(tags)))


@tv.mutation
def turn(ctx: tv.MutationCtx, title: str) -> int:
    """Add a page."""
    book = ctx.db.query(Book).with_index("by_title", title=title).unique()
    assert book is not None
    ctx.db.patch(book.id, pages=book.pages + 1)
    return book.pages + 1


@tv.mutation
def remove(ctx: tv.MutationCtx, title: str) -> None:
    """Delete a book."""
    book = ctx.db.query(Book).with_index("by_title", title=title).unique()
    assert book is not None
    ctx.db.delete(book.id)


@tv.mutation
def register(ctx: tv.MutationCtx, name: str, card: tv.Int64) -> tv.Id[Reader]:
    """Add a reader."""
    return ctx.db.insert(Reader(name=name, card=card))


@tv.action
async def greet(ctx: tv.ActionCtx, name: str, loud: bool = False) -> str:
    """Greet without reading the database."""
    return f"Hello, {name.upper() if loud else name}"


@tv.query
def whoami(ctx: tv.QueryCtx) -> str | None:
    """Return the caller's subject."""
    return None if ctx.auth is None else str(ctx.auth["subject"])
