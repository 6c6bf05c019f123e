"""Query values: patching leaves the original unchanged, and their JSON is canonical."""

import pytest

from tinyvex.client.query_value import QueryValue
from tinyvex.client.shared_values import adopt
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


def test_an_optimistic_value_is_encoded_when_it_is_read() -> None:
    """Comparing it encodes nothing."""
    optimistic = QueryValue.of(adopt([{"n": 1}]))
    assert optimistic == QueryValue(b'[{"n":1}]', "h1")
    assert optimistic != QueryValue(b'[{"n":true}]', "h2")
    assert optimistic._json is None
    assert optimistic.json == b'[{"n":1}]'


@pytest.mark.parametrize("rows", ['[{"n":1},{"n":2}]', '[{"n":{"$bytes":"eA=="}},{"n":2}]'])
def test_the_value_after_a_patch_shares_its_unchanged_rows(rows: str) -> None:
    """With and without wrapped values."""
    first = QueryValue(rows.encode(), "h1")
    before = first.value
    after = first.patched(b'[{"op":"replace","path":"/1/n","value":{"$bytes":"eQ=="}}]', "h2")
    assert after.value[0] is before[0]
    assert after.value[1] == {"n": b"y"}
    assert after.json == rows.replace('"n":2', '"n":{"$bytes":"eQ=="}').encode()
    assert before[1] == {"n": 2}


def test_a_result_that_is_not_a_value_is_compared_as_json() -> None:
    """A server that breaks the protocol does not break the client's state."""
    broken = QueryValue(b'{"$no":1}', "h")
    assert broken != QueryValue.of(adopt({"a": 1}))
