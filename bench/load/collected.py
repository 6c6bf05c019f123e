"""The app of `pauses`: notes by author, and the record of the garbage collections that interrupt the server."""

import gc
import time
from collections import deque

import tinyvex as tv

longest: dict[str, float] = {}
"""Seconds since the last `clear`: of the longest collection by the clock, of its processor time, and of all of them."""
_started = [0.0, 0.0]
needed: deque[object] = deque(maxlen=500)


@tv.table("notes", indexes={"by_author": ["author"]})
class Note(tv.Document):
    author: str
    body: str


@tv.mutation
def fill(ctx: tv.MutationCtx, first: int, count: int, rows: int) -> None:
    """Give each of some authors their first notes."""
    for number in range(first, first + count):
        for row in range(rows):
            ctx.db.insert(Note(author=f"author {number}", body=f"note {row} " + "x" * 80))


@tv.mutation
def write(ctx: tv.MutationCtx, author: str, body: str) -> tv.Id[Note]:
    """Add a note."""
    return ctx.db.insert(Note(author=author, body=body))


@tv.mutation
def write_cycles(ctx: tv.MutationCtx, author: str, body: str) -> tv.Id[Note]:
    """Add a note, and leave objects in cycles for as long as the next 500 calls: for 5 s with 100 a second."""
    parent: dict[str, list[object]] = {"children": []}
    parent["children"] += [[parent] for _ in range(100)]
    needed.append(parent)
    return write(ctx, author=author, body=body)


@tv.query
def written(ctx: tv.QueryCtx, author: str) -> tv.Rows[Note]:
    """The newest notes of one author."""
    return ctx.db.query(Note).with_index("by_author", author=author).order("desc").take(10)


@tv.query
def count(ctx: tv.QueryCtx) -> int:
    """The number of notes."""
    return ctx.db.query(Note).count()


@tv.action
async def clear(ctx: tv.ActionCtx) -> None:  # noqa: ARG001 - every function has it
    """Begin a new record."""
    longest.update(clock=0.0, processor=0.0, total=0.0)


@tv.action
async def collections(ctx: tv.ActionCtx) -> dict[str, float]:  # noqa: ARG001 - every function has it
    """Return the record."""
    return longest


@tv.action
async def tracked(ctx: tv.ActionCtx) -> int:  # noqa: ARG001 - every function has it
    """Count the objects that the collector traverses or has frozen; this interrupts the server itself."""
    return len(gc.get_objects()) + gc.get_freeze_count()


def _record(phase: str, _: object) -> None:
    if phase == "start":
        _started[:] = time.perf_counter(), time.thread_time()
        return
    clock = time.perf_counter() - _started[0]
    longest["clock"] = max(longest.get("clock", 0.0), clock)
    longest["processor"] = max(longest.get("processor", 0.0), time.thread_time() - _started[1])
    longest["total"] = longest.get("total", 0.0) + clock


gc.callbacks.append(_record)
