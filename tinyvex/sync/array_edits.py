"""
The edits that turn one array into another, each with the indices that apply when it is executed. (pure)

JSON Patch applies its operations one after another, so an index refers to the array as the operations before it left it.
Elements that are neither removed, added nor moved stay in their relative order. The edits come in this order:

1.  Removals, from the last element to the first: none shifts the index of another.
2.  Additions and moves, in the order of their indices in the new array. Before the index of each there are the elements
    that stay, those already put there, and those that are still waiting to be moved away.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["Add", "Edit", "Move", "Remove", "edits", "longest_increasing"]


class Remove(NamedTuple):
    """Remove the element at `position`."""

    position: int


class Move(NamedTuple):
    """Remove the element at `origin`, then insert it at `position`."""

    origin: int
    position: int


class Add(NamedTuple):
    """Insert the next added element, in the order of the new array, at `position`."""

    position: int


Edit: TypeAlias = Remove | Move | Add


def edits(removed: Sequence[int], added: Sequence[int], moved: Sequence[tuple[int, int]]) -> Iterator[Edit]:
    """
    Yield the edits in the order in which they must be executed.

    Args:
        removed: indices in the old array.
        added: indices in the new array.
        moved: the old and the new index of each element that does not stay.
    """
    for old in sorted(removed, reverse=True):
        yield Remove(old)
    leaving = sorted([*removed, *[old for old, _ in moved]])
    # Elements still to be moved: the number of staying elements before each, and its old index; sorted.
    waiting = sorted([(old - bisect_left(leaving, old), old) for old, _ in moved])
    origin_of = {new: old for old, new in moved}
    put: list[int] = []  # the number of staying elements before each element that is in its new place
    for count, new in enumerate(sorted([*added, *origin_of])):
        staying = new - count
        old_index = origin_of.get(new)
        if old_index is None:
            yield Add(new + bisect_left(waiting, (staying, -1)))
        else:
            before = old_index - bisect_left(leaving, old_index)
            waiting_before = bisect_left(waiting, (before, old_index))
            del waiting[waiting_before]
            origin = before + bisect_right(put, before) + waiting_before
            target = new + bisect_left(waiting, (staying, -1))
            if origin != target:
                yield Move(origin, target)
        put.append(staying)


def longest_increasing(numbers: Sequence[int]) -> list[int]:
    """Return the indices of a longest strictly increasing subsequence."""
    tails: list[int] = []  # the least last number of the increasing runs of each length
    tail_indices: list[int] = []
    predecessors: list[int] = []
    for index, number in enumerate(numbers):
        length = bisect_left(tails, number)
        predecessors.append(tail_indices[length - 1] if length else -1)
        tails[length : length + 1] = [number]
        tail_indices[length : length + 1] = [index]
    indices: list[int] = []
    index = tail_indices[-1] if tail_indices else -1
    while index >= 0:
        indices.append(index)
        index = predecessors[index]
    return indices[::-1]
