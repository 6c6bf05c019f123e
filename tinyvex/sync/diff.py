"""
What changed between two versions of a result, as JSON Patch (RFC 6902). (pure)

Rows that nobody looked at are compared chunk by chunk: equal chunks are passed over, the rows of others are matched by id.
A row that came is spliced from its stored JSON; only rows that were modified are decoded, and compared field by field.
What a function made itself is decoded, with a hole `{"$rows": digest}` where its rows are, and compared as a tree:
objects by key, arrays by `_id` where all their elements have one, else by equal elements.
`$` wrappers are atomic.

The operations are `add`, `remove`, `replace` and `move`.
A patch that would not be smaller than the new value is not made: the search ends as soon as that is sure,
and also when it has looked at so much that to send the value is the better use of the time.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from tinyvex import limits
from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.sync.array_edits import Move, Remove, edits, longest_increasing

if TYPE_CHECKING:
    from tinyvex.functions.result.chunked_rows import ChunkedRows
    from tinyvex.storage.log.revisions import StoredDocument

__all__ = ["Difference", "diff"]

_BYTES_PER_STEP = 64
"""Of JSON that is encoded only to be measured."""

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_ROWS = "$rows"  # users' keys never begin with `$`
_HOLE = re.compile(rb'\{"\$rows":"(\w+)"\}')  # in no string: there a quote has a backslash before it

Tree: TypeAlias = Any
"""Decoded JSON, with holes for rows."""


class Difference(NamedTuple):
    """
    What a comparison found, and what it took.

    Attributes:
        patch: a JSON array of operations; None where the whole value is not longer.
        rows_opened: rows that were looked at.
        rows_decoded: rows that were decoded.
    """

    patch: bytes | None
    rows_opened: int
    rows_decoded: int


def diff(old: Body, new: Body, *, steps_max: int = limits.DIFF_STEPS_MAX) -> Difference:
    """
    The operations that make the new result of the old one.

    Args:
        old: what the client holds.
        new: what it is to hold.
        steps_max: how many fields and elements are looked at, before the search is given up.
    """
    comparison = _Comparison(old, new, steps_max)
    try:
        comparison.compare_bodies()
    except (_TooLong, _TooMuch):
        return Difference(None, comparison.rows_opened, comparison.rows_decoded)
    patch = b"[%b]" % b",".join(comparison.operations)
    return Difference(
        patch if len(patch) < new.size else None, comparison.rows_opened, comparison.rows_decoded
    )  # fmt: skip


class _TooLong(Exception):
    """The operations are as long as the value already."""


class _TooMuch(Exception):
    """The search has taken its time."""


class _Comparison:
    """The operations found so far."""

    def __init__(self, old: Body, new: Body, steps_max: int) -> None:
        self._steps_left = steps_max
        self.operations: list[bytes] = []
        self.rows_opened = 0
        self.rows_decoded = 0
        self._old = old
        self._new = new
        self._size = 0
        self._parts: dict[str, RowsPart] = {}

    def compare_bodies(self) -> None:
        old, new = self._old.pieces, self._new.pieces
        if len(old) == len(new) == 1 and isinstance(old[0], RowsPart) and isinstance(new[0], RowsPart):
            self._compare_parts(old[0], new[0], "")
        else:
            self._compare(self._tree(self._old), self._tree(self._new), "")

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise _TooMuch

    # Operations.

    def _add(self, operation: bytes) -> None:
        self.operations.append(operation)
        self._size += len(operation) + 1
        if self._size >= self._new.size:
            raise _TooLong

    def _remove(self, path: str) -> None:
        self._add(b'{"op":"remove","path":%b}' % _encode(path))

    def _put(self, operation: bytes, path: str, value: bytes) -> None:
        self._add(b'{"op":"%b","path":%b,"value":%b}' % (operation, _encode(path), value))

    def _move(self, origin: str, path: str) -> None:
        self._add(b'{"op":"move","from":%b,"path":%b}' % (_encode(origin), _encode(path)))

    # Trees.

    def _tree(self, body: Body) -> Tree:
        """The result decoded, with holes that are equal where the rows are."""
        pieces = []
        for piece in body.pieces:
            if isinstance(piece, bytes):
                pieces.append(piece)
                continue
            name = piece.rows.digest.hex() + ("d" if piece.reverse else "a")
            self._parts[name] = piece
            pieces.append(b'{"%b":"%b"}' % (_ROWS.encode(), name.encode()))
        return _decode(b"".join(pieces))

    def _text(self, tree: Tree) -> bytes:
        """A part of the new result as JSON."""
        return _HOLE.sub(lambda hole: self._part(hole).json(), _encode(tree))

    def _text_size(self, tree: Tree) -> int:
        """Bytes of its JSON, without a look at the rows."""
        text = _encode(tree)
        self._spend(len(text) // _BYTES_PER_STEP)
        return len(text) + sum([self._part(hole).size - len(hole[0]) for hole in _HOLE.finditer(text)])

    def _part(self, hole: re.Match[bytes]) -> RowsPart:
        return self._parts[hole[1].decode()]

    def _compare(self, old: Tree, new: Tree, path: str) -> None:
        self._spend(1)
        if _same(old, new):
            return
        if type(old) is dict and type(new) is dict:
            if _ROWS in old and _ROWS in new:
                old_part, new_part = self._parts[old[_ROWS]], self._parts[new[_ROWS]]
                self._unless_shorter(new, path, lambda: self._compare_parts(old_part, new_part, path))
                return
            if not (_is_wrapper(old) or _is_wrapper(new)):
                self._unless_shorter(new, path, lambda: self._compare_objects(old, new, path))
                return
        if type(old) is list and type(new) is list and old and new:
            self._unless_shorter(new, path, lambda: self._compare_arrays(old, new, path))
            return
        self._put(b"replace", path, self._text(new))

    def _unless_shorter(self, new: Tree, path: str, compare: Callable[[], None]) -> None:
        """Compare parts; where it is shorter to replace the whole, do that instead."""
        if not path:  # nothing is longer than an operation with the whole result in it
            compare()
            return
        count, size = len(self.operations), self._size
        try:
            compare()
        except _TooLong:  # which the whole need not be: what is beside it may be large
            pass
        else:
            if self._size - size <= len(_encode(path)) + self._text_size(new) + 34:
                return
        del self.operations[count:]
        self._size = size
        self._put(b"replace", path, self._text(new))

    def _compare_objects(self, old: dict[str, Tree], new: dict[str, Tree], path: str) -> None:
        self._spend(len(old) + len(new))
        for key in old:
            if key not in new:
                self._remove(_below(path, key))
        for key, child in new.items():
            if key in old:
                self._compare(old[key], child, _below(path, key))
            else:
                self._put(b"add", _below(path, key), self._text(child))

    def _compare_arrays(self, old: list[Tree], new: list[Tree], path: str) -> None:
        self._spend(len(old) + len(new))
        old_ids, new_ids = _ids(old), _ids(new)
        if old_ids is not None and new_ids is not None:
            self._compare_by_id(old, old_ids, new, new_ids, path)
        else:
            self._compare_by_content(old, new, path)

    def _compare_by_id(
        self, old: list[Tree], old_ids: dict[str, int], new: list[Tree], new_ids: dict[str, int], path: str
    ) -> None:
        pairs = [(place, new_ids[name]) for name, place in old_ids.items() if name in new_ids]
        staying = set(longest_increasing([target for _, target in pairs]))
        self._rearrange(
            [place for name, place in old_ids.items() if name not in new_ids],
            [place for name, place in new_ids.items() if name not in old_ids],
            [pair for at, pair in enumerate(pairs) if at not in staying],
            path,
            lambda index: self._text(new[index]),
        )
        for origin, target in pairs:
            self._compare(old[origin], new[target], f"{path}/{target}")

    def _compare_by_content(self, old: list[Tree], new: list[Tree], path: str) -> None:
        """Equal elements that occur once are anchors; what is between two of them is compared place by place."""
        # From the last gap to the first: what happens in one moves nothing before it.
        for (start, stop), (new_start, new_stop) in reversed(_gaps(old, new)):
            both = min(stop - start, new_stop - new_start)
            for place in range(stop - 1, start + both - 1, -1):
                self._remove(f"{path}/{place}")
            for place in range(both):
                self._compare(old[start + place], new[new_start + place], f"{path}/{start + place}")
            for place in range(both, new_stop - new_start):
                self._put(b"add", f"{path}/{start + place}", self._text(new[new_start + place]))

    def _rearrange(
        self, removed: Sequence[int], added: Sequence[int], moved: Sequence[tuple[int, int]], path: str, value: Any
    ) -> None:
        ordered = iter(sorted(added))  # `edits` adds in the order of the new array, at places that may differ by then
        for edit in edits(removed, added, moved):
            if isinstance(edit, Remove):
                self._remove(f"{path}/{edit.place}")
            elif isinstance(edit, Move):
                self._move(f"{path}/{edit.origin}", f"{path}/{edit.place}")
            else:
                self._put(b"add", f"{path}/{edit.place}", value(next(ordered)))

    # Rows.

    def _compare_parts(self, old: RowsPart, new: RowsPart, path: str) -> None:
        if (old.index_id, old.reverse) != (new.index_id, new.reverse):
            # Read in another order: nothing is known of where the rows that stay are.
            self._put(b"replace", path, new.json())
            return
        old_rows, new_rows = _opened(old.rows, new.rows), _opened(new.rows, old.rows)
        self._spend(len(old_rows) + len(new_rows))
        self.rows_opened += len(old_rows) + len(new_rows)
        if old.reverse:
            old_rows, new_rows = _from_the_end(old_rows, len(old)), _from_the_end(new_rows, len(new))
        shared = old_rows.keys() & new_rows.keys()
        removed = [place for name, (place, _) in old_rows.items() if name not in shared]
        added = {place: row for name, (place, row) in new_rows.items() if name not in shared}
        moved = _moved(
            [
                (old_rows[name][0], new_rows[name][0])
                for name in shared
                if old_rows[name][1].key != new_rows[name][1].key
            ],
            removed,
            list(added),
        )
        self._rearrange(removed, list(added), moved, path, lambda index: added[index].json)
        for name in sorted(shared, key=lambda name: new_rows[name][0]):
            place, row = new_rows[name]
            before = old_rows[name][1]
            if before.json != row.json:
                self._compare_rows(before.json, row.json, f"{path}/{place}")

    def _compare_rows(self, old: bytes, new: bytes, path: str) -> None:
        """One row that was modified: its fields, or the whole where that is shorter."""
        self.rows_decoded += 2
        before, after = _decode(old), _decode(new)
        self._unless_shorter(msgspec.Raw(new), path, lambda: self._compare_objects(before, after, path))


Opened: TypeAlias = "dict[bytes, tuple[int, StoredDocument]]"
"""Rows by id, each with its place."""


def _opened(rows: ChunkedRows, others: ChunkedRows) -> Opened:
    """The rows of the chunks that the other version does not have."""
    known = {chunk.digest for chunk in others.chunks}
    found: Opened = {}
    start = 0
    for chunk in rows.chunks:
        if chunk.digest not in known:
            for place, row in enumerate(chunk.rows, start):
                found[row.internal] = (place, row)
        start += len(chunk.rows)
    return found


def _from_the_end(rows: Opened, count: int) -> Opened:
    return {name: (count - 1 - place, row) for name, (place, row) in rows.items()}


def _moved(pairs: list[tuple[int, int]], removed: list[int], added: list[int]) -> list[tuple[int, int]]:
    """
    Of the rows whose key is another now, those that are in another place among the rows.

    All others have kept their keys, and so their order.
    """
    leaving = sorted([*removed, *[old for old, _ in pairs]])
    coming = sorted([*added, *[new for _, new in pairs]])
    pairs = sorted(pairs)
    same_place = [(old, new) for old, new in pairs if old - bisect_left(leaving, old) == new - bisect_left(coming, new)]
    staying = {same_place[at] for at in longest_increasing([new for _, new in same_place])}
    return [pair for pair in pairs if pair not in staying]


# Trees.


def _same(old: Tree, new: Tree) -> bool:
    """Whether both are the same JSON; to Python True is 1."""
    if old != new:
        return False
    kind = type(old)
    if kind is dict or kind is list:
        return _encode(old) == _encode(new)
    return kind is type(new)


def _is_wrapper(tree: dict[str, Tree]) -> bool:
    return len(tree) == 1 and next(iter(tree)).startswith("$")


def _ids(array: list[Tree]) -> dict[str, int] | None:
    """The places of the elements by their `_id`; None unless all have one, and each another."""
    places: dict[str, int] = {}
    for place, element in enumerate(array):
        name = element.get("_id") if type(element) is dict else None
        if type(name) is not str or name in places:
            return None
        places[name] = place
    return places


def _gaps(old: list[Tree], new: list[Tree]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The ranges of both arrays that differ, between anchors: elements that occur once in each, in the same order."""
    old_texts, new_texts = [_encode(element) for element in old], [_encode(element) for element in new]
    new_places = _once(new_texts)
    pairs = [(place, new_places[text]) for text, place in _once(old_texts).items() if text in new_places]
    anchors = [pairs[at] for at in longest_increasing([target for _, target in pairs])]
    gaps = []
    start = new_start = 0
    for anchor, new_anchor in [*anchors, (len(old), len(new))]:
        stop, new_stop = anchor, new_anchor
        while start < stop and new_start < new_stop and old_texts[start] == new_texts[new_start]:
            start, new_start = start + 1, new_start + 1
        while start < stop and new_start < new_stop and old_texts[stop - 1] == new_texts[new_stop - 1]:
            stop, new_stop = stop - 1, new_stop - 1
        if start < stop or new_start < new_stop:
            gaps.append(((start, stop), (new_start, new_stop)))
        start, new_start = anchor + 1, new_anchor + 1
    return gaps


def _once(texts: list[bytes]) -> dict[bytes, int]:
    """The places of the elements that occur once, by their text, in order."""
    places: dict[bytes, int] = {}
    for place, text in enumerate(texts):
        places[text] = -1 if text in places else place
    return {text: place for text, place in places.items() if place >= 0}


def _below(path: str, key: str) -> str:
    """A JSON pointer one step further (RFC 6901)."""
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
