"""
One array to another by removing, moving and adding elements, with the indices that each step sees. (pure)

JSON Patch applies its operations one after another, so an index means a place in the array as it is by then.
The steps are made in this order:

1.  Removals, the last element first: none moves the place of another.
2.  Elements that come or move, in the order of their places in the new array.
    Before the place of each are the elements that stay, those already put there, and those that are still to move away.

Elements that are neither removed, added nor moved stay, in the order they have.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["Add", "Edit", "Move", "Remove", "edits", "longest_increasing"]


class Remove(NamedTuple):
    """Remove the element at `place`."""

    place: int


class Move(NamedTuple):
    """Take the element at `origin` out, then put it at `place`."""

    origin: int
    place: int


class Add(NamedTuple):
    """Put the next element that the new array has and the old has not at `place`."""

    place: int


Edit: TypeAlias = Remove | Move | Add


def edits(removed: Sequence[int], added: Sequence[int], moved: Sequence[tuple[int, int]]) -> Iterator[Edit]:
    """
    The steps, in the order in which they are to be taken.

    Args:
        removed: places in the old array.
        added: places in the new array.
        moved: for each element that does not stay: its places in both.
    """
    for index in sorted(removed, reverse=True):
        yield Remove(index)
    leaving = sorted([*removed, *[old for old, _ in moved]])
    # How many of those that stay are before an element that still has to move, and where it was: in order.
    waiting = sorted([(old - bisect_left(leaving, old), old) for old, _ in moved])
    origin_of = {new: old for old, new in moved}
    put: list[int] = []  # for each element put already: how many of those that stay are before it
    for count, index in enumerate(sorted([*added, *origin_of])):
        staying = index - count
        old = origin_of.get(index)
        if old is None:
            yield Add(index + bisect_left(waiting, (staying, -1)))
        else:
            before = old - bisect_left(leaving, old)
            place = bisect_left(waiting, (before, old))
            del waiting[place]
            origin = before + bisect_right(put, before) + place
            target = index + bisect_left(waiting, (staying, -1))
            if origin != target:
                yield Move(origin, target)
        put.append(staying)


def longest_increasing(numbers: Sequence[int]) -> list[int]:
    """The places of a longest strictly increasing subsequence."""
    tails: list[int] = []  # the least last number of an increasing run of each length
    tail_places: list[int] = []
    before: list[int] = []
    for place, number in enumerate(numbers):
        length = bisect_left(tails, number)
        before.append(tail_places[length - 1] if length else -1)
        tails[length : length + 1] = [number]
        tail_places[length : length + 1] = [place]
    found: list[int] = []
    place = tail_places[-1] if tail_places else -1
    while place >= 0:
        found.append(place)
        place = before[place]
    return found[::-1]
