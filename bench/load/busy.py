"""The app of `fairness`: functions whose run time and result size are their arguments."""

import time

import tinyvex as tv

foreign_seconds: list[float] = []


@tv.table("marks", indexes={"by_name": ["name"]})
class Mark(tv.Document):
    name: str
    number: int = 0


@tv.query
def spin(ctx: tv.QueryCtx, number: int, ms: int) -> int:  # noqa: ARG001 - every function has it
    """Occupy the interpreter for some time."""
    return _spin(number, ms)


@tv.query
def big(ctx: tv.QueryCtx, number: int, size: int) -> str:  # noqa: ARG001 - every function has it
    """Return a long text, made by two calls that hold the interpreter lock."""
    started = time.perf_counter()
    text = "x" * (size - 8)
    middle = time.perf_counter()
    text = f"{number:08d}" + text
    foreign_seconds.extend((middle - started, time.perf_counter() - middle))
    return text


@tv.query
def longest_foreign_call(ctx: tv.QueryCtx) -> float:  # noqa: ARG001 - every function has it
    """Return the longest of those calls since the last query for it, in seconds."""
    longest = max(foreign_seconds, default=0.0)
    foreign_seconds.clear()
    return longest


@tv.mutation
def hold(ctx: tv.MutationCtx, number: int, ms: int) -> int:  # noqa: ARG001 - every function has it
    """Occupy the writer for some time."""
    return _spin(number, ms)


@tv.mutation
def mark(ctx: tv.MutationCtx, name: str) -> int:
    """Change the document that `marked` reads."""
    existing = ctx.db.query(Mark).with_index("by_name", name=name).first()
    if existing is None:
        ctx.db.insert(Mark(name=name))
        return 0
    ctx.db.patch(existing.id, number=existing.number + 1)
    return existing.number + 1


@tv.query
def marked(ctx: tv.QueryCtx, name: str) -> int:
    """Return how often a document was changed."""
    existing = ctx.db.query(Mark).with_index("by_name", name=name).first()
    return -1 if existing is None else existing.number


def _spin(number: int, ms: int) -> int:
    until = time.perf_counter() + ms / 1000
    while time.perf_counter() < until:
        pass
    return number
