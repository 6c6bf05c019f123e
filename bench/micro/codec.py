"""Encode values to canonical JSON and decode them: a document of 200 bytes, and one of 10 KB."""

from __future__ import annotations

from functools import partial

from bench.harness import Bench
from bench.workloads import document, large_document
from tinyvex.values import codec


def run(bench: Bench) -> None:
    random = bench.random()
    for label, value in (("200 B", document(random)), ("10 KB", large_document(random))):
        data = codec.encode(value)
        bench.hash([data])
        bench.parameters[label] = f"{len(data)} B"
        bench.time(f"encode {label}", partial(codec.encode, value))
        bench.time(f"decode {label}", partial(codec.decode, data))
