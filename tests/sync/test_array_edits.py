"""Array edits: each edit applies to the array as the ones before it left it, and none is superfluous."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.sync.array_edits import Add, Edit, Move, Remove, edits, longest_increasing

Steps = list[Edit]


def steps_between(old: str, new: str) -> Steps:
    """The edits that leave as many letters in place as possible."""
    both = [letter for letter in old if letter in new]
    staying = {both[at] for at in longest_increasing([new.index(letter) for letter in both])}
    return list(
        edits(
            [old.index(letter) for letter in old if letter not in new],
            [new.index(letter) for letter in new if letter not in old],
            [(old.index(letter), new.index(letter)) for letter in both if letter not in staying],
        )
    )


def applied(old: str, new: str, steps: Steps) -> str:
    """Execute the edits on the old letters; added letters come in the order of the new ones."""
    array = list(old)
    coming = iter([letter for letter in new if letter not in old])
    for step in steps:
        if isinstance(step, Remove):
            del array[step.position]
        elif isinstance(step, Move):
            assert step.origin < len(array)
            letter = array.pop(step.origin)
            assert step.position <= len(array)
            array.insert(step.position, letter)
        else:
            assert step.position <= len(array)
            array.insert(step.position, next(coming))
    assert next(coming, None) is None, "all that came were added"
    return "".join(array)


letters = st.lists(st.sampled_from("abcdefghijkl"), unique=True).map("".join)


@given(letters, letters)
def test_the_edits_produce_the_new_array(old: str, new: str) -> None:
    """For any removals, additions and moves."""
    assert applied(old, new, steps_between(old, new)) == new


@given(st.data(), letters, letters)
def test_more_may_move_than_must(data: st.DataObject, old: str, new: str) -> None:
    """Elements that could stay may be given as moved, even all of them."""
    both = [letter for letter in old if letter in new]
    staying = {both[at] for at in longest_increasing([new.index(letter) for letter in both])}
    if staying:
        staying = data.draw(st.sets(st.sampled_from(sorted(staying))))
    steps = list(
        edits(
            [old.index(letter) for letter in old if letter not in new],
            [new.index(letter) for letter in new if letter not in old],
            [(old.index(letter), new.index(letter)) for letter in both if letter not in staying],
        )
    )
    assert applied(old, new, steps) == new


@pytest.mark.parametrize("old_count", range(5))
@pytest.mark.parametrize("new_count", range(5))
def test_all_small_arrays(old_count: int, new_count: int) -> None:
    """Every pair of small arrays, with at most one edit for each change."""
    old = "abcde"[:old_count]
    for new in map("".join, itertools.permutations("abcdef", new_count)):
        steps = steps_between(old, new)
        assert applied(old, new, steps) == new
        common = set(old) & set(new)
        longest = max(
            len(some)
            for size in range(len(common) + 1)
            for some in itertools.combinations([letter for letter in old if letter in common], size)
            if list(some) == [letter for letter in new if letter in some]
        )
        counts = Counter(type(step) for step in steps)
        assert counts[Remove] == len(set(old) - set(new))
        assert counts[Add] == len(set(new) - set(old))
        assert counts[Move] <= len(common) - longest


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("abcd", "abcd", []),
        ("abcd", "xabcd", [Add(0)]),
        ("abcd", "abcdx", [Add(4)]),
        ("abcd", "abxcd", [Add(2)]),
        ("abcd", "acd", [Remove(1)]),
        ("abcd", "bcda", [Move(0, 3)]),
        ("abcd", "dabc", [Move(3, 0)]),
        ("abcd", "acbd", [Move(1, 2)]),
        ("abcd", "bd", [Remove(2), Remove(0)]),
        ("abcd", "xaybcd", [Add(0), Add(2)]),
        ("", "xy", [Add(0), Add(1)]),
        ("ab", "", [Remove(1), Remove(0)]),
        ("abcd", "xcy", [Remove(3), Remove(1), Remove(0), Add(0), Add(2)]),
    ],
)
def test_steps(old: str, new: str, expected: Steps) -> None:
    """Each change is one edit: removals from the last to the first, then additions and moves by new index."""
    steps = steps_between(old, new)
    assert len(steps) == len(expected)
    assert applied(old, new, expected) == new
    assert applied(old, new, steps) == new
    if not any(isinstance(step, Move) for step in expected):
        assert steps == expected  # a neighbour may move instead


def test_a_move_in_place_needs_no_edit() -> None:
    """An element that is given as moved and is in its new place already needs no edit."""
    assert list(edits([0], [], [(1, 0)])) == [Remove(0)]
    assert list(edits([], [], [(index, index) for index in range(5)])) == []


@given(st.lists(st.integers(0, 9), max_size=9))
def test_longest_increasing(numbers: list[int]) -> None:
    """The subsequence is increasing, and no longer one exists."""
    subsequence = longest_increasing(numbers)
    assert subsequence == sorted(set(subsequence))
    taken = [numbers[at] for at in subsequence]
    assert all(before < after for before, after in itertools.pairwise(taken))
    longest = max(
        sum(chosen)
        for chosen in itertools.product((0, 1), repeat=len(numbers))
        if all(
            before < after
            for before, after in itertools.pairwise([n for n, one in zip(numbers, chosen, strict=True) if one])
        )
    )
    assert len(subsequence) == longest


def test_a_reversed_array_keeps_one_element_in_place() -> None:
    """In the worst order all elements but one move, in a linear number of edits."""
    count = 20_000
    steps = list(edits([], [], [(index, count - 1 - index) for index in range(1, count)]))
    assert len(steps) == count - 1
