"""
Detect coroutines that an action created and never awaited.

A forgotten `await` makes a call vanish: nothing runs, and the action continues as if it had. Python notices when it
discards such a coroutine, and calls a function of `warnings`, which by default prints one line. This module replaces that
function. A coroutine that is discarded while an action runs, in its task or in a task that it started, fails the action
with the line that created the coroutine; if the action failed already, the line is a note of its error. All others are
reported by Python as before.

The garbage collector may discard the coroutine of an earlier action while another action runs. A coroutine that is discarded
during a collection is therefore attributed to no action. Collections run on the threads of functions too, so no Python code
may run in them to record their phases: `Stopped`, which ends a function at its time limit, would be raised in that code, and
the collector drops exceptions.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from tinyvex.functions.schema.location import Location

__all__ = ["call_action"]


class _Problems(list[str]):
    """The problems of an action; a task that it started may continue after its end."""

    ended = False


_forgotten: ContextVar[_Problems | None] = ContextVar("tinyvex_forgotten", default=None)
"""The problems of the action that runs, or that started the task."""

_warn: Callable[[Any], None] | None = None
"""Python's own report; None until this module has replaced it."""

_phases = OrderedDict.fromkeys(("start", "stop"))
"""The phases of a collection; the last one is the current one."""


async def call_action(
    function: Callable[..., Coroutine[Any, Any, Any]], context: object, arguments: dict[str, Any]
) -> Any:
    """
    Call an action and return its result.

    Raises:
        RuntimeError: a coroutine was not awaited; the message has its file and line.
        Exception: the action raised it.
    """
    _install()
    if sys.get_coroutine_origin_tracking_depth() == 0:
        sys.set_coroutine_origin_tracking_depth(1)  # of this thread
    problems = _Problems()
    outer = _forgotten.set(problems)
    try:
        result = await function(context, **arguments)
    except Exception as raised:
        if problems:
            raised.add_note("; ".join(problems))
        raise
    else:
        if inspect.iscoroutine(result):
            problems.append(_problem(result))
            result.close()
        if problems:
            raise RuntimeError("; ".join(problems))
        return result
    finally:
        problems.ended = True
        with contextlib.suppress(ValueError):  # the action is closed from another context, after the end of its loop
            _forgotten.reset(outer)


def _install() -> None:
    global _warn  # noqa: PLW0603 - as the function that it replaces, it belongs to the process
    if _warn is None:
        _warn = getattr(warnings, "_warn_unawaited_coroutine", lambda _: None)
        warnings._warn_unawaited_coroutine = _note  # type: ignore[attr-defined]  # noqa: SLF001
        move_to_end: Any = _phases.move_to_end  # its second argument `last` is the collection's details, which are true
        gc.callbacks.append(move_to_end)


def _note(coroutine: Any) -> None:
    """Attribute a coroutine that Python discards to the running action; called by Python."""
    is_collecting = next(reversed(_phases)) == "start"
    problems = None if is_collecting else _forgotten.get()
    if problems is not None and not problems.ended:
        problems.append(_problem(coroutine))
    elif _warn is not None:
        _warn(coroutine)


def _problem(coroutine: Any) -> str:
    name = coroutine.__name__
    origin = coroutine.cr_origin
    location = f"{Location(origin[0][0], origin[0][1])}: " if origin else ""
    return f"{location}`{name}` was called without `await`, so it did not run; write `await …{name}(…)`"
