"""
The difference between two versions of a result, as JSON Patch (RFC 6902). (pure)

A result consists of literal JSON, which the function built, and of rows that it returned without inspecting them. The two
kinds are compared in different ways:

- *Rows* are compared by chunk. Chunks with the same digest are skipped; the rows of all others are matched by id. An added
  row is spliced from its stored JSON. Only modified rows are decoded, and compared field by field.
- *Literal JSON* is decoded into a tree, in which a hole `{"$rows": digest}` stands for each group of rows. Objects are
  compared by key; arrays by `_id` if all their elements have one, otherwise by equal elements. `$` wrappers are atomic.

The operations are `add`, `remove`, `replace` and `move`.

Comparing stops early in two cases, and the full value is sent instead: as soon as the patch is certain not to be shorter
than the new value, and after `steps_max` fields and elements, when sending the value costs less than looking further.
Literal JSON above DIFF_TEXT_BYTES_MAX is not compared, and longer literal JSON is decoded in steps, because one call of the
decoder holds the interpreter lock.
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

__all__ = ["Difference", "diff", "is_comparable"]

_BYTES_PER_STEP = 64
"""JSON that is encoded only to measure it counts as one step for this many bytes."""

_STEP_BYTES = 1 << 20
"""JSON up to this length is decoded by one call, in a few milliseconds."""

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_ROWS = "$rows"  # no key of a user begins with `$`
_HOLE = re.compile(rb'\{"\$rows":"(\w+)"\}')  # never inside a string, in which a quote follows a backslash

Tree: TypeAlias = Any
"""Decoded JSON with holes for rows."""


class Difference(NamedTuple):
    """
    The outcome of a comparison and its cost.

    Attributes:
        patch: a JSON array of operations; None if it would not be shorter than the full value.
        rows_opened: rows in chunks that differ.
        rows_decoded: rows that were decoded.
    """

    patch: bytes | None
    rows_opened: int
    rows_decoded: int


def is_comparable(body: Body) -> bool:
    """Return whether the literal JSON of a result is short enough to be compared."""
    return body.literal_size <= limits.DIFF_TEXT_BYTES_MAX


def diff(old: Body, new: Body, *, steps_max: int = limits.DIFF_STEPS_MAX) -> Difference:
    """
    Return the operations that turn the old result into the new one.

    Args:
        old: the result that the client holds.
        new: the result that it needs.
        steps_max: fields and elements to compare before abandoning the patch.
    """
    if not (is_comparable(old) and is_comparable(new)):
        return Difference(None, 0, 0)
    comparison = _Comparison(old, new, steps_max)
    try:
        comparison.compare_bodies()
    except (_PatchTooLong, _StepsExhausted):
        return Difference(None, comparison.rows_opened, comparison.rows_decoded)
    patch = b"[%b]" % b",".join(comparison.operations)
    return Difference(
        patch if len(patch) < new.size else None, comparison.rows_opened, comparison.rows_decoded
    )  # fmt: skip


def _decode_in_steps(text: bytes) -> Tree:
    """Decode JSON; if it is long, its elements or fields one after another."""
    if len(text) <= _STEP_BYTES:
        return _decode(text)
    if text.startswith(b"["):
        return [_decode_in_steps(bytes(element)) for element in _decode(text, type=list[msgspec.Raw])]
    if text.startswith(b"{"):
        return {
            key: _decode_in_steps(bytes(field)) for key, field in _decode(text, type=dict[str, msgspec.Raw]).items()
        }
    return _decode(text)


class _PatchTooLong(Exception):
    """The operations are as long as the value already."""


class _StepsExhausted(Exception):
    """The comparison has taken `steps_max` steps."""


class _Comparison:
    """A comparison in progress, with the operations so far."""

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
            raise _StepsExhausted

    # Operations.

    def _add(self, operation: bytes) -> None:
        self.operations.append(operation)
        self._size += len(operation) + 1
        if self._size >= self._new.size:
            raise _PatchTooLong

    def _remove(self, path: str) -> None:
        self._add(b'{"op":"remove","path":%b}' % _encode(path))

    def _put(self, operation: bytes, path: str, value: bytes) -> None:
        self._add(b'{"op":"%b","path":%b,"value":%b}' % (operation, _encode(path), value))

    def _move(self, origin: str, path: str) -> None:
        self._add(b'{"op":"move","from":%b,"path":%b}' % (_encode(origin), _encode(path)))

    # Trees.

    def _tree(self, body: Body) -> Tree:
        """Decode a result, with a hole for each group of rows; equal rows have equal holes."""
        pieces = []
        for piece in body.pieces:
            if isinstance(piece, bytes):
                pieces.append(piece)
                continue
            hole = piece.rows.digest.hex() + ("d" if piece.reverse else "a")
            self._parts[hole] = piece
            pieces.append(b'{"%b":"%b"}' % (_ROWS.encode(), hole.encode()))
        return _decode_in_steps(b"".join(pieces))

    def _text(self, tree: Tree) -> bytes:
        """Encode a subtree of the new result, with its rows."""
        return _HOLE.sub(lambda hole: self._part(hole).json(), _encode(tree))

    def _text_size(self, tree: Tree) -> int:
        """Return the length of that JSON in bytes, without encoding rows."""
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
        """Compare parts of a subtree; replace the whole subtree instead if that is shorter."""
        if not path:  # an operation that replaces the whole result is longer than sending the value
            compare()
            return
        count, size = len(self.operations), self._size
        try:
            compare()
        except _PatchTooLong:  # replacing this subtree may still be short enough, if its siblings are large
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
        pairs = [(index, new_ids[name]) for name, index in old_ids.items() if name in new_ids]
        staying = set(longest_increasing([target for _, target in pairs]))
        self._rearrange(
            [index for name, index in old_ids.items() if name not in new_ids],
            [index for name, index in new_ids.items() if name not in old_ids],
            [pair for number, pair in enumerate(pairs) if number not in staying],
            path,
            lambda index: self._text(new[index]),
        )
        for origin, target in pairs:
            self._compare(old[origin], new[target], f"{path}/{target}")

    def _compare_by_content(self, old: list[Tree], new: list[Tree], path: str) -> None:
        """Compare arrays between anchors, which are equal elements that occur once in each array."""
        # From the last gap to the first: edits in one gap shift no index before it.
        for (start, stop), (new_start, new_stop) in reversed(_gaps(old, new)):
            both = min(stop - start, new_stop - new_start)
            for index in range(stop - 1, start + both - 1, -1):
                self._remove(f"{path}/{index}")
            for offset in range(both):
                self._compare(old[start + offset], new[new_start + offset], f"{path}/{start + offset}")
            for offset in range(both, new_stop - new_start):
                self._put(b"add", f"{path}/{start + offset}", self._text(new[new_start + offset]))

    def _rearrange(
        self, removed: Sequence[int], added: Sequence[int], moved: Sequence[tuple[int, int]], path: str, value: Any
    ) -> None:
        ordered = iter(sorted(added))  # `edits` adds in the order of the new array, but at other indices
        for edit in edits(removed, added, moved):
            if isinstance(edit, Remove):
                self._remove(f"{path}/{edit.position}")
            elif isinstance(edit, Move):
                self._move(f"{path}/{edit.origin}", f"{path}/{edit.position}")
            else:
                self._put(b"add", f"{path}/{edit.position}", value(next(ordered)))

    # Rows.

    def _compare_parts(self, old: RowsPart, new: RowsPart, path: str) -> None:
        if (old.index_id, old.reverse) != (new.index_id, new.reverse):
            # The rows are in another order, so those that both versions contain cannot be matched cheaply.
            self._put(b"replace", path, new.json())
            return
        old_rows, new_rows = _opened(old.rows, new.rows), _opened(new.rows, old.rows)
        self._spend(len(old_rows) + len(new_rows))
        self.rows_opened += len(old_rows) + len(new_rows)
        if old.reverse:
            old_rows, new_rows = _from_the_end(old_rows, len(old)), _from_the_end(new_rows, len(new))
        shared = old_rows.keys() & new_rows.keys()
        removed = [index for name, (index, _) in old_rows.items() if name not in shared]
        added = {index: row for name, (index, row) in new_rows.items() if name not in shared}
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
            index, row = new_rows[name]
            before = old_rows[name][1]
            if before.json != row.json:
                self._compare_rows(before.json, row.json, f"{path}/{index}")

    def _compare_rows(self, old: bytes, new: bytes, path: str) -> None:
        """Compare the fields of a modified row; replace the whole row if that is shorter."""
        self.rows_decoded += 2
        before, after = _decode(old), _decode(new)
        self._unless_shorter(msgspec.Raw(new), path, lambda: self._compare_objects(before, after, path))


Opened: TypeAlias = "dict[bytes, tuple[int, StoredDocument]]"
"""Rows by document key, each with its index."""


def _opened(rows: ChunkedRows, others: ChunkedRows) -> Opened:
    """Return the rows of the chunks that the other version does not contain."""
    shared = {chunk.digest for chunk in others.chunks}
    opened: Opened = {}
    start = 0
    for chunk in rows.chunks:
        if chunk.digest not in shared:
            for index, row in enumerate(chunk.rows, start):
                opened[row.internal] = (index, row)
        start += len(chunk.rows)
    return opened


def _from_the_end(rows: Opened, count: int) -> Opened:
    return {name: (count - 1 - index, row) for name, (index, row) in rows.items()}


def _moved(pairs: list[tuple[int, int]], removed: list[int], added: list[int]) -> list[tuple[int, int]]:
    """
    Return the rows that must move.

    `pairs` are the old and new indices of the rows whose index key has changed; some of them may stay in place. Rows with
    the same key stay in their relative order.
    """
    leaving = sorted([*removed, *[old for old, _ in pairs]])
    coming = sorted([*added, *[new for _, new in pairs]])
    pairs = sorted(pairs)
    # Between the same rows as before.
    in_place = [(old, new) for old, new in pairs if old - bisect_left(leaving, old) == new - bisect_left(coming, new)]
    staying = {in_place[number] for number in longest_increasing([new for _, new in in_place])}
    return [pair for pair in pairs if pair not in staying]


# Trees.


def _same(old: Tree, new: Tree) -> bool:
    """Return whether both are the same JSON; to Python, True equals 1."""
    if old != new:
        return False
    if type(old) is dict or type(old) is list:
        return _encode(old) == _encode(new)
    return type(old) is type(new)


def _is_wrapper(tree: dict[str, Tree]) -> bool:
    return len(tree) == 1 and next(iter(tree)).startswith("$")


def _ids(array: list[Tree]) -> dict[str, int] | None:
    """Return the indices of the elements by `_id`; None unless every element has a unique one."""
    indices: dict[str, int] = {}
    for index, element in enumerate(array):
        name = element.get("_id") if type(element) is dict else None
        if type(name) is not str or name in indices:
            return None
        indices[name] = index
    return indices


def _gaps(old: list[Tree], new: list[Tree]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the ranges of both arrays that differ, between anchors: elements that occur once in each, in the same order."""
    old_texts, new_texts = [_encode(element) for element in old], [_encode(element) for element in new]
    new_indices = _unique(new_texts)
    pairs = [(index, new_indices[text]) for text, index in _unique(old_texts).items() if text in new_indices]
    anchors = [pairs[number] for number in longest_increasing([target for _, target in pairs])]
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


def _unique(texts: list[bytes]) -> dict[bytes, int]:
    """Return the indices of the elements that occur once, by their text, in order."""
    indices: dict[bytes, int] = {}
    for index, text in enumerate(texts):
        indices[text] = -1 if text in indices else index
    return {text: index for text, index in indices.items() if index >= 0}


def _below(path: str, key: str) -> str:
    """Return the JSON Pointer (RFC 6901) of a child."""
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
