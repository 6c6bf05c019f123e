"""The store that optimistic updates read and change."""

from __future__ import annotations

from typing import Any

import pytest

from tinyvex.client.decoding import encode_arguments
from tinyvex.client.optimistic import LocalStore, QueryKey
from tinyvex.errors import DecodeError, InvalidValue
from tinyvex.values import codec


def store(base: dict[str, Any], layer: dict[QueryKey, bytes] | None = None) -> LocalStore:
    """Return a store with results of `m:get {name}`."""
    results = {("m:get", encode_arguments({"name": name})): codec.encode(value) for name, value in base.items()}
    return LocalStore(results, {} if layer is None else layer)


def test_get_reads_the_servers_result() -> None:
    """None if there is no result."""
    local = store({"a": [1, 2]})
    assert local.get("m:get", {"name": "a"}, type=list[int]) == [1, 2]
    assert local.get("m:get", {"name": "b"}) is None


def test_a_result_that_was_set_is_read_back() -> None:
    """By the same update and by later ones; the server's result is unchanged."""
    layer: dict[QueryKey, bytes] = {}
    store({"a": 1}, layer).set("m:get", {"name": "a"}, 2)
    assert store({"a": 1}, layer).get("m:get", {"name": "a"}) == 2
    assert store({"a": 1}).get("m:get", {"name": "a"}) == 1


def test_queries_lists_the_results_of_a_path() -> None:
    """Arguments and values, including those that were set."""
    local = store({"a": 1, "b": 2})
    local.set("m:get", {"name": "b"}, 3)
    local.set("m:other", {}, 4)
    assert list(local.queries("m:get")) == [({"name": "a"}, 1), ({"name": "b"}, 3)]


def test_wrong_types_and_values_are_errors() -> None:
    """They are raised in the update."""
    local = store({"a": "text"})
    with pytest.raises(DecodeError):
        local.get("m:get", {"name": "a"}, type=int)
    with pytest.raises(InvalidValue):
        local.set("m:get", {"name": "a"}, object())
