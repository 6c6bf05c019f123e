"""An app whose arguments, documents and failures are hard to display."""

from __future__ import annotations

import logging
from typing import Any, TypedDict

import tinyvex as tv

log = logging.getLogger("awkward")


class Line(TypedDict):
    """A line of an order."""

    article: str
    amount: int


class Order(TypedDict):
    """An object that contains other objects."""

    lines: list[Line]
    note: str | None


@tv.table("parts", indexes={"by_weight": ["weight"]})
class Part(tv.Document):
    """A document whose fields are not declared in alphabetical order."""

    weight: int
    name: str
    inside: dict[str, Any] = {}  # noqa: RUF012 - a document copies its defaults
    belongs_to: str | None = None


@tv.mutation
def make(
    ctx: tv.MutationCtx, weight: int, name: str = "", depth: int = 0, belongs_to: str | None = None
) -> tv.Id[Part]:
    """Insert a part, with values nested to the given depth."""
    inside: dict[str, Any] = {}
    for _ in range(depth):
        inside = {"inside": inside}
    return ctx.db.insert(Part(weight=weight, name=name, inside=inside, belongs_to=belongs_to))


@tv.mutation
def weigh(ctx: tv.MutationCtx, part: tv.Id[Part], weight: int) -> None:
    """Change one number."""
    ctx.db.patch(part, weight=weight)


@tv.query
def total(ctx: tv.QueryCtx, order: Order) -> int:
    """Count the articles of an order."""
    return sum(line["amount"] for line in order["lines"])


@tv.query
def breaks(ctx: tv.QueryCtx) -> int:
    """Always raise."""
    raise ZeroDivisionError


@tv.query
def parts(ctx: tv.QueryCtx) -> tv.Rows[Part]:
    """Return all parts."""
    return ctx.db.query(Part).collect()


@tv.mutation
def shout(ctx: tv.MutationCtx, text: str) -> None:
    """Put the text into every place that an app can write to."""
    log.warning(text)
    ctx.log(text)
    raise tv.AppError(text)
