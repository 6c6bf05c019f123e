"""The problems of a refused schema as lines for a terminal. (pure)"""

from __future__ import annotations

from typing import Any

from tinyvex.errors import TinyvexError

__all__ = ["violation_lines"]

SHOWN_PER_FIELD = 2
"""Different problems of one field that are shown: each may quote another value."""


def violation_lines(error: TinyvexError) -> list[str]:
    """
    Return the violations of a SchemaRejected; empty for other errors.

    Documents with the same problem share a line. The first problems of each field are shown, the others are counted.
    """
    kinds: list[dict[str, Any]] = error.data.get("kinds", [])
    by_field: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for kind in kinds:
        by_field.setdefault((kind["table"], kind["problem"].partition(": ")[0]), []).append(kind)
    lines = []
    for (table, path), same in by_field.items():
        lines += [_line(kind) for kind in same[:SHOWN_PER_FIELD]]
        if others := _documents(same[SHOWN_PER_FIELD:]):
            lines.append(f"{table}: {path}: {others} more with other problems")
    unlisted = error.data.get("total", 0) - _documents(kinds)
    return [*lines, f"and {unlisted} more problems"] if unlisted > 0 else lines


def _documents(kinds: list[dict[str, Any]]) -> int:
    return sum(kind["documents"] for kind in kinds)


def _line(kind: dict[str, Any]) -> str:
    more = kind["documents"] - 1
    return f"{kind['table']}: {kind['problem']} (document {kind['id']}{f', and {more} more' if more else ''})"
