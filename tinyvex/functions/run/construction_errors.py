"""
Name the class whose construction failed.

msgspec's errors name an argument, and not the class. To translate them when an object is created would cost each
construction, so the class is looked up afterwards: the traceback has the position of the call in the source.
"""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType, TracebackType
from typing import Any

import msgspec

from tinyvex import limits
from tinyvex.values.suggestions import did_you_mean

__all__ = ["explain_construction"]

_UNKNOWN = re.compile("Unexpected keyword argument '(.*)'")
_MISSING = re.compile("Missing required argument '(.*)'")
_POSITIONAL = "Extra positional arguments provided"


def explain_construction(raised: TypeError) -> str | None:
    """Return what is wrong with the arguments of a class; None if msgspec did not raise the error, or the class is not known."""
    text = str(raised)
    unknown, missing = _UNKNOWN.fullmatch(text), _MISSING.fullmatch(text)
    if not (unknown or missing or text == _POSITIONAL) or (cls := _constructed(raised.__traceback__)) is None:
        return None
    fields = [name for name in cls.__struct_fields__ if not name.startswith("_")]
    if unknown:
        return f"`{cls.__name__}` has no field `{unknown[1]}`{did_you_mean(unknown[1], fields)}"
    if missing:
        return f"`{cls.__name__}` needs the field `{missing[1]}`"
    return f"`{cls.__name__}` takes fewer arguments by position; its fields are {', '.join(f'`{name}`' for name in fields)}"


def _constructed(trace: TracebackType | None) -> type[msgspec.Struct] | None:
    """Return the class that the last frame of a traceback called."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    frame = trace.tb_frame
    position = list(frame.f_code.co_positions())[trace.tb_lasti // 2]
    calls = _calls("".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals)))
    called = _named(calls.get(position, ""), frame.f_locals, frame.f_globals)
    return called if isinstance(called, type) and issubclass(called, msgspec.Struct) else None


@lru_cache(limits.CONSTRUCTION_SOURCES_MAX)
def _calls(source: str) -> Mapping[tuple[int | None, ...], str]:
    """
    Return the dotted name that each call in a source file calls, by its position.

    It is cached, because a client's arguments may cause the error again and again; by the text, because files change.
    """
    try:
        nodes = ast.walk(ast.parse(source))
    except (SyntaxError, ValueError):  # the file was changed since
        return {}
    return {
        (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset): name
        for node in nodes
        if isinstance(node, ast.Call) and (name := _dotted(node.func))
    }


def _dotted(node: ast.expr) -> str:
    """Return a name with the modules before it; empty for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    owner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{owner}.{node.attr}" if owner and isinstance(node, ast.Attribute) else ""


def _named(dotted: str, local: dict[str, Any], globals_: dict[str, Any]) -> object:
    """Return the object that a name stands for, also inside modules; None if there is none."""
    first, *others = dotted.split(".")
    found = local.get(first, globals_.get(first))
    for name in others:
        found = vars(found).get(name) if isinstance(found, ModuleType) else None
    return found
