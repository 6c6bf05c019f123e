"""Query values: patching leaves the original unchanged, and their JSON is canonical."""

import pytest

from tinyvex.client.query_value import QueryValue
from tinyvex.wire.json_patch import PatchFailed


def test_patching_returns_another_value() -> None:
    """The original is shown until the new one is applied."""
    first = QueryValue(b'[{"_id":"a","n":1}]', "h1")
    second = first.patched(b'[{"op":"replace","path":"/0/n","value":2}]', "h2")
    assert (first.json, first.hash) == (b'[{"_id":"a","n":1}]', "h1")
    assert (second.json, second.hash) == (b'[{"_id":"a","n":2}]', "h2")


def test_a_patched_value_has_the_servers_order_of_fields() -> None:
    """Equal results are equal bytes, whether they arrived as values or as patches."""
    patched = QueryValue(b'{"a":1,"c":3}').patched(b'[{"op":"add","path":"/b","value":{"z":1,"y":2}}]', "h")
    assert patched.json == b'{"a":1,"b":{"y":2,"z":1},"c":3}'
    assert patched == QueryValue(b'{"a":1,"b":{"y":2,"z":1},"c":3}')


def test_a_patch_that_does_not_apply_leaves_the_value_unchanged() -> None:
    """Even if its first half applied."""
    value = QueryValue(b"[1]")
    with pytest.raises(PatchFailed):
        value.patched(b'[{"op":"add","path":"/0","value":0},{"op":"remove","path":"/9"}]', "h")
    assert value.json == b"[1]"


@pytest.mark.parametrize(
    ("other", "expected"), [(b'{"a":1,"b":2}', True), (b'{"b":2,"a":1}', True), (b'{"a":true,"b":2}', False)]
)
def test_the_comparison_ignores_the_order_of_keys(other: bytes, expected: bool) -> None:
    """But `true` differs from 1."""
    assert QueryValue(b'{"a":1,"b":2}').is_same_json(other) is expected


def test_patched_values_are_compared_by_hash() -> None:
    """Without encoding them."""
    first = QueryValue(b"[1]", "h1")
    patched = first.patched(b'[{"op":"replace","path":"/0","value":2}]', "h2")
    assert patched != first
    assert patched == QueryValue(b"whatever", "h2")
    assert patched._json is None


def test_a_patch_that_is_nested_too_deep_does_not_apply() -> None:
    """The parser's recursion limit does not escape as another exception."""
    depth = 100_000
    with pytest.raises(PatchFailed):
        QueryValue(b"[1]").patched(b'[{"op":"add","path":"/0","value":' + b"[" * depth + b"]" * depth + b"}]", "h")
