"""Comparison of results: a patch produces the new result, is shorter than it, and costs in proportion to the change."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import jsonpatch
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex import limits
from tinyvex.functions.result.chunked_rows import ChunkedRows
from tinyvex.functions.result.result_body import Body, RowsPart
from tinyvex.storage.log.revisions import StoredDocument
from tinyvex.sync import diff as diff_module
from tinyvex.sync.diff import Difference, diff

INDEX = 7
COUNT = 1_000
canonical = msgspec.json.Encoder(order="sorted").encode

# Results that a function made itself.


def text(value: object) -> Body:
    return Body([canonical(value)])


def strictly(value: object) -> str:
    """Compare as JSON does: to Python, 1 equals True."""
    return json.dumps(value, sort_keys=True)


def compared(old: Body, new: Body) -> Difference:
    """Return the difference, after checking the properties of every difference."""
    difference = diff(old, new)
    if difference.patch is not None:
        operations = json.loads(difference.patch)
        assert strictly(jsonpatch.apply_patch(json.loads(old.json()), operations)) == strictly(json.loads(new.json()))
        assert {operation["op"] for operation in operations} <= {"add", "remove", "replace", "move"}
        assert len(difference.patch) < len(new.json())
    return difference


def operations(old: Body, new: Body) -> list[dict[str, Any]]:
    difference = compared(old, new)
    assert difference.patch is not None
    decoded: list[dict[str, Any]] = json.loads(difference.patch)
    return decoded


def names(old: Body, new: Body) -> list[str]:
    return [operation["op"] for operation in operations(old, new)]


keys = st.text("ab~/é ", max_size=2)
wrappers = st.sampled_from([{"$integer": "AQAAAAAAAAA="}, {"$integer": "AgAAAAAAAAA="}, {"$bytes": "AA=="}])
scalars = st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, 1.5, -1]) | st.text("a~/é€\0", max_size=3) | wrappers


def containers(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    rows = st.builds(
        lambda ids, fields: [{**field, "_id": name} for name, field in zip(ids, fields, strict=False)],
        st.permutations("pqrstu"),
        st.lists(st.dictionaries(keys, parts, max_size=3), max_size=6),
    )
    return st.lists(parts, max_size=5) | st.dictionaries(keys, parts, max_size=5) | rows


trees = st.recursive(scalars, containers, max_leaves=25)


@st.composite
def edited(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with some nodes changed, removed, added or reordered."""
    if draw(st.integers(0, 9)) == 0:
        return draw(trees)
    if isinstance(tree, list):
        children = [draw(edited(child)) if draw(st.booleans()) else child for child in tree if draw(st.integers(0, 5))]
        if draw(st.integers(0, 3)) == 0:
            children = draw(st.permutations(children))
        for value in draw(st.lists(trees, max_size=2)):
            children.insert(draw(st.integers(0, len(children))), value)
        return children
    if isinstance(tree, dict) and not any(key.startswith("$") for key in tree):
        kept_fields = {
            key: child if key == "_id" or draw(st.booleans()) else draw(edited(child))
            for key, child in tree.items()
            if key == "_id" or draw(st.integers(0, 5))
        }
        return {**kept_fields, **draw(st.dictionaries(keys, trees, max_size=1))}
    return draw(scalars) if draw(st.booleans()) else tree


LONG = "a text that is not looked at, and long enough that a patch is worth it " * 40


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    old = draw(trees)
    return old, draw(edited(old))


@given(pairs(), st.booleans())
def test_a_patch_produces_the_new_tree(pair: tuple[Any, Any], beside: bool) -> None:
    """Objects, arrays, arrays of rows, wrappers, any keys; also if any patch is short enough."""
    old, new = [{"tree": tree, "long": LONG} if beside else tree for tree in pair]
    compared(text(old), text(new))


@given(pairs(), st.integers(0, 300))
def test_no_patch_is_longer_than_replacing_what_changed(pair: tuple[Any, Any], size: int) -> None:
    """A patch is never longer than one that replaces the changed subtree."""
    old, new = [{"tree": tree, "long": LONG[:size]} for tree in pair]
    simple = canonical([{"op": "replace", "path": "/tree", "value": new["tree"]}])
    patch = compared(text(old), text(new)).patch
    if patch is None:
        assert len(simple) >= len(canonical(new))
    else:
        assert len(patch) <= len(simple)


def beside(value: object) -> Body:
    """A result so long that any patch is shorter."""
    return text({"it": value, "long": LONG})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (True, 1, [{"op": "replace", "path": "/it", "value": 1}]),
        ([True, 5], [1, 5], [{"op": "replace", "path": "/it/0", "value": 1}]),
        ([1, 2, 3], None, [{"op": "replace", "path": "/it", "value": None}]),
        (None, [1], [{"op": "replace", "path": "/it", "value": [1]}]),
        ({"$integer": "AQ"}, {"$integer": "Ag"}, [{"op": "replace", "path": "/it", "value": {"$integer": "Ag"}}]),
        ({"$bytes": "AQ"}, {"a": 1}, [{"op": "replace", "path": "/it", "value": {"a": 1}}]),
        ({"": 1, "x": LONG}, {"": 2, "x": LONG}, [{"op": "replace", "path": "/it/", "value": 2}]),
        ({"a/b~": 1, "x": LONG}, {"a/b~": 2, "x": LONG}, [{"op": "replace", "path": "/it/a~1b~0", "value": 2}]),
        ({"a": 1, "x": LONG}, {"x": LONG}, [{"op": "remove", "path": "/it/a"}]),
        ({"x": LONG}, {"a": 1, "x": LONG}, [{"op": "add", "path": "/it/a", "value": 1}]),
        (["a", LONG], [LONG], [{"op": "remove", "path": "/it/0"}]),
        ([LONG], ["a", LONG], [{"op": "add", "path": "/it/0", "value": "a"}]),
        ([{"_id": "a", "x": LONG}, {"_id": "b"}, {"_id": "c"}], [{"_id": "b"}, {"_id": "c"}, {"_id": "a", "x": LONG}],
         [{"op": "move", "from": "/it/0", "path": "/it/2"}]),
        ([{"_id": "a", "x": LONG}, {"_id": "a"}], [{"_id": "a", "x": LONG}, {"_id": "a", "n": 1}],
         [{"op": "add", "path": "/it/1/n", "value": 1}]),
        ([False, True] * 50, [True] * 2 + [False, True] * 50,
         [{"op": "add", "path": "/it/0", "value": True}, {"op": "add", "path": "/it/1", "value": True}]),
        ([7] * 100, [7] * 99, [{"op": "remove", "path": "/it/99"}]),
        (list(range(100)), list(range(1000, 1100)),
         [{"op": "replace", "path": "/it", "value": list(range(1000, 1100))}]),
    ],
)  # fmt: skip
def test_trees(old: object, new: object, expected: list[dict[str, Any]]) -> None:
    """The operations for a change in a tree."""
    assert strictly(operations(beside(old), beside(new))) == strictly(expected)


def test_a_subtree_is_replaced_if_its_operations_are_longer() -> None:
    """The operations for an array may be longer than the result although the array itself is short."""
    old, new = {"it": list(range(100)), "x": "x" * 500}, {"it": list(range(100, 200)), "x": "x" * 500}
    assert operations(text(old), text(new)) == [{"op": "replace", "path": "/it", "value": new["it"]}]


def test_another_root_gives_no_patch() -> None:
    """Replacing the root is longer than sending the value."""
    assert compared(text([1, 2, 3]), text(None)).patch is None
    assert compared(text({"a": LONG}), text([LONG])).patch is None


# Rows that the function did not inspect.


def row(number: int, rank: int | None = None, **fields: object) -> StoredDocument:
    """The document with this number, in an index by `rank` and id."""
    internal = random.Random(number).randbytes(16)
    rank = number if rank is None else rank
    value = {"_creationTime": 1, "_id": internal.hex(), "rank": rank, "text": f"the text of item {number}"}
    return StoredDocument(rank.to_bytes(4, "big") + internal, internal, 1, canonical({**value, **fields}))


Table = dict[int, StoredDocument]


def table(count: int = COUNT) -> Table:
    return {number: row(number) for number in range(10, count + 10)}


def rows(found: Table, *, reverse: bool = False, index: int = INDEX) -> RowsPart:
    ascending = sorted(found.values(), key=lambda document: document.key)
    return RowsPart(ChunkedRows.of(ascending), index, reverse=reverse)


def body(found: Table, **options: Any) -> Body:
    return Body([rows(found, **options)])


def chunk_rows(found: Table) -> int:
    """The rows of the largest chunk."""
    return max(len(chunk.rows) for chunk in rows(found).rows.chunks)


@pytest.mark.parametrize("reverse", [False, True], ids=["ascending", "descending"])
class TestRows:
    def test_an_insert_at_the_head(self, reverse: bool) -> None:
        """One `add`, spliced from the stored JSON; no row is decoded."""
        old = table()
        new = {**old, 5: row(5)}
        difference = compared(body(old, reverse=reverse), body(new, reverse=reverse))
        place = COUNT if reverse else 0
        assert difference.patch == b'[{"op":"add","path":"/%d","value":%b}]' % (place, new[5].json)
        assert difference.rows_decoded == 0

    def test_a_delete(self, reverse: bool) -> None:
        """One `remove`."""
        old = table()
        new = {number: found for number, found in old.items() if number != 500}
        difference = compared(body(old, reverse=reverse), body(new, reverse=reverse))
        assert difference.patch == b'[{"op":"remove","path":"/%d"}]' % (COUNT - 491 if reverse else 490)
        assert difference.rows_decoded == 0

    def test_a_field(self, reverse: bool) -> None:
        """One `replace` of the field; only that row is decoded and only its chunk opened."""
        old = table()
        new = {**old, 500: row(500, text="new")}
        difference = compared(body(old, reverse=reverse), body(new, reverse=reverse))
        place = COUNT - 491 if reverse else 490
        assert difference.patch == b'[{"op":"replace","path":"/%d/text","value":"new"}]' % place
        assert difference.rows_decoded == 2
        assert 0 < difference.rows_opened <= 2 * chunk_rows(old)

    def test_a_row_that_moves(self, reverse: bool) -> None:
        """One `move`, and a `replace` of the field that caused it."""
        old = table()
        new = {**old, 500: row(500, rank=900)}
        assert names(body(old, reverse=reverse), body(new, reverse=reverse)) == ["move", "replace"]

    def test_a_key_that_changes_in_place(self, reverse: bool) -> None:
        """A row that stays between the same neighbours does not move."""
        old = {number: row(number, rank=10 * number) for number in range(100)}
        new = {**old, 50: row(50, rank=505)}
        assert names(body(old, reverse=reverse), body(new, reverse=reverse)) == ["replace"]

    def test_all_keys_change(self, reverse: bool) -> None:
        """Renumbered in the same order, no row moves."""
        old = {number: row(number, text=LONG) for number in range(100)}
        new = {number: row(number, rank=1000 + 3 * number, text=LONG) for number in range(100)}
        assert names(body(old, reverse=reverse), body(new, reverse=reverse)) == ["replace"] * 100

    def test_a_tenth_changes(self, reverse: bool) -> None:
        """One operation for each of 100 rows out of 1000."""
        old = table()
        new = {**old, **{number: row(number, text="new") for number in range(10, 1010, 10)}}
        difference = compared(body(old, reverse=reverse), body(new, reverse=reverse))
        assert difference.patch is not None
        assert len(json.loads(difference.patch)) == 100
        assert len(difference.patch) < 60 * 100
        assert difference.rows_decoded == 200

    def test_every_row_is_another(self, reverse: bool) -> None:
        """No patch, and no row was decoded."""
        old, new = table(), {number: row(number) for number in range(5000, 6000)}
        difference = compared(body(old, reverse=reverse), body(new, reverse=reverse))
        assert difference == Difference(None, 2 * COUNT, 0)

    def test_every_row_is_rewritten(self, reverse: bool) -> None:
        """No patch; comparing stops before all rows are decoded."""
        old = {number: row(number, x=1, y=1, z=1, text="") for number in range(COUNT)}
        new = {number: row(number, x=2, y=2, z=2, text="") for number in range(COUNT)}
        difference = compared(body(old, reverse=reverse), body(new, reverse=reverse))
        assert difference.patch is None
        assert 0 < difference.rows_decoded < 2 * COUNT

    def test_the_same_rows_in_chunks_of_their_own(self, reverse: bool) -> None:
        """Chunks with equal digests are not opened."""
        assert compared(body(table(), reverse=reverse), body(table(), reverse=reverse)) == Difference(b"[]", 0, 0)


def test_a_rewritten_row_is_replaced() -> None:
    """If operations on its fields would be longer than the row; other rows are not replaced."""
    old = {**table(), 500: row(500, **dict.fromkeys("abcdefgh", 1))}
    new = {**table(), 500: row(500, **dict.fromkeys("abcdefgh", 2))}
    found = operations(body(old), body(new))
    assert [(operation["op"], operation["path"]) for operation in found] == [("replace", "/490")]


@pytest.mark.parametrize("other", [{"reverse": True}, {"index": INDEX + 1}], ids=["order", "index"])
def test_rows_read_in_another_order_are_replaced(other: dict[str, Any]) -> None:
    """Rows in different orders cannot be matched; the rest of the result is still compared."""
    old, new = rows(table(20)), rows({**table(20), 5: row(5)}, **other)
    assert compared(Body([old]), Body([new])).patch is None
    long = b',"long":"%b","n":' % (LONG * 9).encode()
    found = operations(Body([b'{"items":', old, long, b"1}"]), Body([b'{"items":', new, long, b"2}"]))
    assert [(operation["op"], operation["path"]) for operation in found] == [("replace", "/items"), ("replace", "/n")]


def test_rows_in_an_object() -> None:
    """The rows are compared as rows and the rest as a tree; neither is replaced."""
    old, new = table(), {**table(), 5: row(5)}
    before = Body([b'{"items":', rows(old), b',"total":1000}'])
    after = Body([b'{"items":', rows(new), b',"total":1001}'])
    difference = compared(before, after)
    assert [operation["path"] for operation in json.loads(difference.patch or b"[]")] == ["/items/0", "/total"]
    assert difference.rows_decoded == 0
    assert difference.rows_opened <= 2 * chunk_rows(new) + 1


def test_rows_are_measured_without_encoding_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks know their length, so rows are measured without being encoded."""
    old, new = table(), {**table(), 5: row(5), 2000: row(2000)}
    before = Body([b'{"page":{"items":', rows(old), b',"total":1000}}'])
    after = Body([b'{"page":{"items":', rows(new), b',"total":1002}}'])
    monkeypatch.setattr(RowsPart, "json", None)
    assert len(json.loads(diff(before, after).patch or b"[]")) == 3


def test_rewritten_rows_next_to_a_long_text_are_one_replace() -> None:
    """If the operations would be longer than all rows together."""
    old = {number: row(number, a=1, b=1, text="") for number in range(100)}
    new = {number: row(number + 500, a=2, b=2, text="") for number in range(100)}
    long = b',"long":"%b"}' % (LONG * 20).encode()
    found = operations(Body([b'{"items":', rows(old), long]), Body([b'{"items":', rows(new), long]))
    assert [(operation["op"], operation["path"]) for operation in found] == [("replace", "/items")]


def test_rows_to_null() -> None:
    """A value that is no longer made of rows is replaced."""
    long = b',"long":"%b"}' % LONG.encode()
    found = operations(Body([b'{"items":', rows(table()), long]), Body([b'{"items":null' + long]))
    assert found == [{"op": "replace", "path": "/items", "value": None}]
    assert compared(body(table()), text(None)).patch is None


def test_strings_that_look_like_a_hole_are_strings() -> None:
    """A string may contain the text that stands for rows while trees are compared."""
    part = rows(table(30))
    fake = '{"$rows":"' + part.rows.digest.hex() + 'a"}'
    old = Body([b'{"a":', part, b',"b":"","long":"%b"}' % LONG.encode()])
    new = Body([b'{"a":', part, b',"b":%b,"long":"%b"}' % (canonical(fake), LONG.encode())])
    assert operations(old, new) == [{"op": "replace", "path": "/b", "value": fake}]


def test_the_worst_order_is_compared_in_linear_steps() -> None:
    """Ten thousand rows in reverse order: each is opened once on either side and decoded at most once."""
    count = 10_000
    old = {number: row(number, rank=number) for number in range(count)}
    new = {number: row(number, rank=count - number) for number in range(count)}
    difference = diff(body(old), body(new))
    assert difference.rows_opened == 2 * count
    assert difference.rows_decoded <= 2 * count


# Any rows.

changes = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "rank", "field"]), st.integers(0, 60), st.integers(0, 60)),
    max_size=25,
)


def changed(found: Table, steps: list[tuple[str, int, int]]) -> Table:
    result = copy.copy(found)
    for kind, number, rank in steps:
        if kind == "delete":
            result.pop(number, None)
        elif kind == "put" or number in result:
            result[number] = row(
                number, rank=rank if kind != "field" else None, extra=rank, **{"~/é": [True, 1][rank % 2]}
            )
    return result


def cut_often(found: Table) -> Table:
    """Ids chosen so that one in four ends a chunk."""
    made = {}
    for number, document in found.items():
        internal = document.internal[:-1] + bytes([document.internal[-1] & 3])
        made[number] = msgspec.structs.replace(document, internal=internal, key=document.key[:4] + internal)
    return made


@given(st.sets(st.integers(0, 60)), changes, st.booleans(), st.none() | st.integers(0, 30), st.booleans())
def test_a_patch_produces_the_new_rows(
    numbers: set[int], steps: list[tuple[str, int, int]], reverse: bool, limit: int | None, often: bool
) -> None:
    """
    After any inserts, deletes, moves and changes; in both orders; with a limit; alone, in an object, or two groups of
    rows.
    """
    found = {number: row(number) for number in numbers}
    parts = []
    for plain in (found, changed(found, steps)):
        version = cut_often(plain) if often else plain
        ascending = sorted(version.values(), key=lambda document: document.key)
        taken = ascending if limit is None else ascending[::-1][:limit][::-1] if reverse else ascending[:limit]
        parts.append((RowsPart(ChunkedRows.of(taken), INDEX, reverse=reverse), rows(version)))
    (old, old_all), (new, new_all) = parts
    compared(Body([old]), Body([new]))
    compared(Body([b'{"a":', old, b',"n":1}']), Body([b'{"a":', new, b',"n":2}']))
    long = b',"%b"]' % LONG.encode()
    compared(Body([b"[", old, b",", old_all, long]), Body([b"[", new, b",", new_all, long]))
    compared(Body([b"[", old, b",", old_all, long]), Body([b"[", new_all, b",", new, long]))


def test_comparing_stops_after_the_maximum_of_steps() -> None:
    """After many small changes in a large tree, the full value is sent."""
    old = {str(number): [number, number + 1, "text"] for number in range(1_000)}
    new = {str(number): [number, number + 2, "text"] for number in range(1_000)}
    long = "x" * 200_000
    assert diff(text([old, long]), text([new, long])).patch is not None
    assert diff(text([old, long]), text([new, long]), steps_max=1_000).patch is None


@given(trees, st.integers(2, 40))
def test_decoding_in_steps_changes_nothing(value: Any, step: int) -> None:
    """Long literal JSON is decoded element by element, field by field."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(diff_module, "_STEP_BYTES", step)
        assert diff_module._decode_in_steps(canonical(value)) == msgspec.json.decode(canonical(value))


def test_long_literal_json_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full value is sent instead; rows do not count."""
    old = Body((b'{"a":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","b":1}',))
    new = Body((old.json().replace(b'"b":1', b'"b":2'),))
    monkeypatch.setattr(limits, "DIFF_TEXT_BYTES_MAX", old.size)
    assert diff(old, new).patch == b'[{"op":"replace","path":"/b","value":2}]'
    monkeypatch.setattr(limits, "DIFF_TEXT_BYTES_MAX", old.size - 1)
    assert diff(old, new).patch is None
