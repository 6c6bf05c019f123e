"""
Elements of a large JSON array, as `tinyvex import` reads them: by our window, and by `ijson`, which was not chosen.

`ijson` yields objects, so that each document is encoded again before it can be sent.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from functools import partial

import ijson

from bench.harness import Bench
from bench.workloads import document
from tinyvex.cli.json_array import read_array


def run(bench: Bench) -> None:
    count = bench.parameter("documents", 100, 50_000)
    random = bench.random()
    documents = [document(random) for _ in range(count)]
    for layout, indent in (("compact", None), ("indented", 1)):
        data = json.dumps(documents, indent=indent).encode()
        readers: dict[str, Callable[[], Iterable[object]]] = {
            "window": partial(_window, data),
            "ijson, C parser": partial(_objects, ijson, data),
            "ijson, Python parser": partial(_objects, ijson.get_backend("python"), data),
        }
        for name, read in readers.items():
            texts = list(read())
            assert len(texts) == count
            bench.hash([json.dumps([json.loads(str(text)) for text in texts]).encode()])
            bench.time(f"{layout}, {name}, per document", partial(_exhaust, read), operations=count)


def _window(data: bytes) -> Iterable[str]:
    return (text for _, text in read_array(io.BytesIO(data), "documents.json"))


def _objects(parser: object, data: bytes) -> Iterable[str]:
    items = parser.items(io.BytesIO(data), "item", use_float=True)  # type: ignore[attr-defined]
    return (json.dumps(item, ensure_ascii=False) for item in items)


def _exhaust(read: Callable[[], Iterable[object]]) -> None:
    for _ in read():
        pass
