"""JSON Patch applied to the result of a query, by `wire.json_patch` and by the published library `jsonpatch`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jsonpatch

from bench.harness import Bench
from bench.workloads import document
from tinyvex.values import codec
from tinyvex.wire import json_patch


def run(bench: Bench) -> None:
    count = bench.parameter("rows", 100, 1_000)
    random = bench.random()
    rows: Any = [document(random) for _ in range(count)]
    one = [replace(count // 2)]
    hundred = [replace(place) for place in sorted(random.sample(range(count), min(100, count)))]
    for label, patch in (("1 changed", one), ("100 changed", hundred)):
        name = f"{count:,} rows, {label}"
        bench.hash([codec.encode(json_patch.apply(rows, patch))])
        bench.time(name, partial(json_patch.apply, rows, patch))
        # The library patches a copy of the whole document unless it may change the original, which is still shown.
        bench.time(f"{name}, jsonpatch", partial(jsonpatch.apply_patch, rows, patch))


def replace(place: int) -> dict[str, Any]:
    return {"op": "replace", "path": f"/{place}/reply", "value": place}
