"""A result that patches build on stays what it was, and its JSON is canonical."""

import pytest

from tinyvex.client.query_value import QueryValue
from tinyvex.wire.json_patch import PatchFailed


def test_a_patched_value_is_another_one() -> None:
    """What it was made from is shown until the new one is."""
    first = QueryValue(b'[{"_id":"a","n":1}]', "h1")
    second = first.patched(b'[{"op":"replace","path":"/0/n","value":2}]', "h2")
    assert (first.json, first.hash) == (b'[{"_id":"a","n":1}]', "h1")
    assert (second.json, second.hash) == (b'[{"_id":"a","n":2}]', "h2")


def test_a_field_that_came_by_patch_is_where_the_server_would_write_it() -> None:
    """Equal results are equal bytes, patched or whole."""
    patched = QueryValue(b'{"a":1,"c":3}').patched(b'[{"op":"add","path":"/b","value":{"z":1,"y":2}}]', "h")
    assert patched.json == b'{"a":1,"b":{"y":2,"z":1},"c":3}'
    assert patched == QueryValue(b'{"a":1,"b":{"y":2,"z":1},"c":3}')


def test_a_patch_that_does_not_fit_leaves_the_value() -> None:
    """Also when its first half did fit."""
    value = QueryValue(b"[1]")
    with pytest.raises(PatchFailed):
        value.patched(b'[{"op":"add","path":"/0","value":0},{"op":"remove","path":"/9"}]', "h")
    assert value.json == b"[1]"


@pytest.mark.parametrize(
    ("other", "expected"), [(b'{"a":1,"b":2}', True), (b'{"b":2,"a":1}', True), (b'{"a":true,"b":2}', False)]
)
def test_it_says_the_same_json_in_any_order_of_keys(other: bytes, expected: bool) -> None:
    """But `true` is not 1."""
    assert QueryValue(b'{"a":1,"b":2}').is_same_json(other) is expected


def test_a_patched_value_is_not_encoded_to_be_compared() -> None:
    """Two hashes are two results; one hash is one."""
    first = QueryValue(b"[1]", "h1")
    patched = first.patched(b'[{"op":"replace","path":"/0","value":2}]', "h2")
    assert patched != first
    assert patched == QueryValue(b"whatever", "h2")
    assert patched._json is None


def test_a_patch_that_is_nested_too_deep_does_not_fit() -> None:
    """The parser's own bound is no crash."""
    depth = 100_000
    with pytest.raises(PatchFailed):
        QueryValue(b"[1]").patched(b'[{"op":"add","path":"/0","value":' + b"[" * depth + b"]" * depth + b"}]", "h")
