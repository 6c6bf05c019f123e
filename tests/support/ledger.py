"""An app in which damage would be visible: each `post` writes two halves and a total, and names itself."""

import tinyvex as tv


@tv.table("entries", indexes={"by_number": ["number"]})
class Entry(tv.Document):
    """A half of a posting."""

    number: int
    half: str


@tv.table("totals")
class Total(tv.Document):
    """The number of postings."""

    count: int


@tv.mutation
def post(ctx: tv.MutationCtx, number: int) -> int:
    """Write both halves and count."""
    total = ctx.db.query(Total).first()
    count = 1 if total is None else total.count + 1
    ctx.db.insert(Entry(number=number, half="debit"))
    if total is None:
        ctx.db.insert(Total(count=count))
    else:
        ctx.db.patch(total.id, count=count)
    ctx.db.insert(Entry(number=number, half="credit"))
    return count


@tv.query
def audit(ctx: tv.QueryCtx) -> dict[str, object]:
    """Return the counted total, and all halves by number, at one version."""
    total = ctx.db.query(Total).first()
    halves = [[entry.number, entry.half] for entry in ctx.db.query(Entry).with_index("by_number")]
    return {"count": 0 if total is None else total.count, "halves": halves}
