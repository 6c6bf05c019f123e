"""
A generic app for the oracle: random tables and indexes, queries over any range, mutations of every kind.

`source` writes the app's file. `Board` creates calls of it and, with the model, their expected results.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tests.support.model import Model
from tests.support.users import Who

FIELDS = ("a", "b", "c.d")
CALLERS = ("mine", "sometimes", "members")
"""Queries that look at who calls."""
VALUES: tuple[Any, ...] = (None, False, True, 0, 1, 2, -1.5, "", "x", "xy", "\x00", [], [1], [1, 2])

SOURCE = '''
"""An app over tables without classes."""
from typing import Any
import tinyvex as tv

{tables}

@tv.query
def scan(ctx: tv.QueryCtx, table: str, index: str | None, equal: list[list[Any]], bound: list[Any] | None,
         order: str, limit: int | None) -> Any:
    query = ctx.db.query(table)
    if index is not None:
        query = query.with_index(index)
        for path, value in equal:
            query = query.eq(path, value)
        if bound is not None:
            fields = INDEXES[table][index]
            query = getattr(query, bound[0])(fields[len(equal)], bound[1])
    query = query.order(order)
    return query.collect() if limit is None else query.take(limit)

@tv.query
def count(ctx: tv.QueryCtx, table: str) -> int:
    return ctx.db.query(table).count()

@tv.query
def fetch(ctx: tv.QueryCtx, id: str) -> Any:
    return ctx.db.get(id)

@tv.query
def even(ctx: tv.QueryCtx, table: str) -> int:
    total = sum(1 for _ in ctx.db.query(table))
    if total % 2:
        raise tv.AppError({{"odd": total}})
    return total

@tv.query
def summary(ctx: tv.QueryCtx, table: str, count: int) -> Any:
    rows = ctx.db.query(table).collect()
    seen = [row.get("a") for row in ctx.db.query(table)]
    return {{"rows/of": rows, "newest": ctx.db.query(table).order("desc").take(count), "values": seen or None,
             "first~": ctx.db.query(table).first(), "by": [{{"a": a, "times": seen.count(a)}} for a in seen[:count]]}}

def caller(ctx: tv.QueryCtx | tv.MutationCtx) -> Any:
    return None if ctx.auth is None else [ctx.auth["subject"], ctx.auth["grade"]]

@tv.query
def mine(ctx: tv.QueryCtx) -> Any:
    rows = ctx.db.query("marks").with_index("by_caller").eq("caller", caller(ctx)).order("desc").take(3)
    return {{"caller": caller(ctx), "rows": rows}}

@tv.query
def sometimes(ctx: tv.QueryCtx, table: str) -> Any:
    return None if ctx.db.query(table).count() % 2 else caller(ctx)

@tv.query
def members(ctx: tv.QueryCtx, table: str) -> Any:
    if ctx.auth is None:
        raise tv.AppError({{"odd": "nobody"}})
    return ctx.db.query(table).collect()

@tv.mutation
def change(ctx: tv.MutationCtx, steps: list[dict[str, Any]]) -> list[str]:
    ids = []
    for step in steps:
        table, kind = step["table"], step["kind"]
        rows = ctx.db.query(table).collect()
        if kind == "insert" or not rows:
            ids.append(ctx.db.insert(table, step["document"]))
            continue
        id = rows[step["victim"] % len(rows)]["_id"]
        ids.append(id)
        if kind == "delete":
            ctx.db.delete(id)
        elif kind == "patch":
            ctx.db.patch(id, **step["document"])
        else:
            ctx.db.replace(id, step["document"])
    if steps and steps[-1].get("fail"):
        raise tv.AppError("as asked")
    ctx.db.insert("marks", {{"key": steps[0]["key"] if steps else "", "caller": caller(ctx)}})
    return ids
'''


@dataclass
class Board:
    """The shape of one random app, and random calls of it."""

    source_random: random.Random
    tables: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pick = self.source_random
        for name in ("red", "blue")[: pick.randint(1, 2)]:
            indexes = {f"by_{number}": pick.sample(FIELDS, pick.randint(1, 2)) for number in range(pick.randint(0, 2))}
            self.tables[name] = indexes

    def source(self) -> str:
        """Return the app's source code."""
        declared = {**self.tables, "marks": {"by_key": ["key"], "by_caller": ["caller"]}}
        lines = [f"tv_{name} = tv.table({name!r}, indexes={indexes!r})" for name, indexes in declared.items()]
        lines.append(f"INDEXES = {self.tables!r}")
        return SOURCE.format(tables="\n".join(lines))

    # Calls.

    def query(self, pick: random.Random) -> tuple[str, dict[str, Any]]:
        """Choose a random query: path and arguments."""
        table = pick.choice(sorted(self.tables))
        kind = pick.choice(("scan", "scan", "scan", "scan", "count", "even", "fetch", "summary", *CALLERS))
        if kind == "fetch":
            return "board:fetch", {"id": ""}
        if kind == "summary":
            return "board:summary", {"table": table, "count": pick.randint(1, 5)}
        if kind == "mine":
            return "board:mine", {}
        if kind != "scan":
            return f"board:{kind}", {"table": table}
        index = pick.choice([None, *self.tables[table]])
        fields = self.tables[table].get(index or "", [])
        equal = [[path, pick.choice(VALUES)] for path in fields[: pick.randint(0, len(fields))]]
        bound = None
        if len(equal) < len(fields) and pick.random() < 0.5:
            bound = [pick.choice(("gt", "gte", "lt", "lte")), pick.choice(VALUES)]
        limit = pick.choice((None, None, 1, 3))
        order = pick.choice(("asc", "desc"))
        return "board:scan", {
            "table": table, "index": index, "equal": equal, "bound": bound, "order": order, "limit": limit,
        }  # fmt: skip

    def mutation(self, pick: random.Random, key: str) -> dict[str, Any]:
        """Choose random arguments of `board:change`; `key` marks it in the table `marks`, once if it commits once."""
        steps: list[dict[str, Any]] = [self._step(pick, key) for _ in range(pick.randint(1, 3))]
        steps[-1]["fail"] = pick.random() < 0.1
        return {"steps": steps}

    def document(self, pick: random.Random) -> dict[str, Any]:
        """Choose random fields."""
        document: dict[str, Any] = {}
        for name in ("a", "b"):
            if pick.random() < 0.8:
                document[name] = pick.choice(VALUES)
        if pick.random() < 0.8:
            document["c"] = {"d": pick.choice(VALUES)} if pick.random() < 0.8 else pick.choice(VALUES)
        return document

    def _step(self, pick: random.Random, key: str) -> dict[str, Any]:
        document = self.document(pick)
        kind = pick.choice(("insert", "insert", "patch", "patch", "replace", "delete"))
        return {
            "table": pick.choice(sorted(self.tables)), "kind": kind, "victim": pick.randint(0, 20),
            "document": document, "key": key,
        }  # fmt: skip

    # Expected results.

    def expected(self, model: Model, ts: int, path: str, args: dict[str, Any], who: Who = None) -> Any:
        """Compute the result of a query at `ts` under an identity; an odd `even` is `("odd", total)`."""
        caller = None if who is None else list(who)
        if path == "board:mine":
            return {"caller": caller, "rows": _marks(model, ts, caller)}
        if path == "board:fetch":
            return model.fetch(args["id"], ts)
        if path == "board:scan":
            fields = self.tables[args["table"]].get(args["index"] or "", [])
            return model.scan(ts, fields, args)
        if path == "board:summary":
            return _summary(model, ts, args)
        if path == "board:members":
            return ("odd", "nobody") if who is None else model.scan(ts, [], _all(args["table"]))
        total = len(model.documents(args["table"], ts))
        if path == "board:sometimes":
            return None if total % 2 else caller
        return ("odd", total) if path == "board:even" and total % 2 else total


def _all(table: str) -> dict[str, Any]:
    return {"table": table, "equal": [], "bound": None, "order": "asc", "limit": None}


def _marks(model: Model, ts: int, caller: list[Any] | None) -> list[Any]:
    return model.scan(ts, ["caller"], _all("marks") | {"equal": [["caller", caller]], "order": "desc", "limit": 3})


def _summary(model: Model, ts: int, args: dict[str, Any]) -> dict[str, Any]:
    rows = model.scan(ts, [], _all(args["table"]))
    seen, count = [row.get("a") for row in rows], args["count"]
    return {
        "rows/of": rows, "newest": rows[::-1][:count], "values": seen or None, "first~": rows[0] if rows else None,
        "by": [{"a": a, "times": seen.count(a)} for a in seen[:count]],
    }  # fmt: skip
