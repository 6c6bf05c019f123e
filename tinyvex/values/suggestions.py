"""Suggestions for names that were misspelt. (pure)"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from tinyvex.limits import IDENTIFIER_LENGTH_MAX, SUGGESTION_NAMES_MAX

__all__ = ["did_you_mean", "unknown_attribute"]

_SIMILARITY_MIN = 0.75


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message, ``; did you mean `by_channel`?``, for a name like one of the known; else nothing."""
    # Imported here, because only errors need it.
    from difflib import get_close_matches

    candidates = islice(known, SUGGESTION_NAMES_MAX)
    similar = get_close_matches(name[: 2 * IDENTIFIER_LENGTH_MAX], candidates, n=1, cutoff=_SIMILARITY_MIN)
    return f"; did you mean `{similar[0]}`?" if similar else ""


def unknown_attribute(instance: object, name: str) -> AttributeError:
    """Return the error of an attribute that an object does not have, with a suggestion."""
    cls = type(instance)
    public = (known for known in dir(cls) if not known.startswith("_"))
    return AttributeError(f"`{cls.__name__}` has no attribute `{name}`{did_you_mean(name, public)}")
