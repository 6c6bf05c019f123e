"""What an optimistic update sees and does."""

from __future__ import annotations

from typing import Any

import pytest

from tinyvex.client.decoding import encode_arguments
from tinyvex.client.optimistic import LocalStore, QueryKey
from tinyvex.errors import DecodeError, InvalidValue
from tinyvex.values import codec


def store(base: dict[str, Any], layer: dict[QueryKey, bytes] | None = None) -> LocalStore:
    """A store with results of `m:get {name}`."""
    results = {("m:get", encode_arguments({"name": name})): codec.encode(value) for name, value in base.items()}
    return LocalStore(results, {} if layer is None else layer)


def test_get_reads_the_servers_result() -> None:
    """None where there is none."""
    local = store({"a": [1, 2]})
    assert local.get("m:get", {"name": "a"}, type=list[int]) == [1, 2]
    assert local.get("m:get", {"name": "b"}) is None


def test_what_was_set_is_read_back() -> None:
    """By the same update and by those after it; the server's result stays what it is."""
    layer: dict[QueryKey, bytes] = {}
    store({"a": 1}, layer).set("m:get", {"name": "a"}, 2)
    assert store({"a": 1}, layer).get("m:get", {"name": "a"}) == 2
    assert store({"a": 1}).get("m:get", {"name": "a"}) == 1


def test_queries_lists_what_is_shown_of_a_path() -> None:
    """Arguments and values, with what was set in place."""
    local = store({"a": 1, "b": 2})
    local.set("m:get", {"name": "b"}, 3)
    local.set("m:other", {}, 4)
    assert list(local.queries("m:get")) == [({"name": "a"}, 1), ({"name": "b"}, 3)]


def test_wrong_types_and_values_are_errors() -> None:
    """They are the update's own."""
    local = store({"a": "text"})
    with pytest.raises(DecodeError):
        local.get("m:get", {"name": "a"}, type=int)
    with pytest.raises(InvalidValue):
        local.set("m:get", {"name": "a"}, object())
